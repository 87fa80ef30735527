"""What hooks say: what is rendered is read again, and nothing else is believed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.strategies import hexadecimal

from coordledger import answers
from coordledger.answers import SEQUENCED, Landed, Refused, Unknown, Vouch
from coordledger.errors import ERRORS, RuleBroken, error
from coordledger.format.timestamps import LATEST, show

ROOT = Path(__file__).resolve().parents[1]
OIDS = hexadecimal(40) | hexadecimal(64)
COMMITS = OIDS | st.just("-") | st.text(max_size=20)
MESSAGES = st.text(max_size=300)
SEQS = st.integers(0, 10**15 - 1)
ANSWERS = st.one_of(
    st.builds(Refused, COMMITS, st.sampled_from(sorted(ERRORS)), MESSAGES),
    st.builds(Landed, OIDS, SEQS, OIDS),
    st.builds(Unknown, COMMITS, MESSAGES),
    st.builds(Vouch, hexadecimal(32), SEQS, hexadecimal(64), st.integers(0, LATEST).map(show)),
    st.just(SEQUENCED),
)


@given(ANSWERS)
def test_what_is_rendered_is_read_again(answer):
    line = str(answer)
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 300
    again = answers.parse(line)
    assert again == answer
    assert type(again) is type(answer)
    for name in answer.__slots__:
        assert getattr(again, name) == getattr(answer, name)


PREFIXES = [
    "coordledger: refused ",
    "coordledger: landed ",
    "coordledger: unknown ",
    "coordledger: vouch ",
    "",
]
LINES = st.builds(lambda prefix, rest: prefix + rest, st.sampled_from(PREFIXES), st.text())


@given(LINES)
def test_any_line_is_an_answer_or_none_and_is_read_the_same_again(line):
    answer = answers.parse(line)
    if answer is not None:
        assert str(answer).isprintable()
        assert answers.parse(str(answer)) == answer
    if isinstance(answer, Refused):
        assert answer.code in ERRORS or answer.code == ""
        assert re.fullmatch("[0-9a-f]{1,12}|-", answer.commit)


OID, OTHER = "ab" * 20, "cd" * 20
LEDGER, DIGEST, AT = "ef" * 16, "12" * 32, "2026-11-29T08:00:00.000Z"
HOSTILE = {
    "a newer server's code": (
        f"refused {OID}: moon-phase: wait",
        Refused(OID, "", "moon-phase: wait"),
    ),
    "no code at all": ("refused -", Refused("-", "", "")),
    "a commit that is none": ("refused x y: held: no", Refused("-", "held", "no")),
    "a code in capitals": (f"refused {OID}: HELD: no", Refused(OID, "", "HELD: no")),
    "an escape sequence": ("refused -: held: \x1b[2J", Refused("-", "held", "\\x1b[2J")),
    "a seq with other digits": (f"landed {OID} ٣ {OTHER}", None),
    "a seq that is signed": (f"landed {OID} -3 {OTHER}", None),
    "a seq too long to be a number": (f"landed {OID} {'9' * 5000} {OTHER}", None),
    "no seq": (f"landed {OID} {OTHER}", None),
    "one word more": (f"landed {OID} 3 {OTHER} 4", None),
    "an id in capitals": (f"landed {OID.upper()} 3 {OTHER}", None),
    "an abbreviated id": (f"landed {OID[:12]} 3 {OTHER}", None),
    "two spaces": (f"landed  {OID} 3 {OTHER}", None),
    "a seq with leading zeros": (f"landed {OID} 03 {OTHER}", None),
    "a vouch with a newer server's word": (f"vouch {LEDGER} 3:{DIGEST} at {AT} by hook", None),
    "a vouch for a ref's name": (f"vouch main 3:{DIGEST} at {AT}", None),
    "a vouch without a digest": (f"vouch {LEDGER} 3 at {AT}", None),
    "a vouch with half a digest": (f"vouch {LEDGER} 3:{DIGEST[:32]} at {AT}", None),
    "a vouch of a seq that is none": (f"vouch {LEDGER} :{DIGEST} at {AT}", None),
    "a vouch without a time": (f"vouch {LEDGER} 3:{DIGEST}", None),
    "a vouch of no millisecond": (f"vouch {LEDGER} 3:{DIGEST} at 2026-11-29T08:00:00Z", None),
    "a vouch of local time": (f"vouch {LEDGER} 3:{DIGEST} at {AT[:-1]}+", None),
    "more after sequenced": ("sequenced twice", None),
    "sequenced in capitals": ("SEQUENCED", None),
    "another word": ("promised -: soon", None),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_line_is_read_as_little_as_possible(case):
    words, expected = HOSTILE[case]
    assert answers.parse(f"coordledger: {words}") == expected


def test_other_lines_are_no_answers():
    lines = ["", "hello", " coordledger: sequenced", f"landed {OID} 3 {OTHER}", "coordledger:"]
    assert answers.read([*lines, "coordledger: sequenced", "coordledger: refused -: busy: x"]) == [
        SEQUENCED,
        Refused("-", "busy", "x"),
    ]


def test_a_broken_rule_is_said_by_its_code_and_any_other_fault_as_a_broken_hook():
    for fault, expected in [
        (RuleBroken("no-create"), Refused(OID, "no-create", "a push cannot create a ledger")),
        (
            error("secret-exposed", path="/m", why="open", fix=""),
            Refused(OID, "hook-broken", "/m is not safe: open"),
        ),
        (ValueError("x\n\x1b"), Refused(OID, "hook-broken", "ValueError: x\\n\\x1b")),
    ]:
        assert answers.refused(OID, fault) == expected


# -- the lines that the shells print by themselves


def _printed(shim: str, folder: Path, given: bytes = b"", **filled: str) -> list[str]:
    """What a shim prints to standard error, without coordledger's Python at work."""
    text = (ROOT / "hooks" / shim).read_text()
    nowhere = dict.fromkeys(("@PACKAGE@", "@LIBRARIES@"), "/nowhere")
    for old, new in ({"@PYTHON@": sys.executable} | nowhere | filled).items():
        assert old in text
        text = text.replace(old, new)
    (folder / shim).write_text(text)
    ran = subprocess.run(
        ["sh", folder / shim], input=given, cwd=folder, capture_output=True, check=False
    )
    assert ran.returncode == 1
    assert ran.stdout == b""
    return ran.stderr.decode().splitlines()


UPDATE = f"{OID} {OTHER} refs/coordledger/main".encode()
ASKED = {"version= given=\n": "version= given=x\n"}  # a resident process was asked before
NO_PYTHON = {"@PYTHON@": "/nowhere/python"}


@pytest.mark.parametrize(
    ("shim", "given", "filled", "expected"),
    [
        ("pre-receive", b"", {}, "the list of refs is empty or cut off"),
        ("pre-receive", UPDATE + b"\nx", {}, "the list of refs is cut off"),
        ("pre-receive", UPDATE + b"\n", NO_PYTHON, "no /nowhere/python"),
        ("pre-receive", UPDATE + b"\n", {}, "cannot start: ModuleNotFoundError"),
        ("proc-receive", b"", NO_PYTHON, "no /nowhere/python"),
        ("proc-receive", b"", {}, "cannot start: ModuleNotFoundError"),
    ],
)
def test_a_shim_that_cannot_go_on_says_so_as_an_answer(shim, given, filled, expected, tmp_path):
    [line] = _printed(shim, tmp_path, given, **filled)
    assert answers.parse(line) == Refused("-", "hook-broken", expected)
    if shim == "proc-receive":
        [line] = _printed(shim, tmp_path, given, **filled, **ASKED)
        assert answers.parse(line) == Unknown("-", expected)


def test_the_shim_says_that_a_server_sequences_as_an_answer(tmp_path):
    (tmp_path / "config").write_text("[receive]\n\tprocReceiveRefs = refs/for/coordledger\n")
    (tmp_path / "proc-receive").write_text("")
    (tmp_path / "proc-receive").chmod(0o755)
    first, _ = _printed("pre-receive", tmp_path, UPDATE + b"\n")
    assert answers.parse(first) == SEQUENCED


def test_the_module_imports_no_more_than_the_table_of_errors_and_digests():
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); before = set(sys.modules)\n"
    code += "import coordledger.answers\nprint(*sorted(set(sys.modules) - before))"
    argv = [sys.executable, "-I", "-S", "-E", "-c", code]
    ran = subprocess.run(argv, capture_output=True, text=True, check=True)
    seen = {name for name in ran.stdout.split()[1:] if name not in ("_sha1", "_sha2", "_sha256")}
    assert seen == {"coordledger"} | {f"coordledger.{m}" for m in ("answers", "errors", "hashes")}


def test_a_deletion_has_no_commit() -> None:
    assert str(Refused("0" * 40, "no-delete", "no")) == "coordledger: refused -: no-delete: no"
