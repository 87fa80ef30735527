"""Which harnesses are used here: by their program, their folder in the home, a project's files."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from coordledger.integrations.connecting.table import HARNESSES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from coordledger.integrations.connecting.table import Harness


def noticed(environ: Mapping[str, str], project: Path | None) -> dict[str, str]:
    """Each harness that is used here, and by what that is seen."""
    found = ((name, _seen(row, environ, project)) for name, row in HARNESSES.items())
    return {name: by for name, by in found if by}


def _seen(harness: Harness, environ: Mapping[str, str], project: Path | None) -> str:
    for program in harness.programs:
        if shutil.which(program, path=environ.get("PATH", "")):
            return f"{program} on PATH"
    home = environ.get("HOME", "")
    if home and Path(home, harness.folder).is_dir():
        return f"~/{harness.folder}"
    for trace in harness.traces:
        if project and (project / trace).exists():
            return trace
    return ""
