"""Runs suites, each in a workspace of its own, and collects what they found."""

from __future__ import annotations

import tempfile
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .workspace import Workspace, machine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Progress = Callable[[str, int, int], None]  # what, how many are done, of how many


def measure(suites: Sequence[str], rounds: int | None, progress: Progress) -> dict[str, Any]:
    """Run the suites; what `--json` prints (docs/json.md). `rounds` None: each suite's own."""
    found: dict[str, Any] = {"machine": {}, "suites": {}, "left_out": []}
    with tempfile.TemporaryDirectory(prefix="coordledger-bench-") as folder:
        found["machine"] = machine(Path(folder))
    for name in suites:
        suite = import_module(f".{name}", __package__)
        wanted = rounds or suite.ROUNDS
        with tempfile.TemporaryDirectory(prefix="coordledger-bench-") as folder:
            workspace = Workspace(Path(folder))
            rows, missing = suite.run(workspace, wanted, partial(progress, f"bench {name}:"))
        found["suites"][name] = {"rounds": wanted, "rows": rows}
        found["left_out"] += [{"suite": name, "what": w, "why": why} for w, why in missing.items()]
    return found
