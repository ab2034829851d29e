"""Work is held to a budget of counts, not of time: what is hashed, expanded, sealed, sent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import counted_work
import numpy as np
import pytest
from counted_work import BUDGET, COMMAND, differences, measured
from work_counters import counted

from omnilytics.algebra import kernels
from omnilytics.algebra.streams import LABEL_SHARE, Stream
from omnilytics.foundation.randomness import SystemRandomness
from omnilytics.transport.hpke import HpkeKey, seal
from omnilytics.wire import hashing
from omnilytics.wire.signatures import SigningKey, recover_address


def test_work_is_within_its_budget() -> None:
    changed = differences(measured(), json.loads(BUDGET.read_text(encoding="utf-8")))
    if changed:
        accept = f"to accept this, with the reason in the commit: {COMMAND}"
        pytest.fail("\n".join(["counted work changed:", *changed, accept]), pytrace=False)


def _stream() -> object:
    return Stream(LABEL_SHARE, bytes(32)).elements(5, 1_000)


def _hashed_in_parts() -> object:
    return vars(hashing)["blake3"](bytes(5)).update(bytes(9)).digest()


def _sealed() -> object:
    key = HpkeKey.generate(SystemRandomness())
    return key.open(seal(key.public, bytes(700), b"info"), b"info")


def _signed() -> object:
    key = SigningKey.generate(SystemRandomness())
    return recover_address(bytes(32), key.sign_digest(bytes(32)))


def _added() -> object:
    vector = np.ones(300, dtype=np.uint64)
    kernels.current().add(vector, vector, vector)
    return vector


@pytest.mark.parametrize(
    ("run", "want"),
    [
        (
            _stream,
            {
                "AES streams started": 1,
                "bytes expanded by AES": 8 * 1_005,  # from the start of the block
                "bytes hashed by SHA-256": 12 + 5 + 32,
                "calls of kernel all_canonical": 1,
                "words through kernel all_canonical": 1_005,
            },
        ),
        (
            _sealed,
            {"bytes sealed": 700, "chunks sealed": 1, "bytes opened": 748, "chunks opened": 1},
        ),
        (_signed, {"signatures made": 1, "signatures checked": 1}),
        (partial(hashing.content_hash, bytes(900)), {"bytes hashed by BLAKE3": 900}),
        (_hashed_in_parts, {"bytes hashed by BLAKE3": 5 + 9}),
        (lambda: hashlib.sha256(b"abc").digest(), {"bytes hashed by SHA-256": 3}),
        (_added, {"calls of kernel add": 1, "words through kernel add": 900}),
    ],
)
def test_counters_count_what_was_done(run: Callable[[], object], want: dict[str, int]) -> None:
    with counted() as counts:
        run()
    assert {name: count for name, count in counts.items() if count} == want
    before = dict(counts)
    run()  # nothing is counted outside
    assert counts == before


def test_results_are_the_same_while_they_are_counted() -> None:
    want = (hashing.content_hash(b"x"), hashing.tagged_hash("t", b"y"), Stream(LABEL_SHARE, b"z"))
    with counted():
        stream = Stream(LABEL_SHARE, b"z")
        assert (hashing.content_hash(b"x"), hashing.tagged_hash("t", b"y")) == want[:2]
        assert np.array_equal(stream.elements(0, 50), want[2].elements(0, 50))


def test_a_difference_names_the_counter_and_its_growth() -> None:
    old = {"check": {"bytes hashed": 100, "calls": 7, "same": 1}, "gone": {"calls": 2}}
    new = {"check": {"bytes hashed": 150, "calls": 6, "same": 1, "signatures": 3}}
    assert differences(new, old) == [
        "check: signatures: new, 3",
        "check: bytes hashed grew from 100 to 150 (+50.00%)",
        "check: calls fell from 7 to 6 (-14.29%)",
        "gone: calls fell from 2 to 0 (-100.00%)",
    ]


@pytest.mark.parametrize(("memory", "lines"), [(1_019, 0), (981, 0), (1_021, 1), (979, 1)])
def test_memory_may_differ_a_little(memory: int, lines: int) -> None:
    found = {"check": {counted_work.MEMORY: memory}}
    assert len(differences(found, {"check": {counted_work.MEMORY: 1_000}})) == lines


def test_a_command_rewrites_the_budget(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    budget = tmp_path / "budget.json"
    monkeypatch.setattr(counted_work, "BUDGET", budget)
    monkeypatch.setattr(counted_work, "measured", lambda: {"check": {"calls": 3}})
    monkeypatch.setattr("sys.argv", ["counted_work.py"])
    counted_work.main()
    assert capsys.readouterr().out == "check: calls: new, 3\n"
    assert not budget.exists()
    monkeypatch.setattr("sys.argv", ["counted_work.py", "--write"])
    counted_work.main()
    assert json.loads(budget.read_text()) == {"check": {"calls": 3}}
