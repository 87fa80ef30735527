"""The pages for people who read or change the code: every file that they name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("docs/architecture.md", "CONTRIBUTING.md")


def _exists(name: str) -> bool:
    """A path from the top, below the package or one of its folders, or a name alone."""
    if (ROOT / name).exists() or (ROOT / "coordledger" / name).exists():
        return True
    if "/" in name.rstrip("/"):
        return any((ROOT / "coordledger").glob(f"*/{name}"))
    return any(any((ROOT / top).rglob(name.rstrip("/"))) for top in ("coordledger", "tests"))


def named(page: str) -> list[str]:
    """The files and folders that a page names in code marks or links to."""
    text = (ROOT / page).read_text("utf-8")
    marked = re.findall(r"`((?:[\w.-]+/)*[\w.-]+(?:\.py|\.md|\.json|/))`", text)
    linked = re.findall(r"\]\(([\w./-]+)\)", text)
    base = Path(page).parent
    return [*marked, *(str((base / link).as_posix()) for link in linked)]


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_is_there(page: str) -> None:
    names = named(page)
    assert names
    assert [name for name in names if not _exists(name)] == []
