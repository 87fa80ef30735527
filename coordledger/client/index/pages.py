"""The lines of all tasks of a large ledger, in `tasks.db` beside the verified head.

Rules of this file:
- It answers for one state: whose tree names, by their ids, the folders of pages that it was filled
  from. For another one it is brought up first; only folders and pages with another id are read.
- A line that is shown is proved: the lines of its page hash to the page's id, and the ids of the
  folder's pages to the folder's, which the verified tree names. So a file that was spoilt can hide
  a task, or show one out of turn; what it shows of a task is what the chain says.
- Beside a line stands what was made of the records that it names, once they had been verified
  (`facts`). That counts for the same line, the same chain and the same keys at hand (`Basis`), and
  with its checksum. It is as trustworthy as the verified head beside it: who can write the one can
  write the other.
- It is disposable, and nothing hangs on it: whatever is wrong, the pages and records are read.
"""

from __future__ import annotations

import contextlib
import sqlite3
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from coordledger.client.index import Basis, database
from coordledger.format import canonical, timestamps
from coordledger.format.state import value_of
from coordledger.git.tree import folder_id, object_id

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from coordledger.client.replica import Replica
    from coordledger.format.records import Record
    from coordledger.format.state import State

T = TypeVar("T")

VERSION = 1
NAME = "tasks.db"
_PATIENCE = 2.0  # seconds that another process's transaction is waited for
_MANY = 500  # pages that are proved by reading all of them
_TABLES = """
CREATE TABLE basis (ledger TEXT, first INTEGER, seq INTEGER, oid TEXT, keys TEXT);
CREATE TABLE folders (folder TEXT PRIMARY KEY, oid TEXT NOT NULL);
CREATE TABLE pages (
    page INTEGER PRIMARY KEY, folder TEXT NOT NULL, path TEXT NOT NULL UNIQUE, oid TEXT NOT NULL
);
CREATE INDEX pages_in_folder ON pages (folder);
CREATE TABLE tasks (
    number INTEGER PRIMARY KEY, page INTEGER NOT NULL, task TEXT NOT NULL, ended INTEGER NOT NULL,
    priority INTEGER NOT NULL, first_seq INTEGER NOT NULL, status TEXT NOT NULL, until INTEGER,
    agent TEXT, released TEXT, offered INTEGER NOT NULL
);
CREATE INDEX tasks_on_page ON tasks (page, task);
CREATE TABLE texts (number INTEGER PRIMARY KEY, line BLOB NOT NULL, facts BLOB);
"""
_STATUS = "CASE WHEN status = 'claimed' AND until <= ? THEN 'expired' ELSE status END"
_ORDER = "ended, priority DESC, first_seq, task"  # as `choosing.urgency` has it
_ENDED = ("done", "withdrawn")


class Spoilt(Exception):
    """The file does not say what the state does."""


class Filed(NamedTuple):
    """A task's line, its place in the file, and the facts beside it, if there are any."""

    number: int
    page: int
    line: bytes
    facts: bytes | None

    @property
    def task(self) -> Record:
        return value_of(self.line)

    @property
    def told(self) -> Any:
        """The facts, or None where there are none, or they were spoilt."""
        facts = self.facts
        if not isinstance(facts, bytes) or zlib.crc32(facts[4:]).to_bytes(4) != facts[:4]:
            return None
        return canonical.read(facts[4:])


class Lines:
    """The file, once it is that of a state."""

    def __init__(self, replica: Replica, state: State, db: sqlite3.Connection) -> None:
        self._replica, self._state, self._db = replica, state, db
        self._folders = state.task_folders()
        self._algo = replica.local.repository.algo

    # -- what is asked of it

    def counts(self, at: int, statuses: Collection[str], agent: str | None) -> dict[str, int]:
        """How many tasks have each of the `statuses` (none: any) at a moment, held by `agent`."""
        where, values = _where(at, statuses, agent)
        sql = f"SELECT {_STATUS}, count(*) FROM tasks{where} GROUP BY 1"  # noqa: S608 - no values
        return dict(self._all(sql, at, *values))

    def listed(
        self, at: int, statuses: Collection[str], agent: str | None, limit: int | None
    ) -> list[Filed]:
        """The first `limit` of these tasks, the most urgent first, and ended ones last."""
        where, values = _where(at, statuses, agent)
        return self._found(where, _ORDER, [*values, -1 if limit is None else limit])

    def busy(self) -> list[Filed]:
        """The tasks that are claimed, or offered to somebody."""
        return self._found(" WHERE status = 'claimed' OR offered", "task", [-1])

    def claimable(self, agent: str | None) -> list[Filed]:
        """The tasks that are not ended, the most urgent first, and last those that the agent has
        given back itself. They are not proved: the one that is chosen is looked up.
        """
        order = f"released IS NOT NULL AND released = ?, {_ORDER}"
        found = self._rows(" WHERE NOT ended", order, [agent, -1])
        if not all(isinstance(one.line, bytes) for one in found):
            raise Spoilt
        return found

    def _found(self, where: str, order: str, values: list[Any]) -> list[Filed]:
        found = self._rows(where, order, values)
        self._prove({one.page for one in found}, every=not where and values == [-1])
        return found

    def _rows(self, where: str, order: str, values: list[Any]) -> list[Filed]:
        # SQLite puts rows in order with all that is asked for of them, so not with their texts.
        ordered = f"SELECT number, page FROM tasks{where} ORDER BY {order} LIMIT ?"  # noqa: S608 - no values
        sql = f"SELECT number, line, facts FROM texts JOIN ({ordered}) USING (number)"  # noqa: S608
        texts = {number: (line, facts) for number, line, facts in self._all(sql, *values)}
        rows = self._all(ordered, *values)
        return [Filed(number, page, *texts[number]) for number, page in rows if number in texts]

    def _all(self, sql: str, *values: Any) -> list[Any]:
        return self._db.execute(sql, values).fetchall()

    # -- it is what the state says

    def is_of_state(self) -> bool:
        return dict(self._all("SELECT folder, oid FROM folders")) == self._folders

    def _prove(self, pages: set[int], *, every: bool) -> None:
        """Raises `Spoilt`: the lines of these pages, or of `every` one, are not the state's."""
        among, values = "", []
        if not every and len(pages) <= _MANY:
            among, values = f" WHERE page IN ({', '.join('?' * len(pages))})", [*pages]
        contents: dict[int, list[bytes]] = {}
        sql = f"SELECT page, line FROM tasks JOIN texts USING (number){among} ORDER BY page, task"  # noqa: S608 - no values
        for page, line in self._all(sql, *values):
            if not isinstance(line, bytes):
                raise Spoilt
            contents.setdefault(page, []).append(line)
        ids = {
            page: object_id("blob", b"".join(lines), self._algo) for page, lines in contents.items()
        }
        folders: dict[str, dict[str, str]] = {}
        sql = f"""SELECT folder, path, oid, page FROM pages WHERE folder IN (
            SELECT folder FROM pages{among})"""  # noqa: S608 - no values
        for folder, path, oid, page in self._all(sql, *values):
            files = folders.setdefault(folder, {})
            files[path.rpartition("/")[2]] = ids.get(page, "" if every else oid)
        for folder in self._folders if every else folders:
            try:
                made = folder_id(folders.get(folder, {}), self._algo)
            except (TypeError, ValueError):  # what stands for an id is none
                raise Spoilt from None
            if made != self._folders.get(folder):
                raise Spoilt

    # -- filling it

    def prepare(self) -> None:
        """Make the tables, where there are none. Raises `Spoilt`: another version."""
        [(version,)] = self._all("PRAGMA user_version")
        if version == 0:
            with database.transaction(self._db):
                if self._all("PRAGMA user_version") == [(0,)]:
                    for statement in _TABLES.split(";"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {VERSION}")
        elif version != VERSION:
            raise Spoilt

    def bring_up(self) -> None:
        """Fill in what the state has and the file has not, unless another process does so."""
        known = dict(self._all("SELECT folder, oid FROM folders"))
        if known == self._folders:
            return
        changed = {f: oid for f, oid in self._folders.items() if known.get(f) != oid}
        other = [*changed, *(known.keys() - self._folders.keys())]
        were: dict[str, tuple[str, int]] = {}
        for folder in other:
            sql = "SELECT path, oid, page FROM pages WHERE folder = ?"
            were |= {path: (oid, page) for path, oid, page in self._all(sql, folder)}
        now = {path: (f, oid) for f in changed for path, oid in self._state.task_pages(f).items()}
        fresh = {at: one for at, one in now.items() if were.get(at, ("", 0))[0] != one[1]}
        gone = {page for at, (_, page) in were.items() if at in fresh or at not in now}
        unread = [oid for path in fresh for oid in self._state.unread_pages(path)]
        self._replica.local.repository.read_ahead(unread)
        lines = {path: self._state.lines_on(path) for path in fresh}
        with database.transaction(self._db):
            if dict(self._all("SELECT folder, oid FROM folders")) != known:
                return
            kept = self._remove(gone)
            many = self._db.executemany
            many("DELETE FROM folders WHERE folder = ?", [(folder,) for folder in other])
            many("INSERT INTO folders VALUES (?, ?)", changed.items())
            number, first = self._next("number", "tasks"), self._next("page", "pages")
            pages, tasks, texts = list[Any](), list[Any](), list[Any]()
            for page, (path, (folder, oid)) in enumerate(fresh.items(), first):
                pages.append((page, folder, path, oid))
                for line in lines[path]:
                    tasks.append((number, page, *_columns(line)))
                    texts.append((number, line, kept.get(line)))
                    number += 1
            many("INSERT INTO pages VALUES (?, ?, ?, ?)", pages)
            many("INSERT INTO tasks VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", tasks)
            many("INSERT INTO texts VALUES (?, ?, ?)", texts)

    def _next(self, column: str, table: str) -> int:
        [(newest,)] = self._all(f"SELECT max({column}) FROM {table}")  # noqa: S608 - no values
        return (newest or 0) + 1

    def _remove(self, pages: set[int]) -> dict[bytes, bytes]:
        """Remove pages; the facts that stood beside their lines."""
        kept: dict[bytes, bytes] = {}
        for page in pages:
            on_page = "SELECT number FROM tasks WHERE page = ?"
            sql = f"SELECT line, facts FROM texts WHERE number IN ({on_page})"  # noqa: S608
            kept |= {line: facts for line, facts in self._all(sql, page) if facts}
            self._db.execute(f"DELETE FROM texts WHERE number IN ({on_page})", (page,))  # noqa: S608
            self._db.execute("DELETE FROM tasks WHERE page = ?", (page,))
            self._db.execute("DELETE FROM pages WHERE page = ?", (page,))
        return kept

    # -- the facts beside the lines

    def has_facts_for(self, basis: Basis) -> bool:
        """Whether the facts count for this chain and these keys."""
        known = self._all("SELECT * FROM basis")
        return len(known) == 1 and _same(self._replica, Basis(*known[0]), basis)

    def note(self, basis: Basis, told: Iterable[tuple[Filed, Any]]) -> None:
        """Put these beside the lines that they were made for, where they stand still; they, and
        those that are there, count for that chain and these keys.
        """
        with database.transaction(self._db):
            if not self.has_facts_for(basis):
                self._db.execute("UPDATE texts SET facts = NULL")
            self._db.execute("DELETE FROM basis")
            self._db.execute("INSERT INTO basis VALUES (?, ?, ?, ?, ?)", basis)
            self._db.executemany(
                "UPDATE texts SET facts = ? WHERE number = ? AND line = ?",
                [(_packed(facts), one.number, one.line) for one, facts in told],
            )


def _same(replica: Replica, known: Basis, now: Basis) -> bool:
    """Whether both are of one chain, which has grown since, and of the same keys."""
    same = (known.ledger, known.first, known.keys) == (now.ledger, now.first, now.keys)
    return same and known.seq <= now.seq and replica.local.id_at(known.seq) == known.oid


def _where(at: int, statuses: Collection[str], agent: str | None) -> tuple[str, list[Any]]:
    words, values = [], list[Any]()
    if statuses:
        words.append(f"{_STATUS} IN ({', '.join('?' * len(statuses))})")
        values += [at, *statuses]
    if agent is not None:
        words.append("agent = ?")
        values.append(agent)
    return (f" WHERE {' AND '.join(words)}" if words else ""), values


def _columns(line: bytes) -> tuple[Any, ...]:
    task = value_of(line)
    until = timestamps.recall(task["until"]) if task["until"] else None
    released = task["released"]["agent"] if task["released"] else None
    return (
        task["task"],
        task["status"] in _ENDED,
        task["priority"],
        task["first_seq"],
        task["status"],
        until,
        task["agent"],
        released,
        task["offer"] is not None,
    )


def _packed(facts: Any) -> bytes:
    content = canonical.encode(facts)
    return zlib.crc32(content).to_bytes(4) + content


def ask(replica: Replica, state: State, question: Callable[[Lines], T]) -> T | None:
    """The answer of the file, brought up to `state`; None, where the pages have to be read."""
    folder = replica.local.folder
    for _ in range(2):
        try:
            with database.opened(folder, NAME, make=True, patience=_PATIENCE) as db:
                lines = Lines(replica, state, db)
                lines.prepare()
                lines.bring_up()
                with database.transaction(db, "DEFERRED"):
                    if lines.is_of_state():
                        return question(lines)
                continue  # another process has brought it up to another state
        except Spoilt:
            pass
        except sqlite3.Error as fault:
            if not database.is_spoilt(fault):
                return None
        except OSError:
            return None
        if not database.discard(folder, NAME):
            return None
    return None


def note(replica: Replica, state: State, basis: Basis, told: list[tuple[Filed, Any]]) -> None:
    """Put facts beside lines, where they can be kept."""
    folder = replica.local.folder
    with (
        contextlib.suppress(sqlite3.Error, OSError),
        database.opened(folder, NAME, make=False, patience=_PATIENCE) as db,
    ):
        Lines(replica, state, db).note(basis, told)
