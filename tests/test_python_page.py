"""The page of the Python interface: every public name, made from signatures and docstrings.

`python tests/test_python_page.py` writes docs/python.md anew. A public method that says nothing of
one of its arguments, or of what it raises, fails here.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import fields, is_dataclass
from datetime import timedelta
from itertools import chain
from pathlib import Path
from typing import Any, is_typeddict

import pytest

import coordledger

PAGE = Path(__file__).resolve().parents[1] / "docs" / "python.md"
HEAD = """# The Python interface

    from datetime import timedelta

    from coordledger import Ledger

    with Ledger.open(agent="alice") as ledger:
        result = ledger.claim("task-1", ttl=timedelta(minutes=30))
        if result.won:
            ledger.complete("task-1", result="merged as 3f2c1a")

Where there is no ledger yet, `init` founds it, and each machine's `join` enters it:

    import coordledger

    coordledger.init("/srv/git/project.git", "alice")  # where the repository lives
    coordledger.join("origin", "bob", path="project", secret_file="bob.secret")  # in bob's clone

Every public name of `coordledger`. What is not on this page may change without notice.

- **Units.** A span is a `datetime.timedelta`; a moment that comes back is a `datetime` in UTC.
  Bytes are counted as they stand in the record.
- **Outcomes.** A write ends as landed, lost or unknown. Losing a claim is a result
  (`ClaimResult`); for everything else it is an exception. Each exception has `code`, a stable word
  of [errors.md](errors.md), `message`, `hint`, `data` and `exit_code`.
- **Time.** Every method ends within the ledger's `timeout`, or with its `wait`. A method that
  takes longer raises `Failed` with the code `timeout`.
- **Threads.** A `Ledger` belongs to one thread at a time. Processes each open their own.
- **Cancelling.** What waits takes `cancel`, a `threading.Event`. Once that is set, from any thread,
  the wait ends as if its time were over: within a second, or when the attempt or the question to
  the remote that it is at has ended. Nothing is left half done: a claim that was won meanwhile is
  the result.

## With asyncio

All calls block. A program that has an event loop makes them in a thread, one for each ledger;
where a task of asyncio's is cancelled, it ends the wait, and looks at what came of it:

```python
import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial

from coordledger import ClaimResult, Ledger


class InThread:
    # The calls of one ledger, one after the other.

    def __init__(self, **where):
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._ledger = self._thread.submit(Ledger.open, **where).result()

    async def call(self, method, *args, **kwargs):
        call = partial(getattr(self._ledger, method), *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def claim(self, task: str, wait: timedelta) -> ClaimResult:
        cancel = threading.Event()
        claim = asyncio.ensure_future(self.call("claim", task, wait=wait, cancel=cancel))
        try:
            return await asyncio.shield(claim)
        except asyncio.CancelledError:
            cancel.set()
            if (await claim).won:  # at the last moment
                await self.call("release", task, reason="cancelled")
            raise

    async def close(self):
        await self.call("close")
        self._thread.shutdown()
```

"""
GROUPS = (
    ("Set-up and proofs", ("init", "join", "verify_proof")),
    ("A ledger", ("Ledger", "Facts", "Batch", "Changes", "Secret")),
    (
        "What comes back",
        (
            "Claim",
            "ClaimResult",
            "Last",
            "Legacy",
            "Landing",
            "Listing",
            "MovedRef",
            "Blame",
            "LandRecord",
            "Proof",
            "Authority",
            "Description",
            "Reservation",
            "Guarded",
            "Reserved",
            "Message",
            "Acked",
            "Event",
            "LogEntry",
            "Before",
            "Stats",
            "AgentStats",
            "Spread",
            "Activity",
            "Fact",
            "Channel",
            "Agent",
            "Key",
            "Delegate",
            "Purged",
            "Head",
            "Founded",
            "Joined",
            "Status",
            "Vouched",
            "Audit",
            "Damage",
            "Settled",
            "Outcome",
            "Imported",
            "ImportedRow",
        ),
    ),
    ("Errors", ("CoordledgerError", "Lost", "Failed", "Integrity", "OutcomeUnknown")),
)


def public(thing: type) -> list[tuple[str, Any]]:
    """The public methods and properties of a class, in the order of the source; and of a base
    that is no public name itself.
    """
    own = (base for base in thing.__mro__ if base is thing or _is_part(base))
    return [
        (name, value)
        for name, value in chain.from_iterable(vars(base).items() for base in own)
        if not name.startswith("_") and (callable(_plain(value)) or isinstance(value, property))
        if not (is_dataclass(thing) and name in {item.name for item in fields(thing)})
    ]


def _is_part(base: type) -> bool:
    ours = base.__module__.startswith("coordledger.")
    return ours and base.__name__ not in coordledger.__all__


def _plain(value: Any) -> Any:
    if isinstance(value, property):
        return value.fget
    return inspect.unwrap(getattr(value, "__func__", value))


def _signature(name: str, value: Any) -> str:
    if isinstance(value, property):
        return f"{name}: {inspect.signature(_plain(value)).return_annotation}"
    signature = inspect.signature(_plain(value))
    parameters = [_shown(signature.parameters[one]) for one in _arguments(value)]
    returns = signature.return_annotation
    shown = signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)
    # Annotations are texts here, and their quotes are in the way.
    text = re.sub(r": '([^']*)'", r": \1", str(shown))
    return f"{name}{text} -> {returns}"


def _arguments(value: Any) -> list[str]:
    """The names of what a caller says: not the `self` of a method."""
    names = list(inspect.signature(_plain(value)).parameters)
    return names if "." not in _plain(value).__qualname__ else names[1:]


def _shown(parameter: inspect.Parameter) -> inspect.Parameter:
    """With a default that reads as it is typed; `...` for a function."""
    default = parameter.default
    if callable(default) and default is not inspect.Parameter.empty:
        return parameter.replace(default=_Typed("..."))
    if isinstance(default, timedelta):
        return parameter.replace(default=_Typed(f"timedelta(seconds={default.seconds})"))
    return parameter


class _Typed(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def _text(thing: Any) -> str:
    return inspect.cleandoc(thing.__doc__ or "")


def _fields(thing: type) -> str:
    escaped = "\\|"  # within a row of a table
    named = inspect.get_annotations(thing)
    names = [item.name for item in fields(thing)] if is_dataclass(thing) else list(named)
    types = {name: getattr(named[name], "__forward_arg__", named[name]) for name in names}
    rows = (f"| `{name}` | `{types[name].replace('|', escaped)}` |\n" for name in names)
    return f"| field | type |\n|---|---|\n{''.join(rows)}\n"


def _entry(thing: Any) -> str:
    if not isinstance(thing, type):
        return f"### `{_signature(thing.__name__, thing)}`\n\n{_text(thing)}\n\n"
    said = f"### {thing.__name__}\n\n{_text(thing)}\n\n"
    if is_dataclass(thing) or is_typeddict(thing):
        said += _fields(thing)
    for name, value in public(thing):
        said += f"#### `{_signature(name, value)}`\n\n{_text(value)}\n\n"
    return said


def page() -> str:
    parts = [HEAD]
    for title, names in GROUPS:
        parts.append(f"## {title}\n\n")
        parts += [_entry(getattr(coordledger, name)) for name in names]
    return "".join(parts).rstrip() + "\n"


FUNCTIONS = [getattr(coordledger, name) for name in GROUPS[0][1]]
METHODS = [pytest.param(coordledger, one.__name__, one, id=one.__name__) for one in FUNCTIONS]
METHODS += [
    pytest.param(thing, name, value, id=f"{thing.__name__}.{name}")
    for _, names in GROUPS[1:]
    for thing in (getattr(coordledger, name) for name in names)
    for name, value in public(thing)
]


def test_every_public_name_stands_on_the_page() -> None:
    assert sorted(name for _, names in GROUPS for name in names) == sorted(coordledger.__all__)


def test_the_page_is_made_from_the_docstrings() -> None:
    assert PAGE.read_text("utf-8") == page(), "python tests/test_python_page.py writes it"


@pytest.mark.parametrize(("thing", "name", "value"), METHODS)
def test_a_docstring_speaks_of_every_argument(thing: Any, name: str, value: Any) -> None:
    text = _text(value)
    assert text, f"{thing.__name__}.{name} says nothing"
    if isinstance(value, property):
        return
    text += _text(thing)  # what has one meaning in all methods is said once
    silent = [argument for argument in _arguments(value) if not re.search(rf"`{argument}\b", text)]
    assert silent == []


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
