"""The exception tree: stable codes and exit codes, and what an error says."""

from __future__ import annotations

import pytest

from omnilytics.algebra import kernels
from omnilytics.api.application import NotFoundError
from omnilytics.foundation import errors
from omnilytics.foundation.errors import OmniLyticsError
from omnilytics.validity.prover import WraparoundTestError

STABLE = {
    "OmniLyticsError": ("internal", 1),
    "UsageError": ("usage", 2),
    "ConfigError": ("config", 3),
    "ModelError": ("model", 3),
    "KeyMaterialError": ("key", 4),
    "FundsError": ("funds", 5),
    "ChainError": ("chain", 6),
    "PeerError": ("peer", 7),
    "VerificationError": ("verification", 8),
    "MalformedError": ("malformed", 8),
    "ResumableTimeoutError": ("timeout", 9),
}
ELSEWHERE = {NotFoundError: ("not-found", 1), WraparoundTestError: ("wraparound-test", 8)}


def _tree(kind: type[OmniLyticsError]) -> set[type[OmniLyticsError]]:
    return {kind}.union(*(_tree(child) for child in kind.__subclasses__()))


def test_codes_and_exit_codes_are_stable() -> None:
    for name, (code, exit_code) in STABLE.items():
        kind = getattr(errors, name)
        assert (kind.code, kind.exit_code) == (code, exit_code)
    for kind, (code, exit_code) in ELSEWHERE.items():
        assert (kind.code, kind.exit_code) == (code, exit_code)


def test_every_error_has_a_code_of_its_own() -> None:
    kernels.warm_up()
    ours = {kind for kind in _tree(OmniLyticsError) if kind.__module__.startswith("omnilytics.")}
    assert {kind.__name__ for kind in ours} >= STABLE.keys()
    codes = [kind.code for kind in ours]
    assert sorted(codes) == sorted(set(codes))


def test_an_error_says_what_it_got_what_it_wants_where_and_what_to_do() -> None:
    error = errors.ConfigError("no such file", got="a.csv", want="b.csv", hint="ls", task=3)
    assert str(error) == "no such file; got a.csv; want b.csv; task 3"
    assert error.as_dict() == {
        "code": "config",
        "message": "no such file",
        "got": "a.csv",
        "want": "b.csv",
        "hint": "ls",
        "task": "3",
    }


def test_nothing_is_said_that_is_not_known() -> None:
    error = OmniLyticsError("bare")
    assert str(error) == "bare"
    assert error.as_dict() == {"code": "internal", "message": "bare"}
    assert OmniLyticsError("zero", got=0).as_dict()["got"] == "0"


def test_errors_can_be_raised_and_caught_by_any_ancestor() -> None:
    for kind in (errors.VerificationError, OmniLyticsError, Exception):
        with pytest.raises(kind, match="malformed bytes"):
            raise errors.MalformedError("malformed bytes")
