"""The vectors under tests/vectors, and the worked example of docs/format.md.

They are read here as another implementation would read them, and never written.
"""

import functools
import hashlib
import json
import re
from base64 import b64decode
from pathlib import Path

import pytest
from support.memory_ledger import refused
from support.ssh_keys import SshKey
from vectors import make

from coordledger.format import canonical, records, rules, signing
from coordledger.format.chain import AUTHENTIC, UNVERIFIED, Chain
from coordledger.format.commit import parse_commit
from coordledger.format.signing import Keyring, Secret
from coordledger.git.tree import object_id

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "tests" / "vectors"
MALFORMED = sorted(path.stem for path in (VECTORS / "malformed").glob("*.json"))
ALGOS = ["sha1", "sha256"]


CHAINS = ["chain", "ssh"]
SSH_KEYS = {
    ("alice", 3),
    ("grace", 1),
    ("grace", 3),
    ("carol", 2),
    ("frank.x", 6),
    ("grace.s", 1),
}
ALL_CHAINS = pytest.mark.parametrize("name", CHAINS)


@functools.cache
def chain(name="chain"):
    return json.loads((VECTORS / "valid" / f"{name}.json").read_text())


def signing_key(name, record):
    """The key of the chain `name` that signs the record."""
    who = f"{record['agent']}/{record['key']}"
    seed = chain(name)["seeds"].get(who)
    return SshKey(bytes.fromhex(seed)) if seed else Secret(chain(name)["secrets"][who])


def in_bytes(lines):
    """The commit of a vector: lines, each a text or pieces of it, one of them repeated."""
    texts = [
        line
        if isinstance(line, str)
        else "".join(piece if isinstance(piece, str) else piece[0] * piece[1] for piece in line)
        for line in lines
    ]
    return "\n".join(texts).encode("latin-1")


def keyring():
    secrets: dict[str, list[Secret]] = {}
    for name, line in chain()["secrets"].items():
        secrets.setdefault(name.split("/")[0], []).append(Secret(line))
    return Keyring([], lambda agent: secrets.get(agent, []))


@functools.cache
def log():
    """The valid chain in SHA-1: id and bytes of each commit."""
    return [(row["sha1"]["oid"], in_bytes(row["sha1"]["commit"])) for row in chain()["records"]]


@functools.cache
def positions():
    """A reader of the valid chain's objects, filled by reading it once."""
    objects = dict(log())
    reader = Chain(objects.__getitem__, keyring(), None, "sha1")
    for oid, content in log():
        signed = parse_commit(oid, content).signed
        proposal = reader.propose(signed)
        objects.update({oid: found for oid, (_, found) in proposal.objects.items()})
        reader.advance(proposal)
    return objects


def reader_after(count):
    head = parse_commit(*log()[count - 1]) if count else None
    return Chain(positions().__getitem__, keyring(), head, "sha1")


def test_the_valid_chain_has_every_kind_and_every_form_of_subject():
    found = [canonical.decode(row["payload"].encode()) for row in chain()["records"]]
    assert {record["kind"] for record in found} == rules.MODULES.keys()
    subjects = [records.subject(record) for record in found]
    forms = [
        r"genesis [a-z]+",
        r"enroll [a-z]+ key [12] as agent",
        r"enroll [a-z]+ key [12] as admin",
        r"revoke [a-z]+ key [12]",
        r"policy [a-z_]+=\d+( [a-z_]+=\d+)+",
        r"submit \S+",
        r"claim \S+ epoch \d until \S+",
        r"claim \S+ and 2 more until \S+",
        r"renew \S+ epoch \d until \S+",
        r"complete \S+ epoch \d",
        r"release \S+ epoch \d",
        r"release \S+ epoch \d by force",
        r"send to [a-z]+",
        r"send to channel [a-z]+",
        r"ack \d+",
        r"ack \d+ and 1 more",
        r"void [0-9a-f]{32}",
    ]
    for form in forms:
        assert any(re.fullmatch(form, subject) for subject in subjects), form


@ALL_CHAINS
@pytest.mark.parametrize("algo", ALGOS)
def test_a_valid_chain_is_made_byte_for_byte_from_payloads_and_keys(algo, name):
    objects: dict[str, bytes] = {}
    writer = Chain(objects.__getitem__, Keyring(), None, algo)
    for row in chain(name)["records"]:
        record = records.check(canonical.decode(row["payload"].encode()))
        assert canonical.encode(record).decode() == row["payload"]
        signed = signing.sign(record, signing_key(name, record))
        assert signed.tag == b64decode(row["tag"])
        proposal = writer.propose(signed)
        wanted = row[algo]
        assert proposal.content == in_bytes(wanted["commit"])
        assert (proposal.commit.tree, proposal.commit.oid) == (wanted["tree"], wanted["oid"])
        assert (proposal.commit.seq, proposal.commit.digest) == (row["seq"], row["digest"])
        objects.update({oid: content for oid, (_, content) in proposal.objects.items()})
        writer.advance(proposal)
        for path, content in row["files"].items():
            assert writer.state.tree.get(path) == (content and content.encode())


@ALL_CHAINS
@pytest.mark.parametrize("algo", ALGOS)
def test_the_files_of_a_valid_chain_are_all_that_is_in_its_trees(algo, name):
    files: dict[str, bytes] = {}
    for row in chain(name)["records"]:
        files |= {path: content and content.encode() for path, content in row["files"].items()}
        assert _tree_of({path: c for path, c in files.items() if c}, algo) == row[algo]["tree"]


def _tree_of(files, algo):
    """A tree made in the plainest way (section 8)."""
    rows, folders = [], {}
    for path, content in files.items():
        name, _, rest = path.partition("/")
        if rest:
            folders.setdefault(name, {})[rest] = content
        else:
            rows.append((name, b"100644 ", object_id("blob", content, algo)))
    rows += [(name + "/", b"40000 ", _tree_of(below, algo)) for name, below in folders.items()]
    lines = [
        mode + name.rstrip("/").encode() + b"\0" + bytes.fromhex(oid)
        for name, mode, oid in sorted(rows)
    ]
    return object_id("tree", b"".join(lines), algo)


@pytest.mark.parametrize("algo", ALGOS)
def test_the_valid_chain_is_authentic(algo):
    reader = Chain({}.__getitem__, keyring(), None, algo)
    for row in chain()["records"]:
        verdict = reader.judge(row[algo]["oid"], in_bytes(row[algo]["commit"]))
        assert verdict == AUTHENTIC


def test_a_chain_of_ssh_keys_is_authentic_for_a_reader_without_secrets():
    reader = Chain({}.__getitem__, Keyring(), None, "sha1")
    for row in chain("ssh")["records"]:
        verdict = reader.judge(row["sha1"]["oid"], in_bytes(row["sha1"]["commit"]))
        assert verdict == AUTHENTIC


def test_of_a_mixed_chain_a_reader_without_secrets_verifies_what_ssh_keys_have_signed():
    reader = Chain({}.__getitem__, Keyring(), None, "sha1")
    seen = {"ssh-ed25519": set(), "hmac-sha256": set()}
    for row in chain()["records"]:
        content = in_bytes(row["sha1"]["commit"])
        alg = re.search(rb"^Coordledger-Signature: (\S+)", content, re.MULTILINE)[1].decode()
        seen[alg].add(reader.judge(row["sha1"]["oid"], content))
    assert seen == {"ssh-ed25519": {AUTHENTIC}, "hmac-sha256": {UNVERIFIED}}


def test_the_secrets_of_the_valid_chain_are_derived_from_its_master_but_one():
    master, secrets = Secret(chain()["master"]), chain()["secrets"]
    found = [json.loads(row["payload"]) for row in chain()["records"]]
    unders = {(r["who"], r["id"]): r["under"] for r in found if r["kind"] == "enroll"}
    derived = {}
    for name, line in secrets.items():
        agent, number = name.split("/")
        above, dot, _ = agent.rpartition(".")
        key = int(number)
        source = Secret(secrets[f"{above}/{unders[agent, key]}"]) if dot else master
        derived[name] = source.derive(found[0]["nonce"], agent, key).reveal() == line
    assert [name for name, is_derived in derived.items() if not is_derived] == ["carol/1"]
    assert sum("." in name for name in derived) > 5


def test_the_master_and_the_one_own_secret_verify_the_valid_chain():
    own = Secret(chain()["secrets"]["carol/1"])
    ring = Keyring([Secret(chain()["master"])], lambda name: [own] if name == "carol" else [])
    reader = Chain({}.__getitem__, ring, None, "sha1")
    for oid, content in log():
        assert reader.judge(oid, content) == AUTHENTIC


def test_the_secret_of_a_name_verifies_all_below_it_and_nothing_else():
    frank = Secret(chain()["secrets"]["frank/1"])
    ring = Keyring([], lambda name: [frank] if name == "frank" else [])
    reader = Chain({}.__getitem__, ring, None, "sha1")
    verified = set()
    for oid, content in log():
        r = parse_commit(oid, content).record
        if reader.judge(oid, content) == AUTHENTIC:
            verified.add((r["agent"], r["key"]))
    secrets = {(name, key) for name, key in verified if (name, key) not in SSH_KEYS}
    assert secrets == {
        ("frank", 1),
        ("frank.a", 1),
        ("frank.a.b", 2),
        ("frank.a.b.d", 4),
        ("frank.w", 5),
    }


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_commit_is_refused(name):
    vector = json.loads((VECTORS / "malformed" / f"{name}.json").read_text())
    reader = reader_after(vector["after"])
    for _ in range(vector.get("voids", 0)):
        _step_on_a_void(reader)
    content = in_bytes(vector["commit"])
    oid = vector.get("oid") or object_id("commit", content, "sha1")
    head = reader.head
    assert refused(reader.judge, oid, content) == vector["code"], vector["rule"]
    assert reader.head is head


def _step_on_a_void(reader):
    head = reader.head
    record = {
        "v": 1,
        "ledger": head.record["ledger"],
        "at": head.record["at"],
        "agent": "alice",
        "key": 1,
        "session": "s1",
        "op": f"{head.seq + 1:032x}",
        "base": {"digest": head.digest, "seq": head.seq},
        "kind": "void",
    }
    reader.advance(reader.propose(signing.sign(record, Secret(chain()["secrets"]["alice/1"]))))


def test_each_malformed_commit_is_malformed_in_its_own_way():
    contents = {}
    for name in MALFORMED:
        vector = json.loads((VECTORS / "malformed" / f"{name}.json").read_text())
        assert vector.keys() - {"voids", "oid"} == {"rule", "section", "code", "after", "commit"}
        assert vector["rule"]
        where = (vector["after"], vector.get("oid"), in_bytes(vector["commit"]))
        assert contents.setdefault(where, name) == name
    assert len(MALFORMED) > 250


def test_the_files_are_what_make_would_write():
    written = {
        str(path.relative_to(VECTORS)): path.read_text()
        for folder in ("valid", "malformed")
        for path in (VECTORS / folder).iterdir()
    }
    made = make.build()
    assert sorted(written) == sorted(made)
    assert [path for path, text in made.items() if written[path] != text] == []


# -- the worked example


@functools.cache
def example():
    """The blocks of section 12: label -> text."""
    page = (ROOT / "docs" / "format.md").read_text()
    section = page[page.index("\n## 12. Worked example\n") :]
    block = re.compile(r"^\*\*(.+?)\*\*.*\n\n```text\n((?:.*\n)*?)```$", re.MULTILINE)
    blocks = [(label, text.removesuffix("\n")) for label, text in block.findall(section)]
    assert len(blocks) == section.count("```text") == len(dict(blocks))
    return dict(blocks)


def test_the_worked_example_is_what_the_core_makes_of_its_payloads_and_secret():
    found = example()
    secret = Secret(found["Secret"])
    objects: dict[str, bytes] = {}
    writer = Chain(objects.__getitem__, Keyring(), None, "sha1")
    for n in range(2):
        payload = found[f"Payload {n}"].encode()
        signed = signing.sign(records.check(canonical.decode(payload)), secret)
        proposal = writer.propose(signed)
        assert signed.payload == payload
        assert signed.tag == b64decode(found[f"Tag {n}"])
        assert proposal.commit.digest == found[f"Digest {n}"]
        assert proposal.content.decode() == found[f"Commit {n}"] + "\n"
        assert proposal.commit.oid == found[f"Commit id {n}"]
        objects.update({oid: content for oid, (_, content) in proposal.objects.items()})
        writer.advance(proposal)
    files = {label[6:-1]: text for label, text in found.items() if label.startswith("File ")}
    assert {path: writer.state.tree.get(path) for path in files} == {
        path: text.encode() + b"\n" for path, text in files.items()
    }
    whole = {path: text.encode() + b"\n" for path, text in files.items()}
    assert _tree_of(whole, "sha1") == writer.head.tree


def test_the_worked_example_certifies_itself():
    found = example()
    genesis = canonical.decode(found["Payload 0"].encode())
    assert signing.ledger_id(genesis) == genesis["ledger"] == found["Ledger id"]
    secret, nonce = Secret(found["Secret"]), genesis["nonce"]
    assert secret.fingerprint(nonce, "alice", 1) == found["Fingerprint"]
    body = canonical.encode([nonce, "alice", 1])
    framed = signing.pae("coordledger.fingerprint.v1", body)
    assert framed.decode() == found["Fingerprint input"]


def test_the_worked_example_is_authentic_and_its_sizes_are_right():
    found = example()
    ring = Keyring([], lambda _: [Secret(found["Secret"])])
    reader = Chain({}.__getitem__, ring, None, "sha1")
    page = (ROOT / "docs" / "format.md").read_text()
    for n in range(2):
        content = found[f"Commit {n}"].encode() + b"\n"
        assert (
            hashlib.sha1(b"commit %d\0%s" % (len(content), content)).hexdigest()
            == (found[f"Commit id {n}"])
        )
        assert reader.judge(found[f"Commit id {n}"], content) == AUTHENTIC
        assert f"**Commit {n}** ({len(content)} bytes, " in page
        assert f"**Payload {n}** ({len(found[f'Payload {n}'])} bytes, " in page
