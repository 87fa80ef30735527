"""The figures in the text format that Prometheus reads (version 0.0.4).

Rules: what only grows is a counter; labels are escaped. Everything that there is, is counted: a
collector takes differences by itself.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from coordledger.client.ledger import Ledger
    from coordledger.client.reports import Spread, Stats

    Sample = tuple[str, dict[str, str], float]

_SECOND = timedelta(seconds=1)
_COUNTED = {
    "claimed": ("claims_total", "Claims that were won."),
    "taken_over": ("takeovers_total", "Claims that were won after another's lease had ended."),
    "done": ("completed_total", "Tasks that were completed."),
    "given_back": ("released_total", "Tasks that their holders gave back."),
    "lost": ("leases_lost_total", "Claims whose lease ended, and whose task went elsewhere."),
    "forced": ("forced_total", "Claims that an admin has released by force."),
}


def exposition(ledger: Ledger, found: Stats) -> str:
    """All metrics of a ledger. What it reads beside `found` is the copy's."""
    head = ledger.head(refresh=False)
    here = {"ledger": head.ledger}
    lines: list[str] = []
    for field, (name, doc) in _COUNTED.items():
        samples: list[Sample] = [
            ("", here | {"agent": one.agent or ""}, getattr(one, field)) for one in found.agents
        ]
        lines += _family(name, "counter", doc, samples)
    lines += _family(
        "records_total", "counter", "Records of the ledger.", [("", here, head.seq + 1)]
    )
    for name, doc, spread in (
        ("task_duration_seconds", "From a claim to its completion.", found.total.duration),
        ("task_waiting_seconds", "From submission to the first claim.", found.total.waiting),
    ):
        lines += _family(name, "summary", doc, _summary(here, spread))
    statuses = ledger.some_tasks(limit=0).statuses
    names = ("open", "claimed", "expired", "done", "withdrawn")
    tasks: list[Sample] = [("", here | {"status": one}, statuses.get(one, 0)) for one in names]
    lines += _family("tasks", "gauge", "Tasks by status.", tasks)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    seen: list[Sample] = []
    held: list[Sample] = []
    for one in ledger.activity():
        labels = here | {"agent": one.agent}
        held.append(("", labels, len(one.holds)))
        if one.last_seen:
            seen.append(("", labels, (one.last_seen - epoch) / _SECOND))
    lines += _family("agent_holds", "gauge", "Tasks that an agent has claimed.", held)
    doc = "When an agent signed its newest record."
    lines += _family("agent_last_seen_timestamp_seconds", "gauge", doc, seen)
    return "\n".join(lines) + "\n"


def _summary(labels: dict[str, str], spread: Spread) -> list[Sample]:
    quantiles = [("0.5", spread.median), ("0.95", spread.p95)]
    samples: list[Sample] = [
        ("", labels | {"quantile": name}, float("nan") if value is None else value / _SECOND)
        for name, value in quantiles
    ]
    return [*samples, ("_sum", labels, spread.total / _SECOND), ("_count", labels, spread.count)]


def _family(name: str, kind: str, doc: str, samples: Iterable[Sample]) -> list[str]:
    full = f"coordledger_{name}"
    lines = [f"# HELP {full} {doc}", f"# TYPE {full} {kind}"]
    for suffix, labels, value in samples:
        shown = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels.items())
        lines.append(f"{full}{suffix}{{{shown}}} {_number(value)}")
    return lines


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return "NaN" if value != value else repr(value)  # noqa: PLR0124 - NaN alone differs from itself
