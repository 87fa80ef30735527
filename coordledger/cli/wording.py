"""Tasks in words: what several commands say of them alike."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from . import params
from .output import about, block, doubt_cell, safe, task_name, when

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordledger.client.claims import Claim, Last, Legacy
    from coordledger.client.reports import Description

    from .output import Screen

task_argument = click.argument("task", type=params.TASK)


def holder_of(claim: Claim) -> str:
    return safe(f"{claim.agent}/{claim.session}") if claim.agent else ""


def said(screen: Screen, done: str, claim: Claim, *facts: str) -> None:
    shown = "".join(f"  {fact}" for fact in facts if fact)
    screen.line(f"{screen.styled(done)} {task_name(claim.task)}{shown}")


def epoch_of(claim: Claim) -> str:
    return safe(f"epoch {claim.epoch}")


def lease_of(claim: Claim) -> str:
    return f"until {when(claim.expires_at, datetime.now(UTC))}" if claim.expires_at else ""


def last_of(screen: Screen, last: Last) -> str:
    """Who did what last, and when."""
    what = safe(f"{last.kind} by {last.agent}, {when(last.at, datetime.now(UTC))}")
    return what + screen.doubt(last.verdict, last.checked)


def not_before_of(claim: Claim) -> str:
    now = datetime.now(UTC)
    later = claim.not_before is not None and claim.not_before > now
    return f"not before {when(claim.not_before, now)}" if later else ""


def _words(claim: Claim) -> str:
    """What there is to say of a task in a line: its title, and what somebody said last."""
    words = claim.result if claim.status == "done" else claim.note
    if claim.legacy:
        words = "; ".join(filter(None, (mac_of(claim.legacy), words)))
    if claim.last and claim.last.text and claim.last.kind in ("renew", "handoff"):
        words = claim.last.text
    if claim.status in ("open", "withdrawn") and claim.last and claim.last.text:
        words = f"{claim.last.kind} by {claim.last.agent}: {claim.last.text}"
    if claim.status in ("open", "expired") and claim.attempts > 1:
        words = f"{claim.attempts} attempts{'; ' if words else ''}{words or ''}"
    if claim.offered_to:
        words = ": ".join(filter(None, (f"offered to {claim.offered_to}", words)))
    if claim.status == "open" and not_before_of(claim):
        words = not_before_of(claim)
    if claim.waits_for:
        words = f"waits for {' '.join(map(task_name, claim.waits_for))}"
    return " | ".join(text for text in (claim.title, words) if text)


def mac_of(legacy: Legacy) -> str:
    """What an importer has found about something, in words that pass for no verdict of ours."""
    return f"legacy: {legacy.mac}"


def legacy_of(legacy: Legacy) -> str:
    """Where something comes from."""
    who = f" by {legacy.agent}" if legacy.agent else ""
    at = f" at {legacy.at:%Y-%m-%d %H:%M:%S}Z" if legacy.at else ""
    what = f" {legacy.id}" if legacy.id else ""
    return safe(f"{legacy.source}{what}{who}{at}, {mac_of(legacy)}")


def claims_table(screen: Screen, claims: Sequence[Claim]) -> None:
    """A line each; who has checked it only where that is not this reader of all."""
    now = datetime.now(UTC)
    doubts = [doubt_cell(claim.verdict, claim.checked) for claim in claims]
    doubted, titled = any(doubts), any(claim.title for claim in claims)
    tell = about if screen.is_narrow else when
    header = [
        "TASK",
        "STATUS",
        "PRIO",
        "HOLDER",
        "UNTIL",
        *(["CHECKED"] if doubted else ""),
        "TITLE | NOTE" if titled else "NOTE",
    ]
    rows = []
    for claim, doubt in zip(claims, doubts, strict=True):
        until = tell(claim.expires_at, now) if claim.expires_at else ""
        row = [task_name(claim.task), claim.status, str(claim.priority or "")]
        row += [holder_of(claim), until, *([doubt] if doubted else ""), _words(claim)]
        rows.append(row)
    screen.table(header, rows, elastic=(0, 3))
    screen.footer(claim.checked for claim in claims)


def print_description(screen: Screen, found: Description, page: str) -> None:
    """All of one task."""
    now, claim = datetime.now(UTC), found.claim
    screen.fields(
        ("task", task_name(claim.task)),
        ("id", safe(claim.task) if task_name(claim.task) != claim.task else ""),
        ("title", safe(claim.title or "")),
        ("status", screen.styled(claim.status)),
        ("holder", holder_of(claim)),
        ("offered to", safe(claim.offered_to or "")),
        ("epoch", safe(claim.epoch)),
        ("claimed", when(claim.claimed_at, now) if claim.claimed_at else ""),
        ("until", when(claim.expires_at, now) if claim.expires_at else ""),
        ("free from", when(claim.claimable_at, now) if claim.claimable_at else ""),
        ("offered by", safe(claim.by or "")),
        ("priority", safe(claim.priority or "")),
        ("labels", safe(" ".join(claim.labels))),
        ("part of", task_name(claim.parent) if claim.parent else ""),
        ("parts", _progress(found.parts)),
        ("after", " ".join(map(task_name, claim.after))),
        ("waits for", " ".join(map(task_name, claim.waits_for))),
        ("not before", when(claim.not_before, now) if claim.not_before else ""),
        ("attempts", safe(claim.attempts or "")),
        ("paths", safe(" ".join(claim.paths))),
        ("meta", safe(" ".join(f"{key}={value}" for key, value in claim.meta.items()))),
        ("imported", legacy_of(claim.legacy) if claim.legacy else ""),
        ("last", last_of(screen, claim.last) if claim.last else ""),
        ("record", safe(f"{claim.seq} {claim.commit or '(not in this copy)'}")),
        ("page", page),
        ("verdict", screen.styled(claim.verdict)),
        ("checked", screen.styled(claim.checked)),
    )
    free = claim.status in ("open", "withdrawn")
    reason = claim.last.text if claim.last and free else None
    texts = (claim.note, claim.result, reason, found.body)
    for name, text in zip(("note", "result", "reason", "body"), texts, strict=True):
        if text:
            screen.line(name)
            screen.line(block(text))
    screen.footer([claim.checked, *([found.body_checked] if found.body else [])])


def _progress(parts: dict[str, int]) -> str:
    """`2 of 5 done, 1 claimed`."""
    if not parts:
        return ""
    done = parts.get("done", 0)
    others = [f"{count} {status}" for status, count in sorted(parts.items()) if status != "done"]
    return ", ".join([f"{done} of {sum(parts.values())} done", *others])
