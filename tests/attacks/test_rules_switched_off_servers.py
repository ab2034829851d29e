"""Rules marked (!) that servers follow among each other, switched off (docs/rules.md).

As in test_rules_switched_off.py: with the rule the attack fails, without it it succeeds.
"""

from __future__ import annotations

import asyncio
import base64
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from attack_owners import Cheat, add_at, attack_world
from attack_servers import SEALED_BLOCK, Bench
from attack_table import Attacks
from test_rules_switched_off import report

from omnilytics.algebra.field import FieldVector
from omnilytics.chain.records import Phase
from omnilytics.foundation.errors import VerificationError
from omnilytics.foundation.units import Hash32
from omnilytics.protocol.settlement import PayoutState, build_transcript
from omnilytics.roles import task_view
from omnilytics.roles.server import board, intake, settling
from omnilytics.roles.server.sealing import Sealing, sequencer
from omnilytics.roles.task_view import chain_terms, check_specification
from omnilytics.sharing.committee import DEFAULT
from omnilytics.transport.authentication import HEADER, authenticate
from omnilytics.transport.client import BoardItem
from omnilytics.transport.hpke import HpkeKey, open_package, seal_package
from omnilytics.wire.envelope import decode_signed
from omnilytics.wire.hashing import EMPTY_ROOT
from omnilytics.wire.messages import Request, Settlement
from omnilytics.wire.package import SealedPackage
from omnilytics.wire.signatures import SigningKey
from omnilytics.wire.transcript import ServerWords

FIRST = PayoutState({}, EMPTY_ROOT)
HOUR = 1_500
"""What every server's chain says the time is."""


# --- section 1: keys as registered ----------------------------------------------------------------


def reads_every_package(seed: int) -> bool:
    """The model owner names the true servers and its own keys; an owner checks and seals."""
    world = attack_world(DEFAULT, seed)
    own = HpkeKey.generate(world.randomness)
    key = Hash32(HpkeKey.generate(world.randomness).public)
    members = tuple(
        member.model_copy(update={"hpke_key": own.public})
        for member in world.specification.committee
    )
    false = world.specification.model_copy(update={"committee": members})
    addresses = tuple(member.address for member in members)
    record = SimpleNamespace(
        task=world.context.task,
        terms=chain_terms(false),
        model_owner=false.model_owner,
        committee=addresses,
    )
    registered = tuple(
        SimpleNamespace(endpoint=member.endpoint, hpke_key=key) for member in members
    )
    market = SimpleNamespace(
        task=lambda _task: record, profiles=lambda _task: registered, claimed=members
    )
    try:
        view = check_specification(cast(Any, market), world.context.task, false.encode())
    except VerificationError:
        return False
    packages = world.packages(world.new_key())
    named = view.specification.committee
    return all(
        open_package(seal_package(package, member.hpke_key, world.context), own, world.context)
        == package
        for package, member in zip(packages, named, strict=True)
    )


def test_keys_as_registered(attacks: Attacks, monkeypatch: pytest.MonkeyPatch) -> None:
    on = [reads_every_package(seed) for seed in range(2)]
    monkeypatch.setattr(task_view, "_members", lambda market, _record: market.claimed)
    off = reads_every_package(1)
    report(attacks, "keys and endpoints as registered", "1", on=on, off=off)


# --- section 6.2: only the owner leaves packages --------------------------------------------------


def owner_shut_out(folder: Path) -> bool:
    """Server 5 gives no receipt and leaves rubbish for itself; the owner comes second."""
    bench = Bench(folder, DEFAULT, 1, owners=1)
    try:
        bench.state = replace(bench.state, phase=Phase.OPEN, submission_deadline=HOUR + 100)
        entry, holder = bench.submissions[0], bench.servers[3]
        holder.node._views[bench.view.task] = bench.view
        package = entry.packages[4]
        true = seal_package(package, bench.servers[5].node.hpke_key.public, bench.world.context)
        rubbish = SealedPackage(header=package.header, chunks=(bytes(100),) * len(true.chunks))
        try:
            _leave(bench, entry.owner, rubbish, bench.world.keys[5])
        except VerificationError:
            return False
        try:
            _leave(bench, entry.owner, true, entry.key)
        except VerificationError:
            return True
        return False
    finally:
        bench.close()


def _leave(bench: Bench, owner: Any, sealed: SealedPackage, key: SigningKey) -> None:
    """Leave a package for server 5 with server 3, as its HTTP route does."""
    holder, path, body = bench.servers[3].intake, "/held", sealed.encode()
    headers = authenticate(
        method="PUT",
        path=path,
        body=body,
        task=bench.view.task,
        round_number=bench.state.round,
        time=HOUR,
        key=key,
        domain=bench.world.context.domain,
        randomness=bench.world.randomness,
    )
    request = holder.identify_owner(owner, headers[HEADER], HOUR)
    asyncio.run(
        holder.hold_package(
            bench.view.task, bench.state.round, 5, owner, body, path=path, request=request
        )
    )


def anyone(header: str | None, **_named: object) -> Request:
    """Take a request whoever signed it."""
    assert header is not None
    request = decode_signed(base64.b64decode(header)).message
    assert isinstance(request, Request)
    return request


def test_only_owners_leave_packages(
    attacks: Attacks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on = [owner_shut_out(tmp_path / "on")]
    monkeypatch.setattr(intake, "identify", anyone)
    off = owner_shut_out(tmp_path / "off")
    report(attacks, "packages come with their owner's request", "6.2", on=on, off=off)


# --- section 6.3: one manifest per root -----------------------------------------------------------


def board_fills(folder: Path) -> bool:
    """A sequencer shows one sealed list under many certificates: Held can be over anything."""
    bench = Bench(folder, DEFAULT, 2, owners=1)
    try:
        entry, world = bench.submissions[0], bench.world
        certificate = world.certify(entry.key, entry.packages[0], (1, 2, 3, 4))
        for number in range(6):
            name = Hash32(bytes([number]) * 32)
            held = tuple(world.held(holder, 5, certificate, name) for holder in (1, 2))
            manifest = world.manifest([certificate.model_copy(update={"held": held})])
            assert manifest.root() == bench.case.sealed.submissions_root
            item = BoardItem(kind=board.MANIFEST, body=manifest.encode())
            bench.servers[3].sealing._keep_proposed(bench.view, bench.state, item)
        return len(bench._records(3, board.MANIFEST)) > 1
    finally:
        bench.close()


def test_one_manifest_per_root(
    attacks: Attacks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on = [board_fills(tmp_path / "on")]
    monkeypatch.setattr(Sealing, "manifests", lambda *_: [])
    off = board_fills(tmp_path / "off")
    report(attacks, "one manifest per root is kept", "6.3", on=on, off=off)


# --- section 6.6: no words shown late -------------------------------------------------------------

SEQUENCER, VICTIM = 5, 3


def victim_blamed(folder: Path) -> bool:
    """The sequencer hides its words until nobody can open any more; with an owner's help.

    The owner dealt the victim a bad share. Without the sequencer's words too few agree on it, and
    the victim is not accused. With them, shown at the openings cut-off, it is off the codeword and
    has opened nothing: at fault.
    """

    def misdeal(_draft: object, rows: FieldVector) -> None:
        add_at(rows, VICTIM - 2, 0, 1)

    bench = Bench(folder, DEFAULT, 3, owners=1, cheats=[Cheat(x_rows=misdeal)])
    try:
        bench.state = replace(bench.state, submission_deadline=_deadline(bench))
        honest = [point for point in DEFAULT.points if point != SEQUENCER]
        windows = bench.view.specification.windows
        bench.answer(honest)
        bench.head = SEALED_BLOCK + windows.words_blocks
        bench.answer(honest)
        assert not any(bench._records(point, board.OPENING) for point in honest)
        bench.head = SEALED_BLOCK + windows.openings_blocks
        _show_all(bench)
        bench.answer(honest, 1)
        for point in honest:
            asyncio.run(bench.servers[point].settling.step(bench.view, bench.state))
        signed = [bench.messages(point, board.SETTLEMENT) for point in honest]
        without_victim = [
            message
            for messages in signed
            for message in messages
            if isinstance(message, Settlement) and not message.v_bitmap >> (VICTIM - 1) & 1
        ]
        return len(without_victim) + 1 >= DEFAULT.quorum
    finally:
        bench.close()


def _deadline(bench: Bench) -> int:
    """Return a submission deadline after which it is the sequencer's turn now."""
    for deadline in range(HOUR, 0, -1):
        state = replace(bench.state, submission_deadline=deadline)
        if sequencer(bench.view, state, HOUR) == SEQUENCER:
            return deadline
    raise AssertionError("every server has its turn")


def _show_all(bench: Bench) -> None:
    """Put the sequencer's words and its transcript, without any opening, on its board."""
    case, node = bench.case, bench.servers[SEQUENCER].node
    own: ServerWords = case.entries[SEQUENCER]
    task, number = bench.view.task, bench.state.round
    node.publish_record(task, number, board.WORDS, SEQUENCER, b"", own.encode())
    transcript, resolution = build_transcript(case.sealed, case.words(), [], {}, FIRST)
    assert set(resolution.faults) == {VICTIM}
    name = node.repository.publish(transcript.encode())
    node.publish_record(task, number, board.TRANSCRIPT, 0, name, name)


def test_no_words_shown_late(
    attacks: Attacks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on = [victim_blamed(tmp_path / "on")]
    true = settling.CutOffs.of

    def for_ever(view: Any, state: Any) -> settling.CutOffs:
        return replace(true(view, state), admitted_words=10**9)

    monkeypatch.setattr(settling.CutOffs, "of", for_ever)
    off = victim_blamed(tmp_path / "off")
    report(attacks, "no words shown after half the gap", "6.6", on=on, off=off)
