"""The index of records: however it was filled or spoilt, it tells what the chain does."""

from __future__ import annotations

import sqlite3
import stat
from typing import TYPE_CHECKING, Any

import pytest
from support.copy_in_memory import CopyInMemory
from support.diced_ledger import TASKS, told

from coordledger.client.index import Asked, store
from coordledger.client.index.store import Stale, ask, ask_if_there
from coordledger.errors import Failed, Integrity

if TYPE_CHECKING:
    from pathlib import Path

    from coordledger.client.index.store import Index


def everything(index: Index) -> list[Any]:
    """All that the index can be asked."""
    places = [(row.seq, row.oid) for row in index.newest(Asked())]
    return [
        index.newest(Asked()),
        [index.turns_of(one) for one in index.read(places)],
        [index.places_of(task) for task in TASKS],
        index.counts(None, None),
        index.last_seen(),
        index.messages(1000),
    ]


@pytest.fixture
def copy(tmp_path: Path) -> CopyInMemory:
    return CopyInMemory(told(1, 40)[0], tmp_path / "copy")


def seqs(index: Index) -> list[int]:
    return [row.seq for row in index.newest(Asked())]


def spoilt(copy: CopyInMemory, *statements: str) -> None:
    """Fill the file, and change it."""
    ask(copy, seqs)
    db = sqlite3.connect(copy.local.folder / store.NAME, isolation_level=None)
    for statement in statements:
        db.execute(statement)
    db.close()


def test_an_index_that_is_whole_reads_no_record_again(copy: CopyInMemory) -> None:
    ask(copy, seqs)
    before = copy.reads
    assert ask(copy, seqs) == [*range(40)]
    assert copy.reads == before


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE covered SET version = 99",
        "UPDATE covered SET ledger = 'another'",
        "UPDATE covered SET first = 7",
        "UPDATE covered SET digest = 'x'",
        "UPDATE covered SET seq = 20, oid = 'x'",
        "UPDATE covered SET seq = 900",
        "DELETE FROM covered",
        "DROP TABLE covered",
        "DROP TABLE records",
        "PRAGMA user_version = 7",
    ],
)
def test_one_that_is_not_of_this_chain_is_made_anew(copy: CopyInMemory, statement: str) -> None:
    spoilt(copy, statement)
    assert ask(copy, seqs) == [*range(40)]
    assert ask_if_there(copy, seqs) == [*range(40)]


def test_a_row_with_another_id_than_the_copy_has_at_its_place_is_not_shown(
    copy: CopyInMemory,
) -> None:
    spoilt(copy, f"UPDATE records SET oid = '{'7' * 40}' WHERE seq = 30")

    def question(index: Index) -> list[str]:
        return [one.oid for one in index.read([(r.seq, r.oid) for r in index.newest(Asked())])]

    assert ask_if_there(copy, question) is None
    assert ask(copy, question) == [oid for oid, _ in copy.ledger.log]
    assert ask_if_there(copy, question) is not None


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\0" + bytes(3000)])
def test_a_file_that_is_no_database_is_thrown_away(copy: CopyInMemory, content: bytes) -> None:
    ask(copy, seqs)
    for path in copy.local.folder.glob(f"{store.NAME}*"):
        path.unlink()
    (copy.local.folder / store.NAME).write_bytes(content)
    assert ask(copy, seqs) == [*range(40)]
    assert ask_if_there(copy, seqs) == [*range(40)]


def test_a_torn_file_is_thrown_away(copy: CopyInMemory) -> None:
    ask(copy, seqs)
    path = copy.local.folder / store.NAME
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert ask(copy, everything) == ask(copy, everything)
    assert ask(copy, seqs) == [*range(40)]


def test_where_the_history_was_reset_the_index_is_of_the_new_one(tmp_path: Path) -> None:
    copy = CopyInMemory(told(1, 40)[0], tmp_path)
    ask(copy, seqs)
    copy.ledger = told(2, 30)[0]
    copy.local = CopyInMemory(copy.ledger, tmp_path).local
    copy.local.indexed_ids, copy.local.id_at = copy._ids, copy._id_at
    assert ask(copy, lambda index: [row.oid for row in index.newest(Asked())]) == [
        oid for oid, _ in copy.ledger.log
    ]


def test_what_a_shallow_copy_has_is_indexed_from_there_on(tmp_path: Path) -> None:
    copy = CopyInMemory(told(1, 40)[0], tmp_path, first=25)
    assert ask(copy, seqs) == [*range(25, 40)]


def no_lock(*_: object) -> None:
    raise OSError(37, "No locks available")


def test_without_locks_the_records_are_walked(
    copy: CopyInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fcntl.flock", no_lock)
    assert ask(copy, seqs) == [*range(40)]
    assert ask_if_there(copy, seqs) is None


def test_where_the_folder_is_gone_the_records_are_walked(tmp_path: Path) -> None:
    copy = CopyInMemory(told(1, 40)[0], tmp_path / "copy")
    (tmp_path / "copy").rmdir()
    assert ask(copy, seqs) == [*range(40)]


def test_on_a_full_disk_the_records_are_walked(
    copy: CopyInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = sqlite3.connect

    def connect(path: Any, **kw: Any) -> sqlite3.Connection:
        db = real(path, **kw)
        if path != ":memory:":
            db.execute("PRAGMA max_page_count = 2")  # SQLITE_FULL, as a full disk has it
        return db

    monkeypatch.setattr(sqlite3, "connect", connect)
    assert ask(copy, seqs) == [*range(40)]


def test_while_another_process_writes_for_long_the_records_are_walked(
    copy: CopyInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy.length = 20
    ask(copy, seqs)
    copy.length = None
    monkeypatch.setattr(store, "_PATIENCE", 0.05)
    other = sqlite3.connect(copy.local.folder / store.NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert ask(copy, seqs) == [*range(40)]
    other.execute("ROLLBACK")
    assert ask_if_there(copy, seqs) == [*range(40)]
    other.close()


def test_who_uses_the_file_keeps_others_from_throwing_it_away(copy: CopyInMemory) -> None:
    def question(index: Index) -> list[int]:
        with store._file(copy, make=True) as second:
            second._db.execute("UPDATE records SET oid = 'x'")
        assert not store._discard(copy)
        return seqs(index)

    assert ask(copy, question) == [*range(40)]


def test_its_files_are_for_whom_the_folder_is(copy: CopyInMemory) -> None:
    folder = copy.local.folder
    folder.chmod(0o700)
    ask(copy, seqs)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {0o600}


def test_its_time_is_that_of_the_operation(copy: CopyInMemory) -> None:
    class Over:
        def left(self) -> float:
            raise Failed("timeout", "it is over")

    copy.git.deadline = Over()
    with pytest.raises(Failed, match="it is over"):
        ask(copy, seqs)


def test_records_of_another_history_among_the_ids_are_not_taken_in(copy: CopyInMemory) -> None:
    other = told(2, 40)[0]
    copy.ledger.log[20], kept = other.log[20], copy.ledger.log[20]
    with pytest.raises(Integrity):
        ask(copy, seqs)
    copy.ledger.log[20] = kept
    assert ask(copy, seqs) == [*range(40)]


def test_records_that_do_not_follow_each_other_are_a_bad_copy(copy: CopyInMemory) -> None:
    copy.local.indexed_ids = lambda seq, last: iter([oid for oid, _ in copy.ledger.log][:0:-1])
    with pytest.raises(Integrity) as caught:
        ask(copy, seqs)
    assert caught.value.code == "bad-copy"
    with pytest.raises(Stale), store._memory(copy):
        pass
