"""Where the repository lives: create it, guard it with the hook, found the ledger.

Rules: a ledger's first commit is written here, by the owner, never by a push to a guarded
repository; nothing that exists is overwritten; a hook that was there is kept and runs
first. Secrets are files of the repository's `coordledger` folder, outside of git's
objects, for the one account that runs the pushes.
"""

from __future__ import annotations

import os
import shlex
import sys
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from coordledger import keyfiles
from coordledger.client.local_state import LocalState, TrustedHead
from coordledger.client.writer import push_error
from coordledger.errors import error
from coordledger.format import records, signing, timestamps
from coordledger.format.chain import Chain
from coordledger.format.names import FOR
from coordledger.format.rules.ledger import POLICY
from coordledger.format.signing import ALG, Keyring, Secret
from coordledger.git.remote import WON
from coordledger.git.repository import Repository, open_bare

if TYPE_CHECKING:
    from collections.abc import Callable

    from coordledger.client.ledger import Ledger
    from coordledger.format.chain import Proposal
    from coordledger.git.process import Git

HOOK = "pre-receive"
CHAINED = "pre-receive.chained"
MARK = "# coordledger pre-receive:"
SEQUENCER = "proc-receive"
SEQUENCER_MARK = "# coordledger proc-receive:"
SEQUENCED = FOR.rstrip("/")
OLDEST_GIT = (2, 29)  # that knows proc-receive
# What makes pushes to a busy ref cheap; said when it is set.
SETTINGS = {"receive.autogc": "false", "core.logAllRefUpdates": "true"}
# Otherwise each push lists all refs once more, as those of the store that its quarantine borrows
# from. Not where there is a real one to borrow from.
NO_ALTERNATES = {"core.alternateRefsCommand": "true"}


def mint() -> Secret:
    """A fresh secret: 32 random bytes in base64."""
    return Secret(b64encode(os.urandom(32)).decode("ascii"))


class First(NamedTuple):
    """What a ledger's first record says, but for keys: `max_skew` in seconds, `now` in
    milliseconds since 1970, `nonce` and `op` fresh random bytes in hex.
    """

    agent: str
    session: str
    max_skew: int
    now: int
    nonce: str
    op: str


def genesis(master: Secret, first: First) -> tuple[signing.Signed, Secret]:
    """The signed first record of a ledger, and the owner's secret."""
    secret = master.derive(first.nonce, first.agent, 1)
    policy = {key: default for key, (default, _, _) in POLICY.items()}
    record = {
        "v": records.VERSION,
        "at": timestamps.show(first.now),
        "agent": first.agent,
        "key": 1,
        "session": first.session,
        "op": first.op,
        "base": None,
        "kind": "genesis",
        "nonce": first.nonce,
        "policy": policy | {"max_skew": first.max_skew},
        "alg": ALG,
        "fingerprint": secret.fingerprint(first.nonce, first.agent, 1),
    }
    record["ledger"] = signing.ledger_id(record)
    return signing.sign(records.check(record), secret), secret


def create_repository(path: Path, git: Git) -> Repository:
    """The bare repository at `path`, created if there is nothing yet.

    Raises `Failed`: not-a-repository if something else is there.
    """
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        git.output("init", "--quiet", "--bare", "--", str(path))
    return open_bare(path, git)


def need_no_ledger(repository: Repository, name: str) -> None:
    """Raises `Failed`: ledger-exists."""
    if repository.ref(LocalState(repository, name).ref) is not None:
        raise error("ledger-exists", remote=repository.git_dir, name=name)


def create_in_repository(
    repository: Repository, name: str, first: First, keep: Callable[[Secret], None]
) -> Proposal:
    """Write the first record into a bare repository.

    The master is minted if the repository has none; `keep` puts the owner's secret into its
    file, before there is a record that names it. Raises `Failed`: ledger-exists.
    """
    need_no_ledger(repository, name)
    local = LocalState(repository, name)
    path = repository.git_dir / "coordledger" / "master"
    masters = keyfiles.read(str(path))
    if masters is None:
        masters = [mint()]
        path.parent.mkdir(mode=0o700, exist_ok=True)
        keyfiles.append(str(path), masters[0])
    signed, secret = genesis(masters[-1], first)
    keep(secret)
    proposal = Chain(repository.read, Keyring(masters), None, repository.algo).propose(signed)
    repository.write(proposal.objects)
    if not repository.add_ref(local.ref, proposal.commit.oid):
        raise error("ledger-exists", remote=repository.git_dir, name=name)
    return proposal


def create_on_remote(ledger: Ledger, first: First, keep: Callable[[Secret], None]) -> None:
    """Push the first record to a remote without a hook.

    The master is kept in the user's configuration; `keep` as in `found_here`. Raises
    `Failed`: ledger-exists, push-refused, …; `OutcomeUnknown`.
    """
    local, remote = ledger.local, ledger.remote
    if remote.head(local.remote_ref) is not None:
        raise error("ledger-exists", remote=remote.shown, name=local.name)
    master = mint()
    signed, secret = genesis(master, first)
    keep(secret)
    ledger_id = signed.record["ledger"]
    keyfiles.append(str(ledger.settings.config_dir / "masters" / ledger_id), master)
    proposal = Chain(local.repository.read, Keyring([master]), None, local.repository.algo).propose(
        signed
    )
    local.repository.write(proposal.objects)
    push = remote.push(local.remote_ref, None, proposal.commit.oid)
    if push.outcome != WON:
        raise push_error(push, remote)
    head = proposal.commit
    trusted = TrustedHead(ledger_id, head.oid, head.seq, head.digest, enforcement="none")
    local.adopt(trusted, [(0, head.oid)])


def install_hook(
    path: Path, git: Git, *, python: str = sys.executable, sequence: bool | None = None
) -> list[str]:
    """Put the hook into the bare repository at `path`; what was done, a line each.

    `sequence` switches sequencing on or off; None leaves it as it is. Raises `Failed`:
    not-a-repository, bad-value, no-git.
    """
    open_bare(path, git)
    if sequence:
        _need_sequencing(path, git)
    done = []
    asked = ("-C", str(path), "config", "--show-scope", "--get", "core.hooksPath")
    scope, _, elsewhere = git.run(*asked, hooks=None).out.strip().partition("\t")
    if not elsewhere:
        # On a path that many users push to, one user's own hooks path would hide this hook.
        git.output("-C", str(path), "config", "core.hooksPath", "hooks")
        done.append("set core.hooksPath=hooks")
    elif scope != "local":
        done.append(f"core.hooksPath is {scope}: every repository there has this hook now")
    hook = hook_path(path, git)
    hook.parent.mkdir(exist_ok=True)
    chained = hook.with_name(CHAINED)
    real = os.path.realpath(python)
    fresh = _fresh_shim(hook, real)
    if hook.exists() and MARK not in hook.read_text("utf-8", "replace"):
        if chained.exists():
            fresh.unlink()
            raise error("bad-value", what=str(chained), why="is there already: merge them by hand")
        chained.hardlink_to(hook)  # there is no moment without a hook
        done.append(f"kept the hook that was there as {chained}; it runs first")
    fresh.replace(hook)
    done.append(f"installed {hook}, run by {real}")
    strays = git.output("-C", str(path), "for-each-ref", "--format=%(refname)", f"{SEQUENCED}/")
    for ref in strays.split():  # made while there was no hook; clients would take it for a rival
        git.output("-C", str(path), "update-ref", "-d", ref)
        done.append(f"removed {ref}, which only a server without this hook could have made")
    if real == os.path.realpath(sys.executable) and not _compile():
        what = f"{real} -m compileall {Path(__file__).parent.parent}"
        done.append(
            f"every push compiles the hook, until somebody who may write there runs: {what}"
        )
    secrets = path / "coordledger"
    if secrets.is_dir() and secrets.stat().st_mode & 0o077:
        secrets.chmod(0o700)
        done.append(f"chmod 700 {secrets}")
    borrows = (path / "objects" / "info" / "alternates").exists()
    for name, value in (SETTINGS if borrows else SETTINGS | NO_ALTERNATES).items():
        if not git.run("-C", str(path), "config", "--get", name).out.strip():
            git.output("-C", str(path), "config", name, value)
            done.append(f"set {name}={value}")
    if takes_shallow(path, git):
        git.output("-C", str(path), "config", "receive.shallowUpdate", "false")
        done.append("set receive.shallowUpdate=false: a push could have cut the ledger's history")
    return done + _sequencing(path, git, real, sequence)


def _fresh_shim(hook: Path, python: str) -> Path:
    """The text of the hook that `hook` names, filled in, in a file beside it."""
    package = str(Path(__file__).resolve().parents[2])
    text = _shim(hook.name).read_text("utf-8")
    text = text.replace("@PYTHON@", shlex.quote(python)).replace("@PACKAGE@", shlex.quote(package))
    fresh = hook.with_name(f"{hook.name}.{os.getpid()}.new")
    fresh.write_text(text, "utf-8")
    fresh.chmod(0o755)
    return fresh


def _need_sequencing(path: Path, git: Git) -> None:
    """Raises `Failed`: no-git if git is too old, bad-value if the hook's place is taken."""
    version = git.output("version").split()[2]
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < OLDEST_GIT:
        raise error("no-git", why=f"version {version} knows no proc-receive hook, 2.29 does")
    hook = hook_path(path, git, SEQUENCER)
    if hook.exists() and SEQUENCER_MARK not in hook.read_text("utf-8", "replace"):
        raise error("bad-value", what=str(hook), why="is there already: git runs only one")


def _sequencing(path: Path, git: Git, python: str, sequence: bool | None) -> list[str]:
    """Switch it on or off, or keep it as it is, with the hook's newest text."""
    hook, done = hook_path(path, git, SEQUENCER), []
    ours = hook.exists() and SEQUENCER_MARK in hook.read_text("utf-8", "replace")
    asked = ("config", "--local", "--get-all", "receive.procReceiveRefs")
    named = SEQUENCED in git.run("-C", str(path), *asked).out.split()
    if sequence is False:
        if named:
            every = ("receive.procReceiveRefs", f"^{SEQUENCED}$")
            git.output("-C", str(path), "config", "--local", "--unset-all", *every)
            done.append(f"unset receive.procReceiveRefs={SEQUENCED}: pushes there are refused")
        if ours:
            hook.unlink()
            done.append(f"removed {hook}")
    elif sequence or (ours and named):
        _fresh_shim(hook, python).replace(hook)
        done.append(f"installed {hook}, run by {python}")
        if not named:
            every = ("receive.procReceiveRefs", SEQUENCED)
            git.output("-C", str(path), "config", "--local", "--add", *every)
            done.append(f"set receive.procReceiveRefs={SEQUENCED}")
    return done


def _compile() -> bool:
    """Cache the bytecode of this package, as the account that runs the hook may not be able to."""
    import compileall  # noqa: PLC0415 - its import takes longer than what most commands do

    return bool(compileall.compile_dir(Path(__file__).parent.parent, quiet=2))


def takes_shallow(path: Path, git: Git) -> bool:
    """Whether a push may declare commits parentless there: below it, nobody could fetch more."""
    asked = ("config", "--type=bool", "--get", "receive.shallowUpdate")
    return git.run("-C", str(path), *asked).out.strip() == "true"


def hook_path(path: Path, git: Git, name: str = HOOK) -> Path:
    """Where git looks for the hook when somebody pushes to `path`: follows core.hooksPath."""
    said = git.run("-C", str(path), "rev-parse", "--git-path", "hooks", hooks=None).out.strip()
    return path / said / name


def asks_resident(path: Path, git: Git) -> bool:
    """Whether the hook at `path` asks `coordledger serve`: older ones do not."""
    hook = hook_path(path, git)
    return hook.exists() and "coordledger/socket" in hook.read_text("utf-8", "replace")


def _shim(name: str) -> Path:
    """The hook's text: beside this file in a wheel, below hooks/ in a checkout."""
    here = Path(__file__).resolve().parent.parent
    found = next((p for p in (here / name, here.parent / "hooks" / name) if p.is_file()), None)
    if found is None:
        raise error("internal", why="the hook's text is missing from the installation")
    return found


def configure(git: Git, settings: dict[str, str], file: Path | None) -> None:
    """Write `coordledger.*` into the clone's configuration, or into `file`."""
    where = ["--local"]
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        where = ["--file", str(file)]
    for name, value in settings.items():
        git.output("config", *where, f"coordledger.{name}", value)


def note_enforcement(ledger: Ledger, enforcement: str) -> None:
    """Remember what a try has shown: server, none or unknown."""
    local = ledger.local
    with local.lock(ledger.replica.git.deadline):
        known = ledger.replica.trusted
        guarded = known.guarded or enforcement == "server"
        local.save(known._replace(enforcement=enforcement, guarded=guarded))
