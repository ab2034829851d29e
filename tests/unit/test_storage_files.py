"""Content-addressed files: whole or absent, checked when read, readable by one user."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from wire_samples import digest

from omnilytics.foundation.errors import ConfigError
from omnilytics.foundation.units import Hash32
from omnilytics.storage.files import ContentFiles
from omnilytics.wire.hashing import content_hash


def files_in(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_content_is_found_by_its_hash(tmp_path: Path) -> None:
    files = ContentFiles(tmp_path)
    contents = [b"", b"a", bytes(100_000)]
    names = [files.put(content) for content in contents]
    assert names == [content_hash(content) for content in contents]
    again = ContentFiles(tmp_path)
    assert [again.get(name) for name in names] == contents
    assert again.get(digest("nothing")) is None


def test_the_same_content_is_one_file(tmp_path: Path) -> None:
    files = ContentFiles(tmp_path)
    name = files.put(b"content")
    before = files_in(tmp_path)[0].stat().st_ino
    assert files.put(b"content") == name
    (path,) = files_in(tmp_path)
    assert path.name == name.hex()
    assert path.stat().st_ino == before


@pytest.mark.parametrize("damage", [b"", b"contenT", b"content and more"])
def test_damage_is_noticed(tmp_path: Path, damage: bytes) -> None:
    files = ContentFiles(tmp_path)
    name = files.put(b"content")
    (path,) = files_in(tmp_path)
    path.write_bytes(damage)
    with pytest.raises(ConfigError, match="damaged") as caught:
        files.get(name)
    assert str(path) in str(caught.value)


def test_delete(tmp_path: Path) -> None:
    files = ContentFiles(tmp_path)
    name, other = files.put(b"content"), files.put(b"other")
    files.delete(name)
    files.delete(name)
    files.delete(digest("nothing"))
    assert files.get(name) is None
    assert files.get(other) == b"other"
    assert files.put(b"content") == name
    assert files.get(name) == b"content"


def test_a_crash_before_the_rename_leaves_nothing_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ContentFiles(tmp_path)
    name = content_hash(b"content")

    def crash(_path: Path, _target: Path) -> Path:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash)
        with pytest.raises(KeyboardInterrupt):
            files.put(b"content")
    again = ContentFiles(tmp_path)
    assert again.get(name) is None
    assert again.put(b"content") == name
    assert again.get(name) == b"content"


def test_a_crash_while_writing_leaves_nothing_visible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ContentFiles(tmp_path)

    def crash(_descriptor: int) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", crash)
        with pytest.raises(OSError, match="no space"):
            files.put(b"content")
    assert files.get(content_hash(b"content")) is None


def test_content_is_flushed_before_the_rename_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def flush(descriptor: int) -> None:
        kind = "folder" if Path(f"/proc/self/fd/{descriptor}").resolve().is_dir() else "file"
        steps.append(f"flush {kind}")
        fsync(descriptor)

    def rename(path: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", flush)
    monkeypatch.setattr(Path, "replace", rename)
    ContentFiles(tmp_path).put(b"content")
    # the way to the folder, to drafts and to a new shard, the content, then its name
    assert steps == [*3 * ["flush folder"], "flush file", "rename", "flush folder"]


def test_folders_are_the_owners_alone(tmp_path: Path) -> None:
    files = ContentFiles(tmp_path / "content")
    files.put(b"content")
    folders = [tmp_path / "content", *(p for p in (tmp_path / "content").iterdir() if p.is_dir())]
    assert len(folders) == 3
    assert {folder.stat().st_mode & 0o777 for folder in folders} == {0o700}


def test_a_part_is_read_without_the_rest(tmp_path: Path) -> None:
    files = ContentFiles(tmp_path / "files")
    content = bytes(range(200))
    name = files.put(content)
    assert files.part(name, 10, 20) == (200, content[10:30])
    assert files.part(name, 190, 20) == (200, content[190:])
    assert files.part(name, 200, 20) == (200, b"")
    assert files.part(Hash32(bytes(32)), 0, 1) is None
