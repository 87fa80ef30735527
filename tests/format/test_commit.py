"""Section 6: a signed record <-> its one commit."""

import hashlib
import os
import subprocess
from base64 import b64encode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.memory_ledger import SECOND, START, MemoryLedger, refused
from support.strategies import RECORDS, of_kind

from coordledger.format import canonical, rules, signing, timestamps
from coordledger.format.commit import (
    Commit,
    envelope,
    next_digest,
    parse_commit,
    recall_commit,
    render_commit,
    successor,
)
from coordledger.format.signing import HMAC, Signed

FLEET = MemoryLedger("bob")
FLEET.put("bob", "claim", tasks=["fix#7"], note="hi")
OID, CONTENT = FLEET.log[2]
OIDS = st.text("0123456789abcdef", min_size=40, max_size=40)
TAGS = st.binary(min_size=32, max_size=32)


def signed(record, tag=bytes(32)):
    return Signed(canonical.encode(record), record, tag)


def test_a_commit_is_the_text_that_the_specification_shows():
    found = parse_commit(OID, CONTENT)
    parent = parse_commit(*FLEET.log[1])
    ledger = found.record["ledger"]
    at = (START + 2 * SECOND) // 1000
    tag = FLEET.secret("bob").sign(found.signed.payload)
    digest = hashlib.sha256(
        bytes.fromhex(parent.digest) + found.signed.payload + b"\n" + tag
    ).hexdigest()
    assert CONTENT.decode().split("\n") == [
        f"tree {FLEET.head.tree}",
        f"parent {FLEET.log[1][0]}",
        f"author bob/s1 <bob@{ledger}> {at} +0000",
        f"committer bob/s1 <bob@{ledger}> {at} +0000",
        "",
        "claim fix#7 epoch 1 until 2026-11-21T03:20:02.000Z",
        "",
        canonical.encode(found.record).decode(),
        "",
        f"Coordledger-Signature: hmac-sha256 bob/1 {b64encode(tag).decode()}",
        "Coordledger-Seq: 2",
        f"Coordledger-Digest: {digest}",
        "",
    ]


def test_what_was_judged_once_is_recalled_as_it_was_parsed():
    for oid, content in FLEET.log:
        found, wanted = recall_commit(oid, content), parse_commit(oid, content)
        for name in Commit.__slots__:
            if name != "signed":
                assert getattr(found, name) == getattr(wanted, name)
        assert found.signed.payload == wanted.signed.payload
        assert found.signed.tag == wanted.signed.tag
        assert found.record == wanted.record


@pytest.mark.parametrize(
    "payload", [b"[]", b"{}", b"1", b"{", b"\xff", b"[" * 100_000, b'{"op":"x","agent":"y"}']
)
def test_what_nobody_can_have_judged_is_not_recalled(payload):
    head, subject, _, trailers = CONTENT.split(b"\n\n")
    odd = b"\n\n".join([head, subject, payload, trailers])
    assert refused(recall_commit, OID, odd) == "bad-commit"


@pytest.mark.parametrize("above", ["1" * 40, None])
def test_an_envelope_differs_in_tree_and_parent_and_in_nothing_else(above):
    made = envelope(CONTENT, above, "2" * 40)
    found, wanted = parse_commit("3" * 40, made), parse_commit(OID, CONTENT)
    assert (found.tree, found.parent) == ("2" * 40, above)
    assert (found.signed.payload, found.signed.tag) == (wanted.signed.payload, wanted.signed.tag)
    assert made.partition(b"\nauthor ")[2] == CONTENT.partition(b"\nauthor ")[2]


def test_the_genesis_commit_has_no_parent_line():
    lines = FLEET.log[0][1].decode().split("\n")
    assert [line.split(" ")[0] for line in lines[:3]] == ["tree", "author", "committer"]
    found = parse_commit(*FLEET.log[0])
    assert (found.parent, found.seq, found.committed) == (None, 0, START // 1000)
    first = hashlib.sha256(bytes(32) + found.signed.payload + b"\n" + found.signed.tag)
    assert found.digest == first.hexdigest()


@pytest.mark.parametrize(
    ("at", "author", "committer"),
    [
        ("2026-11-21T03:10:59.999Z", 59, 100),
        ("2026-11-21T03:11:40.000Z", 100, 100),
        ("2026-11-21T03:11:40.999Z", 100, 100),
        ("2026-11-21T03:11:41.000Z", 101, 101),
    ],
)
def test_the_author_date_is_the_signers_and_the_committer_date_never_falls(at, author, committer):
    start = START // 1000
    parent = Commit("1" * 40, "2" * 40, None, start + 100, None, 7, "ab" * 32)
    record = FLEET.record("bob", "void") | {"at": at}
    content = render_commit(successor(parent, "3" * 40, signed(record)), HMAC)
    lines = content.decode().split("\n")
    assert lines[2].endswith(f"> {start + author} +0000")
    assert lines[3].endswith(f"> {start + committer} +0000")
    assert parse_commit("4" * 40, content).committed == start + committer
    assert "Coordledger-Seq: 8" in lines


@given(RECORDS, TAGS, OIDS, OIDS, st.integers(0, timestamps.LATEST // 1000), st.integers(0, 2**40))
def test_a_commit_is_read_as_it_was_written(record, tag, tree, above, committed, seq):
    parent = None
    if record["kind"] != "genesis":
        parent = Commit(above, tree, None, committed, None, seq, "ab" * 32)
    content = render_commit(successor(parent, tree, signed(record, tag)), HMAC)
    found = parse_commit("1" * 40, content)
    assert (found.record, found.signed.payload) == (record, canonical.encode(record))
    assert (found.signed.tag, found.tree, found.oid) == (tag, tree, "1" * 40)
    assert found.parent == (above if parent else None)
    assert found.seq == (seq + 1 if parent else 0)
    at = timestamps.parse(record["at"]) // 1000
    assert found.committed == (max(at, committed) if parent else at)
    assert found.digest == next_digest("ab" * 32 if parent else None, found.signed)
    assert render_commit(successor(parent, tree, found.signed), HMAC) == content


@pytest.mark.parametrize("kind", rules.MODULES)
@settings(max_examples=12)
@given(st.data())
def test_each_kind_of_record_makes_a_commit_of_13_lines(kind, data):
    record = data.draw(of_kind(kind))
    parent = None
    if kind != "genesis":
        parent = Commit("1" * 40, "2" * 40, None, 0, None, 0, "ab" * 32)
    content = render_commit(successor(parent, "3" * 40, signed(record)), HMAC)
    assert content.endswith(b"\n")
    assert content.count(b"\n") == (12 if parent else 11)
    assert content.isascii()


def test_real_git_takes_the_commits_as_its_own(tmp_path):
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", "init", "-q", "."], cwd=tmp_path, env=env, check=True)
    for oid, content in FLEET.log:
        written = subprocess.run(
            ["git", "hash-object", "-t", "commit", "--stdin"],
            cwd=tmp_path,
            env=env,
            input=content,
            check=True,
            capture_output=True,
        )
        assert written.stdout.decode().strip() == oid


def test_the_digest_covers_what_came_before_the_payload_and_the_tag():
    one = signed(FLEET.record("bob", "void"))
    other = Signed(one.payload, one.record, b"\1" + bytes(31))
    another = signed(FLEET.record("bob", "void"))
    digests = {
        next_digest(before, it)
        for before in (None, "00" * 31 + "01", "ab" * 32)
        for it in (one, other, another)
    }
    assert len(digests) == 9
    assert next_digest(None, one) == next_digest("00" * 32, one)


def replaced(old, new, content=CONTENT):
    assert content.count(old) >= 1
    return content.replace(old, new, 1)


SIGNATURE = CONTENT.split(b"\n\n")[3].split(b"\n")[0]
WITHOUT_FORM = {
    "nothing": b"",
    "no empty line": CONTENT.replace(b"\n\n", b"\n"),
    "an empty line more": CONTENT + b"\n\n",
    "no trailers": CONTENT[: CONTENT.index(b"Coordledger-Signature")],
    "no signature": replaced(SIGNATURE + b"\n", b""),
    "a signature without its tag": replaced(SIGNATURE, SIGNATURE.rsplit(b" ", 1)[0]),
    "a tag that is not base64": replaced(SIGNATURE[-10:], b"!" * 9 + b"="),
    "a tag without its padding": replaced(SIGNATURE, SIGNATURE[:-1]),
    "a tag with a space in it": replaced(SIGNATURE, SIGNATURE[:-9] + b" " + SIGNATURE[-9:]),
    "a fourth trailer": CONTENT + b"Signed-off-by: bob\n",
    "two trailers": CONTENT[: CONTENT.index(b"Coordledger-Digest")],
    "a seq that is no number": replaced(b"Seq: 2", b"Seq: two"),
    "a digest that is not hexadecimal": CONTENT[:-2] + b"z\n",
    "a digest that is too short": CONTENT[:-2] + b"\n",
    "a digest with a vertical tab in it": CONTENT[:-3] + b"\v" + CONTENT[-3:],
    "a header that is not ASCII": replaced(b"bob/s1", "bób/s1".encode()),
    "one line of header": b"tree x" + CONTENT[CONTENT.index(b"\n\n") :],
    "a date that is no number": replaced(b" +0000\n\n", b"x +0000\n\n"),
}


@pytest.mark.parametrize("why", WITHOUT_FORM)
def test_what_has_not_the_form_of_a_commit_is_not_read(why):
    assert refused(parse_commit, OID, WITHOUT_FORM[why]) == "bad-commit"


def test_a_commit_that_breaks_off_anywhere_is_never_read_as_the_whole_one():
    parent = parse_commit(*FLEET.log[1])
    for length in range(len(CONTENT)):
        if not refused(parse_commit, OID, CONTENT[:length]):
            # it broke off in the last lines: whoever compares the bytes sees it
            found = parse_commit(OID, CONTENT[:length])
            again = render_commit(successor(parent, found.tree, found.signed), HMAC)
            assert again == CONTENT != CONTENT[:length]


def test_a_commit_above_the_limit_is_not_read():
    assert refused(parse_commit, OID, CONTENT + b"x" * 262_144) == "too-large"


@pytest.mark.parametrize(
    ("payload", "code"),
    [(b"{}", "bad-record"), (b'{"v":2}', "newer-version"), (b"{ }", "not-canonical"), (b"", None)],
)
def test_the_payload_is_judged_by_the_rules_of_records(payload, code):
    content = replaced(CONTENT.split(b"\n\n")[2], payload)
    assert refused(parse_commit, OID, content) == (code or "bad-json")


def test_a_record_at_the_payloads_limit_fits_into_a_commit():
    record = FLEET.record("bob", "send", to="alice")
    spare = 131_072 - len(canonical.encode(record)) + len("hello")
    found = signing.sign(record | {"body": "x" * spare}, FLEET.secret("bob"))
    assert len(found.payload) == 131_072
    content = render_commit(successor(FLEET.head, FLEET.head.tree, found), HMAC)
    assert parse_commit("1" * 40, content).signed.payload == found.payload
