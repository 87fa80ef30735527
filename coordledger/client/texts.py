"""Texts that somebody else wrote, made harmless: for a terminal, and for a model.

Rules of this file: what does not print, what has no ink, and what turns the direction of writing,
is escaped. A model gets such a text in quotation marks that are the only ones, on one line and cut,
so that it is seen where it ends. What it may copy into a command is one word of a shell, whatever
is in it.
"""

from __future__ import annotations

# Escaped whatever `str.isprintable` says in some version of Python: left-to-right and
# right-to-left marks, embeddings, overrides and isolates.
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# Letters, signs and selectors without ink, which print by their category: a text can be hidden in
# them. The selector of emoji is among those that stay.
_INKLESS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | frozenset(
    map(chr, (*range(0xFE00, 0xFE0E), *range(0xE0100, 0xE01F0)))
)
_ESCAPED = _BIDI | _INKLESS
_ELLIPSIS = "..."
# What ends a quotation by its looks.
_QUOTES = str.maketrans(
    dict.fromkeys(
        '"\u02ba\u02dd\u02ee\u05f4\u201c\u201d\u201e\u201f\u2033\u2036\u275d\u275e\u301d\u301e\u301f'
        "\uff02\U0001f676\U0001f677\U0001f678",
        "'",
    )
    | {"\\": "/"}
)


def safe(text: object) -> str:
    """`text` on one line, with everything that does not print escaped."""
    shown = str(text)
    if shown.isascii() and shown.isprintable():  # most are, and nothing of that is escaped
        return shown
    return "".join(
        char if char.isprintable() and char not in _ESCAPED else ascii(char)[1:-1] for char in shown
    )


def cut(text: str, most: int) -> str:
    """At most so many characters of `text`; what was cut is seen."""
    return text if len(text) <= most else text[: most - len(_ELLIPSIS)] + _ELLIPSIS


def quoted(text: str, most: int) -> str:
    """`text` in quotation marks that nothing in it closes, on one line, at most so long inside."""
    one_line = " ".join(text.split()).translate(_QUOTES)
    return f'"{cut(safe(one_line), most)}"'


def word(text: str, most: int = 200) -> str:
    """`text`, at most so long, as one word of a shell."""
    from shlex import quote  # noqa: PLC0415 - for models only

    return quote(cut(safe(text), most))
