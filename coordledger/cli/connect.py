"""The command that connects harnesses: setup.

Rules: what was found and what was done is said for each harness and each file; diffs show others'
text and are made safe. A file that is refused fails the command, after all the others are done.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from coordledger.errors import FAILED, CoordledgerError, error

from .common import command, root
from .output import safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordledger.integrations.connecting.plan import Result, Scope, Step

    from .common import App

NAMES = ("claude", "codex", "gemini", "opencode", "cursor", "copilot")


@command(
    "setup",
    parent=root,
    example="coordledger setup claude codex --dry-run",
)
@click.argument("names", type=click.Choice(NAMES), nargs=-1, metavar="[HARNESS]...")
@click.option("--check", is_flag=True, help="Change nothing; exit 1 if something differs.")
@click.option("--remove", is_flag=True, help="Take out all that was written.")
@click.option("--dry-run", is_flag=True, help="Show the changes as a diff, make none.")
@click.option("--user/--project", "user", default=None, help="For all projects of this user.")
@click.option("--mcp/--no-mcp", "mcp", default=None, help="With the MCP server, or without.")
def setup(
    app: App,
    names: tuple[str, ...],
    check: bool,
    remove: bool,
    dry_run: bool,
    user: bool | None,
    mcp: bool | None,
) -> int:
    """Connect Claude Code, Codex and others with the ledger.

    Writes hooks into their settings, and a block into AGENTS.md. HARNESS is claude, codex, gemini,
    opencode, cursor or copilot; without one: those that are found here. Everything else in their
    settings stays as it is, and --remove takes out the rest.
    """
    from coordledger.integrations.connecting import plan  # noqa: PLC0415 - help needs none

    if check and (remove or dry_run):
        raise click.UsageError("--check goes with neither --remove nor --dry-run")
    scope = scope_of(app, user=bool(user))
    seen, chosen = _chosen(scope, names, remove=remove)
    if not chosen and not remove:
        raise error("no-harness")
    results = plan.carry_out(
        scope, chosen, connect=not remove, mcp=mcp, write=not (check or dry_run)
    )
    notes = [] if remove else _notes(scope, chosen) + _key_notes(app, chosen)
    _tell(app, scope, results, notes, seen=seen, remove=remove, check=check, dry_run=dry_run)
    refused = [result.refused for result in results if result.refused]
    differs = sum(not result.is_same for result in results)
    if check and differs:
        return _end(app, refused, error("not-connected", count=differs))
    return _end(app, refused, None) if refused else 0


def _end(app: App, refused: Sequence[CoordledgerError], otherwise: CoordledgerError | None) -> int:
    """What was refused is said last, as an error; with `--json` it is in the value."""
    for fault in refused or ([otherwise] if otherwise else []):
        if not app.screen.json:
            app.screen.error(fault)
    return FAILED


def scope_of(app: App, *, user: bool) -> Scope:
    """The project around `-C`, or the user."""
    import shutil  # noqa: PLC0415 - help needs none
    from pathlib import Path  # noqa: PLC0415

    from coordledger.integrations.connecting.plan import Scope  # noqa: PLC0415
    from coordledger.integrations.connecting.table import PROGRAM  # noqa: PLC0415

    if not user:
        ran = app.git().run("rev-parse", "--show-toplevel")
        if ran.code:
            raise error("no-project", path=app.path)
        return Scope(Path(ran.out.removesuffix("\n")), False, PROGRAM, os.environ)
    home = os.environ.get("HOME", "")
    if not home or not Path(home).is_dir():
        raise error("bad-value", what="--user", why="HOME names no folder")
    program = PROGRAM if shutil.which(PROGRAM) else str(Path(sys.argv[0]).absolute())
    return Scope(Path(home), True, program, os.environ)


def _chosen(
    scope: Scope, names: tuple[str, ...], *, remove: bool
) -> tuple[dict[str, str], list[str]]:
    """By what each harness is noticed, and those that are meant."""
    from coordledger.integrations.connecting import noticing, plan, table  # noqa: PLC0415

    seen = noticing.noticed(os.environ, None if scope.user else scope.top)
    if names:
        return seen, list(dict.fromkeys(names))
    connected = [name for name, row in table.HARNESSES.items() if plan.is_connected(scope, row)]
    if remove:
        return seen, connected
    return seen, [name for name in table.HARNESSES if name in seen or name in connected]


def _notes(scope: Scope, names: Sequence[str]) -> list[tuple[str, str, str]]:
    """What keeps them from running what is connected now: harness, what, what to do."""
    from coordledger.integrations.connecting import findings, table  # noqa: PLC0415

    return [
        (finding.name, finding.found, finding.do)
        for name in names
        for finding in findings.look(scope, table.HARNESSES[name])
        if not finding.is_good
    ]


def _key_notes(app: App, names: Sequence[str]) -> list[tuple[str, str, str]]:
    """Which of them give their sessions no key, where each session is to have one."""
    from coordledger.client.config import HARNESSES  # noqa: PLC0415 - help needs none
    from coordledger.client.opening import surroundings  # noqa: PLC0415

    try:
        settings = surroundings(app.options(), os.environ).settings
    except CoordledgerError:  # there is no ledger yet
        return []
    what = "it tells its shells no session: coordledger.sessionKeys gives its sessions no key"
    do = "where that matters, make one by hand: coordledger agent delegate"
    wanted = settings.session_keys
    return [(name, what, do) for name in names if wanted and name not in HARNESSES]


def harness_findings(app: App) -> list[tuple[str, bool | None, str, str]]:
    """For `doctor`, of the project and of the user: harness, whether it is well, what was found,
    what to do. None: it is not, but nobody uses that harness on this machine.
    """
    from coordledger.integrations.connecting import findings, noticing, table  # noqa: PLC0415

    used = noticing.noticed(os.environ, None)
    found = []
    for user in (False, True):
        try:
            scope = scope_of(app, user=user)
        except CoordledgerError:  # no project here, or no home
            continue
        for row in table.HARNESSES.values():
            for one in findings.look(scope, row):
                ok = True if one.is_good else False if one.name in used else None
                found.append((one.name, ok, one.found, one.do))
    return found


# -- what is said


def _tell(
    app: App,
    scope: Scope,
    results: Sequence[Result],
    notes: Sequence[tuple[str, str, str]],
    *,
    seen: dict[str, str],
    remove: bool,
    check: bool,
    dry_run: bool,
) -> None:
    screen = app.screen
    screen.value(
        {
            "scope": "user" if scope.user else "project",
            "top": str(scope.top),
            "noticed": seen,
            "same": all(result.is_same for result in results),
            "written": not (check or dry_run),
            "results": [_json(result, diff=dry_run) for result in results],
            "notes": [{"name": name, "found": what, "do": do} for name, what, do in notes],
        }
    )
    for result in results:
        by = seen.get(result.name, "")
        words = _words(result, remove=remove, written=not (check or dry_run))
        screen.line(f"{result.name}{f' ({safe(by)})' if by else ''}: {words}")
        for step in result.steps:
            for line in _lines(step, check=check, dry_run=dry_run):
                screen.line(line)
    if not screen.json and not check:
        for name, what, do in notes:
            screen.warn(f"{name}: {what} -> {do}")


def _words(result: Result, *, remove: bool, written: bool) -> str:
    if result.refused:
        return "refused, nothing was written"
    if result.name == "AGENTS.md":
        return "nothing to change" if result.is_same else "what agents read"
    if result.is_same:
        return "not connected" if remove else "connected already"
    if not written:
        return "would be disconnected" if remove else "would be connected"
    return "disconnected" if remove else "connected"


def _lines(step: Step, *, check: bool, dry_run: bool) -> list[str]:
    name = safe(step.change.file.shown)
    lines = [f"  {name}: {safe(why)}" for why in (*(step.differs if check else ()), *step.kept)]
    if step.action != "unchanged" and not check:
        lines.append(f"  {'to be ' if dry_run else ''}{step.action}: {name}")
    return lines + ([safe(line) for line in _diff(step)] if dry_run else [])


def _diff(step: Step) -> list[str]:
    """What changes, as `diff -u` shows it."""
    old, new = step.change.file.content, step.change.content
    if old == new:
        return []
    import difflib  # noqa: PLC0415 - help needs none

    name = step.change.file.shown
    lines = difflib.unified_diff(
        _split(old),
        _split(new),
        "/dev/null" if old is None else f"a/{name}",
        "/dev/null" if new is None else f"b/{name}",
    )
    shown: list[str] = []
    for line in lines:
        shown.append(line.removesuffix("\n"))
        if not line.endswith("\n"):
            shown.append("\\ No newline at end of file")
    return shown


def _split(content: bytes | None) -> list[str]:
    text = (content or b"").decode("utf-8", "replace")
    return [line + "\n" for line in text.split("\n")[:-1]] + (
        [text.rpartition("\n")[2]] if text and not text.endswith("\n") else []
    )


def _json(result: Result, *, diff: bool) -> dict[str, Any]:
    fault = result.refused
    told = {"code": fault.code, "message": fault.message, "hint": fault.hint} if fault else None
    return {
        "name": result.name,
        "same": result.is_same,
        "refused": told,
        "files": [
            {
                "path": step.change.file.shown,
                "action": step.action,
                "differs": list(step.differs),
                "kept": list(step.kept),
            }
            | ({"diff": "\n".join(_diff(step))} if diff else {})
            for step in result.steps
        ],
    }
