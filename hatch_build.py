"""A step of the wheel's build: the manual pages, from the commands' help (`cli/man.py`).

They go to share/man/man1 below the prefix, where `man` looks for the pages of what is in its `bin`.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ManualPages(BuildHookInterface):  # type: ignore[type-arg]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Make them, and say where they are and where they go."""
        sys.path.insert(0, self.root)
        from coordledger.cli.man import pages  # noqa: PLC0415 - of the tree that is built

        self._folder = tempfile.TemporaryDirectory()
        for name, text in pages().items():
            path = Path(self._folder.name, name)
            path.write_text(text, "ascii")
            build_data["shared_data"][str(path)] = f"share/man/man1/{name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        self._folder.cleanup()
