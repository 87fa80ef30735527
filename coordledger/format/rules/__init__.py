"""The kinds of record, one module for each object that they are about.

Rules: a module says all that there is to say of its kinds: what a record of the kind
looks like, when it is valid, what it does to the state, what its commit is called. A new
kind is an entry in its module's `KINDS` and a line here; beside that it takes vectors and
a row in docs/format.md.

A module is loaded when the first record of its kinds comes: a push has one kind or two, and
each module would take a hook a tenth of a millisecond.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from coordledger.format.rules.kind import Kind

MODULES = {
    "genesis": "ledger",
    "enroll": "agents",
    "revoke": "agents",
    "policy": "ledger",
    "submit": "tasks",
    "edit": "tasks",
    "withdraw": "tasks",
    "import": "imports",
    "claim": "claims",
    "renew": "claims",
    "complete": "claims",
    "release": "claims",
    "handoff": "claims",
    "land": "landings",
    "send": "mailbox",
    "ack": "mailbox",
    "drop": "mailbox",
    "archive": "imports",
    "fact": "facts",
    "void": "intents",
}

_loaded: dict[str, Kind] = {}


def kind_of(name: str) -> Kind:
    """The kind with this name. KeyError: this version knows none."""
    if name not in _loaded:
        module = __import__(f"{__name__}.{MODULES[name]}", fromlist=["KINDS"])
        _loaded.update(module.KINDS)
    return _loaded[name]


def load_all() -> None:
    """Load the modules of all kinds, for a process that may outlive the files of its code."""
    for name in MODULES:
        kind_of(name)
