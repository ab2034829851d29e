"""The corpus of hostile artefacts: each is refused for its own reason, and cheaply."""

from __future__ import annotations

import json
import signal
import subprocess
import sys

import pytest
import refusing
from refusing import FOLDER, read_case

from omnilytics.foundation.errors import OmniLyticsError
from omnilytics.perturbation.artefact import decode_artefact, encode_artefact

INDEX: list[dict[str, str]] = json.loads((FOLDER / "index.json").read_text())
HOSTILE = [case for case in INDEX if case["code"]]
SOUND = [case for case in INDEX if not case["code"]]


@pytest.mark.parametrize("case", HOSTILE, ids=[case["name"] for case in HOSTILE])
def test_it_is_refused_for_what_is_wrong_with_it(case: dict[str, str]) -> None:
    content, frozen = read_case(case["name"])
    with pytest.raises(OmniLyticsError, match=case["words"]) as caught:
        decode_artefact(content, frozen=frozen)
    assert caught.value.code == case["code"]
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 500


@pytest.mark.parametrize("case", SOUND, ids=[case["name"] for case in SOUND])
def test_what_is_not_spoilt_is_read(case: dict[str, str]) -> None:
    content, _ = read_case(case["name"])
    assert encode_artefact(decode_artefact(content)) == content


def test_refusing_takes_little_time_and_memory() -> None:
    # One second of processor and 200 MiB each, which the operating system enforces.
    done = subprocess.run(
        [sys.executable, refusing.__file__], capture_output=True, text=True, check=True
    )
    ends = json.loads(done.stdout)
    assert ends.pop("control: too much memory") == "no memory"
    assert ends.pop("control: too much time") == f"killed by signal {int(signal.SIGXCPU)}"
    assert ends == {case["name"]: "refused" if case["code"] else "accepted" for case in INDEX}
