"""Sections 3, 4 and 6: the shape of each kind of record, and its subject.

`REFUSED` changes one field of a good record, and each row has to be refused.
"""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.memory_ledger import LEGACY, MASTER, NONCE, POLICY, MemoryLedger, refused
from support.ssh_keys import SshKey
from support.strategies import RECORDS, of_kind

from coordledger.format import canonical, records, rules
from coordledger.format.rules.ledger import POLICY as LIMITS

COUNT_ERRORS = [-1, 2**53, True, "1", 1.0, None]
POSITIVE_ERRORS = [0, *COUNT_ERRORS]
TIME_ERRORS = ["2026-11-21T03:10:00Z", 0, None, "2026-02-30T00:00:00.000Z"]
TASK_ERRORS = ["", "a b", "a\n", "é", "\x7f", "x" * 201, None, 1]
NAME_ERRORS = ["", "Bob", "-bob", "_bob", "b.b", "b b", "bob\n", "é", "x" * 65, None, 1]
LONG = ".".join(["a" * 43] * 3)  # 131 characters
AGENT_ERRORS = [name for name in NAME_ERRORS if name != "b.b"]
AGENT_ERRORS += [".b", "b.", "b..b", "b.B", "b.-", "a.b.c.d.e", f"b.{'x' * 65}", LONG, "b/b", "."]
ADDRESSEE_ERRORS = [name for name in AGENT_ERRORS if name is not None]
TEXT_ERRORS = [1, True, [], {}]
HEX = "0123456789abcdef" * 4
DIGEST_ERRORS = [HEX[1:], HEX + "0", HEX.upper(), "g" * 64, "", None, 1]
VERIFIER_ERRORS = [*DIGEST_ERRORS, SshKey.of("bob/1").public]
OBJECT_ID_ERRORS = [HEX[:39], HEX[:41], HEX[:63], HEX[:40].upper(), "g" * 40, "", None, 1]
REF_ERRORS = [
    *(
        f"refs/heads/{name}"
        for name in ("", "a b", "a..b", "a@{b", ".a", "a/.b", "a//b", "a/", "a.")
    ),
    *(f"refs/heads/a{char}b" for char in "~^:?*[\\\n\x7f\xe9"),
    *("refs/heads/a.lock", "refs/heads/a.lock/b", "refs/", "refs", "heads/main", "main", "HEAD"),
    *("refs/coordledger/main", "refs/coordledger-try/main", "refs/for/main", "/refs/heads/a"),
    *("refs/heads/" + "x" * 245, None, 1, ["refs/heads/main"]),
]
OP_ERRORS = [HEX[:31], HEX[:33], HEX[:32].upper(), "g" * 32, None, 1]

COMMON = {
    "v": [0, -1, True, "1", None, 1.0],
    "ledger": OP_ERRORS,
    "at": TIME_ERRORS,
    "agent": AGENT_ERRORS,
    "key": POSITIVE_ERRORS,
    "session": NAME_ERRORS,
    "op": OP_ERRORS,
    "base": [
        1,
        [],
        {},
        {"seq": 0},
        {"digest": HEX},
        {"seq": 0, "digest": HEX, "more": 1},
        *({"seq": 0, "digest": digest} for digest in DIGEST_ERRORS),
        *({"seq": seq, "digest": HEX} for seq in COUNT_ERRORS),
    ],
    "kind": [None, 1, [], {}],
}


def _whole(**changed):
    return POLICY | changed


def _out_of_range(whole):
    for key, (_, least, most) in LIMITS.items():
        if whole or key != "max_skew":
            for value in (least - 1, most + 1, None, True, str(least)):
                yield whole | {key: value} if whole else {key: value}


CLAIMED = {"task": "a", "rev": 1, "epoch": 1}
MANY = [f"t{number:03}" for number in range(17)]
PATH_ERRORS = ["", "/", "/a", "a//b", "a//", ".", "a/./b", "..", "../a", "a/..", "a\n", "a\x9b", 1]
OPTIONAL_TIME_ERRORS = [error for error in TIME_ERRORS if error is not None]
ATTRIBUTES = {
    "priority": [-1_000_001, 1_000_001, True, "0", None, 0.0],
    "meta": [
        None,
        [],
        dict.fromkeys(MANY, ""),
        {"a": 1},
        {"a": None},
        {"A": ""},
        {"": ""},
        {"a" * 65: ""},
        {"a": "x" * 1025},
        {"a": "é" * 171},
    ],
    "after": [None, {}, MANY, ["b", "a"], ["a", "a"], [""], ["a b"], [1], "ab"],
    "title": ["x" * 257, "é" * 43, *TEXT_ERRORS],
    "labels": [None, {}, MANY, ["b", "a"], ["a", "a"], [""], ["A"], [1], "ab"],
    "parent": [error for error in TASK_ERRORS if error is not None],
    "not_before": OPTIONAL_TIME_ERRORS,
}

LEGACY_ERRORS = [
    None,
    {},
    [],
    LEGACY | {"more": 1},
    *({name: value for name, value in LEGACY.items() if name != left} for left in LEGACY),
    *(LEGACY | {"source": value} for value in ["", "x" * 257, "é" * 43, None, 1]),
    *(LEGACY | {"id": value} for value in ["x" * 1025, None, 1]),
    *(LEGACY | {"agent": value} for value in ["x" * 513, 1]),
    *(LEGACY | {"at": value} for value in OPTIONAL_TIME_ERRORS),
    *(LEGACY | {"until": value} for value in ["x" * 65, 1]),
    *(LEGACY | {"tag": value} for value in ["x" * 257, 1, None]),
    *(LEGACY | {"mac": value} for value in ["", "Valid", "authentic", "missing", None, True]),
]
OFFER = {"agent": "bob", "until": "2026-11-21T03:20:01.000Z"}

REFUSED = {
    "genesis": {
        "nonce": DIGEST_ERRORS,
        "policy": [
            None,
            {},
            _whole(more=1),
            {key: value for key, value in POLICY.items() if key != "channels"},
            *_out_of_range(POLICY),
        ],
        "alg": ["hmac-sha1", "HMAC-SHA256", "", None],
        "verifier": VERIFIER_ERRORS,
        "base": [{"seq": 0, "digest": HEX}],
        "agent": NAME_ERRORS,
    },
    "enroll": {
        "who": AGENT_ERRORS,
        "rev": POSITIVE_ERRORS,
        "id": POSITIVE_ERRORS,
        "alg": ["hmac-sha1", "none", "", None],
        "verifier": VERIFIER_ERRORS,
        "role": ["owner", "Admin", "", None],
        "under": [error for error in POSITIVE_ERRORS if error is not None],
    },
    "revoke": {"who": AGENT_ERRORS, "rev": POSITIVE_ERRORS, "id": POSITIVE_ERRORS},
    "policy": {
        "rev": POSITIVE_ERRORS,
        "set": [None, {}, [], {"max_skew": 30}, {"color": 1}, *_out_of_range({})],
    },
    "submit": {
        "task": TASK_ERRORS,
        "rev": POSITIVE_ERRORS,
        **ATTRIBUTES,
        "body": TEXT_ERRORS,
    },
    "edit": {
        "task": TASK_ERRORS,
        "rev": POSITIVE_ERRORS,
        "set": [
            None,
            [],
            {},
            {"body": "x"},
            {"task": "b"},
            {"status": "done"},
            *({name: value} for name, values in ATTRIBUTES.items() for value in values),
            {"priority": 0, "labels": ["A"]},
        ],
    },
    "withdraw": {"task": TASK_ERRORS, "rev": POSITIVE_ERRORS, "reason": TEXT_ERRORS},
    "import": {
        "task": TASK_ERRORS,
        "rev": POSITIVE_ERRORS,
        "status": ["claimed", "withdrawn", "Open", "", None, 1],
        "epoch": [*COUNT_ERRORS, 1_000_000_001],
        "attempts": [*COUNT_ERRORS, 1_000_001],
        **ATTRIBUTES,
        "body": TEXT_ERRORS,
        "result": [*TEXT_ERRORS, "of what is open"],
        "offer": [
            {},
            [],
            "bob",
            {"agent": "bob"},
            OFFER | {"seq": 1},
            *(OFFER | {"agent": agent} for agent in AGENT_ERRORS),
            *(OFFER | {"until": until} for until in TIME_ERRORS),
        ],
        "legacy": LEGACY_ERRORS,
    },
    "claim": {
        "tasks": [
            None,
            [],
            {},
            ["a"],
            [{"task": name, "rev": 1, "epoch": 1} for name in MANY],
            [CLAIMED | {"task": "b"}, CLAIMED],
            [CLAIMED, CLAIMED],
            [CLAIMED, CLAIMED | {"epoch": 2}],
            [CLAIMED | {"more": 1}],
            [{"task": "a", "rev": 1}],
            *([CLAIMED | {"task": task}] for task in TASK_ERRORS),
            *([CLAIMED | {"rev": number}] for number in POSITIVE_ERRORS),
            *([CLAIMED | {"epoch": number}] for number in POSITIVE_ERRORS),
        ],
        "until": TIME_ERRORS,
        "reopen": [0, 1, None, "true"],
        "note": TEXT_ERRORS,
        "paths": [
            None,
            {},
            "a",
            ["b", "a"],
            ["a", "a"],
            [f"p{number:02}" for number in range(33)],
            ["x" * 1025],
            *([error] for error in PATH_ERRORS),
        ],
    },
    "renew": {
        "task": TASK_ERRORS,
        "rev": POSITIVE_ERRORS,
        "epoch": POSITIVE_ERRORS,
        "until": TIME_ERRORS,
        "note": TEXT_ERRORS,
    },
    "complete": {
        "task": TASK_ERRORS,
        "rev": POSITIVE_ERRORS,
        "epoch": POSITIVE_ERRORS,
        "result": TEXT_ERRORS,
    },
    "release": {
        "task": TASK_ERRORS,
        "rev": POSITIVE_ERRORS,
        "epoch": POSITIVE_ERRORS,
        "reason": TEXT_ERRORS,
        "force": [0, 1, None, "true"],
        "not_before": OPTIONAL_TIME_ERRORS,
    },
    "handoff": {
        "task": TASK_ERRORS,
        "rev": POSITIVE_ERRORS,
        "epoch": POSITIVE_ERRORS,
        "to": AGENT_ERRORS,
        "note": TEXT_ERRORS,
    },
    "land": {
        "task": TASK_ERRORS,
        "rev": POSITIVE_ERRORS,
        "epoch": POSITIVE_ERRORS,
        "ref": REF_ERRORS,
        "old": [*OBJECT_ID_ERRORS, "12" * 20, "12" * 32],
        "new": [*OBJECT_ID_ERRORS, "ab" * 32, "00" * 20],
        "complete": [0, 1, None, "true"],
        "result": ["merged", *TEXT_ERRORS],
    },
    "send": {
        "to": [*ADDRESSEE_ERRORS, None],
        "channel": [*ADDRESSEE_ERRORS, "general"],
        "thread": [error for error in COUNT_ERRORS if error is not None],
        "importance": ["urgent", "", "HIGH", None, 1],
        "body": ["", None, *TEXT_ERRORS],
    },
    "ack": {
        "messages": [
            None,
            [],
            {},
            [2, 1],
            [1, 1],
            list(range(257)),
            *([error] for error in COUNT_ERRORS),
        ]
    },
    "drop": {"channel": NAME_ERRORS},
    "archive": {
        "to": ["x" * 257, "é" * 43, *TEXT_ERRORS],
        "channel": ["x" * 257, "é" * 43, *TEXT_ERRORS],
        "body": ["", None, *TEXT_ERRORS],
        "legacy": LEGACY_ERRORS,
    },
    "fact": {
        "fact": TASK_ERRORS,
        "was": COUNT_ERRORS,
        "value": [*TEXT_ERRORS, None],
        "until": [error for error in TIME_ERRORS if error is not None],
    },
    "void": {},
}

GIVEN = {
    "enroll": {"who": "bob"},
    "revoke": {"who": "alice"},
    "policy": {"set": {"max_ttl": 60}},
    "submit": {"task": "a"},
    "claim": {"tasks": ["a"]},
    "renew": {"task": "a"},
    "complete": {"task": "a"},
    "release": {"task": "a"},
    "send": {"to": "bob"},
    "ack": {"messages": [1]},
    "withdraw": {"task": "a"},
    "edit": {"task": "a", "set": {"priority": 1}},
    "handoff": {"task": "a", "to": "bob"},
    "land": {"task": "a"},
    "drop": {"channel": "general"},
    "import": {"task": "a"},
    "fact": {"fact": "image"},
}
FLEET = MemoryLedger()
GOOD = {
    kind: FLEET.record("alice", kind, **GIVEN.get(kind, {}))
    for kind in rules.MODULES
    if kind != "genesis"
}
GOOD["genesis"] = MemoryLedger().at(0).record("alice", "genesis")
ROWS = [
    (kind, field, value)
    for kind in rules.MODULES
    for field, values in (COMMON | REFUSED[kind]).items()
    for value in values
]


@pytest.mark.parametrize("kind", rules.MODULES)
def test_a_good_record_of_each_kind_has_its_shape(kind):
    assert records.check(GOOD[kind]) is GOOD[kind]


@pytest.mark.parametrize("kind", rules.MODULES)
def test_the_table_has_wrong_values_for_each_field(kind):
    assert COMMON.keys() == records.COMMON.keys()
    assert REFUSED[kind].keys() == rules.kind_of(kind).fields.keys()
    assert all((COMMON | REFUSED[kind]).values())


@pytest.mark.parametrize("kind", rules.MODULES)
def test_a_field_of_the_wrong_form_is_refused_whatever_the_kind(kind):
    rows = [(field, value) for of, field, value in ROWS if of == kind]
    codes = {(field, repr(v)): refused(records.check, GOOD[kind] | {field: v}) for field, v in rows}
    assert {row: code for row, code in codes.items() if code != "bad-record"} == {}


@pytest.mark.parametrize("kind", rules.MODULES)
def test_each_field_has_to_be_there_and_no_other(kind):
    good = GOOD[kind]
    assert good.keys() == (records.COMMON | rules.kind_of(kind).fields).keys()
    for field in good:
        assert refused(records.check, {k: v for k, v in good.items() if k != field}) == "bad-record"
    assert refused(records.check, good | {"more": None}) == "bad-record"


@pytest.mark.parametrize("kind", [kind for kind in rules.MODULES if kind != "genesis"])
def test_only_a_genesis_record_has_no_base(kind):
    assert refused(records.check, GOOD[kind] | {"base": None}) == "bad-record"


@pytest.mark.parametrize("value", [None, [], "", 1, True, [{}]])
def test_what_is_no_object_is_no_record(value):
    assert refused(records.check, value) == "bad-record"


@pytest.mark.parametrize(
    "changed",
    [{"v": 2}, {"v": 2**53 - 1}, {"kind": "upgrade"}, {"kind": "Claim"}, {"kind": ""}],
)
def test_a_newer_version_is_called_newer_and_not_wrong(changed):
    assert refused(records.check, GOOD["void"] | changed) == "newer-version"
    assert refused(records.check, GOOD["void"] | changed | {"more": 1}) == "newer-version"


def test_the_limits_themselves_are_within():
    widest = {
        ("claim", "tasks"): [CLAIMED | {"task": name} for name in MANY[:16]],
        ("submit", "after"): MANY[:16],
        ("submit", "meta"): {"a": "x" * 1024, "b": "x" * 1024, "c": "x" * 1024, "d": "x" * 995},
        ("submit", "task"): "~" * 200,
        ("submit", "priority"): -1_000_000,
        ("renew", "until"): "9999-12-31T23:59:59.999Z",
        ("ack", "messages"): list(range(256)),
        ("import", "epoch"): 1_000_000_000,
        ("import", "legacy"): {
            "source": "x" * 256,
            "id": "x" * 1024,
            "agent": "x" * 512,
            "at": None,
            "until": "x" * 64,
            "tag": "x" * 256,
            "mac": "unknown",
        },
        ("void", "session"): "0" + "z_-" * 21,
        ("void", "key"): 2**53 - 1,
        ("policy", "set"): {k: most for k, (_, _, most) in LIMITS.items() if k != "max_skew"},
    }
    for (kind, field), value in widest.items():
        records.check(GOOD[kind] | {field: value})
    assert len(canonical.encode(widest["submit", "meta"])) == 4096


def test_tasks_are_sorted_by_bytes_and_not_by_letters():
    names = ["B", "a", "a#1", "a1", "b"]
    assert names == sorted(names)
    records.check(GOOD["submit"] | {"after": names})
    assert refused(records.check, GOOD["submit"] | {"after": ["a", "B"]}) == "bad-record"


SUBJECTS = [
    ("genesis", {}, "genesis alice"),
    ("enroll", {"role": "admin", "id": 7}, "enroll bob key 7 as admin"),
    ("revoke", {"id": 2}, "revoke alice key 2"),
    ("policy", {"set": {"max_ttl": 60, "channels": 3}}, "policy channels=3 max_ttl=60"),
    ("submit", {"task": "fix#7"}, "submit fix#7"),
    (
        "claim",
        {"tasks": [CLAIMED | {"epoch": 3}], "until": "2026-11-21T03:20:01.000Z"},
        "claim a epoch 3 until 2026-11-21T03:20:01.000Z",
    ),
    (
        "claim",
        {
            "tasks": [CLAIMED, CLAIMED | {"task": "b"}, CLAIMED | {"task": "c"}],
            "until": "2026-11-21T03:20:01.000Z",
        },
        "claim a and 2 more until 2026-11-21T03:20:01.000Z",
    ),
    (
        "renew",
        {"epoch": 4, "until": "2026-11-21T03:20:01.000Z"},
        "renew a epoch 4 until 2026-11-21T03:20:01.000Z",
    ),
    ("complete", {"epoch": 5}, "complete a epoch 5"),
    ("release", {"epoch": 6}, "release a epoch 6"),
    ("release", {"epoch": 6, "force": True}, "release a epoch 6 by force"),
    ("handoff", {"epoch": 7}, "handoff a epoch 7 to bob"),
    ("land", {}, "land a epoch 1 refs/heads/main 000000000000..121212121212"),
    (
        "land",
        {"complete": True},
        "land a epoch 1 complete refs/heads/main 000000000000..121212121212",
    ),
    ("edit", {}, "edit a"),
    ("send", {}, "send to bob"),
    ("send", {"to": None, "channel": "general"}, "send to channel general"),
    ("ack", {"messages": [4]}, "ack 4"),
    ("ack", {"messages": [4, 5, 9]}, "ack 4 and 2 more"),
    ("withdraw", {}, "withdraw a"),
    ("import", {}, "import a as open"),
    ("import", {"status": "done"}, "import a as done"),
    ("drop", {}, "drop channel general"),
    ("archive", {}, "archive a message"),
    ("fact", {}, "fact image"),
    ("fact", {"value": None, "was": 7}, "fact image removed"),
    ("void", {"op": "0f" * 16}, "void " + "0f" * 16),
]


@pytest.mark.parametrize(("kind", "changed", "subject"), SUBJECTS)
def test_the_subject_says_what_the_record_does(kind, changed, subject):
    assert records.subject(records.check(GOOD[kind] | changed)) == subject


def test_each_kind_has_a_subject_in_the_table():
    assert {kind for kind, _, _ in SUBJECTS} == rules.MODULES.keys()


@given(RECORDS)
def test_a_record_of_any_kind_is_read_as_it_was_written(record):
    data = canonical.encode(records.check(record))
    assert records.check(canonical.decode(data)) == record


@given(RECORDS)
def test_the_subject_is_one_printable_line(record):
    subject = records.subject(record)
    assert subject.isascii()
    assert subject.isprintable()


@pytest.mark.parametrize("kind", rules.MODULES)
@settings(max_examples=12)
@given(st.data())
def test_a_field_of_another_type_is_never_of_a_valid_shape(kind, data):
    record = copy.deepcopy(data.draw(of_kind(kind)))
    field = data.draw(st.sampled_from(sorted(record)))
    nested = [[[]]]
    if field == "kind":
        return
    assert refused(records.check, record | {field: nested}) == "bad-record"


def test_the_defaults_of_the_policy_are_those_of_the_specification():
    assert LIMITS == {
        "max_skew": (30, 1, 3600),
        "max_ttl": (86_400, 60, 2_592_000),
        "max_body": (65_536, 1, 65_536),
        "max_text": (4096, 1, 4096),
        "max_fact": (4096, 1, 16_384),
        "inbox_messages": (256, 1, 256),
        "inbox_reserve": (32, 0, 128),
        "sender_messages": (64, 1, 64),
        "sender_bytes": (131_072, 1024, 131_072),
        "channels": (256, 1, 256),
        "channel_messages": (200, 1, 200),
        "channel_bytes": (131_072, 66_560, 262_144),
        "require_alg": (0, 0, 1),
        "max_attempts": (5, 1, 1000),
        "reopen": (0, 0, 2),
    }


def test_the_fingerprint_in_a_record_is_the_secrets():
    assert GOOD["genesis"]["verifier"] == MASTER.derive(NONCE, "alice", 1).fingerprint(
        NONCE, "alice", 1
    )
