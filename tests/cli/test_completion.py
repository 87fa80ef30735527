"""What is completed: names of the local copy, offline, written so that no shell runs them."""

from __future__ import annotations

import shlex
import shutil
from typing import TYPE_CHECKING

import pytest

from coordledger.cli.completing import split_line
from coordledger.client import completing

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from support.fleet import Fleet

BREAKS = " \t\n\"'@><=;|&(:"
HOSTILE = (
    "$(touch${IFS}x)",
    "`x`",
    "a'b\"c",
    ";x",
    "a*",
    "#x",
    "~root",
    "!x",
    "a\\b",
    "{a,b}",
    "=ls",
)


@pytest.fixture(scope="module")
def site(founded: Callable[..., Fleet]) -> Fleet:
    fleet = founded("bob")
    alice = fleet.ledger("alice")
    with alice.batch() as batch:
        for task in ("fix-login", "fix-docs", "ns:one", "ns:two", "gone", "--force", *HOSTILE):
            batch.submit(task, labels=["ui"] if task == "fix-docs" else ())
        batch.withdraw("gone")
        batch.set_fact("image/tests", "1")
        batch.send("hello", channel="general")
    alice.claim("fix-login")
    fleet.ledger("bob").claim("ns:two")
    alice.head()
    return fleet


@pytest.fixture
def typed(
    site: Fleet, inside: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[str]]:
    """`typed("show fix")`: what bash is offered for that, however long it takes."""
    monkeypatch.setattr(completing, "PATIENCE", 30)

    def complete(line: str, agent: str = "alice", **env: str) -> list[str]:
        env |= {"COMP_LINE": f"coordledger {line}", "COMP_WORDBREAKS": BREAKS}
        ran = inside(site, agent=agent, env=env | {"_COORDLEDGER_COMPLETE": "bash_complete"})
        assert ran.stderr == ""
        return [item.removeprefix("plain,") for item in ran.stdout.splitlines() if item]

    return complete


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("show fix", ["fix-docs", "fix-login"]),
        ("show gone", []),
        ("renew ", ["fix-login"]),
        ("handoff fix-login --to ", ["alice", "bob"]),
        ("claim fix-docs ns:", ["one", "two"]),
        ("--as b", ["bob"]),
        ("list --agent=b", ["bob"]),
        ("list --label ", ["ui"]),
        ("fact get ", ["image/tests"]),
        ("messages --channel g", ["general"]),
        ("history 'ns:o", ["ns:one"]),
        ('show "ns:t', ["ns:two"]),
        ("show fix\\-d", ["fix-docs"]),
        ("show a\\\\", ["a\\\\b"]),
        ("show a\\'b", ["a\\'b\\\"c"]),
        ("show \xe9", []),
        ("show --f", []),
        ("show -- --f", []),
        ("--ledger other show ", []),
        ("-C / show ", []),
        ("-C /nowhere/at/all show ", []),
        ("--session 'not one' show fix-d", ["fix-docs"]),
        ("gu", ["guard"]),
        ("guard ", []),
    ],
)
def test_names_are_those_that_fit(
    typed: Callable[..., list[str]], line: str, offered: list[str]
) -> None:
    assert typed(line) == offered


def test_what_is_renewed_is_ones_own(typed: Callable[..., list[str]]) -> None:
    assert typed("renew ", agent="bob") == ["ns:two"]


def test_what_is_offered_is_one_word_for_a_shell(typed: Callable[..., list[str]]) -> None:
    found = typed("show ")
    assert {*HOSTILE} <= {word for item in found for word in shlex.split(item)}
    for item in found:
        assert len(shlex.split(item)) == 1
        bare = item.replace("\\\\", "")
        for special in "$`'\";*#~!{}":
            assert special not in bare.replace("\\" + special, "")
    assert not [item for item in found if item.startswith("-")]


def test_inside_of_quotation_marks_nothing_is_offered_that_ends_them(
    typed: Callable[..., list[str]],
) -> None:
    single, double = typed("show '"), typed('show "')
    assert "$(touch${IFS}x)" in single
    assert not [item for item in single if "'" in item]
    assert "a*" in double
    assert not [item for item in double if set(item) & set('"$`\\!')]


def test_the_copy_answers_where_the_remote_is_gone_and_a_damaged_one_says_nothing(
    site: Fleet, typed: Callable[..., list[str]]
) -> None:
    trusted = site.clone("alice") / ".git" / "coordledger" / "main" / "trusted.json"
    content = trusted.read_bytes()
    away = site.remote.rename(site.root / "away.git")
    try:
        assert typed("show fix") == ["fix-docs", "fix-login"]
        for bad in (b"", b"{", content.replace(b'"commit":"', b'"commit":"0')):
            trusted.write_bytes(bad)
            assert typed("show fix") == []
        trusted.unlink()
        assert typed("show fix") == []
    finally:
        away.rename(site.remote)
        trusted.write_bytes(content)


def test_of_what_is_not_read_in_time_nothing_is_offered(
    typed: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(completing, "PATIENCE", 0)
    assert len(typed("show ")) <= 1


def test_nothing_is_written(site: Fleet, typed: Callable[..., list[str]]) -> None:
    folder = site.clone("alice") / ".git" / "coordledger"
    shutil.rmtree(folder / ".sessions", ignore_errors=True)
    before = sorted(folder.rglob("*"))
    typed("renew ")
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("line", "words", "quote"),
    [
        ("a", ["a"], ""),
        ("a ", ["a", ""], ""),
        ("a  b\\ c", ["a", "b c"], ""),
        ("a 'b c", ["a", "b c"], "'"),
        ("a 'b'\"c ", ["a", "bc "], '"'),
        ("a '' b", ["a", "", "b"], ""),
        ("a \\", ["a", ""], ""),
        ("", [""], ""),
    ],
)
def test_a_line_is_split_as_the_shell_does(line: str, words: list[str], quote: str) -> None:
    assert split_line(line) == (words, quote)
