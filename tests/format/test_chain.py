"""Section 9's rules about the chain, section 11's verdicts, and what nobody may get past.

A forger may do anything but compute a MAC without the secret.
"""

import functools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.memory_ledger import (
    MASTER,
    NONCE,
    OWN,
    SECOND,
    SKEW,
    START,
    MemoryLedger,
    files_of,
    own_secrets,
    refused,
)

from coordledger import hashes
from coordledger.format import canonical, commit, records, rules, signing, state, timestamps
from coordledger.format.chain import (
    AUTHENTIC,
    INVALID,
    UNKNOWN_KEY,
    UNVERIFIED,
    Chain,
    authenticate,
    judge_all,
)
from coordledger.format.commit import next_digest, parse_commit, render_commit, successor
from coordledger.format.signing import HMAC, Keyring, Secret, Signed
from coordledger.format.state import State
from coordledger.git import tree
from coordledger.git.tree import object_id
from coordledger.hashes import algorithm


@functools.cache
def everything():
    """A chain with each kind of record once or more; kind -> seq of the last one."""
    fleet = MemoryLedger("bob", "carol")
    fleet.put("alice", "policy", set={"channels": 9})
    fleet.put("bob", "submit", task="t", meta={"x": 'é"\\\n'}, priority=-3)
    fleet.put("bob", "claim", tasks=["t", "u", "w"], note="\U0001f600 hi")
    fleet.put("bob", "renew", task="t")
    fleet.put("bob", "complete", task="t", result="done")
    fleet.put("bob", "release", task="u", reason="no")
    fleet.put("alice", "release", task="w", force=True)
    fleet.put("carol", "send", to="bob", thread=3)
    fleet.put("bob", "send", channel="general")
    fleet.put("bob", "ack", messages=[10])
    fleet.put("carol", "void")
    fleet.put("bob", "submit", task="x", title="X")
    fleet.put("bob", "edit", task="x", set={"title": "\u2026", "labels": ["a"]})
    fleet.put("bob", "withdraw", task="x", reason="no")
    fleet.put("bob", "claim", tasks=["u"], paths=["src/"])
    fleet.put("bob", "handoff", task="u", to="carol", note="\xe9")
    fleet.put("bob", "land", task="u")
    fleet.put("alice", "drop", channel="general")
    fleet.put("bob", "fact", fact="image", value="\x1b\u2028")
    until = timestamps.show(fleet.now + SECOND * 60)
    offer = {"agent": "bob", "until": until}
    fleet.put("alice", "import", task="y", epoch=3, title="\xe9", offer=offer)
    fleet.put("alice", "archive", to="Bob", channel="#x", body="\x1b")
    fleet.put("alice", "enroll", who="bob")
    fleet.put("alice", "revoke", who="bob", id=1)
    fleet.put("bob", "void", key=2)
    return fleet, {parse_commit(*it).record["kind"]: n for n, it in enumerate(fleet.log)}


def judged(chain, log):
    return [chain.judge(oid, content) for oid, content in log]


class TestVerdicts:
    def test_who_holds_all_secrets_finds_all_records_authentic(self):
        fleet, kinds = everything()
        assert kinds.keys() == rules.MODULES.keys()
        assert set(judged(fleet.fresh_verifier(), fleet.log)) == {AUTHENTIC}

    def test_who_holds_no_secret_can_still_check_all_the_rest(self):
        fleet, _ = everything()
        assert set(judged(fleet.fresh_verifier(Keyring()), fleet.log)) == {UNVERIFIED}

    def test_who_holds_one_secret_checks_the_records_that_it_signed(self):
        fleet, _ = everything()
        own = fleet.fresh_verifier(Keyring([], own_secrets))
        by = [parse_commit(*it).record["agent"] for it in fleet.log]
        wanted = [AUTHENTIC if agent == "carol" else UNVERIFIED for agent in by]
        assert judged(own, fleet.log) == wanted

    def test_an_old_secret_says_nothing_about_a_new_key(self):
        fleet, _ = everything()
        bob1 = fleet.secret("bob", 1)
        verdicts = judged(fleet.fresh_verifier(Keyring([], lambda _: [bob1])), fleet.log)
        assert (verdicts[5], verdicts[-1]) == (AUTHENTIC, UNVERIFIED)

    @pytest.mark.parametrize("length", [1, 2, 7, 14, 16])
    def test_a_reader_can_begin_at_any_trusted_head(self, length):
        fleet, _ = everything()
        reader = fleet.verifier_at(length)
        assert set(judged(reader, fleet.log[length:])) == {AUTHENTIC}
        assert reader.head.oid == fleet.head.oid

    def test_the_chain_is_the_same_in_a_repository_of_sha_256(self):
        chains = []
        for algo, width in (("sha1", 40), ("sha256", 64)):
            fleet = MemoryLedger("bob", algo=algo)
            fleet.put("bob", "claim", tasks=["t"])
            assert set(judged(fleet.fresh_verifier(), fleet.log)) == {AUTHENTIC}
            assert {len(oid) for oid, _ in fleet.log} == {width}
            assert algorithm(fleet.head.oid) == algo
            found = [parse_commit(*it) for it in fleet.log]
            chains.append([(c.signed.payload, c.signed.tag, c.digest) for c in found])
        assert chains[0] == chains[1]

    def test_judging_writes_nothing(self):
        fleet, _ = everything()
        before = dict(fleet.store)
        judged(fleet.fresh_verifier(), fleet.log)
        assert fleet.store == before

    def test_a_reader_may_forget_what_is_in_the_store(self, monkeypatch):
        monkeypatch.setattr(tree, "KEPT_BYTES", 2000)
        fleet, _ = everything()
        reader = fleet.fresh_verifier()
        assert set(judged(reader, fleet.log)) == {AUTHENTIC}
        assert reader.state.tree._memory._size < 4000

    def test_a_reader_needs_the_commits_alone(self):
        fleet, _ = everything()
        reader = Chain({}.__getitem__, fleet.ring, None, "sha1")
        assert set(judged(reader, fleet.log)) == {AUTHENTIC}


class TestJudgingMany:
    def test_each_verdict_comes_while_the_chain_stands_on_that_commit(self):
        fleet, _ = everything()
        reader = fleet.fresh_verifier()
        for number, one in enumerate(judge_all(reader, fleet.log)):
            assert (one.oid, one.content, one.seq) == (*fleet.log[number], number)
            assert (one.verdict, one.broken) == (AUTHENTIC, None)
            assert reader.head.oid == one.oid
        assert reader.head.oid == fleet.head.oid

    def test_it_goes_on_from_where_the_chain_stands(self):
        fleet, _ = everything()
        reader = fleet.verifier_at(4, Keyring([], own_secrets))
        verdicts = list(judge_all(reader, fleet.log[4:]))
        assert [one.seq for one in verdicts] == list(range(4, len(fleet.log)))
        assert {one.verdict for one in verdicts} == {AUTHENTIC, UNVERIFIED}

    def test_no_commit_is_read_before_the_one_below_it_has_its_verdict(self):
        fleet, _ = everything()
        read = []
        commits = (read.append(oid) or (oid, content) for oid, content in fleet.log)
        for number, _ in enumerate(judge_all(fleet.fresh_verifier(), commits), 1):
            assert len(read) == number

    @pytest.mark.parametrize(
        ("changed", "verdict", "code"),
        [
            ({"who": "zoe"}, INVALID, "bad-key"),
            ({"agent": "zoe"}, UNKNOWN_KEY, "unknown-key"),
            ({"v": 2}, INVALID, "newer-version"),
        ],
    )
    def test_a_broken_rule_is_the_last_verdict_and_the_chain_stands_below(
        self, changed, verdict, code
    ):
        fleet = MemoryLedger("bob")
        record = fleet.record("alice", "enroll", who="carol", id=2) | changed
        bad = fleet.forge(signing.sign(record, fleet.secret(record["agent"])))
        later = fleet.put("alice", "void")
        reader = fleet.fresh_verifier()
        after = [*fleet.log[:2], bad, (later.commit.oid, later.content)]
        *good, last = judge_all(reader, after)
        assert [one.verdict for one in good] == [AUTHENTIC, AUTHENTIC]
        assert (last.oid, last.content, last.seq) == (*bad, 2)
        assert (last.verdict, last.broken.code) == (verdict, code)
        assert reader.head.oid == fleet.log[1][0]

    def test_a_state_that_is_none_is_a_bad_commit(self):
        fleet = MemoryLedger("bob")
        mode = b"100755 ledger.json\0" + bytes(20)
        fleet.store[object_id("tree", mode, "sha1")] = mode
        head = parse_commit(*fleet.log[-1])
        head.tree = object_id("tree", mode, "sha1")
        reader = Chain(fleet.store.__getitem__, fleet.ring, head, "sha1")
        proposal = fleet.put("bob", "void")
        (last,) = judge_all(reader, [(proposal.commit.oid, proposal.content)])
        assert (last.verdict, last.broken.code, last.seq) == (INVALID, "bad-commit", 2)
        assert reader.head is head

    def test_a_missing_object_is_no_verdict(self):
        fleet = MemoryLedger("bob")
        proposal = fleet.put("bob", "void")
        head = parse_commit(*fleet.log[1])
        reader = Chain({}.__getitem__, fleet.ring, head, "sha1")
        with pytest.raises(KeyError):
            list(judge_all(reader, [(proposal.commit.oid, proposal.content)]))
        assert reader.head is head

    def test_what_reading_the_commits_raises_is_no_verdict_either(self):
        def commits():
            yield fleet.log[0]
            raise ValueError("the disk")

        fleet = MemoryLedger("bob")
        with pytest.raises(ValueError, match="the disk"):
            list(judge_all(fleet.fresh_verifier(), commits()))


class TestFollowing:
    def test_it_steps_onto_a_later_head_and_knows_what_lies_between(self):
        fleet, _ = everything()
        last = len(fleet.log) - 1
        for seq in range(len(fleet.log)):
            chain = fleet.verifier_at(seq + 1)
            assert chain.follow(fleet.head)
            assert (chain.head.oid, chain.state.tree.root) == (fleet.head.oid, fleet.head.tree)
            assert [chain.at(n).oid for n in range(last + 1)] == [oid for oid, _ in fleet.log]

    def test_it_stays_where_the_head_is_of_another_history(self):
        fleet, _ = everything()
        other = fleet.at(len(fleet.log) - 1)
        other.put("bob", "void", key=2)
        store = fleet.store | other.store
        for head in (other.head, other.at(len(other.log) - 1).head):
            chain = Chain(store.__getitem__, fleet.ring, fleet.head, fleet.algo)
            assert not chain.follow(head)
            assert chain.head.oid == fleet.head.oid
            assert [chain.at(n).oid for n in range(len(fleet.log))] == [oid for oid, _ in fleet.log]

    def test_it_stays_where_a_commit_between_is_missing(self):
        fleet, _ = everything()
        store = dict(fleet.store)
        del store[fleet.log[-2][0]]
        head = parse_commit(*fleet.log[0])
        chain = Chain(store.__getitem__, fleet.ring, head, fleet.algo)
        assert not chain.follow(fleet.head)
        assert chain.head.oid == head.oid


# -- nobody without the secret


class TestSignatures:
    @pytest.mark.parametrize(
        "secret",
        [MASTER, OWN, MASTER.derive(NONCE, "alice", 1), MASTER.derive(NONCE, "bob", 2)],
    )
    def test_by_another_secret_are_refused(self, secret):
        fleet = MemoryLedger("bob", "carol")
        signed = fleet.sign(fleet.record("bob", "void"), secret)
        assert refused(fleet.chain.judge, *honest(fleet, signed)) == "bad-signature"

    @pytest.mark.parametrize("tag", [b"", bytes(16), bytes(32), bytes(33), b"\xff" * 64])
    def test_made_up_are_refused(self, tag):
        fleet = MemoryLedger("bob")
        record = fleet.record("bob", "void")
        signed = Signed(canonical.encode(record), record, tag)
        assert refused(fleet.chain.judge, *honest(fleet, signed)) == "bad-signature"

    @pytest.mark.parametrize("length", range(32))
    def test_cut_off_are_refused(self, length):
        fleet = MemoryLedger("bob")
        right = fleet.sign(fleet.record("bob", "void"))
        signed = Signed(right.payload, right.record, right.tag[:length])
        assert refused(fleet.chain.judge, *honest(fleet, signed)) == "bad-signature"

    def test_taken_from_another_record_are_refused(self):
        fleet = MemoryLedger("bob")
        one, two = (fleet.sign(fleet.record("bob", "void")) for _ in range(2))
        signed = Signed(one.payload, one.record, two.tag)
        assert refused(fleet.chain.judge, *honest(fleet, signed)) == "bad-signature"

    def test_of_a_record_that_says_another_agent_are_refused(self):
        fleet = MemoryLedger("bob", "carol")
        bobs = fleet.sign(fleet.record("bob", "void"))
        record = bobs.record | {"agent": "carol"}
        signed = Signed(canonical.encode(record), record, bobs.tag)
        assert refused(fleet.chain.judge, *honest(fleet, signed)) == "bad-signature"

    def test_of_a_genesis_record_are_checked_with_its_own_fingerprint(self):
        fleet = MemoryLedger().at(0)
        record = fleet.record("alice", "genesis")
        forged = fleet.sign(record, OWN)
        assert refused(fleet.chain.judge, *honest(fleet, forged)) == "bad-signature"
        assert fleet.chain.head is None

    @pytest.mark.parametrize(
        ("spell", "code"),
        [
            (lambda text: text[:-1], "bad-commit"),  # no padding
            (lambda text: text + b"=", "bad-commit"),
            (lambda text: text[:20] + b"\t" + text[20:], "bad-commit"),
            (lambda text: text[:-2] + bytes([text[-2] + 1]) + b"=", "bad-commit"),  # spare bits
            (lambda text: text.translate(bytes.maketrans(b"+/", b"-_")), "bad-commit"),
            (lambda text: text.hex().encode(), "bad-signature"),
            (lambda _: b"", "bad-signature"),
        ],
    )
    def test_have_one_spelling_in_base64(self, spell, code):
        fleet = MemoryLedger("bob")
        signed = fleet.sign(fleet.record("bob", "void"))
        while not {b"+", b"/"} & {bytes([c]) for c in tag_of(fleet, signed)}:
            signed = fleet.sign(fleet.record("bob", "void"))
        text = tag_of(fleet, signed)
        assert spell(text) != text
        content = honest(fleet, signed)[1].replace(b" " + text + b"\n", b" " + spell(text) + b"\n")
        assert refused(fleet.chain.judge, fleet.oid(content), content) == code
        assert fleet.chain.judge(*honest(fleet, signed)) == AUTHENTIC


def honest(fleet, signed):
    """The commit with the tree that belongs to it: nothing is wrong but the signature."""
    right = Signed(signed.payload, signed.record, bytes(32))
    tree = fleet.chain.propose(right).commit.tree
    content = render_commit(successor(fleet.chain.head, tree, signed), HMAC)
    return object_id("commit", content, "sha1"), content


def tag_of(fleet, signed):
    line = honest(fleet, signed)[1].split(b"\n")[-4]
    assert line.startswith(b"Coordledger-Signature: hmac-sha256 bob/1 ")
    return line.split(b" ")[-1]


class TestMangling:
    """Every bit of a valid commit counts, for those with the secrets and for those without."""

    @pytest.mark.parametrize("kind", ["genesis", "claim"])
    @pytest.mark.parametrize("ring", ["all secrets", "no secret"])
    def test_every_bit_of_a_commit(self, kind, ring):
        fleet, kinds = everything()
        seq = kinds[kind]
        reader = fleet.verifier_at(seq, fleet.ring if ring == "all secrets" else Keyring())
        before, (oid, content) = reader.head, fleet.log[seq]
        for at in range(len(content)):
            for bit in range(8) if kind == "claim" else (0, 5, 7):
                changed = bytearray(content)
                changed[at] ^= 1 << bit
                found = bytes(changed)
                assert refused(reader.judge, fleet.oid(found), found), (at, bit)
            assert refused(reader.judge, oid, found)
        assert reader.head is before
        assert reader.judge(oid, content) in (AUTHENTIC, UNVERIFIED)

    @pytest.mark.parametrize("kind", sorted(set(rules.MODULES) - {"genesis"}))
    def test_bytes_of_a_commit_of_each_kind(self, kind):
        fleet, kinds = everything()
        reader = fleet.verifier_at(kinds[kind])
        oid, content = fleet.log[kinds[kind]]
        for at in range(len(content)):
            changed = content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :]
            assert refused(reader.judge, fleet.oid(changed), changed), at
        assert reader.judge(oid, content) == AUTHENTIC

    def test_every_byte_that_is_lost_or_stands_twice(self):
        fleet, kinds = everything()
        reader = fleet.verifier_at(kinds["claim"])
        oid, content = fleet.log[kinds["claim"]]
        for at in range(len(content)):
            for changed in (
                content[:at],
                content[:at] + content[at + 1 :],
                content[: at + 1] + content[at:],
                content[:at] + b"\n" + content[at:],
            ):
                assert refused(reader.judge, fleet.oid(changed), changed), at
        assert reader.judge(oid, content) == AUTHENTIC

    @pytest.mark.parametrize("kind", sorted(set(rules.MODULES) - {"genesis"}))
    def test_every_byte_of_a_payload_whose_commit_was_made_anew(self, kind):
        """The forger renders a perfect commit around the changed payload and the old MAC."""
        fleet, kinds = everything()
        seq = kinds[kind]
        reader = fleet.verifier_at(seq)
        right = parse_commit(*fleet.log[seq]).signed
        codes = set()
        for at in range(len(right.payload)):
            for turn in (1, 2, 4, 0x10, 0x20, 0x80) if kind == "claim" else (1, 0x20):
                payload = bytearray(right.payload)
                payload[at] ^= turn
                codes.add(
                    refused(reader.judge, *self.around(fleet, seq, bytes(payload), right.tag))
                )
        unread = {"bad-json", "not-canonical", "bad-record", "newer-version", "bad-commit"}
        assert "bad-signature" in codes
        assert codes <= unread | {"bad-signature", "unknown-key", "wrong-ledger"}
        assert reader.judge(*fleet.log[seq]) == AUTHENTIC

    def around(self, fleet, seq, payload, tag):
        oid, content = fleet.log[seq]
        parent = parse_commit(*fleet.log[seq - 1])
        found = []
        if not refused(lambda: found.append(records.check(canonical.decode(payload)))):
            signed = Signed(payload, found[0], tag)
            content = render_commit(
                successor(parent, parse_commit(oid, content).tree, signed), HMAC
            )
        else:
            signed = Signed(payload, {}, tag)
            old = parse_commit(oid, content)
            content = content.replace(old.signed.payload, payload)
            digest = next_digest(parent.digest, signed)
            content = content.replace(old.digest.encode(), digest.encode())
        return fleet.oid(content), content

    def test_an_object_under_another_id_is_refused(self):
        fleet, _ = everything()
        reader = fleet.verifier_at(3)
        oid, content = fleet.log[3]
        assert refused(reader.judge, fleet.log[4][0], content) == "bad-commit"
        assert refused(reader.judge, oid.upper(), content) == "bad-commit"
        assert reader.judge(oid, content) == AUTHENTIC


class TestOrder:
    def test_a_commit_that_is_left_out_is_missed(self):
        fleet, _ = everything()
        for seq in range(1, len(fleet.log) - 1):
            reader = fleet.verifier_at(seq)
            assert refused(reader.judge, *fleet.log[seq + 1])

    def test_a_commit_that_comes_twice_is_refused(self):
        fleet, _ = everything()
        for seq in range(1, len(fleet.log)):
            assert refused(fleet.verifier_at(seq + 1).judge, *fleet.log[seq])

    def test_the_first_record_is_a_genesis_record_and_no_other_is(self):
        fleet = MemoryLedger("bob")
        assert refused(fleet.fresh_verifier().judge, *fleet.log[1]) == "bad-genesis"
        again = fleet.sign(fleet.record("alice", "genesis"))
        assert fleet.refusal_of(again) == "bad-genesis"
        assert fleet.refusal_of(parse_commit(*fleet.log[0]).signed) == "bad-genesis"

    def test_a_genesis_record_certifies_its_ledgers_id_and_its_key(self):
        empty = MemoryLedger().at(0)
        for changed, code in (
            ({"ledger": "0" * 32}, "bad-genesis"),
            ({"key": 2}, "bad-genesis"),
            ({}, ""),
        ):
            signed = empty.sign(empty.record("alice", "genesis", **changed))
            assert refused(empty.chain.propose, signed) == code

    def test_a_record_of_another_ledger_is_refused(self):
        fleet, other = MemoryLedger("bob"), MemoryLedger("bob", policy={"channels": 3})
        assert fleet.state.ledger["ledger"] != other.state.ledger["ledger"]
        assert fleet.refusal_of(other.sign(other.record("bob", "void"))) == "wrong-ledger"
        elsewhere = other.state.ledger["ledger"]
        assert fleet.refusal("bob", "void", ledger=elsewhere) == "wrong-ledger"


class TestProposing:
    def test_a_proposal_has_all_that_is_new_and_nothing_else(self):
        fleet = MemoryLedger("bob")
        for kind, fields in (("claim", {"tasks": ["t"]}), ("void", {}), ("void", {})):
            before = dict(fleet.store)
            proposal = fleet.chain.propose(fleet.sign(fleet.record("bob", kind, **fields)))
            assert not proposal.objects.keys() & before.keys()
            assert proposal.objects[proposal.commit.oid] == ("commit", proposal.content)
            for oid, (sort, content) in proposal.objects.items():
                assert object_id(sort, content, "sha1") == oid
            fleet.land(proposal.commit.signed)
            read = State(tree.Tree(fleet.store.__getitem__, fleet.head.tree, "sha1"))
            assert files_of(read) == files_of(fleet.state)

    def test_nothing_is_hashed_twice_for_one_record(self, monkeypatch):
        fleet = MemoryLedger("bob")
        signed = fleet.sign(fleet.record("bob", "claim", tasks=["t", "u"]))
        wanted = fleet.chain.propose(signed)
        hashed = []

        def digest(algo, data):
            hashed.append((algo, data))
            return hashes.digest(algo, data)

        for module in (tree, commit, state):
            monkeypatch.setattr(module, "digest", digest)
        reader = fleet.verifier_at(2)
        assert reader.judge(wanted.commit.oid, wanted.content) == AUTHENTIC
        assert len(hashed) == len(set(hashed))
        # a path for each task, then pages, folders, root and commit; and the chain's digest
        assert len(hashed) == 2 + len(wanted.objects) + 1


class TestMoving:
    def test_a_signed_record_moves_to_a_newer_head_without_the_secret(self):
        fleet = MemoryLedger("bob", "carol")
        bobs = fleet.sign(fleet.record("bob", "claim", tasks=["t"]))
        for _ in range(3):
            fleet.put("carol", "void")
        bystander = fleet.verifier_at(len(fleet.log), Keyring())
        proposal = bystander.propose(bobs)
        assert proposal.commit.parent == fleet.head.oid
        assert fleet.chain.judge(proposal.commit.oid, proposal.content) == AUTHENTIC
        assert fleet.state.task("t")["agent"] == "bob"

    def test_the_same_record_moved_by_two_gives_the_same_commit(self):
        fleet = MemoryLedger("bob", "carol")
        bobs = fleet.sign(fleet.record("bob", "claim", tasks=["t"]))
        fleet.put("carol", "void")
        with_secrets = fleet.chain.propose(bobs)
        without = fleet.verifier_at(len(fleet.log), Keyring()).propose(bobs)
        assert with_secrets.content == without.content

    def test_a_record_does_not_move_past_what_contradicts_it(self):
        fleet = MemoryLedger("bob", "carol")
        bobs = fleet.sign(fleet.record("bob", "claim", tasks=["t"]))
        fleet.put("carol", "claim", tasks=["t"])
        assert fleet.refusal_of(bobs) == "held"
        fleet.put("carol", "release", task="t")
        assert fleet.refusal_of(bobs) == "wrong-epoch"

    def test_placing_does_not_move_the_chain(self):
        fleet = MemoryLedger("bob")
        head = fleet.head
        signed = fleet.sign(fleet.record("bob", "claim", tasks=["t"]))
        first, again = fleet.chain.propose(signed), fleet.chain.propose(signed)
        assert first.content == again.content
        assert fleet.head is head
        assert fleet.state.task("t") is None


# -- rule 2


class TestKeys:
    def test_of_an_agent_that_is_not_enrolled_are_unknown(self):
        assert MemoryLedger("bob").refusal("erin", "void") == "unknown-key"
        assert MemoryLedger("bob").refusal("bo", "void") == "unknown-key"

    @pytest.mark.parametrize("number", [2, 3, 2**53 - 1])
    def test_that_were_not_enrolled_are_unknown(self, number):
        assert MemoryLedger("bob").refusal("bob", "void", key=number) == "unknown-key"

    def test_sign_from_the_record_after_their_enrolment_to_their_revocation(self):
        fleet = MemoryLedger("bob")  # bob's key 1 is enrolled at seq 1
        fleet.put("alice", "enroll", who="bob", role="admin")
        for _ in range(3):
            fleet.put("alice", "void")
        fleet.put("bob", "revoke", who="bob", id=1, key=1)  # it signs its own revocation
        fleet.put("bob", "revoke", who="bob", id=2, key=2)
        assert len(fleet.log) == 8
        ranges = {1: range(2, 7), 2: range(3, 8), 3: range(0)}
        for number, valid in ranges.items():
            for seq in range(12):
                code = refused(fleet.state.key, "bob", number, seq)
                assert code == ("" if seq in valid else "unknown-key"), (number, seq)

    def test_that_are_rotated_sign_side_by_side_until_one_is_revoked(self):
        fleet = MemoryLedger("bob")
        fleet.put("alice", "enroll", who="bob")
        for number in (1, 2):
            assert fleet.refusal("bob", "void", key=number) == ""
        fleet.put("alice", "revoke", who="bob", id=1)
        assert fleet.refusal("bob", "void", key=1) == "unknown-key"
        assert fleet.refusal("bob", "void", key=2) == ""
        assert set(judged(fleet.fresh_verifier(), fleet.log)) == {AUTHENTIC}

    def test_have_each_their_own_secret(self):
        fleet = MemoryLedger("bob")
        fleet.put("alice", "enroll", who="bob")
        for says, signs in ((1, 2), (2, 1)):
            record = fleet.record("bob", "void", key=says)
            signed = fleet.sign(record, fleet.secret("bob", signs))
            assert refused(fleet.chain.judge, *honest(fleet, signed)) == "bad-signature"

    def test_of_old_records_are_still_known_in_later_states(self):
        fleet = MemoryLedger("bob")
        seq = fleet.put("bob", "void").commit.seq
        fleet.put("alice", "revoke", who="bob")
        signed = parse_commit(*fleet.log[seq]).signed
        assert authenticate(fleet.state, signed, seq, fleet.ring) == AUTHENTIC
        later = refused(authenticate, fleet.state, signed, seq + 2, fleet.ring)
        assert later == "unknown-key"

    def test_that_an_admin_gave_to_somebody_are_that_fingerprints(self):
        fleet = MemoryLedger()
        secret = Secret("another-secret-of-erins-which-is-long-enough-for-all")
        fingerprint = secret.fingerprint(NONCE, "erin", 1)
        fleet.put("alice", "enroll", who="erin", verifier=fingerprint)
        signed = fleet.sign(fleet.record("erin", "void"), secret)
        proposal = fleet.chain.propose(signed)
        knows = fleet.verifier_at(2, Keyring([MASTER], lambda _: [OWN, secret]))
        assert knows.judge(proposal.commit.oid, proposal.content) == AUTHENTIC
        assert fleet.chain.judge(proposal.commit.oid, proposal.content) == UNVERIFIED


# -- rules 3 and 4


LANDED = [
    ("alice", "enroll", {"who": "dave"}),
    ("alice", "revoke", {"who": "bob"}),
    ("alice", "policy", {"set": {"channels": 3}}),
    ("bob", "submit", {"task": "new"}),
    ("bob", "claim", {"tasks": ["new"]}),
    ("bob", "claim", {"tasks": ["new", "old"]}),
    ("bob", "renew", {"task": "held"}),
    ("bob", "complete", {"task": "held"}),
    ("bob", "release", {"task": "held"}),
    ("alice", "release", {"task": "held", "force": True}),
    ("bob", "send", {"to": "alice"}),
    ("bob", "send", {"channel": "general"}),
    ("alice", "ack", {"messages": [3]}),
    ("bob", "void", {}),
]


class TestReplays:
    def fleet(self):
        fleet = MemoryLedger("bob")
        fleet.put("bob", "claim", tasks=["held"])
        fleet.put("bob", "send", to="alice")
        return fleet

    @pytest.mark.parametrize(("agent", "kind", "fields"), LANDED)
    def test_of_the_same_bytes_are_refused(self, agent, kind, fields):
        fleet = self.fleet()
        signed = fleet.sign(fleet.record(agent, kind, **fields))
        fleet.land(signed)
        for _ in range(3):
            assert fleet.refusal_of(signed) == "replayed"
            fleet.put("alice", "void")

    @pytest.mark.parametrize(("agent", "kind", "fields"), LANDED)
    def test_signed_again_for_the_same_intent_are_refused(self, agent, kind, fields):
        fleet = self.fleet()
        first = fleet.record(agent, kind, **fields)
        fleet.land(fleet.sign(first))
        fleet.put("alice", "void")
        same = {"op": first["op"], "base": first["base"]}
        older = {"digest": parse_commit(*fleet.log[1]).digest, "seq": 1}
        renewed = first | same | {"at": timestamps.show(fleet.now), "session": "s5"}
        for again in (renewed, renewed | {"base": older}):
            assert fleet.refusal_of(fleet.sign(again)) == "replayed"
        assert fleet.refusal(agent, "void", **same) == "replayed"

    def test_are_told_from_other_intents_by_agent_and_op(self):
        fleet = self.fleet()
        base = {"digest": fleet.head.digest, "seq": fleet.head.seq}
        op = fleet.put("bob", "void", base=base).commit.record["op"]
        assert fleet.refusal("bob", "void", base=base, op=op) == "replayed"
        assert fleet.refusal("alice", "void", base=base, op=op) == ""
        assert fleet.refusal("bob", "void", base=base) == ""

    def test_cannot_be_of_an_intent_whose_record_the_signer_had_read(self):
        fleet = self.fleet()
        base = {"digest": fleet.head.digest, "seq": fleet.head.seq}
        landed = fleet.put("bob", "void").commit
        read = {"digest": landed.digest, "seq": landed.seq}
        op = landed.record["op"]
        assert fleet.refusal("bob", "void", op=op, base=read) == ""
        assert fleet.refusal("bob", "void", op=op, base=base) == "replayed"

    def test_are_seen_by_a_reader_that_knows_nothing_but_the_head(self):
        fleet = self.fleet()
        signed = fleet.sign(fleet.record("bob", "void"))
        fleet.land(signed)
        for _ in range(5):
            fleet.put("alice", "void")
        reader = fleet.verifier_at(len(fleet.log))
        assert refused(reader.propose, signed) == "replayed"


@functools.cache
def long_fleet():
    """More records than any base may reach back over, and than a reader keeps."""
    fleet = MemoryLedger("bob")
    for number in range(2200):
        if number % 2:
            fleet.put("bob", "submit", task=f"t{number}")
        else:
            fleet.put("bob", "void")
    return fleet


def base_at(fleet, seq):
    return {"digest": parse_commit(*fleet.log[seq]).digest, "seq": seq}


class TestBase:
    @pytest.mark.parametrize("kept", ["nothing", "much"])
    def test_lies_at_most_1024_records_below_the_parent(self, kept):
        fleet = long_fleet()
        head = fleet.head.seq
        reader = fleet.chain if kept == "much" else fleet.verifier_at(len(fleet.log))
        for distance, code in ((1, ""), (1023, ""), (1024, ""), (1025, "bad-base")):
            record = fleet.record("bob", "void", base=base_at(fleet, head - distance))
            assert refused(reader.propose, fleet.sign(record)) == code
        record = fleet.record("bob", "void", base=base_at(fleet, 0))
        assert refused(reader.propose, fleet.sign(record)) == "bad-base"

    @pytest.mark.parametrize("kept", ["nothing", "much"])
    def test_guards_against_replays_as_far_as_it_reaches(self, kept):
        fleet = long_fleet()
        head = fleet.head.seq
        reader = fleet.chain if kept == "much" else fleet.verifier_at(len(fleet.log))
        for back in (0, 1, 500, 1022, 1023):
            landed = parse_commit(*fleet.log[head - back]).record
            base = base_at(fleet, head - back - 1)
            again = fleet.record(landed["agent"], "void", op=landed["op"], base=base)
            assert refused(reader.propose, fleet.sign(again)) == "replayed"
            newer = again | {"base": base_at(fleet, head - back)}
            assert refused(reader.propose, fleet.sign(newer)) == ""

    def test_in_a_long_chain_is_judged_as_in_a_short_one(self):
        fleet = long_fleet()
        assert set(judged(fleet.fresh_verifier(), fleet.log)) == {AUTHENTIC}

    def test_is_not_newer_than_the_parent(self):
        fleet = MemoryLedger("bob")
        for seq in (2, 3, 2**53 - 1):
            base = {"digest": fleet.head.digest, "seq": seq}
            assert fleet.refusal("bob", "void", base=base) == "bad-base"

    def test_has_the_digest_of_its_seq(self):
        fleet = MemoryLedger("bob", "carol")
        digests = [parse_commit(*it).digest for it in fleet.log]
        for seq in range(3):
            for digest in [*digests, "0" * 64]:
                code = "" if digest == digests[seq] else "bad-base"
                base = {"digest": digest, "seq": seq}
                assert fleet.refusal("bob", "void", base=base) == code

    def test_below_the_edge_of_a_shallow_copy_leaves_the_record_unverified(self):
        fleet = MemoryLedger("bob")
        base = {"digest": fleet.head.digest, "seq": fleet.head.seq}
        for _ in range(4):
            fleet.put("alice", "void")
        old = fleet.sign(fleet.record("bob", "void", base=base))
        new = fleet.sign(fleet.record("bob", "void", base=base_at(fleet, 4)))
        shallow = dict(fleet.store)
        for oid, _ in fleet.log[:3]:
            del shallow[oid]
        head = parse_commit(*fleet.log[-1])

        def reader():
            return Chain(shallow.__getitem__, fleet.ring, head, "sha1")

        assert not reader().propose(old).complete
        assert reader().propose(new).complete
        for signed, verdict in ((old, UNVERIFIED), (new, AUTHENTIC)):
            proposal = fleet.chain.propose(signed)
            assert reader().judge(proposal.commit.oid, proposal.content) == verdict
            assert fleet.verifier_at(6).judge(proposal.commit.oid, proposal.content) == AUTHENTIC

    def test_below_the_edge_still_shows_the_replays_above_it(self):
        fleet = MemoryLedger("bob")
        first = fleet.record("bob", "void")
        for _ in range(3):
            fleet.put("alice", "void")
        fleet.land(fleet.sign(first))
        shallow = {oid: c for oid, c in fleet.store.items() if oid not in dict(fleet.log[:4])}
        reader = Chain(shallow.__getitem__, fleet.ring, fleet.head, "sha1")
        assert refused(reader.propose, fleet.sign(first)) == "replayed"

    def test_below_the_edge_but_too_far_down_is_refused_even_there(self):
        fleet = long_fleet()
        head = fleet.head.seq
        shallow = dict(fleet.store)
        del shallow[fleet.log[-2][0]]
        reader = Chain(shallow.__getitem__, fleet.ring, fleet.head, "sha1")
        for distance, code in ((1024, ""), (1025, "bad-base")):
            record = fleet.record("bob", "void", base=base_at(fleet, head - distance))
            assert refused(reader.propose, fleet.sign(record)) == code


# -- rule 5


class TestTime:
    def test_may_fall_back_by_two_skews_and_no_millisecond_more(self):
        fleet = MemoryLedger("bob")
        fleet.now = START + 5000 * SECOND + 999
        fleet.put("bob", "void")
        newest = START + 5000 * SECOND  # the committer's date has no milliseconds
        for at, code in ((newest - 2 * SKEW, ""), (newest - 2 * SKEW - 1, "time-backwards")):
            assert fleet.refusal("bob", "void", at=timestamps.show(at)) == code

    def test_counts_from_the_newest_record_rather_than_the_last_one(self):
        fleet = MemoryLedger("bob")
        fleet.put("bob", "void", at=timestamps.show(START + 100 * SECOND))
        fleet.put("bob", "void", at=timestamps.show(START + 40 * SECOND))
        assert fleet.head.committed == START // 1000 + 100
        edge = START + 40 * SECOND
        for at, code in ((edge, ""), (edge - 1, "time-backwards")):
            assert fleet.refusal("bob", "void", at=timestamps.show(at)) == code

    @pytest.mark.parametrize("skew", [1, 3600])
    def test_is_measured_with_the_ledgers_own_skew(self, skew):
        fleet = MemoryLedger("bob", policy={"max_skew": skew})
        newest = SECOND * fleet.head.committed
        for at, code in ((newest - 2000 * skew, ""), (newest - 2000 * skew - 1, "time-backwards")):
            assert fleet.refusal("bob", "void", at=timestamps.show(at)) == code

    def test_ahead_is_for_the_server_to_judge(self):
        fleet = MemoryLedger("bob")
        assert fleet.refusal("bob", "void", at="9999-12-31T23:59:59.999Z") == ""


# -- properties


@given(st.data())
def test_records_that_land_in_any_order_read_the_same_for_all(data):
    """Whatever a fleet does: each reader agrees with the writer, in both object formats."""
    fleet = MemoryLedger("bob", "carol")
    steps = data.draw(
        st.lists(
            st.tuples(
                st.sampled_from(["bob", "carol", "alice"]),
                st.sampled_from(["claim", "complete", "release", "send", "void", "submit"]),
                st.sampled_from(["t", "u", "v"]),
                st.integers(-70_000, 40_000),
                st.integers(0, 3),
            ),
            max_size=10,
        )
    )
    other = MemoryLedger("bob", "carol", algo="sha256")
    for agent, kind, name, ahead, back in steps:
        fields = {
            "claim": {"tasks": [name]},
            "send": {"channel": name},
            "void": {},
        }.get(kind, {"task": name})
        base = base_at(fleet, max(0, fleet.head.seq - back))
        at = timestamps.show(fleet.now + ahead)
        signed = fleet.sign(fleet.record(agent, kind, **fields, at=at, base=base))
        code = fleet.refusal_of(signed)
        assert refused(other.chain.propose, signed) == code
        if not code:
            fleet.land(signed)
            other.land(signed)
            assert fleet.head.digest == other.head.digest
    for one in (fleet, other):
        assert set(judged(one.fresh_verifier(), one.log)) == {AUTHENTIC}
        dates = [parse_commit(*it).committed for it in one.log]
        assert dates == sorted(dates)


def test_a_keyring_that_lies_about_a_secret_is_told_by_the_fingerprint():
    fleet = MemoryLedger("bob")
    signed = fleet.sign(fleet.record("bob", "void"))
    reader = fleet.verifier_at(2, Keyring([signing.Secret("N" * 43)], lambda _: [OWN]))
    assert reader.judge(*honest(fleet, signed)) == UNVERIFIED


@pytest.mark.parametrize("tag", [b"", bytes(16), bytes(33)], ids=["none", "half", "longer"])
def test_a_tag_of_another_length_is_refused_by_who_has_no_secret_too(tag):
    fleet = MemoryLedger("bob")
    record = fleet.record("bob", "void")
    made = honest(fleet, Signed(canonical.encode(record), record, tag))
    reader = fleet.verifier_at(2, Keyring())
    assert refused(reader.judge, *made) == "bad-signature"
