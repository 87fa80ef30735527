"""One HTML page in one text: nothing in it is loaded from elsewhere, and only our own scripts run.

Rules of this file:
- The page's policy (`Content-Security-Policy`) allows scripts and styles by the hashes of the texts
  that are put in here, nothing else, and no text to become markup by a script (Trusted Types).
- Data is JSON in a `<script type="application/json">` that no text can close: ASCII, and without
  `<`, `>` and `&`. Scripts show it as text.
- What an argument calls `body` is markup of ours; who puts a foreign text into one escapes it
  (`escaped`).

The templates are files that people can open: templates/page.html is the frame, page.css how all
pages look, theme.js the switch between light and dark.
"""

from __future__ import annotations

import base64
import json
import re
from functools import cache
from html import escape
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from coordledger.client.texts import safe
from coordledger.hashes import digest

if TYPE_CHECKING:
    from collections.abc import Sequence

_HARMLESS = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"}


@cache
def template(name: str) -> str:
    """A file of templates/, as it is."""
    return files("coordledger.client.reporting").joinpath("templates", name).read_text("utf-8")


def escaped(text: object) -> str:
    """A foreign text for markup of ours, on one line: what does not print is seen, too."""
    return escape(safe(text))


def name_of(url: str) -> str:
    """What a remote is called, for a title: the last part of where it is."""
    return re.split("[/:]", url.rstrip("/").removesuffix(".git"))[-1] or url


def assemble(
    *,
    title: str,
    body: str,
    styles: Sequence[str] = ("page.css",),
    scripts: Sequence[str] = ("theme.js",),
    data: Any = None,
    live: bool = False,
) -> str:
    """A whole page. `title` is a plain text, `styles` and `scripts` are templates; the scripts find
    `data` (values of JSON) in the element `#data`. A `live` page may ask where it came from.
    """
    style = "\n".join(map(template, styles))
    script = "\n".join(map(template, scripts))
    parts = {
        "policy": policy(style, script, live=live),
        "title": escaped(title),
        "style": style,
        "body": body,
        "data": in_script(data),
        "script": script,
    }
    pieces = template("page.html").split("{{")
    made = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        made += [parts[name], rest]
    return "".join(made)


def policy(style: str, script: str, *, live: bool) -> str:
    """What a page with this style and this script may do."""
    own = "'self'" if live else "'none'"
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            "img-src data:",
            f"connect-src {own}",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )


def in_script(data: Any) -> str:
    """JSON that the parser of HTML finds nothing in."""
    text = json.dumps(data, ensure_ascii=True, separators=(",", ":"))
    for char, harmless in _HARMLESS.items():
        text = text.replace(char, harmless)
    return text


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(digest("sha256", text.encode("utf-8"))).decode("ascii")
