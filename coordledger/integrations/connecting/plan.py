"""Connecting, looking whether it is connected, disconnecting: a harness at a time.

Rules of this file: what belongs to one harness is written together or not at all; another one,
whose files are refused, does not keep it from that. AGENTS.md is for all harnesses of a project: it
has its block as long as one is connected. What is connected is found out by looking at the files.
"""

from __future__ import annotations

import json
from functools import partial
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from coordledger.errors import CoordledgerError, disk_error, error
from coordledger.integrations.connecting import contents, files, marked, table
from coordledger.integrations.connecting.json_text import Unreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from coordledger.integrations.connecting.contents import Edited
    from coordledger.integrations.connecting.table import Entry, Harness

INSTRUCTIONS, CLAUDE_READS = "AGENTS.md", "CLAUDE.md"
_IMPORT = f"@{INSTRUCTIONS}\n"


class Scope(NamedTuple):
    """For whom: a project, whose top is `top`, or a user, whose home it is. `program` is what the
    settings call. `environ` says where some harnesses have their folder.
    """

    top: Path
    user: bool
    program: str
    environ: Mapping[str, str]


class Step(NamedTuple):
    """A file, what becomes of it, what differs from that now, and what is left as it is."""

    change: files.Change
    differs: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    @property
    def action(self) -> str:
        old, new = self.change.file.content, self.change.content
        if old == new:
            return "unchanged"
        return "created" if old is None else "deleted" if new is None else "changed"


class Result(NamedTuple):
    """What is, or was, to be done for one harness; or why it was refused."""

    name: str
    steps: tuple[Step, ...] = ()
    refused: CoordledgerError | None = None

    @property
    def is_same(self) -> bool:
        return self.refused is None and all(step.action == "unchanged" for step in self.steps)


class _Folder(NamedTuple):
    """Where a harness has its files: below `top`, `cut` off from their names."""

    top: Path
    cut: str = ""

    def file(self, name: str) -> files.File:
        return files.read(self.top, name.removeprefix(self.cut))


def _folder(scope: Scope, harness: Harness) -> _Folder:
    moved = scope.environ.get(harness.variable, "") if scope.user else ""
    if not moved:
        return _Folder(scope.top)
    if not Path(moved).is_dir():
        why = "it is no folder"
        raise error("settings-refused", path=f"{harness.variable}={moved}", why=why)
    return _Folder(Path(moved), f"{harness.folder}/")


# -- one harness


class _Wish(NamedTuple):
    """What is wanted of one harness. `mcp`: with its server, without, or None: as it is."""

    scope: Scope
    harness: Harness
    folder: _Folder
    connect: bool
    mcp: bool | None

    def wants_server(self, *, has: bool) -> bool:
        return self.connect and (has if self.mcp is None else self.mcp)


def steps_of(scope: Scope, harness: Harness, *, connect: bool, mcp: bool | None) -> list[Step]:
    """All files of one harness, and what becomes of them. Raises Failed."""
    wish = _Wish(scope, harness, _folder(scope, harness), connect, mcp)
    steps = [*_settings(wish), *_plugin(wish), *_toml(wish)]
    if harness.name == "claude" and not scope.user:
        steps += _claude_reads(wish)
    return steps


def _step(folder: _Folder, name: str, edit: Callable[[bytes | None], Edited]) -> Step:
    file = folder.file(name)
    try:
        edited = edit(file.content)
    except Unreadable as fault:
        raise error("settings-refused", path=name, why=fault.why) from None
    return Step(files.Change(file, edited.content, folder.top), edited.differs, edited.kept)


def _settings(wish: _Wish) -> list[Step]:
    """The JSON files: hooks and server stand in one or in two."""
    scope, harness = wish.scope, wish.harness
    hooks = harness.settings(scope.program, user=scope.user)
    server = harness.server(scope.program, scope.user) if harness.server else None
    key = server.entries[0].path[0] if server else ""
    wanted: dict[str, tuple[Entry, ...]] = {}
    if hooks:
        wanted[hooks.path] = hooks.entries if wish.connect else ()
    if server:
        there = _there(wish.folder, server.path, key)
        theirs = there is not None and not contents.is_server(there)
        entries = server.entries
        if theirs or not wish.wants_server(has=there is not None):
            entries = ()
        wanted[server.path] = wanted.get(server.path, ()) + entries
    steps: list[Step] = []
    for path, entries in wanted.items():
        before = harness.before if hooks and path == hooks.path else ""
        edit = partial(
            contents.json_edited, wanted=entries, harness=harness.name, servers=key, before=before
        )
        step = _step(wish.folder, path, edit)
        if server and path == server.path and theirs and wish.mcp:
            step = step._replace(kept=(f"{key}.{table.SERVER} is somebody's own",))
        steps.append(step)
    if wish.mcp and harness.server and not server:
        steps[0] = steps[0]._replace(kept=(f"for the MCP server: {harness.by_hand}",))
    return steps


def _there(folder: _Folder, path: str, key: str) -> object:
    try:
        return contents.server_in(folder.file(path).content, key)
    except Unreadable as fault:
        raise error("settings-refused", path=path, why=fault.why) from None


def _plugin(wish: _Wish) -> list[Step]:
    """The program that a harness without settings for hooks runs in itself."""
    scope, harness = wish.scope, wish.harness
    if harness.shape is not None:
        return []
    source = (resources.files(__package__) / f"{harness.name}.js").read_text("utf-8")
    source = source.replace(
        f'PROGRAM = "{table.PROGRAM}"', f"PROGRAM = {json.dumps(scope.program)}"
    )
    edit = partial(contents.program_edited, source=source if wish.connect else None)
    return [_step(wish.folder, harness.user if scope.user else harness.project, edit)]


def _toml(wish: _Wish) -> list[Step]:
    if not wish.harness.toml:
        return []
    file = wish.folder.file(wish.harness.toml)
    program = wish.scope.program if wish.wants_server(has=_has_block(file)) else None
    return [_step(wish.folder, file.shown, partial(contents.toml_edited, program=program))]


def _has_block(file: files.File) -> bool:
    return marked.BEGIN.encode() in (file.content or b"")


def _claude_reads(wish: _Wish) -> list[Step]:
    """Claude Code reads no AGENTS.md, but what its own file imports."""
    file = wish.folder.file(CLAUDE_READS)
    same = file.path == wish.folder.file(INSTRUCTIONS).path
    if same or (wish.connect and contents.imports(file.content, INSTRUCTIONS)):
        return []
    block = _IMPORT if wish.connect else None
    edit = partial(contents.block_edited, marks=marked.MARKDOWN, block=block)
    return [_step(wish.folder, CLAUDE_READS, edit)]


def has_server(scope: Scope, harness: Harness) -> bool:
    """Whether its MCP server is among what is connected."""
    server = harness.server(scope.program, scope.user) if harness.server else None
    try:
        folder = _folder(scope, harness)
        if harness.toml:
            return _has_block(folder.file(harness.toml))
        there = server and _there(folder, server.path, server.entries[0].path[0])
    except (CoordledgerError, OSError):
        return False
    return contents.is_server(there)


def is_connected(scope: Scope, harness: Harness) -> bool:
    """Whether anything of ours is in its files: taking it out would change them."""
    try:
        steps = steps_of(scope, harness, connect=False, mcp=None)
    except (CoordledgerError, OSError):
        return False  # `setup` with its name says why
    return any(step.action != "unchanged" or files.is_left_over(step.change) for step in steps)


# -- several harnesses


def carry_out(
    scope: Scope, names: Sequence[str], *, connect: bool, mcp: bool | None, write: bool
) -> list[Result]:
    """Connect or disconnect each; the last result is about the instructions, in a project."""
    if not write:
        return _results(scope, names, connect=connect, mcp=mcp, write=False)
    with files.locked(scope.top):
        return _results(scope, names, connect=connect, mcp=mcp, write=True)


def _results(
    scope: Scope, names: Sequence[str], *, connect: bool, mcp: bool | None, write: bool
) -> list[Result]:
    results = []
    for name in names:
        plan = partial(steps_of, scope, table.HARNESSES[name], connect=connect, mcp=mcp)
        results.append(_result(name, plan, write=write))
    if not scope.user:
        well = {result.name for result in results if not result.refused}
        plan = partial(_instructions, scope, well, connect=connect)
        results.append(_result(INSTRUCTIONS, plan, write=write))
    return results


def _result(name: str, plan: Callable[[], list[Step]], *, write: bool) -> Result:
    try:
        steps = plan()
        if write:
            files.apply([step.change for step in steps])
    except CoordledgerError as fault:
        return Result(name, refused=fault)
    except OSError as fault:
        return Result(name, refused=disk_error(fault))
    return Result(name, tuple(steps))


def _instructions(scope: Scope, names: set[str], *, connect: bool) -> list[Step]:
    """The block in AGENTS.md, after these were connected or not: gone with the last harness."""
    others = [row for name, row in table.HARNESSES.items() if name not in names]
    block = None
    if (connect and names) or any(is_connected(scope, row) for row in others):
        block = (resources.files(__package__) / "instructions.md").read_text("utf-8")
    edit = partial(contents.block_edited, marks=marked.MARKDOWN, block=block)
    return [_step(_Folder(scope.top), INSTRUCTIONS, edit)]
