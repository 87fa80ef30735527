"""What others wrote is shown harmless, and nothing else changes it."""

from __future__ import annotations

import json
import sys
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from rich.cells import cell_len

from coordledger.cli import output, params
from coordledger.cli.log import print_stats
from coordledger.cli.wording import claims_table
from coordledger.client.claims import Claim
from coordledger.client.reports import AgentStats, Spread, Stats
from coordledger.client.task_ids import encode
from coordledger.errors import CoordledgerError

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
BIDI = [*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C]


@pytest.mark.parametrize(
    "code",
    [*range(0x20), *range(0x7F, 0xA0), *BIDI, 0x2028, 0x2029, 0xFEFF, 0x200B, 0xD800, 0xE000],
    ids=hex,
)
def test_what_does_not_print_is_escaped(code):
    shown = output.safe(f"a{chr(code)}b")
    assert shown == f"a{ascii(chr(code))[1:-1]}b"
    assert shown.isascii()


def test_what_prints_stays():
    text = "gr\u00fc\u00dfe \u65e5\u672c \U0001f600 [bold]x[/bold] :smile: a\\b"
    assert output.safe(text) == text


def test_no_line_of_a_body_can_pass_for_one_of_ours():
    body = "hello\n17  alice -> you\r\n\u2028x\n\n"
    assert output.block(body).split("\n") == [
        "    hello",
        r"    17  alice -> you\r",
        r"    \u2028x",
    ]


def test_a_table_is_never_cut_elsewhere_than_on_a_terminal(capsys):
    screen = output.Screen()
    long = "x" * 500 + "[red]\x1b[0m"
    screen.table(["TASK", "NOTE"], [["t", long], ["\u65e5\u672c", ""]])
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["TASK  NOTE", f"t     {output.safe(long)}", "\u65e5\u672c"]


def test_on_a_terminal_the_last_column_is_cut_to_fit(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    screen = output.Screen()
    wide = "\u65e5\u672c" * 9
    screen.table(["TASK", "NOTE"], [["t", "short"], ["task-2", wide], ["x" * 30, "0123456789"]])
    head, short, cut, over = capsys.readouterr().out.splitlines()
    assert head.split() == ["TASK", "NOTE"]
    assert (short, cut) == (f"t{' ' * 31}short", f"task-2{' ' * 26}{wide[:3]} \u2026")
    assert over == f"{'x' * 30}  0123456\u2026"
    screen.table(["TASK", "NOTE"], [["t", "short"], ["task-2", wide]])
    assert capsys.readouterr().out.splitlines()[-1] == f"task-2  {wide[:5]} \u2026"


def on_a_terminal(monkeypatch):
    """One of 80 columns and 24 lines, without colours."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for name, value in (("TERM", "xterm"), ("NO_COLOR", "1"), ("COLUMNS", "80"), ("LINES", "24")):
        monkeypatch.setenv(name, value)


def claim(**given):
    blank = {field.name: None for field in fields(Claim)}
    lists = {"meta": {}, "after": (), "waits_for": (), "labels": (), "paths": ()}
    facts = {"status": "claimed", "epoch": 1, "rev": 2, "priority": -1_000_000, "seq": 2}
    checks = {"verdict": "unverified", "checked": "nobody", "attempts": 1}
    return Claim(**blank | lists | facts | checks | {"created": False} | given)


@pytest.mark.parametrize(
    "name", ["x" * 200, "github:some-organisation/some-project#1234567", "日本" * 20]
)
def test_no_row_of_a_list_of_tasks_wraps_at_80_columns(capsys, monkeypatch, name):
    on_a_terminal(monkeypatch)
    holder = {"agent": "a" * 64, "session": "s" * 64}
    task = encode(name)
    claims = [
        claim(task=task, **holder, expires_at=NOW + timedelta(days=400), title="T" * 256),
        claim(task="t", note="short"),
    ]
    claims_table(output.Screen(), claims)
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines[:3] if cell_len(line) > 80] == []
    assert output.task_name(task)[-3:] in lines[1]  # ids differ at their ends


def test_what_does_not_fit_on_a_terminal_is_paged(capsys, monkeypatch):
    on_a_terminal(monkeypatch)
    paged = []
    monkeypatch.setattr(output.click, "echo_via_pager", paged.append)
    monkeypatch.delenv("LESS", raising=False)
    screen = output.Screen()
    for count in (23, 24):
        with screen.paged():
            for number in range(count):
                screen.line(str(number))
    assert capsys.readouterr().out == "".join(f"{n}\n" for n in range(23))
    assert paged == ["".join(f"{n}\n" for n in range(24))]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    with screen.paged():
        for number in range(24):
            screen.line(str(number))
    assert len(paged) == 1


@pytest.mark.parametrize(
    ("task", "shown"),
    [
        ("task-1", "task-1"),
        ("fix%20login", '"fix login"'),
        ("a%0Ab", "a%0Ab"),
        ("%E2%80%AEabc", r'"\u202eabc"'),
        ("%1B[31m", "%1B[31m"),
        ("say%20%22x%22", "say%20%22x%22"),
        ("50%", "50%"),
    ],
)
def test_a_name_from_elsewhere_is_shown_as_it_was_and_harmless(task, shown):
    assert output.task_name(task) == shown


@pytest.mark.parametrize("text", ["10m", "2999-01-01T00:00:00Z", "2999-01-01T02:00:00+02:00"])
def test_moments(text):
    moment = params.MOMENT.convert(text, None, None)
    assert moment > datetime.now(UTC)


@pytest.mark.parametrize("text", ["", "tomorrow", "2999-01-01", "2999-01-01T00:00:00", "10"])
def test_no_moments(text):
    with pytest.raises(CoordledgerError) as refused:
        params.MOMENT.convert(text, None, None)
    assert refused.value.code in ("bad-value", "no-unit")


def test_colour_needs_a_terminal_and_no_wish_against_it(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    screen = output.Screen()
    assert screen.styled("done") == "\x1b[32mdone\x1b[0m"
    screen.table(["STATUS"], [["done"]])
    assert "\x1b[32mdone" in capsys.readouterr().out
    monkeypatch.setenv("NO_COLOR", "1")
    assert screen.styled("done") == "done"
    screen.table(["STATUS"], [["done"]])
    assert capsys.readouterr().out == "STATUS\ndone\n"


def test_who_checked_it_is_dim_for_the_server_and_loud_for_nobody(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    screen = output.Screen()
    assert screen.doubt("authentic", "here") == ""
    assert screen.doubt("unverified", "server") == "  [\x1b[90mchecked by the server\x1b[0m]"
    assert screen.doubt("unverified", "nobody") == "  [\x1b[91mCHECKED BY NOBODY\x1b[0m]"
    assert screen.doubt("invalid", "nobody") == "  [\x1b[31minvalid\x1b[0m]"
    for verdict, checked, cell in (
        ("authentic", "here", "t"),
        ("unverified", "server", "\x1b[90mserver\x1b[0m"),
        ("unverified", "nobody", "\x1b[91mnobody\x1b[0m"),
        ("invalid", "nobody", "\x1b[31minvalid\x1b[0m"),
    ):
        screen.table(["TASK", "CHECKED"], [["t", output.doubt_cell(verdict, checked)]])
        assert capsys.readouterr().out.splitlines()[-1].split()[-1] == cell


def test_progress_is_for_terminals_and_is_wiped_before_the_next_line(capsys, monkeypatch):
    screen = output.Screen()
    screen.progress("verifying", 100, 300)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    clock = iter([10.0, 10.05, 12.0])
    monkeypatch.setattr(output, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    screen.progress("verifying", 100, 300)
    screen.progress("verifying", 150, 300)  # too soon to be seen
    screen.progress("verifying", 200, 300)
    screen.line("done")
    wipe = "\r\x1b[2K"
    first, second, last = capsys.readouterr().err.split(wipe)
    assert first == f"[{'#' * 10}{'.' * 20}] verifying 100 of 300"
    assert second == f"[{'#' * 20}{'.' * 10}] verifying 200 of 300, 50 a second, 2 s left"
    assert last == ""


@pytest.mark.parametrize(
    ("done", "of", "rate", "room", "shown"),
    [
        (0, 0, 0, 80, "reading ..."),
        (34_000, 0, 900, 80, "reading 34,000"),
        (1, 3, 0, 17, "reading 1 of 3"),
        (61_000, 100_000, 3000, 52, "reading 61,000 of 100,000, 3,000 a second, 13 s left"),
        (61_000, 100_000, 3000, 20, "reading 61,000 of 10"),
        (5, 4, 1, 50, "[##########] reading 5 of 4, 1 a second, 0 ms left"),
    ],
)
def test_progress_fits_its_line(done, of, rate, room, shown):
    assert output.moving("reading", done, of, rate, room) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "12:00:00Z (now)"),
        (7199.9, "13:59:59Z (in 2 h)"),
        (-90, "11:58:30Z (90 s ago)"),
        (86_400 * 3, "2026-11-24 12:00:00Z (in 3 d)"),
    ],
)
def test_times_are_told_both_ways(seconds, shown):
    assert output.when(NOW + timedelta(seconds=seconds), NOW) == shown


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1d", 86_400)]
)
def test_durations(text, seconds):
    assert params.LEASE.convert(text, None, None).total_seconds() == seconds
    assert params.SPAN.convert(text, None, None).total_seconds() == seconds


@pytest.mark.parametrize("text", ["0", "5", "60", "999999999"])
def test_a_number_without_a_unit_is_refused_with_both_readings(text):
    for kind in (params.LEASE, params.SPAN, params.TIMEOUT):
        with pytest.raises(CoordledgerError) as refused:
            kind.convert(text, None, None)
        hint = f"{text}s for seconds, {text}m for minutes"
        assert (refused.value.code, refused.value.hint) == ("no-unit", hint)


@pytest.mark.parametrize("text", ["", "m", "1w", "1.5h", "-1m", "1 m", "1e3", "\u0661m", "9" * 10])
def test_no_durations(text):
    with pytest.raises(CoordledgerError, match="lease's length"):
        params.LEASE.convert(text, None, None)
    with pytest.raises(CoordledgerError, match="90s, 10m, 2h, 1d"):
        params.SPAN.convert(text, None, None)


def test_figures_fit_on_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "80")
    took = Spread(9, timedelta(minutes=12), timedelta(minutes=50), timedelta(hours=2))
    one = AgentStats("bob", 12, 1, 9, 0, 1, 1, took, took, 0.3, 7.5)
    print_stats(output.Screen(), Stats(NOW, NOW, (one,), replace(one, agent=None)))
    lines = capsys.readouterr().out.splitlines()
    heads = "AGENT WON DONE OVER LOST FORCED DURATION P95 WAITING P95 /DAY"
    assert lines[0].split() == heads.split()
    assert all(len(line) <= 80 for line in lines)


def test_what_a_task_waits_for_is_seen_on_a_narrow_terminal(capsys, monkeypatch):
    facts = dict.fromkeys((field.name for field in fields(Claim)), None)
    facts |= {"task": "t", "status": "open", "waits_for": ("first",), "title": "x" * 90}
    facts |= {"verdict": "authentic", "checked": "here", "attempts": 0}
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    claims_table(output.Screen(), [Claim(**facts)])
    assert "waits for first" in capsys.readouterr().out


@pytest.mark.parametrize(
    "value",
    [
        {"a": [], "b": {}, "c": [[], {}, ""], "d": [{"e": [1, -(2**70), None, True, False, 1.5]}]},
        [{"\u00e9\n": '\U0001f600"\\ \x7f\u2028'}, 0, [0.1, [["x"]]]],
        [],
        {},
        None,
        True,
        "text",
        7,
    ],
)
def test_json_is_laid_out_as_the_standard_library_does_it(value):
    assert output.laid_out(value) == json.dumps(value, indent=2, ensure_ascii=True)
