"""Make the pictures of the documentation, from a real run: python docs/pictures/make.py

demo.svg is what `coordledger demo` prints on a terminal: the parts in which agents race, somebody
forges, and all is audited, as they were printed. timeline.svg is what `coordledger report --svg`
makes of a morning's ledger, whose agents have clocks that are behind. figures.svg is what
figures.json says, a run of `coordledger bench compare --json`. Nothing is drawn by hand, and no
picture fetches anything from elsewhere.

`--figures` makes figures.svg alone, and the tables of it in README and docs/performance.md.

`--check FILE` compares demo.svg with what the demo has printed today: whoever won, and whatever the
ids are, the lines have to be the same.
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from datetime import timedelta
from pathlib import Path
from unittest import mock

import figures  # beside this file
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

HERE = Path(__file__).resolve().parent
DEMO = HERE / "demo.svg"
SHOWN = ("2.", "4.", "6.")  # the demo's parts; all of it does not fit on a page
WIDTH = 112

LEASE = {"ttl": timedelta(minutes=20)}
MORNING: tuple[tuple[int, str, str, str, dict[str, object]], ...] = (
    # minutes ago, agent, what it does, to which task
    *((96, "alice", "submit", task, {}) for task in ("fix-login", "add-search", "write-docs")),
    (95, "alice", "submit", "speed-up-ci", {"priority": -1}),
    (94, "bob", "claim", "fix-login", LEASE),  # and is killed
    (92, "carol", "claim", "add-search", LEASE),
    (90, "dave", "claim", "write-docs", LEASE),
    (80, "dave", "renew", "write-docs", LEASE),
    (76, "carol", "renew", "add-search", LEASE),
    (65, "carol", "complete", "add-search", {"result": "merged"}),
    (64, "dave", "handoff", "write-docs", {"to": "carol", "note": "all but the last page"}),
    (63, "dave", "claim", "fix-login", LEASE),  # the second epoch
    (61, "carol", "claim", "write-docs", LEASE),
    (46, "dave", "renew", "fix-login", LEASE),
    (44, "carol", "complete", "write-docs", {"result": "published"}),
    (38, "carol", "claim", "speed-up-ci", LEASE),
    (30, "dave", "complete", "fix-login", {"result": "merged as 3f2c1a"}),
    (22, "carol", "release", "speed-up-ci", {"reason": "needs a machine with more cores"}),
    (10, "dave", "claim", "speed-up-ci", LEASE),
)


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


def timeline() -> str:
    """What the report draws of the morning, on a host that does not mind clocks that are behind."""
    sys.path.insert(0, str(HERE.parents[1] / "tests"))
    from support.fleet import Fleet, hermetic  # noqa: PLC0415 - of this tree's tests
    from support.past import ago  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        env = hermetic(root)
        with mock.patch.dict(os.environ, env, clear=True):
            with mock.patch("coordledger.setup.genesis.unix_ms", ago(timedelta(minutes=99))):
                fleet = Fleet(root / "fleet", env, name="main.git")
            (fleet.remote / "hooks" / "pre-receive").unlink()
            owner = fleet.ledger("alice", clock=ago(timedelta(minutes=98)))
            for agent in ("bob", "carol", "dave"):
                owner.enroll(agent)
            for minutes, agent, what, task, more in MORNING:
                ledger = fleet.ledger(agent, "s1", clock=ago(timedelta(minutes=minutes)))
                getattr(ledger, what)(task, **more)
            fleet.run("report", "--svg", root / "timeline.svg", agent="alice", check=0)
            fleet.close()
            return (root / "timeline.svg").read_text("utf-8")


def compared() -> None:
    """The picture and the tables of what the benchmarks have measured."""
    kept = figures.Figures.kept()
    figures.PICTURE.write_text(figures.svg(kept), "utf-8")
    for name, block in figures.PAGES.items():
        page = HERE.parents[1] / name
        page.write_text(figures.put(page.read_text("utf-8"), block(kept)), "utf-8")


def main() -> None:
    """Write the pictures, or compare one."""
    if sys.argv[1:2] == ["--check"]:
        drawn = shape(lines_of(DEMO.read_text("utf-8")))
        today = shape(parts(Path(sys.argv[2]).read_text("utf-8")))
        if drawn != today:
            sys.exit("docs/pictures/demo.svg shows another demo: python docs/pictures/make.py")
        return
    compared()
    if sys.argv[1:] == ["--figures"]:
        return
    said = printed(sys.executable, "-m", "coordledger", "demo")
    DEMO.write_text(svg(parts(said), "coordledger demo"), "utf-8")
    (HERE / "timeline.svg").write_text(timeline(), "utf-8")


if __name__ == "__main__":
    main()
