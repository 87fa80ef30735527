"""Section 5, ssh-ed25519: which keys and which signatures are taken.

Each answer is compared with two that know nothing of ours: `ssh-keygen -Y verify`, and the second
reader's own arithmetic. We may be stricter, by the rules that the page names; never laxer.
"""

import base64
import hashlib
import random
import shutil
import subprocess

import pytest
from support import second_reader
from support.ssh_keys import SshKey
from vectors.make import LOW_Y, NO_POINT_Y, ORDER_8_Y

from coordledger.format import sshsig
from coordledger.format.sshsig import L, P, PublicKey

KEY = SshKey.of("bob/1")
PAYLOAD = b'{"a":"record"}'
TAG = KEY.sign(PAYLOAD)


def encoded(y, sign=0):
    return (y | sign << 255).to_bytes(32, "little")


class OpenSsh:
    """`ssh-keygen -Y verify` of one payload; the answers of another program."""

    def __init__(self, folder):
        self.folder = folder

    def verifies(self, verifier, payload, tag):
        signers, signature = self.folder / "signers", self.folder / "signature"
        signers.write_text(f'bob namespaces="{sshsig.NAMESPACE}" ssh-ed25519 {verifier}\n')
        wrapped = sshsig.string(b"ssh-ed25519") + sshsig.string(tag)
        parts = (b"coordledger.record.v1", b"", b"sha512", wrapped)
        blob = b"SSHSIG" + (1).to_bytes(4, "big") + sshsig.string(base64.b64decode(verifier))
        text = base64.encodebytes(blob + b"".join(map(sshsig.string, parts))).decode()
        signature.write_text(f"-----BEGIN SSH SIGNATURE-----\n{text}-----END SSH SIGNATURE-----\n")
        command = ["ssh-keygen", "-Y", "verify", "-f", signers, "-I", "bob"]
        command += ["-n", sshsig.NAMESPACE, "-s", signature]
        return (
            subprocess.run(command, input=payload, capture_output=True, check=False).returncode == 0
        )


@pytest.fixture
def openssh(tmp_path):
    assert shutil.which("ssh-keygen"), "OpenSSH is part of every machine that uses git over ssh"
    return OpenSsh(tmp_path)


def test_the_key_of_openssh_is_the_verifier_and_its_signature_the_tag(openssh, tmp_path):
    made = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", made], check=True)
    verifier = (tmp_path / "key.pub").read_text().split()[1]
    (tmp_path / "payload").write_bytes(PAYLOAD)
    sign = ["ssh-keygen", "-q", "-Y", "sign", "-n", sshsig.NAMESPACE, "-f", made]
    subprocess.run([*sign, tmp_path / "payload"], check=True, capture_output=True)
    armored = (tmp_path / "payload.sig").read_text().splitlines()[1:-1]
    tag = base64.b64decode("".join(armored))[-64:]
    assert PublicKey(verifier).verifies(PAYLOAD, tag)
    assert second_reader.verify_ssh(verifier, PAYLOAD, tag)
    assert openssh.verifies(verifier, PAYLOAD, tag)
    assert not PublicKey(verifier).verifies(PAYLOAD + b" ", tag)
    assert not PublicKey(KEY.public).verifies(PAYLOAD, tag)


def test_a_key_is_written_as_it_is_read():
    assert sshsig.decode_key(KEY.public) == KEY.raw
    assert len(KEY.public) == 68


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (encoded(0), "of small order"),
        (encoded(1), "of small order"),
        (encoded(1, 1), "of small order"),
        (encoded(P - 1), "of small order"),
        (encoded(ORDER_8_Y), "of small order"),
        (encoded(P - ORDER_8_Y), "of small order"),
        (encoded(P - ORDER_8_Y, 1), "of small order"),
        (encoded(P), "not canonical"),
        (encoded(P + 1), "not canonical"),
        (encoded(P + LOW_Y), "not canonical"),
        (encoded(2**255 - 1, 1), "not canonical"),
        (encoded(NO_POINT_Y), "no point"),
        (KEY.raw[:31], "not an ssh-ed25519 key"),
        (KEY.raw + b"\0", "not an ssh-ed25519 key"),
    ],
)
def test_a_key_that_is_refused_says_why(raw, why):
    text = sshsig.encode_key(raw)
    with pytest.raises(ValueError, match=why):
        sshsig.decode_key(text)
    assert not second_reader.public_key(text)


def test_the_values_of_small_order_are_all_that_there_are():
    """What is left of any point after L times it has an order that divides 8."""
    found = set()
    for y in range(2, 60):
        point = second_reader.decode_point(encoded(y))
        if point:
            rest = second_reader.times(L, point)
            for n in range(8):
                turned = second_reader.encode_point(second_reader.times(n, rest))
                found.add(int.from_bytes(turned, "little") % 2**255)
    assert found == {0, 1, P - 1, ORDER_8_Y, P - ORDER_8_Y}


def test_both_readers_agree_on_which_encodings_are_keys():
    dice = random.Random(8032)
    encodings = [dice.randbytes(32) for _ in range(300)]
    encodings += [encoded(y, sign) for y in (*range(40), *range(P - 20, 2**255)) for sign in (0, 1)]
    taken = 0
    for raw in encodings:
        text = sshsig.encode_key(raw)
        try:
            sshsig.decode_key(text)
            ours = True
        except ValueError:
            ours = False
        assert ours == second_reader.public_key(text), raw.hex()
        taken += ours
    assert 100 < taken < len(encodings) - 100


def mutated(dice):
    """The tag with a bit turned, a byte put in, or another S of the same remainder."""
    tag = bytearray(TAG)
    way = dice.randrange(4)
    if way < 2:
        bit = dice.randrange(512)
        tag[bit // 8] ^= 1 << bit % 8
    elif way == 2:
        tag[dice.randrange(64)] = dice.choice((0, 1, 127, 128, 255))
    else:
        s = int.from_bytes(tag[32:], "little") + dice.randrange(1, 15) * L
        tag[32:] = s.to_bytes(32, "little")
    return bytes(tag)


def test_what_others_refuse_is_never_accepted(openssh):
    """Mutated signatures and keys: ours implies the second reader's, and OpenSSH's."""
    dice = random.Random(1)
    ours = PublicKey(KEY.public)
    for _ in range(150):
        tag = mutated(dice)
        verdict = ours.verifies(PAYLOAD, tag)
        assert verdict == second_reader.verify_ssh(KEY.public, PAYLOAD, tag), tag.hex()
        assert not verdict or openssh.verifies(KEY.public, PAYLOAD, tag), tag.hex()
    for _ in range(100):
        raw = bytearray(KEY.raw)
        raw[dice.randrange(32)] ^= 1 << dice.randrange(8)
        text = sshsig.encode_key(bytes(raw))
        if second_reader.public_key(text):
            assert not PublicKey(text).verifies(PAYLOAD, TAG)
            assert not second_reader.verify_ssh(text, PAYLOAD, TAG)
    assert ours.verifies(PAYLOAD, TAG)
    assert openssh.verifies(KEY.public, PAYLOAD, TAG)


def scalar(key):
    h = bytearray(hashlib.sha512(key.seed).digest()[:32])
    h[0] &= 248
    h[31] = h[31] & 127 | 64
    return int.from_bytes(h, "little")


def challenge(r, raw, payload):
    hashed = hashlib.sha512(r + raw + sshsig.message(payload)).digest()
    return int.from_bytes(hashed, "little")


def test_s_has_one_form_where_openssh_takes_two(openssh):
    s = int.from_bytes(TAG[32:], "little")
    for times in (1, 2, 15):
        more = TAG[:32] + (s + times * L).to_bytes(32, "little")
        assert not PublicKey(KEY.public).verifies(PAYLOAD, more)
        assert not second_reader.verify_ssh(KEY.public, PAYLOAD, more)
    # this one OpenSSH 9.2 takes; newer ones need not
    openssh.verifies(KEY.public, PAYLOAD, TAG[:32] + (s + L).to_bytes(32, "little"))


def test_the_rules_for_signatures_hold_whatever_the_library_says():
    key = PublicKey(KEY.public)
    key._check = lambda tag, message: None  # it takes everything
    assert key.verifies(PAYLOAD, TAG)
    assert key.verifies(PAYLOAD, TAG[:32] + (L - 1).to_bytes(32, "little"))
    assert not key.verifies(PAYLOAD, TAG[:32] + L.to_bytes(32, "little"))
    assert not key.verifies(PAYLOAD, TAG[:32] + b"\xff" * 32)
    for y in (0, 1, P - 1, ORDER_8_Y, P - ORDER_8_Y):
        for sign in (0, 1):
            assert not key.verifies(PAYLOAD, encoded(y, sign) + TAG[32:])


def test_r_of_small_order_is_refused_though_the_equation_holds(openssh):
    r = encoded(1)
    s = challenge(r, KEY.raw, PAYLOAD) * scalar(KEY) % L
    tag = r + s.to_bytes(32, "little")
    KEY.private.public_key().verify(tag, sshsig.message(PAYLOAD))  # OpenSSL takes it
    assert not PublicKey(KEY.public).verifies(PAYLOAD, tag)
    assert not second_reader.verify_ssh(KEY.public, PAYLOAD, tag)


def test_k_is_reduced_before_it_meets_a_key_outside_of_the_subgroup(openssh):
    """Where the key has a part of small order, [k]A and [k mod L]A differ. All read it alike."""
    torsion = second_reader.decode_point(encoded(ORDER_8_Y))
    own = second_reader.decode_point(KEY.raw)
    raw = second_reader.encode_point(second_reader.add(own, torsion))
    text = sshsig.encode_key(raw)
    verdicts = set()
    for nonce in range(1, 60):
        point = second_reader.times(nonce, second_reader.BASE)
        r = second_reader.encode_point(point)
        k = challenge(r, raw, PAYLOAD)
        tag = r + ((nonce + k * scalar(KEY)) % L).to_bytes(32, "little")
        verdict = PublicKey(text).verifies(PAYLOAD, tag)
        assert verdict == second_reader.verify_ssh(text, PAYLOAD, tag)
        assert verdict == openssh.verifies(text, PAYLOAD, tag)
        assert verdict == (k % L % 8 == 0)
        verdicts.add((verdict, k % 8 == 0))
    assert {(True, False), (False, True), (False, False)} <= verdicts
