"""Names: of ledgers' and code's refs, of agents and the like, of tasks (docs/format.md, sections 1,
3).
"""

from __future__ import annotations

# A remote has its ledgers here, tries a push out there, and puts it into its place in the third.
LEDGERS, TRIES, FOR = "refs/coordledger/", "refs/coordledger-try/", "refs/for/coordledger/"
# After the name in the third: for who reads the lines that answer a push, and not git's word of it.
ANSWERED = ".answered"
CUT = "refs/coordledger-cut/"  # and, where it lives, what a repair has cut off

# Refs that are no code's: the ledgers' own, and those that are pushed to for review. A push to one
# of the latter carries code all the same, and one of notes carries none.
_OURS = "refs/coordledger"
_NO_CODE = (_OURS, "refs/for/")
CODELESS_PUSHES = (_OURS, FOR, "refs/notes/")
_NO_REF = frozenset("~^:?*[\\")

_FIRST = frozenset("abcdefghijklmnopqrstuvwxyz0123456789")
_REST = _FIRST | {"_", "-"}


def is_identifier(value: object) -> bool:
    """Of a session, a channel, a ledger, part of an agent's: `[a-z0-9][a-z0-9_-]{0,63}`."""
    return (
        isinstance(value, str)
        and 1 <= len(value) <= 64
        and value[0] in _FIRST
        and _REST.issuperset(value)
    )


def ledger_for(ref: str) -> str:
    """The ledger into which what is pushed to this ref is put, "" if it is no ref for that."""
    name = ref.removeprefix(FOR).removesuffix(ANSWERED)
    return name if ref.startswith(FOR) and is_identifier(name) else ""


def is_agent(value: object) -> bool:
    """One to four identifiers joined by dots, 128 characters at most: a file's name that never
    begins with a dot. Each file has one suffix after it, so `bob.json` is an agent like others.
    """
    if not isinstance(value, str) or len(value) > 128:
        return False
    parts = value.split(".")
    return len(parts) <= 4 and all(map(is_identifier, parts))


def name_above(agent: str) -> str:
    """The name that a delegate's stands below directly; "" of one without a dot."""
    return agent.rpartition(".")[0]


def first_name(agent: str) -> str:
    """What it begins with: the identifier that all its delegates are below, on any level."""
    return agent.partition(".")[0]


def levels(agent: str) -> list[str]:
    """What to sort by, so that each delegate comes after the name above it."""
    return agent.split(".")


def is_below(agent: str | None, other: str) -> bool:
    """Whether this is a delegate of `other`, a direct one or not."""
    return agent is not None and agent.startswith(f"{other}.")


def is_task(value: object) -> bool:
    """The id of a task: 1 to 200 characters of printable ASCII without spaces."""
    return (
        isinstance(value, str)
        and 1 <= len(value) <= 200
        and value.isascii()
        and value.isprintable()
        and " " not in value
    )


def is_code_ref(value: object) -> bool:
    """A ref that code may have: one that git takes, in printable ASCII, 255 characters at most."""
    if not isinstance(value, str) or not value.startswith("refs/") or len(value) > 255:
        return False
    if value.startswith(_NO_CODE) or not (value.isascii() and value.isprintable()):
        return False
    if " " in value or ".." in value or "@{" in value or not _NO_REF.isdisjoint(value):
        return False
    parts = value.split("/")
    return not value.endswith(".") and not any(
        not part or part.startswith(".") or part.endswith(".lock") for part in parts
    )
