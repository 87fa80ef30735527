"""Texts that somebody else wrote, made harmless: for a terminal, and for a model.

Rules of this file: what does not print, and what turns the direction of writing, is escaped. A
model gets such a text in quotation marks, on one line and cut, so that it is seen where it ends.
What it may copy into a command is one word of a shell, whatever is in it.
"""

from __future__ import annotations

# Escaped whatever `str.isprintable` says in some version of Python: left-to-right and
# right-to-left marks, embeddings, overrides and isolates.
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_ELLIPSIS = "..."


def safe(text: object) -> str:
    """`text` on one line, with everything that does not print escaped."""
    return "".join(
        char if char.isprintable() and char not in _BIDI else ascii(char)[1:-1]
        for char in str(text)
    )


def cut(text: str, most: int) -> str:
    """At most so many characters of `text`; what was cut is seen."""
    return text if len(text) <= most else text[: most - len(_ELLIPSIS)] + _ELLIPSIS


def quoted(text: str, most: int) -> str:
    """`text` in quotation marks that nothing in it closes, on one line, at most so long inside."""
    one_line = " ".join(text.split()).replace("\\", "/").replace('"', "'")
    return f'"{cut(safe(one_line), most)}"'


def word(text: str, most: int = 200) -> str:
    """`text`, at most so long, as one word of a shell."""
    from shlex import quote  # noqa: PLC0415 - for models only

    return quote(cut(safe(text), most))
