"""Imports into a real ledger, what the views say of them, and exports that are read again."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support import coordination_db as coord

from coordledger import Ledger
from coordledger.client.importing import landing
from coordledger.errors import Failed, Lost
from coordledger.format import timestamps

if TYPE_CHECKING:
    from pathlib import Path

    from support.fleet import Fleet

    from coordledger import Claim, Imported


@pytest.fixture
def coord_db(tmp_path: Path) -> Path:
    """A small database: a task of each status, three messages, an event, a fact, a lease."""
    path = tmp_path / "coord.db"
    db = coord.create(path)
    alice = {"claimer": "alice", "epoch": 4, "expires_at": coord.LATER}
    coord.work(db, "free one")
    coord.work(db, "held", "canonical", status="claimed", **alice)
    coord.work(db, "forged", "canonical", status="claimed", **alice | {"claimer": "bob"})
    db.execute("UPDATE work SET claimer = 'alice' WHERE task_id = 'forged'")
    coord.work(db, "finished", "canonical", status="completed", result="merged", **alice)
    coord.work(db, "x" * 300)
    coord.message(db, "hello", signed=True, recipient="bob")
    coord.message(db, "trust me", sender="mallory", hmac="x")
    coord.message(db, "")
    coord.insert(db, "events", trigger_type="ci", source="s", thread_key="k", retry_count=2)
    fact = {"fact_key": "k", "value": "v", "created_at": 0.0, "expires_at": 4e9}
    coord.insert(db, "fact_bus", **fact)
    coord.insert(db, "leases", path="src/", expires_at=coord.LATER)
    db.commit()
    db.close()
    return path


@pytest.fixture
def alice(fleet: Fleet) -> Ledger:
    fleet.enroll("bob")
    return fleet.ledger("alice")


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "alice.secret").write_text(coord.SECRETS["alice"])
    return folder


def outcomes(found: Imported) -> dict[tuple[str, str], str]:
    return {(row.table, row.id[:8]): row.outcome for row in found.rows}


EXPECTED = {
    ("work", "free one"): "imported",
    ("work", "held"): "imported",
    ("work", "forged"): "imported",
    ("work", "finished"): "imported",
    ("work", "xxxxxxxx"): "skipped",
    ("messages", "1"): "imported",
    ("messages", "2"): "imported",
    ("messages", "3"): "skipped",
    ("events", "1"): "imported",
    ("fact_bus", "k"): "imported",
    ("leases", "src/"): "skipped",
}


class TestADatabase:
    def test_comes_with_what_its_macs_are_worth(
        self, alice: Ledger, coord_db: Path, secrets: Path
    ) -> None:
        found = alice.import_from("gptme", coord_db, secrets=secrets)
        assert outcomes(found) == EXPECTED
        tasks = {claim.task: claim for claim in alice.tasks()}
        assert tasks.keys() == {"free%20one", "held", "forged", "finished", "event-1"}
        macs = {name: claim.legacy and claim.legacy.mac for name, claim in tasks.items()}
        assert macs == {
            "free%20one": "missing",
            "held": "valid",
            "forged": "invalid",
            "finished": "valid",
            "event-1": "missing",
        }
        assert {claim.by for claim in tasks.values()} == {"alice"}
        assert {claim.verdict for claim in tasks.values()} == {"authentic"}
        assert (tasks["held"].epoch, tasks["held"].offered_to) == (4, "alice")
        assert tasks["event-1"].attempts == 2
        assert alice.facts.get("k").value == "v"

    def test_in_a_dry_run_changes_nothing(self, alice: Ledger, coord_db: Path) -> None:
        before = alice.head().seq
        found = alice.import_from("gptme", coord_db, dry_run=True)
        expected = {key: "new" if it == "imported" else it for key, it in EXPECTED.items()}
        assert outcomes(found) == expected
        assert alice.head().seq == before

    def test_tells_of_the_whole_plan_before_anything_is_written(
        self, alice: Ledger, coord_db: Path
    ) -> None:
        before, heard = alice.head().seq, []

        def hear(plan: Imported) -> None:
            heard.append((plan.counts, alice.head(refresh=False).seq))

        alice.import_from("gptme", coord_db, before=hear)
        assert heard == [({"new": 8, "skipped": 3}, before)]

    def test_a_second_time_changes_nothing(
        self, alice: Ledger, coord_db: Path, secrets: Path
    ) -> None:
        alice.import_from("gptme", coord_db)
        head = alice.head()
        again = alice.import_from("gptme", coord_db, secrets=secrets)
        assert again.counts == {"exists": 8, "skipped": 3}
        assert alice.head() == head

    def test_a_second_time_finds_what_was_claimed_and_withdrawn_since(
        self, alice: Ledger, coord_db: Path
    ) -> None:
        alice.import_from("gptme", coord_db)
        alice.claim("held")
        alice.withdraw("free%20one")
        head = alice.head()
        assert alice.import_from("gptme", coord_db).counts == {"exists": 8, "skipped": 3}
        assert alice.head() == head

    def test_of_another_store_is_told_apart_by_its_source(
        self, alice: Ledger, coord_db: Path, tmp_path: Path
    ) -> None:
        alice.import_from("gptme", coord_db)
        db = coord.create(tmp_path / "other.db")
        coord.message(db, "another hello")
        db.commit()
        db.close()
        other = tmp_path / "other.db"
        assert alice.import_from("gptme", other).counts == {"conflict": 1}
        assert alice.import_from("gptme", other, source="other").counts == {"imported": 1}

    def test_where_a_task_is_in_the_way_is_a_conflict(self, alice: Ledger, coord_db: Path) -> None:
        alice.submit("held")
        found = alice.import_from("gptme", coord_db)
        assert found.counts == {"imported": 7, "conflict": 1, "skipped": 3}

    def test_comes_in_lots(
        self, alice: Ledger, coord_db: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(landing, "_LOT", 3)
        assert outcomes(alice.import_from("gptme", coord_db)) == EXPECTED

    def test_takes_an_admin(self, alice: Ledger, fleet: Fleet, coord_db: Path) -> None:
        with pytest.raises(Failed) as refused:
            fleet.ledger("bob").import_from("gptme", coord_db)
        assert refused.value.code == "not-permitted"

    @pytest.mark.parametrize(
        "given",
        [{"agents": {"x": "No Name"}}, {"source": ""}, {"source": "x" * 65}, {"form": "csv"}],
    )
    def test_needs_words_that_mean_something(
        self, alice: Ledger, coord_db: Path, given: dict[str, Any]
    ) -> None:
        form = given.pop("form", "gptme")
        with pytest.raises(Failed) as refused:
            alice.import_from(form, coord_db, **given)
        assert refused.value.code in ("bad-agent", "bad-value")

    def test_is_gone_on_with_where_an_import_was_interrupted(
        self, alice: Ledger, coord_db: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        land, lots = landing.batches.land, []

        def interrupted(batch: Any, writer: Any) -> None:
            lots.append(len(batch.operations))
            if len(lots) == 2:
                raise KeyboardInterrupt
            land(batch, writer)

        monkeypatch.setattr(landing, "_LOT", 3)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(landing.batches, "land", interrupted)
            alice.import_from("gptme", coord_db)
        again = alice.import_from("gptme", coord_db)
        assert again.counts == {"exists": 3, "imported": 5, "skipped": 3}
        assert len(alice.messages()) == 2

    def test_needs_a_copy_that_has_all_earlier_imports(
        self, alice: Ledger, fleet: Fleet, coord_db: Path
    ) -> None:
        alice.import_from("gptme", coord_db)
        fleet.git("clone", "-q", str(fleet.remote), str(fleet.root / "shallow"))
        shallow = Ledger.open(fleet.root / "shallow", "alice", remote="origin", environ=fleet.env)
        with shallow:
            shallow.join(depth=2)
            with pytest.raises(Failed, match="shallow"):
                shallow.import_from("gptme", coord_db)


class TestWhatWasHeld:
    def test_is_the_holders_to_take_and_nobody_elses(
        self, alice: Ledger, fleet: Fleet, coord_db: Path
    ) -> None:
        alice.import_from("gptme", coord_db, agents={"ali*": "bob/desk"})
        assert alice.claim("held").code == "offered"
        bob = fleet.ledger("bob")
        (offer,) = [one for one in bob.inbox() if one.task == "held"]
        assert (offer.sender, offer.verdict) == ("alice", "authentic")
        assert "held in gptme/work by alice until 2099" in offer.body
        won = bob.claim("held").claim
        assert won
        assert (won.epoch, won.handed_over_by, won.legacy) == (5, "alice", None)

    def test_is_offered_for_no_longer_than_a_lease_may_last(
        self, alice: Ledger, coord_db: Path
    ) -> None:
        alice.policy(max_ttl=60)
        alice.import_from("gptme", coord_db)
        record = next(e for e in alice.history("held") if e.kind == "import")
        line = alice.connection.replica.position().state.task("held")
        assert line
        until = timestamps.parse(line["offer"]["until"])
        assert until == record.at.timestamp() * 1000 + 60_000


class TestLooking:
    def test_a_task_that_was_done_there_shows_its_result_and_whose_word_that_is(
        self, alice: Ledger, coord_db: Path, secrets: Path
    ) -> None:
        alice.import_from("gptme", coord_db, secrets=secrets)
        done = alice.show("finished")
        assert (done.status, done.agent, done.result) == ("done", None, "merged")
        assert done.legacy
        assert (done.legacy.agent, done.legacy.source) == ("alice", "gptme/work")
        (event,) = alice.history("finished")
        assert (event.kind, event.agent) == ("import", "alice")
        assert event.legacy == done.legacy

    def test_an_edit_leaves_it_as_imported_and_a_reopened_one_is_not(
        self, alice: Ledger, coord_db: Path
    ) -> None:
        alice.import_from("gptme", coord_db)
        edited = alice.edit("finished", priority=3)
        assert (edited.result, edited.verdict) == ("merged", "authentic")
        assert edited.legacy
        won = alice.claim("finished", reopen=True).claim
        assert won
        assert (won.epoch, won.legacy) == (5, None)

    def test_a_body_is_shown_with_the_task(self, alice: Ledger, tmp_path: Path) -> None:
        line = {"id": "bd-1", "title": "T", "description": "D", "notes": "N"}
        (tmp_path / "i.jsonl").write_text(json.dumps(line))
        alice.import_from("beads", tmp_path / "i.jsonl")
        found = alice.describe("bd-1")
        assert (found.body, found.body_checked) == ("D\n\nnotes:\nN", "here")


def compared(claim: Claim) -> dict[str, Any]:
    """What an export and an import keep of a task."""
    names = ("task", "priority", "meta", "after", "title", "labels", "parent", "not_before")
    kept = {name: getattr(claim, name) for name in (*names, "epoch", "attempts", "result")}
    return kept | {"status": "done" if claim.status == "done" else "open"}


@pytest.fixture
def varied(fleet: Fleet, alice: Ledger) -> Ledger:
    """A ledger with tasks in every state."""
    bob = fleet.ledger("bob", session="s1")
    later = bob.submit("epic", title="All of it", body="How\n").last
    assert later
    bob.submit(
        "a", priority=9, labels=["x", "y"], meta={"k": "=1+1"}, after=["epic"], parent="epic"
    )
    bob.submit("z/1#2", priority=-3, not_before=later.at + timedelta(days=1), title="=cmd()")
    bob.submit("held", priority=2)
    bob.claim("held", note="+n")
    bob.submit("done", title="Done")
    bob.claim("done")
    bob.complete("done", result="@merged")
    bob.submit("gone")
    bob.claim("gone")
    bob.release("gone")
    bob.withdraw("gone")
    return bob


@pytest.mark.parametrize("form", ["jsonl", "beads"])
def test_an_export_that_is_imported_gives_the_same_list(
    varied: Ledger, make_fleet: Any, tmp_path: Path, form: str
) -> None:
    (tmp_path / "x").write_text(varied.export(form))
    other = make_fleet().ledger("alice")
    found = other.import_from({"jsonl": "coordledger"}.get(form, form), tmp_path / "x")
    assert found.counts == {"imported": 5, "skipped": 1}
    before = {claim.task: compared(claim) for claim in varied.tasks() if claim.task != "gone"}
    assert {claim.task: compared(claim) for claim in other.tasks()} == before
    bodies = {name: varied.describe(name).body for name in before}
    assert {name: other.describe(name).body for name in before} == bodies


def test_a_priority_that_was_edited_in_beads_is_the_one_that_counts(
    varied: Ledger, make_fleet: Any, tmp_path: Path
) -> None:
    issues = [json.loads(line) for line in varied.export("beads").splitlines()]
    (issue,) = [one for one in issues if one["id"] == "a"]
    assert (issue["priority"], issue["metadata"]["coordledger"]["priority"]) == (0, 9)
    issue["priority"] = 3
    (tmp_path / "x").write_text(json.dumps(issue | {"dependencies": []}))
    other = make_fleet().ledger("alice")
    other.import_from("beads", tmp_path / "x")
    assert other.show("a").priority == 1


def test_a_spreadsheet_has_no_formula(varied: Ledger) -> None:
    rows = list(csv.DictReader(io.StringIO(varied.export("csv"))))
    by_task = {row["task"]: row for row in rows}
    assert by_task["z/1#2"]["title"] == "'=cmd()"
    assert by_task["z/1#2"]["priority"] == "-3"
    assert (by_task["done"]["result"], by_task["held"]["note"]) == ("'@merged", "'+n")
    assert by_task["a"]["labels"] == "x y"
    assert by_task["epic"]["body"] == "How\n"
    cells = [cell for row in rows for name, cell in row.items() if name != "priority"]
    assert [cell for cell in cells if cell[:1] in tuple("=+-@\t\r\n")] == []


def test_an_export_in_no_known_form_is_refused(alice: Ledger) -> None:
    with pytest.raises(Failed) as refused:
        alice.export("xml")
    assert refused.value.code == "bad-value"


def test_messages_are_the_importers_and_say_who_wrote_them_there(
    alice: Ledger, fleet: Fleet, coord_db: Path, secrets: Path
) -> None:
    alice.import_from("gptme", coord_db, secrets=secrets)
    first, second = alice.messages()
    assert (first.sender, first.to, first.body) == ("alice", None, "hello")
    assert first.legacy
    assert (first.legacy.agent, first.legacy.to, first.legacy.mac) == ("alice", "bob", "valid")
    assert second.legacy
    assert (second.sender, second.legacy.agent) == ("alice", "mallory")
    assert second.legacy.mac == "unknown"
    assert [m.seq for m in alice.messages(sender="mallory")] == [second.seq]
    assert [m.seq for m in alice.messages(to="bob")] == [first.seq]
    bob = fleet.ledger("bob")
    assert [m for m in bob.inbox() if m.task is None] == []


def test_what_was_held_opens_no_gate_before_it_is_claimed(alice: Ledger, coord_db: Path) -> None:
    alice.import_from("gptme", coord_db)
    for task in ("held", "finished", "free%20one"):
        with pytest.raises(Lost) as lost:
            alice.require(task)
        assert lost.value.code == "not-live"
    alice.claim("held")
    assert alice.require("held").epoch == 5
