"""What a clone believes: everything is verified first, and it never goes back."""

from __future__ import annotations

import shutil
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.attacker import opened, plain, second_opinion
from support.fleet import LEDGER_REF

from coordledger.client.config import Options
from coordledger.client.ledger import Ledger
from coordledger.errors import CoordledgerError, Failed, Integrity
from coordledger.setup import joining
from coordledger.setup.genesis import mint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from support.attacker import Attacker
    from support.fleet import Fleet

INCOMING = "refs/coordledger-incoming/main"


def remembered(clone: Path, fleet: Fleet) -> tuple[bytes, str]:
    """What a clone believes, on disk."""
    trusted = clone / ".git/coordledger/main/trusted.json"
    refs = fleet.git("for-each-ref", "refs/coordledger", cwd=clone)
    return trusted.read_bytes() if trusted.exists() else b"", refs


def unguard(fleet: Fleet) -> Fleet:
    """A server that lets everything in."""
    (fleet.remote / "hooks/pre-receive").unlink()
    return fleet


@pytest.fixture(scope="module")
def open_town(founded: Callable[..., Fleet]) -> Fleet:
    """Alice's ledger on a server without a hook, with bob, and a little history."""
    fleet = unguard(founded(max_skew=30))  # not a copy: no clone has ever seen a hook there
    fleet.enroll("bob")
    for task in ("one", "two", "held"):
        fleet.ledger("alice").claim(task)
    return fleet


@pytest.fixture
def open_fleet(open_town: Fleet) -> Iterator[Fleet]:
    """The same, and afterwards the server is put back to where it was."""
    head, code = open_town.head(), open_town.git("for-each-ref", "refs/tags")
    memory = open_town.clone("alice") / ".git/coordledger/main/trusted.json"
    believed = memory.read_bytes()
    yield open_town
    assert code == ""
    open_town.git("update-ref", "-d", "refs/tags/x")
    (open_town.remote / LEDGER_REF).write_text(head + "\n")
    memory.write_bytes(believed)
    open_town.git("update-ref", LEDGER_REF, head, cwd=open_town.clone("alice"))


@pytest.fixture
def open_forge(open_fleet: Fleet, attacker_for: Callable[[Fleet], Attacker]) -> Attacker:
    return attacker_for(open_fleet)


def fresh(fleet: Fleet, name: str, *args: str) -> Path:
    """A clone that has not joined anything."""
    path = fleet.root / name
    fleet.git("clone", "--quiet", *args, fleet.remote, path)
    return path


def join(fleet: Fleet, path: Path, agent: str = "bob", **kw: Any) -> joining.Joined:
    return joining.join(Options(path=path, agent=agent), fleet.env, "origin", **kw)


def integrity(act: Callable[..., Any], *args: Any, **kw: Any) -> str:
    """The slug of the integrity error that `act` raises."""
    with pytest.raises(Integrity) as caught:
        act(*args, **kw)
    assert caught.value.exit_code == 4
    assert caught.value.message.isascii()
    assert caught.value.message.isprintable()
    return caught.value.code


# -- first contact and later ones


def test_a_first_contact_verifies_everything_and_later_ones_what_is_new(
    shared_fleet: Fleet,
) -> None:
    bob = shared_fleet.ledger("bob")
    bob.submit("seen-first")
    path = fresh(shared_fleet, "newcomer")
    assert join(shared_fleet, path).head.commit == shared_fleet.head()
    newcomer = opened(shared_fleet, path, "bob")
    assert newcomer.show("seen-first").verdict == "authentic"
    bob.submit("seen-later")
    progress: list[int] = []
    watched = opened(shared_fleet, path, "bob", progress=lambda *a: progress.append(1))
    assert watched.show("seen-later").verdict == "authentic"
    assert watched.head(refresh=False).commit == shared_fleet.head()
    assert progress == []
    assert shared_fleet.git("rev-parse", LEDGER_REF, cwd=path).strip() == shared_fleet.head()
    assert shared_fleet.git("for-each-ref", INCOMING, cwd=path) == ""


def _void(attacker: Attacker) -> str:
    return attacker.propose(attacker.signed("bob", "void"))


# Each makes one bad commit on the head of a server that does not look.
BAD: dict[str, tuple[Callable[[Attacker], str], str]] = {
    "a wrong secret": (
        lambda f: f.propose(f.sign(f.record("bob", "void"), mint())),
        "bad-signature",
    ),
    "an unknown agent": (lambda f: f.render(f.signed("mallory", "void")), "unknown-key"),
    "a state that the record does not make": (
        lambda f: f.render(f.signed("bob", "submit", task="x"), tree=f.head.tree),
        "bad-commit",
    ),
    "a subject that lies": (
        lambda f: f.changed(_void(f), b"void", b"nil "),
        "bad-commit",
    ),
    "a replay": (lambda f: f.render(f.head.signed), "replayed"),
    "a commit of ordinary work": (
        lambda f: f.add("commit", f.raw(_void(f)).split(b"\n\n")[0] + b"\n\nhello\n"),
        "bad-commit",
    ),
    "a newer version": (lambda f: f.render(f.signed("bob", "void", v=2)), "newer-version"),
    "a claim of a held task": (
        lambda f: f.render(f.signed("bob", "claim", tasks=["held"])),
        "held",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_record_that_a_server_let_in_stops_every_reader_before_it(
    open_fleet: Fleet, open_forge: Attacker, case: str
) -> None:
    make, slug = BAD[case]
    alice = open_fleet.ledger("alice")
    path = open_fleet.clone("alice")
    before = remembered(path, open_fleet)
    bad = make(open_forge)
    assert open_forge.push(bad).slug == ""
    head = alice.head(refresh=False)
    for act in (lambda: alice.claim("next"), lambda: alice.submit("more")):
        assert integrity(act) == slug
        assert remembered(path, open_fleet) == before
        assert alice.show("held").verdict == "authentic"  # what is valid can be read
        assert alice.status().stopped_at["code"] == slug
    assert [problem["code"] for problem in alice.audit().problems] == [slug]
    assert open_fleet.head() == bad  # nobody built on it
    newcomer = fresh(open_fleet, f"newcomer to {case}")
    assert join(open_fleet, newcomer).head == head
    assert open_fleet.git("rev-parse", LEDGER_REF, cwd=newcomer).strip() == head.commit
    assert alice.connection.local.journal.intents() == []
    offline = opened(open_fleet, path, "alice", offline=True)
    assert offline.show("held").verdict == "authentic"  # what was verified still is


def test_a_bad_record_below_good_ones_is_found_on_first_contact(
    open_fleet: Fleet, open_forge: Attacker
) -> None:
    bad = open_forge.propose(open_forge.sign(open_forge.record("bob", "void"), mint()))
    good = open_forge.propose(open_forge.signed("bob", "void", on=bad), on=bad)
    assert open_forge.push(good).slug == ""
    path = fresh(open_fleet, "late newcomer")
    before = open_fleet.ledger("alice").head()
    assert join(open_fleet, path).head == before
    assert opened(open_fleet, path, "bob").status().stopped_at["commit"] == bad


# -- history that does not continue


def _rolled_back(attacker: Attacker) -> None:
    attacker.fleet.git("update-ref", LEDGER_REF, f"{LEDGER_REF}~1")


def _forked(attacker: Attacker) -> None:
    """Another line of perfectly good records, and longer."""
    parent = attacker.fleet.git("rev-parse", f"{LEDGER_REF}~1").strip()
    oid = parent
    for _ in range(3):
        oid = attacker.propose(attacker.signed("bob", "void", on=oid), on=oid)
    assert attacker.push(oid).slug == ""


def _refounded(attacker: Attacker) -> None:
    attacker.found(days_ago=0)


def _to_a_branch(attacker: Attacker) -> None:
    who = "x <x@x> 1 +0000"
    raw = f"tree {attacker.tree()}\nauthor {who}\ncommitter {who}\n\nx\n"
    assert attacker.push(attacker.add("commit", raw.encode())).slug == ""


def _deleted(attacker: Attacker) -> None:
    assert attacker.push(f":{LEDGER_REF}").slug == ""


def _to_a_blob(attacker: Attacker) -> None:
    blob = attacker.add("blob", b"x")
    assert attacker.push(f"{blob}:refs/tags/x").slug == ""
    (attacker.fleet.remote / LEDGER_REF).write_text(blob + "\n")


REWRITTEN = {
    _rolled_back: "remote-behind",
    _forked: "rewritten",
    _refounded: "other-ledger",
    _to_a_branch: "rewritten",
    _deleted: "ledger-gone",
    _to_a_blob: "rewritten",
}


@pytest.mark.parametrize("rewrite", REWRITTEN)
def test_a_history_that_does_not_continue_is_an_error_and_moves_nothing(
    open_fleet: Fleet, open_forge: Attacker, rewrite: Callable[[Attacker], None]
) -> None:
    alice = open_fleet.ledger("alice")
    path = open_fleet.clone("alice")
    before = remembered(path, open_fleet)
    rewrite(open_forge)
    after = open_fleet.git("for-each-ref", "refs/coordledger")
    slug = REWRITTEN[rewrite]
    for act in (alice.tasks, lambda: alice.claim("three"), alice.join, alice.audit, alice.head):
        assert integrity(act) == slug
        assert remembered(path, open_fleet) == before
    again = open_fleet.ledger("alice")  # nor does a new process forget
    assert integrity(again.status) == slug
    assert open_fleet.git("for-each-ref", "refs/coordledger") == after


def test_a_rolled_back_server_is_noticed_by_a_write_before_anything_is_sent(
    open_fleet: Fleet, open_forge: Attacker
) -> None:
    """Its compare-and-swap fails, and then the writer looks."""
    alice = open_fleet.ledger("alice")
    _rolled_back(open_forge)
    head = open_fleet.head()
    assert integrity(alice.release, "one") == "remote-behind"
    assert open_fleet.head() == head


def test_without_a_hook_a_writer_behind_the_others_overwrites_nothing(
    open_fleet: Fleet,
) -> None:
    """The compare-and-swap is the client's own; a fast-forward is all that such a server asks."""
    alice, bob = open_fleet.ledger("alice"), open_fleet.ledger("bob")
    bob.tasks()
    assert alice.claim("by-alice").outcome == "won"
    assert bob.claim("by-bob").outcome == "won"  # its copy has not seen alice's yet
    assert bob.claim("by-alice").outcome == "lost"
    assert [claim.agent for claim in map(alice.show, ("by-alice", "by-bob"))] == ["alice", "bob"]
    assert not alice.audit(full=True).problems


def test_records_from_the_future_are_not_taken_for_good(
    open_fleet: Fleet, open_forge: Attacker
) -> None:
    alice = open_fleet.ledger("alice")
    before = remembered(open_fleet.clone("alice"), open_fleet)
    open_forge.later = 600_000
    oid = open_forge.propose(open_forge.signed("bob", "claim", tasks=["tomorrow"]))
    assert open_forge.push(oid).slug == ""
    assert "tomorrow" not in [claim.task for claim in alice.tasks()]
    assert integrity(alice.claim, "today") == "from-future"
    assert join(open_fleet, fresh(open_fleet, "newcomer of today")).head.commit != oid
    assert remembered(open_fleet.clone("alice"), open_fleet) == before
    path = open_fleet.clone("alice")
    late = opened(open_fleet, path, "alice", clock=lambda: open_forge.now + 1000)
    assert late.show("tomorrow").agent == "bob"  # by then it is no future any more


# -- a shallow first contact


def test_what_was_audited_without_a_key_is_audited_again_once_there_is_one(
    fleet: Fleet,
) -> None:
    fleet.enroll("bob")
    fleet.ledger("bob").submit("one")
    env = fleet.env | {"XDG_CONFIG_HOME": str(fleet.root / "auditor")}
    url = f"file://{fleet.remote}"  # as on another host, where no master is
    path = fresh(fleet, "audited")

    def audit() -> tuple[int, dict[str, int]]:
        with Ledger.open(path, "carol", environ=env, remote=url) as carol:
            found = carol.audit()
            return found.since, found.verdicts

    master = fleet.remote / "coordledger" / "master"
    aside = fleet.root / "master"
    master.rename(aside)
    assert audit() == (0, {"unverified": 3})
    assert audit() == (0, {"unverified": 3})  # for as long as nobody has checked them
    home = Path(fleet.env["XDG_CONFIG_HOME"])
    there = home / "coordledger" / "secrets" / fleet.founded.ledger
    secrets = fleet.root / "auditor" / "coordledger" / "secrets" / there.name
    secrets.mkdir(parents=True, mode=0o700)
    for folder in secrets.parents[:2]:
        folder.chmod(0o700)
    shutil.copy2(there / "bob.secret", secrets)
    assert audit() == (0, {"unverified": 2, "authentic": 1})
    shutil.copy2(there / "alice.secret", secrets)
    assert audit() == (0, {"authentic": 3})
    (secrets / "bob.secret").unlink()
    assert audit() == (3, {})  # what was authentic once needs no other verdict
    aside.rename(master)


def test_a_shallow_copy_says_what_it_has_not_verified(shared_fleet: Fleet) -> None:
    bob = shared_fleet.ledger("bob")
    bob.submit("deep")
    bob.submit("edge")
    path = fresh(shared_fleet, "shallow", "--no-local")  # a local clone copies all objects
    joined = join(shared_fleet, path, "carol", depth=1)
    assert not joined.whole
    assert joined.head.commit == shared_fleet.head()
    carol = opened(shared_fleet, path, "carol")
    assert shared_fleet.git("rev-list", "--count", LEDGER_REF, cwd=path).strip() == "1"
    assert carol.show("deep").verdict == "unverified"
    assert carol.show("deep").commit is None
    assert carol.audit(full=True).verdicts == {"unverified": 1}

    bob.submit("above")
    assert carol.show("above").verdict == "authentic"
    won = carol.claim("deep")
    assert won.claim
    assert (won.outcome, won.claim.verdict) == ("won", "authentic")
    assert carol.audit(full=True).verdicts == {"unverified": 1, "authentic": 2}
    assert carol.complete("deep").status == "done"
    assert [event.kind for event in carol.history("deep")] == ["claim", "complete"]
    # A copy that is whole later knows what the shallow one could not.
    assert shared_fleet.ledger("carol").show("edge").verdict == "authentic"


def test_a_shallow_copy_does_not_accept_a_history_beside_it(
    open_fleet: Fleet, open_forge: Attacker
) -> None:
    path = fresh(open_fleet, "shallow", "--no-local")
    join(open_fleet, path, depth=1)
    before = remembered(path, open_fleet)
    _forked(open_forge)
    shallow = opened(open_fleet, path, "bob")
    assert integrity(shallow.tasks) == "rewritten"
    assert remembered(path, open_fleet) == before


def test_a_record_whose_base_lies_below_the_edge_is_unverified(
    shared_fleet: Fleet, attacker: Attacker
) -> None:
    delayed = attacker.signed("bob", "submit", task="based-below")
    shared_fleet.ledger("bob").submit("between")
    path = fresh(shared_fleet, "shallow2", "--no-local")
    join(shared_fleet, path, "carol", depth=1)
    assert attacker.push(attacker.propose(delayed)).slug == ""
    carol = opened(shared_fleet, path, "carol")
    assert carol.show("based-below").status == "open"
    assert carol.audit(full=True).verdicts == {"unverified": 2}


# -- pins and reset


def test_a_pin_lets_only_its_own_history_in(fleet: Fleet) -> None:
    fleet.enroll("bob")
    head = fleet.ledger("alice").head()
    pins = [head.ledger, f"{head.seq}:{head.digest[:16]}"]
    for number, pin in enumerate(pins):
        joined = join(fleet, fresh(fleet, f"right{number}"), pin=pin)
        assert joined.head.commit == head.commit
    wrong = ["0" * 32, f"{head.seq}:{'0' * 64}", f"{head.seq - 1}:{head.digest}", f"99:{'0' * 64}"]
    for number, pin in enumerate(wrong):
        path = fresh(fleet, f"wrong{number}")
        assert integrity(join, fleet, path, pin=pin) == "pin-mismatch"
        assert remembered(path, fleet) == (b"", "")
    path = fresh(fleet, "mistyped")
    for bad in ("1:abc", ":", "x:y"):
        with pytest.raises(Failed) as refused:
            join(fleet, path, pin=bad)
        assert refused.value.code == "bad-value"
        assert remembered(path, fleet) == (b"", "")
    joined = fleet.ledger("alice")
    assert integrity(joined.join, pin="0" * 32) == "pin-mismatch"
    assert joined.tasks() == []  # a later visit with a wrong pin forgets nothing


def test_reset_is_the_only_way_back_and_is_logged(open_fleet: Fleet, open_forge: Attacker) -> None:
    alice = open_fleet.ledger("alice")
    alice.claim("lost")
    _rolled_back(open_forge)
    assert integrity(alice.tasks) == "remote-behind"
    old, new = joining.peek(alice)
    assert old
    assert (old.seq, new.seq) == (new.seq + 1, old.seq - 1)
    assert integrity(alice.tasks) == "remote-behind"  # looking was not leaving
    joining.reset(alice, old, new)
    assert alice.join().commit == new.commit == open_fleet.head()
    assert alice.claim("lost").outcome == "won"
    log = (open_fleet.clone("alice") / ".git/coordledger/main/log").read_text()
    assert old.line() in log
    assert new.line() in log


# -- damage at home


def test_a_lost_or_damaged_index_is_built_again(shared_fleet: Fleet) -> None:
    bob = shared_fleet.ledger("bob")
    bob.submit("indexed")
    bob.claim("indexed")
    index = shared_fleet.clone("bob") / ".git/coordledger/main/index"
    good = index.read_bytes()
    for damage in (
        None,
        b"",
        b"\0" * len(good),
        good[:-50],
        b"x" * 41 + good[41:],
        b"".join(sorted(good.splitlines(keepends=True))),  # right ids in wrong places
    ):
        index.unlink() if damage is None else index.write_bytes(damage)
        events = shared_fleet.ledger("bob").history("indexed")
        assert [event.kind for event in events] == ["submit", "claim"]
        assert {event.verdict for event in events} == {"authentic"}


def test_a_removed_ref_and_collected_objects_are_fetched_again(shared_fleet: Fleet) -> None:
    path = fresh(shared_fleet, "careless")
    join(shared_fleet, path)
    careless = opened(shared_fleet, path, "bob")
    careless.submit("kept")
    careless.close()
    shared_fleet.git("update-ref", "-d", LEDGER_REF, cwd=path)
    shared_fleet.git("reflog", "expire", "--expire=now", "--all", cwd=path)
    shared_fleet.git("gc", "--quiet", "--prune=now", cwd=path)
    ran = plain("git", "cat-file", "-e", shared_fleet.head(), cwd=path, env=shared_fleet.env)
    assert ran.returncode != 0
    again = opened(shared_fleet, path, "bob")
    assert again.claim("kept").outcome == "won"
    assert again.show("kept").verdict == "authentic"
    assert [event.kind for event in again.history("kept")] == ["submit", "claim"]
    assert shared_fleet.git("rev-parse", LEDGER_REF, cwd=path).strip() == shared_fleet.head()


def test_a_local_ref_that_somebody_moved_is_not_believed(shared_fleet: Fleet) -> None:
    path = fresh(shared_fleet, "moved")
    join(shared_fleet, path)
    shared_fleet.git("update-ref", LEDGER_REF, f"{LEDGER_REF}~1", cwd=path)
    moved = opened(shared_fleet, path, "bob")
    assert moved.claim("after-the-move").outcome == "won"
    assert shared_fleet.git("rev-parse", LEDGER_REF, cwd=path).strip() == shared_fleet.head()


def test_a_damaged_memory_of_the_head_is_a_clear_error(fleet: Fleet) -> None:
    alice = fleet.ledger("alice")
    memory = fleet.clone("alice") / ".git/coordledger/main/trusted.json"
    for content in (b"", b"{", b"[]", b"null", b'{"ledger": 1}', b"\xff", b'{"x": 1}', b"7"):
        memory.unlink()
        memory.write_bytes(content)
        for act in (alice.tasks, lambda: alice.claim("x"), alice.head):
            assert integrity(act) == "bad-copy", content


def test_a_memory_that_names_another_head_is_a_clear_error(fleet: Fleet) -> None:
    alice = fleet.ledger("alice")
    alice.submit("t")
    known = alice.connection.replica.trusted
    for wrong in (
        known._replace(seq=known.seq + 1),
        known._replace(digest="0" * 64),
        known._replace(commit="0" * 40),
        known._replace(commit="no id"),
        known._replace(commit="x" * 40),
        known._replace(commit=fleet.git("rev-parse", f"{LEDGER_REF}~1").strip()),
    ):
        alice.connection.local.save(wrong)
        again = opened(fleet, fleet.clone("alice"), "alice", offline=True)
        assert integrity(again.tasks) in ("bad-copy", "rewritten")


# -- where a clone may be


def test_two_worktrees_of_a_clone_are_two_sessions(shared_fleet: Fleet) -> None:
    path = fresh(shared_fleet, "trees")
    join(shared_fleet, path)
    shared_fleet.git(
        *("-c", "user.name=x", "-c", "user.email=x@x"),
        *("commit", "--quiet", "--allow-empty", "-m", "x"),
        cwd=path,
    )
    shared_fleet.git("worktree", "add", "--quiet", shared_fleet.root / "second", cwd=path)
    first = opened(shared_fleet, path, "bob")
    second = opened(shared_fleet, shared_fleet.root / "second", "bob")
    sessions = [ledger.connection.identity().session for ledger in (first, second)]
    assert len(set(sessions)) == 2
    assert opened(shared_fleet, path, "bob").connection.identity().session == sessions[0]
    assert first.claim("of-one-tree").outcome == "won"
    assert (second.claim("of-one-tree").code, first.claim("of-one-tree").code) == (
        "held",
        "already-yours",
    )
    with pytest.raises(CoordledgerError) as lost:
        second.complete("of-one-tree")
    assert lost.value.code == "not-holder"
    assert second.head().commit == first.head(refresh=False).commit  # one copy serves both
    assert first.complete("of-one-tree").status == "done"


def test_code_and_ledger_share_a_remote_without_touching_each_other(shared_fleet: Fleet) -> None:
    path = fresh(shared_fleet, "coder")
    who = ("-c", "user.name=x", "-c", "user.email=x@x")
    shared_fleet.git(*who, "commit", "--quiet", "--allow-empty", "-m", "code", cwd=path)
    shared_fleet.git("push", "--quiet", "origin", "HEAD:refs/heads/main", cwd=path)
    join(shared_fleet, path)
    coder = opened(shared_fleet, path, "bob")
    before = [
        shared_fleet.git(*show, cwd=path) for show in (("log", "HEAD"), ("status", "--porcelain"))
    ]
    assert coder.claim("of-the-coder").outcome == "won"
    assert [
        shared_fleet.git(*show, cwd=path) for show in (("log", "HEAD"), ("status", "--porcelain"))
    ] == before
    assert not (path / ".git/FETCH_HEAD").exists()
    other = fresh(shared_fleet, "other-coder")
    assert "coordledger" not in shared_fleet.git("for-each-ref", cwd=other)
    shared_fleet.git("fetch", "--quiet", "--prune", "origin", cwd=path)
    assert LEDGER_REF in shared_fleet.git("for-each-ref", cwd=path)
    shared_fleet.git(*who, "commit", "--quiet", "--allow-empty", "-m", "more", cwd=path)
    shared_fleet.git("push", "--quiet", "origin", "HEAD:refs/heads/main", cwd=path)


def test_outside_of_any_repository_a_private_clone_serves(
    shared_fleet: Fleet, tmp_path: Path
) -> None:
    nowhere = tmp_path / "nowhere"
    nowhere.mkdir()
    url = str(shared_fleet.remote)
    first = opened(shared_fleet, nowhere, "bob", remote=url)
    assert first.claim("from-nowhere").outcome == "won"
    assert list(nowhere.iterdir()) == []
    script = "import sys; from coordledger import Ledger\n"
    script += "l = Ledger.open('.', 'bob', remote=sys.argv[1]); print(l.claim('from-nowhere').code)"
    ran = plain(sys.executable, "-c", script, url, cwd=nowhere, env=shared_fleet.env)
    assert ran.stdout.decode().strip() == "already-yours", ran.stderr
    with pytest.raises(Failed) as refused:
        opened(shared_fleet, nowhere, "bob")
    assert refused.value.code == "no-remote"
    joined = joining.join(Options(path=nowhere, agent="bob"), shared_fleet.env, url)
    assert joined.configured.endswith("coordledger/config")
    try:
        assert opened(shared_fleet, nowhere, None).show("from-nowhere").agent == "bob"
    finally:
        (shared_fleet.root.parent / "home/config/coordledger/config").unlink()


@pytest.mark.parametrize("how", [["--filter=blob:none"], ["--depth=1"], ["--bare"]])
def test_any_kind_of_clone_of_the_code_serves(shared_fleet: Fleet, how: list[str]) -> None:
    name = how[0].strip("-").replace(":", "-")
    if not shared_fleet.git("for-each-ref", "refs/heads/main"):
        commit = shared_fleet.git(
            *("-c", "user.name=x", "-c", "user.email=x@x"),
            *("commit-tree", "-m", "x", _empty(shared_fleet)),
        ).strip()
        shared_fleet.git("update-ref", "refs/heads/main", commit)
    shared_fleet.git("config", "uploadpack.allowFilter", "true")
    path = shared_fleet.root / f"clone-{name}"
    shared_fleet.git("clone", "--quiet", *how, f"file://{shared_fleet.remote}", path)
    join(shared_fleet, path)
    ledger = opened(shared_fleet, path, "bob")
    assert ledger.claim(f"in-{name}").outcome == "won"
    shared_fleet.ledger("carol").submit(f"more-{name}")
    assert ledger.show(f"more-{name}").verdict == "authentic"
    audit = ledger.audit(full=True)
    assert (audit.problems, set(audit.verdicts)) == ((), {"authentic"})


def _empty(shared_fleet: Fleet) -> str:
    return shared_fleet.git("hash-object", "-t", "tree", "-w", "/dev/null").strip()


def test_what_a_surrounding_git_left_in_the_environment_changes_nothing(
    shared_fleet: Fleet,
) -> None:
    """As when a command runs inside of somebody's git hook."""
    odd = str(shared_fleet.root / "odd")
    for name in (
        "GIT_INDEX_FILE",
        "GIT_OBJECT_DIRECTORY",
        "GIT_COMMON_DIR",
        "GIT_NAMESPACE",
    ):
        within = opened(
            shared_fleet, shared_fleet.clone("bob"), "bob", environ=shared_fleet.env | {name: odd}
        )
        assert within.claim(f"within-{name}").outcome == "won"
        assert shared_fleet.ledger("carol").show(f"within-{name}").verdict == "authentic"


def test_git_resolves_the_url_as_the_user_configured_it(shared_fleet: Fleet) -> None:
    path = fresh(shared_fleet, "aliased")
    shared_fleet.git("config", f"url.{shared_fleet.root}/.insteadOf", "team:", cwd=path)
    shared_fleet.git("remote", "add", "team", "team:ledger.git", cwd=path)
    ledger = opened(shared_fleet, path, "bob", remote="team")
    assert ledger.claim("by-alias").outcome == "won"
    direct = opened(shared_fleet, path, "carol", remote="team:ledger.git")
    assert direct.show("by-alias").agent == "bob"


def test_a_reader_without_the_others_secrets_says_so_and_follows(shared_fleet: Fleet) -> None:
    """As on another host: the master is not readable through this URL."""
    env = shared_fleet.env | elsewhere(shared_fleet)
    path = fresh(shared_fleet, "far")
    shared_fleet.git("remote", "set-url", "origin", f"host:{shared_fleet.remote}", cwd=path)
    secrets = shared_fleet.root / "far-secrets"
    secrets.mkdir()
    config = secrets / "coordledger/secrets"
    config.mkdir(parents=True)
    home = shared_fleet.root.parent / "home/config/coordledger/secrets"
    bob_file = home / shared_fleet.founded.ledger / "bob.secret"
    shutil.copy(bob_file, config / "bob.secret")  # where older versions had it
    far = env | {"XDG_CONFIG_HOME": str(secrets)}
    joined = joining.join(Options(path=path, agent="bob"), far, "origin")
    assert (joined.key, joined.enforcement) == ("ready", "server")
    bob = opened(shared_fleet, path, "bob", environ=far)
    shared_fleet.ledger("carol").claim("from-afar", ttl=timedelta(minutes=5))
    shown = bob.show("from-afar")
    assert (shown.verdict, shown.checked) == ("unverified", "server")
    with pytest.raises(Failed) as refused:
        bob.require("from-afar", check="here")
    assert refused.value.code == "no-key"
    assert bob.require("from-afar").agent == "carol"
    won = bob.claim("own-from-afar")
    assert won.claim
    assert (won.outcome, won.claim.verdict) == ("won", "authentic")
    audit = bob.audit(full=True)
    assert audit.verdicts["authentic"] >= 1
    assert audit.verdicts["unverified"] >= 3
    assert audit.checked == {
        "here": audit.verdicts["authentic"],
        "server": audit.verdicts["unverified"],
    }
    with pytest.raises(Failed) as refused:
        bob.enroll("mallory")
    assert refused.value.code == "no-master"


def elsewhere(fleet: Fleet) -> dict[str, str]:
    """An ssh that leads to this very machine."""
    script = fleet.root / "ssh"
    script.write_text('#!/bin/sh\nshift\nexec sh -c "$*"\n')
    script.chmod(0o755)
    return {"GIT_SSH_COMMAND": str(script), "GIT_SSH_VARIANT": "simple"}


class Far:
    """A remote behind ssh, which writes down what is started there."""

    def __init__(self, fleet: Fleet) -> None:
        self.env = fleet.env | elsewhere(fleet)
        self._calls = fleet.root / "calls"
        script = Path(self.env["GIT_SSH_COMMAND"])
        script.write_text(f'#!/bin/sh\nshift\necho "$1" >> {self._calls}\nexec sh -c "$*"\n')

    def called(self) -> list[str]:
        """The programs that were started since the last time."""
        calls = [line.split()[0] for line in self._calls.read_text().splitlines()]
        self._calls.write_text("")
        return calls


def test_each_look_at_a_far_remote_takes_one_connection(shared_fleet: Fleet) -> None:
    path = fresh(shared_fleet, "one-call")
    shared_fleet.git("remote", "set-url", "origin", f"host:{shared_fleet.remote}", cwd=path)
    far = Far(shared_fleet)
    ledger = opened(shared_fleet, path, "bob", environ=far.env)
    ledger.head()
    far.called()
    before = ledger.head()
    assert far.called() == ["git-upload-pack"]
    written = (path / ".git/coordledger/main/trusted.json").stat().st_mtime_ns
    assert ledger.head() == before
    assert far.called() == ["git-upload-pack"]
    assert (path / ".git/coordledger/main/trusted.json").stat().st_mtime_ns == written
    claimed = shared_fleet.ledger("carol").claim("for-one-call").claim
    assert claimed
    assert ledger.head().commit == claimed.commit
    assert far.called() == ["git-upload-pack"]
    assert ledger.claim("by-one-call").won
    assert far.called() == ["git-receive-pack"]


def test_to_join_takes_one_fetch_and_one_try(shared_fleet: Fleet) -> None:
    path = fresh(shared_fleet, "two-calls")
    shared_fleet.git("remote", "set-url", "origin", f"host:{shared_fleet.remote}", cwd=path)
    far = Far(shared_fleet)
    joined = joining.join(Options(path=path, agent="bob"), far.env, "origin")
    assert joined.enforcement == "server"
    assert far.called() == ["git-upload-pack", "git-receive-pack"]


def test_the_second_implementation_agrees_with_what_landed(shared_fleet: Fleet) -> None:
    count = int(shared_fleet.git("rev-list", "--count", LEDGER_REF))
    assert second_opinion(shared_fleet.remote) == count
