"""The one table of errors: whole, printable, and the page of it true.

`python tests/test_errors.py` writes docs/errors.md anew.
"""

from __future__ import annotations

import ast
import re
import string
from pathlib import Path

from coordledger import errors
from coordledger.errors import ERRORS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "errors.md"
HEAD = """# Errors

Every error has a stable code: `error.code` with `--json`, `.code` in Python, and the word
after the commit in a server's refusal. A word in braces is filled in. Somebody's record that
breaks a rule is an integrity failure (exit 4) under the same code.

| code | exit | sentence | hint |
|---|---|---|---|
"""


def page() -> str:
    def cell(text: str) -> str:
        return text.replace("|", "\\|").replace("<", "&lt;")

    rows = (
        f"| `{code}` | {exit_code} | {cell(sentence)} | {cell(hint)} |\n"
        for code, (exit_code, sentence, hint) in sorted(ERRORS.items())
    )
    return HEAD + "".join(rows)


def _names(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def _raised() -> list[tuple[str, str, set[str] | None]]:
    """Every `error("code", …)` and `RuleBroken("code", …)` of the package: where, code, data."""
    found = []
    for path in sorted((ROOT / "coordledger").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            literal = node.args and isinstance(node.args[0], ast.Constant)
            if node.func.id in ("error", "RuleBroken") and literal:
                given = {keyword.arg for keyword in node.keywords}
                where = f"{path.name}:{node.lineno}"
                found.append((where, node.args[0].value, None if None in given else given))
    return found


def test_the_page_of_errors_is_the_table():
    assert PAGE.read_text("utf-8") == page()


def test_every_error_that_is_raised_stands_in_the_table_with_its_data():
    for where, code, data in _raised():
        assert code in ERRORS, where
        _, message, hint = ERRORS[code]
        assert data is None or _names(message) | _names(hint) <= data, where


def test_every_error_of_the_table_is_raised_somewhere():
    source = "".join(p.read_text("utf-8") for p in (ROOT / "coordledger").rglob("*.py"))
    shells = "".join(p.read_text("utf-8") for p in (ROOT / "hooks").iterdir())
    table = ERRORS.keys() - {code for _, code, _ in _raised()}
    table -= set(re.findall(r"refuse ([a-z-]+) ", shells))
    # What is chosen by a variable stands as a string in the code, beside the table's own.
    assert {code for code in table if source.count(f'"{code}"') < 2} == set()


def test_a_sentence_with_hostile_data_stays_one_printable_line():
    for code, (_, message, hint) in ERRORS.items():
        nasty = dict.fromkeys(_names(message) | _names(hint), "a\x1b[31m\n\u202eb\x00")
        found = errors.error(code, **nasty)
        for text in (found.message, found.hint, str(found)):
            assert text.isascii(), code
            assert text.isprintable() or not text, code


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
