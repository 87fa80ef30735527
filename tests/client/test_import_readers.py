"""Files of other systems as rows: what each reader makes of them, hostile ones too."""

from __future__ import annotations

import json
import os
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import coordination_db as coord
from support.memory_ledger import MemoryLedger

from coordledger.client.importing import beads, exported, github, gptme, sources
from coordledger.client.importing.fitting import Ground, fit
from coordledger.client.importing.macs import Secrets
from coordledger.client.importing.rows import FactRow, MessageRow, TaskRow, Unfit
from coordledger.errors import Failed
from coordledger.format import canonical, records, timestamps

NOW = timestamps.parse("2026-11-21T03:10:00.000Z")
SECRETS = Secrets({"COORDINATION_SECRET_ALICE": "alice-secret"}, None)
FLEET = MemoryLedger()
GROUND = Ground(
    policy=FLEET.state.ledger["policy"],
    is_active=FLEET.state.has_active_key,
    task=FLEET.state.task,
    fact=FLEET.state.fact,
    earlier={},
    now=NOW,
)


@pytest.fixture
def db(tmp_path: Path) -> Any:
    made = coord.create(tmp_path / "coord.db")
    yield made
    made.close()


def rows_of(db: sqlite3.Connection, tmp_path: Path, secrets: Secrets = SECRETS) -> Any:
    """The rows of the database: table and id -> row."""
    db.commit()
    rows = gptme.read(tmp_path / "coord.db", secrets, NOW)
    assert len({row.origin for row in rows}) == len(rows)
    return {tuple(row.origin): row for row in rows}


class TestWork:
    @pytest.mark.parametrize(
        ("status", "expected"),
        [("available", "open"), ("claimed", "open"), ("abandoned", "open"), ("completed", "done")],
    )
    def test_has_a_status_here_and_goes_on_with_its_epoch(
        self, db: Any, tmp_path: Path, status: str, expected: str
    ) -> None:
        coord.work(db, "t", status=status, claimer="alice", epoch=4, expires_at=coord.EARLIER)
        row = rows_of(db, tmp_path)["work", "t"]
        assert (row.status, row.epoch, row.holder) == (expected, 4, None)
        assert (row.legacy.agent, row.legacy.until) == ("alice", coord.EARLIER)

    def test_that_is_held_names_its_holder_until_the_lease_ends(
        self, db: Any, tmp_path: Path
    ) -> None:
        coord.work(db, "t", status="claimed", claimer="bob", epoch=1, expires_at=coord.LATER)
        row = rows_of(db, tmp_path)["work", "t"]
        assert (row.holder, timestamps.show(row.until)) == ("bob", "2099-01-01T00:00:00.000Z")

    @pytest.mark.parametrize(
        ("claimer", "signed", "change", "mac"),
        [
            ("alice", "canonical", {}, "valid"),
            ("alice", "canonical", {"epoch": 9}, "invalid"),
            ("alice", "canonical", {"claimer": "bob"}, "unknown"),
            ("alice", "canonical", {"expires_at": coord.EARLIER}, "invalid"),
            ("alice", "canonical", {"hmac": "AAAA"}, "invalid"),
            ("alice", "canonical", {"hmac": "\u00fc"}, "invalid"),
            ("alice", "canonical", {"hmac": None}, "missing"),
            ("alice", "canonical", {"hmac": ""}, "missing"),
            ("alice", "canonical", {"result": "another", "status": "completed"}, "valid"),
            ("bob", "canonical", {}, "unknown"),
            ("alice", "joined", {}, "unknown"),
            ("alice", "joined-hex", {}, "unknown"),
        ],
    )
    def test_says_what_its_mac_is_worth(
        self, db: Any, tmp_path: Path, claimer: str, signed: str, change: Any, mac: str
    ) -> None:
        given = {"status": "claimed", "claimer": claimer, "epoch": 1, "expires_at": coord.LATER}
        coord.work(db, "t", signed, **given)
        for column, value in change.items():
            db.execute(f"UPDATE work SET {column} = ?", (value,))
        row = rows_of(db, tmp_path)["work", "t"]
        assert row.legacy.mac == mac
        assert ("older form" in str(row.notes)) == signed.startswith("joined")

    def test_keeps_its_metadata_and_why_it_was_abandoned(self, db: Any, tmp_path: Path) -> None:
        coord.work(db, "a", metadata='{"repo": "o/r", "n": 7}')
        coord.work(db, "b", metadata="no JSON")
        coord.work(db, "c", status="abandoned", epoch=1, result="needs a GPU")
        rows = rows_of(db, tmp_path)
        assert rows["work", "a"].meta == {"repo": "o/r", "n": "7"}
        assert rows["work", "b"].meta == {"metadata": "no JSON"}
        assert rows["work", "c"].sections == [("abandoned there", "needs a GPU")]

    @pytest.mark.parametrize(
        "row",
        [
            {"status": "unheard-of"},
            {"status": b"\xff"},
            {"epoch": -1},
            {"epoch": 2**62},
            {"epoch": "many"},
            {"epoch": 1.5},
        ],
    )
    def test_that_means_nothing_is_told_of(self, db: Any, tmp_path: Path, row: Any) -> None:
        coord.work(db, "t", **row)
        coord.work(db, "u")
        rows = rows_of(db, tmp_path)
        assert isinstance(rows["work", "t"], Unfit)
        assert isinstance(rows["work", "u"], TaskRow)

    def test_may_have_values_of_any_type(self, db: Any, tmp_path: Path) -> None:
        odd = {"claimer": 7, "claimed_at": 1.5, "expires_at": b"\xff\x00", "hmac": b"\x00"}
        coord.work(db, "t\0u", status="claimed", result="\0", metadata=b"\xff", epoch=1, **odd)
        db.execute("INSERT INTO work (task_id) VALUES (NULL)")
        rows = rows_of(db, tmp_path)
        assert rows["work", "t\0u"].legacy.agent == "7"
        assert rows["work", "row 2"].why == "it has no task_id"


class TestOtherTables:
    def test_messages_are_archived_with_what_their_mac_is_worth(
        self, db: Any, tmp_path: Path
    ) -> None:
        coord.message(db, "all", signed=True)
        coord.message(db, "bob", signed=True, recipient="bob", channel="#odd channel")
        coord.message(db, "")
        coord.message(db, "unsigned", sender="mallory", hmac="x")
        rows = rows_of(db, tmp_path)
        first, second = rows["messages", "1"], rows["messages", "2"]
        assert (first.to, first.channel, first.body) == (None, "general", "all")
        assert (second.to, second.channel) == ("bob", "#odd channel")
        assert [first.legacy.mac, second.legacy.mac] == ["valid", "valid"]
        assert rows["messages", "3"].why == "its body is empty"
        assert rows["messages", "4"].legacy.mac == "unknown"
        assert timestamps.show(first.legacy.at) == "2026-01-01T00:00:00.000Z"

    def test_a_body_that_was_changed_has_no_valid_mac(self, db: Any, tmp_path: Path) -> None:
        coord.message(db, "pay 10", signed=True)
        db.execute("UPDATE messages SET body = 'pay 10000'")
        assert rows_of(db, tmp_path)["messages", "1"].legacy.mac == "invalid"

    def test_events_are_tasks(self, db: Any, tmp_path: Path) -> None:
        event = {"trigger_type": "mention", "source": "github", "thread_key": "o/r:2"}
        coord.insert(db, "events", **event, state="pending", priority=50, retry_count=2, number=7)
        coord.insert(db, "events", **event, state="completed", result="success", result_detail="x")
        coord.insert(db, "events", **event, state="dead_letter", retry_count=3)
        rows = rows_of(db, tmp_path)
        one, two, three = (rows["events", str(n)] for n in (1, 2, 3))
        assert (one.name, one.title, one.priority) == ("event-1", "mention o/r:2", 50)
        assert (one.attempts, one.meta["number"], one.labels) == (2, "7", ["mention"])
        assert (two.status, two.result, two.attempts) == ("done", "success: x", 0)
        assert (three.status, three.is_dead) == ("open", True)

    def test_facts_that_have_not_ended_and_leases_that_cannot_come(
        self, db: Any, tmp_path: Path
    ) -> None:
        end = NOW / 1000 + 60
        for key, until in (("live", end), ("over", 1.0), ("odd", "never"), ("wild", 1e300)):
            given = {"fact_key": key, "value": "v", "created_at": 0.0, "expires_at": until}
            coord.insert(db, "fact_bus", **given)
        coord.insert(db, "leases", path="src/a.py", expires_at=coord.LATER)
        rows = rows_of(db, tmp_path)
        assert rows["fact_bus", "live"].until == NOW + 60_000
        assert [rows["fact_bus", key].why for key in ("over",)] == ["it has ended"]
        assert isinstance(rows["fact_bus", "odd"], Unfit)
        assert isinstance(rows["fact_bus", "wild"], Unfit)
        assert "--path" in rows["leases", "src/a.py"].why

    def test_that_are_older_have_fewer_columns_or_are_not_there(self, tmp_path: Path) -> None:
        schema = "CREATE TABLE work (task_id TEXT PRIMARY KEY, claimer TEXT, epoch INTEGER,"
        db = coord.create(tmp_path / "coord.db", f"{schema} expires_at TEXT, status TEXT);")
        db.execute("INSERT INTO work VALUES ('t', 'bob', 2, NULL, 'available')")
        row = rows_of(db, tmp_path)["work", "t"]
        assert (row.legacy.mac, row.legacy.agent) == ("missing", "bob")
        db.close()


class TestADatabase:
    def refusal(self, path: Path) -> str:
        with pytest.raises(Failed) as refused:
            gptme.read(path, SECRETS, NOW)
        assert refused.value.code == "bad-import"
        return refused.value.message

    def test_that_is_none_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "x"
        path.write_bytes(b"no database at all" * 100)
        assert "not a database" in self.refusal(path)
        path.write_bytes(b"")
        assert "neither" in self.refusal(path)
        assert "No such file" in self.refusal(tmp_path / "absent")
        assert "no regular file" in self.refusal(tmp_path)

    def test_is_never_a_pipe_that_is_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        assert "no regular file" in self.refusal(tmp_path / "fifo")

    def test_of_which_bytes_have_changed_gives_what_can_be_read_or_is_refused(
        self, db: Any, tmp_path: Path
    ) -> None:
        for n in range(40):
            coord.work(db, f"t{n}", metadata="x" * 300, claimer="alice", hmac="x")
        coord.message(db, "hello")
        db.commit()
        content, dice, read = (tmp_path / "coord.db").read_bytes(), random.Random(1), 0
        for _ in range(100):
            torn = bytearray(content[: dice.choice([len(content), dice.randrange(len(content))])])
            for _ in range(dice.choice([1, 5, 100])):
                torn[dice.randrange(dice.choice([1, len(torn), len(torn)]))] = dice.randrange(256)
            (tmp_path / "torn").write_bytes(torn)
            try:
                plans = fit(gptme.read(tmp_path / "torn", SECRETS, NOW), GROUND, "there", [])
            except Failed as fault:
                assert fault.code == "bad-import"
                continue
            for plan in plans:
                if plan.outcome == "new" and plan.kind == "task":
                    made = FLEET.record("alice", "import", **plan.fields, rev=1, offer=None)
                    records.check(made)
            read += 1
        assert read > 10

    def test_by_a_link_is_read_and_a_link_beside_it_is_not(self, db: Any, tmp_path: Path) -> None:
        coord.work(db, "t")
        db.commit()
        link = tmp_path / "link"
        link.symlink_to(tmp_path / "coord.db")
        assert len(gptme.read(link, SECRETS, NOW)) == 1
        (tmp_path / "coord.db-wal").symlink_to("/etc/passwd")
        assert "symbolic link" in self.refusal(link)

    def test_in_use_is_read_with_its_log_and_nothing_is_left_beside_it(
        self, db: Any, tmp_path: Path
    ) -> None:
        db.execute("PRAGMA journal_mode = WAL")
        coord.work(db, "t")
        db.commit()
        before = sorted(path.name for path in tmp_path.iterdir())
        contents = [(tmp_path / name).read_bytes() for name in before]
        assert "coord.db-wal" in before
        assert len(gptme.read(tmp_path / "coord.db", SECRETS, NOW)) == 1
        assert sorted(path.name for path in tmp_path.iterdir()) == before
        assert [(tmp_path / name).read_bytes() for name in before] == contents

    def test_with_a_huge_value_loses_that_row_alone(
        self, db: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(gptme, "MAX_VALUE", 10_000)
        coord.work(db, "huge", result="x" * 20_000)
        coord.work(db, "small")
        db.commit()
        rows = gptme.read(tmp_path / "coord.db", SECRETS, NOW)
        assert [type(row) for row in rows] == [Unfit, TaskRow]
        assert "too big" in rows[0].why


class TestSecrets:
    def test_are_found_in_a_folder_before_the_environment(self, tmp_path: Path) -> None:
        (tmp_path / "alice.secret").write_text("of the file\n")
        secrets = Secrets(
            {"COORDINATION_SECRET_ALICE": "x", "COORDINATION_SECRET_B_C": "y"}, tmp_path
        )
        assert secrets.of("alice") == b"of the file"
        assert secrets.of("b-c") == b"y"
        assert secrets.of("nobody") is None

    @pytest.mark.parametrize("agent", ["", "..", "../x", "a/b", "a\0b", ".hidden"])
    def test_of_a_name_that_is_a_path_are_not_looked_for(self, tmp_path: Path, agent: str) -> None:
        folder = tmp_path / "secrets"
        folder.mkdir()
        (tmp_path / "x.secret").write_text("s")
        (folder / ".hidden").write_text("s")
        (folder / "a").mkdir()
        (folder / "a" / "b.secret").write_text("s")
        assert Secrets({}, folder).of(agent) is None

    def test_need_their_folder(self, tmp_path: Path) -> None:
        with pytest.raises(Failed, match="no folder"):
            Secrets({}, tmp_path / "absent")


def issue(**given: Any) -> bytes:
    return json.dumps(
        {"id": "bd-1", "title": "T", "status": "open", "priority": 1} | given
    ).encode()


class TestBeads:
    def test_an_issue_is_a_task(self) -> None:
        links = [
            {"issue_id": "bd-1", "depends_on_id": "bd-2", "type": "blocks"},
            {"issue_id": "bd-1", "depends_on_id": "bd-3", "type": "waits-for"},
            {"issue_id": "bd-1", "depends_on_id": "bd-9", "type": "parent-child"},
            {"issue_id": "bd-1", "depends_on_id": "bd-4", "type": "related"},
        ]
        (row,) = beads.read(
            issue(labels=["a"], dependencies=links, description="D", design="E", assignee="bob")
        )
        assert (row.name, row.title, row.priority, row.labels) == ("bd-1", "T", 3, ["a"])
        assert (row.after, row.parent) == (["bd-2", "bd-3"], "bd-9")
        assert (row.body, row.sections, row.legacy.agent) == ("D", [("design", "E")], "bob")
        assert row.notes == ["1 links that make nobody wait are left behind"]

    @pytest.mark.parametrize(
        ("status", "expected"),
        [("open", "open"), ("in_progress", "open"), ("blocked", "open"), ("closed", "done")],
    )
    def test_a_closed_issue_is_done(self, status: str, expected: str) -> None:
        (row,) = beads.read(issue(status=status, close_reason="fixed"))
        assert row.status == expected
        assert row.result == ("fixed" if expected == "done" else None)

    def test_a_memory_is_a_fact_and_what_was_deleted_does_not_come(self) -> None:
        memory = b'{"_type": "memory", "key": "k", "value": "v"}\n'
        rows = beads.read(memory + b"\n" + issue(status="tombstone"))
        assert isinstance(rows[0], FactRow)
        assert isinstance(rows[1], Unfit)

    @pytest.mark.parametrize(
        "line",
        [
            b"{",
            b"[]",
            b'"x"',
            b"\xff\xfe",
            b"[" * 100_000,
            b"{}",
            issue(id=None),
            issue(id=[]) + b"x",
            b"1" * 5000,
        ],
    )
    def test_a_line_that_is_no_issue_is_told_of(self, line: bytes) -> None:
        good = issue()
        odd, row = beads.read(line + b"\n" + good)
        assert isinstance(odd, Unfit)
        assert row.name == "bd-1"

    @pytest.mark.parametrize("priority", [-1, True, "1", 1.5, None, 10**30])
    def test_a_priority_that_is_none_is_the_middle_one(self, priority: Any) -> None:
        assert beads.read(issue(priority=priority))[0].priority == 2


def gh(**given: Any) -> bytes:
    one = {"number": 7, "url": "https://github.com/o/r/issues/7", "title": "T", "state": "OPEN"}
    return json.dumps([one | given]).encode()


class TestGitHub:
    def test_an_issue_is_a_task(self) -> None:
        labels = [{"name": "bug"}, {"name": "good first issue"}]
        blocked = [{"number": 3, "url": "https://github.com/o/r/issues/3"}]
        (row,) = github.read(
            gh(labels=labels, body="B", assignees=[{"login": "bob"}], blockedBy=blocked), Path("x")
        )
        assert (row.name, row.title, row.body) == ("github:o/r#7", "T", "B")
        assert row.labels == ["bug", "good first issue"]
        assert (row.after, row.legacy.agent) == (["github:o/r#3"], "bob")

    def test_a_closed_one_is_done_and_says_how(self) -> None:
        (row,) = github.read(gh(state="CLOSED", stateReason="NOT_PLANNED"), Path("x"))
        assert (row.status, row.result) == ("done", "closed there: not planned")

    def test_one_without_a_url_needs_its_repository(self) -> None:
        (row,) = github.read(gh(url=None), Path("x"))
        assert isinstance(row, Unfit)
        (row,) = github.read(gh(url=None), Path("x"), "me/it")
        assert row.name == "github:me/it#7"

    @pytest.mark.parametrize("content", [b"", b"{", b"7", b"[" * 100_000, b"\xff"])
    def test_what_is_no_list_of_issues_is_refused(self, content: bytes) -> None:
        with pytest.raises(Failed) as refused:
            github.read(content, Path("x"))
        assert refused.value.code == "bad-import"


TEXTS = st.text(st.characters(), max_size=9) | st.sampled_from(["\ud800", "a\udc80", "\0"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from(
    [
        "id",
        "title",
        "status",
        "priority",
        "labels",
        "dependencies",
        "metadata",
        "assignee",
        "task",
        "epoch",
        "attempts",
        "meta",
        "after",
        "parent",
        "body",
        "number",
        "url",
        "state",
        "blockedBy",
        "assignees",
        "comments",
        "not_before",
        "expires_at",
    ]
)


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(NAMES, JSON, max_size=8))
def test_no_json_makes_a_reader_fail(found: dict[str, Any]) -> None:
    line = json.dumps(found).encode()
    for rows in (beads.read(line), exported.read(line, NOW), github.read(line, Path("x"), "o/r")):
        assert [type(row) in (TaskRow, FactRow, MessageRow, Unfit) for row in rows] == [True]
        for plan in fit(rows, GROUND, "there", []):
            if plan.outcome == "new" and plan.kind == "task":
                made = FLEET.record("alice", "import", **plan.fields, rev=1, offer=None)
                canonical.decode(canonical.encode(records.check(made)))


def test_a_text_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 101)
    with pytest.raises(Failed, match="more than 100"):
        sources.read(tmp_path / "big", 100)


def test_tables_that_compute_give_no_row(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "coord.db")
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT * FROM n"
    db.execute(f"CREATE VIEW work AS {endless}")
    db.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY, body TEXT AS ('made up'))")
    db.execute("INSERT INTO messages DEFAULT VALUES")
    db.commit()
    db.close()
    (row,) = gptme.read(tmp_path / "coord.db", SECRETS, NOW)
    assert isinstance(row, Unfit)
