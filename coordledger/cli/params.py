"""Typed words as values: durations, names, texts, pairs.

Rules: a value that cannot be meant is refused here, with the same slug as anywhere else
and before anything is opened. A duration has a unit: a bare number is refused, as it is
seconds to some and minutes to others. A misspelt command or option is click's usage error.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from coordledger.errors import error
from coordledger.format.names import is_agent, is_identifier, is_task

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    ParamType = click.ParamType[Any]  # generic only in newer versions of click
    CompletionItem = click.shell_completion.CompletionItem[Any]
else:
    ParamType = click.ParamType

MAX_STDIN = 1_048_576
MAX_TIMEOUT = timedelta(days=1)
_DURATION = r"([0-9]{1,9})([smhd]?)"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def _duration(text: str, what: str) -> timedelta | None:
    """The duration, or None if it is none; `what` says where it was typed.

    Raises `Failed`: no-unit.
    """
    found = re.fullmatch(_DURATION, text)
    if found is None:
        return None
    if not found[2]:
        raise error("no-unit", what=what, value=found[1])
    return timedelta(**{_UNITS[found[2]]: int(found[1])})


def _told(param: click.Parameter | None) -> str:
    """The name of a parameter where it is typed."""
    if isinstance(param, click.Option):
        return param.opts[-1]
    return param.human_readable_name if param else "ttl"  # a line of a batch has nothing else


class Lease(ParamType):
    """A lease's length: more than zero, or `bad-ttl`."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = _duration(value, _told(param))
        if not found:
            raise error("bad-ttl", value=ascii(value))
        return found


class Span(ParamType):
    """Any other duration, or `bad-value`."""

    name = "duration"

    def __init__(self, least: timedelta = timedelta(0), most: timedelta = timedelta.max) -> None:
        self.least, self.most = least, most

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = _duration(value, _told(param))
        if found is None or not self.least <= found <= self.most:
            why = "a duration is like 90s, 10m, 2h, 1d" if found is None else "out of bounds"
            raise error("bad-value", what=_told(param), why=f"{why}, not {value!a}")
        return found


class Known(ParamType):
    """A name that a shell completes, where the local copy knows it."""

    kind = ""  # of those in `client.completing`

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - help needs none

        from coordledger.client import completing  # noqa: PLC0415 - as above

        from .common import App  # noqa: PLC0415 - it imports this module

        kind = self.kind_for(ctx)
        if kind not in completing.NAMES:
            return []
        options = ctx.ensure_object(App).options()
        found = completing.names(kind, incomplete, options, os.environ)
        return [CompletionItem(name) for name in found if not name.startswith("-")]

    def kind_for(self, ctx: click.Context) -> str:
        return self.kind


class Name(Known):
    """An identifier or an agent's name, as the format has it."""

    def __init__(
        self, name: str, code: str, is_good: Callable[[object], bool] = is_identifier
    ) -> None:
        self.name, self._code, self._is_good = name, code, is_good
        self.kind = "fact" if name == "key" else name

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:

        if not self._is_good(value):
            raise error(self._code, value=ascii(value))
        return str(value)


class Task(Known):
    """A task's id, or a name from elsewhere, which is encoded as one."""

    name = "task"

    def kind_for(self, ctx: click.Context) -> str:
        """What can be done with a task is what it is completed for."""
        if ctx.info_name in ("renew", "complete", "release", "handoff"):
            return "task-held"
        return "task-to-claim" if ctx.info_name == "claim" else "task"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from coordledger.client.task_ids import encode  # noqa: PLC0415 - help needs none

        try:
            task = encode(value)
        except ValueError:
            task = ""
        if not is_task(task):
            raise error("bad-task", value=ascii(value))
        return task


class Moment(ParamType):
    """A moment: a duration from now, or `YYYY-MM-DDTHH:MM:SSZ`."""

    name = "moment"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        if isinstance(value, datetime):
            return value
        later = _duration(value, _told(param))
        if later is not None:
            return datetime.now(UTC) + later
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is None or moment.tzinfo is None:
            why = f"a duration like 10m, or a time like 2026-11-21T03:10:00Z, not {value!a}"
            raise error("bad-value", what=_told(param), why=why)
        return moment


class Text(ParamType):
    """Free text, which has to be UTF-8."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise error("bad-value", what=_told(param), why="not UTF-8") from None
        return str(value)


class Pair(Text):
    """`KEY=VALUE`."""

    def __init__(self, read: Callable[[str], Any] = str) -> None:
        self._read = read

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, tuple):
            return value
        key, equals, given = super().convert(value, param, ctx).partition("=")
        if not key or not equals:
            raise error("bad-value", what=_told(param), why=f"KEY=VALUE, not {value!a}")
        try:
            return key, self._read(given)
        except ValueError:
            raise error(
                "bad-value", what=key, why=f"not a whole number: {given!a}; times are seconds"
            ) from None


LEASE, SPAN, TEXT = Lease(), Span(), Text()
TIMEOUT = Span(timedelta(seconds=1), MAX_TIMEOUT)
TASK, MOMENT = Task(), Moment()
LABEL = Name("label", "bad-label")
FACT = Name("key", "bad-fact", is_task)
AGENT = Name("agent", "bad-agent", is_agent)
CHANNEL = Name("channel", "bad-channel")
SESSION = Name("session", "bad-session")
LEDGER = Name("ledger", "bad-ledger")


def read_body(body: str) -> str:
    """A message's body: as given, or for `-` what stands on stdin."""
    return read_stdin("BODY") if body == "-" else body


def read_stdin(what: str, limit: int = MAX_STDIN) -> str:
    """All of stdin. Raises `Failed`: too-large, bad-value."""
    import sys  # noqa: PLC0415

    data = sys.stdin.buffer.read(limit + 1) if sys.stdin else b""
    if len(data) > limit:
        raise error("too-large", what=what, size=f"at least {len(data)}", limit=limit)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise error("bad-value", what=what, why="not UTF-8") from None
