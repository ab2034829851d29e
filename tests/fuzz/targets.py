"""Every function that reads bytes of another party, with valid samples of what it reads.

A target may refuse its input with an OmniLyticsError and in no other way. Where it accepts, what it
made must encode to the same bytes, so that a hash of them means one thing. New decoders are added
to `_TARGETS` at the end.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from random import Random
from typing import Any, TypeVar, cast

import httpx
from eth_abi.abi import encode
from eth_abi.grammar import parse
from eth_hash.auto import keccak
from graphs import frozen_cnn, normalised_cnn, random_weights, small_cnn, transformer
from mutation import ARTEFACT, BASE64_CBOR, CBOR, JSON, Format, mutate
from protocol_world import Case, SeededRandomness, World
from sums import sealed_sum

from omnilytics.algebra import field
from omnilytics.api.media import accepts
from omnilytics.chain.abi import Codec, revert_reason
from omnilytics.chain.artefact import load_artefact
from omnilytics.chain.bindings import market, registry
from omnilytics.chain.connection import RawLog
from omnilytics.chain.events import decode_logs
from omnilytics.chain.happenings import Position
from omnilytics.chain.jsonrpc import JsonRpcChain, _Steady
from omnilytics.chain.packing import unpack_round, unpack_task
from omnilytics.chain.writer import terms_hash
from omnilytics.foundation.errors import ChainError, MalformedError, OmniLyticsError
from omnilytics.foundation.units import Address, Hash32, TaskId
from omnilytics.perturbation.artefact import (
    Artefact,
    decode_artefact,
    encode_artefact,
    encode_frozen,
    frozen_hash_of,
)
from omnilytics.perturbation.graph_json import decode_graph, encode_graph
from omnilytics.protocol.certificate import check_certificate, check_manifest
from omnilytics.protocol.package import check_package
from omnilytics.protocol.parameters import TaskParameters
from omnilytics.protocol.settlement import PayoutState, build_transcript, check_transcript
from omnilytics.roles.task_view import chain_terms, read_specification
from omnilytics.sharing.committee import Committee
from omnilytics.transport.authentication import HEADER, authenticate, identify
from omnilytics.transport.client import ServerClient
from omnilytics.transport.consents import ConsentRequest, decode_consent, encode_consent
from omnilytics.transport.hpke import (
    HpkeKey,
    aggregate_binding,
    open_package,
    seal,
    seal_package,
)
from omnilytics.transport.parts import read_content_range
from omnilytics.transport.released import ReleasedShare
from omnilytics.validity.word import Word
from omnilytics.wire import cbor
from omnilytics.wire.envelope import decode_signed, sign_message
from omnilytics.wire.hashing import content_hash
from omnilytics.wire.hpke_configuration import HpkeConfiguration
from omnilytics.wire.messages import Consent, Final, Seed
from omnilytics.wire.package import Opening, SealedPackage
from omnilytics.wire.record import Record
from omnilytics.wire.signatures import SigningKey, recover_address
from omnilytics.wire.task_specification import Admission, TaskSpecification
from omnilytics.wire.transcript import (
    Certificate,
    Manifest,
    OpeningReference,
    ServerWords,
    Transcript,
    TwoWords,
)

LIMIT = 1 << 20
NOW = 1_000
MAX_ERROR_CHARACTERS = 10_000

_Result = TypeVar("_Result")
_Record = TypeVar("_Record", bound=Record)


@dataclass(frozen=True)
class Target:
    """A decoder under test.

    Attributes:
        name: As the command line calls it.
        read: Takes any bytes; raises an OmniLyticsError or returns. Asserts what must hold then.
        samples: Inputs that it accepts.
        form: How to mutate the values inside an input.
    """

    name: str
    read: Callable[[bytes], None]
    samples: tuple[bytes, ...]
    form: Format | None = None

    def accepts(self, data: bytes) -> bool:
        """Tell whether the decoder takes `data`; whatever is not an OmniLyticsError comes out."""
        try:
            self.read(data)
        except OmniLyticsError as error:
            _check_error(error)
            return False
        return True

    def mutated(self, data: bytes, random: Random) -> bytes:
        """Return changed bytes."""
        return mutate(data, self.samples, self.form, random)

    def inputs(self, count: int, seed: int = 0) -> Iterator[bytes]:
        """Yield the samples, then `count` mutations of them."""
        yield from self.samples
        random = Random(seed)
        for _ in range(count):
            yield self.mutated(random.choice(self.samples), random)


def _check_error(error: OmniLyticsError) -> None:
    """Errors go to terminals and to other parties: they must be printable and stay short."""
    assert len(str(error)) < MAX_ERROR_CHARACTERS
    json.dumps(error.as_dict())


@cache
def targets() -> dict[str, Target]:
    """Return all targets by name."""
    return {target.name: target for make in _TARGETS for target in make()}


# --- samples ------------------------------------------------------------------------------------


class _Samples:
    """One sealed round with a lying and a twice-signing server, made once."""

    def __init__(self) -> None:
        self.world = World(Committee(7, 2, 1), seed=5, components=(3, 2), tests=4)
        self.hpke_key = HpkeKey(b"\x01" * 32)
        self.submission = self.world.submit()
        other = self.world.new_key()
        package = self.world.packages(other)[0]
        partial = self.world.certify(other, package, receipts=(1, 2, 3, 4, 5, 6))
        entries = tuple(self.world.held(j, 7, partial, Hash32(b"\x02" * 32)) for j in (1, 2))
        self.certificate = self.submission.certificate
        self.held_certificate = partial.model_copy(update={"held": entries})
        self.case: Case = self.world.seal(self.submission)
        self.sealed = self.case.sealed
        self.payouts = PayoutState({}, Hash32(bytes(32)))
        self.owner = self.case.owners[0]
        self.two_words = self.case.conviction(3)
        self.transcript = build_transcript(self.sealed, self.case.words(), [], {}, self.payouts)[0]
        self.convicting_transcript = build_transcript(
            self.sealed, self.case.words(), [self.two_words], {}, self.payouts
        )[0]
        self.openings = tuple(self.case.opening(self.owner, server) for server in (1, 5))
        self.sealed_packages = tuple(
            seal_package(opening, self.hpke_key.public, self.world.context)
            for opening in self.openings
        )
        self.reference = OpeningReference(
            owner=self.owner, server=5, opening_hash=self.openings[1].hash()
        )
        self.key = SigningKey(b"\x07" * 32)
        self.domain = self.world.context.domain


@cache
def _samples() -> _Samples:
    return _Samples()


def _artefacts() -> Iterator[Artefact]:
    """Yield the kinds of artefacts: images, tokens, statistics, float64."""
    for graph in (small_cnn(), normalised_cnn(), transformer()):
        yield Artefact(graph, random_weights(graph, dtype=graph.dtype.value))


def _default(kind: str) -> Any:
    """Return a value of an ABI type."""
    array = re.fullmatch(r"(.*)\[(\d*)\]", kind)
    if array:
        return [_default(array[1])] * int(array[2] or 2)
    if kind.startswith("("):
        return tuple(_default(part.to_type_str()) for part in parse(kind).components)
    if kind.startswith("bytes"):
        return b"\x05" * int(kind[5:] or 3)
    return {"address": "0x" + "11" * 20, "string": "http://server", "bool": True}.get(kind, 1)


def _specifications() -> tuple[TaskSpecification, ...]:
    """A task with named servers for anybody, one for listed owners, one whose servers are drawn."""
    named = _samples().world.specification
    owners = tuple(Address(bytes([k]) * 20) for k in (1, 2, 3))
    listed = Admission(mode="listed", owners=owners, min_bond_wei=10**16)
    token = Address(b"\x09" * 20)
    drawn: dict[str, object] = {"committee": (), "committee_mode": "drawn", "max_rounds": 60}
    return (
        named,
        named.model_copy(update={"admission": listed, "token": token}),
        named.model_copy(update=drawn),
    )


def _check_terms(specification: TaskSpecification) -> None:
    """The terms of any specification fit the contract's types, and can be consented to."""
    terms = chain_terms(specification)
    assert len(terms_hash(terms, specification.members)) == 32
    assert terms.escrow_wei >= 0
    assert (terms.allow_root == bytes(32)) == (specification.admission.mode == "open")


# --- wire ---------------------------------------------------------------------------------------


def _reader(kind: type[_Record], then: Callable[[_Record], object] | None = None) -> Any:
    def read(data: bytes) -> None:
        record = kind.decode(data, max_bytes=LIMIT)
        assert record.encode() == data
        if then is not None:
            then(record)

    return read


def _record_targets() -> Iterator[Target]:
    samples = _samples()
    records: tuple[tuple[type[Record], tuple[Record, ...]], ...] = (
        (TaskSpecification, _specifications()),
        (SealedPackage, samples.sealed_packages),
        (Opening, samples.openings),
        (Certificate, (samples.certificate, samples.held_certificate)),
        (Manifest, (samples.sealed.manifest,)),
        (Transcript, (samples.transcript, samples.convicting_transcript)),
        (ServerWords, (samples.case.entries[1],)),
        (TwoWords, (samples.two_words,)),
        (OpeningReference, (samples.reference,)),
    )
    for kind, found in records:
        encoded = tuple(record.encode() for record in found)
        yield Target(kind.__name__, _reader(kind), encoded, CBOR)


def _read_cbor(data: bytes) -> None:
    assert cbor.encode(cbor.decode(data, max_bytes=LIMIT)) == data


def _read_signed(data: bytes) -> None:
    signed = decode_signed(data)
    assert signed.encode() == data
    assert len(signed.signer(_samples().domain)) == 20


def _read_word(data: bytes) -> None:
    assert Word.from_bytes(data).to_bytes() == data


def _read_elements(data: bytes) -> None:
    assert field.to_bytes(field.from_bytes(data)) == data


def _read_signature(data: bytes) -> None:
    assert len(recover_address(data[:32].ljust(32, b"\x00"), data[32:])) == 20


def _wire_targets() -> Iterator[Target]:
    samples = _samples()
    context = samples.world.context
    root = Hash32(b"\x03" * 32)
    signed = tuple(
        sign_message(message, samples.key, samples.domain).encode()
        for message in (
            Seed(task=context.task, round=context.round, submissions_root=root, seed=root),
            Final(task=context.task, round=context.round, accepted_root=root),
        )
    )
    values: tuple[Any, ...] = (
        [],
        {},
        [1, -1, 2**64, b"", "", None, True, 0.5, {"a": [1.5]}],
        2**255,
    )
    yield Target("cbor", _read_cbor, (*map(cbor.encode, values), *signed), CBOR)
    yield Target("signed_message", _read_signed, signed, CBOR)
    yield Target("word", _read_word, samples.case.honest_words[1][:1])
    yield Target("field_elements", _read_elements, (bytes(32), b"\x00\xff" * 12))
    digest = b"\x04" * 32
    yield Target("signature", _read_signature, (digest + samples.key.sign_digest(digest),))


# --- protocol: what is done with decoded records -----------------------------------------------


def _protocol_targets() -> Iterator[Target]:
    samples = _samples()
    parameters, context, sealed = samples.world.parameters, samples.world.context, samples.sealed
    rounds = {
        "parameters": parameters,
        "domain": context.domain,
        "task": context.task,
        "round_number": context.round,
    }

    def certificate(record: Certificate) -> None:
        check_certificate(record, **cast(Any, rounds))

    def manifest(record: Manifest) -> None:
        check_manifest(record, known=(), **cast(Any, rounds))

    def package(record: Opening) -> None:
        check_package(record, server=record.header.server, parameters=parameters, context=context)

    def transcript(record: Transcript) -> None:
        check_transcript(record, sealed, {}, samples.payouts)

    def sealed_package(record: SealedPackage) -> None:
        package(open_package(record, samples.hpke_key, context))

    certificates = (samples.certificate.encode(), samples.held_certificate.encode())
    transcripts = (samples.transcript.encode(), samples.convicting_transcript.encode())
    openings = tuple(opening.encode() for opening in samples.openings)
    packages = tuple(entry.encode() for entry in samples.sealed_packages)
    specifications = tuple(entry.encode() for entry in _specifications())
    manifests = (sealed.manifest.encode(),)
    yield Target(
        "task_parameters", _reader(TaskSpecification, TaskParameters.of), specifications, CBOR
    )
    yield Target("task_terms", _reader(TaskSpecification, _check_terms), specifications, CBOR)
    yield Target("check_certificate", _reader(Certificate, certificate), certificates, CBOR)
    yield Target("check_manifest", _reader(Manifest, manifest), manifests, CBOR)
    yield Target("check_package", _reader(Opening, package), openings, CBOR)
    yield Target("check_transcript", _reader(Transcript, transcript), transcripts, CBOR)
    yield Target("open_package", _reader(SealedPackage, sealed_package), packages, CBOR)


# --- perturbation -------------------------------------------------------------------------------


def _read_artefact(data: bytes) -> None:
    frozen_hash_of(data)
    assert encode_artefact(decode_artefact(data)) == data


def _read_graph(data: bytes) -> None:
    assert encode_graph(decode_graph(data)) == data


def _model_targets() -> Iterator[Target]:
    artefacts = tuple(_artefacts())
    graphs = tuple(encode_graph(each.graph) for each in artefacts)
    yield Target("artefact", _read_artefact, tuple(map(encode_artefact, artefacts)), ARTEFACT)
    yield Target("graph", _read_graph, graphs, JSON)
    frozen = _Frozen()
    yield Target("frozen_weights", frozen.read_weights, (frozen.content,))
    yield Target("frozen_artefact", frozen.read_artefact, (frozen.artefact,), ARTEFACT)


class _Frozen:
    """An artefact with frozen weights, and those."""

    def __init__(self) -> None:
        graph = frozen_cnn()
        weights = random_weights(graph)
        self.content = encode_frozen(graph, weights)
        self.artefact = encode_artefact(Artefact(graph, weights, content_hash(self.content)))

    def read_weights(self, data: bytes) -> None:
        """Read frozen weights that the artefact refers to."""
        decoded = decode_artefact(self.artefact, frozen=data)
        assert encode_frozen(decoded.graph, decoded.weights) == data

    def read_artefact(self, data: bytes) -> None:
        """Read an artefact whose frozen weights are at hand."""
        frozen_hash_of(data)
        assert encode_artefact(decode_artefact(data, frozen=self.content)) == data


# --- transport ----------------------------------------------------------------------------------


def _finish(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return cast(_Result, stop.value)
    raise AssertionError("the coroutine waits")


class _Answering(ServerClient):
    """A client whose server answers these bytes."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("http://server", cast(httpx.AsyncClient, None))
        self._answer = answer

    async def _call(self, *_request: object, **_more: object) -> bytes:
        return self._answer


class _Unreachable:
    """An HTTP client that reaches nobody, once it has found an endpoint usable."""

    def stream(self, *_request: object, **_more: object) -> None:
        raise httpx.ConnectError("nobody listens")


def _read_header(data: bytes) -> None:
    samples = _samples()
    header = data.decode("latin-1")  # as servers hand it on
    identify(header, now=NOW, signer=samples.key.address, domain=samples.domain)


def _read_board(data: bytes) -> None:
    context = _samples().world.context
    items = _finish(_Answering(data).board("words", context.task, context.round, ("words",)))
    assert all(isinstance(item.body, bytes) for item in items)


def _read_aggregate(data: bytes) -> None:
    samples = _samples()
    context = samples.world.context
    binding = aggregate_binding(context, Hash32(bytes(32)), 1)
    share = ReleasedShare(data, samples.hpke_key, binding, 5)
    assert field.is_canonical(int(share.elements(0, 5).max()))


def _read_endpoint(data: bytes) -> None:
    client = ServerClient(data.decode("utf-8", "replace"), cast(Any, _Unreachable()))
    asyncio.run(client.blob("artefact", Hash32(bytes(32))))


def _read_consent(data: bytes) -> None:
    signature = decode_consent(data)
    assert encode_consent(signature) == data
    consent = Consent(
        model_owner=Address(bytes(20)), terms_hash=Hash32(bytes(32)), expires=2**63 - 1
    )
    assert len(recover_address(consent.digest(_samples().domain), signature)) == 20


def _read_consent_request(request: ConsentRequest) -> None:
    """What a server does with a question before it asks the chain."""
    _check_terms(read_specification(request.specification))


def _read_public_key(data: bytes) -> None:
    seal(data, b"", b"")


def _read_content_range(data: bytes) -> None:
    header = data.decode("latin-1")  # as servers decode headers
    part = read_content_range(header)
    assert 0 < part.length <= part.total < 10**15
    assert read_content_range(str(part)) == part


def _read_accept(data: bytes) -> None:
    assert accepts(data.decode("latin-1")) in (True, False)


def _read_sealed(data: bytes) -> None:
    _samples().hpke_key.open(data, b"")


def _transport_targets() -> Iterator[Target]:
    samples = _samples()
    context = samples.world.context
    header = authenticate(
        method="GET",
        path="/",
        body=b"",
        task=context.task,
        round_number=context.round,
        time=NOW,
        key=samples.key,
        domain=samples.domain,
        randomness=SeededRandomness(1),
    )[HEADER].encode()
    board = cbor.encode([{"kind": "words", "body": base64.b64decode(header)}] * 2)
    public = samples.hpke_key.public
    sums = sealed_sum(bytes(40), public, context, accepted_root=Hash32(bytes(32)), server=1)
    named = samples.world.specification.model_copy(update={"tests": 128})
    question = ConsentRequest(specification=named.encode(), expires=2_000).encode()
    consent = Consent(model_owner=samples.key.address, terms_hash=Hash32(bytes(32)), expires=2_000)
    answer = encode_consent(samples.key.sign(consent, samples.domain))
    yield Target("consent", _read_consent, (answer,), CBOR)
    yield Target(
        "consent_request", _reader(ConsentRequest, _read_consent_request), (question,), CBOR
    )
    yield Target("authentication", _read_header, (header,), BASE64_CBOR)
    yield Target("board", _read_board, (board,), CBOR)
    yield Target("aggregate", _read_aggregate, (cbor.encode(list(sums)),), CBOR)
    yield Target("endpoint", _read_endpoint, (b"http://server:8000", b"https://[::1]/a"))
    yield Target("hpke_public_key", _read_public_key, (bytes(public),))
    yield Target(
        "content_range", _read_content_range, (b"bytes 0-1048575/61706000", b"bytes 5-5/6")
    )
    yield Target("accept", _read_accept, (b"text/html, application/*;q=0.5, */*;q=0.1",))
    configuration = HpkeConfiguration(server=samples.key.address, public_key=public).encode()
    yield Target("hpke_configuration", _reader(HpkeConfiguration), (configuration,), CBOR)
    yield Target("hpke_sealed", _read_sealed, (seal(public, b"secret", b""),))


# --- chain --------------------------------------------------------------------------------------

_POSITION = Position(
    block_number=1, block_hash=Hash32(bytes(32)), transaction_hash=Hash32(bytes(32)), log_index=0
)


@dataclass(frozen=True)
class _Contract:
    """A contract as its readers see it: where it is, and its ABI."""

    name: str
    address: Address
    codec: Codec

    def entries(self, kind: str) -> tuple[dict[str, Any], ...]:
        return tuple(e for e in load_artefact(self.name).abi if e["type"] == kind)

    @property
    def views(self) -> tuple[str, ...]:
        return tuple(str(e["name"]) for e in self.entries("function") if e["outputs"])


@cache
def _contracts() -> tuple[_Contract, _Contract]:
    return (
        _Contract("Market", Address(b"\x01" * 20), market.codec()),
        _Contract("Registry", Address(b"\x02" * 20), registry.codec()),
    )


def _log_of(contract: _Contract, data: bytes) -> RawLog:
    """The first byte says how many topics follow."""
    count = (data[0] if data else 0) % 6
    return RawLog(
        address=contract.address,
        topics=tuple(data[1 + 32 * k : 33 + 32 * k] for k in range(count)),
        data=data[1 + 32 * count :],
        position=_POSITION,
    )


def _read_log(contract: _Contract) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        codecs = {one.address: one.codec for one in _contracts()}
        (event,) = decode_logs(codecs, [_log_of(contract, data)])
        assert event.position == _POSITION
        for part in fields(event):
            _check_type(getattr(event, part.name))
        # Logs of a contract that is none of ours say nothing.
        assert decode_logs({}, [_log_of(contract, data)]) == ()

    return read


def _check_type(value: Any) -> None:
    """What comes out of the ABI is plain, and what changes no more."""
    if isinstance(value, tuple):
        for part in value:
            _check_type(part)
    elif is_dataclass(value):
        for field_ in fields(value):
            _check_type(getattr(value, field_.name))
    else:
        assert isinstance(value, (int, bytes, str))


def _read_calldata(contract: _Contract) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        for name in contract.codec.names:
            try:
                arguments = contract.codec.arguments(name, data)
            except ChainError as error:
                if "does not call" in error.message:
                    continue
                raise
            _check_type(arguments)
            again = contract.codec.calldata(name, *arguments)
            assert contract.codec.arguments(name, again) == arguments
            return
        raise ChainError("calls something else")

    return read


def _read_result(contract: _Contract) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        """The first byte chooses the view that is said to have returned the rest."""
        names = contract.views
        name = names[(data[0] if data else 0) % len(names)]
        _check_type(contract.codec.result(name, data[1:]))

    return read


def _read_task(data: bytes) -> None:
    """What a node says is a task: its packed words."""
    stored = market.codec().result("task", data)
    committee = tuple(Address(bytes([k]) * 20) for k in range(13))
    task = unpack_task(TaskId(1), stored, committee)
    assert all(0 <= count < 1 << 16 for count in (*task.attested_rounds, *task.profiles))
    unpack_round(TaskId(1), stored)


def _read_server(data: bytes) -> None:
    """What a node says about a server, as a reader takes it."""
    found = registry.codec().result("server", data)
    assert isinstance(found, registry.ServerView)
    assert len(found.hpke_key) == 32


def _read_revert(data: bytes) -> None:
    assert isinstance(revert_reason(data), str)


class _Node(JsonRpcChain):
    """A chain behind a node that answers every request with the same response."""

    def __init__(self, response: object) -> None:
        self._shown_url = "http://node"
        self._provider = cast(Any, self)
        self._steady = _Steady()
        self._response = response

    def make_request(self, *_request: object) -> object:
        return self._response


def _read_node_answer(data: bytes) -> None:
    try:
        response = json.loads(data)
    except (ValueError, RecursionError):  # refused before it gets here
        raise MalformedError("not JSON") from None
    node, address = _Node(response), Address(bytes(20))
    questions: tuple[Callable[[], object], ...] = (
        node.head,
        lambda: node.block_hash(1),
        lambda: node.block_timestamp(1),
        lambda: node.code(address),
        node.fees_wei,
        lambda: node.receipt(Hash32(bytes(32))),
        lambda: node.calldata(Hash32(bytes(32))),
        lambda: node.logs(address, 0, 1),
    )
    answered = 0
    for question in questions:
        try:
            question()
        except ChainError:
            continue
        answered += 1
    if not answered:
        raise ChainError("no answer can be used")


def _node_answers() -> Iterator[bytes]:
    word = "0x" + "ab" * 32
    log = {
        "address": "0x" + "11" * 20,
        "topics": [word, word],
        "data": word,
        "blockNumber": "0x10",
        "blockHash": word,
        "transactionHash": word,
        "logIndex": "0x0",
    }
    everything = {
        "hash": word,
        "timestamp": "0x10",
        "baseFeePerGas": "0x7",
        "contractAddress": None,
        "blockNumber": "0x10",
        "status": "0x1",
        "gasUsed": "0x5208",
        "effectiveGasPrice": "0x7",
        "logs": [log],
        "to": "0x" + "11" * 20,
        "input": word,
    }
    for result in ("0x10", everything, [log, log]):
        yield json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()


def _events(contract: _Contract) -> Iterator[bytes]:
    """Yield one log of every event: the number of topics, the topics, the data."""
    for entry in contract.entries("event"):
        members = [(_kind(member), bool(member["indexed"])) for member in entry["inputs"]]
        signature = f"{entry['name']}({','.join(kind for kind, _ in members)})"
        indexed = [encode([kind], [_default(kind)]) for kind, in_topic in members if in_topic]
        others = [kind for kind, in_topic in members if not in_topic]
        data = encode(others, [_default(kind) for kind in others])
        yield bytes([1 + len(indexed)]) + keccak(signature.encode()) + b"".join(indexed) + data


def _kind(member: Any) -> str:
    kind = str(member["type"])
    if not kind.startswith("tuple"):
        return kind
    inner = ",".join(_kind(part) for part in member["components"])
    return f"({inner}){kind.removeprefix('tuple')}"


def _calls(contract: _Contract) -> Iterator[bytes]:
    """Yield one call of every function."""
    for entry in contract.entries("function"):
        kinds = [_kind(member) for member in entry["inputs"]]
        selector = keccak(f"{entry['name']}({','.join(kinds)})".encode())[:4]
        yield selector + encode(kinds, [_default(kind) for kind in kinds])


def _results(contract: _Contract) -> Iterator[bytes]:
    """Yield what every view may return, after its place among the views."""
    entries = {str(entry["name"]): entry for entry in contract.entries("function")}
    for place, name in enumerate(contract.views):
        kinds = [_kind(member) for member in entries[name]["outputs"]]
        yield bytes([place]) + encode(kinds, [_default(kind) for kind in kinds])


def _chain_targets() -> Iterator[Target]:
    for contract in _contracts():
        name = contract.name.lower()
        results = tuple(_results(contract))
        yield Target(f"{name}_log", _read_log(contract), tuple(_events(contract)))
        yield Target(f"{name}_calldata", _read_calldata(contract), tuple(_calls(contract)))
        yield Target(f"{name}_result", _read_result(contract), results)
        if name == "market":
            task = results[contract.views.index("task")][1:]
            sealed = task[:96] + b"\xff" * 31 + b"\x02" + task[128:]
            yield Target("market_task", _read_task, (task, sealed))
        else:
            server = results[contract.views.index("server")][1:]
            yield Target("registry_server", _read_server, (server,))
    reason = b"\x08\xc3\x79\xa0" + encode(["string"], ["too late"])
    refusal = {"jsonrpc": "2.0", "id": 1, "error": {"code": 3, "data": "0x" + reason.hex()}}
    yield Target("chain_revert", _read_revert, (reason,))
    answers = tuple(_node_answers())
    yield Target("node_answer", _read_node_answer, answers, JSON)
    yield Target("node_refusal", _read_node_refusal, (json.dumps(refusal).encode(),), JSON)


def _read_node_refusal(data: bytes) -> None:
    """Answers that are refusals are ChainErrors: here they count as read."""
    try:
        _read_node_answer(data)
    except ChainError:
        return


_TARGETS: tuple[Callable[[], Iterator[Target]], ...] = (
    _wire_targets,
    _record_targets,
    _protocol_targets,
    _model_targets,
    _transport_targets,
    _chain_targets,
)
