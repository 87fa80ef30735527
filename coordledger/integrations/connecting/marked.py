"""A block between two marks in a text of lines: Markdown, TOML.

Rules of this file: the block comes last. `take` is the inverse of `put`, whatever was written
around the block since. Where the text before ended without a newline, the block does, too: that is
how it is told, and so is an empty file from none. Marks that are no pair are refused.
"""

from __future__ import annotations

from typing import NamedTuple

BEGIN, END = "coordledger:begin", "coordledger:end"


class BrokenMarks(Exception):
    """There is no telling what of the text is the block."""


class Marks(NamedTuple):
    """How a comment is written."""

    before: str
    after: str

    @property
    def begin(self) -> str:
        return self.before + BEGIN + self.after

    @property
    def end(self) -> str:
        return self.before + END + self.after


MARKDOWN = Marks("<!-- ", " -->")
HASH = Marks("# ", "")


def _span(text: str, marks: Marks) -> tuple[int, int] | None:
    """From the first character of the block to behind its last, without the newline."""
    begins, ends = [], []
    at = 0
    for line in text.split("\n"):
        bare = line.strip(" \t\r")
        if bare == marks.begin:
            begins.append(at)
        elif bare == marks.end:
            ends.append(at + len(line.rstrip("\r")))
        at += len(line) + 1
    if not begins and not ends:
        return None
    if len(begins) != 1 or len(ends) != 1 or ends[0] < begins[0]:
        raise BrokenMarks
    return begins[0], ends[0]


def _newline(text: str) -> str:
    return "\r\n" if "\r\n" in text else "\n"


def find(text: str, marks: Marks) -> str | None:
    """What stands between the marks, lines ending in a newline alone. Raises BrokenMarks."""
    span = _span(text, marks)
    if span is None:
        return None
    lines = text[span[0] : span[1]].replace("\r\n", "\n").split("\n")
    return "".join(f"{line}\n" for line in lines[1:-1])


def put(text: str, marks: Marks, block: str) -> str:
    """The text with the block, in the place of one that is there."""
    span = _span(text, marks)
    newline = _newline(text if span is None else text[span[0] : span[1]])
    whole = newline.join([marks.begin, *block.splitlines(), marks.end])
    if span is not None:
        return text[: span[0]] + whole + text[span[1] :]
    if not text:
        return whole
    return text + newline + whole + newline if text.endswith("\n") else text + 2 * newline + whole


def take(text: str, marks: Marks) -> str:
    """The text without the block."""
    span = _span(text, marks)
    if span is None:
        return text
    before, after = text[: span[0]], text[span[1] :]
    newline = _newline(text[span[0] : span[1]])
    for _ in range(1 if after else 2):
        before = before.removesuffix(newline)
    return before + after.removeprefix(newline)


def made(marks: Marks, block: str) -> str:
    """A file that is made for the block."""
    return put("", marks, block) + "\n"
