"""docs/containers.md: its shell commands, played in their order as a container would."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from support.fleet import Fleet

PAGE = Path(__file__).parents[2] / "docs" / "containers.md"


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
    blocks = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    script = "".join(blocks).replace("/run/secrets", str(tmp_path / "secrets"))
    program = f'coordledger() {{ "{sys.executable}" -m coordledger "$@"; }}\n'
    elsewhere = {"XDG_CONFIG_HOME": str(tmp_path / "nothing"), "HOME": str(tmp_path / "home")}
    env = fleet.env | elsewhere | {"LEDGER": f"file://{fleet.remote}"}
    ran = subprocess.run(
        ["sh", "-eu", "-c", program + script],
        cwd=tmp_path,
        env=env | {"JOB": "17", "BOBS_SECRET": secret},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    with fleet.ledger("alice") as alice:
        claims = {claim.task: claim for claim in alice.tasks()}
        assert (claims["deploy"].status, claims["build"].status) == ("done", "open")
        assert (claims["deploy"].agent, claims["deploy"].session) == ("bob", "job-17")
    assert secret not in ran.stdout + ran.stderr
