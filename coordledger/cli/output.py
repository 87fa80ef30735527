"""The output for people and scripts.

Rules of this file:
- Results go to stdout; errors, hints, warnings and progress to stderr. With `--json`
  stdout has exactly one value, in ASCII, whatever happened.
- A result is printed after the call that made it has returned, never before.
- Text that somebody else wrote is shown harmless: what does not print, and what turns
  the direction of writing, is escaped; lines of a body are indented, so that none can
  pass for a line of ours.
- Colour and progress only on a terminal, no colour where NO_COLOR is set; nothing is said
  by colour alone. On a terminal tables are cut to its width, elsewhere never.
- A reader that stops (`| head`) neither sees an error nor changes the exit code, unless
  something has landed that it may not have read of.

Everything that is printed passes `Screen`; it knows no command.
"""

from __future__ import annotations

import contextlib
import math
import os
import sys
import time
from typing import TYPE_CHECKING

import click

from coordledger.client.texts import safe as safe  # noqa: PLC0414 - for the rest of cli, too

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime
    from typing import Any, TextIO

    from coordledger.errors import CoordledgerError

_BAR = 30  # characters
_REDRAWN = 0.1  # seconds
_ELASTIC_LEAST, _LAST_LEAST = 12, 20  # characters of a table's columns
_WIDE = 120  # characters: room for whole times
_ERASE = "\r\x1b[2K"
_COLOURS = {
    "won": "green",
    "renewed": "green",
    "kept": "green",
    "lost": "red",
    "claimed": "yellow",
    "expired": "red",
    "done": "green",
    "invalid": "red",
    "unknown-key": "red",
    "server": "bright_black",
    "nobody": "bright_red",
    "ok": "green",
    "FAIL": "red",
    "none": "yellow",
    "high": "red",
    "landed": "green",
    "voided": "yellow",
    "withdrawn": "yellow",
    "open": "cyan",
}
BAD = ("invalid", "unknown-key")
CHECKED_BY = {"server": "checked by the server", "nobody": "CHECKED BY NOBODY"}
_NOBODY = "nobody: no key here to check it with, and the server's hook has not vouched for it"
NOT_ENFORCED = "none; forged records are detected where the keys are, not prevented"


def doubt_cell(verdict: str, checked: str) -> str:
    """The same as `Screen.doubt` in a table: "" where this reader has checked it."""
    return verdict if verdict in BAD else "" if checked == "here" else checked


def task_name(task: str) -> str:
    """A task's id as people are shown it: decoded, where it is a name from elsewhere; in quotation
    marks then, so that its end is seen.
    """
    from coordledger.client.task_ids import decode  # noqa: PLC0415 - only where a task is shown

    name = decode(task)
    return safe(task) if name == task or '"' in name else f'"{safe(name)}"'


def block(text: str, indent: str = "    ") -> str:
    """A body of several lines, each safe and indented."""
    return "\n".join(indent + safe(line) for line in text.rstrip("\n").split("\n"))


def about(moment: datetime, now: datetime) -> str:
    """`in 42 min`"""
    from coordledger.format import timestamps  # noqa: PLC0415 - only where a time is shown

    seconds = math.ceil((moment - now).total_seconds())  # a lease of 2 h just begun: in 2 h
    span = timestamps.span(abs(seconds) * 1000)
    return f"in {span}" if seconds > 0 else f"{span} ago" if seconds else "now"


def when(moment: datetime | None, now: datetime) -> str:
    """`03:10:00Z (in 42 min)`, with the date if that is not today's."""
    if moment is None:
        return "-"
    relative = about(moment, now)
    date = "" if moment.date() == now.date() else f"{moment:%Y-%m-%d} "
    return f"{date}{moment:%H:%M:%S}Z ({relative})"


def moving(what: str, done: int, of: int, rate: float, room: int) -> str:
    """How far something has got, in one line of at most `room` characters; `rate` a second."""
    from coordledger.format import timestamps  # noqa: PLC0415 - only where a time is shown

    words = f"{what} {done:,} of {of:,}" if of else f"{what} {done:,}" if done else f"{what} ..."
    if of and rate > 0:
        left = max(0, math.ceil((of - done) / rate)) * 1000
        words += f", {rate:,.0f} a second, {timestamps.span(left)} left"
    width = min(_BAR, room - len(words) - 3)
    if of and width > 0:
        full = width * min(done, of) // of
        words = f"[{'#' * full}{'.' * (width - full)}] {words}"
    return words[:room]


def _width(text: str) -> int:
    """How many columns of a terminal a text takes that is `safe`."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415 - most texts are ASCII

    return cell_len(text)


def _widest(texts: Sequence[str]) -> int:
    return max(map(len if all(map(str.isascii, texts)) else _width, texts))


def _all_safe(texts: Sequence[str]) -> list[str]:
    whole = "".join(texts)
    return list(texts) if whole.isascii() and whole.isprintable() else list(map(safe, texts))


def _blanks(text: str, width: int) -> str:
    return " " * (width + 2 - _width(text))


def _cut_off(text: str, width: int) -> str:
    """`text` without its end, if it is wider."""
    if _width(text) <= width:
        return text
    from rich.cells import set_cell_size  # noqa: PLC0415 - most texts have room

    return set_cell_size(text, width - 1) + "…"


def shorten(text: str, width: int) -> str:
    """`text` without its middle, if it is wider: ids differ at their ends."""
    if _width(text) <= width:
        return text
    from rich.cells import cell_len, set_cell_size  # noqa: PLC0415 - as above

    if width < 3:
        return set_cell_size(text, max(width, 0))
    end = text[-(width // 2) :]
    while cell_len(end) > width // 2:
        end = end[1:]
    return set_cell_size(text, width - cell_len(end) - 1) + "…" + end


def laid_out(value: object) -> str:
    """A JSON value as `json.dumps` has it with an indent of 2, in ASCII; in a third of the time."""
    import json  # noqa: PLC0415 - other output needs none

    quote = json.encoder.encode_basestring_ascii

    def show(value: Any, end: str) -> str:
        if isinstance(value, str):
            return quote(value)
        if value is None or type(value) is int:
            return "null" if value is None else str(value)
        if isinstance(value, dict) and value:
            inside = f"{end}  "
            members = [f"{quote(name)}: {show(item, inside)}" for name, item in value.items()]
            return f"{{{inside}{f',{inside}'.join(members)}{end}}}"
        if isinstance(value, list) and value:
            inside = f"{end}  "
            items = [show(item, inside) for item in value]
            return f"[{inside}{f',{inside}'.join(items)}{end}]"
        return json.dumps(value)

    return show(value, "\n")


def _narrow(widths: list[int], elastic: Sequence[int], room: int) -> None:
    """Make the widest of the elastic columns narrower, until all columns fit into `room`."""
    while elastic and sum(width + 2 for width in widths) > room:
        widest = max(elastic, key=lambda index: widths[index])
        if widths[widest] <= _ELASTIC_LEAST:
            return
        widths[widest] -= 1


class Screen:
    """Both streams of one run."""

    def __init__(self) -> None:
        self.json = False
        self.is_cut_off = False  # whether a reader has stopped before all was printed
        self._progress_shown = False
        self._moving = ("", 0, 0.0)  # what is shown to move, from which number, since when
        self._drawn = 0.0
        self._held: list[str] | None = None  # what a pager is to show
        self._hears: Callable[[str], None] | None = None  # warnings, where they cannot be printed
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(errors="backslashreplace")

    # -- results

    def line(self, text: str = "") -> None:
        """A line for people; its free text is `safe` already."""
        if self._held is not None:
            self._held.append(text + "\n")
        elif not self.json:
            self._write(sys.stdout, text + "\n")

    def value(self, value: object) -> None:
        """The one JSON value."""
        if self.json:
            self._write(sys.stdout, laid_out(value) + "\n")

    def value_of(
        self,
        result: object,
        *,
        several: bool = True,
        each: Sequence[dict[str, object]] = (),
        **more: object,
    ) -> None:
        """A result of the Python interface; `more` joins each object of it, and of `each`, as
        many as there are objects, the one that is at its place.

        A sequence is printed as its only item where not `several` were asked for.
        """
        if not self.json:
            return
        from coordledger.client.claims import to_json  # noqa: PLC0415 - help needs none

        value = to_json(result)
        if not isinstance(value, list):
            self.value(value | more)
            return
        own = each or [{}] * len(value)
        values = [item | more | extra for item, extra in zip(value, own, strict=True)]
        self.value(values if several else values[0])

    def value_in_line(self, result: object) -> None:
        """One of many results that come one by one: a JSON value in a line of its own."""
        if self.json:
            import json  # noqa: PLC0415 - other output needs none

            from coordledger.client.claims import to_json  # noqa: PLC0415 - help needs none

            self._write(sys.stdout, json.dumps(to_json(result), ensure_ascii=True) + "\n")

    def raw(self, text: str) -> None:
        """A text as it is: help, or a script for the shell."""
        self._write(sys.stdout, text)

    def styled(self, word: str, shown: str | None = None) -> str:
        """`word` (shown as `shown`) in the colour that it has by its meaning."""
        text = safe(word) if shown is None else shown
        colour = _COLOURS.get(word)
        return click.style(text, fg=colour) if colour and self._colour(sys.stdout) else text

    @property
    def is_narrow(self) -> bool:
        """Whether a table has to do with little room."""
        from shutil import get_terminal_size  # noqa: PLC0415

        return self._is_terminal(sys.stdout) and get_terminal_size().columns < _WIDE

    @contextlib.contextmanager
    def paged(self) -> Iterator[None]:
        """What is printed meanwhile goes through a pager, on a terminal that it does not fit on."""
        if self.json or not self._is_terminal(sys.stdout):
            yield
            return
        from shutil import get_terminal_size  # noqa: PLC0415

        self._held = []
        try:
            yield
        finally:
            text, self._held = "".join(self._held), None
            if text.count("\n") < get_terminal_size().lines:
                self._write(sys.stdout, text)
            else:
                os.environ.setdefault("LESS", "FRX")  # as git has it
                click.echo_via_pager(text)

    def table(
        self, header: Sequence[str], rows: Sequence[Sequence[str]], elastic: Sequence[int] = ()
    ) -> None:
        """Aligned columns. Cells that name a status have its colour. Where the last column alone
        does not give the room, `elastic` ones are cut in their middle.
        """
        if self.json or not rows:
            return
        from shutil import get_terminal_size  # noqa: PLC0415

        words = list(zip(header, *rows, strict=True))  # column by column: many rows, few columns
        columns = [_all_safe(column) for column in words]
        *widths, last = map(_widest, columns)
        if self._is_terminal(sys.stdout):
            # A terminal that is too narrow for what is not elastic wraps.
            room = get_terminal_size().columns
            _narrow(widths, elastic, room - min(last, _LAST_LEAST))
            last = min(last, max(room - sum(width + 2 for width in widths), 8))
        for index in elastic:
            columns[index] = [shorten(cell, widths[index]) for cell in columns[index]]
        columns[-1] = [_cut_off(cell, last) for cell in columns[-1]]
        three = zip(words, columns, [*widths, -2], strict=True)
        drawn = [self._padded(column, shown, width) for column, shown, width in three]
        top, *others = ("".join(cells).rstrip() for cells in zip(*drawn, strict=True))
        self.line("\n".join([click.style(top, bold=True) if self.colourful else top, *others]))

    def _padded(self, words: Sequence[str], shown: list[str], width: int) -> list[str]:
        """A column of that width: cells in the colour that their `words` have, two blanks apart."""
        if self.colourful:
            pairs = zip(words, shown, strict=True)
            return [self.styled(word, cell) + _blanks(cell, width) for word, cell in pairs]
        if all(map(str.isascii, shown)):
            return [cell.ljust(width + 2) for cell in shown]
        return [cell + _blanks(cell, width) for cell in shown]

    def doubt(self, verdict: str, checked: str) -> str:
        """Behind what somebody else has signed: that it is bad, or who has checked it, if that is
        not this reader.
        """
        if verdict in BAD:
            return f"  [{self.styled(verdict)}]"
        words = CHECKED_BY.get(checked, "")
        return f"  [{self.styled(checked, words)}]" if words else ""

    def footer(self, checked: Iterable[str]) -> None:
        """What `nobody` means, where it was said."""
        if "nobody" in checked:
            self.line(_NOBODY)

    def fields(self, *pairs: tuple[str, str]) -> None:
        """Names and values, aligned; what has no value is left out."""
        shown = [(name, value) for name, value in pairs if value]
        width = max((len(name) for name, _ in shown), default=0) + 2
        for name, value in shown:
            self.line(f"{name:<{width}}{value}")

    # -- diagnostics

    def error(self, fault: CoordledgerError) -> None:
        if self.json:
            told = {"code": fault.code, "message": fault.message, "hint": fault.hint}
            self.value({"error": told})
            return
        self._diagnostic("coordledger", fault.message, "red")
        if fault.hint:
            self._diagnostic("hint", fault.hint, "cyan")

    def warn(self, text: str) -> None:
        if self._hears is not None:
            self._hears(text)
        else:
            self._diagnostic("warning", text, "yellow")

    @contextlib.contextmanager
    def heard_by(self, hears: Callable[[str], None]) -> Iterator[None]:
        """Somebody else has the terminal meanwhile: `hears` is told the warnings, and no progress
        is shown.
        """
        self._hears = hears
        try:
            yield
        finally:
            self._hears = None

    def note(self, text: str) -> None:
        """A line for people that is no result."""
        self._write(sys.stderr, safe(text) + "\n")

    def _diagnostic(self, name: str, text: str, colour: str) -> None:
        shown = f"{name}:"
        if self._colour(sys.stderr):
            shown = click.style(shown, fg=colour, bold=True)
        self._write(sys.stderr, f"{shown} {safe(text)}\n")

    def progress(self, what: str, done: int, of: int) -> None:
        """What takes long shows that it moves; `of` is 0 where nobody knows. The ledger calls
        this, often: it draws no more than people can see.
        """
        if self._hears is not None or not self._is_terminal(sys.stderr):
            return
        now = time.monotonic()
        if self._moving[0] != what or done < self._moving[1]:
            self._moving = (what, done, now)
        elif now - self._drawn < _REDRAWN:
            return
        from shutil import get_terminal_size  # noqa: PLC0415

        _, begun, since = self._moving
        rate = (done - begun) / (now - since) if now > since else 0
        room = get_terminal_size().columns - 1
        self._write(sys.stderr, moving(safe(what), done, of, rate, room))
        self._progress_shown, self._drawn = True, now

    # -- the streams

    @property
    def colourful(self) -> bool:
        return self._colour(sys.stdout)

    def _is_terminal(self, stream: TextIO | Any) -> bool:
        return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"

    def _colour(self, stream: TextIO | Any) -> bool:
        return not os.environ.get("NO_COLOR") and self._is_terminal(stream)

    def _write(self, stream: TextIO | Any, text: str) -> None:
        if stream is None:  # closed before we were started
            return
        if self._progress_shown:
            self._progress_shown = False
            self._write(sys.stderr, _ERASE)
        try:
            stream.write(text)
            stream.flush()
        except OSError as fault:
            # The rest goes nowhere, and the interpreter's own flush at the end does too.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
            self.is_cut_off = True
            if not isinstance(fault, BrokenPipeError):
                self.json = False  # what is left to be said goes to stderr
                why = f"cannot write the output: {fault.strerror}"
                raise OSError(fault.errno, why) from fault
