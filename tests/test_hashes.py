"""The digests are those of hashlib, whoever computes them."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordledger import hashes
from coordledger.hashes import LENGTHS, algorithm, digest, is_digest, is_hex


@pytest.fixture(params=["built-in", "hashlib"], autouse=True)
def maker(request, monkeypatch):
    """Both ways, whatever this process has hashed before."""
    hashlibs = hashes._with_hashlib(), 0
    made, left = hashes._built_in() if request.param == "built-in" else hashlibs
    monkeypatch.setattr(hashes, "_made", made)
    monkeypatch.setattr(hashes, "_left", left)


@pytest.mark.parametrize("algo", ["sha1", "sha256"])
def test_a_digest_is_that_of_hashlib(algo):
    data = bytes(n * n % 251 for n in range(300_000))
    for size in (*range(130), 1000, 65_536, len(data)):
        assert hashes.digest(algo, data[:size]) == hashlib.new(algo, data[:size]).digest(), size


@given(st.binary(max_size=200), st.binary(max_size=300))
def test_the_mac_is_that_of_hmac(key, data):
    assert hashes.hmac_sha256(key, data) == hmac.digest(key, data, "sha256")


@pytest.mark.parametrize("size", [43, 63, 64, 65, 512])
def test_the_mac_is_that_of_hmac_for_keys_around_a_block(size):
    key = b"k" * size
    assert hashes.hmac_sha256(key, b"data") == hmac.digest(key, b"data", "sha256")


def test_who_hashes_much_gets_hashlib():
    for _ in range(6):
        hashes.digest("sha256", bytes(65_536))
    assert hashes._made == hashes._with_hashlib()


def test_hexadecimal_digits_are_small_ascii_ones() -> None:
    assert is_hex("0123456789abcdef")
    assert is_hex("ab", 2, 4)
    assert not is_hex("ab", 3, 4)
    for text in ("AB", "0x1", "a b", "é", "a\n", "１"):
        assert not is_hex(text)


def test_a_digest_tells_its_algorithm() -> None:
    for algo, length in LENGTHS.items():
        digits = digest(algo, b"x").hex()
        assert len(digits) == length
        assert is_digest(digits)
        assert algorithm(digits) == algo
    assert not is_digest("a" * 41)
    assert not is_digest("A" * 40)
