"""What is refused at refs/for/coordledger/* leaves nothing on the server's disk."""

from __future__ import annotations

import os
import re
import zlib
from typing import TYPE_CHECKING

import pytest
from support.attacker import Pushed, packet, plain
from support.fleet import LEDGER_REF
from support.forgeries import code_commit, commit_with_tree, forged, good, submitted
from support.sequencing import (
    ANSWERED_REF,
    FOR_REF,
    ZERO,
    bring,
    enveloped,
    grow,
    landed,
    switch,
)
from support.sequencing import send as send_to
from support.serve_process import serving
from support.ways_in import hand_on

from coordledger.format.chain import MAX_BASE_DISTANCE
from coordledger.git.pack import pack
from coordledger.git.tree import object_id
from coordledger.hashes import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.attacker import Attacker
    from support.fleet import Fleet

    from coordledger.git.tree import Objects

JUNK = 600_000  # bytes that do not compress
# git hands them all to proc-receive.
NOT_FOR_IT = (FOR_REF, ANSWERED_REF, "refs/for/coordledger/none", "refs/for/coordledger")


IN_QUARANTINE = "in quarantine"  # there records land before git lets their push in


@pytest.fixture(
    scope="module", params=["loose", "packed", "packed, by the resident", IN_QUARANTINE]
)
def shared_fleet(request: pytest.FixtureRequest, founded: Callable[..., Fleet]) -> Iterator[Fleet]:
    made = founded("bob", "carol")
    switch(made, sequence=True)
    if request.param != IN_QUARANTINE:
        hand_on(made)
    if "packed" in request.param:
        made.git("config", "receive.unpackLimit", "1")
    if "resident" in request.param:
        with serving(made):
            yield made
    else:
        yield made


@pytest.fixture
def lands(request: pytest.FixtureRequest, shared_fleet: Fleet) -> bool:
    """Whether a right record lands, whatever comes with it."""
    return IN_QUARANTINE in request.node.name


def rendered(attacker: Attacker, head: str) -> set[Path]:
    """The files of what the records above `head` have made."""
    made = ("rev-list", "--objects", "--no-object-names", f"{head}..{attacker.tip}")
    folder = attacker.fleet.remote / "objects"
    return {folder / oid[:2] / oid[2:] for oid in attacker.fleet.git(*made).split()}


def stored(fleet: Fleet) -> set[Path]:
    """All files among the repository's objects, a forgotten quarantine's too."""
    return {path for path in (fleet.remote / "objects").rglob("*") if path.is_file()}


def send(attacker: Attacker, oid: str, ref: str = ANSWERED_REF) -> Pushed:
    return send_to(attacker, oid, ref)


def junk() -> bytes:
    return os.urandom(JUNK)


def raw_push(attacker: Attacker, oid: str, packed: bytes, *deleted: str) -> Pushed:
    """A push by hand, with any pack, that asks to remove refs as well."""
    lines = [f"{ZERO} {oid} {ANSWERED_REF}\0report-status delete-refs"]
    lines += [f"{oid} {ZERO} {ref}" for ref in deleted]
    command = b"".join(packet(line.encode()) for line in lines) + b"0000"
    ran = plain(
        *("git", "receive-pack", attacker.fleet.remote),
        cwd=attacker.folder,
        env=attacker.fleet.env,
        data=command + packed,
    )
    return Pushed(0 if b"\x00ok " in ran.stdout else 1, ran.stdout.decode(), ran.stderr.decode())


def objects_of(attacker: Attacker, *oids: str) -> Objects:
    """Commits, and the tree of envelopes."""
    found: Objects = {oid: ("commit", attacker.raw(oid)) for oid in oids}
    return found | {attacker.tree(): ("tree", b"")}


def blobs(*contents: bytes) -> Objects:
    return {object_id("blob", content, "sha1"): ("blob", content) for content in contents}


def padded(packed: bytes, count: int) -> bytes:
    """A pack of one object whose deflated form has a long run of empty blocks."""
    header, body = packed[:12], packed[12:-20]
    sizes = next(n for n, byte in enumerate(body) if not byte & 128) + 1
    content = zlib.decompress(body[sizes:])
    stream = b"\x78\x9c" + b"\0\0\0\xff\xff" * count
    raw = zlib.compressobj(wbits=-15)
    stream += raw.compress(content) + raw.flush() + zlib.adler32(content).to_bytes(4, "big")
    whole = header + body[:sizes] + stream
    return whole + digest("sha1", whole)


# -- by somebody without a secret: what is public, and what anybody can make


def _old(attacker: Attacker) -> str:
    grow(attacker)
    oid = attacker.tip
    grow(attacker, 2)
    return oid


def _dressed(attacker: Attacker) -> str:
    """A public record between lines that do not compress."""
    content = attacker.raw(enveloped(attacker, _old(attacker))[0])
    lines = b"x " + os.urandom(100_000).hex().encode() + b"\ncommitter "
    return attacker.add("commit", content.replace(b"committer ", lines, 1))


def _with_blob(attacker: Attacker, oid: str) -> str:
    """The commit with a tree that holds junk."""
    tree = attacker.tree(("100644", attacker.add("blob", junk()), "x"))
    return attacker.add(
        "commit", re.sub(rb"^tree \S+", b"tree %s" % tree.encode(), attacker.raw(oid))
    )


def _tag(attacker: Attacker) -> str:
    oid = attacker.tip
    text = f"object {oid}\ntype commit\ntag x\ntagger a <a> 1 +0000\n\n{os.urandom(90_000).hex()}\n"
    return attacker.add("tag", text.encode())


WITHOUT_A_SECRET: dict[str, Callable[[Attacker], str]] = {
    "code": lambda attacker: _with_blob(attacker, code_commit(attacker)),
    "a blob": lambda attacker: attacker.add("blob", junk()),
    "a tree": lambda attacker: attacker.tree(("100644", attacker.add("blob", junk()), "x")),
    "a tag": _tag,
    "a forged record": lambda attacker: enveloped(attacker, forged(attacker))[0],
    "a forged record on the head": forged,
    "a forged record and a blob": lambda attacker: _with_blob(attacker, forged(attacker)),
    "a landed record": _old,
    "a landed record in an envelope": lambda attacker: enveloped(attacker, _old(attacker))[0],
    "a landed record in a large commit": _dressed,
    "a landed record and a blob": lambda attacker: _with_blob(
        attacker, enveloped(attacker, _old(attacker))[0]
    ),
    "the newest record in an envelope": lambda attacker: enveloped(attacker, attacker.tip)[0],
    "landed records in reverse": lambda attacker: enveloped(
        attacker, *attacker.git("rev-list", "-3", _old(attacker)).split()
    )[-1],
}


@pytest.mark.parametrize("case", WITHOUT_A_SECRET)
def test_who_has_no_secret_leaves_nothing(attacker: Attacker, case: str) -> None:
    oid = WITHOUT_A_SECRET[case](attacker)
    before, head = stored(attacker.fleet), attacker.tip
    for ref in (*NOT_FOR_IT, LEDGER_REF, "refs/coordledger-try/main"):
        assert send(attacker, oid, ref).code != 0, ref
        assert stored(attacker.fleet) == before, ref
    assert attacker.tip == head


def test_a_landed_record_whose_base_is_out_of_reach_leaves_nothing(attacker: Attacker) -> None:
    old = _old(attacker)
    [sent] = enveloped(attacker, old)
    for _ in range(2):
        grow(attacker, MAX_BASE_DISTANCE // 2 + 1)
    before = stored(attacker.fleet)
    assert send(attacker, sent).slug == "bad-base"
    assert stored(attacker.fleet) == before


# -- with a secret: a record that is right brings nothing but itself


def _beside(attacker: Attacker, more: Objects) -> tuple[str, bytes]:
    [sent] = enveloped(attacker, good(attacker))
    return sent, pack(objects_of(attacker, sent) | more, "sha1")


def _padded(attacker: Attacker) -> tuple[str, bytes]:
    [sent] = enveloped(attacker, good(attacker))
    return sent, padded(pack({sent: ("commit", attacker.raw(sent))}, "sha1"), 200_000)


def _many_times(attacker: Attacker) -> tuple[str, bytes]:
    [sent] = enveloped(attacker, good(attacker))
    one = pack({sent: ("commit", attacker.raw(sent))}, "sha1")[12:-20]
    whole = b"PACK\0\0\0\2" + (2000).to_bytes(4, "big") + one * 2000
    return sent, whole + digest("sha1", whole)


def _stray_commit(attacker: Attacker) -> tuple[str, bytes]:
    return _beside(attacker, objects_of(attacker, _dressed(attacker)))


WITH_A_SECRET: dict[str, Callable[[Attacker], tuple[str, bytes]]] = {
    "a large blob": lambda attacker: _beside(attacker, blobs(junk())),
    "a small blob": lambda attacker: _beside(attacker, blobs(b"x" + os.urandom(9))),
    "many blobs": lambda attacker: _beside(attacker, blobs(*(os.urandom(9) for _ in range(300)))),
    "another commit": _stray_commit,
    "more objects than anybody needs": lambda attacker: _beside(
        attacker, blobs(*(b"%d" % n for n in range(17_000)))
    ),
}


@pytest.mark.parametrize("case", WITH_A_SECRET)
def test_a_right_record_brings_nothing_beside_it(
    attacker: Attacker, case: str, lands: bool
) -> None:
    sent, packed = WITH_A_SECRET[case](attacker)
    before, head = stored(attacker.fleet), attacker.tip
    pushed = raw_push(attacker, sent, packed)
    assert pushed.slug == ("" if lands else "unneeded")
    assert stored(attacker.fleet) == before | rendered(attacker, head)
    assert (attacker.tip != head) == lands
    assert len(landed(send(attacker, sent))) == 1  # without it


def test_a_branch_that_goes_along_to_be_removed_brings_nothing(attacker: Attacker) -> None:
    sent, packed = _beside(attacker, blobs(junk()))
    before = stored(attacker.fleet)
    assert raw_push(attacker, sent, packed, "refs/heads/none").slug == "unneeded"
    assert stored(attacker.fleet) == before


@pytest.mark.parametrize("make", [_padded, _many_times])
def test_a_pack_is_not_blown_up(
    attacker: Attacker, make: Callable[[Attacker], tuple[str, bytes]]
) -> None:
    """Where git keeps the pack as it came; loose objects it writes itself."""
    sent, packed = make(attacker)
    size = sum(path.stat().st_size for path in stored(attacker.fleet))
    raw_push(attacker, sent, packed)
    grown = sum(path.stat().st_size for path in stored(attacker.fleet)) - size
    assert grown < len(packed) / 4
    assert len(landed(send(attacker, sent))) == 1


def test_a_record_with_another_tree_than_its_own_brings_no_such_tree(
    attacker: Attacker, lands: bool
) -> None:
    _, wrong = commit_with_tree(
        attacker, lambda a, entries: [*entries, ("100644", a.add("blob", junk()), "zzz")]
    )
    before, head = stored(attacker.fleet), attacker.tip
    assert send(attacker, wrong).slug == ("" if lands else "unneeded")
    assert stored(attacker.fleet) == before | rendered(attacker, head)
    assert (attacker.tip != head) == lands


def test_a_chain_with_one_bad_record_leaves_nothing(attacker: Attacker) -> None:
    oids = attacker.voids(3)
    sent = enveloped(attacker, *oids, forged(attacker, on=oids[-1]))
    before = stored(attacker.fleet)
    assert send(attacker, sent[-1]).slug == "bad-signature"
    assert stored(attacker.fleet) == before


# -- what is right, and what is none of ours, passes


def test_records_land_in_envelopes_and_as_git_pushes_them(attacker: Attacker) -> None:
    assert len(landed(send(attacker, enveloped(attacker, *attacker.voids(5))[-1]))) == 5
    assert len(landed(send(attacker, attacker.voids(150)[-1]))) == 150
    old = attacker.tip
    grow(attacker)
    late = submitted(attacker, "late", on=old)  # git fills its pack up with older trees
    assert len(landed(send(attacker, late))) == 1


def test_what_git_fills_a_pack_up_with_was_there_before(attacker: Attacker) -> None:
    """The page that a change of it is sent against, wherever the server keeps that."""
    meta = {"noise": os.urandom(500).hex()}
    offer = attacker.propose(attacker.signed("alice", "submit", task="large", meta=meta))
    assert len(landed(send(attacker, offer))) == 1
    attacker.fleet.git("gc", "--quiet", "--prune=now")
    assert not list(attacker.fleet.remote.glob("objects/??/*"))
    taken = attacker.propose(attacker.signed("bob", "claim", tasks=["large"]))
    grow(attacker)
    assert len(landed(send(attacker, taken))) == 1


def test_a_branch_with_large_files_goes_along(attacker: Attacker) -> None:
    for number, ref in enumerate((FOR_REF, LEDGER_REF)):
        code, oid = _with_blob(attacker, code_commit(attacker)), good(attacker)
        pushed = attacker.push(f"{oid}:{ref}", f"{code}:refs/heads/large-{number}")
        assert pushed.slug == ""
        assert attacker.tip == oid
        assert attacker.fleet.head(f"refs/heads/large-{number}") == code


def test_one_refused_record_stops_the_whole_push(attacker: Attacker) -> None:
    code, oid = _with_blob(attacker, code_commit(attacker)), _old(attacker)
    before = stored(attacker.fleet)
    pushed = attacker.push(f"{oid}:{FOR_REF}", f"{code}:refs/heads/stopped")
    assert "heads/stopped" not in attacker.refs()
    assert (pushed.code, stored(attacker.fleet)) == (1, before)


def test_a_record_whose_objects_came_before_needs_none(attacker: Attacker) -> None:
    oid = good(attacker)
    bring(attacker, oid)
    assert len(landed(send(attacker, oid))) == 1


# -- other repositories


def test_a_sha_256_repository_stores_nothing_either(fleet: Fleet, tmp_path: Path) -> None:
    server, nobody = tmp_path / "server.git", tmp_path / "nobody"
    fleet.git("init", "--quiet", "--bare", "--object-format=sha256", server)
    fleet.run("init", server, "--agent", "alice", check=0)
    fleet.run("hook", "install", server, "--sequence", check=0)
    fleet.git("init", "--quiet", "--object-format=sha256", nobody)
    fleet.git("fetch", "--quiet", server, LEDGER_REF, cwd=nobody)
    (nobody / "large").write_bytes(junk())
    fleet.git("add", "large", cwd=nobody)
    fleet.git("-c", "user.name=x", "-c", "user.email=x", "commit", "-qm", "x", cwd=nobody)
    first = fleet.git("rev-parse", "FETCH_HEAD", cwd=nobody).strip()
    for limit in ("1", "100"):
        fleet.git("config", "receive.unpackLimit", limit, cwd=server)
        before = {path for path in (server / "objects").rglob("*") if path.is_file()}
        for oid in ("HEAD", first):
            ran = plain("git", "push", server, f"{oid}:{FOR_REF}", cwd=nobody, env=fleet.env)
            assert ran.returncode != 0
            assert {path for path in (server / "objects").rglob("*") if path.is_file()} == before


def test_an_index_of_the_first_version_is_read(own_sequenced: Attacker) -> None:
    fleet = own_sequenced.fleet
    hand_on(fleet)
    fleet.git("config", "receive.unpackLimit", "1")
    fleet.git("config", "pack.indexVersion", "1")
    [sent] = enveloped(own_sequenced, good(own_sequenced))
    packed = pack(objects_of(own_sequenced, sent) | blobs(b"x"), "sha1")
    assert raw_push(own_sequenced, sent, packed).slug == "unneeded"
    assert len(landed(send(own_sequenced, sent))) == 1


@pytest.fixture
def own_sequenced(fleet: Fleet, attacker_for: Callable[[Fleet], Attacker]) -> Attacker:
    fleet.enroll("bob")
    switch(fleet, sequence=True)
    return attacker_for(fleet)
