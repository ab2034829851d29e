"""Real worker processes: the same words, also where workers are killed."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from stored_case import AlwaysDeadly, Deadly, StoredCase, WhoRuns, stored_case

from omnilytics.foundation.errors import ConfigError
from omnilytics.foundation.units import Hash32
from omnilytics.protocol.word_jobs import InlineWords, WholeWords
from omnilytics.service.settings import WordsSection
from omnilytics.service.word_pool import PoolWords


@pytest.fixture(scope="module")
def pool() -> Iterator[PoolWords]:
    executor = PoolWords(2, part_entries=12)
    yield executor
    executor.close()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoredCase:
    return stored_case(tmp_path_factory.mktemp("store"), owners=5)


def test_workers_give_the_words_of_one_process(pool: PoolWords, stored: StoredCase) -> None:
    assert pool.words(stored.work, stored.packages) == stored.words
    ran = set(pool.run_all(WhoRuns() for _ in range(8)))
    assert os.getpid() not in ran
    assert ran <= set(pool.process_ids())


@pytest.mark.slow
def test_several_threads_use_the_pool_at_once(pool: PoolWords, stored: StoredCase) -> None:
    found: list[list[Hash32]] = []
    threads = [
        Thread(target=lambda: found.append(pool.words(stored.work, stored.packages)))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [stored.words] * 3


def test_a_worker_killed_during_a_job_costs_no_word(
    pool: PoolWords, stored: StoredCase, tmp_path: Path
) -> None:
    whole = WholeWords(stored.work, tuple(stored.packages))
    jobs = [whole, Deadly(tmp_path / "killed", whole), whole, whole]
    assert list(pool.run_all(jobs)) == [stored.words] * 4
    assert (tmp_path / "killed").exists()


@pytest.mark.slow
def test_workers_killed_between_jobs_are_replaced(pool: PoolWords, stored: StoredCase) -> None:
    pool.words(stored.work, stored.packages)
    before = pool.process_ids()
    for process in before:
        os.kill(process, signal.SIGKILL)
    assert pool.words(stored.work, stored.packages) == stored.words
    assert not set(pool.process_ids()) & set(before)


@pytest.mark.slow
def test_a_job_that_kills_every_worker_is_given_up() -> None:
    pool = PoolWords(1)
    with pytest.raises(ConfigError, match="die again and again"):
        list(pool.run_all([AlwaysDeadly()]))
    pool.close()


def test_what_a_job_raises_comes_back_whole(pool: PoolWords, tmp_path: Path) -> None:
    stored = stored_case(tmp_path, owners=1)
    packages = stored.packages
    path = next(path for path in stored.files.folder.glob("??/*") if path.is_file())
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ConfigError, match="damaged") as caught:
        pool.words(stored.work, packages)
    assert caught.value.ids["file"] == path


def test_a_closed_pool_takes_no_jobs(stored: StoredCase) -> None:
    executor = PoolWords(1)
    executor.close()
    with pytest.raises(ConfigError, match="were stopped"):
        executor.words(stored.work, stored.packages)


_PARENT = """
import os, sys
from stored_case import WhoRuns
from omnilytics.service.word_pool import PoolWords
if __name__ == "__main__":
    pool = PoolWords(1)
    print(*pool.run_all([WhoRuns()]), flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_workers_end_with_a_server_that_is_killed(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(_PARENT)
    path = os.pathsep.join([str(Path(__file__).parent.parent / "support"), *sys.path])
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
    ) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        descriptor = os.pidfd_open(worker)
        command = Path(f"/proc/{worker}/cmdline").read_bytes()
        parent.kill()
        # A process descriptor becomes readable when its process has ended.
        ended, _, _ = select.select([descriptor], [], [], 30)
        os.close(descriptor)
    assert ended
    assert b"spawn_main" in command  # and no path, name or seed
    assert str(tmp_path).encode() not in command


def test_settings_choose_where_words_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert isinstance(WordsSection(workers=1).executor(), InlineWords)
    assert repr(WordsSection(workers=5).executor()) == "PoolWords(5 workers)"
    assert repr(WordsSection().executor()) == "PoolWords(3 workers)"
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    assert isinstance(WordsSection().executor(), InlineWords)
