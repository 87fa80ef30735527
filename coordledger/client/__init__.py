"""An agent's process: a verified copy, writing, the use cases.

`Ledger` names modules that most commands do not need as `client.audit`, …: they are imported when
they are first used, as a command's start is most of its time.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    from coordledger.client import (
        administration,
        audit,
        batch,
        blaming,
        by_commits,
        exporting,
        facts,
        gate,
        guarding,
        heads,
        index,
        judging,
        landing,
        lines,
        listings,
        mailbox,
        proving,
    )

__all__ = [
    "administration",
    "audit",
    "batch",
    "blaming",
    "by_commits",
    "exporting",
    "facts",
    "gate",
    "guarding",
    "heads",
    "index",
    "judging",
    "landing",
    "lines",
    "listings",
    "mailbox",
    "proving",
]


def __getattr__(name: str) -> ModuleType:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - as late as what it imports

    return import_module(f"{__name__}.{name}")
