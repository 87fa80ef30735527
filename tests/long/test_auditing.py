"""Audits by somebody who is no agent: of a URL, in a copy apart, with what the auditor trusts."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.fleet import LEDGER_REF
from support.hookless_host import forge
from support.ssh_hosts import Host, files_below

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.attacker import Attacker
    from support.fleet import Fleet
    from support.hookless_host import HooklessHost

    Inside = Callable[..., Any]


class Audited:
    """alice's ledger of SSH keys, and the host of an auditor, who has a plain clone of it."""

    def __init__(self, root: Path, inside: Inside) -> None:
        self.remote, self._inside = root / "ledger.git", inside
        self.alice, self.auditor = Host(root, "alice"), Host(root, "auditor")
        self.run(self.alice, "init", self.remote, "--agent", "alice", "--ssh-key")
        self.run(self.alice, "join", self.remote, "--agent", "alice")
        self.run(self.alice, "submit", "t")
        self.auditor.run("git", "remote", "add", "origin", self.remote)
        self.owner = json.loads(self.run(self.alice, "key", "show", "--json").stdout)["public"]

    def run(self, host: Host, *argv: str | Path, code: int = 0) -> Any:
        return self._inside(host, *argv, agent=host.agent, check=code)

    def audit(self, *argv: str | Path, code: int = 0) -> Any:
        return json.loads(self.run(self.auditor, "audit", *argv, "--json", code=code).stdout)


@pytest.fixture
def audited(tmp_path: Path, inside: Inside) -> Audited:
    return Audited(tmp_path, inside)


def test_somebody_who_trusts_the_owners_key_alone_checks_everything(audited: Audited) -> None:
    trust = ("--trust", audited.owner)
    before = sorted(files_below(audited.auditor.root))
    for where in ((audited.remote,), ("origin",), (), (f"file://{audited.remote}",)):
        found = audited.audit(*where, *trust)
        assert (found["verdicts"], found["compared"]) == ({"authentic": 2}, ["owner"])
    assert sorted(files_below(audited.auditor.root)) == before
    assert audited.auditor.run("git", "for-each-ref") == ""
    other = audited.auditor.keygen("other").with_suffix(".pub")
    for wrong in (other, "0" * 32, f"1:{'0' * 64}", f"7:{'0' * 64}"):
        assert audited.audit("origin", "--trust", wrong, code=4)["error"]["code"] == "pin-mismatch"
    said = audited.run(audited.auditor, "audit", "origin").stdout
    assert "not compared with anything" in said


def test_what_an_audit_refuses_is_not_remembered(audited: Audited) -> None:
    audited.audit("origin", "--trust", "0" * 32, code=4)
    audited.remote.rename(audited.remote.with_name("old.git"))
    audited.run(
        Host(audited.remote.parent, "carol"),
        "init",
        audited.remote,
        "--agent",
        "carol",
        "--ssh-key",
    )
    assert audited.audit("origin")["records"] == 1


def test_a_history_that_does_not_go_on_is_noticed_by_the_next_audit(audited: Audited) -> None:
    audited.audit("origin")
    audited.alice.run(
        "git", f"--git-dir={audited.remote}", "update-ref", LEDGER_REF, f"{LEDGER_REF}~1"
    )
    assert audited.audit("origin", code=4)["error"]["code"] == "remote-behind"
    said = audited.run(audited.auditor, "audit", "origin", "--reset", code=1).stderr
    assert "--yes" in said
    ran = audited.run(audited.auditor, "audit", "origin", "--reset", "--yes")
    assert "verified here: " in ran.stderr
    assert "1 record from 0 on: 1 authentic" in ran.stdout


def test_the_ledger_is_found_by_itself_where_there_is_one(audited: Audited) -> None:
    main, second = LEDGER_REF, "refs/coordledger/second"
    git = ("git", f"--git-dir={audited.remote}")
    audited.alice.run(*git, "update-ref", second, main)
    found = audited.audit("origin", code=1)["error"]
    assert found["code"] == "several-ledgers"
    assert "main, second" in found["message"]
    assert audited.audit("origin", "--ledger", "second")["records"] == 2
    audited.alice.run(*git, "update-ref", "-d", main)
    assert audited.audit("origin")["records"] == 2
    assert audited.audit("origin", "--ledger", "main", code=1)["error"]["code"] == "not-a-ledger"
    audited.alice.run(*git, "update-ref", "-d", second)
    assert audited.audit("origin", code=1)["error"]["code"] == "not-a-ledger"


def test_what_secrets_have_signed_is_checked_with_those_that_are_given(
    host: HooklessHost, tmp_path: Path, inside: Inside
) -> None:
    host.found()
    host.ledger("alice").submit("t")
    auditor = Host(tmp_path, "auditor")
    auditor.env |= {name: host.env[name] for name in ("GIT_SSH_COMMAND", "GIT_SSH_VARIANT")}

    def audit(*argv: str | Path, code: int) -> Any:
        return inside(auditor, "audit", host.url, *argv, agent="auditor", check=code)

    ran = audit(code=1)
    assert "only the chain was checked" in ran.stdout
    assert "2 of 2 records were checked by nobody" in ran.stderr
    audit("--allow-unverified", code=0)
    [master] = (Path(host.env["XDG_CONFIG_HOME"]) / "coordledger" / "masters").iterdir()
    audit("--secret-file", master, code=0)
    audit(code=1)  # it was not kept
    audit("--secret-file", tmp_path / "none", code=1)
    forge(host, "alice")
    audit("--allow-unverified", code=0)  # without a key a forged MAC is as good as any
    assert "does not verify" in audit("--secret-file", master, code=4).stdout


NOT_ONE = ("not-a-ledger", "bad-commit", "bad-genesis", "too-large")
# Each puts something else in the ledger's place.
HOSTILE: dict[str, Callable[[Attacker], str]] = {
    "a blob": lambda a: a.add("blob", b"{}"),
    "a tree": lambda a: a.tree(),
    "a tag": lambda a: a.add(
        "tag", f"object {a.head.oid}\ntype commit\ntag x\ntagger x <x> 1 +0000\n\nx\n".encode()
    ),
    "a commit of ordinary work": lambda a: a.add(
        "commit", f"tree {a.tree()}\nauthor x <x> 1 +0000\ncommitter x <x> 1 +0000\n\nx\n".encode()
    ),
    "a huge blob": lambda a: a.add("blob", b"0" * 10_000_000),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_no_ledger_is_one_clear_line(
    fleet: Fleet, own_attacker: Attacker, inside: Inside, what: str
) -> None:
    oid = HOSTILE[what](own_attacker)
    objects = fleet.remote / "objects" / "info" / "alternates"
    objects.write_text(f"{own_attacker.folder / 'objects'}\n")
    name = f"odd-{len(what)}"
    (fleet.remote / "refs" / "coordledger" / name).write_text(f"{oid}\n")
    url = f"file://{fleet.remote}"
    ran = inside(fleet, "audit", url, "--ledger", name, "--json", env={"COORDLEDGER_DEBUG": ""})
    assert ran.returncode in (1, 4), ran.stdout
    assert json.loads(ran.stdout)["error"]["code"] in NOT_ONE


def test_a_remote_whose_objects_are_gone_or_that_never_speaks_fails_in_time(
    audited: Audited, tmp_path: Path
) -> None:
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexec sleep 30\n")
    silent.chmod(0o755)
    audited.auditor.env |= {"GIT_SSH_COMMAND": str(silent), "GIT_SSH_VARIANT": "simple"}
    began = time.monotonic()
    fault = audited.audit("host:x", "--timeout", "1s", code=1)["error"]
    assert fault["code"] == "timeout"
    assert time.monotonic() - began < 15
    shallow = tmp_path / "shallow.git"
    audited.alice.run("git", "init", "--quiet", "--bare", shallow)
    fetch = ("fetch", "--quiet", "--depth=1", f"file://{audited.remote}")
    audited.alice.run("git", f"--git-dir={shallow}", *fetch, f"{LEDGER_REF}:{LEDGER_REF}")
    fault = audited.audit(f"file://{shallow}", code=1)["error"]
    assert fault["code"] == "remote-unreachable"
    assert "shallow" in fault["message"]
    head = audited.alice.run("git", f"--git-dir={audited.remote}", "rev-parse", LEDGER_REF).strip()
    (audited.remote / "objects" / head[:2] / head[2:]).unlink()
    for remote in (audited.remote, f"file://{audited.remote}"):
        fault = audited.audit(remote, code=1)["error"]
        assert fault["code"] in ("remote-unreachable", "not-a-ledger"), fault


def test_a_report_says_all_of_it_in_both_forms(audited: Audited, tmp_path: Path) -> None:
    mean = "<script>alert(1)</script>"
    audited.run(audited.alice, "claim", "t", "u")
    audited.run(audited.alice, "release", "t", "--force", "--reason", mean)
    for name in ("r.md", "r.html"):
        file = tmp_path / name
        found = audited.audit("origin", "--report", file, "--trust", audited.owner)
        assert (found["report"], found["records"]) == (str(file), 4)
        text = file.read_text()
        for part in ("Every one of 4 records was checked", "SHA256:", "Made by", "alice/1"):
            assert part in text, part
        assert (mean in text) == (name == "r.md")
        assert f"`{mean}`" in text or name == "r.html"
    file = tmp_path / "part.md"
    audited.audit("origin", "--since", "2", "--report", file)
    assert "records from 2 on, and none before" in file.read_text()
    (tmp_path / "folder.md").mkdir()
    for wrong in (tmp_path / "x.pdf", tmp_path / "none" / "x.md", tmp_path / "folder.md"):
        assert audited.audit("origin", "--report", wrong, code=1)["error"]["code"] == "bad-value"
    audited.run(audited.auditor, "audit", "origin", "--resume", "--report", file, code=2)


def test_a_report_of_what_nobody_checked_or_what_is_bad_is_written_too(
    host: HooklessHost, tmp_path: Path, inside: Inside
) -> None:
    host.found()
    host.ledger("alice").submit("t")
    host.git(
        "update-ref", "refs/coordledger-cut/main/2-123456789abc", host.git("rev-parse", LEDGER_REF)
    )
    auditor = Host(tmp_path, "auditor")
    auditor.env |= {name: host.env[name] for name in ("GIT_SSH_COMMAND", "GIT_SSH_VARIANT")}
    file = tmp_path / "r.md"
    words = ("audit", host.url, "--report", file)
    inside(auditor, *words, agent="auditor", check=1)
    text = file.read_text()
    assert "2 of 2 records were checked by nobody" in text
    assert "no secret for this key here" in text
    assert "`2-123456789abc`" in text
    forge(host, "alice")
    [master] = (Path(host.env["XDG_CONFIG_HOME"]) / "coordledger" / "masters").iterdir()
    inside(auditor, *words, "--secret-file", master, agent="auditor", check=4)
    text = file.read_text()
    assert "| 2 | `" in text
    assert "`bad-signature`" in text


def test_a_copy_that_was_damaged_is_made_anew_by_the_command_that_is_named(
    audited: Audited,
) -> None:
    audited.audit("origin")
    cache = Path(audited.auditor.env["XDG_CACHE_HOME"]) / "coordledger"
    oid = audited.alice.run("git", f"--git-dir={audited.remote}", "rev-parse", f"{LEDGER_REF}~1")
    [lost] = cache.glob(f"*/objects/{oid[:2]}/{oid[2:].strip()}")
    lost.unlink()
    fault = audited.audit("origin", code=4)["error"]
    assert (fault["code"], fault["hint"]) == ("bad-copy", "coordledger audit origin --reset")
    audited.run(audited.auditor, *fault["hint"].split()[1:], "--yes")
    assert audited.audit("origin")["verdicts"] == {"authentic": 2}
