"""Commands about other systems: import, export.

Rules: what does not fit is said before anything is written, and in a dry run alone; who has held or
sent something elsewhere is shown as the importer's word, never as a verdict.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import click

from coordledger.errors import LOST, error

from . import params
from .common import command, group, root
from .output import safe, task_name

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordledger.client.reports import Imported, ImportedRow

    from .common import App
    from .output import Screen

_ORDER = ("new", "imported", "exists", "conflict", "skipped", "failed")

imports = group(
    "import",
    parent=root,
    example="coordledger import gptme state/coordination/coord.db --dry-run",
    doc="Bring in tasks, messages and facts. From another system, as an admin.",
)


def _common(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of all imports."""
    options = (
        click.argument("file", type=params.TEXT),
        click.option(
            "--map",
            "agents",
            type=params.Pair(),
            multiple=True,
            metavar="OLD=AGENT",
            help="Who OLD is here; * and ? stand for anything.",
        ),
        click.option("--source", type=params.TEXT, metavar="NAME", help="Tells stores apart."),
        click.option("--dry-run", is_flag=True, help="Only say what would come."),
    )
    return functools.reduce(lambda made, option: option(made), reversed(options), function)


def _bring(
    app: App,
    form: str,
    file: str,
    agents: tuple[tuple[str, str], ...],
    dry_run: bool,
    **given: Any,
) -> int:
    with app.ledger(writes=not dry_run) as ledger:
        given |= {"agents": dict(agents), "dry_run": dry_run}
        tell = functools.partial(_tell_problems, app.screen)
        found = ledger.import_from(form, app.file(file), before=tell, **given)
    app.screen.value_of(found, counts=found.counts)
    _print(app.screen, found)
    codes = [{"conflict": LOST, "failed": 1}.get(row.outcome, 0) for row in found.rows]
    return max(codes, default=0)


def _tell_problems(screen: Screen, planned: Imported) -> None:
    """Before anything is written: what does not come, and what is not as it was."""
    for row in planned.rows:
        if row.notes:
            screen.note(f"{row.outcome}: {_what(row)}: {'; '.join(row.notes)}")


def _what(row: ImportedRow) -> str:
    return f"{row.table} {row.id}" if row.id.isprintable() and row.id else f"{row.table} {row.id!r}"


def _print(screen: Screen, found: Imported) -> None:
    rows = []
    for row in found.rows:
        name = row.name or ""
        here = task_name(name) if row.kind == "task" else name
        mac = f"legacy: {row.mac}" if row.mac else ""
        rows.append([row.outcome, row.table, row.id, here, mac, "; ".join(row.notes)])
    header = ["OUTCOME", "TABLE", "ID", "HERE", "MAC", "NOTE"]
    with screen.paged():
        screen.table(header, rows, elastic=(2, 3))
        counts = [f"{found.counts[name]} {name}" for name in _ORDER if name in found.counts]
        screen.line(safe(f"{len(found.rows)} rows: {', '.join(counts)}" if rows else "no rows"))


@command(
    "gptme",
    parent=imports,
    example="coordledger import gptme coord.db --secrets-dir old --map 'bob-*=bob' --dry-run",
)
@_common
@click.option(
    "--secrets-dir",
    "secrets",
    type=params.TEXT,
    metavar="DIR",
    help="Old secrets, AGENT.secret; else COORDINATION_SECRET_<AGENT>.",
)
def gptme(app: App, secrets: str | None, **given: Any) -> int:
    """Import a coordination database (SQLite) FILE of gptme's.

    Work and events become tasks, messages an archive, facts facts; leases on paths cannot come. The
    file is copied, and never written to. MACs are checked with the old secrets.
    """
    folder = None if secrets is None else app.file(secrets)
    return _bring(app, "gptme", secrets=folder, **given)


@command("beads", parent=imports, example="coordledger import beads .beads/issues.jsonl --dry-run")
@_common
def beads(app: App, **given: Any) -> int:
    """Import issues of beads from FILE, a JSON object a line.

    What blocks an issue is what its task waits for; closed ones are done.
    """
    return _bring(app, "beads", **given)


@command(
    "github",
    parent=imports,
    example="gh issue list --state all --limit 1000 --json number,url,title,body,state,labels"
    " > issues.json\ncoordledger import github issues.json",
)
@_common
@click.option("--repo", "repository", type=params.TEXT, metavar="OWNER/REPO", help="Without URLs.")
def github(app: App, repository: str | None, **given: Any) -> int:
    """Import issues of GitHub from FILE: what `gh` lists.

    As `gh issue list --json FIELDS` prints them: see the example. Their tasks are
    github:OWNER/REPO#N; closed ones are done.
    """
    return _bring(app, "github", repository=repository, **given)


@command("coordledger", parent=imports, example="coordledger import coordledger tasks.jsonl")
@_common
def coordledger(app: App, **given: Any) -> int:
    """Import tasks from FILE, an export. `coordledger export` has written it (jsonl)."""
    return _bring(app, "coordledger", **given)


@command("export", parent=root, example="coordledger export --format csv -o t.csv")
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "csv", "beads"]),
    default="jsonl",
    show_default=True,
    help="csv: for spreadsheets.",
)
@click.option("-o", "--output", type=params.TEXT, metavar="FILE", help="Into FILE.")
def export(app: App, form: str, output: str | None) -> None:
    """Print all tasks: JSON lines, CSV, or issues of beads.

    `import coordledger` and `import beads` read the first and the last again.
    """
    with app.ledger() as ledger:
        text = ledger.export(form)
    count = text.count("\n")
    if output is None:
        app.screen.value({"format": form, "text": text})
        if not app.screen.json:
            app.screen.raw(text)
        return
    path = app.file(output)
    if path.exists() and not path.is_file():
        raise error("bad-value", what="-o", why=f"{path} is no file")
    path.write_text(text, "utf-8", newline="")
    app.screen.value({"format": form, "file": str(path)})
    app.screen.line(f"{count} lines in {safe(path)}")
