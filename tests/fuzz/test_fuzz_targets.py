"""Decoders of outside bytes under plain mutation; `run.py` does the same guided by coverage."""

from __future__ import annotations

from random import Random

import pytest
from targets import targets

from omnilytics.chain.abi import revert_reason

NAMES = sorted(targets())


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_accepted(name: str) -> None:
    target = targets()[name]
    if name == "endpoint":  # usable, but nobody listens: a PeerError
        assert not any(map(target.accepts, target.samples))
        return
    assert target.samples
    for sample in target.samples:
        target.read(sample)


@pytest.mark.parametrize("name", NAMES)
def test_short_inputs_are_refused_or_read(name: str) -> None:
    target = targets()[name]
    for data in (b"", b"\x00", b"\xff", b"\xa0", b"\x80", b"{}", b"[]", b"null", bytes(32)):
        target.accepts(data)


@pytest.mark.parametrize("name", NAMES)
def test_a_few_mutations(name: str) -> None:
    run(name, 60)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_thousands_of_mutations(name: str) -> None:
    run(name, 3_000)


def run(name: str, count: int) -> None:
    target = targets()[name]
    for data in target.inputs(count, seed=len(name)):
        try:
            target.accepts(data)
        except Exception as error:
            pytest.fail(f"{name} raised {error!r} for {data.hex()}")


def test_mutation_reaches_behind_the_first_check() -> None:
    """Structured mutants must often be canonical, or the fields behind would not be reached."""
    target = targets()["cbor"]
    random = Random(1)
    sample = targets()["Transcript"].samples[0]
    form = targets()["Transcript"]
    mutants = [form.mutated(sample, random) for _ in range(200)]
    assert sum(map(target.accepts, mutants)) > 40
    assert sum(mutant != sample for mutant in mutants) > 190


def _abi_string(length: int, text: bytes) -> bytes:
    """Return revert data of Error(string) whose text claims this length."""
    head = b"\x08\xc3\x79\xa0" + (32).to_bytes(32, "big") + length.to_bytes(32, "big")
    return head + text.ljust(32, b"\x00")


FINDINGS = {
    "a reason longer than memory": ("chain_revert", _abi_string(2**200, b"too late")),
    "a reason that is not UTF-8": ("chain_revert", _abi_string(2, b"t\x9b")),
    "logs that are no list": ("node_answer", b'{"result":7}'),
    "no logs at all": ("node_answer", b'{"result":null}'),
    "topics that are no list": (
        "node_answer",
        b'{"result":[{"address":"0x","topics":7,"data":"0x"}]}',
    ),
    "an integer outside 64 bits": ("cbor", b"\xc2\x41\x01"),
    "a number that is not one": ("cbor", b"\xfb\x7f\xf8\x00\x00\x00\x00\x00\x00"),
}
"""Inputs that once came out as another error, or that are easy to get wrong."""


@pytest.mark.parametrize("finding", FINDINGS)
def test_findings_stay_found(finding: str) -> None:
    name, data = FINDINGS[finding]
    targets()[name].accepts(data)


def test_revert_reasons_that_cannot_be_read_are_no_reasons() -> None:
    for finding in ("a reason longer than memory", "a reason that is not UTF-8"):
        assert revert_reason(FINDINGS[finding][1]) == "reverted without a reason"
