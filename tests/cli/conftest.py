"""A command line without a process: for all that is not about processes."""

from __future__ import annotations

import io
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from coordledger import cli

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fleet import Fleet

    Ran = subprocess.CompletedProcess[str]


@pytest.fixture
def inside(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ran]:
    """`inside(fleet, *argv, …)` does what `fleet.run(*argv, …)` does, in this process."""

    def run(
        fleet: Fleet,
        *argv: str | Path,
        agent: str | None = None,
        stdin: str = "",
        env: Mapping[str, str] | None = None,
        check: int | None = None,
    ) -> Ran:
        words = [str(word) for word in argv]
        typed = io.BytesIO(stdin.encode("utf-8", "surrogateescape"))
        capsys.readouterr()
        with monkeypatch.context() as patch:
            for name in set(os.environ) - set(fleet.env):
                patch.delenv(name)
            for name, value in (fleet.env | (env or {})).items():
                patch.setenv(name, value)
            patch.chdir(fleet.clone(agent) if agent else fleet.root)
            patch.setattr("sys.stdin", io.TextIOWrapper(typed))
            code = cli.main(words)
        said = capsys.readouterr()
        assert check in (None, code), f"{words}: {code}\n{said.out}{said.err}"
        return subprocess.CompletedProcess(words, code, said.out, said.err)

    return run
