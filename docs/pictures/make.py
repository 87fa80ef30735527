"""Make the pictures of the documentation, from a real run: python docs/pictures/make.py

demo.svg is what `coordledger demo` prints on a terminal: the parts in which agents race, somebody
forges, and all is audited, as they were printed. Nothing is drawn by hand, and the picture fetches
no font from elsewhere. `--check FILE` compares it with what the demo has printed today: whoever
won, and whatever the ids are, the lines have to be the same.
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

HERE = Path(__file__).resolve().parent
DEMO = HERE / "demo.svg"
SHOWN = ("2.", "4.", "6.")  # the demo's parts; all of it does not fit on a page
WIDTH = 112


def printed(*argv: str) -> str:
    """What a command prints on a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=theirs) as process:
        os.close(theirs)
        said = bytearray()
        while more := _read(ours):
            said += more
    os.close(ours)
    if process.returncode:
        sys.exit(f"{argv} ended with {process.returncode}")
    return said.decode().replace("\r\n", "\n")


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # how Linux says that nobody has the other side open
        return b""


def parts(said: str) -> str:
    """The demo's parts that are shown, after its command."""
    chosen = [part.strip("\n") for part in said.split("\n\n") if _plain(part).startswith(SHOWN)]
    return "\n\n".join(["$ coordledger demo", *chosen])


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", text).strip()


def svg(text: str, title: str) -> str:
    """Text with colours as a picture of a terminal."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(text), soft_wrap=True)
    made = console.export_svg(title=title, theme=MONOKAI, unique_id="demo")
    return re.sub(r"@font-face \{.*?\}\s*", "", made, flags=re.DOTALL)


def lines_of(picture: str) -> str:
    """The lines that a picture shows."""
    lines: dict[float, str] = {}
    for item in ET.fromstring(picture).iter("{http://www.w3.org/2000/svg}text"):  # noqa: S314
        if item.get("clip-path"):  # not the title
            where = float(item.get("y", "0"))
            lines[where] = lines.get(where, "") + (item.text or "")
    return "\n".join(lines.values()).replace("\xa0", " ")


def shape(text: str) -> list[str]:
    """What of the lines is the same in each run."""
    plain = re.sub(r"\b[0-9a-f]{12,64}\b", "ID", _plain(text))
    plain = re.sub(r"\b(alice|bob|carol)\b", "AGENT", plain)
    return [" ".join(line.split()) for line in plain.splitlines() if line.strip()]


def main() -> None:
    """Write the picture, or compare it."""
    if sys.argv[1:2] == ["--check"]:
        drawn = shape(lines_of(DEMO.read_text("utf-8")))
        today = shape(parts(Path(sys.argv[2]).read_text("utf-8")))
        if drawn != today:
            sys.exit("docs/pictures/demo.svg shows another demo: python docs/pictures/make.py")
        return
    said = printed(sys.executable, "-m", "coordledger", "demo")
    DEMO.write_text(svg(parts(said), "coordledger demo"), "utf-8")


if __name__ == "__main__":
    main()
