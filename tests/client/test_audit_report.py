"""The report of an audit: what it says of a chain that has every kind of record, in both forms."""

from __future__ import annotations

import functools
from html.parser import HTMLParser

from markdown_it import MarkdownIt
from support import hostile

from coordledger.client.reporting import audited
from coordledger.client.reporting.document import (
    Document,
    Foreign,
    Section,
    Table,
    html,
    markdown,
)
from coordledger.client.reporting.seen import GAP, Seen
from coordledger.client.reports import Audit, Head
from coordledger.format import timestamps
from coordledger.format.chain import Chain
from coordledger.format.commit import Commit
from coordledger.format.signing import Signed

MARKUP = "</td><script>alert(1)</script><img src=x onerror=alert(1)> &lt; | `a` ``b`` [x](y) *z*"
FENCES = ("`", "``` ` ", "|", "\\|<b>", "\\\\|<b>", "\\`<b>", " ")
RENDER = MarkdownIt("commonmark").enable("table").render
TOLD = audited.Circumstances(
    head=Head("0" * 32, 3, "1" * 64, "2" * 40),
    ref="refs/coordledger/main",
    remote="origin",
    oldest=0,
    keys={},
    trust=(),
    cuts=None,
    notes=(),
    enforcement="unknown",
    by="bob on host",
    at="2026-05-04T03:02:01.000Z",
    versions=("coordledger x",),
)


@functools.cache
def all_kinds() -> tuple[Seen, Chain]:
    """What is seen of the chain of the vectors, and where that ends."""
    objects: dict[str, tuple[str, bytes]] = {}
    chain = Chain(lambda oid: objects[oid][1], hostile.keyring(), None, "sha1")
    seen = Seen()
    for oid, content in hostile.log():
        chain.judge(oid, content)
        objects |= chain.state.tree.objects
        assert chain.head
        seen.add(chain.head, "nobody" if chain.head.seq % 2 else "here")
    return seen, chain


def dated(seen: Seen, *times: str) -> None:
    """Records of the chain, as they would be at other times."""
    _, chain = all_kinds()
    assert chain.head
    for seq, at in enumerate(times):
        record = chain.head.record | {"at": at, "kind": "void", "intent": "x"}
        made = Commit.__new__(Commit)
        made.signed, made.seq = Signed(b"", record, b""), seq
        seen.add(made, "here")


def test_every_key_that_has_ended_is_told_with_what_ended_it() -> None:
    seen, chain = all_kinds()
    ended = {(one.who, one.key) for one in seen.key_changes if one.what in ("revoked", "ended")}
    active = {
        (name, key["id"])
        for name in chain.state.agents()
        for key in (chain.state.agent(name) or {})["keys"]
        if key["until"] is None
    }
    assert set(seen.brought) - ended == active
    assert any(one.what == "ended" for one in seen.key_changes)
    assert {one.what for one in seen.key_changes} >= {"founded", "enrolled", "another key"}


def test_what_an_auditor_asks_for_is_there() -> None:
    seen, chain = all_kinds()
    records = len(hostile.log())
    forced = [r for r in seen.forced if r.holder]
    assert len(forced) == len(seen.forced) == 2
    assert sum(span.count for span in seen.imports.values()) == 6
    assert sum(span.count for span in seen.keys.values()) == records == seen.kinds.total()
    assert chain.head
    audit = Audit("0" * 32, "2" * 40, records, {"authentic": records}, {"here": records}, (), 0)
    document = audited.describe(audit, seen, TOLD)
    assert document.is_good
    assert "compared with nothing" in markdown(document)
    assert "the ledger that is meant was not" in document.outcome
    unchecked = audit.__class__(*("0" * 32, "2" * 40, 4, {"unverified": 4}, {"nobody": 4}, (), 0))
    told = markdown(audited.describe(unchecked, seen, TOLD))
    assert "4 of 4 records were checked by nobody" in told
    assert "no secret for this key here" in told


def test_gaps_and_steps_back_are_told() -> None:
    seen = Seen()
    days = [timestamps.show(day * GAP) for day in (1, 2, 4)]
    dated(seen, *days, timestamps.show(4 * GAP - 5000), timestamps.show(9 * GAP))
    assert sorted((gap.seq, gap.length // GAP) for gap in seen.gaps) == [(2, 2), (4, 5)]
    assert (seen.steps_back, seen.longest_back) == (1, 5000)


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(name.startswith("on") for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def described(text: str) -> Document:
    table = Table(("A", "B"), ((Foreign(text), "x"),), "none", more=3)
    section = Section("H", ("p",), (("fact", Foreign(text)),), table)
    return Document("T", "o", is_good=False, sections=(section,))


def bars(document: Document) -> list[int]:
    """How many there are in each line: not every reader ends a cell where another does."""
    return [line.count("|") for line in markdown(document).splitlines()]


def test_no_foreign_text_is_markup_in_either_form() -> None:
    plain = described("x")
    for text in (
        MARKUP,
        "`",
        "``` ` ",
        "|",
        "\\|<b>",
        "\\\\|<b>",
        "\\`<b>",
        " ",
        *hostile.TEXTS.values(),
    ):
        page, usual = _Page(html(described(text))), _Page(html(plain))
        assert page.tags == usual.tags
        assert hostile.is_harmless(page.text.replace("\ufeff", ""))
        rendered, usually = _Page(RENDER(markdown(described(text)))), _Page(RENDER(markdown(plain)))
        assert rendered.tags == usually.tags
        assert hostile.is_harmless(rendered.text)
        assert bars(described(text)) == bars(plain)
