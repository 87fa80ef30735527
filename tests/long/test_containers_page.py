"""docs/containers.md: its shell commands, played in their order as a container would."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support import pages

if TYPE_CHECKING:
    from pathlib import Path

    from support.fleet import Fleet

PAGE = "docs/containers.md"


def mounted(folder: Path, line: str) -> None:
    """A secret as Kubernetes mounts it: a link through a link, readable by all."""
    content = folder / "..2026_01_01"
    content.mkdir(parents=True)
    (content / "bob.secret").write_text(line + "\n")
    (content / "bob.secret").chmod(0o444)
    (folder / "..data").symlink_to(content.name)
    (folder / "bob.secret").symlink_to("..data/bob.secret")


def test_the_pages_commands_work_as_they_stand(fleet: Fleet, tmp_path: Path) -> None:
    secret = fleet.enroll("bob").read_text().strip()
    with fleet.ledger("alice") as alice:
        for task in ("deploy", "build"):
            alice.submit(task)
    mounted(tmp_path / "secrets", secret)
    blocks = pages.blocks(PAGE)
    assert len(blocks) == 3
    script = "".join(blocks).replace("/run/secrets", str(tmp_path / "secrets"))
    elsewhere = {"XDG_CONFIG_HOME": str(tmp_path / "nothing"), "HOME": str(tmp_path / "home")}
    env = fleet.env | elsewhere | {"LEDGER": f"file://{fleet.remote}"}
    env |= {"JOB": "17", "BOBS_SECRET": secret}
    said = pages.play(script, tmp_path, env, shell="sh")
    with fleet.ledger("alice") as alice:
        claims = {claim.task: claim for claim in alice.tasks()}
        assert (claims["deploy"].status, claims["build"].status) == ("done", "open")
        assert (claims["deploy"].agent, claims["deploy"].session) == ("bob", "job-17")
    assert secret not in said
