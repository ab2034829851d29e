"""What must hold of every round and of the money in a market of processes."""

from __future__ import annotations

import base64
from collections import defaultdict

import numpy as np
from distributed import Distributed, Played

from omnilytics.demo.accounts import earnings, pay_out
from omnilytics.foundation.units import Address, Round
from omnilytics.roles.auditor import AuditedRound
from omnilytics.roles.server import board
from omnilytics.roles.server.answering import MAX_WORDS_BYTES
from omnilytics.transport.client import BoardItem
from omnilytics.wire.envelope import decode_signed
from omnilytics.wire.transcript import ServerWords

Answers = dict[tuple[str, int], set[object]]
"""What each server answered, by kind and server."""
ONE_ANSWER = (board.SEED, board.WORDS, board.FINAL)


async def check_round(world: Distributed, played: Played, accepted: set[Address]) -> AuditedRound:
    """Audit a settled round; its sum is that of the accepted owners' integers exactly."""
    audited = await world.auditor.audit(played.settled)
    assert set(audited.resolution.accepted) == accepted
    vectors = [played.entries[owner].vector for owner in accepted]
    assert np.array_equal(played.total, np.sum(vectors, axis=0))
    answers = await given_answers(world, played.opened.round)
    for number in world.living:
        assert {kind: len(answers[kind, number]) for kind in ONE_ANSWER} == dict.fromkeys(
            ONE_ANSWER, 1
        )
    return audited


async def given_answers(world: Distributed, round_number: Round) -> Answers:
    """Return what each server answered, on all boards together; none answered twice."""
    answers: Answers = defaultdict(set)
    for number in world.living:
        for item in await world.board(number, round_number, ONE_ANSWER):
            server, message = _answer(world, item)
            answers[item.kind, server].add(message)
    assert max(map(len, answers.values()), default=0) <= 1, answers
    return answers


def _answer(world: Distributed, item: BoardItem) -> tuple[int, object]:
    if item.kind == board.WORDS:
        words = ServerWords.decode(item.body, max_bytes=MAX_WORDS_BYTES)
        return words.server, (words.seed, words.submissions_root, words.words)
    signed = decode_signed(item.body)
    server = world.view.server_of(signed.signer(world.market.reader.domain))
    return server, signed.message


async def check_books(world: Distributed) -> None:
    """Pay everybody out, stop the servers, and account for every wei."""
    market, view = world.market, world.view
    await world.rest()
    await pay_out(market, view)
    await world.rest()
    await world.stop()
    earned, gas = earnings(market, view.task), gas_costs(world)
    for party in market.parties:
        got = market.chain.balance(party.address)
        want = party.start_wei + earned[party.address] - gas[party.address]
        assert got == want, party.name
    kept = market.chain.balance(market.reader.address) - market.contract_start_wei
    burnt = market.chain.balance(market.reader.registry) - market.registry_start_wei
    assert sum(earned.values()) + kept + burnt == 0
    assert min(kept, burnt) >= 0


def gas_costs(world: Distributed) -> dict[Address, int]:
    """Return what each account paid for gas, by the receipts of all blocks."""
    costs: dict[Address, int] = defaultdict(int)
    for number in range(1, world.market.chain.head() + 1):
        for receipt in world.anvil.ask("eth_getBlockReceipts", hex(number)):
            account = Address(bytes.fromhex(receipt["from"][2:]))
            used, price = (int(receipt[name], 16) for name in ("gasUsed", "effectiveGasPrice"))
            costs[account] += used * price
    return costs


def check_logs(world: Distributed) -> None:
    """No log holds a secret or tells of a defect."""
    hidden = [text for secret in world.blinds for text in _written(secret)]
    for server in world.servers:
        text = server.files.log.read_text()
        assert text
        assert "Traceback" not in text
        assert not [secret for secret in (*server.files.secrets(), *hidden) if secret in text]


def _written(secret: bytes) -> tuple[str, ...]:
    return secret.hex(), base64.b64encode(secret).decode(), repr(secret)[2:-1]
