"""Prove a set-up by doing: what `coordledger doctor` looks at.

Rules: the server is judged by what it does with two real pushes to
`refs/coordledger-try/<ledger>`: a record signed with this agent's own secret, which a
guarded server verifies and then refuses as a try, and the same one with another MAC,
which has to fail its verification. Every finding is `ok` or says what to do. Nothing is
changed but the remembered kind of enforcement; a try that lands is deleted again.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from coordledger.client.ledger import Ledger, git_at, surroundings
from coordledger.errors import CoordledgerError, RuleBroken, error, printable
from coordledger.format.names import TRIES
from coordledger.format.signing import Signed
from coordledger.git.remote import LOST, UNSENT, WON, local_path
from coordledger.setup import hooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from coordledger.client.config import Options
    from coordledger.git.process import Git
    from coordledger.git.remote import Push

LEAST_GIT = (2, 30)
ENFORCEMENT_NONE = "forged records are detected where the keys are, not prevented"


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `ok` is None where the check does not apply; `do` says what to do."""

    name: str
    ok: bool | None
    found: str
    do: str = ""


def examine(options: Options, environ: Mapping[str, str]) -> list[Check]:
    """All checks, in the order in which a fault would hide the next ones."""
    found: list[Check] = []
    try:
        settings, _, _ = surroundings(options, environ)
        git = git_at(options, environ)  # not bound to this clone: it looks at the server's too
        found.append(_git_version(git))
        unknown = [f"coordledger.{key}" for key in settings.unknown_keys]
        who = f"agent {settings.agent or '-'}, remote {settings.shown_remote}"
        found.append(
            Check(
                "configuration",
                not unknown,
                " ".join(["unknown keys:", *unknown])
                if unknown
                else f"{who}, ledger {settings.ledger}",
                "git config --unset the unknown keys",
            )
        )
        with Ledger.from_options(options, environ) as ledger:
            found += _examine_ledger(ledger, git)
    except CoordledgerError as fault:
        found.append(_failed("set-up", fault))
    return [replace(check, do="") if check.ok else check for check in found]


def _failed(name: str, fault: CoordledgerError) -> Check:
    return Check(name, ok=False, found=fault.message, do=fault.hint or f"see error {fault.code}")


def _attempt(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except CoordledgerError as fault:
        return _failed(name, fault)


def _git_version(git: Git) -> Check:
    said = git.output("version").strip()
    numbers = re.findall(r"\d+", said)
    good = tuple(map(int, numbers[:2])) >= LEAST_GIT
    return Check("git", good, said, "install git 2.30 or newer")


def _examine_ledger(ledger: Ledger, git: Git) -> Iterator[Check]:
    try:
        head = ledger.head()
    except CoordledgerError as fault:
        yield _failed("ledger", fault)
        return
    first = ledger.replica.trusted.first
    below = f", records below {first} not verified (a shallow join)" if first else ""
    yield Check("ledger", ok=True, found=f"{head.ledger}, verified up to {head.seq}{below}")
    key = _attempt("secret", lambda: _secret(ledger))
    yield key
    if key.ok:
        yield from _tries(ledger)
    else:
        yield Check("enforcement", ok=None, found="not tried without a key")
    yield _open_intents(ledger)
    yield _clone_files(ledger, git)
    path = local_path(ledger.remote_url())
    if path and Path(path, "HEAD").exists():
        yield _attempt("server's files", lambda: _server_files(Path(path), ledger, git))


def _secret(ledger: Ledger) -> Check:
    identity = ledger.identity()
    where, _ = ledger.finder.find(identity.agent)
    chain = ledger.replica.position()
    number, _ = identity.key(chain.state, chain.head.seq + 1 if chain.head else 0)
    return Check("secret", ok=True, found=f"{identity.agent}/{number} from {where}, only yours")


# -- the two tries


def _tries(ledger: Ledger) -> Iterator[Check]:
    try:
        real = _try(ledger, forged=False)
        forged = _try(ledger, forged=True) if real.code == "try-ok" else None
    except CoordledgerError as fault:
        yield _failed("enforcement", fault)
        return
    skew = ledger.replica.position().state.skew // 1000
    if real.outcome == WON:
        hooks.note_enforcement(ledger, "none")
        vanished = ledger.replica.trusted.guarded
        yield Check(
            "enforcement",
            ok=False if vanished else None,
            found=f"none; {'its hook is gone; ' if vanished else ''}{ENFORCEMENT_NONE}",
            do="the server's owner runs: coordledger hook install REPO.git",
        )
        return
    if forged is None:
        off = real.code == "clock-skew"
        said = real.why or real.outcome
        do = "check this machine's clock" if off else "ask the server's owner, with this line"
        yield Check("clocks" if off else "enforcement", ok=False, found=said, do=do)
        return
    if forged.code != "bad-signature":
        do = "do not trust this server's ledger; coordledger hook install REPO.git there"
        said = f"the server answered a forged record with: {forged.why or forged.outcome}"
        yield Check("enforcement", ok=False, found=said, do=do)
        return
    hooks.note_enforcement(ledger, "server")
    yield Check(
        "enforcement", ok=True, found="the server admits this key and refuses a forged record"
    )
    yield Check("clocks", ok=True, found=f"within {skew} s of the server's")


def probe(ledger: Ledger) -> str:
    """Find out and remember whether the server enforces the ledger: server, none, unknown."""
    for _ in _tries(ledger):
        pass
    return ledger.replica.trusted.enforcement


def _try(ledger: Ledger, *, forged: bool) -> Push:
    """Push one record to the try ref, on the newest head; delete it where it lands."""
    replica, remote = ledger.replica, ledger.remote
    for _ in range(8):  # somebody else's record may come between
        chain = replica.refresh()
        signed = ledger.writer().sample(chain)
        if forged:
            other = bytes(byte ^ 1 for byte in signed.tag)
            signed = Signed(signed.payload, signed.record, other)
        try:
            proposal = chain.propose(signed)
        except RuleBroken as broken:
            raise broken.own() from None
        ledger.local.repository.write(proposal.objects)
        ref = TRIES + ledger.local.name
        left_over = remote.head(ref)  # on a remote without a hook, by a try that was cut off
        push = remote.push(ref, left_over, proposal.commit.oid)
        if push.outcome == WON:
            remote.push(ref, proposal.commit.oid, None)
        if push.outcome == UNSENT:
            raise error("remote-unreachable", remote=remote.shown, why=push.why)
        if push.outcome != LOST and push.code not in ("not-fast-forward", "bad-push"):
            return push
    raise error("push-refused", why="others' records came between again and again", hint="")


# -- files


def _open_intents(ledger: Ledger) -> Check:
    still = [intent.what for intent in ledger.local.journal.intents() if intent.outcome == "open"]
    found = f"unknown outcome: {printable(', '.join(still))}" if still else "none is open"
    return Check("writes", not still, found, "coordledger resolve")


def _clone_files(ledger: Ledger, git: Git) -> Check:
    """Locks that nobody holds, and what makes git show other objects than there are."""
    common = ledger.local.repository.common_dir
    lock = common / f"{ledger.local.ref}.lock"
    odd = [f"{lock} is there" for _ in [0] if lock.exists()]
    if git.output(f"--git-dir={common}", "for-each-ref", "--count=1", "refs/replace/"):
        odd.append("refs/replace changes what plain git shows")
    grafts = common / "info" / "grafts"
    if grafts.exists():
        odd.append("info/grafts changes what plain git shows")
    do = "remove it; coordledger itself is not misled"
    return Check("clone", not odd, "; ".join(odd) or "no stale lock, nothing planted", do)


def _server_files(path: Path, ledger: Ledger, git: Git) -> Check:
    """Of a remote on this machine: hook, locks, secrets."""
    lock = path / f"{ledger.local.ref}.lock"
    if lock.exists():
        return Check(
            "server's files",
            ok=False,
            found=f"stale lock {lock}",
            do="remove it when no push is running",
        )
    hook = hooks.hook_path(path, git)
    if not hook.exists():
        return Check(
            "server's files",
            ok=False if (path / "coordledger" / "master").exists() else None,
            found=f"no hook at {hook}",
            do=f"coordledger hook install {path}",
        )
    if not os.access(hook, os.X_OK):
        return Check(
            "server's files", ok=False, found=f"{hook} is not executable", do=f"chmod +x {hook}"
        )
    if hooks.MARK not in hook.read_text("utf-8", "replace"):
        return Check(
            "server's files",
            ok=False,
            found=f"{hook} is not coordledger's",
            do=f"coordledger hook install {path}",
        )
    if hooks.takes_shallow(path, git):
        return Check(
            "server's files",
            ok=False,
            found="receive.shallowUpdate lets a push cut the ledger's history",
            do=f"git -C {path} config receive.shallowUpdate false",
        )
    master = path / "coordledger" / "master"
    mode = master.stat().st_mode & 0o777 if master.exists() else 0o600
    if mode & 0o077:
        return Check(
            "server's files",
            ok=False,
            found=f"{master} has mode {mode:04o}",
            do=f"chmod 600 {master}",
        )
    from coordledger.server import daemon  # noqa: PLC0415 - on the server's machine only

    with suppress(OSError):  # another user's folder, or none
        if daemon.hangs(path):
            found = "`coordledger serve` does not answer: every push waits five seconds for it"
            return Check("server's files", ok=False, found=found, do="restart it")
    return Check("server's files", ok=True, found=f"hook at {hook}, no stale lock, master private")
