"""docs/security.md: what it names is there."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "security.md"


def test_every_test_that_the_page_names_is_there() -> None:
    text = PAGE.read_text()
    named = re.findall(r"\[([a-z_]+\.py)\]\((\.\./[a-z/_]+\.py)\)(?:`::(test_[a-z0-9_]+)`)?", text)
    assert len(named) > 40
    assert text.count(".py](") == len(named)
    for name, target, test in named:
        path = (PAGE.parent / target).resolve()
        assert path.name == name
        assert path.is_file(), target
        assert not test or f"\ndef {test}(" in path.read_text(), f"{name}::{test}"


def test_every_test_of_a_table_is_named_in_full() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if "| [" in line]
    assert len(rows) > 30
    for row in rows:
        assert re.search(r"\.py\)(`::test_[a-z0-9_]+`| \|)|fuzz", row), row
