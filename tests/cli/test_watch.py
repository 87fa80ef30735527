"""The screen of `watch`, without a terminal: what it says at a moment, and what keys do to it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from rich.cells import cell_len
from support.hostile import TEXTS, is_harmless

from coordledger.cli.watch.frame import Fetch, Opened, frame, is_stale
from coordledger.cli.watch.keys import HELP, MAIN, NEWS, QUIT, RECORD, REFRESH, TASK, Ui, press
from coordledger.cli.watch.rows import countdown, panels_of
from coordledger.cli.watch.spans import ASCII, BAR, UNICODE, bar
from coordledger.client.claims import Claim, Last
from coordledger.client.reports import Activity, Before, Description, LogEntry, Status
from coordledger.client.watching import Watched

if TYPE_CHECKING:
    from collections.abc import Callable
    from subprocess import CompletedProcess

    from support.fleet import Fleet

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def claim(task: str, agent: str, begun: float, until: float, **kw: Any) -> Claim:
    """Held since `begun` minutes ago, for `until` minutes from now."""
    at, end = NOW - begun * MINUTE, NOW + until * MINUTE
    facts = {
        "task": task, "status": "claimed", "agent": agent, "session": "s1", "epoch": 1, "rev": 2,
        "claimed_at": at, "expires_at": end, "claimable_at": end, "note": None, "result": None,
        "priority": 0, "meta": {}, "after": (), "waits_for": (), "seq": 5, "commit": "c" * 40,
        "verdict": "authentic", "checked": "here",
        "last": Last("claim", agent, at, None, "authentic", "here"),
    }  # fmt: skip
    return Claim(**facts | kw)


def entry(seq: int, kind: str, agent: str, task: str = "", **kw: Any) -> LogEntry:
    facts = {
        "seq": seq, "at": NOW - (30 - seq) * MINUTE, "kind": kind, "agent": agent, "session": "s1",
        "tasks": (task,) if task else (), "epoch": 1, "text": None, "to": None, "channel": None,
        "ref": None, "old": None, "new": None, "before": (), "subject": "",
        "commit": "c" * 40, "verdict": "authentic", "checked": "here",
    }  # fmt: skip
    return LogEntry(**facts | kw)


def activity(agent: str, seen: float | None, *holds: str, unread: int = 0) -> Activity:
    at = None if seen is None else NOW - seen * MINUTE
    return Activity(agent, "agent", True, at, holds, 1, unread, ("ssh-ed25519",), ())


def reading(**kw: Any) -> Watched:
    status = Status(
        ledger="1f" * 16, ref="refs/coordledger/main", remote="origin", head="c" * 40, seq=1234,
        agent="alice", session="s1", enforcement="server", vouched=None, stopped_at=None,
        claims=(), unread=3,
    )  # fmt: skip
    over = Before("late", "took over", "bob", NOW - 99 * MINUTE, NOW - 21 * MINUTE)
    forced = Before("mine", "forced", "carol", NOW - 40 * MINUTE, NOW + 20 * MINUTE)
    facts = {
        "status": status,
        "held": (
            claim("calm", "bob", 10, 50, note="half of it"),
            claim("late", "carol", 20, 4),
            claim("over", "dave", 60, -2),
        ),
        "counts": {"open": 27, "claimed": 3, "done": 12},
        "stuck": 2,
        "agents": (
            activity("alice", 3),
            activity("bob", 2, "calm", unread=4),
            activity("carol", 20, "late"),
            activity("dave", 62, "over"),
        ),
        "news": (
            entry(20, "claim", "carol", "late", before=(over,)),
            entry(21, "release", "alice", "mine", before=(forced,), text="wrong branch"),
            entry(22, "land", "bob", "calm", ref="refs/heads/main", old="0" * 40, new="ab" * 20),
            entry(23, "send", "bob", to="alice", text="look at this\nand at that"),
        ),
        "as_of": NOW - timedelta(seconds=2),
    }
    return Watched(**facts | kw)


def drawn(
    watched: Watched,
    ui: Ui = Ui(),  # noqa: B008 - frozen
    fetch: Fetch = Fetch(5),  # noqa: B008
    size: tuple[int, int] = (80, 24),
    opened: Opened | None = None,
) -> list[str]:
    stale = is_stale(watched, fetch, NOW)
    panels = panels_of(watched, ui, NOW, UNICODE, is_stale=stale)
    lines = frame(watched, panels, ui, fetch, NOW, size, UNICODE, opened)
    return ["".join(span.text for span in line) for line in lines]


def row(lines: list[str], name: str) -> str:
    return next(line for line in lines if line[2:].startswith(name))


def typed(ui: Ui, *keys: str) -> tuple[Ui, str]:
    asks = ""
    for key in keys:
        ui, asks = press(ui, key, panels_of(reading(), ui, NOW, UNICODE), 10, 3)
    return ui, asks


# -- what is said


def test_leases_count_down_and_what_is_nearly_or_wholly_over_is_marked():
    lines = drawn(reading())
    assert "   50:00 " in row(lines, "calm")
    assert "! 04:00 " in row(lines, "late")  # less than a quarter of its 24 minutes
    assert "!! ended 2 min " in row(lines, "over")
    assert [lines.index(row(lines, name)) for name in ("over", "late", "calm")] == [4, 5, 6]
    counts = "2 held  1 end soon  1 ended  2 silent  3 unread  2 stuck  27 open  12 done"
    assert lines[2] == counts


def test_a_lease_begins_anew_with_what_its_holder_signs_about_the_task():
    renewed = Last("renew", "bob", NOW - MINUTE, None, "authentic", "here")
    held = (claim("calm", "bob", 600, 9, last=renewed),)
    assert "! " not in row(drawn(reading(held=held)), "calm")


def test_who_holds_something_and_has_signed_nothing_for_long_is_silent():
    lines = drawn(reading())
    assert "!! SILENT 62 min" in row(lines, "dave")
    assert "!! SILENT 20 min" in row(lines, "carol")
    assert "2 min ago" in row(lines, "bob")
    assert " 4 " in row(lines, "bob")  # unread


def test_the_news_name_who_was_taken_from_and_what_landed():
    lines = drawn(reading(), size=(120, 30))
    assert "took over from bob, whose lease ended 11 min earlier" in row(lines, "10 min")
    assert "forced" in row(lines, "9 min")
    assert "by force from carol; wrong branch" in row(lines, "9 min")
    assert "refs/heads/main 000000000000..abababababab" in row(lines, "8 min")
    assert "to alice: look at this\\nand at that" in row(lines, "7 min")


def test_what_nobody_has_checked_is_told_and_what_the_server_has():
    doubts = {"verdict": "unverified", "checked": "nobody"}
    server = {"verdict": "unverified", "checked": "server"}
    watched = reading(held=(claim("a", "bob", 1, 9, **doubts), claim("b", "bob", 1, 9, **server)))
    lines = drawn(watched)
    assert " nobody " in row(lines, "a")
    assert " server " in row(lines, "b ")
    assert "nobody: there is no key" in "\n".join(lines)
    assert "CHECKED" not in "\n".join(drawn(reading()))


@pytest.mark.parametrize(
    ("fetch", "as_of", "words"),
    [
        (Fetch(5), 2, "as it stood 2 s ago"),
        (Fetch(5, is_offline=True), 2, "OFFLINE: shown is how it stood at 11:59:58Z, 2 s ago"),
        (Fetch(5, since=NOW - 30 * timedelta(seconds=1)), 40, "ASKING the remote for 30 s: shown"),
        (
            Fetch(5, fault="origin is away", failed=NOW - 3 * MINUTE),
            200,
            "CANNOT READ the remote for 3 min: shown is how it stood at 11:56:40Z, 3 min ago",
        ),
        (Fetch(5), None, "ASKING the remote: nothing is known"),
    ],
)
def test_what_is_old_never_passes_for_fresh(fetch, as_of, words):
    at = None if as_of is None else NOW - timedelta(seconds=as_of)
    lines = drawn(reading(as_of=at), fetch=fetch)
    assert lines[1].startswith(words)
    is_fresh = words.startswith("as it stood")
    assert ("ended? 2 min" in row(lines, "over")) is not is_fresh
    assert fetch.fault in lines[2]


def test_a_bad_record_and_a_server_that_enforces_nothing_are_told():
    status = reading().status
    stop = {"code": "bad-mac", "message": "record 1235 does not verify", "seq": 1235}
    told = "\n".join(drawn(reading(status=replace(status, stopped_at=stop))))
    assert "BAD RECORD behind this [bad-mac]: record 1235 does not verify" in told
    told = drawn(reading(status=replace(status, enforcement="none")))[1]
    assert "NOT ENFORCED" in told


ODD = ("x" * 90, "\u65e5\u672c" * 20, *TEXTS.values())


def many(texts: tuple[str, ...], count: int) -> Watched:
    """Each of the texts in each place, `count` times."""
    odd = [(f"{quote(text, safe='')}{n}", text, n) for n in range(count) for text in texts]
    held = tuple(
        claim(task, text, 1, n - 3, note=text, title=text, session=text) for task, text, n in odd
    )
    news = tuple(entry(n % 30, "claim", text, task, text=text) for task, text, n in odd)
    agents = tuple(activity(f"{text}{n}", n, task) for task, text, n in odd)
    return reading(held=held, news=news, agents=agents)


@pytest.mark.parametrize("size", [(80, 24), (200, 60), (40, 10), (39, 24), (300, 9)])
def test_it_fits_and_is_harmless_whatever_is_in_it(size):
    watched = many(ODD, 3)
    for number, text in enumerate(ODD):
        status = replace(watched.status, remote=text, agent=text)
        found = Description(claim("t", text, 1, 1, title=text, note=text), text, "nobody", {})
        opened = Opened(found, watched.news)
        pages = [Ui(), Ui(filter=text), Ui(page=TASK), Ui(page=HELP), Ui(page=RECORD, opened="7")]
        ui = pages[number % len(pages)]
        lines = drawn(watched._replace(status=status), ui, Fetch(5, fault=text), size, opened)
        assert len(lines) <= size[1]
        assert max(map(cell_len, lines)) <= size[0]
        assert is_harmless("\n".join(lines))


def test_at_80_by_24_all_three_tables_have_rows():
    lines = drawn(many(("x",), 40))
    heads = [n for n, line in enumerate(lines) if line[2:].startswith(("HELD", "AGENTS", "NEWS"))]
    ends = [*heads[1:], 23]
    assert all(end - head >= 4 for head, end in zip(heads, ends, strict=True))
    assert len(lines) == 24


def test_bars_and_times():
    assert [bar(part, ASCII) for part in (0, 0.01, 0.5, 1)] == [
        "........", "#.......", "####....", "########"
    ]  # fmt: skip
    assert all(len(bar(n / 100, UNICODE)) == BAR for n in range(101))
    assert bar(0.001, UNICODE) == "▏" + "·" * 7
    spans = [(9, "00:09"), (1449, "24:09"), (3912, "1:05:12"), (200_000, "2 d 07 h")]
    assert [countdown(timedelta(seconds=n)) for n, _ in spans] == [text for _, text in spans]


# -- keys


def test_a_filter_by_text_agent_and_status():
    def shown(text: str) -> list[str]:
        ui = typed(Ui(), "/", *text, "enter")[0]
        return [one.key for one in panels_of(reading(), ui, NOW, UNICODE)["tasks"].rows]

    assert shown("") == ["over", "late", "calm"]
    assert shown("HALF") == ["calm"]
    assert shown("agent:dave") == ["over"]
    assert shown("status:expired") == ["over"]
    assert shown("status:claimed agent:bob half") == ["calm"]
    assert "HELD 1 of 3" in "\n".join(drawn(reading(), Ui(filter="half")))
    assert typed(Ui(), "/", "x", "y", "backspace")[0].filter == "x"
    assert typed(Ui(), "/", "q", "escape")[0] == Ui()


def test_keys_open_go_back_and_quit():
    assert typed(Ui(), "q")[1] == QUIT
    assert typed(Ui(), "r")[1] == REFRESH
    opened = typed(Ui(), "down", "enter")[0]
    assert (opened.page, opened.opened) == (TASK, "late")
    assert typed(opened, "escape")[0].page == MAIN
    assert typed(opened, "end")[0].top == 3
    assert typed(Ui(), "?")[0].page == HELP
    assert typed(Ui(), "tab", "enter")[0].filter == "agent:dave"  # who is silent longest
    record = typed(Ui(), "back-tab", "enter")[0]
    assert (record.focus, record.page, record.opened) == (NEWS, RECORD, "23")
    assert typed(Ui(), "s")[0].wanted == "open"
    assert typed(Ui(), "S", "escape")[0].wanted == "held"


def test_a_line_stays_chosen_while_others_come_and_go():
    ui = typed(Ui(), "down")[0]
    more = (*reading().held, claim("new", "bob", 60, -30))
    lines = drawn(reading(held=more), ui)
    assert row(lines, "late").startswith("> ")
    gone = drawn(reading(held=reading().held[:1]), ui)
    assert row(gone, "calm").startswith("> ")


# -- the command


def test_it_is_printed_once(fleet: Fleet, inside: Callable[..., CompletedProcess[str]]) -> None:
    fleet.ledger("alice").claim("t", note="as I said")
    ran = inside(fleet, "watch", "--once", agent="alice", check=0, env={"COLUMNS": "90"})
    assert "HELD 1" in ran.stdout
    assert "as I said" in ran.stdout
    assert "\x1b" not in ran.stdout
    ran = inside(fleet, "watch", "--once", "--offline", "--filter", "x", agent="alice", check=0)
    assert "OFFLINE" in ran.stdout
    assert "HELD 0 of 1" in ran.stdout


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        ((), 1, "watch needs a terminal"),
        (("--json",), 2, "no --json"),
        (("--interval", "0s"), 2, "--interval: at least 1s"),
    ],
)
def test_where_it_cannot_be_drawn_one_line_says_why(fleet, inside, argv, code, words):
    ran = inside(fleet, "watch", *argv, agent="alice", check=code)
    assert words in ran.stdout + ran.stderr
