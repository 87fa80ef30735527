"""The log, the figures and the agents: who took over from whom, how long it took, who was seen."""

from __future__ import annotations

import csv
import json
import math
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from support.fleet import hermetic
from support.past import MINUTE, with_a_past

from coordledger import CoordledgerError, Failed
from coordledger.client.index import store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.fleet import Fleet

    from coordledger import AgentStats, Ledger

    Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def past(founded: Callable[..., Fleet], tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """What each test has a copy of."""
    root = tmp_path_factory.mktemp("past")
    fleet = with_a_past(root / "fleet", hermetic(root))
    fleet.close()
    return fleet.forgetful()


@pytest.fixture
def busy(past: Fleet, tmp_path: Path, env: dict[str, str]) -> Iterator[Fleet]:
    fleet = past.copy(tmp_path / "fleet", env)
    yield fleet
    fleet.close()


@pytest.fixture
def alice(busy: Fleet) -> Ledger:
    return busy.ledger("alice")


def index_of(fleet: Fleet, agent: str) -> Path:
    return fleet.clone(agent) / ".git" / "coordledger" / "main" / store.NAME


def test_the_log_tells_who_took_over_from_whom_and_how_late(alice: Ledger) -> None:
    log = alice.log(task="slow")
    assert [(one.kind, one.agent) for one in log] == [
        ("submit", "alice"),
        ("claim", "alice"),
        ("claim", "bob"),
        ("handoff", "bob"),
        ("claim", "carol"),
        ("complete", "carol"),
    ]
    _, first, taken, _, handed, done = log
    assert first.before == ()
    (before,) = taken.before
    assert (before.what, before.agent, before.task) == ("took over", "alice", "slow")
    assert before.expires_at == first.at + 10 * MINUTE
    assert taken.at - before.expires_at > 29 * MINUTE
    assert [(one.what, one.agent) for one in handed.before] == [("was handed", "bob")]
    assert [(one.what, one.agent) for one in done.before] == [("done", "carol")]
    assert done.before[0].claimed_at == handed.at
    assert {(one.verdict, one.checked) for one in log} == {("authentic", "here")}
    (forced,) = alice.log(kinds=["release"])
    assert [(one.what, one.agent) for one in forced.before] == [("forced", "bob")]
    assert forced.text == "bob is gone"


def test_the_log_is_narrowed_down_by_time_agent_kind_and_number(alice: Ledger) -> None:
    everything = alice.log()
    assert [one.seq for one in everything] == [*range(alice.head().seq + 1)]
    recent = datetime.now(UTC) - 30 * MINUTE
    assert alice.log(since=recent) == [one for one in everything if one.at >= recent]
    assert alice.log(until=recent) == [one for one in everything if one.at < recent]
    assert alice.log(agent="bob") == [one for one in everything if one.agent == "bob"]
    assert alice.log(kinds=["claim"], limit=2) == [o for o in everything if o.kind == "claim"][-2:]
    assert alice.log(after=everything[-3].seq) == everything[-2:]
    with pytest.raises(Failed) as caught:
        alice.log(kinds=["clam"])
    assert caught.value.code == "bad-value"


def test_what_comes_is_followed(busy: Fleet) -> None:
    alice, carol = busy.ledger("alice"), busy.ledger("carol")
    last = alice.head().seq
    following = alice.follow(after=last - 1)
    assert next(following).text == "it is done"
    carol.claim("new")
    carol.complete("new")
    assert [(one.kind, one.tasks) for one in (next(following), next(following))] == [
        ("claim", ("new",)),
        ("complete", ("new",)),
    ]
    following.close()


def test_the_figures_are_those_of_what_happened(alice: Ledger) -> None:
    found = alice.stats()
    by = {one.agent: one for one in found.agents}
    assert counts(by["alice"]) == (2, 0, 0, 0, 1, 0)
    assert counts(by["bob"]) == (2, 1, 0, 0, 0, 1)
    assert counts(by["carol"]) == (1, 0, 1, 0, 0, 0)
    assert counts(found.total) == (5, 1, 1, 0, 1, 1)
    duration = found.total.duration
    assert duration.count == 1
    assert duration.median == duration.p95 == duration.total
    assert duration.median
    assert 15 * MINUTE < duration.median < 16 * MINUTE
    assert found.total.waiting.count == 1
    hours = (found.until - found.since) / timedelta(hours=1)
    assert found.total.per_hour == pytest.approx(1 / hours, abs=0.001)
    late = alice.stats(since=datetime.now(UTC) - 30 * MINUTE)
    assert counts(late.total) == (3, 1, 1, 0, 1, 1)
    nothing = alice.stats(until=datetime.now(UTC) - 2000 * MINUTE)
    assert (nothing.agents, nothing.total.duration.median) == ((), None)


def counts(one: AgentStats) -> tuple[int, ...]:
    return (one.claimed, one.taken_over, one.done, one.given_back, one.lost, one.forced)


def test_agents_are_told_with_what_they_hold_and_when_they_were_seen(alice: Ledger) -> None:
    delegate = alice.delegate("helper")
    by = {one.agent: one for one in alice.activity()}
    assert by["alice"].holds == ("odd",)
    assert by["alice"].delegates == (delegate.agent,)
    assert by[delegate.agent].last_seen is None
    assert (by["carol"].holds, by["carol"].done_today, by["bob"].unread) == ((), 1, 1)
    assert by["bob"].keys == ("hmac-sha256",)
    log = alice.log(agent="bob")
    assert by["bob"].last_seen == log[-1].at


def test_history_and_messages_are_the_same_with_an_index_and_without(
    busy: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = busy.ledger("bob")
    bob.send("an answer", to="carol", thread=bob.inbox()[0].seq)
    bob.ack(everything=True)
    carol = busy.ledger("carol")
    monkeypatch.setattr("coordledger.client.scan._MANY", 0)

    def told() -> list[object]:
        thread = carol.messages()[0].seq
        asked = [{}, {"to": "bob"}, {"sender": "carol"}, {"thread": thread}, {"since": thread + 1}]
        return [carol.history("slow"), *(carol.messages(**one) for one in asked)]

    walked = told()
    assert not index_of(busy, "carol").exists()
    carol.log(limit=1)
    assert index_of(busy, "carol").exists()
    monkeypatch.setattr("coordledger.client.scan.newest_first", None)
    assert told() == walked


def test_a_python_without_sqlite_says_so_and_walks(
    busy: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    carol = busy.ledger("carol")
    monkeypatch.setitem(sys.modules, "coordledger.client.index.store", None)
    monkeypatch.delattr("coordledger.client.index.store", raising=False)
    with pytest.raises(CoordledgerError) as caught:
        carol.log()
    assert caught.value.code == "no-sqlite"
    assert [one.kind for one in carol.history("slow")][-1] == "complete"
    assert len(carol.messages()) == 1


def test_a_claim_does_not_load_sqlite(busy: Fleet) -> None:
    program = (
        "import sys; from coordledger import cli; code = cli.main(['claim', 'fresh']);"
        "print(code, 'sqlite3' in sys.modules, 'coordledger.client.index' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        cwd=busy.clone("bob"),
        env=busy.env,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.splitlines()[-1] == "0 False False"


# -- the commands


_LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')
_SAMPLE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")


def exposed(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """The samples of a text in Prometheus' format, by name and labels; each after its type, each
    family in one piece.
    """
    assert text.endswith("\n")
    types: dict[str, str] = {}
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for line in text.splitlines():
        if line.startswith("# "):
            _, what, name, rest = line.split(" ", 3)
            assert what in ("HELP", "TYPE")
            if what == "TYPE":
                assert name not in types
                assert rest in ("counter", "gauge", "summary")
                types[name] = rest
            continue
        sample = _SAMPLE.fullmatch(line)
        assert sample, line
        name, labels, value = sample.groups()
        family = re.sub("_(sum|count)$", "", name) if name not in types else name
        assert family == [*types][-1]
        pairs = tuple(_LABEL.findall(labels))
        assert "".join(f'{key}="{text}",' for key, text in pairs).rstrip(",") == labels
        assert pairs not in found.setdefault(name, {})
        found[name][pairs] = float(value)
    return found


def test_metrics_are_in_the_form_that_prometheus_reads(busy: Fleet, inside: Run) -> None:
    found = exposed(inside(busy, "stats", "--metrics", agent="alice", check=0).stdout)
    ledger = ("ledger", busy.ledger("alice").head().ledger)
    assert found["coordledger_takeovers_total"][ledger, ("agent", "bob")] == 1
    assert found["coordledger_completed_total"][ledger, ("agent", "carol")] == 1
    assert found["coordledger_tasks"][ledger, ("status", "expired")] == 1
    assert found["coordledger_records_total"][ledger,] == busy.ledger("alice").head().seq + 1
    assert found["coordledger_task_duration_seconds_count"][ledger,] == 1
    half = found["coordledger_task_duration_seconds"][ledger, ("quantile", "0.5")]
    assert half == found["coordledger_task_duration_seconds_sum"][ledger,] > 900


def test_labels_are_escaped() -> None:
    from coordledger.cli.metrics import _family

    lines = _family("x", "gauge", "X.", [("", {"a": 'q"\\\n', "b": "é"}, float("nan"))])
    ((labels, value),) = exposed("\n".join(lines) + "\n")["coordledger_x"].items()
    assert labels == (("a", 'q\\"\\\\\\n'), ("b", "é"))
    assert math.isnan(value)


def test_a_spreadsheet_and_json_have_the_same_figures(busy: Fleet, inside: Run) -> None:
    rows = [*csv.DictReader(inside(busy, "stats", "--csv", agent="bob").stdout.splitlines())]
    told = json.loads(inside(busy, "stats", "--json", agent="bob").stdout)
    lines = [*told["agents"], told["total"]]
    assert [row["agent"] for row in rows] == ["alice", "bob", "carol", ""]
    for row, one in zip(rows, lines, strict=True):
        names = ("claimed", "taken_over", "done", "given_back", "lost", "forced")
        assert [int(row[name]) for name in names] == [one[name] for name in names]
        median = one["duration"]["median"]
        assert row["duration_median"] == ("" if median is None else f"{median:.3f}")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("log", "--since", "the day after"), "--since: git reads no time in 'the day after'"),
        (("stats", "--until", "x\ny"), "--until: git reads no time in"),
        (("log", "--kind", "clam"), "clam"),
        (("log", "--follow", "--until", "now"), "either --follow or --until"),
        (("stats", "--metrics", "--csv"), "--metrics"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    busy: Fleet, inside: Run, argv: tuple[str, ...], words: str
) -> None:
    ran = inside(busy, *argv, agent="bob")
    assert ran.returncode in (1, 2)
    assert words in ran.stderr
    assert ran.stdout == ""


def test_now_and_a_moment_in_iso_form_are_times(busy: Fleet, inside: Run) -> None:
    assert "no records" in inside(busy, "log", "--since", "now", agent="bob", check=0).stdout
    everything = json.loads(inside(busy, "log", "--json", agent="bob").stdout)
    ran = inside(busy, "log", "--json", "--until", everything[5]["at"], agent="bob", check=0)
    before = everything[5]["at"][:19]  # git has no parts of a second
    assert json.loads(ran.stdout) == [one for one in everything if one["at"][:19] < before]


def test_a_limit_says_that_there_is_more(busy: Fleet, inside: Run) -> None:
    ran = inside(busy, "log", "--limit", "2", agent="bob", check=0)
    assert len(ran.stdout.splitlines()) == 3
    assert "these are the newest 2" in ran.stderr
    assert "these are" not in inside(busy, "log", "--limit", "0", agent="bob", check=0).stderr


def test_a_log_that_follows_prints_each_record_when_it_comes(busy: Fleet) -> None:
    command = [sys.executable, "-m", "coordledger", "log", "--follow", "--json", "--limit", "1"]
    with subprocess.Popen(
        command, cwd=busy.clone("bob"), env=busy.env, stdout=subprocess.PIPE, text=True
    ) as follower:
        assert follower.stdout
        try:
            assert json.loads(follower.stdout.readline())["kind"] == "send"
            busy.ledger("carol").claim("new")
            told = json.loads(follower.stdout.readline())
            assert (told["kind"], told["tasks"], told["checked"]) == ("claim", ["new"], "here")
        finally:
            follower.terminate()


def test_whatever_others_have_written_is_shown_harmless(busy: Fleet, inside: Run) -> None:
    busy.ledger("carol").claim("odd-one", note="\x1b[2J\nalice claim all \u202e")
    shown = inside(busy, "log", "--kind", "claim", agent="bob", check=0).stdout
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert shown.count("\n") == 7


def test_who_has_checked_a_record_is_told_where_that_is_not_this_reader(
    busy: Fleet, inside: Run, tmp_path: Path
) -> None:
    here = inside(busy, "log", "--task", "slow", agent="bob", check=0).stdout
    assert "CHECKED" not in here
    stranger = {"XDG_CONFIG_HOME": str(tmp_path / "nothing")}
    (busy.remote / "coordledger" / "master").unlink()
    there = inside(busy, "log", "--task", "slow", agent="bob", env=stranger, check=0).stdout
    assert there.splitlines()[0].split() == ["AT", "WHO", "WHAT", "TASK", "CHECKED", "NOTE"]
    assert there.count("nobody") == 7  # six records, and what that means
    told = json.loads(inside(busy, "log", "--json", agent="bob", env=stranger).stdout)
    assert {(one["verdict"], one["checked"]) for one in told} == {("unverified", "nobody")}


def test_two_processes_that_fill_at_once_tell_the_same(busy: Fleet) -> None:
    command = [sys.executable, "-m", "coordledger", "stats", "--json"]
    started = [
        subprocess.Popen(
            command, cwd=busy.clone("bob"), env=busy.env, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    told = [json.loads(one.communicate(timeout=60)[0])["agents"] for one in started]
    rates = ("per_hour", "per_day")
    told = [[{k: v for k, v in a.items() if k not in rates} for a in one] for one in told]
    assert told == [told[0]] * 4
    assert len(told[0]) == 3


# -- a copy that is damaged


def told_all(alice: Ledger) -> list[object]:
    """What of the ledger is told out of records that are looked up."""
    return [
        [entry.seq for entry in alice.log()],
        alice.stats().total.claimed,
        [event.seq for event in alice.history("slow")],
        [message.seq for message in alice.messages()],
    ]


def test_a_record_that_the_copy_has_lost_is_never_left_out(busy: Fleet, alice: Ledger) -> None:
    file = index_of(busy, "alice")
    told_all(alice)
    [lost] = [event.commit for event in alice.history("slow") if event.kind == "handoff"]
    folder = busy.clone("alice") / ".git" / "objects"
    (folder / str(lost)[:2] / str(lost)[2:]).unlink()
    again = (alice.log, lambda: alice.history("slow"))  # the others need not read it again
    for asked, filled in ((again, True), ((*again, alice.messages, alice.stats), False)):
        for ask in asked:
            if not filled:
                file.unlink(missing_ok=True)
            with pytest.raises(CoordledgerError) as caught:
                ask()
            assert caught.value.code == "bad-copy"


def test_ids_that_the_copy_has_lost_are_found_again(busy: Fleet, alice: Ledger) -> None:
    before, ids = told_all(alice), index_of(busy, "alice").with_name("index")
    content = ids.read_bytes()
    for first, last in ((0, 1), (5, 7), (len(content) // 41 - 1, len(content) // 41)):
        index_of(busy, "alice").unlink(missing_ok=True)
        ids.write_bytes(content[: 41 * first] + bytes(41 * (last - first)) + content[41 * last :])
        assert told_all(alice) == before
        assert ids.read_bytes() == content
