"""Issues of GitHub as `gh issue list --json …` prints them, as rows.

Rules: any selection of its fields will do that has `number` and `url` (or `number`, where the
repository is given); a closed issue is done. Who opened or is assigned to one has signed nothing.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from coordledger.client.importing.rows import Legacy, Origin, Row, TaskRow, Unfit
from coordledger.client.importing.texts import as_text, moment, parsed
from coordledger.errors import error

if TYPE_CHECKING:
    from pathlib import Path

NAME = "github"
_URL = re.compile(r"https?://[^/]+/([^/\s]+/[^/\s]+)/(?:issues|pull)/([0-9]{1,12})")


def read(content: bytes, path: Path, repository: str | None = None) -> list[Row]:
    """A row for each issue; those without a `url` are of `repository`.

    Raises `Failed`: bad-import.
    """
    try:
        found = parsed(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as fault:
        raise error("bad-import", path=path, why=f"no JSON: {fault}") from None
    issues = [found] if isinstance(found, dict) else found
    if not isinstance(issues, list):
        raise error("bad-import", path=path, why="no array of issues")
    return [_row(number, issue, repository) for number, issue in enumerate(issues, 1)]


def _row(number: int, issue: object, repository: str | None) -> Row:
    try:
        if not isinstance(issue, dict):
            raise ValueError("not an object")  # noqa: TRY004 - all of these are one refusal
        return _issue(issue, repository)
    except (ValueError, LookupError) as fault:
        return Unfit(Origin("issues", f"item {number}"), f"no issue: {fault}")


def _name(issue: object, repository: str | None) -> str | None:
    """`github:OWNER/REPO#N`, the id of the issue's task."""
    if not isinstance(issue, dict):
        return None
    url = issue.get("url")
    found = _URL.match(url) if isinstance(url, str) else None
    if found:
        return f"github:{found[1]}#{found[2]}"
    number = issue.get("number")
    if type(number) is int and number > 0 and repository:
        return f"github:{repository}#{number}"
    return None


def _issue(issue: dict[str, Any], repository: str | None) -> TaskRow:
    notes: list[str] = []

    def text(name: str) -> str | None:
        return as_text(issue.get(name), notes, name) or None

    name = _name(issue, repository)
    if name is None:
        raise ValueError("it has no url, and no number of a known repository: --repo OWNER/REPO")
    done = (text("state") or "OPEN").upper() in ("CLOSED", "MERGED")
    times = [moment(issue.get(n), [], n) for n in ("closedAt", "createdAt")]
    at = next((one for one in times if one is not None), None)
    assignees = [
        who for who in (_member(one, "login") for one in _nodes(issue, "assignees")) if who
    ]
    author = _member(issue.get("author"), "login")
    origin = Origin("issues", name.removeprefix("github:"))
    row = TaskRow(origin, name, Legacy(assignees[0] if assignees else author, at), notes=notes)
    row.status, row.title, row.body = "done" if done else "open", text("title"), text("body")
    reason = text("stateReason")
    row.result = f"closed there: {reason.lower().replace('_', ' ')}" if done and reason else None
    row.labels = [
        label for label in (_member(one, "name") for one in _nodes(issue, "labels")) if label
    ]
    said = {
        "url": text("url"),
        "author": author,
        "assignees": " ".join(assignees),
        "milestone": _member(issue.get("milestone"), "title"),
    }
    row.meta = {name: value for name, value in said.items() if value}
    own = name.removeprefix("github:").rpartition("#")[0]
    blockers = [_name(one, own) for one in _nodes(issue, "blockedBy")]
    row.after = [one for one in blockers if one]
    row.parent = _name(issue.get("parent"), own)
    comments = issue.get("comments")
    count = len(comments) if isinstance(comments, list) else comments
    if type(count) is int and count > 0:
        notes.append(f"{count} comments are left behind")
    return row


def _nodes(issue: dict[str, Any], name: str) -> list[Any]:
    """A list, as `gh` prints it, or as its interface has it: in `nodes`."""
    value = issue.get(name)
    value = value.get("nodes") if isinstance(value, dict) else value
    return value if isinstance(value, list) else []


def _member(value: object, name: str) -> str | None:
    """The member of an object, or the text that stands in its place."""
    value = value.get(name) if isinstance(value, dict) else value
    return as_text(value, [], name) if isinstance(value, str) else None
