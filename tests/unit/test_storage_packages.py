"""A stored package's share is read from its file, and gives the word of one in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from protocol_world import World

from omnilytics.foundation.errors import ConfigError, MalformedError, UsageError
from omnilytics.foundation.units import Hash32
from omnilytics.protocol.aggregate import sum_blocks, sum_shares
from omnilytics.protocol.package import compute_word
from omnilytics.storage.files import ContentFiles
from omnilytics.storage.packages import StoredPackage
from omnilytics.validity.challenge import Challenge
from omnilytics.wire.package import Opening

WORLD = World(seed=61, components=(9_000, 50))
LENGTH = WORLD.parameters.share_elements


@pytest.fixture(scope="module")
def packages() -> list[Opening]:
    return list(WORLD.packages(WORLD.new_key()))


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def stored(files: ContentFiles, opening: Opening) -> StoredPackage:
    return StoredPackage(files, files.put(opening.encode()))


def test_words_of_stored_packages_are_those_of_packages_in_memory(
    tmp_path: Path, packages: list[Opening]
) -> None:
    files = ContentFiles(tmp_path)
    challenge = Challenge(WORLD.parameters.statement, bytes(32))
    for opening in packages:
        package = stored(files, opening).verify()
        assert package.header == opening.header
        assert compute_word(package, WORLD.parameters, WORLD.context, challenge) == compute_word(
            opening, WORLD.parameters, WORLD.context, challenge
        )


def test_sums_of_stored_shares(tmp_path: Path) -> None:
    files = ContentFiles(tmp_path)
    for place in (0, 4):  # a seed and an explicit share
        openings = [WORLD.packages(WORLD.new_key())[place] for _ in range(3)]
        shares = [stored(files, opening).share(LENGTH) for opening in openings]
        plain = [opening.share(LENGTH).elements(0, 9_050).astype(object) for opening in openings]
        total = np.array(plain).sum(axis=0) % (2**64 - 2**32 + 1)
        assert (sum_shares(shares, 9_050) == total.astype(np.uint64)).all()
        blocks = list(sum_blocks(shares, 9_050, 4_000))
        assert [len(block) for block in blocks] == [4_000, 4_000, 1_050]
        assert (np.concatenate(blocks) == total.astype(np.uint64)).all()


def test_many_more_shares_than_open_files_are_summed(
    tmp_path: Path, packages: list[Opening]
) -> None:
    share = stored(ContentFiles(tmp_path), packages[2]).share(LENGTH)
    before = open_files()
    total = sum_shares([share] * 3_000, 10)
    assert open_files() == before
    expected = [3_000 * int(v) % (2**64 - 2**32 + 1) for v in share.elements(0, 10)]
    assert total.tolist() == expected


def test_elements_beyond_the_share_are_refused(tmp_path: Path, packages: list[Opening]) -> None:
    package = stored(ContentFiles(tmp_path), packages[2])
    share = package.share(LENGTH)
    assert share.length == LENGTH
    for start, count in ((-1, 2), (0, LENGTH + 1), (LENGTH, 1), (5, -1)):
        with pytest.raises(UsageError, match="beyond"):
            share.elements(start, count)
    with pytest.raises(MalformedError, match="wrong length"):
        package.share(LENGTH - 1)


def test_damaged_files_are_named(tmp_path: Path, packages: list[Opening]) -> None:
    files = ContentFiles(tmp_path)
    package = stored(files, packages[2])
    path = next(tmp_path.glob("??/" + 64 * "?"))
    whole = path.read_bytes()

    altered = bytearray(whole)
    altered[-5] ^= 1
    path.write_bytes(altered)
    with pytest.raises(ConfigError, match="damaged"):
        package.verify()

    path.write_bytes(whole[:-8])
    with pytest.raises(ConfigError, match="damaged"):
        package.share(LENGTH).elements(LENGTH - 1, 1)
    name = Hash32(bytes.fromhex(path.name))
    with pytest.raises(ConfigError, match="damaged"):
        StoredPackage(files, name)

    altered = bytearray(whole)
    altered[-8:] = b"\xff" * 8
    path.write_bytes(altered)
    with pytest.raises(MalformedError, match="canonical"):
        package.share(LENGTH).elements(LENGTH - 1, 1)

    for start in (b"", b"\xa4\x00", whole[:100]):
        path.write_bytes(start)
        with pytest.raises(ConfigError, match="damaged"):
            StoredPackage(files, name)
    path.unlink()
    with pytest.raises(ConfigError, match="damaged"):
        StoredPackage(files, name)
    with pytest.raises(ConfigError, match="damaged"):
        package.share(LENGTH).elements(0, 1)
