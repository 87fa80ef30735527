"""Ledgers whose keys are SSH keys, on hosts that share nothing but the remote."""

from __future__ import annotations

import base64
import json
import os
import pty
import re
import select
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.ssh_hosts import Host, files_below

if TYPE_CHECKING:
    from collections.abc import Callable

    Inside = Callable[..., Any]


class TwoHosts:
    """alice founds a ledger on one host, bob works on another."""

    def __init__(self, root: Path, inside: Inside, *founding: str) -> None:
        self.root, self._inside = root, inside
        self.remote = root / "ledger.git"
        self.alice, self.bob = Host(root, "alice"), Host(root, "bob")
        self.say(self.alice, "init", self.remote, "--agent", "alice", *founding)
        self.say(self.alice, "join", self.remote, "--agent", "alice")

    def say(self, host: Host, *argv: str | Path, code: int = 0) -> Any:
        """What a command prints as JSON."""
        return json.loads(self._inside(host, *argv, "--json", agent=host.agent, check=code).stdout)

    def see(self, host: Host, *argv: str | Path, code: int = 0) -> str:
        """What people see of it."""
        ran = self._inside(host, *argv, agent=host.agent, check=code)
        return ran.stdout + ran.stderr

    def enrolled(self) -> None:
        """bob makes a key, and alice enrols what bob's `join` tells."""
        self.say(self.bob, "key", "new", "--agent", "bob")
        said = self.see(self.bob, "join", self.remote, "--agent", "bob")
        (command,) = re.findall(r"an admin runs `coordledger (.*)`", said)
        self.see(self.alice, *shlex.split(command))


@pytest.fixture
def hosts(tmp_path: Path, inside: Inside) -> TwoHosts:
    found = TwoHosts(tmp_path, inside, "--ssh-key")
    found.enrolled()
    return found


def key_of(host: Host) -> str:
    """The second word of the host's public line."""
    home = Path(host.env["XDG_CONFIG_HOME"]) / "coordledger" / "keys" / host.agent
    newest = max(home.iterdir(), key=lambda path: int(path.name))
    return host.run("ssh-keygen", "-y", "-f", newest).split()[1]


def test_nothing_secret_travels_and_everybody_verifies_everything(hosts: TwoHosts) -> None:
    alice, bob = hosts.alice, hosts.bob
    assert hosts.say(bob, "join", hosts.remote, "--agent", "bob")["key"] == "ready"
    assert hosts.say(bob, "claim", "t")["checked"] == "here"
    hosts.say(alice, "send", "--to", "bob", "hello")
    hosts.say(bob, "complete", "t")
    for host in (alice, bob):
        audit = hosts.say(host, "audit", "--full")
        assert audit["verdicts"] == {"authentic": 5}
        assert [task["verdict"] for task in hosts.say(host, "list")] == ["authentic"]
        assert all(event["verdict"] == "authentic" for event in hosts.say(host, "history", "t"))
    assert [message["verdict"] for message in hosts.say(bob, "inbox")] == ["authentic"]
    hosts.say(bob, "claim", "u")
    assert hosts.say(alice, "require", "u", "--by", "bob")["verdict"] == "authentic"
    assert hosts.say(alice, "status")["enforcement"] == "server"
    # there is no secret: not on a host, not on the server
    assert not list((hosts.remote / "coordledger").glob("*master*"))
    names = [path.name for path in files_below(hosts.root)]
    assert not [name for name in names if name.endswith(".secret")]
    private = {
        line
        for path in files_below(hosts.root)
        if "/keys/" in str(path)
        for line in path.read_bytes().splitlines()[1:-1]
    }
    assert len(private) > 4
    elsewhere = [path for path in files_below(hosts.root) if "/keys/" not in str(path)]
    assert not [p for p in elsewhere if any(line in p.read_bytes() for line in private)]
    dump = bob.run("sh", "-c", "git cat-file --batch-all-objects --batch | base64 -w0")
    objects = base64.b64decode(dump)
    assert b"Coordledger-Signature" in objects
    assert not [line for line in private if line in objects]


def test_a_stranger_verifies_a_record_with_openssh_alone(hosts: TwoHosts, tmp_path: Path) -> None:
    hosts.say(hosts.bob, "claim", "t", "--note", "caf\xe9")
    shown = hosts.say(hosts.alice, "show", "2", "--sshsig")
    stranger = Host(tmp_path, "stranger")
    (stranger.root / "signers").write_text(hosts.see(hosts.alice, "allowed-signers"))
    (stranger.root / "record").write_text(
        hosts._inside(hosts.alice, "show", "2", "--sshsig", agent="alice", check=0).stdout
    )
    verify = (
        "sed 1d record > record.sig && head -n 1 record | tr -d '\\n' | ssh-keygen -Y verify"
        f" -f signers -I bob -n coordledger.record.v1 -s record.sig -Overify-time={shown['time']}"
    )
    assert "Good " in stranger.run("sh", "-c", verify)
    assert json.loads(shown["payload"])["agent"] == "bob"
    assert shown["signer"] in (stranger.root / "signers").read_text()
    for other in (verify.replace("-I bob", "-I alice"), verify.replace("v1", "git")):
        assert "Good" not in stranger.run("sh", "-c", other, check=False)
    changed = (stranger.root / "record").read_text().replace('"reopen":false', '"reopen":true')
    (stranger.root / "record").write_text(changed)
    assert "Good" not in stranger.run("sh", "-c", verify, check=False)
    assert "gone" in str(hosts.say(hosts.alice, "show", "99", "--sshsig", code=1))
    hosts.see(hosts.alice, "show", "t", "--sshsig", code=2)


def test_a_key_is_changed_and_its_time_ends_for_openssh_too(
    hosts: TwoHosts, tmp_path: Path
) -> None:
    hosts.say(hosts.bob, "claim", "t")
    old = key_of(hosts.bob)
    assert hosts.say(hosts.bob, "key", "new", code=1)["error"]["code"] == "key-exists"
    line = hosts.say(hosts.bob, "key", "new", "--another")["public"]
    assert old not in line
    no_line = hosts.say(hosts.alice, "agent", "rotate", "bob", code=1)["error"]
    assert "--ssh-key" in no_line["message"]
    hosts.say(hosts.alice, "agent", "rotate", "bob", "--ssh-key", line)
    hosts.say(hosts.alice, "agent", "revoke", "bob", "--key", "1")
    assert hosts.say(hosts.bob, "renew", "t", "--ttl", "2h")["verdict"] == "authentic"
    shown = hosts.say(hosts.alice, "show", "5", "--sshsig")
    assert (shown["agent"], shown["key"]) == ("bob", 2)
    signers = hosts.say(hosts.alice, "allowed-signers")
    of_bob = [line for line in signers if line.startswith("bob ")]
    assert [old in line for line in of_bob] == [True, False]
    assert ["valid-before" in line for line in of_bob] == [True, False]
    # the old record is good at its time, and the key is not good now
    record = hosts.say(hosts.alice, "show", "2", "--sshsig")
    stranger = Host(tmp_path, "stranger")
    (stranger.root / "signers").write_text("\n".join(signers))
    (stranger.root / "sig").write_text(record["signature"])
    verify = ["ssh-keygen", "-Y", "verify", "-f", "signers", "-I", "bob", "-s", "sig"]
    verify += ["-n", "coordledger.record.v1"]
    payload = record["payload"].encode()
    then = f"-Overify-time={record['time']}"
    assert "Good" in stranger.run(*verify, then, stdin=payload)
    late = "-Overify-time=20991231235959Z"
    assert "Good" not in stranger.run(*verify, late, stdin=payload, check=False)


def test_a_ledger_moves_from_secrets_to_ssh_keys_agent_by_agent(
    tmp_path: Path, inside: Inside
) -> None:
    hosts = TwoHosts(tmp_path, inside)  # founded with a master
    carried = hosts.say(hosts.alice, "agent", "add", "bob")["secret"]
    join = ["join", hosts.remote, "--agent", "bob"]
    hosts.say(hosts.bob, *join, "--secret-file", carried)
    assert hosts.say(hosts.bob, "claim", "one")["verdict"] == "authentic"
    line = hosts.say(hosts.bob, "key", "new")["public"]
    hosts.say(hosts.alice, "agent", "rotate", "bob", "--ssh-key", line)
    hosts.say(hosts.bob, "list")
    hosts.say(hosts.bob, "claim", "two")  # signed with the newest key, without a word
    hosts.say(hosts.alice, "agent", "revoke", "bob", "--key", "1")
    hosts.say(hosts.bob, "claim", "three")
    for path in (Path(hosts.bob.env["XDG_CONFIG_HOME"]) / "coordledger" / "secrets").rglob(
        "*.secret"
    ):
        path.unlink()
    hosts.say(hosts.bob, "complete", "three")
    agents = {one["agent"]: one for one in hosts.say(hosts.bob, "agent", "list")}
    assert [key["alg"] for key in agents["bob"]["keys"]] == ["hmac-sha256", "ssh-ed25519"]
    assert hosts.say(hosts.alice, "audit", "--full")["verdicts"] == {"authentic": 8}
    # and alice, too; then nothing is left to the master
    own = hosts.say(hosts.alice, "key", "new")["public"]
    hosts.say(hosts.alice, "agent", "rotate", "alice", "--ssh-key", own)
    hosts.say(hosts.alice, "agent", "revoke", "alice", "--key", "1")
    (hosts.remote / "coordledger" / "master").unlink()
    hosts.say(hosts.alice, "claim", "four")
    # bob has no secret: whose the keys are that MACs have enrolled, the server alone tells him
    audit = hosts.say(hosts.bob, "audit", "--full")
    assert (audit["verdicts"], audit["checked"]) == ({"unverified": 11}, {"server": 11})
    assert {task["checked"] for task in hosts.say(hosts.bob, "list")} == {"server"}
    told = hosts.say(hosts.alice, "agent", "add", "carol", code=1)["error"]
    assert told["code"] == "no-master"
    assert "--ssh-key" in told["hint"]


def test_once_all_have_moved_the_policy_refuses_secrets(tmp_path: Path, inside: Inside) -> None:
    hosts = TwoHosts(tmp_path, inside)  # founded with a master
    alice, bob = hosts.alice, hosts.bob
    for agent in ("bob", "carol"):
        carried = hosts.say(alice, "agent", "add", agent)["secret"]
        if agent == "bob":
            hosts.say(bob, "join", hosts.remote, "--agent", "bob", "--secret-file", carried)
    hosts.say(bob, "claim", "before")
    on = ["policy", "require_alg=1"]
    told = hosts.say(alice, *on, code=1)["error"]
    assert told["code"] == "alg-refused"  # the owner has no SSH key yet, and would be shut out
    own = hosts.say(alice, "key", "new")["public"]
    hosts.say(alice, "agent", "rotate", "alice", "--ssh-key", own)
    assert hosts.say(alice, *on)["require_alg"] == 1
    # bob has not moved: nothing is sent, and what to do is said
    told = hosts.say(bob, "claim", "after", code=1)["error"]
    assert told["code"] == "alg-refused"
    assert "coordledger agent rotate bob --ssh-key" in told["hint"]
    assert hosts.say(bob, "join", hosts.remote, "--agent", "bob")["key"] == "unknown-key"
    line = hosts.say(bob, "key", "new")["public"]
    hosts.say(alice, "agent", "rotate", "bob", "--ssh-key", line)
    hosts.say(bob, "renew", "before")
    hosts.say(bob, "claim", "after")
    # no secret is enrolled any more, nor made, and the owner keeps a key that may sign
    before = set(files_below(alice.root.parent))
    assert hosts.say(alice, "agent", "add", "dave", code=1)["error"]["code"] == "alg-refused"
    assert not [
        path for path in set(files_below(alice.root.parent)) - before if "dave" in str(path)
    ]
    told = hosts.say(alice, "agent", "revoke", "alice", "--key", "2", code=1)["error"]
    assert told["code"] == "last-key"
    hosts.say(alice, "agent", "revoke", "alice", "--key", "1")
    # what was signed before stays valid, for who has the master
    assert set(hosts.say(alice, "audit", "--full")["verdicts"]) == {"authentic"}
    hosts.say(alice, "policy", "require_alg=0")
    hosts.say(alice, "agent", "add", "dave")


@pytest.mark.parametrize("founding", [["--ssh-key"], []], ids=["no master", "a master"])
def test_who_has_not_the_private_half_is_refused(
    tmp_path: Path, inside: Inside, founding: list[str]
) -> None:
    """bob's host is the attacker's: the file there is another key than the ledger's."""
    hosts = TwoHosts(tmp_path, inside, *founding)
    hosts.enrolled()
    hosts.say(hosts.bob, "claim", "t")
    right = key_of(hosts.bob)
    home = Path(hosts.bob.env["XDG_CONFIG_HOME"]) / "coordledger" / "keys" / "bob"
    (home / "1").unlink()
    other = hosts.say(hosts.bob, "key", "new")["public"]
    assert right not in other
    refused = hosts.say(hosts.bob, "claim", "u", code=1)["error"]
    assert refused["code"] == "ssh-key-unknown"
    assert other in refused["hint"]
    assert hosts.say(hosts.bob, "join", hosts.remote, "--agent", "bob")["key"] == "unknown-key"
    # a commit with alice's name, and a signature by that key over the very payload
    claim = hosts.bob.run("git", "cat-file", "commit", "refs/coordledger/main", check=False)
    hosts.bob.run("git", "fetch", "-q", hosts.remote, "refs/coordledger/main:refs/stolen")
    commit = hosts.bob.run("git", "cat-file", "commit", "refs/stolen")
    assert claim in ("", commit)
    parent = hosts.bob.run("git", "rev-parse", "refs/stolen").strip()
    payload = next(line for line in commit.splitlines() if line.startswith("{"))
    forged_payload = payload.replace('"task":"t"', '"task":"v"')
    sign = ["ssh-keygen", "-q", "-Y", "sign", "-n", "coordledger.record.v1", "-f", home / "1"]
    armored = hosts.bob.run(*sign, stdin=forged_payload.encode()).splitlines()[1:-1]
    tag = _tag("".join(armored))
    forged = re.sub(r"(?m)^parent .*$", f"parent {parent}", commit).replace(payload, forged_payload)
    forged = re.sub(r"(Coordledger-Signature: \S+ \S+) \S+", rf"\1 {tag}", forged)
    write = ("git", "hash-object", "-t", "commit", "-w", "--stdin")
    oid = hosts.bob.run(*write, stdin=forged.encode()).strip()
    push = f"git push {hosts.remote} {oid}:refs/coordledger/main 2>&1"
    assert "bad-signature" in hosts.bob.run("sh", "-c", push, check=False)


def _tag(armored: str) -> str:
    return base64.b64encode(base64.b64decode(armored)[-64:]).decode()


def test_the_key_can_be_named_in_three_ways(hosts: TwoHosts) -> None:
    bob = hosts.bob
    path = bob.keygen("elsewhere")
    public = path.with_name("elsewhere.pub")
    hosts.say(hosts.alice, "agent", "rotate", "bob", "--ssh-key", public)
    hosts.say(hosts.alice, "agent", "revoke", "bob", "--key", "1")
    told = hosts.say(bob, "claim", "t", code=1)["error"]
    assert told["code"] == "ssh-key-unknown"
    hosts.say(bob, "claim", "t", "--ssh-key", path)
    variable = {"COORDLEDGER_SSH_KEY": str(path)}
    hosts._inside(bob, "claim", "u", agent="bob", env=variable, check=0)
    bob.run("git", "config", "coordledger.sshKey", path)
    hosts.say(bob, "claim", "v")
    bob.run("git", "config", "--unset", "coordledger.sshKey")
    hosts.say(bob, "join", hosts.remote, "--agent", "bob", "--ssh-key", "../elsewhere")
    assert bob.run("git", "config", "coordledger.sshKey").strip() == str(path)
    assert hosts.say(bob, "claim", "w")["verdict"] == "authentic"
    assert hosts.say(bob, "status")["agent"] == "bob"
    assert "elsewhere" in hosts.see(bob, "doctor")


def test_a_private_key_that_is_given_in_place_of_its_file_is_not_repeated(hosts: TwoHosts) -> None:
    text = hosts.bob.keygen("k").read_text()
    body = text.splitlines()[1]
    for word in (text, text.replace("\n", "\\n")):
        for host, argv in (
            (hosts.bob, ["claim", "t", "--ssh-key", word]),
            (hosts.bob, ["join", hosts.remote, "--agent", "bob", "--ssh-key", word]),
            (hosts.bob, ["key", "show", "--ssh-key", word]),
            (hosts.alice, ["agent", "add", "carol", "--ssh-key", word]),
        ):
            said = hosts.see(host, *argv, code=1)
            assert "that is a private key" in said
            assert body not in said
        variable = {"COORDLEDGER_SSH_KEY": word}
        ran = hosts._inside(hosts.bob, "claim", "t", agent="bob", env=variable, check=1)
        assert body not in ran.stdout + ran.stderr
    files = [path for path in files_below(hosts.root) if path.name != "k"]
    assert not [path for path in files if body.encode() in path.read_bytes()]


def test_agent_add_takes_the_lines_of_a_hosting_service(hosts: TwoHosts) -> None:
    first, second = (hosts.bob.keygen(name).with_name(f"{name}.pub") for name in ("a", "b"))
    rsa = hosts.bob.keygen("c", kind="rsa").with_name("c.pub")
    keys = hosts.alice.root / "carol.keys"
    keys.write_text(rsa.read_text() + first.read_text() + second.read_text())
    add = ["agent", "add", "carol", "--ssh-key"]
    told = hosts.say(hosts.alice, *add, "carol.keys", code=1)["error"]
    assert told["code"] == "bad-ssh-key"
    assert "2 ssh-ed25519 keys" in told["message"]
    assert (
        "private" in hosts.say(hosts.alice, *add, first.with_name("a"), code=1)["error"]["message"]
    )
    assert hosts.say(hosts.alice, *add, rsa, code=1)["error"]["code"] == "bad-ssh-key"
    keys.write_text(rsa.read_text() + first.read_text())
    assert hosts.say(hosts.alice, *add, "carol.keys")["secret"] is None
    agents = {one["agent"]: one for one in hosts.say(hosts.alice, "agent", "list")}
    assert agents["carol"]["keys"][0]["verifier"] == first.read_text().split()[1]
    hosts.see(hosts.alice, *add, first, "--secret-file", "x", code=2)


def test_join_makes_a_key_if_that_is_asked_for(tmp_path: Path, inside: Inside) -> None:
    hosts = TwoHosts(tmp_path, inside, "--ssh-key")
    join = ["join", hosts.remote, "--agent", "bob"]
    none = hosts.say(hosts.bob, *join)
    assert (none["key"], none["public"]) == ("not-enrolled", None)
    assert "key new" in hosts.see(hosts.bob, *join)
    made = hosts.say(hosts.bob, *join, "--new-key")
    assert made["public"].split()[1] == key_of(hosts.bob)
    assert hosts.say(hosts.bob, *join, "--new-key")["public"] == made["public"]
    hosts.say(hosts.alice, "agent", "add", "bob", "--ssh-key", made["public"])
    assert hosts.say(hosts.bob, *join)["key"] == "ready"
    shown = hosts.say(hosts.bob, "key", "show")
    assert shown["public"] == made["public"]
    assert hosts.say(hosts.alice, "key", "show", "--agent", "zoe", code=1)["error"]["code"] == (
        "no-ssh-key"
    )


def test_a_passphrase_is_asked_for_once_on_the_terminal(hosts: TwoHosts) -> None:
    path = hosts.bob.keygen("locked", passphrase="correct horse")
    hosts.say(hosts.alice, "agent", "rotate", "bob", "--ssh-key", path.with_name("locked.pub"))
    told = hosts._inside(hosts.bob, "claim", "t", "--ssh-key", path, agent="bob")
    if not os.isatty(0):
        assert told.returncode == 1
        assert "ssh-add" in told.stderr
    said, code = _on_a_terminal(
        hosts.bob,
        "batch",
        "--ssh-key",
        str(path),
        typed="correct horse",
        stdin="".join(f'{{"do": "claim", "task": "{task}"}}\n' for task in "abc"),
    )
    assert code == 0, said
    assert said.count("passphrase of") == 1
    assert "correct horse" not in said
    said, code = _on_a_terminal(hosts.bob, "claim", "c", "--ssh-key", str(path), typed="wrong")
    assert code == 1
    assert "the passphrase is wrong" in said


def _on_a_terminal(host: Host, *argv: str, typed: str, stdin: str = "") -> tuple[str, int]:
    """What a command shows on a terminal where somebody types; its stdin is a file."""
    given = host.root / "stdin"
    given.write_text(stdin)
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(host.root)
        os.dup2(os.open(given, os.O_RDONLY), 0)
        command = [sys.executable, "-m", "coordledger", *argv]
        os.execve(sys.executable, command, host.env)
    said = b""
    answered = False
    while select.select([terminal], [], [], 60)[0]:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # it has closed
            break
        said += part
        if b"passphrase of" in said and not answered:
            answered = True
            os.write(terminal, f"{typed}\n".encode())
        if not part:
            break
    os.close(terminal)
    return said.decode(), os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("broken", ["missing", "broken"])
def test_a_hook_without_its_library_refuses_ssh_records_by_name_and_takes_macs(
    tmp_path: Path, inside: Inside, broken: str
) -> None:
    hosts = TwoHosts(tmp_path, inside)  # founded with a master
    hosts.enrolled()
    libraries = tmp_path / "libraries"
    (libraries / "cryptography").mkdir(parents=True)
    if broken == "broken":
        (libraries / "cryptography" / "__init__.py").write_text("raise RuntimeError('no libc')\n")
    else:
        (libraries / "cryptography").rmdir()
    hook = hosts.remote / "hooks" / "pre-receive"
    text = re.sub(r"(?m)^libraries=.*$", f"libraries={libraries}", hook.read_text())
    hook.write_text(text)
    before = hosts.alice.run("git", "ls-remote", hosts.remote)
    refused = hosts.say(hosts.bob, "claim", "t", code=1)["error"]
    assert "cryptography" in refused["message"]
    assert hosts.alice.run("git", "ls-remote", hosts.remote) == before
    hosts.say(hosts.alice, "claim", "t")
