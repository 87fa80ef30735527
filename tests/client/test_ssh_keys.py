"""SSH keys that sign: what is read, what is refused, and that OpenSSH reads it alike."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from support.ssh_hosts import Host
from support.ssh_keys import SshKey

from coordledger.client.config import Options
from coordledger.client.opening import nobody, surroundings
from coordledger.client.ssh_keys import (
    AgentKey,
    KeyFile,
    SshKeyFinder,
    armored,
    fingerprint,
    given_public,
    public_of,
    raw_signature,
)
from coordledger.errors import Failed
from coordledger.format.sshsig import NAMESPACE, PublicKey, string

PAYLOAD = b'{"a":"record"}'
BOB, EVE = SshKey.of("bob/1"), SshKey.of("eve/1")


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path, "bob")


def finder(host: Host, word: str | None = None, ask=nobody) -> SshKeyFinder:
    options = Options(path=host.root, agent="bob", ssh_key=word)
    settings, repository, git = surroundings(options, host.env)
    return SshKeyFinder(settings, repository, git, ask)


def public_in(path: Path) -> str:
    return path.with_name(f"{path.name}.pub").read_text().split()[1]


def refusal(act, *args) -> str:
    with pytest.raises(Failed) as refused:
        act(*args)
    assert refused.value.code == "bad-ssh-key", refused.value
    return refused.value.message


# -- key files


def test_a_key_of_openssh_signs_what_openssh_would(host: Host) -> None:
    path = host.keygen("key")
    (key,) = finder(host, str(path)).find("bob")
    assert key.public == public_in(path)
    tag = key.sign(PAYLOAD)
    assert PublicKey(key.public).verifies(PAYLOAD, tag)
    theirs = host.run("ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", path, stdin=PAYLOAD)
    assert raw_signature(theirs.encode(), key.public) == tag
    assert armored(key.public, tag) == theirs
    assert fingerprint(key.public) == host.run("ssh-keygen", "-l", "-f", path).split()[1]


def test_a_key_that_is_made_is_one_that_openssh_reads_and_only_its_user(host: Host) -> None:
    made = finder(host).make("bob")
    path = Path(made.where)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o077 == 0
    assert host.run("ssh-keygen", "-y", "-f", path).split()[1] == made.public
    (found,) = finder(host).find("bob")
    assert found.sign(PAYLOAD) == made.sign(PAYLOAD)
    another = finder(host).make("bob")
    assert [key.public for key in finder(host).find("bob")] == [made.public, another.public]
    assert finder(host).find("carol") == []


def test_a_passphrase_is_asked_for_once(host: Host) -> None:
    path, asked = host.keygen("key", passphrase="correct horse"), []

    def ask(file: str) -> str:
        asked.append(file)
        return "correct horse"

    keys = finder(host, str(path), ask)
    assert keys.unlock("bob")
    for _ in range(3):
        (key,) = keys.find("bob")
        assert PublicKey(public_in(path)).verifies(PAYLOAD, key.sign(PAYLOAD))
        assert not keys.unlock("bob")
    assert asked == [str(path)]
    assert "horse" not in repr(key) + repr(vars(keys))


def test_a_wrong_passphrase_or_nobody_to_ask_is_said(host: Host) -> None:
    path = host.keygen("key", passphrase="correct horse")
    assert "passphrase is wrong" in refusal(
        finder(host, str(path), lambda _: "battery").unlock, "bob"
    )
    keys = finder(host, str(path))
    assert not keys.unlock("bob")
    assert "nobody can be asked" in refusal(keys.find("bob")[0].sign, PAYLOAD)


def test_what_is_no_private_key_of_that_type_is_refused(host: Host) -> None:
    good = host.keygen("key").read_bytes()
    rows = good.splitlines(keepends=True)
    content = base64.b64decode(b"".join(rows[1:-1]))
    at = content.rindex(base64.b64decode(public_in(host.root.parent / "key"))[-32:])
    swapped = content[:at] + EVE.raw + content[at + 32 :]  # in the private half's second part
    two_halves = content.replace(
        base64.b64decode(public_in(host.root.parent / "key"))[-32:], EVE.raw
    )
    bad = {
        "empty": b"",
        "text": b"hello",
        "cut off": b"".join([*rows[:2], rows[-1]]),
        "another type": host.keygen("rsa", kind="rsa").read_bytes(),
        "an elliptic curve": host.keygen("ec", kind="ecdsa").read_bytes(),
        "no base64": rows[0] + b"????\n" + rows[-1],
        "halves of two keys": rows[0] + base64.encodebytes(two_halves) + rows[-1],
    }
    for name, found in bad.items():
        assert name and refusal(KeyFile, found, "a file")
    assert KeyFile(rows[0] + base64.encodebytes(swapped) + rows[-1], "x").public  # it has no use
    assert KeyFile(good, "x").public == public_in(host.root.parent / "key")


def test_a_locked_key_of_a_security_key_is_refused_before_a_passphrase_is_asked_for(
    host: Host,
) -> None:
    """Its public half has 32 bytes, too, which look like the key of another type."""
    path = host.keygen("key", passphrase="x")
    rows = path.read_bytes().splitlines(keepends=True)
    public = base64.b64decode(public_in(path))
    hardware = public.replace(b"\x00\x0bssh-ed25519", b"\x00\x1ask-ssh-ed25519@openssh.com")
    hardware += string(b"ssh:")
    wire = base64.b64decode(b"".join(rows[1:-1]))
    wire = wire.replace(string(public), string(hardware))
    assert hardware in wire
    content = rows[0] + base64.encodebytes(wire) + rows[-1]
    assert "no private ssh-ed25519 key" in refusal(KeyFile, content, "a file")


def test_a_key_that_others_can_read_or_that_git_tracks_is_not_used(host: Host) -> None:
    path = host.keygen("key")
    path.chmod(0o644)
    with pytest.raises(Failed) as refused:
        finder(host, str(path)).find("bob")
    assert refused.value.code == "secret-exposed"
    path.chmod(0o600)
    planted = host.root / "key"
    path.rename(planted)
    assert finder(host, "key").find("bob")
    host.run("git", "add", "key")
    assert "part of the repository" in refusal(finder(host, "key").find, "bob")
    assert "no such file" in refusal(finder(host, "nowhere").find, "bob")


def test_a_key_that_a_platform_mounts_is_read_from_the_folder_that_is_trusted(host: Host) -> None:
    """As a link, readable by all."""
    mount = host.root.parent / "mount"
    mount.mkdir()
    host.keygen("mount/data").chmod(0o444)
    (mount / "bob").symlink_to("data")
    with pytest.raises(Failed):
        finder(host, str(mount / "bob")).find("bob")
    host.env |= {"COORDLEDGER_SECRETS_TRUSTED": str(mount)}
    assert finder(host, str(mount / "bob")).find("bob")[0].sign(PAYLOAD)


# -- public lines


def test_the_one_key_of_that_type_is_taken_from_lines(host: Host, tmp_path: Path) -> None:
    line = f"ssh-ed25519 {BOB.public}"
    rsa = public_in(host.keygen("rsa", kind="rsa"))
    for text in (
        line,
        f"{line} bob@desk\n",
        f"ssh-rsa {rsa}\n{line}\n",
        f"# keys\n\nssh-rsa {rsa} x\r\n{line} y\r\n",
        f"{line}\n{line} the same again\n",
        f'bob namespaces="git" {line} as in allowed_signers',
    ):
        assert public_of(text, "x") == BOB.public
    several = f"{line}\nssh-ed25519 {EVE.public}\n"
    assert "2 ssh-ed25519 keys" in refusal(public_of, several, "x")
    assert "only ssh-rsa" in refusal(public_of, f"ssh-rsa {rsa}\n", "x")
    assert "no public key" in refusal(public_of, "", "x")
    assert "small order" in refusal(
        public_of,
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "x",
    )
    for other in (
        f"sk-ssh-ed25519@openssh.com {BOB.public}",
        f"ssh-ed25519-cert-v01@openssh.com {BOB.public}",
        f"# ssh-ed25519 {BOB.public}",  # not in use any more
        f"@revoked * ssh-ed25519 {BOB.public}",
        f"@cert-authority * ssh-ed25519 {BOB.public}",
        f"ssh-rsa {rsa} ssh-ed25519 {BOB.public}",  # a comment
        f'command="ssh-ed25519 {BOB.public} " ssh-rsa {rsa}',
        f"ssh-ed25519 {BOB.public[:40]}\n{BOB.public[40:]}",
        f"ssh-ed25519 {BOB.public}=",
        f"ssh-ed25519 {BOB.public.replace('A', '-')}",
        f"ssh-ed25519 {BOB.public}\x1b[2J",
    ):
        assert refusal(public_of, other, "x"), other
    assert public_of(f"ssh-ed25519 {BOB.public} or ssh-ed25519 {EVE.public}", "x") == BOB.public
    assert public_of(f"# ssh-ed25519 {EVE.public}\n{line}", "x") == BOB.public
    assert given_public(line, tmp_path) == BOB.public
    (tmp_path / "bob.keys").write_text(f"ssh-rsa {rsa}\n{line}\n")
    assert given_public("bob.keys", tmp_path) == BOB.public
    assert "private key" in refusal(given_public, str(host.keygen("key")), tmp_path)
    assert refusal(given_public, "nowhere", tmp_path)
    assert refusal(given_public, ".", tmp_path)


# -- ssh-agent and git


def test_a_key_in_ssh_agent_signs(host: Host) -> None:
    path = host.keygen("key", passphrase="correct horse")
    plain = host.keygen("plain")
    line = f"ssh-ed25519 {public_in(plain)}"
    assert "ssh-add it" in refusal(finder(host, line).find("bob")[0].sign, PAYLOAD)
    with host.ssh_agent():
        assert "ssh-add it" in refusal(finder(host, line).find("bob")[0].sign, PAYLOAD)
        host.run("ssh-add", "-q", plain)
        public_file = plain.with_name("plain.pub")
        for word in (line, f"{line} comment", f"key::{line}"):
            (key,) = finder(host, word).find("bob")
            assert isinstance(key, AgentKey)
            assert PublicKey(public_in(plain)).verifies(PAYLOAD, key.sign(PAYLOAD))
        (beside,) = finder(host, str(public_file)).find("bob")
        assert isinstance(beside, KeyFile)
        plain.unlink()
        (alone,) = finder(host, str(public_file)).find("bob")
        assert PublicKey(public_in(plain)).verifies(PAYLOAD, alone.sign(PAYLOAD))
        # a file with a passphrase, which the agent has been given
        askpass = host.root / "askpass"
        askpass.write_text("#!/bin/sh\necho correct horse\n")
        askpass.chmod(0o700)
        host.env |= {"SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force"}
        host.run("ssh-add", "-q", path)
        keys = finder(host, str(path), ask=lambda _: pytest.fail("asked"))
        assert not keys.unlock("bob")
        assert PublicKey(public_in(path)).verifies(PAYLOAD, keys.find("bob")[0].sign(PAYLOAD))


def test_what_an_agent_answers_is_verified_before_it_is_used(host: Host, tmp_path: Path) -> None:
    for name, answer in {
        "another's": armored(BOB.public, EVE.sign(PAYLOAD)),
        "of another payload": armored(BOB.public, BOB.sign(b"{}")),
        "by another key": armored(EVE.public, EVE.sign(PAYLOAD)),
        "no signature": "hello",
        "no text": "\udcff",
    }.items():
        tool = tmp_path / "bin" / "ssh-keygen"
        tool.parent.mkdir(exist_ok=True)
        (tool.parent / "answer").write_text(answer, errors="surrogateescape")
        tool.write_text(f"#!/bin/sh\ncat '{tool.parent}/answer'\n")
        tool.chmod(0o755)
        host.env |= {"PATH": f"{tool.parent}:{host.env['PATH']}"}
        (key,) = finder(host, f"ssh-ed25519 {BOB.public}").find("bob")
        assert name and "ssh-agent: it does not sign" in refusal(key.sign, PAYLOAD)


def test_the_key_that_git_signs_with_is_taken_by_its_word(host: Host) -> None:
    path = host.keygen("key")
    assert "git signs with no SSH key" in refusal(finder(host, "git").find, "bob")
    host.run("git", "config", "user.signingKey", path.with_name("key.pub"))
    assert "git signs with no SSH key" in refusal(finder(host, "git").find, "bob")
    host.run("git", "config", "gpg.format", "ssh")
    for value in (path, path.with_name("key.pub")):
        host.run("git", "config", "user.signingKey", value)
        (key,) = finder(host, "git").find("bob")
        assert isinstance(key, KeyFile)
        assert key.public == public_in(path)
    host.run("git", "config", "user.signingKey", f"key::ssh-ed25519 {BOB.public}")
    (key,) = finder(host, "git").find("bob")
    assert isinstance(key, AgentKey)


# -- armor


def test_the_armor_is_read_as_it_is_written_and_nothing_else() -> None:
    tag = BOB.sign(PAYLOAD)
    text = armored(BOB.public, tag)
    assert raw_signature(text.encode(), BOB.public) == tag
    assert all(len(line) <= 70 for line in text.splitlines())
    for old, new in (
        ("-----BEGIN", "----BEGIN"),
        ("-----END", "----END"),
        ("SIGNATURE", "MESSAGE"),
        (text.splitlines()[2], ""),
    ):
        with pytest.raises(ValueError, match=r".*"):
            raw_signature(text.replace(old, new).encode(), BOB.public)
    wire = base64.b64decode(re.sub("-----.*-----", "", text))
    for old, new in (
        (b"coordledger.record.v1", b"coordledger.record.v2"),
        (b"sha512", b"sha256"),
        (b"SSHSIG\0\0\0\1", b"SSHSIG\0\0"),
        (BOB.raw, EVE.raw),
    ):
        body = base64.encodebytes(wire.replace(old, new)).decode()
        changed = f"-----BEGIN SSH SIGNATURE-----\n{body}-----END SSH SIGNATURE-----\n"
        with pytest.raises(ValueError, match=r".*"):
            raw_signature(changed.encode(), BOB.public)
