"""Commands about shared facts.

Rules: a value is somebody else's text: it is shown indented and harmless, never interpreted.
Scripts take `--json`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from . import params
from .common import command, group, root
from .output import about, block, doubt_cell, safe, when

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from coordledger.client.reports import Fact

    from .common import App
    from .output import Screen

facts = group(
    "fact",
    parent=root,
    example="coordledger fact set image/tests sha256:3f2c1a --ttl 12h",
    doc="Small values that all agents share, each under a key.",
)
key_argument = click.argument("key", type=params.FACT)


def _until(fact: Fact, now: datetime, tell: Callable[..., str] = when) -> str:
    return tell(fact.expires_at, now) if fact.expires_at else ""


def print_fact(screen: Screen, fact: Fact) -> None:
    now = datetime.now(UTC)
    until = f"  until {_until(fact, now)}" if fact.expires_at else ""
    doubt = screen.doubt(fact.verdict, fact.checked)
    who = safe(f"{fact.agent}/{fact.session}")
    screen.line(f"{safe(fact.key)}  rev {fact.rev}  {who}  {when(fact.at, now)}{until}{doubt}")
    screen.line(block(fact.value))
    screen.footer([fact.checked])


@command(
    "set",
    parent=facts,
    example="coordledger fact set image/tests sha256:3f2c1a --ttl 12h\n"
    "coordledger fact set schema 8 --if 217",
)
@key_argument
@click.argument("value", type=params.TEXT)
@click.option(
    "--ttl", type=params.LEASE, metavar="DURATION", help="How long it holds; else for good."
)
@click.option(
    "--if",
    "if_rev",
    type=click.IntRange(min=0),
    metavar="REV",
    help="Only if it is at revision REV; 0: only if there is none.",
)
def set_(app: App, key: str, value: str, ttl: timedelta | None, if_rev: int | None) -> None:
    """Set KEY to VALUE, or to stdin for `-`. The last one to set it wins: see --if."""
    text = params.read_stdin("VALUE") if value == "-" else value
    with app.ledger(writes=True) as ledger:
        fact = ledger.facts.set(key, text, ttl=ttl, if_rev=if_rev)
    app.screen.value_of(fact)
    until = f"  until {_until(fact, datetime.now(UTC))}" if fact.expires_at else ""
    app.screen.line(f"set {safe(key)}  rev {fact.rev}{until}")


@command("get", parent=facts, example="coordledger fact get image/tests --json")
@key_argument
def get(app: App, key: str) -> None:
    """Show the fact KEY, and who has set it."""
    with app.ledger() as ledger:
        fact = ledger.facts.get(key)
    app.screen.value_of(fact)
    print_fact(app.screen, fact)


@command("list", parent=facts, example="coordledger fact list image/")
@click.argument("prefix", type=params.TEXT, default="")
def list_(app: App, prefix: str) -> None:
    """List the facts, or those whose keys begin with PREFIX."""
    with app.ledger() as ledger:
        found = ledger.facts.list(prefix)
    app.screen.value_of(found)
    now, tell = datetime.now(UTC), about if app.screen.is_narrow else when
    doubts = [doubt_cell(one.verdict, one.checked) for one in found]
    rows = [
        [
            one.key,
            str(one.rev),
            f"{one.agent}/{one.session}",
            _until(one, now, tell),
            *([doubt] if any(doubts) else ""),
            one.value,
        ]
        for one, doubt in zip(found, doubts, strict=True)
    ]
    checked = ["CHECKED"] if any(doubts) else []
    app.screen.table(["KEY", "REV", "BY", "UNTIL", *checked, "VALUE"], rows, elastic=(0, 2))
    app.screen.footer(one.checked for one in found)
    if not found:
        app.screen.line("no facts")


@command("rm", parent=facts, example="coordledger fact rm image/tests")
@key_argument
@click.option(
    "--if",
    "if_rev",
    type=click.IntRange(min=1),
    metavar="REV",
    help="Only if it is at revision REV.",
)
def remove(app: App, key: str, if_rev: int | None) -> None:
    """Remove the fact KEY. What it said stays in the history."""
    with app.ledger(writes=True) as ledger:
        ledger.facts.remove(key, if_rev=if_rev)
    app.screen.value({"removed": key})
    app.screen.line(f"removed {safe(key)}")
