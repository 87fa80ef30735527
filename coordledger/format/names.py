"""Names: of ledgers' refs, of agents and the like, of tasks (docs/format.md, sections 1, 3)."""

from __future__ import annotations

# A remote has its ledgers here, tries a push out there, and puts it into its place in the third.
LEDGERS, TRIES, FOR = "refs/coordledger/", "refs/coordledger-try/", "refs/for/coordledger/"
CUT = "refs/coordledger-cut/"  # and, where it lives, what a repair has cut off

_FIRST = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_REST = _FIRST | {"_", "-"}


def is_identifier(value: object) -> bool:
    """Of an agent, a session, a channel, a ledger: `[a-z0-9][a-z0-9_-]{0,63}`."""
    return (
        isinstance(value, str)
        and 1 <= len(value) <= 64
        and value[0] in _FIRST
        and _REST.issuperset(value)
    )


def is_task(value: object) -> bool:
    """The id of a task: 1 to 200 characters of printable ASCII without spaces."""
    return (
        isinstance(value, str)
        and 1 <= len(value) <= 200
        and value.isascii()
        and value.isprintable()
        and " " not in value
    )
