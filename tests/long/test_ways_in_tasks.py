"""Who has no right to a task, a path, a fact or a name asks for it by each way in, with records
that are well signed. All answer with one code; the reader of a clone and the second
implementation refuse the very same commits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.attack_batch import Batch
from support.hostile import BIDI
from support.second_reader import Invalid, Reader, read_chain, secrets_of
from support.sequencing import switch
from support.serve_process import serving
from support.ways_in import refused_alike

from coordledger.errors import RuleBroken
from coordledger.format import timestamps
from coordledger.format.chain import AUTHENTIC
from coordledger.format.names import name_above
from coordledger.format.signing import Keyring

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.attacker import Attacker
    from support.fleet import Fleet

FAR, LONG_AGO = "9999-12-31T23:59:59.999Z", "1970-01-01T00:00:00.000Z"
SKEW = 3600  # seconds


@pytest.fixture(scope="module")
def shared_fleet(founded: Callable[..., Fleet]) -> Iterator[Fleet]:
    """bob holds `mine` with paths; bob.a, bob.b and below bob.a bob.a.x are there, bob.gone not any
    more; dan is an admin; carol has offered `offered` to bob.
    """
    fleet = founded("bob", "carol", max_skew=SKEW)
    switch(fleet, sequence=True)
    batch = Batch(fleet, fleet.root / "batch.git")
    put = batch.put
    put("alice", "enroll", who="dan", role="admin")
    for who in ("bob.a", "bob.b", "bob.gone"):
        put("bob", "enroll", who=who)
    put("bob.a", "enroll", who="bob.a.x", under=1)
    put("carol", "enroll", who="carol.d")
    put("bob", "send", to="bob.gone")
    put("bob", "revoke", who="bob.gone")
    put("bob", "submit", task="mine")
    put("bob", "claim", tasks=["mine"], paths=["doc/a.md", "src/", f"{BIDI}/"])
    put("bob.a", "submit", task="deles")
    put("bob.a.x", "claim", tasks=["deep"], key=4)
    put("carol", "submit", task="offered")
    put("carol", "claim", tasks=["offered"])
    put("carol", "handoff", task="offered", to="bob", note=BIDI)
    put("carol", "submit", task="theirs")
    put("bob", "claim", tasks=["theirs"])
    put("carol", "submit", task="done")
    put("carol", "claim", tasks=["done"])
    put("carol", "complete", task="done")
    put("bob", "submit", task="later", not_before=FAR)
    put("bob", "submit", task="first")
    put("bob", "submit", task="second", after=["first"], parent="first")
    put("bob", "submit", task="withdrawn")
    put("bob", "claim", tasks=["withdrawn"])
    put("bob", "release", task="withdrawn", not_before=FAR)
    put("bob", "withdraw", task="withdrawn")
    put("bob", "submit", task="newest")
    batch.later = -SKEW * 500  # a clock that is behind, but not too far
    put("bob", "submit", task="grace")
    put("bob", "claim", tasks=["grace"], until=timestamps.show(batch.now + 1000))
    batch.later = 0
    put("bob", "fact", fact="k")
    put("bob", "fact", fact="gone")
    put("bob", "fact", fact="gone", value=None)
    put("alice", "send", to="carol")
    put("carol", "send", channel="general")
    put("alice", "policy", set={"reopen": 2})
    batch.send()
    batch.close()
    with serving(fleet):
        yield fleet


@pytest.fixture(scope="module")
def readers(shared_fleet: Fleet) -> Reader:
    """The second implementation, at the head."""
    master = (shared_fleet.remote / "coordledger/master").read_bytes().splitlines()[-1]
    reader = Reader(secrets_of(master))
    for _, content in read_chain(shared_fleet.remote, "refs/coordledger/main"):
        reader.step(content)
    assert reader.unverified == 0
    return reader


def claims(agent: str, *paths: str, **more: Any) -> tuple[str, str, dict[str, Any]]:
    return agent, "claim", {"tasks": ["new"], "paths": sorted(paths), **more}


def edits(agent: str, task: str, **changed: Any) -> tuple[str, str, dict[str, Any]]:
    return agent, "edit", {"task": task, "set": changed or {"title": "x"}}


def facts(**given: Any) -> tuple[str, str, dict[str, Any]]:
    return "carol", "fact", {"fact": "k", **given}


Case = tuple[tuple[str, str, dict[str, Any]], str]
CASES: dict[str, Case] = {
    # -- whose task it is
    "edits another's": (edits("carol", "mine"), "not-permitted"),
    "edits as a delegate the task of the name above": (edits("bob.a", "mine"), "not-permitted"),
    "edits a sibling's": (edits("bob.b", "deles"), "not-permitted"),
    "edits as a delegate of the one below it": (edits("bob.a.x", "deles"), "not-permitted"),
    "edits what a task is offered to it": (edits("bob.b", "offered"), "not-permitted"),
    "edits as another session of the holder": (
        ("bob", "edit", {"task": "theirs", "set": {"title": "x"}, "session": "s2"}),
        "not-permitted",
    ),
    "edits what was withdrawn": (edits("bob", "withdrawn"), "withdrawn"),
    "edits what is not there": (edits("bob", "nothing"), "unknown-task"),
    "edits at a revision that is over": (
        ("bob", "edit", {"task": "mine", "set": {"title": "x"}, "rev": 2}),
        "stale-rev",
    ),
    "edits the holder": (edits("bob", "mine", session="s2"), "bad-record"),
    "edits the body": (edits("bob", "mine", body="x"), "bad-record"),
    "edits nothing": (("bob", "edit", {"task": "mine", "set": {}}), "bad-record"),
    "edits to a title that is too long": (edits("bob", "mine", title="x" * 257), "bad-record"),
    "edits to labels that are twice the same": (
        edits("bob", "mine", labels=["a", "a"]),
        "bad-record",
    ),
    "withdraws another's": (("carol", "withdraw", {"task": "second"}), "not-permitted"),
    "withdraws a sibling's": (("bob.b", "withdraw", {"task": "deles"}), "not-permitted"),
    "withdraws what is held": (("bob", "withdraw", {"task": "mine"}), "held"),
    "withdraws before the skew is over": (("bob", "withdraw", {"task": "grace"}), "held"),
    "withdraws what is done": (("carol", "withdraw", {"task": "done"}), "done"),
    "withdraws twice": (("bob", "withdraw", {"task": "withdrawn"}), "withdrawn"),
    # -- circles
    "waits for itself": (edits("bob", "first", after=["first"]), "after-newer"),
    "waits for what waits for it": (edits("bob", "first", after=["second"]), "after-newer"),
    "is a part of itself": (edits("bob", "first", parent="first"), "parent-newer"),
    "is a part of its part": (edits("bob", "first", parent="second"), "parent-newer"),
    "is submitted again after a newer one": (
        ("bob", "submit", {"task": "withdrawn", "after": ["newest"]}),
        "after-newer",
    ),
    "is submitted again below a newer one": (
        ("bob", "submit", {"task": "withdrawn", "parent": "newest"}),
        "parent-newer",
    ),
    "waits for nothing that is there": (edits("bob", "first", after=["nothing"]), "unknown-task"),
    # -- offers
    "is offered to oneself": (("bob", "handoff", {"task": "mine", "to": "bob"}), "to-oneself"),
    "is offered to a delegate that has gone": (
        ("bob", "handoff", {"task": "mine", "to": "bob.gone"}),
        "unknown-agent",
    ),
    "is offered to nobody": (("bob", "handoff", {"task": "mine", "to": "eve"}), "unknown-agent"),
    "is offered to no name": (("bob", "handoff", {"task": "mine", "to": "bob..a"}), "bad-record"),
    "is offered by another": (("carol", "handoff", {"task": "mine", "to": "dan"}), "not-holder"),
    "is offered by another session": (
        ("bob", "handoff", {"task": "mine", "to": "dan", "session": "s2"}),
        "not-holder",
    ),
    "is offered by an admin": (("dan", "handoff", {"task": "mine", "to": "alice"}), "not-holder"),
    "is offered after the end": (("bob", "handoff", {"task": "grace", "to": "dan"}), "expired"),
    "is taken by another than it is offered to": (
        ("dan", "claim", {"tasks": ["offered"]}),
        "held",
    ),
    "is taken by a delegate of whom it is offered to": (
        ("bob.a", "claim", {"tasks": ["offered"]}),
        "held",
    ),
    "is taken beside one that is held": (
        ("bob", "claim", {"tasks": ["deep", "offered"]}),
        "held",
    ),
    "is taken with paths of another": (
        ("bob", "claim", {"tasks": ["offered"], "paths": ["src/x"], "session": "s2"}),
        "reserved",
    ),
    # -- claims
    "is claimed before its time": (("carol", "claim", {"tasks": ["later"]}), "not-yet"),
    "is claimed too early by who offers it": (("bob", "claim", {"tasks": ["later"]}), "not-yet"),
    "is claimed while it waits": (("bob", "claim", {"tasks": ["second"]}), "blocked"),
    "is claimed before the skew is over": (("carol", "claim", {"tasks": ["grace"]}), "held"),
    "is reopened by who is no admin": (
        ("carol", "claim", {"tasks": ["done"], "reopen": True}),
        "not-permitted",
    ),
    "is done already": (("alice", "claim", {"tasks": ["done"]}), "done"),
    "is claimed in an epoch to come": (
        ("bob", "claim", {"tasks": [{"task": "first", "rev": 2, "epoch": 2}]}),
        "wrong-epoch",
    ),
    "is claimed for ever": (claims("bob", until=FAR), "ttl-above-policy"),
    "is claimed for no time": (claims("bob", until=LONG_AGO), "bad-lease"),
    # -- by force
    "is taken back by a delegate from the name above": (
        ("bob.a", "release", {"task": "mine", "force": True}),
        "not-permitted",
    ),
    "is taken back by a sibling": (
        ("bob.b", "release", {"task": "deep", "force": True}),
        "not-permitted",
    ),
    "is taken back by who has offered it": (
        ("carol", "release", {"task": "theirs", "force": True}),
        "not-permitted",
    ),
    "is taken back in another epoch": (
        ("dan", "release", {"task": "mine", "force": True, "epoch": 2}),
        "wrong-epoch",
    ),
    "is taken back from nobody": (
        ("dan", "release", {"task": "first", "force": True}),
        "not-claimed",
    ),
    # -- paths
    **{
        f"reserves {path!a} as {agent}/{session}": (
            claims(agent, path, session=session),
            "reserved",
        )
        for agent, session, path in [
            ("carol", "s1", "src/"),
            ("carol", "s1", "src"),
            ("carol", "s1", "src/x/y"),
            ("carol", "s1", "src/x/"),
            ("carol", "s1", "doc/"),
            ("carol", "s1", "doc/a.md/"),
            ("carol", "s1", f"{BIDI}/x"),
            ("bob", "s2", "src/"),
            ("bob.a", "s1", "src/x"),
            ("alice", "s1", "src/x"),
        ]
    },
    **{
        f"reserves {paths!a}"[:60]: (claims("carol", *paths), "bad-record")
        for paths in [
            ("",),
            ("/",),
            ("/x",),
            ("x//",),
            ("x//y",),
            (".",),
            ("./",),
            ("..",),
            ("x/../y",),
            ("x/..",),
            ("x/./y",),
            ("../x",),
            ("x\x00",),
            ("x\x1b[2J",),
            ("x\x85",),
            ("x\n",),
            ("x" * 1025,),
            ("\u00e9" * 171,),
            ("x", "x"),
            tuple(f"p{number:02}" for number in range(33)),
        ]
    },
    "reserves in no order": (
        ("carol", "claim", {"tasks": ["new"], "paths": ["b", "a"]}),
        "bad-record",
    ),
    # -- facts
    "sets a fact at no revision": (facts(was=0), "fact-changed"),
    "sets a fact at another's revision": (facts(was=1), "fact-changed"),
    "sets a fact that has been removed": (facts(fact="gone", was=1), "fact-changed"),
    "removes a fact that has been removed": (facts(fact="gone", was=1, value=None), "fact-changed"),
    "removes no fact": (facts(was=0, value=None), "bad-record"),
    "removes a fact for a time": (facts(value=None, until=FAR), "bad-record"),
    "sets a fact that has ended": (facts(until=LONG_AGO), "fact-ends-at-once"),
    "sets a fact too long": (facts(value="x" * 4097), "text-too-long"),
    "sets a fact with no key": (facts(fact=""), "bad-record"),
    "sets a fact with a key that is too long": (facts(fact="k" * 201), "bad-record"),
    # -- messages
    "writes to a delegate that has gone": (("carol", "send", {"to": "bob.gone"}), "unknown-agent"),
    "answers what is not there yet": (
        ("carol", "send", {"to": "bob", "thread": 10**6}),
        "bad-thread",
    ),
    "acknowledges another's message": (("bob", "ack", {"messages": "CAROLS"}), "not-in-inbox"),
    "acknowledges a message of a channel": (("carol", "ack", {"messages": "LAST"}), "not-in-inbox"),
    "acknowledges in no order": (("carol", "ack", {"messages": [3, 2]}), "bad-record"),
    "drops a channel": (("bob", "drop", {"channel": "general"}), "not-permitted"),
    # -- names
    "enrols below the owner": (("dan", "enroll", {"who": "alice.x"}), "not-permitted"),
    "enrols below another": (("carol", "enroll", {"who": "bob.c"}), "not-permitted"),
    "enrols a sibling": (("bob.b", "enroll", {"who": "bob.c"}), "not-permitted"),
    "enrols an admin": (("bob", "enroll", {"who": "bob.c", "role": "admin"}), "bad-record"),
    "enrols below nobody": (("bob", "enroll", {"who": "bob.z.c", "under": 1}), "bad-key"),
    "enrols under an ended key": (("bob", "enroll", {"who": "bob.gone.c", "under": 3}), "bad-key"),
    "enrols with a number that comes again": (
        ("bob", "enroll", {"who": "bob.c", "id": 3}),
        "stale-rev",
    ),
    "enrols on a fifth level": (("bob", "enroll", {"who": "bob.a.x.y.z"}), "bad-record"),
    "revokes a sibling": (("bob.b", "revoke", {"who": "bob.a"}), "not-permitted"),
    "revokes the name above": (("bob.a", "revoke", {"who": "bob"}), "not-permitted"),
    "revokes itself": (("bob.a.x", "revoke", {"who": "bob.a.x"}), "not-permitted"),
    "revokes twice": (("bob", "revoke", {"who": "bob.gone", "id": 3}), "bad-key"),
}  # fmt: skip
KEYS = {"bob.b": 2, "bob.a.x": 4}


def made(attacker: Attacker, what: tuple[str, str, dict[str, Any]]) -> str:
    """The commit with this record on the head, whatever is wrong with it."""
    agent, kind, given = what
    inbox = attacker.state.inbox("carol")
    stands_for = {"CAROLS": [inbox[0]["seq"]], "LAST": [attacker.head.seq - 1]}
    given = {
        name: stands_for.get(value, value) if isinstance(value, str) else value
        for name, value in given.items()
    }
    if "under" not in given and kind == "enroll" and name_above(given["who"]):
        given["under"] = 1
    signed = attacker.signed(agent, kind, key=KEYS.get(agent, 1), **given)
    return attacker.render(signed)


@pytest.mark.parametrize("case", CASES)
def test_what_nobody_may_is_refused_alike_by_all(
    attacker: Attacker, readers: Reader, case: str
) -> None:
    what, slug = CASES[case]
    oid = made(attacker, what)
    refused_alike(attacker, oid, slug)
    reader = attacker.stand(attacker.tip, Keyring([attacker.master]))
    with pytest.raises(RuleBroken) as refused:
        reader.judge(oid, attacker.raw(oid))
    assert refused.value.code == slug
    with pytest.raises(Invalid):
        readers.step(attacker.raw(oid))


BESIDE = [
    "SRC/",
    "srcx",
    "src.",
    "doc/a.mdx",
    "doc",
    "doc/a.md/x",
    "sr",
    "src\\x",
    "s\u0155c/",
    ".src/",
]


@pytest.mark.parametrize("path", BESIDE, ids=ascii)
def test_paths_that_are_others_are_free(attacker: Attacker, path: str) -> None:
    """A name is its code points: no case, form or other separator is folded."""
    signed = attacker.signed("carol", "claim", tasks=["new"], paths=[path])
    oid = attacker.propose(signed)
    reader = attacker.stand(attacker.tip, Keyring([attacker.master]))
    assert reader.judge(oid, attacker.raw(oid)) == AUTHENTIC
