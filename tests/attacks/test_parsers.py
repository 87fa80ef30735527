"""Whatever is fed to a parser, it answers: a value, or a refusal of the table, in bounded time."""

from __future__ import annotations

import copy
import re
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import hostile
from support import strategies as shapes
from support.fleet import LEDGER_REF
from support.second_reader import Invalid

from coordledger import answers, keyfiles
from coordledger.errors import ERRORS, CoordledgerError, RuleBroken
from coordledger.format import canonical, records, rules, signing, timestamps
from coordledger.format.commit import parse_commit, render_commit, successor
from coordledger.format.signing import Keyring, Secret
from coordledger.git.cat_file import CatFile
from coordledger.git.outcome import LOST, REFUSED, UNKNOWN, UNSENT, WON, from_porcelain
from coordledger.git.process import Ran
from coordledger.git.tree import object_id
from coordledger.server.admission import AdmissionContext
from coordledger.server.fence import Fences
from coordledger.server.pre_receive import judge_updates, refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.fleet import Fleet

    from coordledger.answers import Refused

bounded = settings(derandomize=True, deadline=None, max_examples=150, database=None)

TOKENS = st.sampled_from(
    [
        *(
            b"",
            b"\0",
            b"\n",
            b"\n\n",
            b"\r\n",
            b" ",
            b": ",
            b"\x1b[2J",
            b"\xff",
            b"=",
            b"{}",
            b"[" * 3000,
        ),
        *(
            b"tree ",
            b"parent ",
            b"author ",
            b"encoding latin1\n",
            b"gpgsig x\n ",
            b"mergetag object",
        ),
        *(b" -0000", b" +0000", b"9" * 5000, b"-1", b"0x10", b"1_000", b"1e9", b"\xc2\xb2"),
        *(
            b"Coordledger-Seq: ",
            b"null",
            b"true",
            b"1.0",
            b"NaN",
            b"\\ud800",
            b"\\u0000",
            b'"v":2,',
        ),
        *(b'"kind":"upgrade"', b'"kind":[]', b"A" * 43 + b"=", b"0" * 64, b"F" * 40),
    ]
)


@st.composite
def mangled(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """Something valid, cut and patched in a few places."""
    data = draw(whole)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        gone = draw(st.sampled_from([0, 0, 1, 2, 40, 10_000]))
        data = data[:at] + draw(TOKENS | st.binary(max_size=8)) + data[at + gone :]
    return data


COMMITS = st.sampled_from([content for _, content in hostile.log()])
PAYLOADS = st.sampled_from([row["payload"].encode() for row in hostile.chain()["records"]])


def answered(act: Callable[..., Any], *arguments: Any) -> Any:
    """What `act` gives, or None if it refuses as it may."""
    try:
        return act(*arguments)
    except RuleBroken as broken:
        assert broken.code in ERRORS
        assert str(broken).isascii()
        assert str(broken).isprintable()
        assert len(str(broken)) < 1000
        assert broken.own().code == broken.theirs(1, "0" * 40, "x").code == broken.code
    return None


@bounded
@given(mangled(COMMITS) | st.binary(max_size=300))
@example(b"\n\n" * 131_000)
@example(b"tree \nauthor \n\n\n\n" + b"[" * 131_000 + b"\n\nx: a b \nx: 1\nx: ")
@example(b"parent " * 37_000)
def test_a_commit_parses_or_is_refused(content: bytes) -> None:
    found = answered(parse_commit, "0" * 40, content)
    if found:
        assert isinstance(found.signed.tag, bytes)  # its length is the key's matter
        assert canonical.encode(found.record) == found.signed.payload


@bounded
@given(mangled(PAYLOADS) | st.binary(max_size=300) | shapes.values().map(canonical.encode))
@example(b"[" * 131_072)
@example(b'{"a":' * 20_000)
@example(b"[" * 8 + b"1" * 131_000 + b"]" * 8)
@example(b'"' + b"\\ud83d" * 20_000 + b'"')
@example(b"-" * 1000)
@example(b"1" * 131_072)
@example(b"")
def test_a_payload_decodes_to_what_encodes_to_it_or_is_refused(data: bytes) -> None:
    value = answered(canonical.decode, data)
    if value is not None:
        assert canonical.encode(value) == data


NAMES = st.sampled_from(
    sorted({name for kind in rules.MODULES for name in rules.kind_of(kind).fields})
)


@st.composite
def odd_records(draw: st.DrawFn) -> Any:
    """A record of a valid shape, with a member changed, added or taken away."""
    record = dict(draw(shapes.RECORDS))
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from(sorted(record)) | NAMES)
        if draw(st.booleans()):
            record[name] = draw(shapes.values(depth=2))
        else:
            record.pop(name, None)
    return record


@bounded
@given(odd_records() | shapes.values(depth=3))
def test_a_record_has_its_shape_or_is_refused(value: Any) -> None:
    found = answered(records.check, value)
    if found is not None:
        assert found is value
        subject = records.subject(found)
        assert subject.isascii()
        assert subject.isprintable()


@bounded
@given(st.text(max_size=30) | st.from_regex(r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z"))
@example("1969-12-31T23:59:59.999Z")
@example("0000-01-01T00:00:00.000Z")
@example("2026-02-29T00:00:00.000Z")
@example("2026-11-21T24:00:00.000Z")
@example("2026-11-21T23:59:60.000Z")
@example("２026-11-21T00:00:00.000Z")
@example("2026-11-21T00:00:00,000Z")
def test_a_time_parses_to_what_shows_it_or_is_refused(text: str) -> None:
    try:
        moment = timestamps.parse(text)
    except ValueError:
        return
    assert timestamps.show(moment) == text


@bounded
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda t: t.encode("utf-8", "replace")))
@example(b"x" * 70_000)
@example(b"\n" * 60_000)
@example(b"s3cret-canary " * 10)
@example(("s3cret-canary-" * 4).encode() + b"\xff")
def test_a_file_of_secrets_parses_or_is_refused_and_never_quoted(content: bytes) -> None:
    try:
        found = keyfiles.parse(content, "/a/path")
    except CoordledgerError as fault:
        assert fault.code == "bad-secret"
        text = content.decode("ascii", "replace")
        for word in (word for word in text.split() if len(word) > 5):
            assert word not in f"{fault.message} {fault.hint} {fault.data}"
        return
    assert found
    assert all(isinstance(secret, Secret) for secret in found)


LINES = st.lists(
    st.text(max_size=60)
    | st.sampled_from(
        [
            f" \t0123:{LEDGER_REF}\tabc..def",
            f"!\t0123:{LEDGER_REF}\t[rejected] (fetch first)",
            f"!\t0123:{LEDGER_REF}\t[remote rejected] (pre-receive hook declined)",
            f"!\t0123:{LEDGER_REF}\t[remote failure] (\x1b[2J)",
            f"!\t\t\t:{LEDGER_REF}",
            "remote: coordledger: refused abc: held: no",
            "remote: coordledger: refused : :",
            "remote: coordledger: refused x: not-fast-forward",
            "remote: \x1b[31m",
            "fatal: ",
            "Done",
        ]
    ),
    max_size=6,
).map("\n".join)


@bounded
@given(LINES, LINES, st.integers(-15, 255), st.booleans())
def test_whatever_git_prints_a_push_has_onefrom_porcelain(
    out: str, err: str, code: int, sent: bool
) -> None:
    new = "ab" * 20
    push = from_porcelain(Ran(code, out, err), LEDGER_REF, new, sent=sent)
    outcomes = (WON, LOST, REFUSED, UNSENT)
    assert push.outcome in (*outcomes, UNKNOWN)
    assert push.code == "" or push.code in ERRORS
    if push.outcome in outcomes[:3]:  # never without the remote's word on this very push
        assert f":{LEDGER_REF}" in out or f"{new}:" in out
    if push.outcome == UNSENT:
        assert not sent


# -- the hook's standard input


@pytest.fixture(scope="module")
def objects(shared_fleet: Fleet) -> Iterator[CatFile]:
    with CatFile(shared_fleet.env | {"GIT_DIR": str(shared_fleet.remote)}) as found:
        yield found


REFS = st.sampled_from(
    [
        *(LEDGER_REF, "refs/heads/x", "refs/coordledger-try/main", "refs/Coordledger/main"),
        *("refs/coordledger/", "refs/coordledger", "refs/coordledger/../x", "HEAD", "\x1b[2J"),
        *("refs/coordledger/main\0", "refs/coordledger/" + "x" * 5000, "refs/coordledger/\udcff"),
    ]
)


def judged(pushed: bytes, objects: CatFile) -> Refused | None:
    context = AdmissionContext(objects, Keyring(), 0, lambda: 0)
    return refusal(judge_updates(pushed, context, hostile.NoMarks(), Fences({})))


@settings(bounded, max_examples=200)
@given(data=st.data())
def test_the_hooks_input_passes_or_is_refused_in_one_printable_line(
    objects: CatFile, data: st.DataObject
) -> None:
    found = objects.find(LEDGER_REF)
    assert found
    head, tree = found[0], parse_commit(found[0], found[2]).tree
    ids = st.sampled_from([head, tree, "0" * 40, "f" * 40, "0" * 64, head.upper(), "", "-", "HEAD"])
    lines = st.lists(st.tuples(ids, ids, REFS).map(" ".join) | st.text(max_size=20), max_size=4)
    text = "".join(f"{line}\n" for line in data.draw(lines))
    pushed = data.draw(st.just(text.encode("utf-8", "surrogateescape")) | st.binary(max_size=60))
    refused = judged(pushed, objects)
    if refused:
        line = str(refused)
        assert re.fullmatch(r"coordledger: refused ([0-9a-f]{12}|-): [a-z-]+: [ -~]+", line)
        assert len(line) < 300
        assert answers.parse(line) == refused
    else:  # then it has no line of ours in it
        assert not re.search(rb" refs/coordledger(-try)?(/|\n)", pushed.lower())


def test_a_deep_or_long_input_costs_no_more_than_reading_it(objects: CatFile) -> None:
    began = time.process_time()
    zero, one = "0" * 40, "1" * 40
    for ref in ("refs/heads/x", LEDGER_REF, "refs/coordledger/x"):
        pushed = f"{zero} {one} {ref}\n".encode() * 10_000
        refused = judged(pushed, objects)
        assert (refused is None) == (ref == "refs/heads/x")
    assert time.process_time() - began < 2


# -- the chain


def agreed(count: int, content: bytes) -> str:
    """The verdict of both implementations on one commit after `count` records."""
    ours, theirs = hostile.readers_after(count)
    head = ours.head
    verdict = answered(ours.judge, object_id("commit", content, "sha1"), content)
    try:
        theirs.step(content)
    except Invalid:
        assert verdict is None, "only the second reader refuses"
        assert ours.head is head
        return ""
    assert verdict is not None, "only the second reader accepts"
    assert ours.head
    assert ours.head.digest == theirs.digests[-1].hex()
    return str(verdict)


COUNT = len(hostile.log())


@settings(bounded, max_examples=80)
@given(st.integers(0, COUNT - 1), st.data())
def test_two_implementations_agree_on_a_mangled_commit(count: int, data: st.DataObject) -> None:
    good = hostile.log()[count][1]
    content = data.draw(mangled(st.just(good)))
    assert agreed(count, content) == ("authentic" if content == good else "")


@st.composite
def near_records(draw: st.DrawFn, record: dict[str, Any]) -> dict[str, Any]:
    """A record one step beside another: well formed more often than not."""
    changed = copy.deepcopy(record)
    name = draw(st.sampled_from(sorted(changed)))
    value = changed[name]
    if isinstance(value, bool):
        changed[name] = draw(st.booleans() | st.integers(0, 1))
    elif isinstance(value, int):
        changed[name] = value + draw(st.sampled_from([-1, 1, 2**53 - 1, -value]))
    elif isinstance(value, str):
        words = ["alice", "bob", "a", "agent", "admin", "", "x" * 65, "é", "0" * 32, "0" * 64]
        late = ["2026-11-21T03:09:00.000Z", "2026-11-21T03:10:20.000Z", "9999-12-31T23:59:59.999Z"]
        changed[name] = draw(st.sampled_from([*words, *late, value.upper(), value + "x"]))
    elif isinstance(value, list):
        changed[name] = draw(st.sampled_from([[], value * 2, value[::-1], value[:1], value * 300]))
    elif isinstance(value, dict):
        changed[name] = draw(near_records(value)) if value and draw(st.booleans()) else {}
    else:
        changed[name] = draw(st.none() | st.just("general") | st.just(0))
    return changed


@settings(bounded, max_examples=120)
@given(st.integers(1, COUNT - 1), st.data())
def test_two_implementations_agree_on_a_well_signed_record_beside_a_valid_one(
    count: int, data: st.DataObject
) -> None:
    """What the MAC cannot catch: an agent that signs whatever it likes."""
    ours, _ = hostile.readers_after(count)
    before = hostile.log()[count]
    record = data.draw(near_records(parse_commit(*before).record))
    name = f"{record['agent']}/{record['key']}"
    secret = Secret(hostile.chain()["secrets"].get(name, "x" * 43))
    payload = canonical.encode(record)
    signed = signing.Signed(payload, record, secret.sign(payload))
    try:
        records.check(canonical.decode(payload))
        content = ours.propose(signed).content
    except RuleBroken:
        try:
            assert ours.head
            content = render_commit(successor(ours.head, ours.head.tree, signed), "hmac-sha256")
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            return  # it cannot even be rendered
    agreed(count, content)
