"""The repository: durable, once where the protocol says once, and shares never published."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
from wire_samples import address, digest

from omnilytics.foundation.errors import ConfigError, ConflictError
from omnilytics.foundation.units import Address, Round, TaskId
from omnilytics.storage.repository import PublicRecord, Repository
from omnilytics.wire.hashing import content_hash

TASK, ROUND = TaskId(1), Round(2)
OWNER, OTHER_OWNER = address("owner"), address("other owner")
CONTRACT, SERVER = address("contract"), address("server")
FIRST, SECOND = digest("first"), digest("second")

Open = Callable[[], Repository]


@pytest.fixture
def reopen(tmp_path: Path) -> Iterator[Open]:
    """Open the same folder again and again; each call closes what was open before."""
    opened: list[Repository] = []

    def again() -> Repository:
        for repository in opened:
            repository.close()
        opened.append(open_folder(tmp_path / "data"))
        return opened[-1]

    yield again
    for repository in opened:
        repository.close()


def open_folder(
    folder: Path, *, chain_id: int = 1, contract: Address = CONTRACT, server: Address = SERVER
) -> Repository:
    return Repository(folder, chain_id=chain_id, contract=contract, server=server)


def record(
    kind: str = "seed", server: int = 1, subject: bytes = b"", body: bytes = b"body"
) -> PublicRecord:
    return PublicRecord(kind=kind, server=server, subject=subject, body=body, received_block=9)


# Public records


def test_records_are_kept_in_one_order(reopen: Open) -> None:
    repository = reopen()
    entries = [
        record("words", 2),
        record("seed", 2, body=b"z"),
        record("seed", 2, body=b"a"),
        record("seed", 1, subject=b"\x02"),
        record("seed", 1, subject=b"\x01"),
        record("final", 1),
    ]
    assert [repository.add_record(TASK, ROUND, entry) for entry in entries] == [True] * 6
    kept = repository.records(TASK, ROUND, ["seed", "words"])
    assert [(entry.kind, entry.server, entry.subject) for entry in kept] == [
        ("seed", 1, b"\x01"),
        ("seed", 1, b"\x02"),
        ("seed", 2, b""),
        ("seed", 2, b""),
        ("words", 2, b""),
    ]
    assert set(kept) == set(entries[:5])
    assert reopen().records(TASK, ROUND, ["seed", "words"]) == kept


def test_a_record_is_added_once_and_never_replaced(reopen: Open) -> None:
    repository = reopen()
    later = PublicRecord(kind="seed", server=1, subject=b"", body=b"body", received_block=10)
    assert repository.add_record(TASK, ROUND, record())
    assert not repository.add_record(TASK, ROUND, later)
    assert repository.add_record(TASK, ROUND, record(body=b"another"))
    blocks = [entry.received_block for entry in reopen().records(TASK, ROUND, ["seed"])]
    assert blocks == [9, 9]


def test_records_belong_to_a_task_and_a_round(reopen: Open) -> None:
    repository = reopen()
    repository.add_record(TASK, ROUND, record())
    assert repository.records(TASK, Round(3), ["seed"]) == []
    assert repository.records(TaskId(2), ROUND, ["seed"]) == []
    assert repository.records(TASK, ROUND, ["words"]) == []
    assert repository.records(TASK, ROUND, []) == []


def test_records_are_found_by_what_they_are_about(reopen: Open) -> None:
    repository = reopen()
    wanted = [
        record("seed", 1, OWNER),
        record("seed", 1, OWNER, b"again"),
        record("words", 1, OWNER),
    ]
    others = [record("seed", 2, OWNER), record("seed", 1, OTHER_OWNER), record("final", 1, OWNER)]
    for entry in wanted + others:
        repository.add_record(TASK, ROUND, entry)
    repository.add_record(TASK, Round(3), record("seed", 1, OWNER, b"of another round"))
    found = repository.records_about(TASK, ROUND, ["seed", "words"], 1, OWNER)
    assert set(found) == set(wanted)
    everything = repository.records(TASK, ROUND, ["seed", "words"])
    assert found == [entry for entry in everything if entry in wanted]  # in the same order


# Submissions


def test_packages_are_durable(reopen: Open) -> None:
    repository = reopen()
    repository.add_package(TASK, ROUND, OWNER, FIRST, b"share")
    repository.add_package(TASK, ROUND, OWNER, FIRST, b"a repeat changes nothing")
    repository.add_package(TASK, ROUND, OWNER, SECOND, b"other share")
    repository = reopen()
    assert repository.package(TASK, ROUND, OWNER, FIRST) == b"share"
    assert repository.package(TASK, ROUND, OWNER, SECOND) == b"other share"
    assert repository.package(TASK, ROUND, OTHER_OWNER, FIRST) is None
    assert repository.package(TASK, Round(3), OWNER, FIRST) is None
    assert repository.package(TaskId(2), ROUND, OWNER, FIRST) is None


def test_one_receipt_for_each_owner_and_round(reopen: Open) -> None:
    repository = reopen()
    repository.claim_receipt(TASK, ROUND, OWNER, FIRST)
    repository.claim_receipt(TASK, ROUND, OWNER, FIRST)
    with pytest.raises(ConflictError, match="already submitted") as caught:
        repository.claim_receipt(TASK, ROUND, OWNER, SECOND)
    assert FIRST.hex() in str(caught.value)
    repository = reopen()
    with pytest.raises(ConflictError, match="already submitted"):
        repository.claim_receipt(TASK, ROUND, OWNER, SECOND)
    repository.claim_receipt(TASK, Round(3), OWNER, SECOND)
    repository.claim_receipt(TaskId(2), ROUND, OWNER, SECOND)
    repository.claim_receipt(TASK, ROUND, OTHER_OWNER, SECOND)
    assert repository.owner_count(TASK, ROUND) == 2
    assert repository.owner_count(TASK, Round(3)) == 1
    assert repository.owner_count(TASK, Round(4)) == 0
    repository.add_held(TASK, Round(4), 2, OWNER, b"sealed")
    repository.add_held(TASK, Round(4), 3, OWNER, b"sealed for another")
    assert repository.owner_count(TASK, Round(4)) == 1
    assert repository.knows_owner(TASK, Round(4), OWNER)
    assert not repository.knows_owner(TASK, Round(4), OTHER_OWNER)


def test_the_first_held_package_stays(reopen: Open) -> None:
    repository = reopen()
    kept = repository.add_held(TASK, ROUND, 3, OWNER, b"sealed")
    assert repository.add_held(TASK, ROUND, 3, OWNER, b"sealed") == kept
    assert repository.add_held(TASK, ROUND, 3, OWNER, b"another") == kept
    assert repository.files.get(content_hash(b"another")) is None  # it fills no disk
    assert repository.add_held(TASK, ROUND, 4, OWNER, b"another") != kept
    repository = reopen()
    assert repository.held(TASK, ROUND, 3, OWNER) == b"sealed"
    assert repository.held(TASK, ROUND, 4, OWNER) == b"another"
    assert repository.held(TASK, ROUND, 5, OWNER) is None
    assert repository.held(TASK, ROUND, 3, OTHER_OWNER) is None


# Locks and nonces


def test_a_lock_holds_its_first_value(reopen: Open) -> None:
    repository = reopen()
    assert repository.lock(TASK, ROUND, "seed", FIRST) == FIRST
    assert repository.lock(TASK, ROUND, "seed", SECOND) == FIRST
    repository = reopen()
    assert repository.lock(TASK, ROUND, "seed", SECOND) == FIRST
    assert repository.lock(TASK, ROUND, "final", SECOND) == SECOND
    assert repository.lock(TASK, Round(3), "seed", SECOND) == SECOND
    assert repository.lock(TaskId(2), ROUND, "seed", SECOND) == SECOND


def test_a_lock_holds_one_value_under_two_threads(reopen: Open) -> None:
    repository = reopen()
    for attempt in range(15):
        barrier = Barrier(2)

        def take(value: bytes, *, barrier: Barrier = barrier, number: int = attempt) -> bytes:
            barrier.wait()
            return repository.lock(TASK, Round(number), "seed", value)

        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(take, (FIRST, SECOND))
        assert first == second
        assert first in (FIRST, SECOND)


def test_a_lock_holds_one_value_for_two_processes(tmp_path: Path) -> None:
    one, two = open_folder(tmp_path), open_folder(tmp_path)
    assert one.lock(TASK, ROUND, "seed", FIRST) == FIRST
    assert two.lock(TASK, ROUND, "seed", SECOND) == FIRST
    assert two.add_record(TASK, ROUND, record())
    assert not one.add_record(TASK, ROUND, record())
    one.close()
    two.close()


def test_a_nonce_is_used_once(reopen: Open) -> None:
    repository = reopen()
    assert repository.use_nonce(FIRST)
    assert not repository.use_nonce(FIRST)
    assert repository.use_nonce(SECOND)
    assert not reopen().use_nonce(SECOND)


def test_a_nonce_is_used_once_under_two_threads(reopen: Open) -> None:
    repository = reopen()
    for attempt in range(10):
        nonce = digest(f"nonce {attempt}")
        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(repository.use_nonce, [nonce] * 4)) == 1


# Published content


def test_shares_are_not_published(reopen: Open) -> None:
    repository = reopen()
    repository.add_package(TASK, ROUND, OWNER, FIRST, b"share")
    held = repository.add_held(TASK, ROUND, 3, OWNER, b"sealed")
    share = repository.files.put(b"share")
    for name, content in ((share, b"share"), (held, b"sealed")):
        assert repository.published(name) is None
        assert repository.files.get(name) == content  # it is there, but private
        assert reopen().published(name) is None


def test_published_content_is_durable(reopen: Open) -> None:
    repository = reopen()
    name = repository.publish(b"artefact")
    assert repository.publish(b"artefact") == name
    assert reopen().published(name) == b"artefact"
    assert repository.published(digest("nothing")) is None


def test_content_is_on_disk_before_it_is_recorded(
    reopen: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = reopen()

    def crash(_content: bytes) -> bytes:
        raise OSError("no space left")

    monkeypatch.setattr(repository.files, "put", crash)
    with pytest.raises(OSError, match="no space"):
        repository.add_package(TASK, ROUND, OWNER, FIRST, b"share")
    with pytest.raises(OSError, match="no space"):
        repository.publish(b"artefact")
    repository = reopen()
    assert repository.package(TASK, ROUND, OWNER, FIRST) is None
    repository.add_package(TASK, ROUND, OWNER, FIRST, b"share")
    assert repository.package(TASK, ROUND, OWNER, FIRST) == b"share"


# Identity


def test_a_folder_belongs_to_one_server(tmp_path: Path) -> None:
    open_folder(tmp_path).close()
    open_folder(tmp_path).close()
    for other in (
        {"chain_id": 2},
        {"contract": address("another contract")},
        {"server": address("another server")},
    ):
        with pytest.raises(ConfigError, match="another server or contract") as caught:
            open_folder(tmp_path, **other)
        error = caught.value
        assert error.hint
        assert error.got != error.want  # shows what differs
        assert str(tmp_path) in str(error)
    open_folder(tmp_path).close()


def test_writes_survive_a_power_cut(tmp_path: Path) -> None:
    repository = open_folder(tmp_path)
    with repository.database.engine.connect() as connection:
        settings = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
            for name in ("journal_mode", "synchronous", "busy_timeout")
        ]
    repository.close()
    assert settings == ["wal", 2, 5_000]


def test_the_folder_is_the_servers_alone(tmp_path: Path) -> None:
    open_folder(tmp_path / "data").close()
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


def test_a_package_is_there_only_with_its_file(reopen: Open) -> None:
    repository = reopen()
    assert not repository.has_package(TASK, ROUND, OWNER, FIRST)
    repository.add_package(TASK, ROUND, OWNER, FIRST, b"package")
    assert repository.has_package(TASK, ROUND, OWNER, FIRST)
    assert not repository.has_package(TASK, ROUND, OWNER, SECOND)
    repository.files.delete(content_hash(b"package"))
    assert not repository.has_package(TASK, ROUND, OWNER, FIRST)
