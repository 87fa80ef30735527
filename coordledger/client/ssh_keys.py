"""SSH keys that sign: key files, ssh-agent, the key that git signs with.

Rules of this file:
- A private half is read from a file that no other user can read, or stays in ssh-agent, which
  `ssh-keygen -Y sign` asks. What comes back from there is verified before it is used.
- A passphrase is asked for once, before anything is signed; it is kept nowhere.
- The key that was named decides (`--ssh-key`, environment, configuration); else those that
  `coordledger key new` has made. No key in `~/.ssh` is looked for.

Which key may sign is not decided here, nor which signatures are good (`format.sshsig`).
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from binascii import a2b_base64, b2a_base64
from pathlib import Path
from typing import TYPE_CHECKING

from coordledger import files, keyfiles
from coordledger.errors import error
from coordledger.format import sshsig
from coordledger.git.process import child_environment

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    Run = Callable[[list[str], bytes], bytes]  # a program of OpenSSH, its input -> its output

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from coordledger.client.config import Settings
    from coordledger.git.process import Git
    from coordledger.git.repository import Repository

    Ask = Callable[[str], str | None]  # for the passphrase of a file; None: nobody can be asked

GITS = "git"  # names the key that git signs commits with
NEW = "new"  # names the newest key that `SshKeyFinder.make` has written
_TYPE = r"((?:ssh|ecdsa|sk-ssh|sk-ecdsa)-[a-z0-9@.-]+)"
_LINE = rf"(?:^|\s){_TYPE}[ \t]+([A-Za-z0-9+/=]+)(?=\s|$)"
_OPTION = r'"(?:[^"\\]|\\.)*"'
_PRIVATE = rb"(?s)-----BEGIN OPENSSH PRIVATE KEY-----\s(.*)-----END OPENSSH PRIVATE KEY-----\s*"
_MAGIC = b"openssh-key-v1\0"
_ARMOR = "PRIVATE KEY"  # in the first line of every form of a private key


def public_of(text: str, where: str) -> str:
    """The one ssh-ed25519 key in lines of OpenSSH's form, as records have it.

    Raises `Failed`: bad-ssh-key.
    """
    keys = _keys_in(text)
    found = sorted({key for kind, key in keys if kind == sshsig.TYPE})
    if len(found) > 1:
        why = f"there are {len(found)} {sshsig.TYPE} keys: give the line of one"
        raise error("bad-ssh-key", where=where, why=why)
    if not found:
        others = ", ".join(sorted({kind for kind, _ in keys}))
        why = f"only {others}" if others else "no public key in OpenSSH's form"
        raise error("bad-ssh-key", where=where, why=f"{why}; {sshsig.TYPE} is what is taken")
    try:
        sshsig.decode_key(found[0])
    except ValueError as fault:
        raise error("bad-ssh-key", where=where, why=fault) from None
    return found[0]


def _keys_in(text: str) -> list[tuple[str, str]]:
    """Type and key of each line: its first key, after options and whatever a comment has. A line
    that is a comment, or revokes or certifies, gives none.
    """
    lines = [line.strip() for line in text.split("\n")]
    taken = [re.sub(_OPTION, '""', line) for line in lines if not line.startswith(("#", "@"))]
    return [(found[1], found[2]) for line in taken if (found := re.search(_LINE, line))]


def given_public(word: str, folder: Path) -> str:
    """The public key that somebody typed: a line, or a file with lines (`NAME.pub`, `NAME.keys`).

    Raises `Failed`: bad-ssh-key.
    """
    if re.match(rf"{_TYPE} ", word):
        return public_of(word, "--ssh-key")
    path = _file_of(word, folder)
    try:
        content = path.read_bytes()[: keyfiles.MAX_BYTES]
    except OSError as fault:
        raise error("bad-ssh-key", where=word, why=fault.strerror) from None
    if _ARMOR.encode() in content:
        raise error("bad-ssh-key", where=word, why="that is a private key: give its .pub")
    return public_of(content.decode("utf-8", "replace"), word)


def _file_of(word: str, folder: Path) -> Path:
    """The file that somebody has named. Raises `Failed`: bad-ssh-key, for what is no name but the
    secret itself, as jobs have it in their environment: no message repeats it.
    """
    if _ARMOR in word:
        why = "that is a private key: write it to a file with mode 0600, and name the file"
        raise error("bad-ssh-key", where="the SSH key that was named", why=why)
    return folder / Path(word).expanduser()


def line_of(public: str, agent: str) -> str:
    """A key as OpenSSH's line, with the agent's name for a comment."""
    return f"{sshsig.TYPE} {public} {agent}"


def lasting(word: str, folder: Path) -> str:
    """The word that names the same key from anywhere: a file's path is made absolute.

    Raises `Failed`: bad-ssh-key.
    """
    if word in (GITS, NEW) or word.startswith(("key::", f"{sshsig.TYPE} ")):
        return word
    return os.path.abspath(_file_of(word, folder))  # noqa: PTH100 - without ..


def fingerprint(public: str) -> str:
    """As `ssh-keygen -l` shows a key to people."""
    import hashlib  # noqa: PLC0415 - for people
    from base64 import b64encode  # noqa: PLC0415

    hashed = hashlib.sha256(a2b_base64(public)).digest()
    return "SHA256:" + b64encode(hashed).decode("ascii").rstrip("=")


class KeyFile:
    """A private key in a file. `where` and `public` (as in records) are for people."""

    def __init__(self, content: bytes, where: str) -> None:
        """`content` is a file in OpenSSH's form. Raises `Failed`: bad-ssh-key."""
        self.where, self._content = where, content
        self._sign: Callable[[bytes], bytes] | None = None
        found = re.fullmatch(_PRIVATE, content)
        try:
            wire = a2b_base64(found[1] if found else b"").removeprefix(_MAGIC)
            cipher, _kdf, _options, public, inner = _strings(wire, "sss4ss")
            self.public = b2a_base64(public, newline=False).decode("ascii")
            sshsig.decode_key(self.public)
            self.is_locked = cipher != b"none"
            private = None if self.is_locked else _private(_strings(inner, "44sss")[2][:32])
        except ValueError:
            why = f"it is no private {sshsig.TYPE} key of OpenSSH's"
            raise error("bad-ssh-key", where=where, why=why) from None
        if private is not None:
            self._use(private)

    def __repr__(self) -> str:
        return f"KeyFile({self.where})"

    def _use(self, private: Any) -> None:
        """Raises `Failed`: bad-ssh-key."""
        if sshsig.encode_key(private.public_key().public_bytes_raw()) != self.public:
            raise error("bad-ssh-key", where=self.where, why="its two halves are no pair")
        self._sign, self.is_locked = private.sign, False

    def unlock(self, passphrase: str) -> None:
        """Raises `Failed`: bad-ssh-key."""
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - few have one
        from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415
            load_ssh_private_key,
        )

        try:
            self._use(load_ssh_private_key(self._content, passphrase.encode()))
        except (ValueError, TypeError, UnsupportedAlgorithm):
            why = "the passphrase is wrong, or the file is damaged"
            raise error("bad-ssh-key", where=self.where, why=why) from None

    def sign(self, payload: bytes) -> bytes:
        """The tag of a record's `payload`. Raises `Failed`: bad-ssh-key, while it is locked."""
        if self._sign is None:
            why = "it has a passphrase, and nobody can be asked: ssh-add it"
            raise error("bad-ssh-key", where=self.where, why=why)
        return self._sign(sshsig.message(payload))


def _strings(wire: bytes, form: str) -> list[bytes]:
    """The strings of SSH in `wire`, by `form`: `s` a string, `4` four bytes that do not matter.

    ValueError if it is cut off.
    """
    found = []
    for kind in form:
        size = int.from_bytes(wire[:4], "big") if kind == "s" else 0
        if len(wire) < 4 + size:
            raise ValueError("cut off")
        if kind == "s":
            found.append(wire[4 : 4 + size])
        wire = wire[4 + size :]
    return found


def _private(seed: bytes) -> Any:
    """Cryptography's private key, in a third of the time that its public module takes to load."""
    try:
        from cryptography.hazmat.bindings._rust import openssl  # noqa: PLC0415 - as in `sshsig`

        made = openssl.ed25519.from_private_bytes(seed)
    except (ImportError, AttributeError):
        from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415
            Ed25519PrivateKey,
        )

        made = Ed25519PrivateKey.from_private_bytes(seed)
    return made


def file_of(private: Ed25519PrivateKey) -> bytes:
    """The content of the private key's file, in OpenSSH's form and without a passphrase."""
    from cryptography.hazmat.primitives import serialization as form  # noqa: PLC0415 - once

    return private.private_bytes(form.Encoding.PEM, form.PrivateFormat.OpenSSH, form.NoEncryption())


class AgentKey:
    """A key whose private half is in ssh-agent. `public` is as in records."""

    is_locked = False

    def __init__(self, public: str, run: Run) -> None:
        self.public, self._run, self.where = public, run, "ssh-agent"

    def sign(self, payload: bytes) -> bytes:
        """The tag of a record's `payload`. Raises `Failed`: bad-ssh-key, timeout."""
        import tempfile  # noqa: PLC0415 - most keys are in files

        with tempfile.TemporaryDirectory(prefix="coordledger-") as folder:
            half = Path(folder, "key.pub")
            half.write_text(f"{sshsig.TYPE} {self.public}\n")
            command = ["ssh-keygen", "-q", "-Y", "sign", "-n", sshsig.NAMESPACE, "-f", str(half)]
            signed = self._run(command, payload)
        try:
            tag = raw_signature(signed, self.public)
        except ValueError:
            tag = b""
        if not sshsig.PublicKey(self.public).verifies(payload, tag):
            why = f"it does not sign with {fingerprint(self.public)}: ssh-add it"
            raise error("bad-ssh-key", where="ssh-agent", why=why)
        return tag


# -- OpenSSH's armor (PROTOCOL.sshsig)

_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"


def raw_signature(armored: bytes, public: str) -> bytes:
    """The 64 bytes in a signature by this key. ValueError if it is none."""
    lines = armored.decode("ascii").split("\n")
    if lines[0] != _BEGIN or _END not in lines:
        raise ValueError("no SSH signature")
    wire = a2b_base64("".join(lines[1 : lines.index(_END)]))
    key, namespace, _, hashed, signature = _strings(wire.removeprefix(b"SSHSIG"), "4sssss")
    kind, tag = _strings(signature, "ss")
    says = (key, namespace, hashed, kind)
    words = (sshsig.NAMESPACE, sshsig.HASH, sshsig.TYPE)
    if says != (a2b_base64(public), *map(str.encode, words)) or len(tag) != 64:
        raise ValueError("another signature")
    return tag


def armored(public: str, tag: bytes) -> str:
    """The signature in the form of `ssh-keygen -Y sign`."""
    from base64 import b64encode  # noqa: PLC0415 - for `show`

    signature = sshsig.string(sshsig.TYPE.encode()) + sshsig.string(tag)
    parts = (a2b_base64(public), sshsig.NAMESPACE.encode(), b"", sshsig.HASH.encode(), signature)
    wire = b"SSHSIG" + (1).to_bytes(4, "big") + b"".join(map(sshsig.string, parts))
    text = b64encode(wire).decode("ascii")
    rows = [text[at : at + 70] for at in range(0, len(text), 70)]
    return "\n".join([_BEGIN, *rows, _END]) + "\n"


# -- where they are

SshKey = KeyFile | AgentKey


class SshKeyFinder:
    """An agent's SSH keys that can sign here, each file read once."""

    def __init__(
        self,
        settings: Settings,
        repository: Repository | None,
        git: Git,
        ask: Ask,
    ) -> None:
        """`repository` is the one around, if there is one; `ask` is for passphrases."""
        self._settings, self._repository, self._git = settings, repository, git
        self._ask = ask
        self._trusted = settings.environ.get(keyfiles.TRUSTED) or None
        self._read: dict[Path, SshKey] = {}

    def named(self, agent: str) -> str | None:
        """The key that the caller or the configuration names, if it is this agent's."""
        return self._settings.ssh_key if agent == self._settings.agent else None

    def find(self, agent: str) -> list[SshKey]:
        """The keys of the agent, the newest last. Raises `Failed`: bad-ssh-key, secret-exposed."""
        word = self.named(agent)
        if word not in (None, NEW):
            return [self._by_word(str(word))]
        return [self._from_file(path) for path in self.made(agent)]

    def unlock(self, agent: str) -> bool:
        """Ask for the passphrase of the key that was named, where ssh-agent has it not. Whether
        somebody was asked.

        Raises `Failed`: bad-ssh-key, secret-exposed.
        """
        for key in self.find(agent) if self.named(agent) else ():
            if isinstance(key, KeyFile) and key.is_locked:
                passphrase = self._ask(key.where)
                if passphrase is not None:
                    key.unlock(passphrase)
                    return True
        return False

    def _run(self, command: list[str], given: bytes) -> bytes:
        """What a program of OpenSSH prints, without a terminal to ask on; nothing if it fails.

        Raises `Failed`: bad-ssh-key, timeout.
        """
        deadline = self._git.deadline
        try:
            ran = subprocess.run(
                command,
                input=given,
                capture_output=True,
                check=False,
                env=child_environment(self._settings.environ),
                timeout=deadline.left(),
                start_new_session=True,
            )
        except subprocess.TimeoutExpired:
            raise error("timeout", seconds=f"{deadline.seconds:g}") from None
        except OSError as fault:
            raise error("bad-ssh-key", where=command[0], why=fault.strerror) from None
        return ran.stdout if ran.returncode == 0 else b""

    # -- those that coordledger makes

    def made(self, agent: str) -> list[Path]:
        """The files that `make` has written for this agent, the newest last."""
        folder = self.home(agent)
        try:
            names = [name for name in os.listdir(folder) if name.isdecimal()]  # noqa: PTH208
        except OSError:
            return []
        return [folder / name for name in sorted(names, key=int)]

    def home(self, agent: str) -> Path:
        """The folder of what `make` writes for this agent."""
        return self._settings.config_dir / "keys" / agent

    def make(self, agent: str) -> KeyFile:
        """A new key, in a file of its own beside older ones. Raises `Failed`: secret-exposed."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import (  # noqa: PLC0415 - once
            Ed25519PrivateKey,
        )

        content = file_of(Ed25519PrivateKey.generate())
        number = max([int(path.name) for path in self.made(agent)], default=0) + 1
        while not keyfiles.create(str(self.home(agent) / f"{number}"), content, folders=3):
            number += 1  # another process has made it meanwhile
        return KeyFile(content, str(self.home(agent) / f"{number}"))

    def forget(self, agent: str) -> None:
        """Remove what `make` has written for this agent."""
        for path in self.made(agent):
            files.remove(str(path))
        with contextlib.suppress(OSError):
            self.home(agent).rmdir()  # only if it is empty

    # -- a key by the word that names it

    def _by_word(self, word: str) -> SshKey:
        if word == GITS:
            return self._gits()
        line = word.removeprefix("key::")  # as git's user.signingKey may have it
        if line.startswith(f"{sshsig.TYPE} "):
            return AgentKey(public_of(line, "the SSH key"), self._run)
        return self._from_file(_file_of(word, self._settings.path))

    def _gits(self) -> SshKey:
        told = self._git.run("config", "--get", "gpg.format").out.strip()
        word = self._git.run("config", "--get", "user.signingKey").out.strip()
        if told != "ssh" or not word:
            why = "git signs with no SSH key: gpg.format is ssh, and user.signingKey names it"
            raise error("bad-ssh-key", where=GITS, why=why)
        return self._by_word(f"./{GITS}" if word == GITS else word)

    def _from_file(self, path: Path) -> SshKey:
        if path not in self._read:
            self._read[path] = self._load(path)
        return self._read[path]

    def _load(self, path: Path) -> SshKey:
        """A private key, in ssh-agent if that has it and the file is locked; or, from a file with
        the public half, the private one beside it or in ssh-agent.
        """
        public = self._public_in(path)
        if public is not None:
            beside = path.with_suffix("") if path.suffix == ".pub" else path
            if beside == path or not os.path.lexists(beside):
                return AgentKey(public, self._run)
            path = beside
        if self._repository and self._repository.tracks(path):
            raise error("bad-ssh-key", where=path, why="it is part of the repository")
        content = keyfiles.read_private(str(path), self._trusted)
        if content is None:
            raise error("bad-ssh-key", where=path, why="there is no such file")
        key = KeyFile(content, str(path))
        if key.is_locked and key.public.encode() in self._run(["ssh-add", "-L"], b""):
            return AgentKey(key.public, self._run)
        return key

    def _public_in(self, path: Path) -> str | None:
        """The key in a file of public lines; None if it is something else, or not to be read."""
        try:
            content = path.read_bytes() if path.is_file() else _ARMOR.encode()
        except OSError:
            return None
        if _ARMOR.encode() in content:
            return None
        return public_of(content.decode("utf-8", "replace"), str(path))
