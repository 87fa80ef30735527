"""The index in its file, `records.db` beside the verified head; or in memory, if there can be none.

Rules of this file:
- It is filled from records that the copy has adopted, in their order, each of which names the one
  before as its parent, up to the trusted head. So an index that covers records up to one of the
  trusted chain covers that chain's; that is looked up before each answer, and what it then misses
  is filled in.
- It is never believed over the chain: who shows a record reads it at its place, and an id there
  that is not the row's (`Stale`) has the index made anew. It is disposable: of another ledger,
  version or history, or torn, it is thrown away.
- Lots are read without a lock, and written in a transaction each that begins where the reading did:
  of two processes that fill at the same time one is in vain, and neither waits.
- Where there is no file to be had (a clone that cannot be written, a full disk, no locks, another
  one at it for too long), the same tables are made in memory from all records: slower, and the
  same answers.
- How a file is shared and thrown away is `database`'s.
"""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from coordledger.client.index import Asked, database, rows
from coordledger.client.replica import need_commit_at, rebuild_ids
from coordledger.errors import RuleBroken, error
from coordledger.format.commit import recall_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from coordledger.client.replica import Replica
    from coordledger.format.commit import Commit
    from coordledger.format.records import Record

    Told = tuple[int, str, Record]  # seq, id, and what it says

T = TypeVar("T")

VERSION = 1
NAME = "records.db"
LOT = 2000  # records of a transaction
_READ = 500  # records that are read together
_PATIENCE = 2.0  # seconds that another process's transaction is waited for
_TABLES = """
CREATE TABLE covered (
    version INTEGER, ledger TEXT, first INTEGER, seq INTEGER, oid TEXT, digest TEXT
);
CREATE TABLE records (
    seq INTEGER PRIMARY KEY, oid TEXT NOT NULL, at INTEGER NOT NULL, kind TEXT NOT NULL,
    agent TEXT NOT NULL, sender TEXT, recipient TEXT, channel TEXT, thread INTEGER
);
CREATE TABLE turns (
    task TEXT NOT NULL, seq INTEGER NOT NULL, what TEXT NOT NULL,
    agent TEXT, until INTEGER, since INTEGER, submitted INTEGER, offered TEXT,
    PRIMARY KEY (task, seq)
) WITHOUT ROWID;
CREATE TABLE standing (
    task TEXT PRIMARY KEY, agent TEXT, until INTEGER, since INTEGER, submitted INTEGER, offered TEXT
) WITHOUT ROWID;
CREATE TABLE acks (message INTEGER PRIMARY KEY, seq INTEGER NOT NULL);
"""


class Stale(Exception):
    """The index is not of the trusted chain."""


class Place(NamedTuple):
    """Up to which record an index covers the chain; `oid` is "" before the copy's first one."""

    seq: int
    oid: str
    digest: str


class Index:
    """The tables, filled up to the trusted head."""

    def __init__(self, replica: Replica, db: sqlite3.Connection) -> None:
        self._replica, self._db = replica, db

    # -- what is asked of it

    def newest(self, asked: Asked, limit: int | None = None) -> list[rows.Row]:
        """The newest `limit` records that are asked for, oldest first."""
        where, values = _where(asked)
        sql = f"SELECT * FROM records{where} ORDER BY seq DESC LIMIT ?"  # noqa: S608 - no values
        found = self._all(sql, *values, -1 if limit is None else limit)
        return [rows.Row(*row) for row in reversed(found)]

    def count(self, asked: Asked) -> int:
        """How many records are asked for."""
        where, values = _where(asked)
        return self._all(f"SELECT count(*) FROM records{where}", *values)[0][0]  # type: ignore[no-any-return] # noqa: S608

    def read(self, places: list[tuple[int, str]]) -> list[Commit]:
        """The records of the copy at these places. Raises `Stale`: one has another id; `Integrity`:
        bad-copy.
        """
        replica, found = self._replica, []
        for at in range(0, len(places), _READ):
            lot = places[at : at + _READ]
            replica.local.repository.read_ahead([oid for _, oid in lot])
            for seq, oid in lot:
                commit = need_commit_at(replica, seq)
                if commit and commit.oid != oid:
                    raise Stale
                found += [commit] if commit else []
        return found

    def record_at(self, seq: int) -> Commit | None:
        """The record at `seq`, if it is the row's. Raises `Stale`: it is another."""
        found = self._all("SELECT seq, oid FROM records WHERE seq = ?", seq)
        if not found:
            raise Stale
        return next(iter(self.read(found)), None)

    def turns_of(self, commit: Commit) -> list[rows.Turn]:
        """What a record did to its tasks, in its order."""
        sql = "SELECT * FROM turns WHERE task = ? AND seq = ?"
        return [
            _turn(row)
            for task in rows.tasks_of(commit.record)
            for row in self._all(sql, task, commit.seq)
        ]

    def places_of(self, task: str) -> list[tuple[int, str]]:
        """Seq and id of each record about a task, oldest first."""
        sql = "SELECT seq, oid FROM turns JOIN records USING (seq) WHERE task = ? ORDER BY seq"
        return self._all(sql, task)

    def counts(
        self, since: int | None, until: int | None
    ) -> list[tuple[str, str, str | None, int]]:
        """How often an agent did something to a task in that time, and who had that claimed."""
        sql, values = _of_turns("records.agent, what, turns.agent, count(*)", since, until)
        return self._all(f"{sql} AND what != '' GROUP BY records.agent, what, turns.agent", *values)

    def durations(self, since: int | None, until: int | None) -> list[tuple[str, int]]:
        """Of what was done in that time: by whom, and how long after its claim."""
        sql, values = _of_turns("records.agent, max(0, at - since)", since, until)
        return self._all(f"{sql} AND what = ? AND since IS NOT NULL", *values, rows.DONE)

    def waits(self, since: int | None, until: int | None) -> list[tuple[str, int]]:
        """Of what was claimed first in that time: by whom, and how long after its submission."""
        sql, values = _of_turns("records.agent, max(0, at - submitted)", since, until)
        return self._all(f"{sql} AND what = ? AND submitted IS NOT NULL", *values, rows.CLAIMED)

    def last_seen(self) -> dict[str, int]:
        """When each agent has signed its newest record."""
        return dict(self._all("SELECT agent, max(at) FROM records GROUP BY agent"))

    def span(self) -> tuple[int, int]:
        """The times of the earliest and of the latest record."""
        return self._all("SELECT min(at), max(at) FROM records")[0]  # type: ignore[no-any-return]

    def messages(
        self,
        most: int,
        *,
        first: int = 0,
        sender: str | None = None,
        to: str | None = None,
        channel: str | None = None,
        thread: int | None = None,
    ) -> list[tuple[int, str, int | None]]:
        """Seq and id of the newest `most` messages, and the seq of what acknowledges each; oldest
        first. `thread` is any message of one.
        """
        wanted = {"sender": sender, "recipient": to, "channel": channel}
        where = "kind IN ('send', 'archive') AND records.seq >= ?"
        values: list[Any] = [first]
        for name, value in wanted.items():
            if value is not None:
                where += f" AND {name} = ?"
                values.append(value)
        if thread is not None:
            where += " AND thread = ?"
            values.append(self.thread_of(thread) or thread)
        sql = f"""SELECT records.seq, oid, acks.seq FROM records
            LEFT JOIN acks ON message = records.seq
            WHERE {where} ORDER BY records.seq DESC LIMIT ?"""  # noqa: S608 - no values
        return self._all(sql, *values, most)[::-1]

    def thread_of(self, seq: int) -> int | None:
        """The message that the thread of a message begins with."""
        found = self._all("SELECT thread FROM records WHERE seq = ?", seq)
        return found[0][0] if found else None

    def _all(self, sql: str, *values: Any) -> list[Any]:
        return self._db.execute(sql, values).fetchall()

    # -- filling it

    def fill(self) -> None:
        """Bring it up to the trusted head. Raises `Stale`; sqlite3.Error; `Failed`: timeout;
        `Integrity`: bad-copy.
        """
        replica = self._replica
        while True:
            begun, trusted = self._covered(), replica.trusted
            if begun.seq >= trusted.seq:
                if begun != (trusted.seq, trusted.commit, trusted.digest):
                    raise Stale
                return
            replica.git.deadline.left()
            lot = self._next(begun)
            if not lot:  # what this process has landed, and the disk has not taken
                return
            with database.transaction(self._db):
                if self._covered() == begun:
                    self._add(lot)
            done = lot[-1][0] - trusted.first + 1
            if trusted.seq - begun.seq > LOT:
                replica.progress("indexing", done, trusted.seq - trusted.first + 1)

    def _covered(self) -> Place:
        """Raises `Stale`: another version, another ledger, another oldest record."""
        found, trusted = self._all("SELECT * FROM covered"), self._replica.trusted
        if len(found) != 1 or found[0][:3] != (VERSION, trusted.ledger, trusted.first):
            raise Stale
        return Place(*found[0][3:])

    def _next(self, begun: Place) -> list[Told]:
        """The records after that place, a lot; each names the one before it. Raises `Stale`;
        `Integrity`: bad-copy.
        """
        replica = self._replica
        trusted, local, repository = replica.trusted, replica.local, replica.local.repository
        seqs = range(begun.seq + 1, min(begun.seq + LOT, trusted.seq) + 1)
        replica.commit_at(seqs[-1])  # makes the ids anew, if the copy has lost them
        oids = list(local.indexed_ids(seqs[0], seqs[-1]))
        repository.read_ahead(oids)
        before, found = begun.oid, []
        for seq, oid in zip(seqs, oids, strict=False):
            try:
                parent, number, record = recall_record(oid, repository.read(oid))
            except KeyError:
                break
            except RuleBroken:
                raise Stale from None
            follows = parent == before if before else seq == trusted.first
            if number != seq or not follows:
                raise Stale
            found.append((seq, oid, record))
            before = oid
        if len(found) < len(seqs) and need_commit_at(replica, seqs[len(found)]):
            raise Stale  # it is there, so its id was not: what is left out here is never asked for
        if len(found) == len(seqs) and seqs[-1] == trusted.seq and before != trusted.commit:
            raise Stale
        return found

    def _add(self, lot: list[Told]) -> None:
        threads: dict[int, int | None] = {}
        standing: dict[str, rows.Standing] = {}
        turns: list[tuple[Any, ...]] = []
        made: list[rows.Row] = []
        acks: list[tuple[int, int]] = []

        def thread_of(seq: int) -> int | None:
            return threads[seq] if seq in threads else self.thread_of(seq)

        for seq, oid, r in lot:
            row = rows.row_of(seq, oid, r, thread_of)
            made.append(row)
            threads[seq] = row.thread
            for task in rows.tasks_of(r):
                before = standing.get(task) or self._standing(task)
                what, standing[task] = rows.step(r, before)
                turns.append((task, seq, what, *before))
            if r["kind"] == "ack":
                acks += [(message, seq) for message in r["messages"]]
        add = self._db.executemany
        add("INSERT INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", made)
        add("INSERT INTO turns VALUES (?, ?, ?, ?, ?, ?, ?, ?)", turns)
        add("INSERT OR REPLACE INTO acks VALUES (?, ?)", acks)
        stands = [(task, *one) for task, one in standing.items()]
        add("INSERT OR REPLACE INTO standing VALUES (?, ?, ?, ?, ?, ?)", stands)
        last, oid, _ = lot[-1]
        commit = self._replica.commit_at(last)
        place = (last, oid, commit.digest if commit else "")
        self._db.execute("UPDATE covered SET seq = ?, oid = ?, digest = ?", place)

    def _standing(self, task: str) -> rows.Standing:
        sql = "SELECT agent, until, since, submitted, offered FROM standing WHERE task = ?"
        found = self._all(sql, task)
        return rows.Standing(*found[0]) if found else rows.Standing()

    def prepare(self) -> None:
        """Make the tables, where there are none."""
        if self._all("PRAGMA user_version") != [(VERSION,)]:
            with database.transaction(self._db):
                if self._all("PRAGMA user_version") == [(0,)]:
                    for statement in _TABLES.split(";"):
                        self._db.execute(statement)
                    trusted = self._replica.trusted
                    place = (VERSION, trusted.ledger, trusted.first, trusted.first - 1, "", "")
                    self._db.execute("INSERT INTO covered VALUES (?, ?, ?, ?, ?, ?)", place)
                    self._db.execute(f"PRAGMA user_version = {VERSION}")


def _where(asked: Asked) -> tuple[str, list[Any]]:
    tests: list[tuple[str, Any]] = [
        ("at >= ?", asked.since),
        ("at < ?", asked.until),
        ("seq IN (SELECT seq FROM turns WHERE task = ?)", asked.task),
        ("records.agent = ?", asked.agent),
        ("seq > ?", asked.after),
    ]
    given = [(test, value) for test, value in tests if value is not None]
    words, values = [test for test, _ in given], [value for _, value in given]
    if asked.kinds:
        words.append(f"kind IN ({', '.join('?' * len(asked.kinds))})")
        values += asked.kinds
    return (f" WHERE {' AND '.join(words)}" if words else ""), values


def _of_turns(columns: str, since: int | None, until: int | None) -> tuple[str, list[Any]]:
    where, values = _where(Asked(since, until))
    joined = f"SELECT {columns} FROM turns JOIN records USING (seq)"  # noqa: S608 - no values
    return f"{joined}{where or ' WHERE TRUE'}", values


def _turn(row: Any) -> rows.Turn:
    task, seq, what, *before = row
    return rows.Turn(task, seq, what, rows.Standing(*before))


# -- where it is


def ask(replica: Replica, question: Callable[[Index], T]) -> T:
    """The answer of an index that covers the trusted chain: of the file, which is made or mended
    for it, or of one in memory. It is asked again where it turns out to be `Stale`.

    Raises `Failed`: timeout; `Integrity`: bad-copy.
    """
    for _ in range(2):
        spoilt = True
        try:
            with _file(replica, make=True) as index:
                return question(index)
        except Stale:
            pass
        except sqlite3.Error as fault:
            spoilt = database.is_spoilt(fault)
        except OSError:
            break
        if not (spoilt and _discard(replica)):
            break
    try:
        with _memory(replica) as index:
            return question(index)
    except Stale:
        raise error("bad-copy", why="its records do not follow each other") from None


def ask_if_there(replica: Replica, question: Callable[[Index], T]) -> T | None:
    """As `ask`, of a file that is there and good; else None."""
    try:
        with _file(replica, make=False) as index:
            return question(index)
    except (Stale, sqlite3.Error, OSError):
        return None


@contextlib.contextmanager
def _file(replica: Replica, *, make: bool) -> Iterator[Index]:
    with database.opened(replica.local.folder, NAME, make=make, patience=_PATIENCE) as db:
        yield _filled(Index(replica, db))


@contextlib.contextmanager
def _memory(replica: Replica) -> Iterator[Index]:
    db = sqlite3.connect(":memory:", isolation_level=None)
    try:
        yield _filled(Index(replica, db))
    finally:
        db.close()


def _filled(index: Index) -> Index:
    index.prepare()
    index.fill()
    return index


def _discard(replica: Replica) -> bool:
    """Throw the file away, and have the ids of the copy made anew; False if that cannot be."""
    if not database.discard(replica.local.folder, NAME):
        return False
    rebuild_ids(replica)
    return True
