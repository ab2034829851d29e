"""Deterministic CBOR, its strict decoder and the records' shapes, from docs/wire.md alone."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from reference_field import RefusedError
from reference_messages import ROUND_MESSAGES, encoded_member, members_of

MOST_LEVELS = 12
MOST_ITEMS = 2_000_000


def head(major: int, number: int) -> bytes:
    """The shortest head of a major type."""
    if number < 24:
        return bytes([major << 5 | number])
    for code, width in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if number < 256**width:
            return bytes([major << 5 | code]) + number.to_bytes(width, "big")
    raise RefusedError("no head is long enough")


def encode_float(value: float) -> bytes:
    if math.isnan(value):
        return bytes.fromhex("f97e00")
    for code, form in ((0xF9, ">e"), (0xFA, ">f"), (0xFB, ">d")):
        try:
            packed = struct.pack(form, value)
        except OverflowError:
            continue
        if struct.unpack(form, packed)[0] == value:
            return bytes([code]) + packed
    raise RefusedError("not a float")


def encode_integer(value: int) -> bytes:
    if value < 0:
        return head(1, -1 - value)
    if value < 2**64:
        return head(0, value)
    content = value.to_bytes((value.bit_length() + 7) // 8, "big")
    if len(content) > 32:
        raise RefusedError("an integer of more than 32 bytes")
    return head(6, 2) + head(2, len(content)) + content


def encode(value: Any) -> bytes:  # noqa: PLR0911 - one line per type
    """Deterministic CBOR of None, bool, int, float, bytes, str, list and dict."""
    if value is None:
        return b"\xf6"
    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return encode_integer(value)
    if isinstance(value, float):
        return encode_float(value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(encode(item) for item in value)
    entries = sorted((encode(key), encode(item)) for key, item in value.items())
    return head(5, len(entries)) + b"".join(key + item for key, item in entries)


class Reader:
    """Reads one value; whatever is not shortest or not sorted shows when it is encoded again."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.place = 0
        self.items = 0

    def take(self, count: int) -> bytes:
        if count > len(self.content) - self.place:
            raise RefusedError("a count is larger than the remaining bytes")
        self.place += count
        return self.content[self.place - count : self.place]

    def number(self, code: int) -> int:
        if code < 24:
            return code
        if code > 27:
            raise RefusedError("an indefinite length or a reserved head")
        return int.from_bytes(self.take(2 ** (code - 24)), "big")

    def value(self, level: int = 1) -> Any:  # noqa: PLR0911 - one line per major type
        self.items += 1
        if level > MOST_LEVELS or self.items > MOST_ITEMS:
            raise RefusedError("too many levels or items")
        first = self.take(1)[0]
        major, code = first >> 5, first & 31
        if major == 7:
            return self.simple(code)
        number = self.number(code)
        if major == 0:
            return number
        if major == 1:
            return -1 - number
        if major == 2:
            return self.take(number)
        if major == 3:
            return self.take(number).decode()
        if major == 6:
            return self.large_integer(number)
        if number > len(self.content) - self.place:
            raise RefusedError("a count is larger than the remaining bytes")
        if major == 4:
            return [self.value(level + 1) for _ in range(number)]
        return self.mapping(number, level)

    def simple(self, code: int) -> Any:
        if code in (20, 21, 22):
            return {20: False, 21: True, 22: None}[code]
        if code not in (25, 26, 27):
            raise RefusedError("a simple value")
        form, width = {25: (">e", 2), 26: (">f", 4), 27: (">d", 8)}[code]
        return struct.unpack(form, self.take(width))[0]

    def large_integer(self, tag: int) -> int:
        if tag != 2:
            raise RefusedError("a tag")
        first = self.take(1)[0]
        length = self.number(first & 31)
        if first >> 5 != 2 or length > 32:
            raise RefusedError("tag 2 without a short byte string")
        return int.from_bytes(self.take(length), "big")

    def mapping(self, number: int, level: int) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for _ in range(number):
            key = self.value(level + 1)
            if not isinstance(key, str):
                raise RefusedError("records have text keys")
            result[key] = self.value(level + 1)
        return result


def decode(content: bytes, most_bytes: int) -> Any:
    """One value in exactly these bytes."""
    if len(content) > most_bytes:
        raise RefusedError("more bytes than the limit")
    reader = Reader(content)
    try:
        value = reader.value()
    except UnicodeDecodeError as error:
        raise RefusedError("text that is not UTF-8") from error
    if reader.place != len(content) or encode(value) != content:
        raise RefusedError("trailing bytes or not the deterministic form")
    return value


# --- the records' shapes -----------------------------------------------------------------------

Check = Callable[[Any], None]


def need(condition: bool, what: str) -> None:
    if not condition:
        raise RefusedError(what)


def octets(least: int, most: int | None = None) -> Check:
    top = least if most is None else most
    return lambda v: need(isinstance(v, bytes) and least <= len(v) <= top, "byte string")


def whole(least: int, most: int) -> Check:
    return lambda v: need(type(v) is int and least <= v <= most, "integer")


def words_of_text(least: int, most: int) -> Check:
    return lambda v: need(isinstance(v, str) and least <= len(v) <= most, "text")


def one_of(*allowed: Any) -> Check:
    return lambda v: need(any(type(v) is type(a) and v == a for a in allowed), "one of a few")


def array(item: Check, least: int, most: int) -> Check:
    def check(value: Any) -> None:
        need(isinstance(value, list) and least <= len(value) <= most, "array")
        for entry in value:
            item(entry)

    return check


def record(**fields: Check) -> Check:
    def check(value: Any) -> None:
        need(isinstance(value, dict) and set(value) == set(fields), "fields of a record")
        for name, field in fields.items():
            field(value[name])

    return check


def absent_or(check: Check) -> Check:
    return lambda v: None if v is None else check(v)


def between(low: float, high: float) -> Check:
    def check(value: Any) -> None:
        need(isinstance(value, float) and low <= value <= high, f"float {low} .. {high}")

    return check


def positive_float(value: Any) -> None:
    need(isinstance(value, float) and 0 < value < math.inf, "positive finite float")


ADDRESS, WORD32, SIGNATURE = octets(20), octets(32), octets(65)
TASK, ROUND, SERVER = whole(1, 2**63 - 1), whole(1, 2**31 - 1), whole(1, 13)
COUNT, WEI, PRICE = whole(0, 2**63 - 1), whole(0, 2**128 - 1), whole(0, 2**96 - 1)
NAME, TEXT = words_of_text(1, 256), words_of_text(0, 8192)


def envelope(value: Any) -> None:
    record(kind=NAME, fields=lambda _: None, signature=SIGNATURE)(value)
    need(value["kind"] in ROUND_MESSAGES and isinstance(value["fields"], dict), "kind")
    members = members_of(value["kind"])
    need(set(value["fields"]) == {name for _, name in members}, "fields of a message")
    for solidity_type, name in members:
        encoded_member(solidity_type, value["fields"][name])


HEADER = record(
    version=one_of(1),
    task=TASK,
    round=ROUND,
    owner=ADDRESS,
    server=SERVER,
    commitment=WORD32,
    submission_signature=SIGNATURE,
    x_parts=array(WORD32, 3, 13),
    proof_parts=array(WORD32, 3, 13),
    content_bytes=COUNT,
)
SEALED_PACKAGE = record(header=HEADER, chunks=array(octets(48, 524_544), 1, 4096))
OPENING = record(header=HEADER, blind=WORD32, seed=absent_or(WORD32), content=octets(0, 2**63))
CERTIFICATE = record(
    owner=ADDRESS,
    commitment=WORD32,
    submission_signature=SIGNATURE,
    receipts=array(record(server=SERVER, signature=SIGNATURE), 0, 13),
    held=array(
        record(holder=SERVER, server=SERVER, package_hash=WORD32, signature=SIGNATURE), 0, 169
    ),
)


MANIFEST = record(task=TASK, round=ROUND, certificates=array(CERTIFICATE, 0, 100_000))
SERVER_WORDS = record(
    server=SERVER,
    submissions_root=WORD32,
    seed=WORD32,
    words=array(WORD32, 0, 100_000),
    signatures=array(SIGNATURE, 0, 100_000),
)
TWO_WORDS = record(
    server=SERVER,
    owner=ADDRESS,
    first_word=WORD32,
    first_signature=SIGNATURE,
    second_word=WORD32,
    second_signature=SIGNATURE,
)
OPENING_REFERENCE = record(owner=ADDRESS, server=SERVER, opening_hash=WORD32)
TRANSCRIPT = record(
    version=one_of(1),
    manifest=MANIFEST,
    seed=WORD32,
    words=array(SERVER_WORDS, 0, 13),
    openings=array(OPENING_REFERENCE, 0, 100_000),
    convictions=array(TWO_WORDS, 0, 13),
    accepted=array(ADDRESS, 0, 100_000),
    v_bitmap=whole(0, 2**13 - 1),
    previous_payouts_root=WORD32,
    payouts=array(record(owner=ADDRESS, cumulative_wei=WEI), 0, 2**63),  # the page has no bound
)


def ascending(keys: Sequence[Any]) -> bool:
    return all(first < second for first, second in pairwise(keys))


def check_transcript_order(value: Any) -> None:
    """The orders of the page, each entry once (convictions may not stand twice either)."""
    orders: tuple[list[Any], ...] = (
        [entry["owner"] for entry in value["manifest"]["certificates"]],
        [entry["server"] for entry in value["words"]],
        [(entry["owner"], entry["server"]) for entry in value["openings"]],
        [(entry["server"], encode(entry)) for entry in value["convictions"]],
        value["accepted"],
        [entry["owner"] for entry in value["payouts"]],
    )
    need(all(ascending(keys) for keys in orders), "order")


def windows(value: Any) -> None:
    record(
        submission_seconds=COUNT,
        forced_seconds=whole(0, 2**24 - 1),
        complaint_seconds=COUNT,
        seal_seconds=COUNT,
        rotation_seconds=whole(1, 2**31 - 1),
        delta_blocks=whole(1, 255),
        confirmations=whole(0, 255),
        words_blocks=whole(1, 7_999),
        openings_blocks=whole(1, 7_999),
        settlement_blocks=whole(1, 7_999),
    )(value)
    delta, confirmations = value["delta_blocks"], value["confirmations"]
    cutoffs = [value[name] for name in ("words_blocks", "openings_blocks", "settlement_blocks")]
    need(ascending(cutoffs), "cut-offs")
    need(cutoffs[1] - cutoffs[0] >= 4, "openings - words >= 4")
    need(delta + confirmations < cutoffs[0], "delta + confirmations < words")
    need(value["forced_seconds"] <= value["submission_seconds"], "forced <= submission")


TENSOR = record(name=NAME, shape=array(whole(1, 2**31 - 1), 0, 8), scale=positive_float)
COMPONENT = record(name=NAME, tensors=array(TENSOR, 1, 4096))


def admission(value: Any) -> None:
    record(mode=one_of("open", "listed"), owners=array(ADDRESS, 0, 100_000), min_bond_wei=PRICE)(
        value
    )
    need((value["mode"] == "listed") == (len(value["owners"]) > 0), "owners if listed")
    need(ascending(value["owners"]), "owners ascending")


def task_specification(value: Any) -> None:
    record(
        version=one_of(3),
        title=NAME,
        model_licence=NAME,
        contact=NAME,
        description=TEXT,
        preprocessing=TEXT,
        servers=whole(3, 13),
        committee=array(record(address=ADDRESS, endpoint=NAME, hpke_key=WORD32), 0, 13),
        committee_mode=one_of("named", "drawn"),
        min_stake_wei=PRICE,
        privacy=whole(1, 13),
        errors=whole(0, 13),
        tests=one_of(*range(4, 129, 4)),
        fractional_bits=whole(4, 24),
        components=array(COMPONENT, 1, 8),
        profile=one_of("gauge", "scales", "noise"),
        magnitude_bits=whole(0, 8),
        noise_groups=whole(0, 4),
        noise_factors=array(between(-1e6, 1e6), 0, 65_536),
        noise_scale=between(0, 1e6),
        input_kind=one_of("numbers", "tokens"),
        input_shape=array(COUNT, 0, 8),
        loss=one_of("cross_entropy", "mse", "binary_cross_entropy"),
        batch_rule=one_of("mean"),
        rounds=whole(1, 65_535),
        max_rounds=whole(1, 65_535),
        min_owners=whole(1, 100_000),
        max_owners=whole(1, 100_000),
        reward_wei=PRICE,
        fee_wei=PRICE,
        opening_fee_wei=PRICE,
        token=ADDRESS,
        admission=admission,
        windows=windows,
        model_owner=ADDRESS,
        model_owner_hpke_key=WORD32,
    )(value)
    profile, factors = value["profile"], value["noise_factors"]
    need((value["magnitude_bits"] > 0) == (profile == "scales"), "magnitudes for scales alone")
    for has_noise in (value["noise_groups"] > 0, len(factors) > 0, value["noise_scale"] > 0):
        need(has_noise == (profile == "noise"), "noise for the profile noise alone")
    need(value["noise_groups"] <= len(factors), "groups of noise <= outputs")
    need(profile != "noise" or value["loss"] == "mse", "noise with mse")
    addresses = [member["address"] for member in value["committee"]]
    need(len(set(addresses)) == len(addresses), "addresses distinct")
    named = value["committee_mode"] == "named"
    need(len(addresses) == (value["servers"] if named else 0), "all servers if named, else none")
    need(value["rounds"] <= value["max_rounds"], "rounds <= max_rounds")
    need(value["min_owners"] <= value["max_owners"], "min <= max")
    need(specification_size(value) <= 2**31, "D")
    turns = (value["errors"] + 1) * value["windows"]["rotation_seconds"]
    last = value["windows"]["complaint_seconds"] + turns
    need(last <= value["windows"]["seal_seconds"], "complaint + (e + 1) rotation <= seal")


CONSENT_REQUEST = record(specification=octets(1, 4 * 2**20), expires=COUNT)


def specification_size(value: Any) -> int:
    """D."""
    return sum(component_sizes(value))


def component_sizes(value: Any) -> tuple[int, ...]:
    return tuple(
        sum(math.prod(tensor["shape"]) for tensor in component["tensors"])
        for component in value["components"]
    )


RECORDS: dict[str, tuple[Check, int]] = {
    "Envelope": (envelope, 4096),
    "SealedPackage": (SEALED_PACKAGE, 2**31),
    "Opening": (OPENING, 2**31),
    "Certificate": (CERTIFICATE, 65_536),
    "Manifest": (MANIFEST, 128 * 2**20),
    "ServerWords": (SERVER_WORDS, 32 * 2**20),
    "TwoWords": (TWO_WORDS, 32 * 2**20),
    "OpeningReference": (OPENING_REFERENCE, 4096),
    "Transcript": (TRANSCRIPT, 256 * 2**20),
    "TaskSpecification": (task_specification, 4 * 2**20),
    "ConsentRequest": (CONSENT_REQUEST, 4 * 2**20 + 64),
}


def decode_record(kind: str, content: bytes) -> Any:
    """A record's map from field names to values; refuses what the page does not allow."""
    check, most_bytes = RECORDS[kind]
    value = decode(content, most_bytes)
    check(value)
    return value
