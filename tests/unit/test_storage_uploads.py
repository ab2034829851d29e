"""Partial files: durable, placed, bounded, forgotten."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest
from wire_samples import address, digest

from omnilytics.foundation.errors import ConflictError
from omnilytics.foundation.units import Address, Round, TaskId
from omnilytics.storage import uploads as module
from omnilytics.storage.errors import StorageUnavailableError
from omnilytics.storage.uploads import UploadKey, Uploads


def key(name: str = "body", *, owner: Address | None = None, round_number: int = 2) -> UploadKey:
    return UploadKey(
        task=TaskId(1),
        round=Round(round_number),
        owner=owner or address("owner"),
        server=0,
        body_hash=digest(name),
    )


def test_parts_add_up_and_outlast_the_process(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path / "uploads")
    assert uploads.offset(key()) == 0
    assert uploads.append(key(), 0, b"abc") == 3
    again = Uploads(tmp_path / "uploads")
    assert again.offset(key()) == 3
    assert again.append(key(), 3, b"defg") == 7
    assert uploads.content(key()) == b"abcdefg"
    assert uploads.offset(key("other")) == 0
    uploads.drop(key())
    uploads.drop(key())
    assert (uploads.offset(key()), uploads.content(key())) == (0, b"")


@pytest.mark.parametrize("first", [0, 2, 4, 10**15])
def test_a_part_elsewhere_changes_nothing_and_says_where(tmp_path: Path, first: int) -> None:
    uploads = Uploads(tmp_path)
    uploads.append(key(), 0, b"abc")
    with pytest.raises(ConflictError) as caught:
        uploads.append(key(), first, b"xyz")
    assert caught.value.ids["upload_offset"] == 3
    assert uploads.content(key()) == b"abc"


def test_a_later_part_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConflictError) as caught:
        Uploads(tmp_path).append(key(), 5, b"xyz")
    assert caught.value.ids["upload_offset"] == 0
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_what_was_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = Uploads(tmp_path)
    uploads.append(key(), 0, b"abc")

    def half(file: int, data: memoryview, place: int) -> int:
        if len(data) <= 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return _pwrite(file, data[:2], place)

    _pwrite = os.pwrite
    monkeypatch.setattr("os.pwrite", half)
    with pytest.raises(StorageUnavailableError, match="disk is full"):
        uploads.append(key(), 3, b"defg")
    monkeypatch.undo()
    assert uploads.content(key()) == b"abc"
    assert uploads.append(key(), 3, b"defg") == 7


def test_every_part_is_flushed_before_it_is_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[int] = []
    fsync = os.fsync

    def observed(file: int) -> None:
        found = os.fstat(file)
        if stat.S_ISREG(found.st_mode):
            flushed.append(found.st_size)
        fsync(file)

    monkeypatch.setattr("os.fsync", observed)
    uploads = Uploads(tmp_path)
    flushed.clear()
    uploads.append(key(), 0, b"abc")
    uploads.append(key(), 3, b"de")
    assert flushed == [3, 5]


def test_uploads_are_few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "UPLOADS_PER_OWNER", 2)
    monkeypatch.setattr(module, "UPLOADS_IN_ALL", 3)
    uploads = Uploads(tmp_path)
    uploads.append(key("a"), 0, b"a")
    uploads.append(key("b"), 0, b"b")
    with pytest.raises(StorageUnavailableError, match="too many uploads"):
        uploads.append(key("c"), 0, b"c")
    other, third = address("other"), address("third")
    uploads.append(key("c", owner=other), 0, b"c")
    with pytest.raises(StorageUnavailableError, match="too many uploads"):
        uploads.append(key("d", owner=third), 0, b"d")
    uploads.append(key("a"), 1, b"a")  # what is there goes on
    uploads.drop(key("a"))
    uploads.append(key("d", owner=third), 0, b"d")
    assert len(list(tmp_path.iterdir())) == 3


def test_idle_uploads_and_those_of_an_ended_round_go(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)
    for number in (2, 22):
        uploads.append(key(round_number=number), 0, b"a")
    assert uploads.drop_round(TaskId(1), Round(2)) == 1
    assert [uploads.offset(key(round_number=number)) for number in (2, 22)] == [0, 1]
    assert uploads.drop_idle() == 0
    (path,) = tmp_path.iterdir()
    os.utime(path, (0, 0))
    uploads.append(key("new"), 0, b"n")  # sweeps by itself
    assert (uploads.offset(key(round_number=22)), uploads.offset(key("new"))) == (0, 1)
