"""What becomes of a file's bytes when a harness is connected, or no longer; nothing is read here.

Rules of this file: ours is known by what it calls, `coordledger agent-hook HARNESS` or
`coordledger mcp`, wherever that program lies. A file that is, byte for byte, as `setup` makes one
is deleted when ours is taken out; any other stays, if with nothing in it.
"""

from __future__ import annotations

import hashlib
import shlex
import tomllib
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

from coordledger.integrations.connecting import json_text, marked, table
from coordledger.integrations.connecting.json_text import Unreadable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from coordledger.integrations.connecting.table import Entry

_BOM = "\ufeff"
_TOML = '[mcp_servers.{name}]\ncommand = {program}\nargs = ["mcp"]\n'
_HEAD = "// Written by `coordledger setup opencode` ({digest}), deleted by its --remove.\n"


class Edited(NamedTuple):
    """The new bytes (None: no file), what differs from them now, and what stays as it is."""

    content: bytes | None
    differs: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()


def text_of(content: bytes) -> str:
    """Raises Unreadable."""
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise Unreadable("it is not UTF-8") from None


def _is_in(content: bytes | None) -> bool:
    """Whether anything of ours can be in it: what others have in a form of theirs is not read."""
    return content is not None and table.PROGRAM.encode() in content


# -- JSON


class Ours(NamedTuple):
    """A value of ours, and where it stands."""

    where: tuple[str | int, ...]
    value: Any


def ours(text: str, harness: str, servers: str) -> list[Ours]:
    """What of a JSON text is ours, in its order: hooks, and the server below the key `servers`."""
    whole = json_text.parsed(text)
    found: list[Ours] = []
    for key, value in whole.items():
        if key == "hooks" and isinstance(value, dict):
            for event, items in value.items():
                found += _among(items if isinstance(items, list) else [], (key, event), harness)
        if key == servers and isinstance(value, dict) and is_server(value.get(table.SERVER)):
            found.append(Ours((key, table.SERVER), value[table.SERVER]))
    return found


def _among(items: list[Any], where: tuple[str | int, ...], harness: str) -> Iterator[Ours]:
    for index, item in enumerate(items):
        handlers = item.get("hooks") if isinstance(item, dict) else None
        if not isinstance(handlers, list):
            if is_hook(item, harness):
                yield Ours((*where, index), item)
        elif handlers and all(is_hook(handler, harness) for handler in handlers):
            yield Ours((*where, index), item)
        else:  # somebody has put a hook of theirs beside it
            yield from _among(handlers, (*where, index, "hooks"), harness)


def is_hook(value: Any, harness: str) -> bool:
    words = _words(value)
    return words in (["agent-hook", harness], ["agent-hook", harness, "--listen"])


def is_server(value: Any) -> bool:
    return _words(value) == ["mcp"]


def _words(value: Any) -> list[str]:
    """The arguments of a call of ours; empty for anything else."""
    if not isinstance(value, dict):
        return []
    command, args = value.get("command", value.get("bash")), value.get("args", [])
    try:
        first = shlex.split(command) if isinstance(command, str) else command
    except ValueError:
        return []
    words = [*first, *args] if isinstance(first, list) and isinstance(args, list) else []
    if not words or not all(isinstance(word, str) for word in words):
        return []
    return words[1:] if PurePath(words[0]).name == table.PROGRAM else []


def json_edited(
    content: bytes | None, *, wanted: Sequence[Entry], harness: str, servers: str, before: str
) -> Edited:
    """A file of settings with what is wanted in it and nothing else of ours. Raises Unreadable."""
    if content is None:
        differs = tuple(f"{_shown(entry.path)} is missing" for entry in wanted)
        return Edited(json_text.made(wanted, before).encode() if wanted else None, differs)
    if not wanted and not _is_in(content):
        return Edited(content)
    text = text_of(content)
    bom, text = (_BOM, text[1:]) if text.startswith(_BOM) else ("", text)
    found = ours(text, harness, servers)
    missing, stale = list(wanted), list[Ours]()
    for one in found:
        same = next((entry for entry in missing if _is_at(entry, one)), None)
        if same is None:
            stale.append(one)
        else:
            missing.remove(same)
    if not missing and not stale:
        return Edited(content)
    differs = (
        *(f"{_shown(one.where)} is another" for one in stale),
        *(f"{_shown(entry.path)} is missing" for entry in missing),
    )
    if not bom and found and text == _as_made(found, before):
        return Edited(json_text.made(wanted, before).encode() if wanted else None, differs)
    for one in reversed(stale):
        text = json_text.take(text, one.where)
    for entry in missing:
        text = json_text.put(text, entry.path, entry.value, listed=entry.listed)
    return Edited((bom + text).encode(), differs)


def _is_at(entry: Entry, one: Ours) -> bool:
    where = one.where[:-1] if entry.listed else one.where
    return where == entry.path and one.value == entry.value


def _as_made(found: Sequence[Ours], before: str) -> str | None:
    """What a file with these would be, if it had been made for them."""
    entries = []
    for where, value in found:
        listed = isinstance(where[-1], int)
        path = tuple(str(name) for name in (where[:-1] if listed else where))
        entries.append((path, value, listed))
    try:
        return json_text.made(entries, before)
    except Unreadable:  # one stands in a group of somebody's
        return None


def _shown(where: Sequence[str | int]) -> str:
    return ".".join(str(name) for name in where)


def server_in(content: bytes | None, servers: str) -> Any:
    """What stands under our name among the MCP servers; None: nothing. Raises Unreadable."""
    if content is None or not _is_in(content):
        return None
    there = json_text.parsed(text_of(content).removeprefix(_BOM)).get(servers)
    return there.get(table.SERVER) if isinstance(there, dict) else None


# -- texts with a block


def block_edited(content: bytes | None, *, marks: marked.Marks, block: str | None) -> Edited:
    """A text with the block, or without one. Raises Unreadable."""
    if block is None and not _is_in(content):
        return Edited(content)
    text = "" if content is None else text_of(content)
    try:
        there = marked.find(text, marks)
        if there == block:
            return Edited(content)
        if block is None:
            gone = None if text == marked.made(marks, there or "") else marked.take(text, marks)
            return Edited(None if gone is None else gone.encode(), ("the block is there",))
        differs = "the block is missing" if there is None else "the block is another"
        new = marked.made(marks, block) if content is None else marked.put(text, marks, block)
        return Edited(new.encode(), (differs,))
    except marked.BrokenMarks:
        marks_are = f"{marks.begin} and {marks.end}"
        raise Unreadable(f"its lines {marks_are} are no pair") from None


def imports(content: bytes | None, name: str) -> bool:
    """Whether a text of Claude Code's has a line of its user's that imports that file."""
    if content is None:
        return False
    try:
        text = marked.take(text_of(content), marked.MARKDOWN)
    except marked.BrokenMarks:
        return False
    return any(line.strip() in (f"@{name}", f"@./{name}") for line in text.splitlines())


def toml_edited(content: bytes | None, *, program: str | None) -> Edited:
    """Codex's configuration with the MCP server; None: without it. Raises Unreadable."""
    if program is None and not _is_in(content):
        return Edited(content)
    block = None
    if program is not None:
        quoted = '"' + program.replace("\\", "\\\\").replace('"', '\\"') + '"'
        block = _TOML.format(name=table.SERVER, program=quoted)
    text = "" if content is None else text_of(content)
    try:
        rest = tomllib.loads(marked.take(text, marked.HASH).removeprefix(_BOM))
    except tomllib.TOMLDecodeError as fault:
        raise Unreadable(f"not TOML: {fault}") from None
    except marked.BrokenMarks:
        rest = {}
    servers = rest.get("mcp_servers")
    if block and isinstance(servers, dict) and table.SERVER in servers:
        return Edited(content, kept=(f"mcp_servers.{table.SERVER} is somebody's own",))
    edited = block_edited(content, marks=marked.HASH, block=block)
    try:
        tomllib.loads((edited.content or b"").decode().removeprefix(_BOM))
    except tomllib.TOMLDecodeError as fault:
        raise Unreadable(f"a table cannot be put behind what it has: {fault}") from None
    return edited


# -- a program


def program_edited(content: bytes | None, *, source: str | None) -> Edited:
    """A file that is all ours; None: without it. Raises Unreadable."""
    new = None if source is None else (_head(source) + source).encode()
    if content == new:
        return Edited(content)
    if content is not None:
        head, _, rest = text_of(content).partition("\n")
        if f"{head}\n" != _head(rest):
            raise Unreadable("somebody has written or changed it")
    differs = "it is missing" if content is None else "it is another"
    return Edited(new, (differs,))


def _head(source: str) -> str:
    return _HEAD.format(digest=hashlib.sha256(source.encode()).hexdigest()[:12])
