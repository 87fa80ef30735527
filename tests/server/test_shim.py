"""The hook's shell script, in the shells that a server may have, with a stand-in for Python."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from support.attacker import plain

from coordledger.server.shims import shim as shim_file

if TYPE_CHECKING:
    from pathlib import Path

OURS = b"a" * 40 + b" " + b"b" * 40 + b" refs/coordledger/main\n"
CODE = b"a" * 40 + b" " + b"b" * 40 + b" refs/heads/work\n"
SHELLS = [["dash"], ["bash", "--posix"], ["busybox", "sh"], ["sh"]]


class Shim:
    """The script with a `python` that keeps its standard input and leaves with 7."""

    def __init__(self, folder: Path, shell: list[str]) -> None:
        if shutil.which(shell[0]) is None:
            pytest.skip(f"no {shell[0]} here")
        self.shell, self.hook = shell, folder / "pre-receive"
        self.given, self.chained = folder / "given", folder / "chained"
        self.python = folder / "pyth on"
        self.python.write_text(f"#!/bin/sh\ncat > '{self.given}'\nexit 7\n")
        self.python.chmod(0o755)
        text = shim_file("pre-receive").read_text().replace("@PYTHON@", f"'{self.python}'")
        for mark in ("@PACKAGE@", "@LIBRARIES@"):
            text = text.replace(mark, "'/no where'")
        self.hook.write_text(text)

    def chain(self, code: int) -> None:
        chained = self.hook.with_name("pre-receive.chained")
        chained.write_text(f"#!/bin/sh\ncat > '{self.chained}'\nexit {code}\n")
        chained.chmod(0o755)

    def run(self, pushed: bytes, **environ: str) -> tuple[int, bytes | None]:
        """The exit code, and what reached Python (None if it was not started)."""
        self.given.unlink(missing_ok=True)
        env = {"PATH": "/usr/bin:/bin"} | environ
        ran = plain(*self.shell, self.hook, cwd=self.hook.parent, env=env, data=pushed)
        assert not ran.stdout
        if ran.returncode == 1 and not self.given.exists():
            refused = b"coordledger: refused -: hook-broken: "
            assert ran.stderr.startswith(refused) or self.chained.exists(), ran.stderr
        return ran.returncode, self.given.read_bytes() if self.given.exists() else None


@pytest.fixture(params=SHELLS, ids=" ".join)
def shim(request: pytest.FixtureRequest, tmp_path: Path) -> Shim:
    return Shim(tmp_path, request.param)


@pytest.mark.parametrize("locale", ["C", "C.UTF-8", ""])
@pytest.mark.parametrize(
    "pushed",
    [
        OURS,
        CODE + OURS,
        OURS + CODE,
        CODE * 3 + OURS + CODE * 3,
        CODE * 3000 + OURS,
        OURS[:-1] + b"/" + b"x" * 70_000 + b"\n",
        OURS + b"\n",
        b"\n" + OURS,
        b"\n\n" + OURS + b"\n\n",
        b"  \t " + OURS,
        OURS[:-1] + b"  \n",
        b"$(touch no) `touch no` \\n \\ $HOME ' \" END\n" + OURS,
        b"END\n" + OURS,
        OURS[:-1] + b"\xff\xfe\n",
        CODE[:-1] + b"\xe3\n" + OURS[:-1] + b"\xe3\n",
        OURS.replace(b"refs/coord", b"refs/COORD"),
        OURS.replace(b"refs/", b"refs/heads/refs/"),
    ],
)
def test_what_concerns_us_reaches_python_unchanged(shim: Shim, pushed: bytes, locale: str) -> None:
    assert shim.run(pushed, LC_ALL=locale) == (7, pushed)
    assert not (shim.hook.parent / "no").exists()


@pytest.mark.parametrize(
    "pushed", [CODE, CODE * 2, CODE * 3000, b"\n", CODE[:-1] + b"\xe3\n", CODE + b"\n"]
)
def test_other_refs_pass_without_python(shim: Shim, pushed: bytes) -> None:
    shim.python.unlink()
    assert shim.run(pushed, LC_ALL="C.UTF-8") == (0, None)


@pytest.mark.parametrize(
    "pushed",
    [b"", OURS[:-1], CODE[:-1], CODE + OURS[:-1], CODE * 2 + OURS[:-1], CODE * 3000 + b"x"],
)
def test_a_list_that_is_cut_off_is_refused(shim: Shim, pushed: bytes) -> None:
    assert shim.run(pushed) == (1, None)


@pytest.mark.parametrize("pushed", [CODE + b"\0" + OURS, OURS[:30] + b"\0" + OURS[30:]])
def test_a_nul_hides_nothing(shim: Shim, pushed: bytes) -> None:
    code, given = shim.run(pushed)
    assert (code, given is None) in ((7, False), (1, True))


def test_without_python_records_are_refused(shim: Shim) -> None:
    shim.python.unlink()
    assert shim.run(OURS) == (1, None)
    shim.python.write_text("")  # not executable
    assert shim.run(OURS) == (1, None)
    shim.python.write_text("#!/no/where\n")
    shim.python.chmod(0o755)
    assert plain(*shim.shell, shim.hook, cwd=shim.hook.parent, env={}, data=OURS).returncode


@pytest.mark.parametrize("pushed", [OURS, CODE, CODE + OURS, CODE * 3000, CODE + b"\n"])
def test_a_chained_hook_sees_the_same_and_decides_first(shim: Shim, pushed: bytes) -> None:
    shim.chain(0)
    assert shim.run(pushed)[0] == (7 if b"coordledger" in pushed else 0)
    assert shim.chained.read_bytes() == pushed
    shim.chain(3)
    assert shim.run(pushed) == (1, None)
