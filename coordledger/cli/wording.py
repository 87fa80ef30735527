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
    return _last_of(last, datetime.now(UTC)) + screen.doubt(last.verdict, last.checked)


def _last_of(last: Last, now: datetime) -> str:
    return safe(f"{last.kind} by {last.agent}, {when(last.at, now)}")


def not_before_of(claim: Claim) -> str:
    now = datetime.now(UTC)
    later = claim.not_before is not None and claim.not_before > now
    return f"not before {when(claim.not_before, now)}" if later else ""


def words_of(claim: Claim, *, is_narrow: bool = False) -> str:
    """What there is to say of a task in a line: its title, and what somebody said last. Where that
    is cut, what a task waits for comes first.
    """
    words = (claim.title, said_of(claim))
    return " | ".join(filter(None, words[::-1] if is_narrow and claim.waits_for else words))


def said_of(claim: Claim) -> str:
    """What somebody said last about a task, or what it waits for."""
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
    return words or ""


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
    narrow = screen.is_narrow
    tell = about if narrow else when
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
        row += [
            holder_of(claim),
            until,
            *([doubt] if doubted else ""),
            words_of(claim, is_narrow=narrow),
        ]
        rows.append(row)
    screen.table(header, rows, elastic=(0, 3))
    screen.footer(claim.checked for claim in claims)


def facts_of(found: Description, now: datetime) -> list[tuple[str, str]]:
    """What there is to say of one task, name and value; "" where there is nothing."""
    claim = found.claim
    return [
        ("task", task_name(claim.task)),
        ("id", safe(claim.task) if task_name(claim.task) != claim.task else ""),
        ("title", safe(claim.title or "")),
        ("status", claim.status),
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
        ("last", _last_of(claim.last, now) if claim.last else ""),
        ("record", safe(f"{claim.seq} {claim.commit or '(not in this copy)'}")),
        ("verdict", claim.verdict),
        ("checked", claim.checked),
    ]


def texts_of(found: Description) -> list[tuple[str, str]]:
    """The longer texts about one task, as they were written."""
    claim = found.claim
    free = claim.status in ("open", "withdrawn")
    texts = {
        "note": claim.note,
        "result": claim.result,
        "reason": claim.last.text if claim.last and free else None,
        "body": found.body,
    }
    return [(name, text) for name, text in texts.items() if text]


def print_description(screen: Screen, found: Description, page: str) -> None:
    """All of one task."""
    claim = found.claim
    facts = dict(facts_of(found, datetime.now(UTC)))
    if claim.last:
        facts["last"] += screen.doubt(claim.last.verdict, claim.last.checked)
    for name in ("status", "verdict", "checked"):
        facts[name] = screen.styled(facts[name])
    *pairs, verdict, checked = facts.items()
    screen.fields(*pairs, ("page", page), verdict, checked)
    for name, text in texts_of(found):
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
