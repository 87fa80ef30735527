"""Records, commits, trees and histories that a server has to refuse: tables of cases.

Rules: each case is wrong in one way; its key says in which. A case makes a commit with an
`Attacker` and pushes nothing.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from coordledger.format import canonical, timestamps
from coordledger.format.commit import MAX_COMMIT_BYTES, parse_commit
from coordledger.format.signing import Signed
from coordledger.setup.genesis import mint

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.attacker import Attacker


def good(attacker: Attacker, on: str | None = None) -> str:
    """A right record."""
    return attacker.propose(attacker.signed("alice", "void", on=on), on=on)


def submitted(attacker: Attacker, task: str, on: str | None = None) -> str:
    """A right record that makes a task."""
    return attacker.propose(attacker.signed("alice", "submit", on=on, task=task), on=on)


def forged(attacker: Attacker, on: str | None = None) -> str:
    """A record that is right but for its MAC."""
    return attacker.propose(attacker.sign(attacker.record("alice", "void"), mint()), on=on)


def code_commit(attacker: Attacker) -> str:
    """A commit of ordinary work."""
    who = "x <x@x> 1 +0000"
    text = f"tree {attacker.tree()}\nauthor {who}\ncommitter {who}\n\nx\n"
    return attacker.add("commit", text.encode())


# -- records


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


# -- histories


def parent(attacker: Attacker) -> str:
    parent = parse_commit(attacker.tip, attacker.raw(attacker.tip)).parent
    assert parent
    return parent


def sibling(attacker: Attacker) -> str:
    """A good record beside the head."""
    return good(attacker, on=parent(attacker))


def second_root(attacker: Attacker) -> str:
    raw = re.sub(rb"parent [0-9a-f]{40}\n", b"", attacker.raw(good(attacker)))
    return attacker.add("commit", raw)


def _merge(attacker: Attacker) -> str:
    line = f"parent {attacker.tip}\n"
    return attacker.changed(
        good(attacker), line.encode(), f"{line}parent {parent(attacker)}\n".encode()
    )


def _merge_other_order(attacker: Attacker) -> str:
    line = f"parent {attacker.tip}\n"
    return attacker.changed(
        good(attacker), line.encode(), f"parent {parent(attacker)}\n{line}".encode()
    )


def _tag_object(attacker: Attacker) -> str:
    who = "tagger x <x@x> 1 +0000"
    body = f"object {good(attacker)}\ntype commit\ntag x\n{who}\n\nx\n"
    return attacker.add("tag", body.encode())


# Each with the slug by which a push of the commit is refused, and a push to be sequenced: that
# one counts the record alone, which is right in some of these; None: it cannot be pushed so.
REWRITES: dict[str, tuple[Callable[[Attacker], str], str, str | None]] = {
    "a rewind": (parent, "not-fast-forward", ""),
    "a force-push beside the head": (sibling, "not-fast-forward", ""),
    "a deletion": (lambda f: "", "no-delete", None),
    "a second root": (second_root, "not-fast-forward", ""),
    "a merge commit": (_merge, "bad-commit", ""),
    "a merge commit with the head second": (_merge_other_order, "not-fast-forward", ""),
    "a commit of ordinary work": (
        lambda f: f.add("commit", f.raw(f.tip).split(b"\n\n")[0] + b"\n\nhello\n"),
        "bad-commit",
        "bad-commit",
    ),
}


# -- trees


TREE_LINE = re.compile(rb"(?<=^tree )[0-9a-f]{40}")


def commit_with_tree(
    attacker: Attacker, change: Callable[[Attacker, list], list]
) -> tuple[str, str]:
    """A right commit, and the same with other entries in its root."""
    right = attacker.propose(attacker.signed("bob", "submit", task=f"tree-{attacker.now}"))
    old = TREE_LINE.search(attacker.raw(right))
    assert old
    new = attacker.tree(*change(attacker, attacker.entries(old[0].decode())))
    return right, attacker.changed(right, old[0], new.encode())


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


# -- the commit's bytes


# Of a message to the channel `general`: what to replace, by what. The record can be read still.
MANGLED_AROUND = {
    "the author's name": (rb"author bob/", b"author eve/"),
    "the author's session": (rb"(?<=author bob/)s1", b"s2"),
    "the author's address": (rb"(?<=<)bob@", b"eve@"),
    "the author's date": (rb"(?<=> )\d(?=\d+ \+0000\ncommitter)", b"2"),
    "the author's zone": (rb"\+0000(?=\ncommitter)", b"+0100"),
    "the committer's name": (rb"committer bob/", b"committer eve/"),
    "the committer's address": (rb"(?<=committer bob/s1 <)bob@", b"eve@"),
    "the committer's date": (rb"(?<=> )\d(?=\d+ \+0000\n\n)", b"2"),
    "the committer's zone": (rb"\+0000(?=\n\n)", b"-0000"),
    "the subject": (rb"(?<=\n\n)send to", b"sent to"),
    "a subject with an escape": (rb"(?<=\n\n)send to", b"\x1b[31msend to"),
    "the algorithm": (rb"hmac-sha256 bob", b"hmac-md5 bob"),
    "the signer": (rb"(?<=hmac-sha256 )bob/1", b"eve/1"),
    "the key": (rb"(?<=hmac-sha256 )bob/1", b"bob/2"),
    "the seq": (rb"(?<=Seq: )", b"0"),
    "the digest": (rb"(?<=Digest: )[0-9a-f]{4}", b"f00d"),
    "the digest's case": (rb"(?<=Digest: )[0-9a-f]{64}", b"A" * 64),
    "no line end": (rb"\n\Z", b""),
    "carriage returns": (rb"\n(?=Coordledger-Seq)", b"\r\n"),
}
# The same, but the record cannot be read any more: with the slug.
MANGLED_RECORD = {
    "the order in the payload": (
        rb'"agent":"bob","at":("[^"]+")',
        rb'"at":\1,"agent":"bob"',
        "not-canonical",
    ),
    "an encoding header": (rb"(?<=\+0000)(?=\n\n)", b"\nencoding latin1", "bad-commit"),
    "a signature header": (rb"(?<=\+0000)(?=\n\n)", b"\ngpgsig x", "bad-commit"),
    "a body between subject and payload": (rb"(?=\n\n\{)", b"\n\nhello", "bad-commit"),
    "a space in the payload": (rb'(?<=\n\n\{)(?=")', b" ", "not-canonical"),
    "a name twice in the payload": (rb'(?<=\n\n\{)(?=")', b'"agent":"bob",', "bad-json"),
    "an escape in the payload": (rb'(?<="agent":")b', rb"\\u0062", "not-canonical"),
    "a bit that the tag's base64 ignores": (rb"(?<=[A-Za-z0-9+/])=\n", b"==\n", "bad-commit"),
    "one more trailer": (rb"\Z", b"Signed-off-by: eve\n", "bad-commit"),
    "one more line": (rb"\Z", b"\n", "bad-commit"),
    "a NUL and more": (rb"\Z", b"\0hidden", "bad-commit"),
}


def mangled(attacker: Attacker, right: str, pattern: bytes, new: bytes) -> str:
    """The commit with one thing changed."""
    content, changes = re.subn(pattern, new, attacker.raw(right), count=1)
    assert (changes, content == attacker.raw(right)) == (1, False)
    return attacker.add("commit", content)


# -- what is no record, or too much of one


def _huge_commit(attacker: Attacker) -> str:
    filler = b"\n" + b"x" * MAX_COMMIT_BYTES
    return attacker.add("commit", attacker.raw(good(attacker)) + filler)


def _huge_payload(attacker: Attacker) -> str:
    huge = attacker.signed("bob", "send", channel="general", body="x")
    payload = huge.payload.replace(b'"body":"x"', b'"body":"%s"' % (b"x" * 131_072))
    tag = attacker.secret("bob").sign(payload)
    record = dict(huge.record) | {"body": "x" * 131_072}
    return attacker.render(Signed(payload, record, tag))


UNFIT = {
    "a huge commit": (_huge_commit, "too-large"),
    "a huge payload": (_huge_payload, "too-large"),
    "1025 records": (lambda f: f.voids(1025)[-1], "too-many-records"),
    "a blob": (lambda f: f.add("blob", b"x"), "bad-push"),
    "a tree": (lambda f: f.head.tree, "bad-push"),
    "a tag": (_tag_object, "bad-push"),
    "a commit of ordinary work": (code_commit, "bad-commit"),
}


# -- what comes at the wrong time


def _at(milliseconds: int) -> Callable[[Attacker], str]:
    def make(attacker: Attacker) -> str:
        attacker.later = milliseconds
        try:
            return attacker.render(attacker.signed("bob", "void"))
        finally:
            attacker.later = 0

    return make


def _before_head(attacker: Attacker) -> str:
    earliest = 1000 * attacker.head.committed - 2 * attacker.state.skew
    return _at(earliest - 1000 - attacker.now)(attacker)


def _takeover(attacker: Attacker) -> str:
    """A claim by a clock that is fast within what is allowed, once a lease of 0.1 s is over."""
    task = f"expiring-{attacker.now}"
    lease = timestamps.show(attacker.now + 100)
    claim = attacker.signed("alice", "claim", tasks=[task], until=lease)
    assert attacker.push(attacker.propose(claim)).slug == ""
    time.sleep(0.2)
    attacker.later = attacker.state.skew
    try:
        return attacker.propose(attacker.signed("bob", "claim", tasks=[task]))
    finally:
        attacker.later = 0


LATE = {
    "a clock 40 s ahead": (_at(40_000), "clock-skew"),
    "a clock 40 s behind": (_at(-40_000), "clock-skew"),
    "a clock further behind the newest record": (_before_head, "time-backwards"),
    "a takeover before the end and the skew": (_takeover, "too-early"),
}
