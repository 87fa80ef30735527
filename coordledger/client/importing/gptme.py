"""A coordination database of gptme's: work, messages, events, facts and leases, as rows.

Rules: columns are read by name, as older versions have fewer, and those that are not known are left
behind; a table that is not there has no rows. The file may be anybody's: only tables are read, no
view, nothing that computes, one row after the other, so that one that cannot be read keeps no other
back; values and times are bounded.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from typing import TYPE_CHECKING, Any

from coordledger.client.importing import macs, sources
from coordledger.client.importing.rows import FactRow, Legacy, MessageRow, Origin, TaskRow, Unfit
from coordledger.client.importing.texts import as_text, moment, parsed, shown
from coordledger.errors import error
from coordledger.format import timestamps
from coordledger.format.rules.imports import MAX_ATTEMPTS, MAX_EPOCH
from coordledger.format.rules.tasks import MAX_PRIORITY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from coordledger.client.importing.macs import Secrets
    from coordledger.client.importing.rows import Row

    Values = dict[str, Any]

NAME = "gptme"
TABLES = {
    "work": (
        "task_id", "claimer", "epoch", "claimed_at", "expires_at", "status", "result", "metadata",
        "completed_at", "hmac",
    ),
    "messages": ("id", "sender", "recipient", "channel", "body", "hmac", "created_at"),
    "events": (
        "id", "trigger_type", "source", "external_id", "thread_key", "repo", "number", "title",
        "url", "payload_json", "state", "priority", "retry_count", "created_at", "claimed_at",
        "completed_at", "claimed_by", "batch_id", "result", "result_detail",
    ),
    "fact_bus": ("fact_key", "value", "expires_at"),
    "leases": ("path",),
}  # fmt: skip
MAX_VALUE = 16 * 1024 * 1024  # bytes of one row
MAX_ROWS = 1_000_000  # of one table
_SECONDS = 30.0  # for one statement
_STEPS = 100_000  # of SQLite's machine between looks at the clock


def read(path: Path, secrets: Secrets, now: int) -> list[Row]:
    """All rows. `now`: milliseconds since 1970. Raises `Failed`: bad-import."""
    with sources.copied(path) as copy, contextlib.closing(_Database(copy, path)) as database:
        reader = _Reader(secrets, now)
        readers: dict[str, Callable[[Origin, Values], Row]] = {
            "work": reader.work,
            "messages": reader.message,
            "events": reader.event,
            "fact_bus": reader.fact,
            "leases": reader.lease,
        }
        tables = [table for table in TABLES if table in database.tables]
        if not {"work", "messages"} & set(tables):
            raise error("bad-import", path=path, why="it has neither work nor messages")
        return [
            _row(readers[table], table, *one) for table in tables for one in database.rows(table)
        ]


def _row(
    read_row: Callable[[Origin, Values], Row], table: str, number: int, values: Values | str
) -> Row:
    origin = Origin(table, f"row {number}")
    if isinstance(values, str):
        return Unfit(origin, values)
    try:
        return read_row(origin, values)
    except (ValueError, LookupError, OverflowError) as fault:
        return Unfit(origin, str(fault))


class _Database:
    """The tables of a file that says it is a database; texts come as bytes."""

    def __init__(self, copy: Path, path: Path) -> None:
        self._path, self._until = path, 0.0
        try:
            self._db = sqlite3.connect(copy, isolation_level=None)
            self.tables = self._opened()
        except sqlite3.Error as fault:
            raise error("bad-import", path=path, why=f"SQLite: {fault}") from None

    def _opened(self) -> dict[str, list[str]]:
        """The tables, once the connection can do no more than read."""
        try:
            self._db.text_factory = bytes
            self._db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE)
            self._db.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
            self._db.set_progress_handler(self._is_late, _STEPS)
            self._db.execute("PRAGMA trusted_schema = OFF")
            self._db.execute("PRAGMA query_only = ON")
            return self._plain_tables()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        self._db.close()

    def _is_late(self) -> int:
        return int(time.monotonic() > self._until)

    def _all(self, statement: str, *given: object) -> list[tuple[Any, ...]]:
        self._until = time.monotonic() + _SECONDS
        try:
            return self._db.execute(statement, given).fetchall()
        except (UnicodeError, OverflowError, MemoryError) as fault:  # of a name, a number, a value
            raise sqlite3.DataError(f"{type(fault).__name__}: {fault}") from None

    def _plain_tables(self) -> dict[str, list[str]]:
        """The columns of those that are read, of the tables that only keep values."""
        found: dict[str, list[str]] = {}
        for name, known in TABLES.items():
            for (sql,) in self._all("SELECT sql FROM sqlite_master WHERE name = ?", name):
                if not sql or not sql.upper().startswith(b"CREATE TABLE"):
                    continue  # a view, or a virtual table: it computes
                columns = self._all(f"PRAGMA table_xinfo({name})")
                plain = {row[1] for row in columns if not row[6]}
                found[name] = [one for one in known if one.encode() in plain]
        return found

    def rows(self, table: str) -> Iterator[tuple[int, Values | str]]:
        """Each row with its number: its values, or why it cannot be read.

        Raises `Failed`: bad-import.
        """
        query = f"SELECT rowid FROM {table} ORDER BY rowid LIMIT {MAX_ROWS + 1}"  # noqa: S608 - our name
        try:
            numbers = [row[0] for row in self._all(query)]
        except sqlite3.Error as fault:
            raise error("bad-import", path=self._path, why=f"{table}: SQLite: {fault}") from None
        if len(numbers) > MAX_ROWS:
            raise error("bad-import", path=self._path, why=f"{table}: more than {MAX_ROWS} rows")
        columns = self.tables[table]
        names = ", ".join(columns) or "NULL"
        for number in numbers:
            try:
                values = self._all(f"SELECT {names} FROM {table} WHERE rowid = ?", number)  # noqa: S608 - ours
                yield number, dict(zip(columns, values[0], strict=False))
            except (sqlite3.Error, LookupError) as fault:
                yield number, f"it cannot be read: {fault}"


class _Reader:
    """What each table's rows mean."""

    def __init__(self, secrets: Secrets, now: int) -> None:
        self._secrets, self._now = secrets, now

    def _mac(
        self, agent: str | None, tag: str | None, fields: list[object], notes: list[str]
    ) -> str:
        secret = self._secrets.of(agent) if agent is not None else None
        return macs.verdict(secret, tag, fields, notes)

    def work(self, origin: Origin, values: Values) -> Row:
        notes: list[str] = []
        text = _Texts(values, notes)
        name = text("task_id")
        if name is None:
            raise ValueError("it has no task_id")
        origin = Origin("work", name)
        status, claimer, until = text("status"), text("claimer"), text("expires_at")
        if status not in ("available", "claimed", "completed", "abandoned"):
            return Unfit(origin, f"status {shown(status)} is unknown")
        epoch = values.get("epoch")
        if type(epoch) is not int or not 0 <= epoch <= MAX_EPOCH:
            return Unfit(origin, f"epoch {shown(epoch)} is none")
        tag = text("hmac") or None
        mac = self._mac(claimer, tag, [claimer, name, epoch, until], notes)
        at = text.moment("completed_at", quiet=True) or text.moment("claimed_at")
        done = status == "completed"
        row = TaskRow(origin, name, Legacy(claimer, at, until, tag, mac), notes=notes)
        row.status, row.epoch = "done" if done else "open", epoch
        result = text("result")
        row.result = result if done else None
        if result and not done:
            row.sections.append((f"{status} there", result))
        self._metadata(row, text("metadata"))
        if status in ("claimed", "abandoned"):
            row.attempts = int(epoch > 0)
            row.meta["legacy-status"] = status
        end = text.moment("expires_at")
        if status == "claimed" and end is not None and end > self._now:
            row.holder, row.until = claimer, end
        return row

    def _metadata(self, row: TaskRow, metadata: str | None) -> None:
        """The members of an object, if it is one; else the text."""
        if not metadata:
            return
        try:
            members = parsed(metadata)
        except (ValueError, RecursionError):
            members = None
        if not isinstance(members, dict):
            row.meta["metadata"] = metadata
            return
        for name, value in members.items():
            row.meta[name] = value if isinstance(value, str) else json.dumps(value)

    def message(self, origin: Origin, values: Values) -> Row:
        notes: list[str] = []
        text = _Texts(values, notes)
        number = values.get("id")
        origin = Origin("messages", str(number) if type(number) is int else origin.id)
        sender, to, channel, body = (text(n) for n in ("sender", "recipient", "channel", "body"))
        if not body:
            return Unfit(origin, "its body is empty")
        tag = text("hmac") or None
        mac = self._mac(sender, tag, [sender, to or "", channel, body], notes)
        legacy = Legacy(sender, text.moment("created_at"), None, tag, mac)
        return MessageRow(origin, to, channel, body, legacy, notes)

    def event(self, origin: Origin, values: Values) -> Row:
        """Events are tasks: what each was tried for, and how often."""
        notes: list[str] = []
        text = _Texts(values, notes)
        number = values.get("id")
        origin = Origin("events", str(number) if type(number) is int else origin.id)
        state, claimer = text("state"), text("claimed_by")
        if state not in ("pending", "claimed", "processing", "completed", "dead_letter"):
            return Unfit(origin, f"state {shown(state)} is unknown")
        times = [text.moment(n, quiet=True) for n in ("completed_at", "claimed_at", "created_at")]
        at = next((one for one in times if one is not None), None)
        row = TaskRow(origin, f"event-{origin.id}", Legacy(claimer, at), notes=notes)
        trigger = text("trigger_type")
        row.title = text("title") or " ".join(filter(None, (trigger, text("thread_key"))))
        row.labels = [trigger] if trigger else []
        row.priority = _bounded(values.get("priority"), -MAX_PRIORITY, MAX_PRIORITY)
        row.attempts = _bounded(values.get("retry_count"), 0, MAX_ATTEMPTS)
        for name in ("source", "thread_key", "external_id", "repo", "number", "url", "batch_id"):
            value = values.get(name)
            said = str(value) if type(value) is int else text(name)
            if said:
                row.meta[name.replace("_", "-")] = said
        row.body = text("payload_json")
        result = ": ".join(filter(None, (text("result"), text("result_detail"))))
        row.is_dead = state == "dead_letter"
        if state == "completed":
            row.status, row.attempts, row.result = "done", 0, result or None
        elif state != "pending":
            row.meta["legacy-status"] = state
            if result:
                row.sections.append((f"{state} there", result))
        return row

    def fact(self, origin: Origin, values: Values) -> Row:
        notes: list[str] = []
        text = _Texts(values, notes)
        key, value = text("fact_key"), text("value")
        if key is None or value is None:
            raise ValueError("it has no fact_key, or no value")
        origin = Origin("fact_bus", key)
        end = values.get("expires_at")
        if not isinstance(end, int | float) or not 0 <= 1000 * end <= timestamps.LATEST:
            return Unfit(origin, f"its end {shown(end)} is no time")
        if 1000 * end <= self._now:
            return Unfit(origin, "it has ended")
        notes.append("a fact has no MAC there: it is the importer's here")
        return FactRow(origin, key, value, int(1000 * end), notes)

    def lease(self, origin: Origin, values: Values) -> Row:
        path = as_text(values.get("path"), [], "path")
        origin = Origin("leases", path if path is not None else origin.id)
        why = "a path is reserved by a claim here: coordledger claim TASK --path"
        return Unfit(origin, f"{why} {shown(path)}")


class _Texts:
    """The values of one row as texts and times."""

    def __init__(self, values: Values, notes: list[str]) -> None:
        self._values, self._notes = values, notes

    def __call__(self, name: str) -> str | None:
        return as_text(self._values.get(name), self._notes, name)

    def moment(self, name: str, *, quiet: bool = False) -> int | None:
        return moment(self._values.get(name), [] if quiet else self._notes, name)


def _bounded(value: object, least: int, most: int) -> int:
    return min(max(value, least), most) if type(value) is int else 0
