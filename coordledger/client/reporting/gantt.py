"""The timeline as Mermaid's text for a gantt chart, as issues and wikis draw it.

Rules: pure. A task is a section, a lease a bar of it. Of foreign texts letters, digits and a few
signs are left, and each stands behind a word of ours: so none is a keyword, ends its line, or ends
the block that the text is put into.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordledger.client.reporting.leases import EXPIRED, HELD
from coordledger.client.task_ids import decode
from coordledger.client.texts import cut

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordledger.client.reporting.gathering import Report
    from coordledger.client.reporting.leases import Lease

MOST = 200  # leases: what Mermaid draws, and people read
_NAME = 60  # characters
_SIGNS = frozenset(" _-./+()@")
_TAGS = {"done": "done, ", HELD: "active, ", EXPIRED: "crit, ", "forced": "crit, "}
_ENDED = {"done": "done", HELD: "holds it", EXPIRED: "lease expired", "forced": "ended by force"}


def mermaid(report: Report) -> str:
    """Lines that begin with `gantt`; of the newest leases, where there are many."""
    held = report.leases[-MOST:]
    lines = [
        "gantt",
        f"    title Ledger {report.ledger[:12]}, record {report.head.seq}: who held what, UTC",
        "    dateFormat YYYY-MM-DDTHH:mm:ss",
        "    axisFormat %d %b %H:%M",
    ]
    if len(held) < len(report.leases):
        lines.append(f"    %% the newest {len(held)} of {len(report.leases)} leases")
    for task, some in _by_task(held).items():
        lines.append(f"    section {plain(decode(task))}")
        lines += [_bar(one) for one in some]
    return "\n".join(lines) + "\n"


def _by_task(leases: Sequence[Lease]) -> dict[str, list[Lease]]:
    found: dict[str, list[Lease]] = {}
    for one in leases:
        found.setdefault(one.task, []).append(one)
    return found


def _bar(one: Lease) -> str:
    how = _ENDED.get(one.ended, one.ended)
    end = one.until if one.ended == HELD else max(one.end, one.start)
    times = ", ".join(f"{at:%Y-%m-%dT%H:%M:%S}" for at in (one.start, end))
    return f"    by {plain(one.agent)} ({how}) :{_TAGS.get(one.ended, '')}{times}"


def plain(text: str) -> str:
    """What of a foreign text cannot be more than a word of it; never empty."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in _SIGNS) else "_" for c in text)
    return cut(" ".join(kept.split()), _NAME) or "_"
