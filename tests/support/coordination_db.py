"""A coordination database as gptme's package makes it, for the tests of the import."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import sqlite3

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

SECRETS = {"alice": "alice-secret", "bob": "s3cr3t"}
LATER, EARLIER = "2099-01-01 00:00:00", "2026-01-01 00:00:00"

_SCHEMA = """
CREATE TABLE work (
    task_id TEXT PRIMARY KEY, claimer TEXT, epoch INTEGER NOT NULL DEFAULT 0, claimed_at TEXT,
    expires_at TEXT, status TEXT NOT NULL DEFAULT 'available', result TEXT, metadata TEXT,
    completed_at TEXT, hmac TEXT);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT, sender TEXT NOT NULL, recipient TEXT,
    channel TEXT NOT NULL DEFAULT 'general', body TEXT NOT NULL, hmac TEXT, created_at TEXT NOT NULL
    DEFAULT '2026-01-01 00:00:00');
CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT, trigger_type TEXT NOT NULL, source TEXT NOT NULL,
    external_id TEXT, thread_key TEXT NOT NULL, repo TEXT, number INTEGER, title TEXT, url TEXT,
    payload_json TEXT, state TEXT NOT NULL DEFAULT 'pending', priority INTEGER NOT NULL DEFAULT 0,
    retry_count INTEGER NOT NULL DEFAULT 0, max_retries INTEGER NOT NULL DEFAULT 3,
    created_at TEXT NOT NULL DEFAULT '2026-01-01 00:00:00', claimed_at TEXT, completed_at TEXT,
    claimed_by TEXT, batch_id TEXT, result TEXT, result_detail TEXT);
CREATE TABLE fact_bus (
    fact_key TEXT PRIMARY KEY, value TEXT NOT NULL, session_id TEXT, created_at REAL NOT NULL,
    expires_at REAL NOT NULL);
CREATE TABLE leases (
    path TEXT PRIMARY KEY, holder TEXT, epoch INTEGER NOT NULL DEFAULT 0,
    acquired_at TEXT NOT NULL DEFAULT '2026-01-01 00:00:00', expires_at TEXT NOT NULL,
    metadata TEXT);
"""


def create(path: Path, schema: str = _SCHEMA) -> sqlite3.Connection:
    """An empty one. The caller fills, commits and closes it."""
    made = sqlite3.connect(path)
    made.executescript(schema)
    return made


def insert(db: sqlite3.Connection, table: str, **row: Any) -> None:
    names, marks = ", ".join(row), ", ".join("?" * len(row))
    db.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", tuple(row.values()))


def work(db: sqlite3.Connection, task: str, signed: str | None = None, **row: Any) -> None:
    """A row of work; `signed` names a form of its MAC: canonical, joined, joined-hex."""
    row = {"task_id": task, "claimer": None, "epoch": 0, "expires_at": None} | row
    if signed:
        fields = [row["claimer"], task, row["epoch"], row["expires_at"]]
        row["hmac"] = mac(SECRETS[row["claimer"]], fields, signed)
    insert(db, "work", **row)


def message(db: sqlite3.Connection, body: str, *, signed: bool = False, **row: Any) -> None:
    row = {"sender": "alice", "recipient": None, "channel": "general", "body": body} | row
    if signed:
        fields = [row["sender"], row["recipient"] or "", row["channel"], body]
        row["hmac"] = mac(SECRETS[row["sender"]], fields)
    insert(db, "messages", **row)


def mac(secret: str, fields: list[Any], form: str = "canonical") -> str:
    said = json.dumps(fields, sort_keys=True, separators=(",", ":"))
    if form.startswith("joined"):
        said = "|".join(map(str, fields))
    made = hmac.new(secret.encode(), said.encode(), hashlib.sha256)
    return made.hexdigest() if form == "joined-hex" else base64.b64encode(made.digest()).decode()
