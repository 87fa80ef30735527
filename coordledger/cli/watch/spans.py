"""What lines of the screen are made of: pieces of text in a style, and what draws bars and rules.

Rules: pure. A style is a word, of which `terminal` and `--once` make what they can; nothing is said
by a style alone. What somebody else wrote is `safe` before it is a `Span`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

PLAIN, BOLD, DIM, GOOD, LITTLE, WARN, BAD, HEAD, CHOSEN = (
    "plain", "bold", "dim", "good", "little", "warn", "bad", "head", "chosen",
)  # fmt: skip
BAR = 8  # cells


class Span(NamedTuple):
    """A piece of a line, in one style."""

    text: str
    style: str = PLAIN


class Glyphs(NamedTuple):
    """What bars and rules are made of: `parts` fill one to seven eighths of a cell."""

    full: str
    parts: str
    empty: str
    rule: str
    cut: str


UNICODE = Glyphs("█", "▏▎▍▌▋▊▉", "·", "─", "…")
ASCII = Glyphs("#", "", ".", "-", "~")


def glyphs_for(stream: Any) -> Glyphs:
    """Those that a stream can show."""
    name = getattr(stream, "encoding", None) or ""
    return UNICODE if name.lower().replace("-", "") == "utf8" else ASCII


def bar(part: float, glyphs: Glyphs) -> str:
    """`part` (0 to 1) of `BAR` cells; what is not nothing is seen."""
    steps = len(glyphs.parts) + 1
    filled = min(BAR * steps, max(round(part * BAR * steps), 1 if part > 0 else 0))
    full, rest = divmod(filled, steps)
    drawn = glyphs.full * full + (glyphs.parts[rest - 1] if rest else "")
    return drawn + glyphs.empty * (BAR - len(drawn))
