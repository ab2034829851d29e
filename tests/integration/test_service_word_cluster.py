"""A real local Ray cluster gives the same words; needs `pip install omnilytics[ray]`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from stored_case import Deadly, StoredCase, WhoRuns, stored_case

from omnilytics.foundation.errors import ConfigError
from omnilytics.protocol.word_jobs import WholeWords
from omnilytics.service.settings import WordsSection
from omnilytics.service.word_cluster import ClusterWords


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterWords]:
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        # Worker processes find the package and the jobs of these tests where this process does.
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        executor = ClusterWords("local", 2, part_entries=12)
        yield executor
        executor.close()


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoredCase:
    return stored_case(tmp_path_factory.mktemp("store"), owners=5)


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # of Ray's own modules
class TestCluster:
    def test_it_gives_the_words_of_one_process(
        self, cluster: ClusterWords, stored: StoredCase
    ) -> None:
        assert cluster.words(stored.work, stored.packages) == stored.words
        assert os.getpid() not in set(cluster.run_all(WhoRuns() for _ in range(8)))

    def test_a_killed_worker_costs_no_word(
        self, cluster: ClusterWords, stored: StoredCase, tmp_path: Path
    ) -> None:
        whole = WholeWords(stored.work, tuple(stored.packages))
        jobs = [whole, Deadly(tmp_path / "killed", whole), whole]
        assert list(cluster.run_all(jobs)) == [stored.words] * 3

    def test_a_damaged_package_is_named(self, cluster: ClusterWords, tmp_path: Path) -> None:
        stored = stored_case(tmp_path, owners=1)
        packages = stored.packages
        path = next(path for path in stored.files.folder.glob("??/*") if path.is_file())
        path.write_bytes(path.read_bytes()[:-8])
        with pytest.raises(ConfigError, match="damaged") as caught:
            cluster.words(stored.work, packages)
        assert caught.value.ids["file"] == path


def test_without_ray_the_setting_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match="Ray is not installed") as caught:
        WordsSection(ray_address="local").executor()
    assert caught.value.hint == "pip install 'omnilytics[ray]'"


@pytest.mark.parametrize("address", ["here", "ray://host:1", "host:", "host:123456", "a b:1"])
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT, or local"):
        WordsSection(ray_address=address)
