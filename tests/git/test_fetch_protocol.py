"""A fetch of commits alone: beside git's own words, and beside bytes that a server makes up."""

from __future__ import annotations

import random
import subprocess
import zlib
from typing import TYPE_CHECKING

import pytest

from coordledger.git import fetch_protocol, pktline
from coordledger.git.fetch_protocol import MOST_OBJECTS, commits, commits_in
from coordledger.git.pktline import FLUSH, ProtocolError
from coordledger.git.push_protocol import Advertisement, advertisement
from coordledger.git.tree import object_id

if TYPE_CHECKING:
    from pathlib import Path


class Server:
    """A repository with a line of commits, each with a file and a long text."""

    def __init__(self, path: Path, env: dict[str, str], algo: str, count: int) -> None:
        self.path, self.env, self.algo = path, env, algo
        self.git("init", "--quiet", "--bare", f"--object-format={algo}", ".")
        self.git("config", "uploadpack.allowFilter", "true")
        story = []
        for n in range(count):
            text = f"commit {n}\n" + "the same long text in each of them\n" * 20
            story += [
                f"commit refs/heads/main\nmark :{n + 1}\ncommitter x <x@x> {n + 1} +0000",
                f"data {len(text)}\n{text}",
                f"M 100644 inline file\ndata <<END\n{n}\nEND\n",
            ]
        self.git("fast-import", "--quiet", data="\n".join(story).encode())
        self.ids = self.git("rev-list", "--reverse", "main").decode().split()

    def git(self, *argv: str, data: bytes = b"") -> bytes:
        self.path.mkdir(exist_ok=True)
        return subprocess.run(
            ["git", *argv], cwd=self.path, env=self.env, input=data, capture_output=True, check=True
        ).stdout

    def content(self, oid: str) -> bytes:
        return self.git("cat-file", "commit", oid)

    def pack(self, *options: str) -> bytes:
        wanted = f"{self.ids[-1]}\n^{self.ids[0]}\n".encode()
        return self.git("pack-objects", "--revs", "--stdout", "-q", *options, data=wanted)


@pytest.fixture(params=["sha1", "sha256"])
def server(tmp_path: Path, env: dict[str, str], request: pytest.FixtureRequest) -> Server:
    return Server(tmp_path / "server.git", env, request.param, 30)


@pytest.mark.parametrize("packed", [False, True], ids=["loose", "packed"])
def test_git_answers_with_the_commits_and_nothing_else(server: Server, *, packed: bool) -> None:
    if packed:
        server.git("repack", "-a", "-d", "-f", "-q", "--depth=50")
    said = server.git("upload-pack", "--advertise-refs", ".")
    advertised = advertisement(pktline.split(said)[0])
    assert fetch_protocol.offers_commits(advertised)
    asked = fetch_protocol.request(advertised, server.ids[-1], server.ids[9])
    answer = server.git("upload-pack", "--stateless-rpc", ".", data=asked)
    found = commits(answer, server.algo)
    assert found == {oid: server.content(oid) for oid in server.ids[10:]}


@pytest.mark.parametrize(
    "options", [(), ("--delta-base-offset",), ("--window=0",)], ids=["by id", "by place", "whole"]
)
def test_commits_are_read_whichever_way_git_packs_them(
    server: Server, options: tuple[str, ...]
) -> None:
    pack = server.pack("--filter=tree:0", *options)
    found = commits_in(pack, server.algo)
    assert found == {oid: server.content(oid) for oid in server.ids[1:]}


def test_of_a_pack_with_anything_else_the_commits_are_read(server: Server) -> None:
    found = commits_in(server.pack("--delta-base-offset"), server.algo)
    assert found == {oid: server.content(oid) for oid in server.ids[1:]}


def test_no_bytes_make_another_error_or_a_commit_of_another_id(server: Server) -> None:
    pack = server.pack("--filter=tree:0", "--delta-base-offset")
    honest = commits_in(pack, server.algo)
    dice = random.Random(1)
    for _ in range(1500):
        at = dice.randrange(len(pack))
        mangled = pack[:at] + bytes([dice.randrange(256)]) + pack[at + 1 :]
        if dice.random() < 0.2:
            mangled = mangled[: dice.randrange(len(mangled))]
        try:
            found = commits_in(mangled, server.algo)
        except ProtocolError:
            continue
        assert all(object_id("commit", c, server.algo) == oid for oid, c in found.items())
        assert len(found) <= len(honest)


def entry(kind: int, content: bytes, size: int | None = None, before: bytes = b"") -> bytes:
    """An object in a pack that says that it has this size."""
    size = len(content) if size is None else size
    head = [kind << 4 | size & 15]
    size >>= 4
    while size:
        head[-1] |= 128
        head.append(size & 127)
        size >>= 7
    return bytes(head) + before + zlib.compress(content)


def packed(*entries: bytes, count: int | None = None) -> bytes:
    count = len(entries) if count is None else count
    whole = b"PACK" + (2).to_bytes(4, "big") + count.to_bytes(4, "big") + b"".join(entries)
    return whole + bytes(20)


COMMIT = entry(1, b"tree x\n\nwhatever")
MADE_UP = {
    "no pack": b"",
    "another version": packed(COMMIT).replace(b"\0\0\0\2", b"\0\0\0\3", 1),
    "too many": packed(COMMIT, count=MOST_OBJECTS + 1),
    "more than there are": packed(COMMIT, count=2),
    "an object of no kind": packed(entry(5, b"x")),
    "a size that does not end": packed(b"\x9f" + b"\xff" * 100_000),
    "larger than it says": packed(entry(1, b"x" * 100, 5)),
    "smaller than it says": packed(entry(1, b"x", 5)),
    "very large": packed(entry(1, b"x" * 40_000_000)),
    "a delta of nothing": packed(entry(6, b"\1\1\1x", before=b"\5")),
    "a delta of itself": packed(entry(6, b"\1\1\1x", before=b"\0")),
    "a distance that does not end": packed(b"\x60" + b"\xff" * 100_000),
    "a delta of what is not there": packed(entry(7, b"\1\1\1x", before=bytes(20))),
    "a delta of another size": packed(COMMIT, entry(6, b"\1\1\1x", before=bytes([len(COMMIT)]))),
    "a delta that makes less": packed(COMMIT, entry(6, b"\x10\5\1x", before=bytes([len(COMMIT)]))),
    "a delta that makes more": packed(COMMIT, entry(6, b"\x10\1\2xy", before=bytes([len(COMMIT)]))),
    "a delta that leads outside": packed(
        COMMIT, entry(6, b"\x10\x20\x91\0\x20", before=bytes([len(COMMIT)]))
    ),
    "a delta with a step that is none": packed(
        COMMIT, entry(6, b"\x10\1\0x", before=bytes([len(COMMIT)]))
    ),
    "a delta that would be very large": packed(
        COMMIT, entry(6, b"\x10\xff\xff\xff\xff\x7f\1x", before=bytes([len(COMMIT)]))
    ),
}


@pytest.mark.parametrize("case", MADE_UP)
def test_what_a_server_makes_up_is_no_answer(case: str) -> None:
    assert len(b"tree x\n\nwhatever") == 0x10  # which the deltas speak of
    assert list(commits_in(packed(COMMIT), "sha1").values()) == [b"tree x\n\nwhatever"]
    with pytest.raises(ProtocolError):
        commits_in(MADE_UP[case], "sha1")


def banded(*parts: bytes) -> bytes:
    return b"".join(map(pktline.encode, parts))


ANSWERS = {
    "cut off": banded(b"NAK\n", b"\1" + packed(COMMIT)),
    "a death": banded(b"NAK\n", b"\1" + packed(COMMIT), b"\3out of memory") + FLUSH,
    "an error": banded(b"ERR filter 'tree' not supported") + FLUSH,
    "nothing": FLUSH,
    "no packets": b"<html>",
}


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_that_is_not_whole_is_none(case: str) -> None:
    assert commits(banded(b"NAK\n", b"\2what", b"\1" + packed(COMMIT)) + FLUSH, "sha1")
    with pytest.raises(ProtocolError):
        commits(ANSWERS[case], "sha1")


def test_a_server_that_does_not_offer_it_is_not_asked() -> None:
    for capabilities in ({"filter"}, {"side-band-64k"}, set[str]()):
        assert not fetch_protocol.offers_commits(Advertisement({}, frozenset(capabilities)))
