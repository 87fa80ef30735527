"""The pages that people read: their blocks of commands, and how a test types them.

Rules: a block that is marked `sh` is to be typed as it stands, in the order of the page, and a test
does so (`tests/test_pages.py` sees to it); what is only to be read is marked otherwise,
or indented.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent  # where `coordledger` is


def text(page: str, title: str | None = None) -> str:
    """A page, by its path from the top, or what stands under one of its titles."""
    whole = (ROOT / page).read_text("utf-8")
    if title is None:
        return whole
    _, found, rest = whole.partition(f"\n## {title}\n")
    assert found, f"{page}: no {title}"
    return rest.partition("\n## ")[0]


def blocks(page: str, title: str | None = None, language: str = "sh") -> list[str]:
    """The blocks of a page, or of one section; there is one at least."""
    found = re.findall(rf"^```{language}\n(.*?)^```$", text(page, title), re.MULTILINE | re.DOTALL)
    assert found, f"{page}: no block of {language}"
    return found


def play(script: str, folder: Path, env: Mapping[str, str], *, shell: str = "bash") -> str:
    """Type the lines; every one has to succeed. What they print on stdout."""
    ran = subprocess.run(
        [shell, "-eu", "-c", script],
        cwd=folder,
        env={**env, "PATH": f"{BIN}:{env['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, f"{script}\n{ran.stdout}{ran.stderr}"
    return ran.stdout
