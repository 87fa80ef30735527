"""coordledger: a claim ledger for fleets of agents, kept as signed commits in git.

    from coordledger import Ledger

    with Ledger.open(agent="alice") as ledger:
        if ledger.claim("task-1").won:
            ledger.complete("task-1", result="merged")

Names below are imported when they are first used: the hook starts from this package too,
and has no time for dulwich.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from coordledger.client.batch import Batch
    from coordledger.client.claims import Changes, Claim, ClaimResult, Last, Legacy
    from coordledger.client.facts import Facts
    from coordledger.client.ledger import Ledger
    from coordledger.client.proving import verify_proof
    from coordledger.client.reports import (
        Acked,
        Activity,
        Agent,
        AgentStats,
        Audit,
        Authority,
        Before,
        Blame,
        Channel,
        Damage,
        Delegate,
        Description,
        Event,
        Fact,
        Guarded,
        Head,
        Imported,
        ImportedRow,
        Key,
        Landing,
        LandRecord,
        Listing,
        LogEntry,
        Message,
        MovedRef,
        Outcome,
        Proof,
        Purged,
        Reservation,
        Reserved,
        Settled,
        Spread,
        Stats,
        Status,
        Vouched,
    )
    from coordledger.errors import CoordledgerError, Failed, Integrity, Lost, OutcomeUnknown
    from coordledger.format.signing import Secret
    from coordledger.setup.genesis import Founded
    from coordledger.setup.interface import init, join
    from coordledger.setup.joining import Joined

__version__ = "1.0.0rc1"

_REPORTS = (
    "Acked", "Activity", "Agent", "AgentStats", "Audit", "Authority", "Before", "Blame", "Channel",
    "Damage", "Delegate", "Description", "Event", "Fact", "Guarded", "Head", "Imported",
    "ImportedRow", "Key", "LandRecord", "Landing", "Listing", "LogEntry", "Message", "MovedRef",
    "Outcome", "Proof", "Purged", "Reservation", "Reserved", "Settled", "Spread", "Stats", "Status",
    "Vouched",
)  # fmt: skip
_HOMES = (
    {
        "Batch": "client.batch",
        "Facts": "client.facts",
        "Founded": "setup.genesis",
        "Joined": "setup.joining",
        "Ledger": "client.ledger",
        "Secret": "format.signing",
        "init": "setup.interface",
        "join": "setup.interface",
        "verify_proof": "client.proving",
    }
    | dict.fromkeys(("CoordledgerError", "Failed", "Integrity", "Lost", "OutcomeUnknown"), "errors")
    | dict.fromkeys(("Changes", "Claim", "ClaimResult", "Last", "Legacy"), "client.claims")
    | dict.fromkeys(_REPORTS, "client.reports")
)

__all__ = [
    "Acked",
    "Activity",
    "Agent",
    "AgentStats",
    "Audit",
    "Authority",
    "Batch",
    "Before",
    "Blame",
    "Changes",
    "Channel",
    "Claim",
    "ClaimResult",
    "CoordledgerError",
    "Damage",
    "Delegate",
    "Description",
    "Event",
    "Fact",
    "Facts",
    "Failed",
    "Founded",
    "Guarded",
    "Head",
    "Imported",
    "ImportedRow",
    "Integrity",
    "Joined",
    "Key",
    "LandRecord",
    "Landing",
    "Last",
    "Ledger",
    "Legacy",
    "Listing",
    "LogEntry",
    "Lost",
    "Message",
    "MovedRef",
    "Outcome",
    "OutcomeUnknown",
    "Proof",
    "Purged",
    "Reservation",
    "Reserved",
    "Secret",
    "Settled",
    "Spread",
    "Stats",
    "Status",
    "Vouched",
    "init",
    "join",
    "verify_proof",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - see the docstring

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
