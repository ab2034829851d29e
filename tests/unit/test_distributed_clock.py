"""When the test of a market of processes takes a server to be at rest."""

from __future__ import annotations

from dataclasses import replace

from distributed import Progress

BEFORE = Progress(process=7, changed=3, failed=1, unchanged=20)


def test_a_step_that_had_begun_before_is_no_look() -> None:
    assert not BEFORE.looked(BEFORE)
    assert replace(BEFORE, unchanged=21).looked(BEFORE)
    under_way = replace(BEFORE, in_progress=1)
    assert not replace(BEFORE, unchanged=21).looked(under_way)
    assert replace(BEFORE, unchanged=22).looked(under_way)
    assert replace(BEFORE, unchanged=21, failed=2).looked(under_way)


def test_a_change_a_failure_and_a_restart_are_no_rest() -> None:
    later = replace(BEFORE, unchanged=22)
    assert later.did_nothing(BEFORE, may_fail=False)
    assert not replace(later, changed=4).did_nothing(BEFORE, may_fail=True)
    assert not replace(later, process=8).did_nothing(BEFORE, may_fail=True)
    failed = replace(later, failed=2)
    assert not failed.did_nothing(BEFORE, may_fail=False)
    assert failed.did_nothing(BEFORE, may_fail=True)
