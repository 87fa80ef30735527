"""The pre-receive hook: real pushes by plain git against the real hook."""

from __future__ import annotations

import hashlib
import hmac
import re
import sys
import time
from base64 import b64decode
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from support.attacker import TRY_REF, fsck, plain, second_opinion
from support.fleet import LEDGER_REF
from support.forgeries import code_commit, forged, good, parent, second_root, sibling

from coordledger.deadline import Deadline
from coordledger.errors import Failed
from coordledger.git.loose import Reader
from coordledger.git.process import Git
from coordledger.server import admission
from coordledger.server.pre_receive import judge, refusal
from coordledger.setup.hooks import install_hook

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.attacker import Attacker
    from support.fleet import Fleet

    from coordledger.git.cat_file import Found


# -- what is right passes


def test_a_record_of_the_api_is_authentic_to_the_hook_and_to_another_process(
    shared_fleet: Fleet,
) -> None:
    bob = shared_fleet.ledger("bob")
    won = bob.claim("round-trip", note="naïve ☃ \x1b[31m")
    assert won.outcome == "won"
    assert won.claim
    assert shared_fleet.head() == won.claim.commit  # it passed the hook

    # The MAC by hand, out of what git stores.
    raw = shared_fleet.git("cat-file", "commit", LEDGER_REF)
    payload = raw.split("\n\n")[2].encode()
    tag = b64decode(raw.split("\n\n")[3].split()[3])
    secrets = shared_fleet.root.parent / "home/config/coordledger/secrets"
    secret = (secrets / bob.head().ledger / "bob.secret").read_bytes().strip()
    framed = b"DSSEv1 21 coordledger.record.v1 %d %s" % (len(payload), payload)
    assert hmac.digest(secret, framed, hashlib.sha256) == tag

    script = "import sys; from coordledger import Ledger; l = Ledger.open(sys.argv[1], 'carol')\n"
    script += "print(l.show('round-trip').verdict, l.audit(full=True).verdicts)"
    ran = plain(
        sys.executable,
        "-c",
        script,
        shared_fleet.clone("carol"),
        cwd=shared_fleet.root,
        env=shared_fleet.env,
    )
    count = int(shared_fleet.git("rev-list", "--count", LEDGER_REF))
    assert ran.stdout.decode().strip() == f"authentic {{'authentic': {count}}}"
    assert second_opinion(shared_fleet.remote) == count


def test_a_right_record_passes_when_plain_git_pushes_it(attacker: Attacker) -> None:
    assert attacker.push(attacker.propose(attacker.signed("bob", "void"))).slug == ""


def test_many_right_records_pass_in_one_push(attacker: Attacker) -> None:
    oid = attacker.tip
    for _ in range(3):
        oid = attacker.propose(attacker.signed("bob", "void"), on=oid)
    assert attacker.push(oid).slug == ""
    assert attacker.tip == oid


def test_a_rotated_key_signs_until_it_is_revoked(shared_fleet: Fleet, attacker: Attacker) -> None:
    shared_fleet.enroll("carol")
    both = [attacker.signed("carol", "void", key=key) for key in (1, 2)]
    oid = attacker.propose(both[1], on=attacker.propose(both[0]))
    assert attacker.push(oid).slug == ""
    shared_fleet.ledger("alice").revoke("carol", 1)
    assert (
        attacker.refusal(attacker.render(attacker.signed("carol", "void", key=1))) == "unknown-key"
    )
    assert attacker.push(attacker.propose(attacker.signed("carol", "void", key=2))).slug == ""


# -- forged records


def test_a_revoked_agent_signs_nothing_more(shared_fleet: Fleet, attacker: Attacker) -> None:
    shared_fleet.enroll("dave")
    assert attacker.push(attacker.propose(attacker.signed("dave", "void"))).slug == ""
    before = attacker.signed("dave", "void")
    shared_fleet.ledger("alice").revoke("dave")
    for late in (before, attacker.signed("dave", "void")):
        assert attacker.refusal(attacker.render(late)) == "unknown-key"


def test_a_hostile_text_reaches_nobodys_terminal(attacker: Attacker) -> None:
    """The id is all of the pusher's that a refusal of unreadable bytes shows."""
    evil = attacker.raw(attacker.tip).split(b"\n\n")
    evil[2] = b'{"kind":"\x1b]0;owned\x07\xff"}'
    assert attacker.refusal(attacker.add("commit", b"\n\n".join(evil))) == "bad-json"
    loud = attacker.signed("bob", "void", **{"\x1b[31m": 1})
    assert attacker.refusal(attacker.render(loud)) == "bad-record"
    loud = attacker.sign(attacker.record("bob", "void") | {"kind": "\x1b[31m" + "x" * 5000})
    content = attacker.changed(attacker.tip, attacker.stolen(attacker.tip).payload, loud.payload)
    assert attacker.refusal(content) == "newer-version"


# -- history only grows


@pytest.mark.parametrize(
    ("ref", "slug"),
    [
        ("refs/coordledger/other", "no-create"),
        ("refs/Coordledger/main", "bad-ref"),
        ("refs/COORDLEDGER/other", "bad-ref"),
        ("refs/coordledger", "bad-ref"),
        ("refs/coordledger/a/b", "bad-ref"),
        ("refs/coordledger/Main", "bad-ref"),
        ("refs/coordledger/main.lock.x", "bad-ref"),
        ("refs/coordledger-try/other", "no-create"),
        ("refs/Coordledger-Try/main", "bad-ref"),
    ],
)
def test_no_push_creates_a_ledger(attacker: Attacker, ref: str, slug: str) -> None:
    assert attacker.refusal(f"{good(attacker)}:{ref}") == slug


def test_a_lie_about_the_old_value_is_not_believed(attacker: Attacker) -> None:
    """Plain git reports what it saw; receive-pack's protocol lets a client say anything."""
    head, beside = attacker.tip, sibling(attacker)
    above = good(attacker, on=beside)
    lies = [(parent(attacker), beside), (beside, above), ("0" * 40, beside)]
    lies += [(old, good(attacker)) for old in (parent(attacker), beside, "0" * 40)]
    for old, new in lies:
        pushed = attacker.hook(f"{old} {new} {LEDGER_REF}\n".encode())
        assert pushed.slug == "not-fast-forward"
        assert attacker.raw_push(old, new, LEDGER_REF).slug == "not-fast-forward"
        assert attacker.tip == head


def test_a_branch_with_a_ledgers_full_name_is_no_ledger_to_build_on(attacker: Attacker) -> None:
    """git would resolve refs/coordledger/other to refs/heads/refs/coordledger/other."""
    other = "refs/coordledger/other"
    beside = sibling(attacker)
    assert attacker.push(f"{beside}:refs/heads/side").slug == ""
    attacker.fleet.git("update-ref", f"refs/heads/{other}", beside)
    above = good(attacker, on=beside)
    for old in ("0" * 40, beside):
        assert attacker.raw_push(old, above, other).code != 0
        assert attacker.fleet.git("for-each-ref", other) == ""
    assert attacker.push(f":refs/heads/{other}").slug == ""


# -- bounds


# -- the tree


# -- the commit's other bytes


# -- more than one record, more than one ref


def test_of_a_push_with_a_bad_second_record_nothing_lands(attacker: Attacker) -> None:
    first = good(attacker)
    third = good(attacker, on=forged(attacker, on=first))
    assert attacker.refusal(third) == "bad-signature"
    assert attacker.push(first).slug == ""


@pytest.mark.parametrize("atomic", [[], ["--atomic"]], ids=["plain", "atomic"])
def test_code_and_a_record_pass_or_fail_together(attacker: Attacker, atomic: list[str]) -> None:
    code = f"{code_commit(attacker)}:refs/heads/work{len(atomic)}"
    bad = forged(attacker)
    assert attacker.refusal(*atomic, code, f"{bad}:{LEDGER_REF}") == "bad-signature"
    assert attacker.refusal(*atomic, f"{bad}:{LEDGER_REF}", code) == "bad-signature"
    assert attacker.push(*atomic, code, f"{good(attacker)}:{LEDGER_REF}").slug == ""


# -- a hook that cannot work


def _break_python(fleet: Fleet) -> None:
    hook = fleet.remote / "hooks/pre-receive"
    hook.write_text(re.sub("(?m)^python=.*", "python=/nowhere/python3", hook.read_text()))


def _break_interpreter(fleet: Fleet) -> None:
    """A Python that starts and then is no Python."""
    hook = fleet.remote / "hooks/pre-receive"
    hook.write_text(re.sub("(?m)^python=.*", "python=/bin/false", hook.read_text()))


def _break_package(fleet: Fleet) -> None:
    hook = fleet.remote / "hooks/pre-receive"
    hook.write_text(re.sub("(?m)^package=.*", "package=/nowhere", hook.read_text()))


def _remove_secrets(fleet: Fleet) -> None:
    (fleet.remote / "coordledger").rename(fleet.root / "away")


@pytest.mark.parametrize(
    ("damage", "slug"),
    [
        (_break_python, "hook-broken"),
        (_break_interpreter, None),
        (_break_package, "hook-broken"),
        (_remove_secrets, "no-secret"),
    ],
)
def test_a_hook_that_cannot_work_refuses_records_and_nothing_else(
    fleet: Fleet,
    attacker_for: Callable[[Fleet], Attacker],
    damage: Callable[[Fleet], None],
    slug: str | None,
) -> None:
    attacker = attacker_for(fleet)
    right, code, head = good(attacker), code_commit(attacker), attacker.tip
    damage(fleet)
    assert attacker.push(f"{code}:refs/heads/main").slug == ""
    pushed = attacker.push(right)
    assert pushed.code != 0
    assert slug is None or pushed.slug == slug
    assert attacker.tip == head


@pytest.mark.parametrize(
    ("given", "slug"),
    [
        (b"", "hook-broken"),
        (b"\n", ""),  # nothing of ours in it
        (b"0 1 " + LEDGER_REF.encode(), "hook-broken"),
        (b"0 1 " + LEDGER_REF.encode() + b"\n", "bad-push"),
        (b" " * 3 + LEDGER_REF.encode() + b"\n", "bad-push"),
        (b"a" * 40 + b" " + b"b" * 40 + b" " + LEDGER_REF.encode() + b"\n", "bad-push"),
        (b"a" * 64 + b" " + b"b" * 64 + b" " + LEDGER_REF.encode() + b"\n", None),
        (b"a" * 40 + b" " + b"b" * 40 + b" refs/coordledger/\xff\n", "bad-ref"),
        (b"a" * 40 + b" " + b"b" * 40 + b" refs/coordledger/x y\n", "bad-ref"),
        (b"a" * 40 + b" " + b"b" * 40 + b" refs/coordledger/" + b"x" * 70_000 + b"\n", "bad-ref"),
        (b"\xff\x00\n refs/coordledger/main\n", "bad-push"),
    ],
)
def test_odd_input_of_the_hook_is_refused_in_one_line(
    attacker: Attacker, given: bytes, slug: str | None
) -> None:
    if slug == "bad-push" and given.startswith(b"aaaa"):
        given = given.replace(b"a" * 40, attacker.tip.encode())
    pushed = attacker.hook(given)
    assert pushed.slug == (slug if slug is not None else pushed.slug or "passed")


@pytest.mark.parametrize(
    "fault",
    [RuntimeError("odd"), ValueError(), KeyError("x"), OSError(5, "sick"), MemoryError()],
    ids=lambda fault: type(fault).__name__,
)
def test_a_fault_of_the_hook_itself_refuses(attacker: Attacker, fault: Exception) -> None:
    class Sick(Reader):
        def find(self, name: str, limit: int = 0) -> Found | None:
            raise fault

    pushed = f"{attacker.tip} {good(attacker)} {LEDGER_REF}\n".encode()
    environ = {"GIT_DIR": str(attacker.fleet.remote)}
    refused = refusal(judge(pushed, environ, attacker.now, Sick))
    assert refused is not None
    assert refused.code == "hook-broken"


def test_a_push_is_read_up_to_its_bound_of_bytes(
    attacker: Attacker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 32 MiB, which tests/attacks brings; here of what a few records take."""
    oids = attacker.voids(5)
    pushed = f"{attacker.tip} {oids[-1]} {LEDGER_REF}\n".encode()
    environ = {
        "GIT_DIR": str(attacker.fleet.remote),
        "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(attacker.folder / "objects"),
    }
    size = sum(len(attacker.raw(oid)) for oid in oids)
    monkeypatch.setattr(admission, "MAX_BYTES", size)
    assert refusal(judge(pushed, environ, attacker.now)) is None
    monkeypatch.setattr(admission, "MAX_BYTES", size - 1)
    refused = refusal(judge(pushed, environ, attacker.now))
    assert refused is not None
    assert refused.code == "too-large"


def test_a_list_that_is_cut_off_is_refused_without_the_shell_too(attacker: Attacker) -> None:
    environ = {"GIT_DIR": str(attacker.fleet.remote)}
    for pushed in (b"", f"{attacker.tip} {good(attacker)} {LEDGER_REF}".encode()):
        refused = refusal(judge(pushed, environ, attacker.now))
        assert refused is not None
        assert refused.code == "bad-push"


# -- surroundings of the hook


def test_a_hook_that_was_there_runs_first_and_may_refuse(
    fleet: Fleet, attacker_for: Callable[[Fleet], Attacker]
) -> None:
    attacker = attacker_for(fleet)
    hook, seen = fleet.remote / "hooks/pre-receive", fleet.root / "seen"
    text = (
        f'#!/bin/sh\ncat > "{seen}"\n[ ! -e "{fleet.root}/no" ] || {{ echo not today; exit 1; }}\n'
    )
    hook.write_text(text)
    git = Git(fleet.env, fleet.root, Deadline(30))
    said = install_hook(fleet.remote, git, python=sys.executable)
    assert "runs first" in said[0]
    assert hook.with_name("pre-receive.chained").read_text() == text
    install_hook(fleet.remote, git, python=sys.executable)
    assert hook.with_name("pre-receive.chained").read_text() == text

    old, right, code = attacker.tip, good(attacker), code_commit(attacker)
    assert attacker.push(right).slug == ""
    assert seen.read_text() == f"{old} {right} {LEDGER_REF}\n"
    assert attacker.push(f"{code}:refs/heads/main").slug == ""
    assert seen.read_text() == f"{'0' * 40} {code} refs/heads/main\n"
    bad = forged(attacker)
    assert attacker.refusal(bad) == "bad-signature"  # the chained one let it pass

    (fleet.root / "no").touch()
    head = attacker.tip
    for spec in (attacker.propose(attacker.signed("alice", "void")), f"{code}:refs/heads/other"):
        pushed = attacker.push(spec)
        assert pushed.code != 0
        assert "not today" in pushed.err
        assert attacker.tip == head
    with pytest.raises(Failed) as refused:
        fleet.ledger("alice").submit("t")
    assert (refused.value.code, "not today" in refused.value.message) == ("push-refused", True)


def test_a_try_is_judged_and_never_lands(attacker: Attacker) -> None:
    oid = good(attacker)
    assert attacker.refusal(f"{oid}:{TRY_REF}") == "try-ok"
    assert attacker.refusal(f"{oid}:{TRY_REF}") == "try-ok"
    bad = forged(attacker)
    assert attacker.refusal(f"{bad}:{TRY_REF}") == "bad-signature"
    assert attacker.refusal(f"{sibling(attacker)}:{TRY_REF}") == "not-fast-forward"
    assert attacker.refusal(f"{oid}:{TRY_REF}", f"{oid}:{LEDGER_REF}") == "try-ok"
    zero = "0" * 40
    assert attacker.hook(f"{zero} {zero} {TRY_REF}\n".encode()).slug == "no-delete"
    assert attacker.push(oid).slug == ""


@pytest.mark.parametrize(("seconds", "words"), [(95, "ahead of"), (-95, "behind")])
def test_a_wrong_clock_is_refused_with_its_offset(
    shared_fleet: Fleet, seconds: int, words: str
) -> None:
    shifted = shared_fleet.ledger("bob", clock=lambda: time.time_ns() // 1_000_000 + 1000 * seconds)
    head = shared_fleet.head()
    with pytest.raises(Failed) as refused:
        shifted.claim(f"skewed{seconds}")
    if seconds > 0:
        assert refused.value.code == "clock-skew"
        assert re.search(f"9[45] s {words} the server's, more than 30 s", refused.value.message)
    else:
        assert refused.value.code in ("clock-skew", "time-backwards")
        assert re.search(r"\d\d s behind", refused.value.message)
    assert shared_fleet.head() == head
    assert shifted.connection.local.journal.intents() == []


def test_nobody_takes_over_before_the_end_and_the_skew(
    make_fleet: Callable[..., Fleet], attacker_for: Callable[[Fleet], Attacker]
) -> None:
    fleet = make_fleet(max_skew=4)  # the seconds that a slow machine has for the push below
    fleet.enroll("bob")
    attacker = attacker_for(fleet)
    alice, bob = fleet.ledger("alice"), fleet.ledger("bob")
    won = alice.claim("t", ttl=timedelta(milliseconds=100))
    assert won.claim
    assert won.claim.claimable_at
    end = int(won.claim.claimable_at.timestamp() * 1000)
    lost = bob.claim("t")
    assert (lost.outcome, lost.code) == ("lost", "held")
    # A clock that is fast within what is allowed makes a valid record, and no admission.
    attacker.later = 4000
    while attacker.now < end:
        time.sleep(0.02)
    fast = attacker.signed("bob", "claim", tasks=["t"])
    assert attacker.refusal(attacker.propose(fast)) == "too-early"
    result = bob.claim("t", wait=timedelta(seconds=20))
    assert result.outcome == "won"
    assert result.claim
    assert result.claim.epoch == 2
    assert time.time() * 1000 >= end
    assert second_opinion(fleet.remote) == 4


def test_noise_in_the_environment_changes_no_verdict(
    attacker: Attacker, shared_fleet: Fleet
) -> None:
    noise = {
        "GIT_TRACE": "1",
        "GIT_REPLACE_REF_BASE": "refs/heads/",
        "GIT_GRAFT_FILE": str(shared_fleet.root / "nothing"),
        "GIT_NAMESPACE": "",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.useReplaceRefs",
        "GIT_CONFIG_VALUE_0": "true",
        "GIT_DEFAULT_HASH": "sha256",
        "PYTHONPATH": str(shared_fleet.root),
        "PYTHONSTARTUP": str(shared_fleet.root / "nothing"),
        "PYTHONHOME": str(shared_fleet.root),
        "LC_ALL": "C.UTF-8",
        "CDPATH": "/tmp",
    }
    bad = forged(attacker)
    assert attacker.push(bad, env=noise).slug == "bad-signature"
    assert attacker.push(good(attacker), env=noise).slug == ""
    update = f"{attacker.tip} {bad} {LEDGER_REF}\n".encode()
    assert attacker.hook(update, **noise).slug != ""
    update = f"{attacker.tip} {good(attacker)} {LEDGER_REF}\n".encode()
    assert attacker.hook(update, **noise).slug == ""


def test_replaced_objects_and_grafts_on_the_server_change_nothing(
    attacker: Attacker, shared_fleet: Fleet
) -> None:
    """Anybody may push refs/replace/*: what it replaces is not what was verified."""
    blob = shared_fleet.git("rev-parse", f"{LEDGER_REF}:agents/bob.json").strip()
    line = shared_fleet.git("cat-file", "blob", blob)
    admin = attacker.add("blob", line.replace('"role":"agent"', '"role":"admin"').encode())
    assert admin != blob
    assert attacker.push(f"{admin}:refs/replace/{blob}").slug == ""
    assert '"admin"' in shared_fleet.git("show", f"{LEDGER_REF}:agents/bob.json")  # git is fooled
    seize = attacker.render(attacker.signed("bob", "enroll", who="mallory"))
    assert attacker.refusal(seize) == "not-permitted"
    shared_fleet.git("repack", "-adq")  # from now on git is asked for it
    assert attacker.refusal(seize) == "not-permitted"

    beside = sibling(attacker)
    assert attacker.push(f"{beside}:refs/replace/{attacker.tip}").slug == ""
    grafts = shared_fleet.remote / "info/grafts"
    try:
        grafts.write_text(f"{attacker.tip}\n")
        assert attacker.refusal(good(attacker, on=beside)) == "not-fast-forward"
        assert attacker.refusal(second_root(attacker)) == "not-fast-forward"
        assert attacker.push(good(attacker)).slug == ""
        assert second_opinion(shared_fleet.remote)
        grafts.unlink()  # git itself sends too little from a grafted repository
        assert not shared_fleet.ledger("bob").audit(full=True).problems
    finally:
        grafts.unlink(missing_ok=True)
        for ref in shared_fleet.git("for-each-ref", "--format=%(refname)", "refs/replace").split():
            shared_fleet.git("update-ref", "-d", ref)


def test_a_server_whose_clock_jumped_does_not_push_the_ledger_ahead(
    make_fleet: Callable[..., Fleet], attacker_for: Callable[[Fleet], Attacker]
) -> None:
    """The clock cannot be moved here, so the ledger's first record is made old instead."""
    fleet = make_fleet()
    attacker = attacker_for(fleet)
    attacker.found(days_ago=40)
    pushed = attacker.push(attacker.propose(attacker.signed("alice", "void")))
    assert pushed.slug == "gap"
    assert "40 d older" in pushed.said[0]
    fleet.git("config", "coordledger.maxGap", "soon")
    assert attacker.push(attacker.propose(attacker.signed("alice", "void"))).slug == "hook-broken"
    fleet.git("config", "coordledger.maxGap", "41d")
    assert attacker.push(attacker.propose(attacker.signed("alice", "void"))).slug == ""


def test_what_has_landed_is_a_sound_repository(shared_fleet: Fleet) -> None:
    fsck(shared_fleet.remote, shared_fleet.env)
    assert second_opinion(shared_fleet.remote) == int(
        shared_fleet.git("rev-list", "--count", LEDGER_REF)
    )
    assert not shared_fleet.ledger("bob").audit(full=True).problems


def test_a_branch_with_the_ledgers_full_name_stops_nobody(shared_fleet, attacker_for) -> None:
    """git push takes refs/coordledger/main for ambiguous as soon as
    refs/heads/refs/coordledger/main (or refs/tags/...) exists."""
    attacker = attacker_for(shared_fleet)
    bob = shared_fleet.ledger("bob")
    bob.tasks()
    for kind in ("heads", "tags"):
        assert attacker.push(f"{attacker.tip}:refs/{kind}/{LEDGER_REF}").slug == "bad-ref"
        assert bob.claim(f"beside-{kind}").outcome == "won"


def test_such_a_branch_that_is_there_already_can_be_removed(shared_fleet, attacker_for) -> None:
    attacker = attacker_for(shared_fleet)
    shared_fleet.git("update-ref", f"refs/heads/{LEDGER_REF}", attacker.tip)
    assert attacker.push(f":refs/heads/{LEDGER_REF}").slug == ""
