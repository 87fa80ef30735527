"""What is run is what the table names, and what cannot be had is said; each harness and its mock
agree."""

from __future__ import annotations

import dataclasses
import io
import os
import tarfile
from typing import TYPE_CHECKING

import pytest
from support.harness_binaries import PACKAGES, UnavailableError, fetch
from support.harnesses import NOWHERE, prepared
from support.model_mocks import Say, Shell, Write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.harnesses import Harness

PACKAGE = PACKAGES["claude"]


@pytest.fixture
def npm(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """An environment whose npm is a script."""

    def make(script: str) -> dict[str, str]:
        program = tmp_path / "bin" / "npm"
        program.parent.mkdir()
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
        return {"PATH": path, "COORDLEDGER_HARNESSES": str(tmp_path / "cache")}

    return make


def test_a_registry_that_cannot_be_reached_leaves_the_harness_out(tmp_path: Path) -> None:
    env = dict(os.environ) | {
        "npm_config_registry": NOWHERE,
        "npm_config_fetch_retries": "0",
        "npm_config_cache": str(tmp_path / "npm"),
        "COORDLEDGER_HARNESSES": str(tmp_path),
    }
    with pytest.raises(UnavailableError, match="ECONNREFUSED"):
        fetch(PACKAGE, env)


def test_where_npm_is_missing_a_machine_leaves_it_out_and_the_gate_fails(tmp_path: Path) -> None:
    env = {"PATH": str(tmp_path), "COORDLEDGER_HARNESSES": str(tmp_path)}
    with pytest.raises(UnavailableError, match="npm is not installed"):
        fetch(PACKAGE, env)
    with pytest.raises(FileNotFoundError, match="npm is not installed"):
        fetch(PACKAGE, env | {"CI": "true"})


def test_a_version_that_is_gone_is_a_fault(npm: Callable[[str], dict[str, str]]) -> None:
    with pytest.raises(RuntimeError, match="E404"):
        fetch(PACKAGE, npm('echo "npm error code E404" >&2; exit 1'))


def test_a_package_with_another_hash_is_not_unpacked(
    npm: Callable[[str], dict[str, str]], tmp_path: Path
) -> None:
    tarball = tmp_path / "other.tgz"
    with tarfile.open(tarball, "w:gz") as archive:
        info = tarfile.TarInfo("package/claude")
        info.size = 2
        archive.addfile(info, io.BytesIO(b"#!"))
    env = npm(f"cp {tarball} claude.tgz")
    with pytest.raises(RuntimeError, match=r"is sha512-.*, not sha512-"):
        fetch(PACKAGE, env)
    assert not list((tmp_path / "cache").rglob("claude"))


def test_the_cache_is_asked_before_the_registry(
    npm: Callable[[str], dict[str, str]], harness_named: Callable[[str], Harness]
) -> None:
    had = harness_named("claude").program
    env = npm("exit 1")
    package = dataclasses.replace(PACKAGE, version="0")
    with pytest.raises(RuntimeError):
        fetch(package, env)
    assert fetch(PACKAGE, env | {"COORDLEDGER_HARNESSES": str(had.parents[1])}) == had


def test_a_harness_does_what_the_mock_says_and_tells_it_what_came_of_it(
    harness: Harness, tmp_path: Path
) -> None:
    folder = tmp_path / "project"
    (folder / ".git").mkdir(parents=True)
    script = [Shell("echo spoken; pwd"), Write("src/new.py", "x = 1\n"), Say("That is all.")]
    session = prepared(harness, tmp_path / "home", folder, script, tmp_path / "transcripts")
    try:
        assert session.run("Begin.") == 0, session.printed()
    finally:
        session.mock.close()
    first, second, third = session.mock.requests
    assert any("Begin." in text for text in first.user)
    assert "spoken" in second.result and str(folder) in second.result
    assert len(third.results) == 2
    assert (folder / "src" / "new.py").read_text() == "x = 1\n"
    assert "That is all." in session.printed()
