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


def _with_progress(progress: int) -> bytes:
    """Return the stored words of a task with this progress."""
    sample = targets()["market_task"].samples[0]
    return sample[:96] + progress.to_bytes(32, "big") + sample[128:]


def _profile_set(endpoint: bytes) -> bytes:
    """Return the log of a server that registers these bytes as its endpoint."""
    samples = targets()["registry_log"].samples
    sample = next(data for data in samples if b"http://server" in data)
    return sample.replace(b"http://server", endpoint.ljust(13, b"/"))


FINDINGS = {
    "a reason longer than memory": ("chain_revert", _abi_string(2**200, b"too late")),
    "a reason that is not UTF-8": ("chain_revert", _abi_string(2, b"t\x9b")),
    "logs that are no list": ("node_answer", b'{"result":7}'),
    "no logs at all": ("node_answer", b'{"result":null}'),
    "topics that are no list": (
        "node_answer",
        b'{"result":[{"address":"0x","topics":7,"data":"0x"}]}',
    ),
    "a phase that is none": ("market_task", _with_progress(255)),
    "an endpoint that is not UTF-8": ("registry_log", _profile_set(b"http:\xff\xfe")),
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


@pytest.mark.parametrize(
    "endpoint", [b"http:\xff\xfe", b"\x00", "é".encode("utf-16"), b"\xed\xa0\x80"]
)
def test_no_endpoint_stops_the_readers_of_the_logs(endpoint: bytes) -> None:
    """The registry takes any bytes as text; a log that is refused is refused for ever, by all."""
    assert targets()["registry_log"].accepts(_profile_set(endpoint))
