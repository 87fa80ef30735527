"""Prove a set-up by doing: what `coordledger doctor` looks at.

Rules: the server is judged by what it does with two tries (`client/tries.py`): a record signed
with this agent's own secret, which a guarded server verifies, vouches for what it has, and refuses
as a try; and the same one with another MAC, which has to fail its verification. Every finding is
`ok` or says what to do. Nothing is changed but what is remembered of the server's answers.
"""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from coordledger.client import session_keys, tries
from coordledger.client.config import is_named
from coordledger.client.ledger import Ledger
from coordledger.client.opening import connect, surroundings
from coordledger.client.place import git_at
from coordledger.client.ssh_keys import AgentKey
from coordledger.errors import CoordledgerError, RuleBroken, error, printable
from coordledger.format.names import TRIES
from coordledger.format.signing import Secret, Signed
from coordledger.git.outcome import LOST, UNSENT, WON
from coordledger.setup import hooks, trying
from coordledger.values import Value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from coordledger.client.config import Options, Settings
    from coordledger.client.opening import Connection
    from coordledger.format.chain import Chain, Proposal
    from coordledger.git.outcome import Push
    from coordledger.git.process import Git

DIRECTLY = "records land directly, without a push, as the server on this host would land them"
LEAST_GIT = (2, 30)
_DAY = 86_400  # seconds
ENFORCEMENT_NONE = "forged records are detected where the keys are, not prevented"
COMPARES = "compare-and-swap"
UNAUTHENTICATED = "nothing authenticates it: who is on the way there can vouch in its name"
NOT_COMPARED = "the server takes a push with a wrong old value: two agents can win one task"
NOT_COMPARED_DO = "keep the ledger on a server that runs git's own receive-pack"


class Check(Value):
    """One finding. `ok` is None where the check does not apply; `do` says what to do."""

    name: str
    ok: bool | None
    found: str
    do: str = ""


def _good(name: str, found: str) -> Check:
    return Check(name, ok=True, found=found)


def _bad(name: str, found: str, do: str) -> Check:
    return Check(name, ok=False, found=found, do=do)


def _failed(name: str, fault: CoordledgerError) -> Check:
    return _bad(name, fault.message, fault.hint or f"see error {fault.code}")


def _attempt(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except CoordledgerError as fault:
        return _failed(name, fault)


def examine(options: Options, environ: Mapping[str, str]) -> list[Check]:
    """All checks, in the order in which a fault would hide the next ones."""
    checks: list[Check] = []
    try:
        around = surroundings(options, environ)
        git = git_at(options, environ)  # not bound to this clone: it looks at the server's too
        checks += [_git_version(git), _configured(around.settings)]
        with Ledger(connect(options, environ, around=around)) as ledger:
            checks += _examine_ledger(ledger, git)
            if around.settings.session_keys:
                named = is_named(options, environ)
                checks.append(_session_keys(around.settings, ledger.connection, named=named))
    except CoordledgerError as fault:
        checks.append(_failed("set-up", fault))
    return [check._replace(do="") if check.ok else check for check in checks]


def _git_version(git: Git) -> Check:
    numbers, printed = git.version()
    return Check("git", numbers >= LEAST_GIT, printed, "install git 2.30 or newer")


def _configured(settings: Settings) -> Check:
    return _attempt("configuration", lambda: _configuration(settings))


def _configuration(settings: Settings) -> Check:
    if settings.unknown_keys:
        keys = " ".join(f"coordledger.{key}" for key in settings.unknown_keys)
        do = "git config --unset the unknown keys"
        return _bad("configuration", f"unknown keys: {keys}", do)
    settings.remote.need_one_place()
    who = f"agent {settings.agent or '-'}, remote {settings.remote.shown}"
    return _good("configuration", f"{who}, ledger {settings.ledger}")


def _session_keys(settings: Settings, connection: Connection, *, named: bool) -> Check:
    """Whether each session of a harness has a key of its own, as it was asked for."""
    if named or settings.base_agent != settings.configured_agent:
        found = "on, but the environment says who signs, and by which key: nobody else does"
        do = "unset COORDLEDGER_AGENT and COORDLEDGER_SSH_KEY"
        return Check("session keys", ok=None, found=found, do=do)
    kept = session_keys.kept(settings, connection.local.folder)
    has = sum(one.name == one.delegate for one in kept)
    return _good("session keys", f"on: {has} sessions of this clone sign by a key of their own")


def _examine_ledger(ledger: Ledger, git: Git) -> Iterator[Check]:
    try:
        head = ledger.head()
    except CoordledgerError as fault:
        yield _failed("ledger", fault)
        return
    connection = ledger.connection
    first = connection.oldest
    below = f", records below {first} not verified (a shallow join)" if first else ""
    yield _good("ledger", f"{head.ledger}, verified up to {head.seq}{below}")
    if not connection.settings.remote.authenticates:
        yield Check("server", ok=None, found=UNAUTHENTICATED, do="use ssh or https")
    key = _attempt("secret", lambda: _secret(connection))
    yield key
    yield from _enforcement(connection) if key.ok else _asked(connection)
    yield _open_intents(connection)
    yield _clone_files(connection, git)
    path = connection.settings.remote.folder
    if path and Path(path, "HEAD").exists():
        yield _attempt("server's files", lambda: _server_files(Path(path), connection, git))
        if connection.settings.direct:
            why = connection.why_pushed()
            yield (
                Check("way", ok=None, found=f"by pushes: {why}") if why else _good("way", DIRECTLY)
            )
        yield from _fences(Path(path), git)


def _secret(connection: Connection) -> Check:
    identity = connection.identity()
    chain = connection.replica.position()
    number, key = identity.key(chain.state, chain.next_seq)
    if isinstance(key, Secret):
        where, _ = connection.finder.find(identity.agent, chain.state.ledger["ledger"])
    else:
        where = key.where
    only = "" if isinstance(key, AgentKey) else ", only yours"
    return _good("secret", f"{identity.agent}/{number} from {where}{only}")


def _open_intents(connection: Connection) -> Check:
    still = connection.open_writes()
    found = f"unknown outcome: {printable(', '.join(still))}" if still else "none is open"
    return Check("writes", not still, found, "coordledger resolve")


# -- the two tries


def probe(connection: Connection) -> bool:
    """Find out and remember what the server vouches for. False if it was seen to swap without
    comparing.
    """
    return all(check.name != COMPARES for check in _asked(connection))


def _asked(connection: Connection) -> list[Check]:
    """What a try shows that needs no key."""
    try:
        had_hook = connection.replica.vouches.were_given
        asked = tries.ask(connection)
    except CoordledgerError as fault:
        return [_failed("enforcement", fault)]
    if asked.push.outcome == WON:
        return [_not_enforced(had_hook=had_hook), *_compare_and_swap(connection)]
    if asked.vouch is None:
        return [_no_answer(asked.push)]
    found = f"the server vouches for all up to record {asked.vouch.seq}; not tried without a key"
    return [Check("enforcement", ok=None, found=found)]


def _enforcement(connection: Connection) -> list[Check]:
    try:
        vouches = connection.replica.vouches
        had_hook = vouches.were_given
        real = _try(connection, forged=False)
        vouch = vouches.note_try(real)
        forged = _try(connection, forged=True) if real.code == "try-ok" else None
        if forged:
            vouches.note_try(forged)  # one that lands shows a server that enforces nothing
    except CoordledgerError as fault:
        return [_failed("enforcement", fault)]
    if real.outcome == WON:
        return [_not_enforced(had_hook=had_hook), *_compare_and_swap(connection)]
    if forged is None:
        return [_no_answer(real)]
    if forged.code != "bad-signature":
        do = "do not trust this server's ledger; coordledger hook install REPO.git there"
        found = f"the server answered a forged record with: {forged.why or forged.outcome}"
        return [_bad("enforcement", found, do)]
    if vouch is None:
        do = "its owner installs the hook anew: coordledger hook install REPO.git"
        return [_bad("enforcement", "the server refuses a forged record, but vouches for none", do)]
    skew = connection.replica.position().state.skew // 1000
    return [
        _good("enforcement", "the server admits this key and refuses a forged record"),
        _good("clocks", f"within {skew} s of the server's"),
    ]


def _not_enforced(*, had_hook: bool) -> Check:
    return Check(
        "enforcement",
        ok=False if had_hook else None,
        found=f"none; {'its hook is gone; ' if had_hook else ''}{ENFORCEMENT_NONE}",
        do="the server's owner runs: coordledger hook install REPO.git",
    )


def _compare_and_swap(connection: Connection) -> list[Check]:
    """One more try, of a push whose old value is wrong: what a hook would have refused."""
    replica, remote = connection.replica, connection.remote
    if not remote.speaks_http:
        return []
    ref, chain = TRIES + connection.local.name, replica.position()
    try:
        sample = _sample(connection, chain, forged=False)
        oid, stale = sample.commit.oid, replica.trusted.commit
        push = remote.push(ref, None, oid, tries.payload(connection.repository, sample.objects))
        if push.outcome != WON:
            return []
        try:
            pack = connection.repository.pack({})
            blind = remote.swaps_without_comparing(ref, stale, oid, pack)
        finally:
            remote.push(ref, oid, None)
    except CoordledgerError as fault:
        return [_failed(COMPARES, fault)]
    return [_bad(COMPARES, NOT_COMPARED, NOT_COMPARED_DO)] if blind else []


def _no_answer(real: Push) -> Check:
    """The server refused the real record for another reason than that it is a try."""
    found = real.why or real.outcome
    if real.code == "clock-skew":
        return _bad("clocks", found, "check this machine's clock")
    return _bad("enforcement", found, "ask the server's owner, with this line")


def _try(connection: Connection, *, forged: bool) -> Push:
    """Try one record, on the verified head."""
    replica, left_over = connection.replica, None
    chain = replica.position()
    for _ in range(tries.ATTEMPTS):
        sample = _sample(connection, chain, forged=forged)
        payload = tries.payload(connection.repository, sample.objects)
        signed_at = connection.clock()
        push = tries.attempt(connection, sample.commit.oid, payload, left_over)
        if push.code == "clock-skew" and connection.clock() - signed_at > chain.state.skew // 3:
            continue  # it grew old on the way: no clock need be wrong
        if push.outcome == UNSENT:
            raise error("remote-unreachable", remote=connection.remote.shown, why=push.why)
        if push.outcome != LOST and push.code not in ("not-fast-forward", "bad-push"):
            return push
        # Another record came between; or a try that was cut off left its ref where no hook is.
        chain, left_over = replica.refresh(), tries.left_over(connection)
    raise error("push-refused", why="others' records came between again and again", hint="")


def _sample(connection: Connection, chain: Chain, *, forged: bool) -> Proposal:
    """A record on the chain that changes nothing."""
    signed = connection.writer().sample(chain)
    if forged:
        other = bytes(byte ^ 1 for byte in signed.tag)
        signed = Signed(signed.payload, signed.record, other)
    try:
        return chain.propose(signed)
    except RuleBroken as broken:
        raise broken.own() from None


# -- files


def _clone_files(connection: Connection, git: Git) -> Check:
    """Locks that no process holds, and what makes git show other objects than there are."""
    common = connection.repository.common_dir
    lock, grafts = common / f"{connection.local.ref}.lock", common / "info" / "grafts"
    faults = []
    if lock.exists():
        faults.append(f"{lock} is there")
    if git.output(f"--git-dir={common}", "for-each-ref", "--count=1", "refs/replace/"):
        faults.append("refs/replace changes what plain git shows")
    if grafts.exists():
        faults.append("info/grafts changes what plain git shows")
    do = "remove it; coordledger itself is not misled"
    return Check("clone", not faults, "; ".join(faults) or "no stale lock, nothing planted", do)


def _server_files(path: Path, connection: Connection, git: Git) -> Check:
    """Of a remote on this machine, whose bare repository is at `path`: the first fault."""
    hook = hooks.hook_path(path, git)
    checks: list[Callable[[], Check | None]] = [
        lambda: _stale_lock(path / f"{connection.local.ref}.lock"),
        lambda: _no_hook(path, hook),
        lambda: _hook_without_use(path, hook),
        lambda: _idle_hook(path, git),
        lambda: _shallow_pushes(path, git),
        lambda: _exposed_master(path / "coordledger" / "master"),
        lambda: _silent_process(path),
        lambda: _stopped_upkeep(path, connection.clock()),
        lambda: _sends_whole(path, git),
    ]
    for check in checks:
        fault = check()
        if fault:
            return fault
    return _good("server's files", f"hook at {hook}, no stale lock, master private")


def _fences(path: Path, git: Git) -> Iterator[Check]:
    """What is fenced in a repository on this machine, and whether that is in force."""
    try:
        tried = trying.try_fences(path, git)
    except CoordledgerError as fault:
        yield _failed("fence", fault)
        return
    for one in tried:
        refs = f"ledger {one.ledger}: {one.shown}"
        if one.why:
            yield _bad("fence", one.why, f"coordledger hook install {shlex.quote(str(path))}")
        else:
            yield _good("fence", f"{refs}; tried: none moves without a record")


def _stale_lock(lock: Path) -> Check | None:
    if not lock.exists():
        return None
    return _bad("server's files", f"stale lock {lock}", "remove it when no push is running")


def _stopped_upkeep(path: Path, now: int) -> Check | None:
    """Git's upkeep takes a minute; where its lock is a day old, a crash has left it behind."""
    lock = path / "objects" / "maintenance.lock"
    with suppress(OSError):
        if now / 1000 - lock.stat().st_mtime > _DAY:
            found = f"{lock} is more than a day old: git's upkeep does not run"
            return _bad("server's files", found, f"rm {shlex.quote(str(lock))}")
    return None


def _no_hook(path: Path, hook: Path) -> Check | None:
    if hook.exists():
        return None
    guarded = (path / "coordledger" / "master").exists()
    do = f"coordledger hook install {shlex.quote(str(path))}"
    return Check("server's files", ok=False if guarded else None, found=f"no hook at {hook}", do=do)


def _hook_without_use(path: Path, hook: Path) -> Check | None:
    problem = trying.unusable(path, hook)
    return _bad("server's files", *problem) if problem else None


def _idle_hook(path: Path, git: Git) -> Check | None:
    """What the agent's own two tries cannot tell apart: a hook that does not run, and why."""
    tried = trying.try_hook(path, git)
    return _bad("server's files", tried.why, tried.do) if tried.why else None


def _shallow_pushes(path: Path, git: Git) -> Check | None:
    if not hooks.takes_shallow(path, git):
        return None
    found = "receive.shallowUpdate lets a push cut the ledger's history"
    return _bad("server's files", found, f"git -C {path} config receive.shallowUpdate false")


def _sends_whole(path: Path, git: Git) -> Check | None:
    if hooks.settles_filters(path, git):
        return None
    found = "uploadpack.allowFilter is not set: who follows is sent trees, too"
    do = f"coordledger hook install {shlex.quote(str(path))}"
    return Check("server's files", ok=None, found=found, do=do)


def _exposed_master(master: Path) -> Check | None:
    mode = master.stat().st_mode & 0o777 if master.exists() else 0o600
    if not mode & 0o077:
        return None
    return _bad("server's files", f"{master} has mode {mode:04o}", f"chmod 600 {master}")


def _silent_process(path: Path) -> Check | None:
    from coordledger.server import daemon  # noqa: PLC0415 - on the server's machine only

    with suppress(OSError):  # another user's folder, or none
        if daemon.hangs(path):
            found = "`coordledger serve` does not answer: every push waits five seconds for it"
            return _bad("server's files", found, "restart it")
    return None
