"""A code repository with a ledger, in which alice has reserved what bob is about to change."""

from __future__ import annotations

import subprocess

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pathlib import Path

    from support.fleet import Fleet


def reserved_site(fleet: Fleet) -> Fleet:
    """alice has src/auth/ and README.md; bob's clone knows of it, and has a branch to push."""
    fleet.ledger("alice", "desk").claim("auth", paths=["src/auth/", "README.md"])
    fleet.ledger("bob").head()
    root = fleet.clone("bob")
    for name, value in (("user.name", "bob"), ("user.email", "b@example.org")):
        fleet.git("config", name, value, cwd=root)
    change(root, "README.md", "src/auth/login.py", "free.py")
    fleet.git("add", "-A", cwd=root)
    fleet.git("commit", "-qm", "first", cwd=root)
    fleet.git("push", "-q", "origin", "HEAD:refs/heads/main", cwd=root)
    fleet.git("fetch", "-q", "origin", cwd=root)
    fleet.git("checkout", "-q", "-B", "main", "--track", "origin/main", cwd=root)
    return fleet


def change(root: Path, *names: str) -> None:
    """One more line in each of the files, which are made."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        with (root / name).open("a") as file:
            file.write("one more line\n")


def git(fleet: Fleet, *args: str | Path, env: dict[str, str] | None = None) -> tuple[int, str]:
    """`git ARGS` in bob's clone: its exit code, and what it has said."""
    ran = subprocess.run(
        ["git", *map(str, args)],
        cwd=fleet.clone("bob"),
        env=fleet.env | (env or {}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ran.returncode, ran.stdout + ran.stderr
