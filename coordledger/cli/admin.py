"""Commands that set things up: ledgers, agents, the policy, the hook.

Rules: a secret is never printed, only the path of its file; what cannot be undone is asked
about, and where nobody can be asked it has to be said with a flag.
"""

from __future__ import annotations

import os
import shlex
import sys
from typing import TYPE_CHECKING

import click

from coordledger import bench as benches
from coordledger.errors import FAILED, Failed, error
from coordledger.format.names import is_below

from . import params
from .common import NAME, ask_passphrase, command, group, leave_history, root
from .output import NOT_ENFORCED, safe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta
    from pathlib import Path

    from coordledger.client.ledger import Ledger
    from coordledger.client.reports import Agent, Purged
    from coordledger.format.signing import Secret
    from coordledger.setup.verifying import VerifiedLedger

    from .common import App
    from .output import Screen

branch_option = click.option(
    "--branch", metavar="NAME", help="Keep the ledger on this branch, so that a host's rules hold."
)
agent_option = click.option("--agent", "me", type=params.AGENT, metavar="AGENT", help="Who I am.")
who_argument = click.argument("who", type=params.AGENT, metavar="AGENT")
secret_option = click.option("--secret-file", metavar="FILE", help="Take the secret from FILE.")
public_option = click.option(
    "--ssh-key", metavar="LINE-OR-FILE", help="Its public SSH key: no secret is made, or carried."
)


@command(
    "init",
    parent=root,
    example="coordledger init /srv/git/project.git --agent alice",
)
@click.argument("path")
@agent_option
@branch_option
@click.option(
    "--max-skew",
    type=params.SPAN,
    default="30s",
    show_default=True,
    help="How far clocks may be apart; for ever.",
)
@click.option(
    "--ssh-key",
    metavar="KEY",
    is_flag=False,
    flag_value="new",
    help="No master and no secret: an SSH key signs, a new one if none is named.",
)
def init(
    app: App,
    path: str,
    me: str | None,
    branch: str | None,
    max_skew: timedelta,
    ssh_key: str | None,
) -> None:
    """Found a ledger in a bare repository.

    Run it where the repository lives; PATH is created if absent, and AGENT owns it. A URL
    without a hook is taken too: the ledger works there, but nothing enforces it.
    """
    from coordledger.setup import genesis  # noqa: PLC0415 - help needs none

    app.agent, app.branch, app.ssh_key = me or app.agent, branch, ssh_key
    whole = max_skew.total_seconds()
    founded = genesis.init(app.options(), os.environ, path, int(whole), ask_passphrase)
    command_line = f"in a clone: {NAME} join {founded.repository} --agent {founded.agent}"
    more = f" --ledger {app.ledger_name}" if app.ledger_name else ""
    more += f" --branch {branch}" if branch else ""
    step = f"{NAME} agent add NAME"
    if founded.master:
        master = f"{safe(founded.master)} (0600): whoever reads it can sign for everybody"
    else:
        master, step = "none: all can verify, and nobody sign for another", f"{step} --ssh-key LINE"
    app.screen.value_of(founded)
    for line in founded.done:
        app.screen.line(safe(line))
    app.screen.fields(
        ("ledger", founded.ledger),
        ("in", safe(f"{founded.repository} {founded.ref}")),
        ("owner", founded.agent),
        ("secret" if founded.master else "SSH key", f"{safe(founded.secret)} (0600)"),
        ("master", master),
        ("enforcement", _enforcement(founded.enforcement, founded.why)),
        ("next", step if founded.configured else safe(command_line + more)),
        ("others", safe(f"{NAME} join …{more}") if founded.configured and more else ""),
    )
    if founded.do:
        app.screen.note(f"hint: {safe(founded.do)}")


def _enforcement(enforcement: str, why: str = "") -> str:
    if why:
        return f"{enforcement}: {safe(why)}"
    return NOT_ENFORCED if enforcement == "none" else enforcement


@command(
    "join",
    parent=root,
    example="coordledger join git@host:project.git --agent bob --secret-file bob.secret",
)
@click.argument("remote", required=False)
@agent_option
@secret_option
@branch_option
@click.option("--new-key", is_flag=True, help="Make an SSH key, if I have none here.")
@click.option("--depth", type=click.IntRange(min=1), metavar="N", help="Only the newest records.")
@click.option("--pin", metavar="LEDGER-ID|SEQ:DIGEST", help="Refuse any other history.")
@click.option("--reset", is_flag=True, help="Leave the verified history for the remote's.")
@click.option("--yes", is_flag=True, help="Answer yes to what --reset asks.")
def join(
    app: App,
    remote: str | None,
    me: str | None,
    secret_file: str | None,
    branch: str | None,
    new_key: bool,
    depth: int | None,
    pin: str | None,
    reset: bool,
    yes: bool,
) -> None:
    """Enter a ledger: fetch it, verify it, remember its head.

    REMOTE is a remote's name, a path or a URL; without it the remote that is configured.
    """
    from coordledger.setup import joining  # noqa: PLC0415 - help needs none

    app.agent, app.branch = me or app.agent, branch
    app.joins_on_trust = depth is not None
    if reset:
        _reset(app, joining.absolute(app.options(), os.environ, remote), yes=yes)
    joined = joining.join(
        app.options(),
        os.environ,
        remote,
        secret_file=app.file(secret_file) if secret_file else None,
        new_key=new_key,
        depth=depth,
        pin=pin,
        progress=app.screen.progress,
        warn=app.screen.warn,
        passphrase=ask_passphrase,
    )
    by = f" --ssh-key {shlex.quote(joined.public)}" if joined.public else ""
    enrols = f"an admin runs `{NAME} agent add {joined.agent}{by}`"
    makes = f"make one: `{NAME} key new --agent {joined.agent}`; or {enrols}, and brings its secret"
    rotates = f"an admin runs `{NAME} agent rotate {joined.agent}{by}`"
    key = {
        "ready": "ready",
        "no-secret": f"none: join again with --secret-file and what `{NAME} agent add` wrote",
        "unknown-key": f"not one of the ledger's: {rotates}",
        "revoked": f"revoked: {enrols}",
        "not-enrolled": f"none: {enrols if by else makes}",
    }
    app.screen.value_of(joined)
    app.screen.fields(
        ("ledger", joined.head.ledger),
        ("at", safe(joined.remote)),
        ("head", f"{joined.head.seq}:{joined.head.digest}"),
        ("history", "" if joined.whole else "only the newest records; older ones are unverified"),
        ("agent", joined.agent),
        ("key", safe(key[joined.key])),
        ("enforcement", _enforcement(joined.enforcement)),
        ("remembered", safe(joined.configured)),
    )


def _reset(app: App, remote: str, *, yes: bool) -> None:
    with app.ledger(remote=remote) as ledger:
        leave_history(app, ledger, yes=yes)


# -- agents

agents = group(
    "agent",
    parent=root,
    example="coordledger agent add bob",
    doc="Enrol agents, list them, change and revoke their keys.",
)


def _known(ledger: Ledger, who: str) -> Agent | None:
    """The agent, if it has a valid key."""
    return next((one for one in ledger.agents() if one.agent == who and one.active), None)


def _given(app: App, file: str | None) -> Secret | None:
    from coordledger import keyfiles  # noqa: PLC0415 - help needs none

    if file is None:
        return None
    found = keyfiles.read(str(app.file(file)))
    if not found:
        raise error("bad-secret", where=file, why="there is no such file")
    return found[-1]


def _enroll(
    app: App,
    who: str,
    *,
    admin: bool = False,
    secret_file: str | None,
    ssh_key: str | None,
    new: bool,
) -> None:
    """What `add` (of an agent that is `new`) and `rotate` have in common."""
    from pathlib import Path  # noqa: PLC0415

    from coordledger.client.administration import enrolled_before  # noqa: PLC0415
    from coordledger.client.ssh_keys import fingerprint, given_public  # noqa: PLC0415

    if secret_file and ssh_key:
        raise click.UsageError("--secret-file and --ssh-key: one of them")
    secret = _given(app, secret_file)
    public = given_public(ssh_key, app.options().path) if ssh_key else None
    done = "enrolled" if new else "rotated"
    from coordledger.format.signing import SSH  # noqa: PLC0415 - help needs none

    with app.ledger(writes=True) as ledger:
        known = _known(ledger, who)
        if not known and not new:
            raise error("unknown-agent", who=who)
        if known and new:
            both = ledger.connection, lambda one: one == who
            earlier = None if secret else enrolled_before(*both, public)
            if earlier is None:
                raise error("agent-exists", who=who)
            path = Path(earlier.where)
        elif public:
            ledger.enroll_ssh(who, f"{SSH} {public}", admin=admin)
        else:
            newest = [key.alg for key in known.keys if key.until_seq is None] if known else []
            if newest[-1:] == [SSH] and secret is None:
                raise error(
                    "bad-value", what=who, why="it signs with an SSH key: give --ssh-key LINE"
                )
            path = ledger.enroll(who, admin=admin, secret=secret)
    if public:
        app.screen.value({"agent": who, "secret": None, "fingerprint": fingerprint(public)})
        app.screen.line(f"{done} {who} by {fingerprint(public)}: nothing to carry anywhere")
    else:
        _wrote(app, done, who, path, brought=secret is not None)


def _wrote(app: App, done: str, who: str, path: Path, *, brought: bool) -> None:
    app.screen.value({"agent": who, "secret": str(path)})
    app.screen.line(f"{done} {who}; its secret: {safe(path)} (0600)")
    app.screen.line(f"carry that file to {who}'s host by another way than git")
    if brought:
        app.screen.line(f"and to the server, as REPO.git/coordledger/{who}.secret, mode 0600")


@command("add", parent=agents, example="coordledger agent add bob")
@who_argument
@click.option("--admin", is_flag=True, help="It may enrol and revoke, too.")
@secret_option
@public_option
def add(app: App, who: str, admin: bool, secret_file: str | None, ssh_key: str | None) -> None:
    """Enrol AGENT, by its public SSH key or by a secret. The secret is written to a file."""
    _enroll(app, who, admin=admin, secret_file=secret_file, ssh_key=ssh_key, new=True)


@command("rotate", parent=agents, example="coordledger agent rotate bob")
@who_argument
@secret_option
@public_option
def rotate(app: App, who: str, secret_file: str | None, ssh_key: str | None) -> None:
    """Give AGENT a new key. The old one stays valid until it is revoked."""
    _enroll(app, who, secret_file=secret_file, ssh_key=ssh_key, new=False)


@command("delegate", parent=agents, example="coordledger agent delegate    # for one session")
@click.argument("name", metavar="[NAME]", required=False)
@click.option("--ssh", is_flag=True, help="By an SSH key, also if mine is a secret.")
def delegate(app: App, name: str | None, ssh: bool) -> None:
    """Enrol a delegate of mine, ME.NAME, with a key of its own.

    Without NAME it gets a random one. It signs as itself and as nobody else. I can revoke it, and
    it ends with my key.
    """
    from coordledger.format.signing import SSH  # noqa: PLC0415 - help needs none

    with app.ledger(writes=True) as ledger:
        made = ledger.delegate(name, ssh=ssh)
    what = "SSH key" if made.alg == SSH else "secret"
    app.screen.value_of(made)
    app.screen.line(f"enrolled {made.agent}; its {what}: {safe(made.where)} (0600)")
    app.screen.line(f"its session sets COORDLEDGER_AGENT={made.agent}, and reads no key but this")


@command("revoke", parent=agents, example="coordledger agent revoke bob --key 1")
@who_argument
@click.option("--key", type=int, metavar="N", help="Only this key; else all of them.")
@click.option("--purge", is_flag=True, help="Undo what it holds, offered, and set as facts.")
def revoke(app: App, who: str, key: int | None, purge: bool) -> None:
    """Revoke AGENT's keys; its delegates end with them. What they have signed stays valid."""
    if purge and key is not None:
        raise click.UsageError("--purge goes with all keys: no --key")
    with app.ledger(writes=True) as ledger:
        if purge:
            _purged(app.screen, ledger.purge(who))
            return
        before = [one.agent for one in ledger.agents() if one.active]
        revoked = ledger.revoke(who, key)
        active = {one.agent for one in ledger.agents() if one.active}
        ended = [name for name in before if is_below(name, who) and name not in active]
        held = ledger.some_tasks(["claimed"], who).tasks
    app.screen.value({"agent": who, "revoked": revoked, "ended": ended})
    _revoked(app.screen, who, revoked, ended)
    for one in held if who not in active else ():
        app.screen.line(f"it still holds {safe(one.task)}: {NAME} release {safe(one.task)} --force")


def _revoked(screen: Screen, who: str, numbers: Sequence[int], ended: Sequence[str]) -> None:
    names = " ".join(f"{who}/{number}" for number in numbers)
    screen.line(f"revoked {names}" if names else f"{who} has no valid key")
    if ended:
        screen.line(f"with it ended {' '.join(ended)}")


def _purged(screen: Screen, purged: Purged) -> None:
    screen.value_of(purged)
    _revoked(screen, purged.agent, purged.revoked, purged.ended)
    facts = f", removed {len(purged.facts)} facts" if purged.facts else ""
    facts += f", freed {len(purged.freed)} from waiting" if purged.freed else ""
    screen.line(f"gave back {len(purged.released)}, withdrew {len(purged.withdrawn)}{facts}")
    for task in purged.left:
        screen.line(f"somebody else holds {safe(task)}, which it offered")


@command("list", parent=agents, example="coordledger agent list")
def list_(app: App) -> None:
    """List the agents and their keys."""
    from coordledger.client.ssh_keys import fingerprint  # noqa: PLC0415 - help needs none
    from coordledger.format.signing import SSH  # noqa: PLC0415 - help needs none

    with app.ledger() as ledger:
        found = ledger.agents()
    app.screen.value_of(found)
    rows = [
        [
            "  " * one.agent.count(".") + one.agent,
            one.role,
            f"{key.id}",
            "valid" if key.until_seq is None else f"revoked at {key.until_seq}",
            f"{key.from_seq}",
            fingerprint(key.verifier) if key.alg == SSH else key.verifier[:16],
        ]
        for one in found
        for key in one.keys
    ]
    app.screen.table(["AGENT", "ROLE", "KEY", "STATUS", "FROM", "FINGERPRINT"], rows, elastic=(0,))


@command(
    "policy",
    parent=root,
    example="coordledger policy max_ttl=7200",
)
@click.argument("changes", type=params.Pair(int), nargs=-1, metavar="[KEY=VALUE]...")
def policy(app: App, changes: tuple[tuple[str, int], ...]) -> None:
    """Show the ledger's limits, or change them (as an admin). Times are seconds."""
    with app.ledger(writes=bool(changes)) as ledger:
        found = ledger.policy(**dict(changes))
    app.screen.value(found)
    app.screen.fields(*((safe(key), safe(value)) for key, value in sorted(found.items())))


# -- the hook

hooks = group(
    "hook",
    parent=root,
    example="coordledger hook install /srv/git/project.git",
    doc="The server's side: what verifies every push.",
)


@command("install", parent=hooks, example="coordledger hook install /srv/git/project.git")
@click.argument("repository", metavar="REPO.git")
@click.option(
    "--sequence/--no-sequence",
    default=None,
    help="Put records on the newest head as they arrive (git 2.29), or stop doing so.",
)
@click.option(
    "--fence",
    multiple=True,
    metavar="REF",
    help="Let REF (refs/heads/main, refs/heads/release/*) move only under a claim.",
)
@click.option(
    "--no-fence", is_flag=True, help="Take all fences of the ledger away, before --fence."
)
@click.option(
    "--fence-paths/--no-fence-paths",
    default=None,
    help="Refuse there what touches the paths of others' live claims, or no longer.",
)
def install(
    app: App,
    repository: str,
    sequence: bool | None,
    fence: tuple[str, ...],
    no_fence: bool,
    fence_paths: bool | None,
) -> None:
    """Put the hook into a bare repository. One that is there is kept and runs first."""
    from coordledger.setup import hooks, trying  # noqa: PLC0415 - help needs none

    path, git = app.file(repository).absolute(), app.git()
    asked = None
    if fence or no_fence or fence_paths is not None:
        asked = hooks.Fence(app.ledger_name or "main", fence, no_fence, fence_paths)
    done = hooks.install_hook(path, git, sequence=sequence, fence=asked)
    for line in done:
        app.screen.line(safe(line))
    tried = trying.try_hook(path, git)
    if tried.why:
        raise error("hook-not-run", path=path, why=tried.why, do=tried.do)
    fences = hooks.fences(path)
    app.screen.value(
        {
            "repository": str(path),
            "done": done,
            "enforcement": tried.enforcement,
            "fenced": [
                {"ledger": name, "ref": ref, "paths": name in fences.paths}
                for name, refs in fences.patterns.items()
                for ref in refs
            ],
        }
    )
    app.screen.line("tried: it refuses what is no record")
    for one in trying.try_fences(path, git):
        if one.why:
            do = "look at core.hooksPath, and at hooks that run first"
            raise error("hook-not-run", path=path, why=one.why, do=do)
        app.screen.line(f"tried: none moves without a record: {one.shown}")
    _verify(app, path, None, full=False)


@command("verify", parent=hooks, example="coordledger hook verify /srv/git/project.git")
@click.argument("repository", metavar="REPO.git")
@click.option("--full", is_flag=True, help="From the first record on, whatever was verified.")
def verify(app: App, repository: str, full: bool) -> None:
    """Verify what came in while no hook was there.

    Run it as the account that receives the pushes. The hook does the same by itself for up to
    1,024 records, and refuses all pushes where there are more, or a bad one.
    """
    found = _verify(app, app.file(repository).absolute(), app.ledger_name, full=full)
    app.screen.value({"ledgers": [one._asdict() for one in found]})


def _verify(app: App, path: Path, name: str | None, *, full: bool) -> list[VerifiedLedger]:
    """Verify the ledger `name`, or all that are there, and say so."""
    from coordledger.setup.verifying import VerifiedRepository  # noqa: PLC0415 - help needs none

    found = []
    with VerifiedRepository(path, os.environ) as there:
        for one in [name] if name else there.ledgers():
            found.append(there.verify(one, full=full, progress=app.screen.progress))
            new, up_to = found[-1].records, f"{found[-1].seq}:{found[-1].digest}"
            app.screen.line(f"verified ledger {safe(one)} up to {up_to}, {new} records of it now")
    return found


@command(
    "pre-receive",
    parent=hooks,
    example="coordledger hook pre-receive < list-of-refs    # git runs it",
)
def pre_receive(app: App) -> int:
    """Judge a push, as git's pre-receive hook."""
    from coordledger.server import pre_receive  # noqa: PLC0415 - help needs none

    return pre_receive.main(dict(os.environ))


@command(
    "proc-receive",
    parent=hooks,
    example="coordledger hook proc-receive    # git runs it and talks to it",
)
def proc_receive(app: App) -> int:
    """Land records in sequence, as git's proc-receive hook."""
    from coordledger.server import proc_receive  # noqa: PLC0415 - help needs none

    return proc_receive.main(dict(os.environ))


@command("serve", parent=root, example="coordledger serve /srv/git/project.git")
@click.argument("repositories", metavar="REPO.git...", nargs=-1, required=True)
def serve(app: App, repositories: tuple[str, ...]) -> None:
    """Answer for the hooks of repositories: cheaper pushes.

    Run it as the account that receives the pushes, until a signal ends it. The hook asks it
    where it is there and does the same work by itself where it is not.
    """
    from coordledger.server import daemon  # noqa: PLC0415
    from coordledger.setup import hooks  # noqa: PLC0415

    def ready(paths: list[Path]) -> None:
        app.screen.value({"serving": [str(path) for path in paths]})
        for path in paths:
            if not hooks.asks_resident(path, app.git()):
                app.screen.note(f"its hook does not ask: {NAME} hook install {safe(path)}")
            app.screen.line(f"serving {safe(path)}")
        sys.stdout.flush()

    daemon.main([app.file(name).absolute() for name in repositories], dict(os.environ), ready)


# -- trying it out


@command("doctor", parent=root, example="coordledger doctor")
def doctor(app: App) -> int:
    """Check the set-up by trying it out. The server has to refuse the tries."""
    from coordledger.client.claims import to_json  # noqa: PLC0415
    from coordledger.setup import doctor as examiner  # noqa: PLC0415 - help needs none

    from .connect import harness_findings  # noqa: PLC0415

    screen = app.screen
    checks = examiner.examine(app.options(), os.environ)
    checks += [examiner.Check(*finding) for finding in harness_findings(app)]
    failed = sum(check.ok is False for check in checks)
    screen.value({"ok": not failed, "checks": to_json(checks)})
    for check in checks:
        word = {True: "ok", False: "FAIL", None: "-"}[check.ok]
        advice = f" -> {safe(check.do)}" if check.do and check.ok is False else ""
        mark = screen.styled(word, f"{word:<4}")
        screen.line(f"{mark} {safe(check.name)}: {safe(check.found)}{advice}")
    if failed and not screen.json:
        screen.error(error("doctor-failed", count=failed))
    return FAILED if failed else 0


@command("demo", parent=root, example="coordledger demo")
def demo(app: App) -> None:
    """Watch agents race, talk and forge, on its own remote."""
    from coordledger.cli import demo as stage  # noqa: PLC0415 - help needs none

    stage.run(app.screen.line, colour=app.screen.colourful)
    app.screen.value({"ok": True})


@command("bench", parent=root, example="coordledger bench write contention")
@click.argument("suites", type=click.Choice(benches.SUITES), nargs=-1, metavar="[SUITE]...")
@click.option("--rounds", type=click.IntRange(min=1), metavar="N", help="How often; by suite.")
def bench(app: App, suites: tuple[str, ...], rounds: int | None) -> None:
    """Measure what claims cost here, beside plain git.

    Suites: write, http, contention, compare, batch, pages, scale, ledgers, keys, tasks, fence,
    follow, parts; without any: write, contention and batch, about a minute.
    """
    from coordledger.bench.suites import measure  # noqa: PLC0415 - help needs none

    screen = app.screen
    found = measure(suites or benches.DEFAULT, rounds, screen.progress)
    screen.value(found)
    screen.fields(*((name, safe(fact)) for name, fact in found["machine"].items()))
    for name, suite in found["suites"].items():
        if not suite["rows"]:
            continue
        screen.line(f"\n{name}, rounds: {suite['rounds']}")
        columns = list(dict.fromkeys(column for row in suite["rows"] for column in row))
        shown = [[safe(row.get(column, "-")) for column in columns] for row in suite["rows"]]
        screen.table([benches.TITLES.get(column, column) for column in columns], shown)
    for out in found["left_out"]:
        screen.line(f"left out: {out['suite']}, {out['what']}: {out['why']}")


@command(
    "completion",
    parent=root,
    example='eval "$(coordledger completion bash)"',
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), required=False)
def completion(app: App, shell: str | None) -> None:
    """Print a shell's completion script."""
    from click.shell_completion import get_completion_class  # noqa: PLC0415

    from .completing import register  # noqa: PLC0415

    register()
    name = shell or os.environ.get("SHELL", "bash").rsplit("/", maxsplit=1)[-1]
    found = get_completion_class(name)
    if found is None:
        raise Failed("bad-value", f"no completion for {safe(name)}", "bash, zsh or fish")
    script = found(root, {}, NAME, "_COORDLEDGER_COMPLETE").source()
    app.screen.value({"shell": name, "script": script})
    app.screen.line(script)
