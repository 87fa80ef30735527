"""The pages: what they name is there, and some test types each of their commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import pages

ROOT = Path(__file__).resolve().parents[1]
PAGES = ("docs/architecture.md", "CONTRIBUTING.md")
ALL = ("README.md", "SECURITY.md", *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md")))


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


@pytest.mark.parametrize("page", ALL)
def test_each_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#:`]+)[^):]*\)", pages.text(page)):
        assert (ROOT / page).parent.joinpath(target).exists(), target


def test_the_first_page_of_the_documentation_names_every_page() -> None:
    first = pages.text("docs/index.md")
    missing = [page for page in ALL if page.startswith("docs/") and page != "docs/index.md"]
    assert [page for page in missing if f"]({page[5:]})" not in first] == []


@pytest.mark.parametrize("page", [page for page in ALL if "\n```sh\n" in pages.text(page)])
def test_the_commands_of_a_page_are_typed_by_a_test(page: str) -> None:
    tests = (path.read_text("utf-8") for path in ROOT.glob("tests/*/test_*.py"))
    assert any("pages" in test and f'"{page}"' in test for test in tests)


def test_the_two_commands_of_the_readme_are_one_line_each_and_complete() -> None:
    lines = "".join(pages.blocks("README.md", "Try it")).splitlines()
    assert len(lines) == 2
    for line, ends in zip(lines, ("coordledger demo", "pytest"), strict=True):
        assert line.startswith("python3 -m venv .venv && .venv/bin/pip install --quiet ")
        assert line.endswith(f".venv/bin/{ends}")
