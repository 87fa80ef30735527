"""A document for people to read, print and sign: what it says, and that as Markdown and as HTML.

Rules of this file:
- A document is a value: headings, paragraphs and tables of cells. It is described once, and both
  forms come from that.
- What somebody else wrote is a `Foreign` text, and so is whatever is copied from a record: on one
  line, with what does not print made visible, in Markdown in a code span that nothing in it ends.
- The page has no script, and loads nothing (`page`). No I/O.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from coordledger.client.reporting.page import assemble, escaped
from coordledger.client.texts import safe
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Sequence

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&])")


class Foreign(Value):
    """A text that is not ours."""

    text: str


Cell = str | Foreign


class Table(Value):
    """`header` names the columns of the `rows`; `none` is said where there is no row, and `more`
    how many rows were left out.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    none: str
    more: int = 0


class Section(Value):
    """A part with a heading. `facts` are pairs of a name and what it is."""

    heading: str
    paragraphs: tuple[str, ...] = ()
    facts: tuple[tuple[str, Cell], ...] = ()
    table: Table | None = None


class Document(Value):
    """`outcome` is the sentence that all of it comes to, `is_good` whether that is well."""

    title: str
    outcome: str
    is_good: bool
    sections: tuple[Section, ...]


# -- Markdown


def markdown(document: Document) -> str:
    """The document as Markdown, with tables as GitHub has them."""
    blocks = [f"# {_plain(document.title)}", f"**{_plain(document.outcome)}**"]
    for section in document.sections:
        blocks.append(f"## {_plain(section.heading)}")
        blocks += [_plain(text) for text in section.paragraphs]
        if section.facts:
            blocks.append(_rows(("", ""), section.facts))
        if section.table:
            blocks += _table(section.table)
    return "\n\n".join(blocks) + "\n"


def _table(table: Table) -> list[str]:
    if not table.rows:
        return [_plain(table.none)]
    more = [f"{table.more} more"] if table.more else []
    return [_rows(table.header, table.rows), *more]


def _rows(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    lines: list[Sequence[Cell]] = [header, *rows]
    drawn = [f"| {' | '.join(map(_cell, line))} |" for line in lines]
    drawn.insert(1, "|" + " --- |" * len(header))
    return "\n".join(drawn)


def _cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return _plain(cell)
    # Readers do not agree on where a bar after backslashes ends a cell.
    text = safe(cell.text).replace("|", r"\x7c")
    if not text:
        return ""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    pad = " " if text.startswith("`") or text.endswith("`") else ""
    # What begins and ends with a blank would lose one of each.
    pad = pad or (" " if text.startswith(" ") and text.endswith(" ") and text.strip() else "")
    return f"{fence}{pad}{text}{pad}{fence}"


def _plain(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", safe(text))


# -- HTML


def html(document: Document) -> str:
    """The document as one page that can be printed."""
    word, look = ("well", "good") if document.is_good else ("not well", "bad")
    mark = f'<span class="mark {look}">{word}</span>'
    parts = [
        '<main class="wrap"><div class="panel">',
        f'<h1 class="foreign">{escaped(document.title)}</h1>',
        f"<p>{mark} <strong>{escaped(document.outcome)}</strong></p></div>",
    ]
    for section in document.sections:
        parts.append(f'<section class="panel"><h2>{escaped(section.heading)}</h2>')
        parts += [f'<p class="note">{escaped(text)}</p>' for text in section.paragraphs]
        if section.facts:
            parts.append(_html_rows((), section.facts))
        if section.table:
            parts += _html_table(section.table)
        parts.append("</section>")
    return assemble(title=document.title, body="\n".join([*parts, "</main>"]), scripts=())


def _html_table(table: Table) -> list[str]:
    if not table.rows:
        return [f"<p>{escaped(table.none)}</p>"]
    more = [f'<p class="note">{table.more} more</p>'] if table.more else []
    return [_html_rows(table.header, table.rows), *more]


def _html_rows(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    cells = "".join(f'<th scope="col">{escaped(name)}</th>' for name in header)
    head = f"<thead><tr>{cells}</tr></thead>" if header else ""
    labels = header or ("",) * (len(rows[0]) if rows else 0)
    lines = [map(_html_cell, row, labels) for row in rows]
    drawn = "\n".join(f"<tr>{''.join(line)}</tr>" for line in lines)
    return f'<table class="table stacks">{head}<tbody>\n{drawn}\n</tbody></table>'


def _html_cell(cell: Cell, label: str) -> str:
    text = cell if isinstance(cell, str) else cell.text
    kind = "" if isinstance(cell, str) else ' class="foreign mono"'
    named = f' data-label="{escaped(label)}"' if label else ""
    return f"<td{named}><span{kind}>{escaped(text)}</span></td>" if text else "<td></td>"
