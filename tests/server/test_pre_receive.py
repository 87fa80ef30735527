"""What the server lets in: real pushes by plain git against the real hook."""

from __future__ import annotations

import hashlib
import hmac
import re
import shutil
import sys
import time
from base64 import b64decode
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.attacker import TRY_REF, fsck, plain, second_opinion
from support.fleet import LEDGER_REF

from coordledger.client.config import Options
from coordledger.errors import Failed
from coordledger.format import canonical
from coordledger.format.commit import MAX_COMMIT_BYTES, parse_commit
from coordledger.format.signing import Signed
from coordledger.git.process import Deadline, Git
from coordledger.setup import genesis, hooks
from coordledger.setup.genesis import mint
from coordledger.setup.hooks import install_hook

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.attacker import Attacker
    from support.fleet import Fleet

TREE_LINE = re.compile(rb"(?<=^tree )[0-9a-f]{40}")


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
    secret = (
        (shared_fleet.root.parent / "home/config/coordledger/secrets/bob.secret")
        .read_bytes()
        .strip()
    )
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


def _tampered(attacker: Attacker) -> str:
    good = attacker.signed("bob", "send", channel="general", body="pay 10")
    payload = good.payload.replace(b"pay 10", b"pay 99")
    return attacker.propose(Signed(payload, canonical.decode(payload), good.tag))


def _tag(attacker: Attacker, change: Callable[[bytes], bytes]) -> str:
    good = attacker.signed("bob", "void")
    return attacker.render(Signed(good.payload, good.record, change(good.tag)))


def _without_trailer(attacker: Attacker, name: bytes) -> str:
    raw = attacker.raw(attacker.propose(attacker.signed("bob", "void")))
    kept = [line for line in raw.splitlines(keepends=True) if not line.startswith(name)]
    return attacker.add("commit", b"".join(kept))


def _for_other_ledger(attacker: Attacker) -> str:
    return attacker.render(attacker.signed("bob", "void", ledger="0" * 32))


def _newer(attacker: Attacker) -> str:
    return attacker.render(attacker.signed("bob", "void", v=2))


FORGED = {
    "a payload that was changed after signing": (_tampered, "bad-signature"),
    "a wrong secret": (
        lambda f: f.propose(f.sign(f.record("bob", "void"), mint())),
        "bad-signature",
    ),
    "one's own secret for another agent's name": (
        lambda f: f.propose(f.sign(f.record("bob", "void"), f.secret("alice"))),
        "bad-signature",
    ),
    "half of the MAC": (lambda f: _tag(f, lambda tag: tag[:16]), "bad-signature"),
    "a MAC with one byte more": (lambda f: _tag(f, lambda tag: tag + b"\0"), "bad-signature"),
    "an empty MAC": (lambda f: _tag(f, lambda tag: b""), "bad-signature"),
    "no signature line": (lambda f: _without_trailer(f, b"Coordledger-Signature"), "bad-commit"),
    "an agent that is not enrolled": (
        lambda f: f.render(f.signed("mallory", "void")),
        "unknown-key",
    ),
    "a key that is not listed": (lambda f: f.render(f.signed("bob", "void", key=9)), "unknown-key"),
    "another ledger's record": (_for_other_ledger, "wrong-ledger"),
    "a newer version's record": (_newer, "newer-version"),
    "an agent that makes itself admin": (
        lambda f: f.render(f.signed("bob", "enroll", who="bob", role="admin")),
        "not-permitted",
    ),
    "a second genesis record": (
        lambda f: f.render(
            f.sign(f.record("alice", "genesis", ledger=f.state.ledger["ledger"]), f.secret("alice"))
        ),
        "bad-genesis",
    ),
    "a base that is not this history's": (
        lambda f: f.render(f.signed("bob", "void", base={"seq": 0, "digest": "0" * 64})),
        "bad-base",
    ),
    "a base in the future": (
        lambda f: f.render(
            f.signed("bob", "void", base={"seq": f.head.seq + 1, "digest": f.head.digest})
        ),
        "bad-base",
    ),
    "a skipped revision": (
        lambda f: f.render(f.signed("bob", "submit", task="skips", rev=2)),
        "stale-rev",
    ),
    "a skipped epoch": (
        lambda f: f.render(
            f.signed("bob", "claim", tasks=[{"task": "skips", "rev": 1, "epoch": 2}])
        ),
        "wrong-epoch",
    ),
    "a completion of a task that nobody claimed": (
        lambda f: f.render(f.signed("bob", "complete", task="nobodys")),
        "unknown-task",
    ),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_record_is_refused_in_one_printable_line(attacker: Attacker, case: str) -> None:
    make, slug = FORGED[case]
    oid = make(attacker)
    pushed = attacker.push(oid)
    assert pushed.slug == slug
    assert pushed.short == oid[:12]
    assert attacker.tip != oid


def test_of_several_records_the_bad_one_is_named(attacker: Attacker) -> None:
    """Whoever pushed them together can send the others again."""
    good = attacker.propose(attacker.signed("bob", "void"))
    forged = attacker.signed("alice", "void", on=good)
    forged.tag = bytes(32)
    bad = attacker.render(forged, on=good)
    head = attacker.propose(attacker.signed("bob", "void", on=bad), on=bad)
    pushed = attacker.push(head)
    assert (pushed.slug, pushed.short) == ("bad-signature", bad[:12])


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


def _good(attacker: Attacker, on: str | None = None) -> str:
    return attacker.propose(attacker.signed("bob", "void", on=on), on=on)


def _parent(attacker: Attacker) -> str:
    parent = parse_commit(attacker.tip, attacker.raw(attacker.tip)).parent
    assert parent
    return parent


def _sibling(attacker: Attacker) -> str:
    """A good record beside the head."""
    return _good(attacker, on=_parent(attacker))


def _second_root(attacker: Attacker) -> str:
    raw = re.sub(rb"parent [0-9a-f]{40}\n", b"", attacker.raw(_good(attacker)))
    return attacker.add("commit", raw)


def _merge(attacker: Attacker) -> str:
    line = f"parent {attacker.tip}\n"
    return attacker.changed(
        _good(attacker), line.encode(), f"{line}parent {_parent(attacker)}\n".encode()
    )


def _merge_other_order(attacker: Attacker) -> str:
    line = f"parent {attacker.tip}\n"
    return attacker.changed(
        _good(attacker), line.encode(), f"parent {_parent(attacker)}\n{line}".encode()
    )


def _tag_object(attacker: Attacker) -> str:
    who = "tagger x <x@x> 1 +0000"
    body = f"object {_good(attacker)}\ntype commit\ntag x\n{who}\n\nx\n"
    return attacker.add("tag", body.encode())


REWRITES = {
    "a rewind": (_parent, "not-fast-forward"),
    "a force-push beside the head": (_sibling, "not-fast-forward"),
    "a deletion": (lambda f: "", "no-delete"),
    "a second root": (_second_root, "not-fast-forward"),
    "a merge commit": (_merge, "bad-commit"),
    "a merge commit with the head as its second parent": (_merge_other_order, "not-fast-forward"),
    "a commit of ordinary work": (
        lambda f: f.add("commit", f.raw(f.tip).split(b"\n\n")[0] + b"\n\nhello\n"),
        "bad-commit",
    ),
    "a tag": (_tag_object, "bad-push"),
    "a blob": (lambda f: f.add("blob", b"x"), "bad-push"),
    "a tree": (lambda f: f.head.tree, "bad-push"),
}


@pytest.mark.parametrize("case", REWRITES)
def test_history_only_grows(attacker: Attacker, case: str) -> None:
    make, slug = REWRITES[case]
    assert attacker.refusal(f"{make(attacker)}:{LEDGER_REF}") == slug


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
    assert attacker.refusal(f"{_good(attacker)}:{ref}") == slug


def test_a_lie_about_the_old_value_is_not_believed(attacker: Attacker) -> None:
    """Plain git reports what it saw; receive-pack's protocol lets a client say anything."""
    head, sibling = attacker.tip, _sibling(attacker)
    above = _good(attacker, on=sibling)
    for old, new in [(_parent(attacker), sibling), (sibling, above), ("0" * 40, sibling)]:
        pushed = attacker.hook(f"{old} {new} {LEDGER_REF}\n".encode())
        assert pushed.slug == "not-fast-forward"
        assert attacker.raw_push(old, new, LEDGER_REF).slug == "not-fast-forward"
        assert attacker.tip == head


def test_a_branch_with_a_ledgers_full_name_is_no_ledger_to_build_on(attacker: Attacker) -> None:
    """git would resolve refs/coordledger/other to refs/heads/refs/coordledger/other."""
    other = "refs/coordledger/other"
    sibling = _sibling(attacker)
    assert attacker.push(f"{sibling}:refs/heads/side").slug == ""
    attacker.fleet.git("update-ref", f"refs/heads/{other}", sibling)
    above = _good(attacker, on=sibling)
    for old in ("0" * 40, sibling):
        assert attacker.raw_push(old, above, other).code != 0
        assert attacker.fleet.git("for-each-ref", other) == ""
    assert attacker.push(f":refs/heads/{other}").slug == ""


# -- bounds


def test_one_push_does_not_bring_1025_records(attacker: Attacker) -> None:
    """That it may bring 1,024 is shown where their bases are looked at."""
    assert attacker.refusal(attacker.voids(1025)[-1]) == "too-many-records"


def test_a_huge_commit_is_refused_unread(attacker: Attacker) -> None:
    filler = b"\n" + b"x" * MAX_COMMIT_BYTES
    oid = attacker.add("commit", attacker.raw(_good(attacker)) + filler)
    assert attacker.refusal(oid) == "too-large"


def test_a_huge_payload_is_refused(attacker: Attacker) -> None:
    huge = attacker.signed("bob", "send", channel="general", body="x")
    payload = huge.payload.replace(b'"body":"x"', b'"body":"%s"' % (b"x" * 131_072))
    tag = attacker.secret("bob").sign(payload)
    record = dict(huge.record) | {"body": "x" * 131_072}
    assert attacker.refusal(attacker.render(Signed(payload, record, tag))) == "too-large"


# -- the tree


def _root(attacker: Attacker, change: Callable[[Attacker, list], list]) -> str:
    """A good commit with other entries in its root."""
    oid = attacker.propose(attacker.signed("bob", "submit", task="in-a-tree"))
    old = TREE_LINE.search(attacker.raw(oid))
    assert old
    new = attacker.tree(*change(attacker, attacker.entries(old[0].decode())))
    return attacker.changed(oid, old[0], new.encode())


def _swap(name: str, mode: str | None = None) -> Callable[[Attacker, list], list]:
    return lambda f, all_: [(mode if n == name and mode else m, o, n) for m, o, n in all_]


def _more(mode: str, name: str) -> Callable[[Attacker, list], list]:
    def add(attacker: Attacker, entries: list) -> list:
        target = attacker.tip if mode == "160000" else attacker.add("blob", b"/etc/passwd")
        if mode == "40000":
            target = attacker.tree()
        return sorted([*entries, (mode, target, name)], key=lambda entry: entry[2])

    return add


def _inside(attacker: Attacker, entries: list) -> list:
    [agents] = [o for _, o, n in entries if n == "agents"]
    stray = attacker.tree(
        *sorted(
            [*attacker.entries(agents), ("100644", attacker.add("blob", b"x"), "zed.json")],
            key=lambda entry: entry[2],
        )
    )
    return [(m, stray if n == "agents" else o, n) for m, o, n in entries]


def _other_content(attacker: Attacker, entries: list) -> list:
    [ledger] = [o for _, o, n in entries if n == "ledger.json"]
    content = attacker.git("cat-file", "blob", ledger).replace('"max_ttl":86400', '"max_ttl":99999')
    other = attacker.add("blob", content.encode() + b"\n")
    return [(m, other if n == "ledger.json" else o, n) for m, o, n in entries]


TREES = {
    "a stray file": _more("100644", "README.md"),
    "an executable stray file": _more("100755", "zzz"),
    "a gitlink": _more("160000", "vendor"),
    "a symlink": _more("120000", "passwd"),
    "an empty folder": _more("40000", "empty"),
    "an executable state": _swap("ledger.json", "100755"),
    "a group-writable state": _swap("ledger.json", "100664"),
    "a symlink instead of a state": _swap("ledger.json", "120000"),
    "a stray file below a folder": _inside,
    "a policy that no record set": _other_content,
    "a missing folder": lambda f, all_: [entry for entry in all_ if entry[2] != "agents"],
    "entries in another order": lambda f, all_: all_[::-1],
    "the tree of before": lambda f, all_: f.entries(f.head.tree),
}


@pytest.mark.parametrize("case", TREES)
def test_a_tree_that_the_record_does_not_make_is_refused(attacker: Attacker, case: str) -> None:
    assert attacker.refusal(_root(attacker, TREES[case])) == "bad-commit"


# -- the commit's other bytes

MANGLED = {
    "the author's name": (rb"author bob/", b"author eve/"),
    "the author's session": (rb"(?<=author bob/)s1", b"s2"),
    "the author's address": (rb"(?<=<)bob@", b"eve@"),
    "the author's date": (rb"(?<=> )\d(?=\d+ \+0000\ncommitter)", b"2"),
    "the author's zone": (rb"\+0000(?=\ncommitter)", b"+0100"),
    "the committer's name": (rb"committer bob/", b"committer eve/"),
    "the committer's address": (rb"(?<=committer bob/s1 <)bob@", b"eve@"),
    "the committer's date": (rb"(?<=> )\d(?=\d+ \+0000\n\n)", b"2"),
    "the committer's zone": (rb"\+0000(?=\n\n)", b"-0000"),
    "an encoding header": (rb"(?<=\+0000)(?=\n\n)", b"\nencoding latin1"),
    "a signature header": (rb"(?<=\+0000)(?=\n\n)", b"\ngpgsig x"),
    "the subject": (rb"(?<=\n\n)send to", b"sent to"),
    "a subject with an escape": (rb"(?<=\n\n)send to", b"\x1b[31msend to"),
    "a body between subject and payload": (rb"(?=\n\n\{)", b"\n\nhello"),
    "a space in the payload": (rb'(?<=\n\n\{)(?=")', b" "),
    "the order in the payload": (rb'"agent":"bob","at":("[^"]+")', rb'"at":\1,"agent":"bob"'),
    "a name twice in the payload": (rb'(?<=\n\n\{)(?=")', b'"agent":"bob",'),
    "an escape in the payload": (rb'(?<="agent":")b', rb"\\u0062"),
    "the algorithm": (rb"hmac-sha256 bob", b"hmac-md5 bob"),
    "the signer": (rb"(?<=hmac-sha256 )bob/1", b"eve/1"),
    "the key": (rb"(?<=hmac-sha256 )bob/1", b"bob/2"),
    "a bit that the tag's base64 ignores": (rb"(?<=[A-Za-z0-9+/])=\n", b"==\n"),
    "the seq": (rb"(?<=Seq: )", b"0"),
    "the digest": (rb"(?<=Digest: )[0-9a-f]{4}", b"f00d"),
    "the digest's case": (rb"(?<=Digest: )[0-9a-f]{64}", b"A" * 64),
    "one more trailer": (rb"\Z", b"Signed-off-by: eve\n"),
    "one more line": (rb"\Z", b"\n"),
    "no line end": (rb"\n\Z", b""),
    "carriage returns": (rb"\n(?=Coordledger-Seq)", b"\r\n"),
    "a NUL and more": (rb"\Z", b"\0hidden"),
}


def test_a_commit_with_one_thing_changed_is_refused(attacker: Attacker) -> None:
    good = attacker.raw(
        attacker.propose(attacker.signed("bob", "send", channel="general", body="hello"))
    )
    for case, (pattern, new) in MANGLED.items():
        bad, changes = re.subn(pattern, new, good, count=1)
        assert changes == 1, case
        assert bad != good, case
        slug = attacker.refusal(attacker.add("commit", bad))
        assert slug in ("bad-commit", "bad-json", "not-canonical", "bad-signature"), case
    assert attacker.push(attacker.add("commit", good)).slug == ""  # nothing else was wrong with it


# -- more than one record, more than one ref


def test_of_a_push_with_a_bad_second_record_nothing_lands(attacker: Attacker) -> None:
    first = _good(attacker)
    bad = attacker.sign(attacker.record("bob", "void"), mint())
    second = attacker.propose(bad, on=first)
    third = _good(attacker, on=second)
    assert attacker.refusal(third) == "bad-signature"
    assert attacker.push(first).slug == ""


def _code(attacker: Attacker) -> str:
    who = "x <x@x> 1 +0000"
    return attacker.add(
        "commit", f"tree {attacker.tree()}\nauthor {who}\ncommitter {who}\n\nx\n".encode()
    )


@pytest.mark.parametrize("atomic", [[], ["--atomic"]], ids=["plain", "atomic"])
def test_code_and_a_record_pass_or_fail_together(attacker: Attacker, atomic: list[str]) -> None:
    code = f"{_code(attacker)}:refs/heads/work{len(atomic)}"
    bad = attacker.propose(attacker.sign(attacker.record("bob", "void"), mint()))
    assert attacker.refusal(*atomic, code, f"{bad}:{LEDGER_REF}") == "bad-signature"
    assert attacker.refusal(*atomic, f"{bad}:{LEDGER_REF}", code) == "bad-signature"
    assert attacker.push(*atomic, code, f"{_good(attacker)}:{LEDGER_REF}").slug == ""


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


def _expose_master(fleet: Fleet) -> None:
    (fleet.remote / "coordledger/master").chmod(0o644)


def _remove_secrets(fleet: Fleet) -> None:
    (fleet.remote / "coordledger").rename(fleet.root / "away")


def _empty_master(fleet: Fleet) -> None:
    (fleet.remote / "coordledger/master").write_text("")


def _other_master(fleet: Fleet) -> None:
    (fleet.remote / "coordledger/master").write_text(mint().reveal() + "\n")


@pytest.mark.parametrize(
    ("damage", "slug"),
    [
        (_break_python, "hook-broken"),
        (_break_interpreter, None),
        (_break_package, "hook-broken"),
        (_expose_master, "hook-broken"),
        (_empty_master, "hook-broken"),
        (_remove_secrets, "no-secret"),
        (_other_master, "no-secret"),
    ],
)
def test_a_hook_that_cannot_work_refuses_records_and_nothing_else(
    fleet: Fleet,
    attacker_for: Callable[[Fleet], Attacker],
    damage: Callable[[Fleet], None],
    slug: str | None,
) -> None:
    attacker = attacker_for(fleet)
    good, code, head = (
        attacker.propose(attacker.signed("alice", "void")),
        _code(attacker),
        attacker.tip,
    )
    damage(fleet)
    assert attacker.push(f"{code}:refs/heads/main").slug == ""
    pushed = attacker.push(good)
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

    old, good, code = (
        attacker.tip,
        attacker.propose(attacker.signed("alice", "void")),
        _code(attacker),
    )
    assert attacker.push(good).slug == ""
    assert seen.read_text() == f"{old} {good} {LEDGER_REF}\n"
    assert attacker.push(f"{code}:refs/heads/main").slug == ""
    assert seen.read_text() == f"{'0' * 40} {code} refs/heads/main\n"
    bad = attacker.propose(attacker.sign(attacker.record("alice", "void"), mint()))
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


def test_installing_the_hook_compiles_it(shared_fleet: Fleet, tmp_path: Path) -> None:
    """The account that runs it may have no right to."""
    package = tmp_path / "coordledger"
    shutil.copytree(Path(hooks.__file__).parent.parent, package, ignore=lambda *_: ["__pycache__"])
    shutil.copy(hooks.shim("pre-receive"), package)
    shared_fleet.git("init", "--quiet", "--bare", tmp_path / "r.git")

    def install() -> str:
        argv = [sys.executable, "-B", "-m", "coordledger", "hook", "install", "r.git"]
        ran = plain(*argv, cwd=tmp_path, env=shared_fleet.env | {"PYTHONPATH": str(tmp_path)})
        assert ran.returncode == 0, ran.stderr
        return ran.stdout.decode()

    assert "compiles" not in install()
    assert len(list(package.glob("server/__pycache__/pre_receive.*.pyc"))) == 1
    shutil.rmtree(package / "server/__pycache__")
    (package / "server/__pycache__").touch()
    assert f"-m compileall {package}" in install()


@pytest.mark.parametrize("borrows", [False, True])
def test_pushes_do_not_list_the_refs_of_what_the_quarantine_borrows_from(
    shared_fleet: Fleet, tmp_path: Path, borrows: bool
) -> None:
    bare = tmp_path / "r.git"
    shared_fleet.git("init", "--quiet", "--bare", bare)
    if borrows:
        (bare / "objects/info/alternates").write_text(f"{shared_fleet.remote}/objects\n")
    done = install_hook(bare, Git(shared_fleet.env, tmp_path, Deadline(30)))
    assert ("set core.alternateRefsCommand=true" in done) is not borrows


def test_a_try_is_judged_and_never_lands(attacker: Attacker) -> None:
    good = _good(attacker)
    assert attacker.refusal(f"{good}:{TRY_REF}") == "try-ok"
    assert attacker.refusal(f"{good}:{TRY_REF}") == "try-ok"
    bad = attacker.propose(attacker.sign(attacker.record("bob", "void"), mint()))
    assert attacker.refusal(f"{bad}:{TRY_REF}") == "bad-signature"
    assert attacker.refusal(f"{_sibling(attacker)}:{TRY_REF}") == "not-fast-forward"
    assert attacker.refusal(f"{good}:{TRY_REF}", f"{good}:{LEDGER_REF}") == "try-ok"
    zero = "0" * 40
    assert attacker.hook(f"{zero} {zero} {TRY_REF}\n".encode()).slug == "no-delete"
    assert attacker.push(good).slug == ""


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
    assert shifted.local.journal.intents() == []


def test_the_hook_says_how_far_behind_a_clock_is(attacker: Attacker) -> None:
    attacker.later = -40_000
    pushed = attacker.push(_good(attacker))
    assert pushed.slug == "clock-skew"
    assert re.search("(39|40) s behind the server's, more than 30 s", pushed.said[0])
    attacker.later = -25_000
    assert attacker.push(_good(attacker)).slug == ""


def test_nobody_takes_over_before_the_end_and_the_skew(
    make_fleet: Callable[..., Fleet], attacker_for: Callable[[Fleet], Attacker]
) -> None:
    fleet = make_fleet(max_skew=1)
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
    attacker.later = 1000
    while attacker.now < end:
        time.sleep(0.02)
    fast = attacker.signed("bob", "claim", tasks=["t"])
    assert attacker.refusal(attacker.propose(fast)) == "too-early"
    result = bob.claim("t", wait=timedelta(seconds=5))
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
    bad = attacker.propose(attacker.sign(attacker.record("bob", "void"), mint()))
    assert attacker.push(bad, env=noise).slug == "bad-signature"
    assert attacker.push(_good(attacker), env=noise).slug == ""
    update = f"{attacker.tip} {bad} {LEDGER_REF}\n".encode()
    assert attacker.hook(update, **noise).slug != ""
    update = f"{attacker.tip} {_good(attacker)} {LEDGER_REF}\n".encode()
    assert attacker.hook(update, **noise).slug == ""


def test_init_guards_the_repository_that_it_names(shared_fleet: Fleet, tmp_path: Path) -> None:
    """And not the one that a surrounding git speaks of."""
    other, target = tmp_path / "other.git", tmp_path / "guarded.git"
    shared_fleet.git("init", "--quiet", "--bare", other)
    env = shared_fleet.env | {"GIT_DIR": str(other), "XDG_CONFIG_HOME": str(tmp_path / "config")}
    genesis.init(Options(path=tmp_path, agent="alice"), env, str(target), 30)
    assert (target / "hooks/pre-receive").exists()
    assert not (other / "hooks/pre-receive").exists()


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

    sibling = _sibling(attacker)
    assert attacker.push(f"{sibling}:refs/replace/{attacker.tip}").slug == ""
    grafts = shared_fleet.remote / "info/grafts"
    try:
        grafts.write_text(f"{attacker.tip}\n")
        assert attacker.refusal(_good(attacker, on=sibling)) == "not-fast-forward"
        assert attacker.refusal(_second_root(attacker)) == "not-fast-forward"
        assert attacker.push(_good(attacker)).slug == ""
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
