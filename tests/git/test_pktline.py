"""git's frames: read back as they were written, refused where they are odd."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordledger.git import pktline
from coordledger.git.pktline import FLUSH, MAX_LENGTH, ProtocolError, encode

PACKETS = st.lists(st.binary(max_size=200), max_size=6)
ODD = [
    *(b"0001", b"0002", b"0003", b"fff1", b"ffff"),
    *(b"zzzz", b"-001", b"+01f", b"    ", b"  1f", b"0x1f", b"1_0f", b"<htm"),
]


@given(PACKETS, st.binary(max_size=20))
def test_packets_are_read_back_as_they_were_written(packets: list[bytes], rest: bytes) -> None:
    whole = b"".join(map(encode, packets)) + FLUSH
    assert pktline.split(whole + rest) == (packets, rest, True)
    stream = io.BytesIO(whole + rest)
    assert pktline.read(stream.read, len(whole)) == packets
    assert stream.read() == rest


@given(PACKETS, st.data())
def test_before_the_flush_what_is_cut_off_is_left(
    packets: list[bytes], data: st.DataObject
) -> None:
    whole = b"".join(map(encode, packets)) + FLUSH
    cut = data.draw(st.integers(0, len(whole) - 1))
    first, rest, flushed = pktline.split(whole[:cut])
    assert not flushed
    assert first == packets[: len(first)]
    assert b"".join(map(encode, first)) + rest == whole[:cut]
    later, nothing, flushed = pktline.split(rest + whole[cut:])
    assert (first + later, nothing, flushed) == (packets, b"", True)
    with pytest.raises(ProtocolError):
        pktline.read(io.BytesIO(whole[:cut]).read, len(whole))


@pytest.mark.parametrize("size", ODD)
def test_a_packet_of_an_odd_length_is_refused(size: bytes) -> None:
    with pytest.raises(ProtocolError):
        pktline.split(size + b"x" * 70_000)
    with pytest.raises(ProtocolError):
        pktline.read(io.BytesIO(size + b"x" * 70_000).read, 100_000)


def test_what_is_no_packet_is_shown() -> None:
    with pytest.raises(ProtocolError, match="Sorry, no such repository"):
        pktline.split(b"Sorry, no such repository")


def test_a_length_is_read_whatever_case_its_digits_have() -> None:
    assert pktline.split(b"001Fx" + b"y" * 26 + FLUSH)[0] == [b"x" + b"y" * 26]


def test_the_longest_packet_is_read() -> None:
    packet = b"x" * (MAX_LENGTH - 4)
    assert pktline.split(encode(packet) + FLUSH) == ([packet], b"", True)


def test_no_more_is_read_than_the_limit() -> None:
    stream = io.BytesIO(encode(b"x" * 20) + encode(b"y" * 20) + FLUSH)
    with pytest.raises(ProtocolError):
        pktline.read(stream.read, 40)
    assert stream.tell() == 24 + 4
