"""Processes in the background: found again, never taken for another one, stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from omnilytics.devnet import processes
from omnilytics.devnet.processes import BackgroundProcess, started_at, stop
from omnilytics.foundation.errors import ConfigError

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('up', flush=True); time.sleep(600)",
]


def background(folder: Path, name: str = "one") -> BackgroundProcess:
    return BackgroundProcess(name, folder / f"{name}.json", folder / f"{name}.log")


def started(folder: Path, command: list[str], name: str = "one") -> BackgroundProcess:
    process = background(folder, name)
    process.start(command)
    while not process.tail():  # it has said that it is up
        assert process.pid() is not None
    return process


def test_another_object_finds_and_stops_it(tmp_path: Path) -> None:
    process = started(tmp_path, SLEEP)
    pid = process.pid()
    assert pid is not None
    assert os.getsid(pid) == pid  # the terminal's end does not reach it
    again = background(tmp_path)
    assert again.pid() == pid
    assert stop([process, again], 30) == []
    assert (process.pid(), again.pid()) == (None, None)
    assert not (tmp_path / "one.json").exists()


def test_what_does_not_stop_is_killed_and_named(tmp_path: Path) -> None:
    stubborn = started(tmp_path, STUBBORN, "stubborn")
    polite = started(tmp_path, SLEEP, "polite")
    assert stop([stubborn, polite], 0.5) in (["stubborn"], ["stubborn", "polite"])
    assert (stubborn.pid(), polite.pid()) == (None, None)


def test_an_id_used_again_is_left_alone(tmp_path: Path) -> None:
    bystander = subprocess.Popen(SLEEP, stdout=subprocess.DEVNULL)
    try:
        other = started_at(os.getpid())
        (tmp_path / "one.json").write_text(json.dumps({"pid": bystander.pid, "started": other}))
        process = background(tmp_path)
        assert process.pid() is None
        process.send_signal(signal.SIGKILL)
        assert stop([process], 5) == []
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "5",
        "[]",
        "{}",
        '{"pid": "x", "started": "y"}',
        '{"pid": -1, "started": "None"}',
        '{"pid": 0, "started": "None"}',
        '{"pid": 1e400, "started": "None"}',
        '{"pid": 4194305, "started": "None"}',
        "\x00",
    ],
)
def test_a_damaged_file_names_no_process(tmp_path: Path, content: str) -> None:
    (tmp_path / "one.json").write_text(content)
    process = background(tmp_path)
    assert process.pid() is None
    process.send_signal(signal.SIGKILL)


def test_one_that_ended_is_gone_while_its_parent_lives(tmp_path: Path) -> None:
    process = background(tmp_path)
    process.start([sys.executable, "-c", "print('bye')"])
    while process.pid() is not None:
        pass
    assert process.tail() == "bye"
    child = subprocess.Popen([sys.executable, "-c", ""])
    while started_at(child.pid) is not None:  # then it is a zombie: nobody has waited for it
        pass
    child.wait()


def test_settings_of_the_environment_are_not_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMNILYTICS_SERVER__DATA", "elsewhere")
    process = background(tmp_path)
    process.start(
        [sys.executable, "-c", "import os; print([n for n in os.environ if 'OMNI' in n])"]
    )
    while process.pid() is not None:
        pass
    assert process.tail() == "[]"


def test_a_program_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot start"):
        background(tmp_path).start([str(tmp_path / "none")])


def test_both_ways_to_the_start_tell_processes_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen(SLEEP, stdout=subprocess.DEVNULL)
    try:
        assert started_at(child.pid) == started_at(child.pid) != started_at(os.getpid())
        monkeypatch.setattr(processes, "_BOOT", Path("/none"))
        assert started_at(child.pid)
        assert started_at(child.pid) == started_at(child.pid)
    finally:
        child.kill()
        child.wait()
    assert started_at(child.pid) is None
