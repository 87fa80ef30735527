"""Fencing refs of a repository: what is switched on and off, kept, refused, found out and told."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING

import pytest
from support.attacker import plain

from coordledger.deadline import Deadline
from coordledger.errors import Failed
from coordledger.git.process import Git
from coordledger.setup import hooks, trying
from coordledger.setup.hooks import Fence, install_hook

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.fleet import Fleet

    Ran = subprocess.CompletedProcess[str]
    Inside = Callable[..., Ran]

MAIN = "refs/heads/main"
FOREIGN = "#!/bin/sh\ncat >>seen\nexit 0\n"


def git_of(fleet: Fleet) -> Git:
    return Git(fleet.env, fleet.root, Deadline(30))


def install(fleet: Fleet, *patterns: str, anew: bool = False) -> list[str]:
    fence = Fence("main", patterns, anew) if patterns or anew else None
    return install_hook(fleet.remote, git_of(fleet), fence=fence)


def fenced(fleet: Fleet) -> list[str]:
    return hooks.fences(fleet.remote).patterns.get("main", [])


def transaction(fleet: Fleet) -> Path:
    return fleet.remote / "hooks/reference-transaction"


def refuses(fleet: Fleet) -> bool:
    """Whether each fence is in force."""
    return all(not one.why for one in trying.try_fences(fleet.remote, git_of(fleet)))


def push(fleet: Fleet, ref: str) -> Ran:
    """Push some code to a ref, with plain git."""
    clone = fleet.clone("alice")
    who = ("-c", "user.name=x", "-c", "user.email=x@example.com")
    fleet.git(*who, "commit", "--quiet", "--allow-empty", "-m", "code", cwd=clone)
    ran = plain("git", "push", "origin", f"HEAD:{ref}", cwd=clone, env=fleet.env)
    return subprocess.CompletedProcess(ran.args, ran.returncode, "", ran.stderr.decode())


def test_refs_are_fenced_and_let_go_again(fleet: Fleet) -> None:
    assert not any(line.startswith("fenced by") for line in install(fleet))
    assert not transaction(fleet).exists()
    done = install(fleet, MAIN)
    assert f"fenced by ledger main: {MAIN}" in done
    file = fleet.remote / "coordledger/main.fence"
    assert (file.read_text(), file.stat().st_mode & 0o777) == (f"{MAIN}\n", 0o600)
    assert not any(line.startswith("fenced by") for line in install(fleet, MAIN))
    install(fleet, "refs/heads/release/*")
    assert fenced(fleet) == [MAIN, "refs/heads/release/*"]
    assert not any(line.startswith("fenced by") for line in install(fleet))
    assert fenced(fleet) == [MAIN, "refs/heads/release/*"]
    assert refuses(fleet)
    done = install(fleet, "refs/tags/v*", anew=True)
    assert {line for line in done if line.startswith(("fenced", "no longer"))} == {
        f"no longer fenced: {MAIN}",
        "no longer fenced: refs/heads/release/*",
        "fenced by ledger main: refs/tags/v*",
    }
    install(fleet, anew=True)
    assert (fenced(fleet), file.exists(), transaction(fleet).exists()) == ([], False, False)
    assert install(fleet, anew=True) == install(fleet)


def test_what_others_have_reserved_is_fenced_where_refs_are(fleet: Fleet) -> None:
    def switch(paths: bool | None, *patterns: str, anew: bool = False) -> bool:
        fence = Fence("main", patterns, anew, paths)
        install_hook(fleet.remote, git_of(fleet), fence=fence)
        return "main" in hooks.fences(fleet.remote).paths

    for patterns, anew in (((), False), ((), True)):
        with pytest.raises(Failed, match="goes with --fence"):
            switch(True, *patterns, anew=anew)
    assert switch(True, MAIN)
    assert switch(None, "refs/heads/x")
    with pytest.raises(Failed, match="goes with --fence"):
        switch(True, anew=True)
    [tried] = trying.try_fences(fleet.remote, git_of(fleet))
    assert (tried.paths, tried.why) == (True, "")
    assert not switch(False)
    assert fenced(fleet) == [MAIN, "refs/heads/x"]
    assert switch(True)
    assert not switch(None, anew=True)
    assert not list((fleet.remote / "coordledger").glob("*.fence*"))


def test_a_hook_that_was_there_runs_first_and_is_put_back(fleet: Fleet) -> None:
    hook = transaction(fleet)
    hook.write_text(FOREIGN)
    hook.chmod(0o755)
    chained = hook.with_name("reference-transaction.chained")
    for _ in range(2):
        install(fleet, MAIN)
        assert chained.read_text() == FOREIGN
    assert push(fleet, "refs/heads/free").returncode == 0
    assert "refs/heads/free" in (fleet.remote / "seen").read_text()
    assert refuses(fleet)
    chained.write_text("#!/bin/sh\nexit 1\n")
    assert push(fleet, "refs/heads/other").returncode != 0
    chained.write_text(FOREIGN)
    install(fleet, anew=True)
    assert (hook.read_text(), chained.exists()) == (FOREIGN, False)


def test_a_third_hook_is_not_overwritten(fleet: Fleet) -> None:
    hook = transaction(fleet)
    for path in (hook, hook.with_name("reference-transaction.chained")):
        path.write_text(f"#!/bin/sh\n# {path.name}\n")
    with pytest.raises(Failed, match="merge them by hand"):
        install(fleet, MAIN)
    assert fenced(fleet) == []
    assert hook.read_text() == "#!/bin/sh\n# reference-transaction\n"


NO_PATTERNS = (
    "",
    "*",
    "main",
    "refs/*",
    "refs/heads/",
    "refs/heads/**",
    "refs/heads/*/x",
    "refs/heads/[ab]",
    "refs/heads/?",
    "refs/heads/a b",
    "refs/heads/'x'",
    'refs/heads/"x"',
    "refs/heads/$(x)",
    "refs/heads/x;y",
    "refs/heads/x\ny",
    "refs/heads/x\n",
    "refs/heads/..",
    "refs/heads/x.lock",
    "refs/heads/m\xe4in",
    f"refs/heads/{'x' * 250}",
    "refs/coordledger/main",
    "refs/coordledger/*",
    "refs/coordledge*",
    "refs/coordledger-try/*",
    "refs/for/coordledger/main",
    "refs/builds/x",  # git push sends it before the ledger's ref
    "-refs/heads/x",
)


@pytest.mark.parametrize("pattern", NO_PATTERNS)
def test_what_is_no_ref_of_the_codes_is_refused(shared_fleet: Fleet, pattern: str) -> None:
    with pytest.raises(Failed) as refused:
        install(shared_fleet, MAIN, pattern)
    assert refused.value.code == "bad-value"
    assert refused.value.message.isascii()
    assert not (shared_fleet.remote / "coordledger/main.fence").exists()


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("core.ignoreCase", "true", "the same file"),
        ("core.ignoreCase", "yes", "the same file"),
        ("receive.advertiseAtomic", "false", "move the ledger with the code"),
        ("receive.advertiseAtomic", "0", "move the ledger with the code"),
    ],
)
def test_where_a_fence_would_have_a_gap_none_is_put(
    fleet: Fleet, name: str, value: str, why: str
) -> None:
    fleet.git("config", name, value)
    with pytest.raises(Failed, match=why) as refused:
        install(fleet, MAIN)
    assert refused.value.code == "bad-value"
    assert not transaction(fleet).exists()
    install(fleet)


def test_the_hook_is_there_before_the_fence_and_goes_after_it(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between the two, it leaves a hook that has nothing to do, or a fence that holds."""

    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    replace = hooks.files.replace

    def without_fence(path: str, *given: object, **named: object) -> None:
        if path.endswith(".fence"):
            die()
        replace(path, *given, **named)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(hooks.files, "replace", without_fence)
        with pytest.raises(Killed):
            install(fleet, MAIN)
    assert (transaction(fleet).exists(), fenced(fleet)) == (True, [])
    assert push(fleet, MAIN).returncode == 0
    install(fleet, MAIN)
    with monkeypatch.context() as patch:
        patch.setattr(hooks.Path, "unlink", die)
        with pytest.raises(Killed):
            install(fleet, anew=True)
    assert (transaction(fleet).exists(), fenced(fleet)) == (True, [MAIN])
    assert refuses(fleet)
    install(fleet, anew=True)
    assert not transaction(fleet).exists()


# As it is -> what no push moves then; others pass.
BROKEN = {
    "cut off": (b"refs/heads/ma", ["refs/heads/main", "refs/heads/many"]),
    "without its last end": (b"refs/heads/main", ["refs/heads/main"]),
    "empty": (b"", ["refs/heads/main", "refs/heads/free"]),
    "of another system": (b"refs/heads/main\r\n", ["refs/heads/main", "refs/heads/free"]),
    "with an empty line": (b"refs/heads/main\n\n", ["refs/heads/main", "refs/heads/free"]),
    "noise": (b"\x00\xff\n", ["refs/heads/main", "refs/heads/free"]),
    "a folder": (None, ["refs/heads/main", "refs/heads/free"]),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_fence_is_no_fence_that_is_missing(fleet: Fleet, how: str, inside: Inside) -> None:
    content, closed = BROKEN[how]
    install(fleet, MAIN)
    file = fleet.remote / "coordledger/main.fence"
    if content is None:
        file.unlink()
        file.mkdir()
    else:
        file.write_bytes(content)
    before = fleet.git("for-each-ref")
    for ref in closed:
        ran = push(fleet, ref)
        assert ran.returncode == 1
        assert "coordledger: refused" in ran.stderr
        assert "hook-broken" in ran.stderr
    assert fleet.git("for-each-ref") == before
    for ref in {"refs/heads/free", "refs/heads/other"} - set(closed):
        assert push(fleet, ref).returncode == (0 if "refs/heads/free" not in closed else 1)
    assert inside(fleet, "claim", "x", agent="alice").returncode == 1
    checks = json.loads(inside(fleet, "doctor", "--json", agent="alice").stdout)["checks"]
    [found] = [check for check in checks if check["name"] == "fence"]
    assert not found["ok"]
