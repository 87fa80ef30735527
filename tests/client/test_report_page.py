"""The frame of all pages: what runs in one is ours, and no foreign text ends what it stands in."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

from support.hostile import TEXTS, is_harmless

from coordledger.client.reporting.page import assemble, escaped, in_script

MARKUP = "</script x=</script></title><script>alert(1)</script><!--<script x>&lt;\0\u2028"


class _Elements(HTMLParser):
    """The elements of a page, their attributes, and the text of each script and style."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, list[str]] = {}
        self._within = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        self._within = tag
        self.texts.setdefault(tag, []).append("")

    def handle_data(self, data: str) -> None:
        if self._within:
            self.texts[self._within][-1] += data

    def handle_endtag(self, tag: str) -> None:
        self._within = ""


def hash_of(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def test_a_page_allows_its_own_script_and_style_and_loads_nothing() -> None:
    page = assemble(title="A ledger", body="<main></main>", data={"a": 1})
    elements = _Elements(page)
    policy = next(a["content"] for t, a in elements.found if a.get("http-equiv"))
    data, script = elements.texts["script"]
    assert f"script-src '{hash_of(script)}';" in policy
    assert f"style-src '{hash_of(elements.texts['style'][0])}';" in policy
    assert json.loads(data) == {"a": 1}
    loaded = [a.get("src") or a.get("href") or "data:" for _, a in elements.found]
    assert all(address.startswith("data:") for address in loaded)
    assert not re.search(r"@import|url\((?!#)", elements.texts["style"][0])


def test_no_text_ends_what_it_stands_in() -> None:
    for text in (MARKUP, *TEXTS.values()):
        plain = _Elements(assemble(title="x", body=""))
        page = _Elements(assemble(title=text, body=f"<p title='{escaped(text)}'></p>", data=[text]))
        assert [t for t, _ in page.found if t != "p"] == [t for t, _ in plain.found]
        assert json.loads(page.texts["script"][0]) == [text]
        assert is_harmless(page.texts["title"][0])
        assert in_script([text]).isascii()
        assert not set(in_script([text])) & set("<>&")  # browsers end a script in more ways
