"""Packages sealed in one pass into files are those that are sealed one by one."""

from __future__ import annotations

import resource
import stat
from pathlib import Path

import pytest
from protocol_world import World

from omnilytics.foundation.errors import ConfigError, MalformedError
from omnilytics.transport.hpke import HpkeKey, open_package, seal_package
from omnilytics.transport.sealed_files import SealedFile, write_sealed
from omnilytics.wire.package import SealedPackage

COMPONENTS = (66_000, 3)
"""A chunk and a little."""


def test_the_files_are_sealed_packages(tmp_path: Path) -> None:
    world = World(seed=41, components=COMPONENTS)
    keys = [HpkeKey.generate(world.randomness) for _ in world.committee.points]
    packages = world.packages(world.new_key())
    files = write_sealed(packages, [key.public for key in keys], world.context, tmp_path)
    for file, package, key in zip(files, packages, keys, strict=True):
        content = bytes(file.encode())
        sealed = SealedPackage.decode(content, max_bytes=len(content))  # in its only form
        assert sealed.header == file.header == package.header
        assert open_package(sealed, key, world.context) == package
        assert file.hash() == sealed.hash()
        alone = seal_package(package, key.public, world.context)
        assert [len(chunk) for chunk in sealed.chunks] == [len(chunk) for chunk in alone.chunks]
        assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert len(SealedPackage.decode(content, max_bytes=len(content)).chunks) == 2


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    header = World(seed=42).packages(World(seed=42).new_key())[0].header
    with pytest.raises(MalformedError, match="missing"):
        SealedFile(header, tmp_path / "sealed-1").encode()
    (tmp_path / "sealed-1").write_bytes(b"")
    with pytest.raises(MalformedError, match="missing"):
        SealedFile(header, tmp_path / "sealed-1").hash()


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    world = World(seed=43, components=COMPONENTS)
    packages = world.packages(world.new_key())
    keys = [HpkeKey.generate(world.randomness).public for _ in packages]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(ConfigError, match="cannot be written"):
            write_sealed(packages, keys, world.context, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
