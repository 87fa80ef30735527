"""What the journal promises: an intent is in it until it is settled, and stands in it once."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from coordledger import files
from coordledger.client.journal import LANDED, OPEN, Intent, Journal
from coordledger.errors import Integrity
from coordledger.format import canonical
from coordledger.format.signing import Signed

if TYPE_CHECKING:
    from pathlib import Path

BASE = {"digest": "0" * 64, "seq": 0}


def intent(letter: str) -> Intent:
    return Intent(letter * 32, BASE, "alice", "s", f"claim {letter}")


A, B, C = map(intent, "abc")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "intents"


@pytest.fixture
def journal(folder: Path) -> Journal:
    return Journal(folder)


def held(journal: Journal) -> list[str]:
    """For people, in the order of their letters, each with its outcome."""
    return sorted(f"{one.what}: {one.outcome}" for one in journal.intents())


def test_a_journal_that_nobody_has_written_is_empty(journal: Journal, folder: Path) -> None:
    assert journal.intents() == []
    journal.forget(A)
    assert not folder.exists()


def test_what_is_recorded_outlives_the_process(journal: Journal, folder: Path) -> None:
    journal.record(A, B)
    assert Journal(folder).intents() == [A, B]
    journal.record(C)
    assert Journal(folder).intents() == [A, B, C]  # the oldest first


def test_an_intent_that_goes_on_with_others_stands_in_the_journal_once(journal: Journal) -> None:
    journal.record(A, B, C)
    journal.record(B, C)
    assert held(journal) == ["claim a: open", "claim b: open", "claim c: open"]
    journal.forget(A, C)
    assert journal.intents() == [B]
    journal.forget(B)
    assert journal.intents() == []


def test_settling_one_intent_of_a_batch_forgets_no_other(journal: Journal) -> None:
    journal.record(A, B, C)
    journal.record(A._replace(outcome=LANDED, seq=7))
    assert held(journal) == ["claim a: landed", "claim b: open", "claim c: open"]
    journal.record(A, C)
    assert held(journal) == ["claim a: open", "claim b: open", "claim c: open"]
    journal.forget(A)
    assert held(journal) == ["claim b: open", "claim c: open"]


def test_the_bytes_that_may_land_come_back_as_they_were(journal: Journal) -> None:
    record = {"op": A.op, "text": "n\u00e4h"}
    signed = Signed(canonical.encode(record), record, bytes(range(32)))
    journal.record(A.carrying(signed))
    [again] = journal.intents()
    assert (again.signed.payload, again.signed.record, again.signed.tag) == (
        signed.payload,
        record,
        signed.tag,
    )
    assert (again.op, again.outcome) == (A.op, OPEN)


def test_what_a_crash_leaves_beside_the_files_is_no_intent(journal: Journal, folder: Path) -> None:
    journal.record(A)
    (folder / "new").write_bytes(b"[{")
    assert journal.intents() == [A]
    journal.record(B)
    assert journal.intents() == [A, B]


@pytest.mark.parametrize("content", [b"", b"[", b"{}x", b'[{"op":"x"}]', b"[1]"])
def test_a_damaged_file_is_an_error_and_no_empty_journal(
    journal: Journal, folder: Path, content: bytes
) -> None:
    journal.record(A)
    (folder / f"{A.op}.json").write_bytes(content)
    with pytest.raises(Integrity, match="not readable") as caught:
        journal.intents()
    assert caught.value.code == "bad-copy"


def test_an_answer_is_kept_until_it_is_reported(journal: Journal, folder: Path) -> None:
    journal.waits_for_report = True
    journal.record(A, B)
    journal.record(C)
    assert Journal(folder).left_behind() == []  # their process lives, and is at them
    journal.answer(A, B)
    journal.release()
    assert journal.is_unreported
    assert Journal(folder).left_behind() == [C]  # their process lives, and is about to report
    journal.reported()
    assert Journal(folder).left_behind() == Journal(folder).intents() == [C]
    assert not journal.is_unreported


@pytest.mark.parametrize(("answered", "left"), [(A, B), (B, A)])
def test_what_went_with_an_answer_and_is_open_stays_for_others(
    journal: Journal, folder: Path, answered: Intent, left: Intent
) -> None:
    journal.waits_for_report = True
    journal.record(A, B)
    journal.answer(answered)
    journal.release()
    assert Journal(folder).left_behind() == [left]
    journal.reported()
    assert Journal(folder).intents() == [left]


def test_what_a_process_has_not_reported_is_left_behind_when_it_ends(folder: Path) -> None:
    dying = (
        "from pathlib import Path\n"
        "from coordledger.client.journal import Intent, Journal\n"
        f"journal, intent = Journal(Path({str(folder)!r})), {A!r}\n"
        "journal.waits_for_report = True\n"
        "journal.record(intent)\n"
        "journal.answer(intent)\n"
    )
    subprocess.run([sys.executable, "-c", dying], check=True)
    assert Journal(folder).left_behind() == [A]


def test_a_caller_that_reports_nothing_has_heard_at_once(journal: Journal) -> None:
    journal.record(A)
    journal.answer(A)
    assert journal.intents() == []


def test_what_is_not_wanted_is_left_to_whoever_comes_for_it(folder: Path) -> None:
    first = Journal(folder)
    first.record(A)
    first.record(B, C)
    first.release()
    second, third = Journal(folder), Journal(folder)
    assert second.take(lambda one: one == B) == [B]
    assert third.take(lambda _: True) == [A]  # those that go together have one owner
    second.release()
    assert third.take(lambda _: True) == [A, B, C]
    assert second.left_behind() == []


def test_what_another_process_writes_just_now_is_no_stray(journal: Journal, folder: Path) -> None:
    journal.record(A)
    path = folder / f"{B.op}.new"
    with path.open("wb") as file:
        assert files.try_lock(file.fileno())
        journal.record(C)
        assert path.exists()
    journal.record(C)
    assert not path.exists()


def test_a_file_that_its_owner_replaces_meanwhile_has_its_owner(
    journal: Journal, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.record(A)
    try_lock = files.try_lock

    def replaced_meanwhile(fd: int) -> bool:
        monkeypatch.undo()
        journal.record(A)
        return try_lock(fd)

    monkeypatch.setattr(files, "try_lock", replaced_meanwhile)
    assert Journal(folder).take(lambda _: True) == []


def test_an_interrupt_while_a_lock_is_given_back_closes_no_other_file_later(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The number of a closed file is given to the one that is opened next."""
    journal.record(A)
    close = os.close

    def interrupted(fd: int) -> None:
        close(fd)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", interrupted)
        with pytest.raises(KeyboardInterrupt):
            journal.release()
    with (tmp_path / "another").open("w") as another:
        journal.release()
        assert os.fstat(another.fileno())
