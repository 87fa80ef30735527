"""The hooks' scripts: their texts, and whether a file has that of this very package.

It writes no hook: `setup/hooks` does.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from coordledger.errors import error

HOOK, SEQUENCER, TRANSACTION = "pre-receive", "proc-receive", "reference-transaction"
# Which Python runs the hook, and where it finds cryptography, decides no rule.
_LEFT_OPEN = ("python=@PYTHON@", "libraries=@LIBRARIES@")
_PACKAGE = str(Path(__file__).resolve().parents[2])


def render(name: str, python: str) -> bytes:
    """The hook's newest text, which `python` runs."""
    import importlib.util  # noqa: PLC0415 - who compares texts needs none

    verifier = importlib.util.find_spec("cryptography")
    libraries = str(Path(str(verifier.origin)).resolve().parents[1]) if verifier else _PACKAGE
    text = shim(name).read_text("utf-8")
    where = {"@PYTHON@": python, "@PACKAGE@": _PACKAGE, "@LIBRARIES@": libraries}
    for mark, path in where.items():
        text = text.replace(mark, shlex.quote(path))
    return text.encode()


def is_ours(folder: str, name: str) -> bool:
    """Whether the hook in a folder has this version's text, and runs this package.

    Raises OSError.
    """
    text = shim(name).read_text("utf-8").replace("@PACKAGE@", shlex.quote(_PACKAGE)).split("\n")
    there = Path(folder, name).read_text("utf-8", "replace").split("\n")
    return len(text) == len(there) and all(map(_is_line, text, there))


def _is_line(wanted: str, there: str) -> bool:
    if wanted in _LEFT_OPEN:
        return there.startswith(wanted.partition("@")[0])
    return wanted == there


def shim(name: str) -> Path:
    """The hook's text: beside this package's modules in a wheel, below hooks/ in a checkout."""
    here = Path(__file__).resolve().parent.parent
    found = next((p for p in (here / name, here.parent / "hooks" / name) if p.is_file()), None)
    if found is None:
        raise error("internal", why="the hook's text is missing from the installation")
    return found
