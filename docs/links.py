"""A step of mkdocs: links that leave docs/ lead into the repository.

On GitHub and in a clone `../tests/x.py` is a file beside the pages; on the site it is not there.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Called for each page by mkdocs. Raises `FileNotFoundError` for what is not there."""

    def absolute(link: re.Match[str]) -> str:
        path, mark, rest = link[1].partition("#")
        target = posixpath.normpath(posixpath.join("docs", path))
        (ROOT / target).stat()
        return f"]({config['repo_url']}/blob/main/{target}{mark}{rest})"

    return re.sub(r"\]\((\.\./[^)\s]+)\)", absolute, markdown)
