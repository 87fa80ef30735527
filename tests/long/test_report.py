"""`coordledger report`: what it says, and the page as a browser shows it, whatever it says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from support import pages
from support.chromium import Chromium
from support.fleet import hermetic
from support.hookless_host import HooklessHost, forge
from support.hostile import TEXTS, is_harmless
from support.other_host import OtherHost
from support.past import with_a_past

from coordledger.client.ledger import Ledger
from coordledger.client.reporting import drawing, gantt, rendering
from coordledger.client.reporting.gathering import Report, Selection, gather

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from subprocess import CompletedProcess

    from support.fleet import Fleet

    Inside = Callable[..., CompletedProcess[str]]

PAGE = "docs/report.md"
MARKUP = (
    "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=2>"
    "<svg onload=window.hacked=3>--><!--</style></title>{{data}}&lt;b&gt;${window.hacked=4}"
)
HOSTILE = MARKUP + "\0\x1b[2J\u202eevil\u2066\u2028```\n%%{init: {}}%%\nsection x\n    click y"
BIG = "<b>" + "16 KB of it. " * 1200


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    with Chromium(tmp_path_factory.mktemp("profile")) as found:
        yield found


def _past(folder: Path) -> Iterator[Fleet]:
    env = hermetic(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name in set(os.environ) - set(env):
            patch.delenv(name)
        for name, value in env.items():
            patch.setenv(name, value)
        fleet = with_a_past(folder / "fleet", env)
        yield fleet
    fleet.close()


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """For the whole file: nobody writes to it."""
    yield from _past(tmp_path_factory.mktemp("past"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A ledger in which everything that may be said by somebody is hostile."""
    for past in _past(tmp_path_factory.mktemp("hostile")):
        yield _spoilt(past)


def _spoilt(past: Fleet) -> Fleet:
    alice = past.ledger("alice", "s9")
    for number, text in enumerate(TEXTS.values()):
        alice.submit(f"t-{number}", title=text[:200], labels=["a"], body=text + BIG)
    alice.submit("</script><b>", title=HOSTILE[:200], body=HOSTILE, meta={"note": HOSTILE[:500]})
    for name in ("constructor", "__proto__"):
        alice.submit(name, title=f"named {name}")
        alice.claim(name)
    alice.submit("%E2%98%83%20<b>", title="a name from elsewhere")
    alice.claim("</script><b>", note=HOSTILE[:900])
    alice.claim("t-0", note=HOSTILE[:900], ttl=timedelta(minutes=5))
    alice.release("t-0", reason=HOSTILE[:900])
    first = alice.send(HOSTILE + BIG, to="bob", importance="high")
    past.ledger("bob", "s9").send(HOSTILE, to="alice", thread=first.seq)
    alice.send(HOSTILE, channel="general")
    return past


def reported(fleet: Fleet, **selected: Any) -> Report:
    with Ledger.open(fleet.clone("alice"), "alice", environ=fleet.env) as ledger:
        return gather(ledger.connection, Selection(**selected))


def written(report: Report, folder: Path) -> str:
    """The address of the page in a file."""
    path = folder / "report.html"
    path.write_text(rendering.html(report), "utf-8")
    return path.as_uri()


# -- what it says


def test_it_says_who_held_what_how_that_ended_and_who_checked_it(
    past: Fleet,
) -> None:
    report = reported(past)
    told = {(one.task, one.agent): (one.began, one.ended, one.by) for one in report.leases}
    assert told == {
        ("slow", "alice"): ("claimed", "expired", "bob"),
        ("odd", "alice"): ("claimed", "expired", None),
        ("slow", "bob"): ("took over", "was handed", "carol"),
        ("other", "bob"): ("claimed", "forced", "alice"),
        ("slow", "carol"): ("was handed", "done", "carol"),
    }
    assert {one.checked for one in report.leases} == {"here"}
    assert len(report.records) == report.matching == report.head.seq + 1
    assert report.audit.problems == ()
    assert [one.kind for one in report.keys] == ["genesis", "enroll", "enroll"]
    assert [one.body for one in report.messages] == ["it is done"]
    bob = gather(OtherHost(past, "bob").ledger().connection, Selection())
    assert {(one.agent, one.checked) for one in bob.records} == {
        ("alice", "nobody"),
        ("bob", "here"),
        ("carol", "nobody"),
    }
    checked = {(one.agent, one.checked) for one in bob.leases if one.task == "slow"}
    assert checked == {("alice", "nobody"), ("bob", "nobody"), ("carol", "nobody")}  # by their ends
    assert bob.audit.checked["nobody"] == sum(one.agent != "bob" for one in bob.records)


def test_a_bad_record_is_named_and_is_exit_4_after_all_is_written(
    tmp_path: Path, env: dict[str, str], browser: Chromium
) -> None:
    host = HooklessHost(tmp_path, env)
    host.found()
    forge(host, "alice")
    path = tmp_path / "report.html"
    argv = ["report", "--html", str(path), "-C", str(host.root / "alice")]
    ran = subprocess.run(
        [sys.executable, "-m", "coordledger", *argv],
        env=host.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 4, ran.stderr
    assert "1 bad records" in ran.stderr
    browser.open(path.as_uri())
    shown = browser.run("document.querySelector('#audit').textContent")
    assert "1 record did not pass" in shown
    assert "bad-signature" in shown
    assert "1 record did not pass the audit" in browser.run(
        "document.querySelector('#overview').textContent"
    )


def test_a_part_is_what_was_selected(past: Fleet) -> None:
    whole = reported(past)
    since = whole.made_at - timedelta(minutes=18)
    late = reported(past, since=since)
    assert {(one.task, one.agent, one.began) for one in late.leases} == {
        ("slow", "bob", "earlier"),
        ("slow", "carol", "was handed"),
        ("other", "bob", "earlier"),
    }
    assert [one.start for one in late.leases if one.agent == "bob"] == [
        one.start for one in whole.leases if one.agent == "bob"
    ]
    early = reported(past, until=whole.made_at - timedelta(minutes=55))
    assert {(one.task, one.agent, one.ended) for one in early.leases} == {
        ("slow", "alice", "held"),
        ("odd", "alice", "held"),
    }
    none = reported(past, since=whole.made_at + timedelta(minutes=1))
    assert (none.records, none.leases) == ((), ())
    of_odd = reported(past, since=whole.made_at - timedelta(minutes=35), limit=1)
    assert [(one.task, one.ended) for one in of_odd.leases] == [("odd", "expired")]
    task = reported(past, task="slow")
    assert {one.task for one in (*task.tasks, *task.leases)} == {"slow"}
    assert all("slow" in one.tasks for one in task.records)
    bob = reported(past, agent="bob")
    assert {one.agent for one in bob.leases} == {"bob"}
    assert {one.kind for one in bob.records if one.agent != "bob"} == {"claim", "release", "send"}
    newest = reported(past, limit=3)
    assert [one.seq for one in newest.records] == [one.seq for one in whole.records[-3:]]
    assert newest.matching == whole.matching


def test_the_command_writes_each_form_and_refuses_what_is_none(past: Fleet, inside: Inside) -> None:
    said = inside(past, "report", "--html", "r.html", agent="alice", check=0).stdout
    page = (past.clone("alice") / "r.html").read_text("utf-8")
    assert said == f"{len(page.encode())} bytes in r.html\n"
    assert inside(past, "report", "--html", "-", agent="alice", check=0).stdout.startswith("<!doct")
    data = json.loads(inside(past, "report", "--json", agent="alice", check=0).stdout)
    assert {one["ended"] for one in data["leases"]} >= {"done", "forced", "expired"}
    made = json.loads(
        inside(past, "report", "--svg", "t.svg", "--json", agent="alice", check=0).stdout
    )
    assert made["bytes"] == (past.clone("alice") / "t.svg").stat().st_size
    chart = inside(past, "report", "--mermaid", agent="alice", check=0).stdout
    assert "    by carol (done) :done, " in chart
    for argv in (
        ("report",),
        ("report", "--svg", "-", "--mermaid"),
        ("report", "--html", "-", "--port", "80"),
    ):
        assert inside(past, *argv, agent="alice").returncode == 2
    assert inside(past, "report", "--html", ".", agent="alice").returncode == 1


# -- hostile texts


def test_no_text_breaks_out_of_the_picture_or_the_chart(hostile: Fleet) -> None:
    report = reported(hostile)
    picture = ET.fromstring(drawing.svg(report))
    tags = {one.tag.rpartition("}")[2] for one in picture.iter()}
    assert tags == {"svg", "title", "style", "rect", "text", "line", "g", "circle", "path"}
    words = {one.text for one in picture.iter() if one.tag.endswith("text")}
    assert "</script><b>" in words
    chart = gantt.mermaid(report)
    line = re.compile(
        r"gantt|    (title|dateFormat|axisFormat|section) [\w ,./+()@%:-]+"
        r"|    by [\w ./+()@-]+ :((done|active|crit), )?\d{4}-[\dT:-]+, \d{4}-[\dT:-]+"
    )
    assert [one for one in chart.splitlines() if not line.fullmatch(one)] == []
    assert "    section _/script__b_" in chart


def test_no_text_does_anything_on_the_page(
    hostile: Fleet, browser: Chromium, tmp_path: Path
) -> None:
    browser.show_as(1280, 900)
    browser.open(written(reported(hostile), tmp_path))
    browser.run("""(async () => {
        for (const name of ["</script><b>", "t-0", "t-8", "constructor", "__proto__"]) {
            const links = [...document.querySelectorAll("#tasks .plain")];
            links.find(one => one.textContent === name).click();
            const detail = document.querySelector("#detail");
            if (!detail.open || detail.textContent.includes("native code")) throw new Error(name);
            document.querySelector("#detail").close();
        }
        for (const one of document.querySelectorAll(".message button")) one.click();
        for (const one of document.querySelectorAll("input[type=search]")) {
            one.value = "<b>evil";
            one.dispatchEvent(new Event("input"));
        }
    })()""")
    browser.until("document.querySelector('#tasks-note').textContent.includes(' of ')")
    assert browser.run("window.hacked") is None
    assert browser.run("document.scripts.length") == 2
    assert (
        browser.run("document.querySelectorAll('img, iframe, object, b > b, [onload]').length") == 0
    )
    assert browser.faults == []
    assert [one for one in browser.requests if not one.startswith(("file:", "data:"))] == []
    browser.open(written(reported(hostile), tmp_path))
    text = browser.run("document.querySelector('main').textContent")
    assert "</script><script>window.hacked=1</script><img src=x onerror" in text
    assert is_harmless(text)
    assert r"\u202eevil\u2066" in text
    assert "☃ <b>" in text  # decoded, as it was called there


def test_the_page_may_do_nothing_that_it_does_not_do(
    past: Fleet, browser: Chromium, tmp_path: Path
) -> None:
    """The policy itself: markup from text, scripts in text, and calls elsewhere are refused."""
    browser.open(written(reported(past), tmp_path))
    refused = browser.run("""(async () => {
        const tried = [];
        const attempt = (name, act) => { try { act(); } catch (fault) { tried.push(name); } };
        attempt("markup", () => { document.body.innerHTML = "<img src=x>"; });
        attempt("code", () => { eval("1"); });
        attempt("policy", () => trustedTypes.createPolicy("x", { createHTML: text => text }));
        attempt("document", () => { document.write("<p>"); });
        await fetch("http://127.0.0.1:9/").catch(() => tried.push("fetch"));
        const script = document.createElement("script");
        attempt("script", () => {
            script.textContent = "window.hacked = 1";
            document.body.append(script);
        });
        return tried;
    })()""")
    assert refused == ["markup", "code", "policy", "document", "fetch", "script"]
    assert browser.run("window.hacked") is None


# -- how it is used


def test_it_is_used_by_keyboard_and_says_what_it_shows(
    past: Fleet, browser: Chromium, tmp_path: Path
) -> None:
    browser.show_as(1280, 900)
    browser.open(written(reported(past), tmp_path))
    labels = browser.run("[...document.querySelectorAll('.bar')].map(b => b.ariaLabel)")
    assert len(labels) == 5
    assert any("bob took over" in one and "checked by this copy" in one for one in labels)
    browser.run("document.querySelector('.bar[tabindex=\"0\"]').focus()")
    browser.press("ArrowRight", 39)
    assert browser.run("document.activeElement.ariaLabel") == labels[1]
    browser.press("Enter", 13)
    assert browser.run("document.querySelector('#detail').open") is True
    assert browser.run("document.querySelector('#detail-title').textContent") == "It takes long"
    browser.press("Escape", 27)
    assert browser.run("document.querySelector('#detail').open") is False
    assert browser.run("document.activeElement.ariaLabel") == labels[1]
    before = browser.run("document.querySelector('#timeline-note').textContent")
    browser.press("+", 187)
    browser.until(f"document.querySelector('#timeline-note').textContent !== {before!r}")
    unnamed = browser.run("""
        [...document.querySelectorAll("button, select, input, a")]
            .filter(one => !(one.ariaLabel || one.textContent.trim() || one.labels?.length))
            .map(one => one.outerHTML)
    """)
    assert unnamed == []


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_and_can_be_read(
    past: Fleet, browser: Chromium, tmp_path: Path, width: int, scheme: str
) -> None:
    browser.show_as(width, 900, scheme=scheme)
    browser.open(written(reported(past), tmp_path))
    assert browser.run("document.documentElement.scrollWidth") <= width
    low = browser.run(CONTRAST)
    assert low == []
    assert browser.faults == []


# Texts whose contrast with what is behind them is below 4.5 (WCAG AA).
CONTRAST = """(() => {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (colour) => {
        canvas.clearRect(0, 0, 1, 1);
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return [...canvas.getImageData(0, 0, 1, 1).data];
    };
    const light = (rgb) => {
        const [r, g, b] = rgb.slice(0, 3).map(value => value / 255)
            .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (one) => {
        for (let at = one; at; at = at.parentElement) {
            const found = rgba(getComputedStyle(at).backgroundColor);
            if (found[3] === 255) return found;
        }
        return [255, 255, 255];
    };
    const found = new Set();
    for (const one of document.querySelectorAll("main *, header *")) {
        const own = [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim());
        if (!own || one.closest("svg, option, noscript, .unseen")) continue;
        if (!one.checkVisibility()) continue;
        const [a, b] = [light(rgba(getComputedStyle(one).color)), light(behind(one))];
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) found.add(`${one.className || one.tagName} ${ratio.toFixed(2)}`);
    }
    return [...found];
})()"""


def test_it_prints_without_what_is_pressed(past: Fleet, browser: Chromium, tmp_path: Path) -> None:
    browser.show_as(1280, 900, media="print")
    browser.open(written(reported(past), tmp_path))
    shown = browser.run(
        "[...document.querySelectorAll('.tools, nav, #print')].map(one => one.checkVisibility())"
    )
    assert not any(shown)
    assert browser.pdf().startswith(b"%PDF")


def test_ten_thousand_records_are_opened_at_once(
    past: Fleet, browser: Chromium, tmp_path: Path
) -> None:
    """Counted by what the page's thread is at work, as other tests run beside it."""
    report = reported(past)
    hour = timedelta(hours=1)
    many = 10_000 // len(report.records) + 1
    records = tuple(
        replace(one, at=one.at - at * hour, seq=one.seq + at)
        for at in range(many)
        for one in report.records
    )
    leases = tuple(
        replace(
            one,
            task=f"{one.task}-{at}",
            start=one.start - at * hour,
            end=one.end - at * hour,
            ended="done",
        )
        for at in range(many)
        for one in report.leases
    )
    tasks = tuple(
        replace(one, task=f"{one.task}-{at}") for at in range(many) for one in report.tasks
    )
    address = written(replace(report, records=records, leases=leases, tasks=tasks), tmp_path)
    browser.show_as(1280, 900)
    browser.open(address)
    assert browser.run("document.querySelector('[data-count=records]').textContent").replace(
        ",", ""
    ) == str(len(records))
    assert browser.run("document.querySelectorAll('*').length") < 15_000
    assert browser.busy() < 2


def test_the_commands_of_the_page_run_as_written(past: Fleet) -> None:
    script = "".join(pages.blocks(PAGE))
    assert script.count("coordledger report") == 6
    clone = past.clone("alice")
    pages.play(script.replace("fix-login", "slow"), clone, past.env)
    assert (clone / "timeline.mmd").read_text().startswith("gantt\n")
    assert (clone / "timeline.svg").read_text("utf-8").startswith("<svg ")
