"""Text that somebody hostile wrote: harmless on every way to a terminal, whole in JSON."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
import termios
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from rich.cells import cell_len
from support.attack_batch import Batch, evil_server
from support.attacker import opened, plain
from support.fleet import LEDGER_REF
from support.hostile import BIDI, ESCAPES, TEXTS, is_harmless

from coordledger.errors import CoordledgerError, Failed
from coordledger.format import canonical
from coordledger.format.commit import parse_commit
from coordledger.format.state import fact_path, page_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.attacker import Attacker
    from support.fleet import Fleet

    Ran = subprocess.CompletedProcess[str]

NAMES = list(TEXTS)


def as_path(text: str) -> str:
    """What of a text may stand in a path."""
    odd = BIDI + "\u2028\u2029\u200b"
    return "".join(char for char in text if char != "/" and (char.isprintable() or char in odd))


@pytest.fixture(scope="module")
def noisy(shared_fleet: Fleet) -> Fleet:
    """Each hostile text as a title, a path, a note, a result, a reason, a fact and a body."""
    batch = Batch(shared_fleet, shared_fleet.root / "batch.git")
    for number, name in enumerate(NAMES):
        task, text = f"t{number}", TEXTS[name]
        batch.put("bob", "submit", task=task, meta={"fact": text}, title=text, body=text)
        batch.put("bob", "claim", tasks=[task], note=text, paths=[f"{number}{as_path(text)}/"])
        if number % 3 == 1:
            batch.put("bob", "complete", task=task, result=text)
        if number % 3 == 2:
            batch.put("bob", "release", task=task, reason=text)
        if number % 3 == 0:
            batch.put("bob", "handoff", task=task, to="carol", note=text)
        batch.put("bob", "fact", fact=task, value=text)
        batch.put("bob", "submit", task=f"w{task}")
        batch.put("bob", "claim", tasks=[f"w{task}"])
        batch.put("bob", "release", task=f"w{task}")
        batch.put("bob", "withdraw", task=f"w{task}", reason=text)
        batch.put("bob", "send", to="carol", body=text)
        batch.put("bob", "send", channel="general", body=text)
    long = "\x1b[2J" * 7000  # 28 KB of it, 63 KB in the record
    batch.put("bob", "send", channel="general", body=long)
    batch.send()
    batch.close()
    return shared_fleet


def harmless(ran: Ran) -> Ran:
    assert is_harmless(ran.stdout), ran.stdout
    assert is_harmless(ran.stderr), ran.stderr
    assert "Traceback" not in ran.stderr
    return ran


VIEWS = [
    ["list"],
    ["list", "--done"],
    ["inbox"],
    ["inbox", "--all"],
    ["messages", "--channel", "general"],
    ["status"],
    ["audit", "--full"],
    ["agent", "list"],
    ["watch", "--once"],
    *(["show", f"t{number}"] for number in range(len(NAMES))),
    *(["history", f"t{number}"] for number in range(0, len(NAMES), 3)),
    ["show", "wt0"],
    ["history", "wt1"],
    ["list", "--withdrawn"],
    ["paths"],
    ["fact", "list"],
    *(["fact", "get", f"t{number}"] for number in range(len(NAMES))),
    ["messages", "--from", "bob"],
    ["wait", "t1"],
    ["wait", "t0", "--for", "done", "--timeout", "0s"],
    *(
        ["claim", "new", "--dry-run", "--path", f"{number}{as_path(TEXTS[name])}/x"]
        for number, name in enumerate(NAMES)
    ),
    ["submit", "t0", "--title", "another"],
    ["claim", "t0", "--dry-run"],
    ["claim", "t1"],
    ["claim", "t3", "--dry-run"],
    ["complete", "t0"],
    ["renew", "t1"],
]


@pytest.mark.parametrize("argv", VIEWS, ids=" ".join)
def test_no_view_shows_what_a_terminal_would_obey(
    noisy: Fleet, inside: Callable[..., Ran], argv: list[str]
) -> None:
    ran = harmless(inside(noisy, *argv, agent="carol"))
    told = inside(noisy, "--json", *argv, agent="carol")
    assert told.stdout.isascii()
    assert told.stderr == ""
    json.loads(told.stdout)
    assert told.returncode == (2 if argv[0] == "watch" else ran.returncode)  # it has no JSON


def test_no_line_of_a_text_begins_where_our_lines_begin(
    noisy: Fleet, inside: Callable[..., Ran]
) -> None:
    for argv in (["inbox"], ["messages", "--channel", "general"], ["show", "t6"], ["list"]):
        shown = inside(noisy, *argv, agent="carol").stdout.splitlines()
        assert not [line for line in shown if line.startswith("won ")]


def test_json_gives_the_texts_whole(noisy: Fleet, inside: Callable[..., Ran]) -> None:
    told = json.loads(inside(noisy, "inbox", "--json", agent="carol").stdout)
    bodies = {message["body"] for message in told}
    assert set(TEXTS.values()) <= bodies
    shown = json.loads(inside(noisy, "show", "t0", "--json", agent="carol").stdout)
    assert (shown["note"], shown["meta"]["fact"]) == (TEXTS[NAMES[0]], TEXTS[NAMES[0]])


def test_the_log_of_plain_git_is_printable_ascii(noisy: Fleet) -> None:
    for options in (["--format=raw"], ["-p", "--no-mailmap", "--no-notes"], ["--format=fuller"]):
        text = noisy.git("log", *options, LEDGER_REF)
        assert set(text) <= set(map(chr, range(32, 127))) | {"\n"}


@pytest.mark.parametrize(
    "argv",
    [
        ["claim", ESCAPES],
        ["claim", "t", "--note", "\udcff"],
        ["send", "--to", BIDI, "x"],
        ["send", "--channel", "\x9b", "x"],
        ["submit", "t", "--meta", f"{ESCAPES}=x"],
        ["--as", ESCAPES, "list"],
        ["--session", BIDI, "list"],
        ["--ledger", ESCAPES, "list"],
        ["--remote", f"{ESCAPES}/x", "list"],
        ["--remote", "\udcfe/\udcff", "list"],
        ["-C", ESCAPES, "list"],
        ["join", f"./{ESCAPES}", "--agent", "bob"],
        ["join", "origin", "--agent", "bob", "--pin", ESCAPES],
        ["join", "origin", "--agent", "bob", "--secret-file", ESCAPES],
        ["init", f"/dev/null/{ESCAPES}", "--agent", "bob"],
        ["hook", "install", ESCAPES],
        ["head", "--compare", f"{ESCAPES} 0:{'0' * 64}"],
        ["head", "--compare", f"x {'9' * 5000}:{'0' * 64}"],
        ["join", "origin", "--agent", "bob", "--pin", f"{'9' * 5000}:{'0' * 64}"],
        ["ack", "9" * 5000],
        ["policy", f"{ESCAPES}=1"],
        ["policy", f"max_ttl={BIDI}"],
        [ESCAPES],
        ["list", f"--{ESCAPES}"],
        ["completion", ESCAPES],
    ],
    ids=lambda argv: ascii(" ".join(argv))[1:40],
)
def test_no_error_repeats_what_a_terminal_would_obey(
    noisy: Fleet, inside: Callable[..., Ran], argv: list[str]
) -> None:
    ran = harmless(inside(noisy, *argv, agent="bob"))
    assert ran.returncode in (1, 2, 4)
    assert "a fault in coordledger" not in ran.stderr


@pytest.mark.parametrize(
    ("stdin", "code"),
    [
        ("\udcff\udcfe", "bad-value"),
        ("\udced\udca0\udc80", "bad-value"),  # a surrogate, encoded
        ("x" * 65_537, "text-too-long"),
        ("\0" * 11_000, "text-too-long"),  # six bytes each
        ("\0" * 65_536, "too-large"),
        ("", "bad-value"),
    ],
    ids=["no UTF-8", "a surrogate", "too long", "NULs", "many NULs", "nothing"],
)
def test_a_body_that_cannot_be_sent_is_refused_in_one_line(
    noisy: Fleet, inside: Callable[..., Ran], stdin: str, code: str
) -> None:
    ran = harmless(inside(noisy, "send", "--to", "carol", "-", agent="bob", stdin=stdin))
    assert (ran.returncode, ran.stdout) == (1, "")
    told = inside(noisy, "--json", "send", "--to", "carol", "-", agent="bob", stdin=stdin)
    assert json.loads(told.stdout)["error"]["code"] == code


def test_a_body_of_64_kib_of_anything_arrives_and_is_shown_harmless(
    noisy: Fleet, inside: Callable[..., Ran]
) -> None:
    body = "\x1b[31m\n" * 5000
    inside(noisy, "send", "--channel", "large", "-", agent="bob", stdin=body, check=0)
    ran = harmless(inside(noisy, "messages", "--channel", "large", agent="carol", check=0))
    assert ran.stdout.count("\\x1b[31m") == body.count("\x1b")


# -- what fills a terminal's line

LONG, WIDE = "k" * 200, "\u754c" * 600  # an id; as much of what is two columns wide as a note has


@pytest.fixture(scope="module")
def wide(founded: Callable[..., Fleet]) -> Fleet:
    """Everything that somebody may choose, as long and as wide as it may be."""
    fleet = founded("bob")
    name = "b" * 63
    bob = fleet.ledger("bob", session="s" * 64)
    bob.delegate(name)
    bob.submit(LONG, title="\u754c" * 42, labels=["l" * 64], meta={"m": WIDE[:100]}, body=WIDE)
    bob.claim(LONG, note=WIDE, paths=["\u754c" * 150 + "/", "p" * 900])
    bob.renew(LONG, ttl=timedelta(hours=20), note=WIDE)
    bob.handoff(LONG, to="alice", note=WIDE)
    bob.facts.set(LONG, WIDE, ttl=timedelta(days=400))
    bob.send(WIDE, channel="c" * 64)
    return fleet


TABLES = [
    ["list"],
    ["paths"],
    ["history", LONG],
    ["fact", "list"],
    ["channel", "list"],
    ["agent", "list"],
]


@pytest.mark.parametrize("argv", TABLES, ids=lambda argv: " ".join(argv)[:12])
def test_no_row_of_a_table_wraps_at_80_columns(wide: Fleet, argv: list[str]) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, 80))
    env = wide.env | {"TERM": "xterm", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "coordledger", *argv]
    streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    with subprocess.Popen(command, cwd=wide.clone("alice"), env=env, **streams) as process:
        os.close(theirs)
        said = b""
        with contextlib.suppress(OSError):  # so ends what a terminal has to say
            while found := os.read(ours, 65_536):
                said += found
    os.close(ours)
    assert process.returncode == 0, said
    rows = said.decode().splitlines()
    assert len(rows) >= 2
    assert [row for row in rows if cell_len(row) > 80] == []


# -- what a server says


def test_a_servers_words_are_shown_harmless_and_cut(
    fleet: Fleet, inside: Callable[..., Ran]
) -> None:
    """A server, or a hook of somebody else's there, may say anything to who pushes."""
    hook = fleet.remote / "hooks/pre-receive"
    words = f"{ESCAPES} {BIDI} " + "x" * 5000
    hook.write_text(f"#!/bin/sh\necho 'coordledger: refused abc: held: {words}' >&2\nexit 1\n")
    with pytest.raises(CoordledgerError) as refused:
        fleet.ledger("alice").submit("t")
    assert refused.value.message.isascii()
    assert refused.value.message.isprintable()
    assert len(refused.value.message) < 300
    harmless(inside(fleet, "claim", "t", agent="alice", check=3))
    hook.write_text(f"#!/bin/sh\necho '{words}' >&2\nexit 1\n")
    with pytest.raises(Failed) as failed:
        fleet.ledger("alice").submit("t")
    assert failed.value.message.isprintable()
    harmless(inside(fleet, "claim", "t", agent="alice", check=1))


def test_a_refusal_of_the_hook_is_printable_whatever_was_pushed(attacker: Attacker) -> None:
    loud = attacker.sign(attacker.record("bob", "void") | {"kind": ESCAPES + BIDI})
    old = attacker.stolen(attacker.tip).payload
    refs = [f"{ESCAPES}", "\udcff\udcfe", "x" * 70_000]
    lines = [f"{attacker.tip} {attacker.tip} refs/coordledger/{ref}\n" for ref in refs]
    for line in lines:
        pushed = attacker.hook(line.encode("utf-8", "surrogateescape"))
        assert pushed.slug == "bad-ref"
        assert is_harmless(pushed.err)
        assert len(pushed.err) < 300
    assert attacker.refusal(attacker.changed(attacker.tip, old, loud.payload)) == "newer-version"


# -- a state that nobody verified


def line(value: Any) -> bytes:
    return canonical.encode(value) + b"\n"


@pytest.mark.parametrize(
    "field",
    [
        *("agent", "session", "epoch", "priority", "meta", "inbox", "fact", "paths"),
        *("title", "labels", "parent", "after", "by", "offer", "released", "attempts", "rev"),
    ],
)
def test_a_state_that_a_shallow_copy_took_on_trust_is_shown_harmless(
    noisy: Fleet, attacker: Attacker, inside: Callable[..., Ran], tmp_path: Path, field: str
) -> None:
    found = attacker.stand(attacker.tip).state
    evil = ESCAPES + BIDI
    if field == "inbox":
        message = found.inbox("carol")[0] | dict.fromkeys(("agent", "thread", "importance"), evil)
        changes = {"inbox/carol.jsonl": line(message)}
    elif field == "fact":
        said = dict.fromkeys(("fact", "value", "agent", "session", "rev"), evil)
        changes = {
            fact_path("x"): line(said | {"at": found.task("t0")["claimed_at"], "until": None})
        }
    elif field == "paths":
        said = dict.fromkeys(("task", "agent", "session"), evil)
        until = {"until": "2999-01-01T00:00:00.000Z"}
        changes = {"paths.jsonl": line(said | until | {"paths": [evil, f"{evil}/"]})}
    else:
        shapes: dict[str, Any] = {
            "meta": {evil: evil},
            "labels": [evil],
            "after": [evil],
            "offer": {"agent": evil, "seq": 1, "until": "2999-01-01T00:00:00.000Z"},
            "released": {"agent": evil, "seq": evil},
        }
        value = shapes.get(field, evil)
        changes = {page_path("t0"): line((found.task("t0") or {}) | {field: value})}
    server = evil_server(noisy, attacker, f"evil-{field}", dict(changes))
    copy = tmp_path / "copy"
    noisy.git("init", "--quiet", copy)
    joining = ["-C", copy, "join", f"file://{server}", "--agent", "carol", "--depth", "1"]
    harmless(inside(noisy, *joining, check=0))
    views = [["show", "t0"], ["list"], ["require", "t0"], ["claim", "t0"], ["history", "t0"]]
    views += [["status"], ["wait", "t0", "--timeout", "0s"]]
    beside = {
        "inbox": [["inbox"]],
        "fact": [["fact", "list"], ["fact", "get", "x"]],
        "paths": [["paths"], ["show", "t0"], ["claim", "new", "--dry-run", "--path", "a/"]],
    }
    for argv in beside.get(field, views):
        harmless(inside(noisy, "-C", copy, "--offline", *argv))


@pytest.mark.parametrize(
    ("content", "seq"),
    [
        (b"{\n", None),
        (b"[]\n", None),
        (b"[" * 200_000, None),
        (b"\xff\xfe", None),
        (b"policy", None),
        (b"other", None),
        (None, None),
        (b"", b"-5"),
        (b"", b"99999999999"),
        (b"", b"9" * 30),
    ],
    ids=["cut", "array", "deep", "no text", "policy", "other", "none", "negative", "far", "beyond"],
)
def test_a_shallow_copy_takes_no_nonsense_for_a_ledger(
    noisy: Fleet,
    attacker: Attacker,
    inside: Callable[..., Ran],
    tmp_path: Path,
    content: bytes | None,
    seq: bytes | None,
) -> None:
    ledger = attacker.stand(attacker.tip).state.ledger
    if content == b"policy":
        content = line(ledger | {"policy": ledger["policy"] | {"max_ttl": ESCAPES}})
    elif content == b"other":
        content = line(ledger | {"ledger": "0" * 32})
    changes = {} if seq else {"ledger.json": content}
    server = evil_server(noisy, attacker, f"odd-{tmp_path.name}", changes)
    if seq:
        head = noisy.git("rev-parse", LEDGER_REF, cwd=server).strip()
        number = b"Seq: %d" % parse_commit(head, attacker.raw(head)).seq
        odd = attacker.changed(head, number, b"Seq: " + seq)
        noisy.git("update-ref", LEDGER_REF, odd, cwd=server)
    copy = tmp_path / "copy"
    noisy.git("init", "--quiet", copy)
    joining = ["-C", copy, "join", f"file://{server}", "--agent", "carol", "--depth", "1"]
    ran = harmless(inside(noisy, *joining, check=1))
    assert "has no ledger" in ran.stderr
    assert not (copy / ".git/coordledger/main/index").exists()  # no file of terabytes


def test_a_history_that_ends_in_the_year_of_no_end_is_read_to_its_head(
    noisy: Fleet, attacker: Attacker, inside: Callable[..., Ran], tmp_path: Path
) -> None:
    task = (attacker.stand(attacker.tip).state.task("t0") or {}) | {"last_seq": 2**53 - 1}
    server = evil_server(noisy, attacker, "endless", {page_path("t0"): line(task)})
    copy = tmp_path / "copy"
    noisy.git("init", "--quiet", copy)
    ledger = opened(noisy, copy, "carol", remote=f"file://{server}")
    ledger.join(depth=1)
    assert ledger.history("t0") == []


# -- what plain git adds of its own


def test_what_a_repository_of_code_adds_to_the_log_is_switched_off(
    noisy: Fleet, attacker: Attacker
) -> None:
    """A .mailmap in the work tree and notes on the server are not the ledger's words."""
    clone = noisy.clone("carol")
    claimed = noisy.git("log", "-1", "--format=%H", "--author=bob/", LEDGER_REF, cwd=clone).strip()
    ledger = noisy.founded.ledger
    mailmap = clone / ".mailmap"
    mailmap.write_text(f"alice/desk {ESCAPES} <alice@{ledger}> <bob@{ledger}>\n")
    notes = attacker.tree(("100644", attacker.add("blob", ESCAPES.encode()), claimed))
    who = "x <x@x> 1 +0000"
    head = attacker.add("commit", f"tree {notes}\nauthor {who}\ncommitter {who}\n\nx\n".encode())
    assert attacker.push(f"{head}:refs/notes/commits").slug == ""
    safely = ("--no-replace-objects", "log", "--no-mailmap", "--no-notes", "-1", claimed)
    try:
        for cwd in (clone, noisy.remote):
            text = plain("git", *safely, cwd=cwd, env=noisy.env).stdout.decode()
            assert is_harmless(text)
            assert "Author: bob/" in text
    finally:
        mailmap.unlink()
        noisy.git("update-ref", "-d", "refs/notes/commits")
