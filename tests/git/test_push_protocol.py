"""What a push looks like on the wire: whole, cut off at every byte, and odd."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordledger.git import pktline, push_protocol
from coordledger.git.pktline import FLUSH, ProtocolError
from coordledger.git.push_protocol import Advertisement

REF = "refs/coordledger/main"
OLD, NEW = "1" * 40, "2" * 40
BANDED = Advertisement({}, frozenset({"report-status", "side-band-64k", "ofs-delta"}))
PLAIN = Advertisement({}, frozenset({"report-status"}))
SAYS = b"report-status side-band-64k delete-refs object-format=sha1 agent=git/2.39.5"
ADVERTISED = (
    pktline.encode(f"{OLD} {REF}".encode() + b"\0" + SAYS + b"\n")
    + pktline.encode(f"{NEW} refs/heads/main\n".encode())
    + FLUSH
)
ANNOUNCED = pktline.encode(b"# service=git-receive-pack\n") + FLUSH


def report(*lines: str) -> bytes:
    return b"".join(pktline.encode(line.encode() + b"\n") for line in lines) + FLUSH


def banded(inner: bytes, *printed: str, piece: int = 1000) -> bytes:
    """As side-band-64k carries it: what the hooks printed, and the report in pieces."""
    out = [pktline.encode(b"\2" + line.encode()) for line in printed]
    out += [pktline.encode(b"\1" + inner[at : at + piece]) for at in range(0, len(inner), piece)]
    return b"".join([*out, FLUSH])


WON = report("unpack ok", f"ok {REF}")
LOST = report("unpack ok", f"ng {REF} failed to update ref")


@given(st.binary(max_size=300))
def test_whatever_comes_is_parsed_or_refused(data: bytes) -> None:
    for there in (BANDED, PLAIN):
        for act in (
            lambda: push_protocol.advertisement(pktline.split(data)[0]),
            lambda: push_protocol.service_advertisement(data, "git-receive-pack"),
            lambda there=there: push_protocol.report(data, there),
        ):
            try:
                act()
            except ProtocolError as fault:
                assert str(fault)


# -- the advertisement


def test_an_advertisement_has_refs_and_capabilities() -> None:
    found = push_protocol.service_advertisement(ANNOUNCED + ADVERTISED, "git-receive-pack")
    assert found.refs == {REF: OLD, "refs/heads/main": NEW}
    assert found.capabilities == frozenset(SAYS.decode().split())
    assert found.algo == "sha1"


def test_an_empty_repository_advertises_capabilities_alone() -> None:
    line = b"0" * 64 + b" capabilities^{}\0report-status object-format=sha256\n"
    found = push_protocol.advertisement([line])
    assert (found.refs, found.algo) == ({}, "sha256")


def test_a_server_that_does_not_say_has_sha1() -> None:
    assert (
        push_protocol.advertisement([f"{OLD} {REF}".encode() + b"\0report-status"]).algo == "sha1"
    )


def test_versions_and_shallow_lines_are_passed_over() -> None:
    lines = [b"version 1", f"{OLD} {REF}".encode() + b"\0report-status", b"shallow " + b"3" * 40]
    found = push_protocol.advertisement(lines)
    assert (found.refs, found.capabilities) == ({REF: OLD}, frozenset({"report-status"}))


def test_a_servers_error_is_its_word() -> None:
    with pytest.raises(ProtocolError, match="access denied"):
        push_protocol.advertisement([b"ERR access denied\n"])


def test_an_advertisement_that_is_cut_off_is_none() -> None:
    whole = ANNOUNCED + ADVERTISED
    for cut in range(len(whole)):
        with pytest.raises(ProtocolError):
            push_protocol.service_advertisement(whole[:cut], "git-receive-pack")


@pytest.mark.parametrize(
    "answer",
    [
        ADVERTISED,  # nothing announced
        FLUSH + ADVERTISED,
        pktline.encode(b"# service=git-upload-pack\n") + FLUSH + ADVERTISED,
        pktline.encode(b"# service=git-receive-pack\n") * 2 + FLUSH + ADVERTISED,
        b"<html><title>Welcome to our hotel</title></html>",
        b"",
    ],
)
def test_what_announces_another_service_is_refused(answer: bytes) -> None:
    with pytest.raises(ProtocolError):
        push_protocol.service_advertisement(answer, "git-receive-pack")


# -- the request


def test_a_request_names_the_moves_then_has_the_pack() -> None:
    there = push_protocol.advertisement(pktline.split(ADVERTISED)[0])
    said = push_protocol.request(
        there, [(OLD, NEW, REF), (None, NEW, "refs/a"), (OLD, None, "refs/b")], b"P"
    )
    lines, pack, _ = pktline.split(said)
    first, _, capabilities = lines[0].partition(b"\0")
    assert first.decode() == f"{OLD} {NEW} {REF}"
    assert set(capabilities.decode().split()) == {
        *("report-status", "side-band-64k", "delete-refs", "object-format=sha1")
    }
    assert [line.decode() for line in lines[1:]] == [
        f"{'0' * 40} {NEW} refs/a",
        f"{OLD} {'0' * 40} refs/b",
    ]
    assert pack == b"P"


def test_ids_are_as_wide_as_the_servers() -> None:
    there = Advertisement({}, frozenset({"report-status", "object-format=sha256"}))
    lines, _, _ = pktline.split(push_protocol.request(there, [(None, "2" * 64, REF)], b""))
    assert lines[0].startswith(b"0" * 64 + b" ")


# -- the report


@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_a_report_tells_what_became_of_each_ref(piece: int) -> None:
    inner = report("unpack ok", f"ok {REF}", "ng refs/a hook declined", "ng refs/b")
    for answer, there in [(banded(inner, "hello\n", piece=piece), BANDED), (inner, PLAIN)]:
        found = push_protocol.report(answer, there)
        assert found.unpacked == "ok"
        assert found.refs == {REF: None, "refs/a": "hook declined", "refs/b": "refused"}
        assert found.printed == ("hello\n" if there is BANDED else "")


@pytest.mark.parametrize("inner", [WON, LOST], ids=["won", "lost"])
@pytest.mark.parametrize("there", [BANDED, PLAIN], ids=["banded", "plain"])
def test_a_report_that_is_cut_off_is_none(inner: bytes, there: Advertisement) -> None:
    answer = banded(inner, "text\n", piece=11) if there is BANDED else inner
    # The outer flush says nothing: the report has its own.
    needed = len(answer) - (4 if there is BANDED else 0)
    for cut in range(needed):
        with pytest.raises(ProtocolError):
            push_protocol.report(answer[:cut], there)
    whole = push_protocol.report(answer, there)
    for cut in range(needed, len(answer)):
        assert push_protocol.report(answer[:cut], there) == whole


def test_a_whole_report_counts_whatever_the_server_died_of_afterwards() -> None:
    """Else a write that has landed, or was refused, would stay unknown for ever."""
    death = pktline.encode(b"\3fatal: out of memory\n")
    refused = report("unpack ok", f"ng {REF} pre-receive hook declined")
    for inner, why in ((WON, None), (refused, "pre-receive hook declined")):
        whole = banded(inner, "hello\n")
        for answer in (death + whole, whole[:-4] + death + FLUSH):
            assert push_protocol.report(answer, BANDED).refs == {REF: why}
    with pytest.raises(ProtocolError, match="out of memory"):
        push_protocol.report(death + FLUSH, BANDED)


@pytest.mark.parametrize(
    "answer",
    [
        FLUSH,
        banded(FLUSH),
        banded(report(f"ok {REF}")),  # not a word on the pack
        banded(report("unpack", f"ok {REF}")),
        banded(report("unpack ok", f"ok {REF}", f"ng {REF} hook declined")),
        banded(report("unpack ok", f"ng {REF} hook declined", f"ok {REF}")),
        banded(b"", "only what the hook printed\n"),
        pktline.encode(b"\3fatal: out of memory\n") + FLUSH,
        pktline.encode(b"") + banded(WON),
        banded(WON[:-4] + b"0003"),
        b"<html>200 OK</html>",
        pktline.encode(b"\3fatal: out of memory\n") + banded(WON)[:-12],
    ],
)
def test_an_odd_report_is_none(answer: bytes) -> None:
    with pytest.raises(ProtocolError):
        push_protocol.report(answer, BANDED)
