"""An admin's operations: agents, their keys, and the policy; and an agent's on its delegates.

Rules of this file: whether it is permitted is decided by `format.state`, when the record is
made and again by the server; a secret is in its file before a record names it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import coordledger  # what is made of its names is imported when it is made
from coordledger import keyfiles
from coordledger.client import operations
from coordledger.client.batch import Batch, land
from coordledger.client.operations import Operation
from coordledger.client.signer import entry_of
from coordledger.client.ssh_keys import line_of, public_of
from coordledger.errors import error
from coordledger.format import timestamps
from coordledger.format.canonical import MAX_INTEGER  # the seq of no record: above every key's
from coordledger.format.names import first_name, is_agent, is_below, name_above
from coordledger.format.rules.ledger import POLICY
from coordledger.format.rules.tasks import standing
from coordledger.format.signing import HMAC, SSH, Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from coordledger.client.opening import Connection
    from coordledger.client.reports import Delegate, Purged
    from coordledger.client.signer import Fields
    from coordledger.client.writer import Stands
    from coordledger.format.records import Record
    from coordledger.format.state import State


def enroll(connection: Connection, who: str, *, admin: bool, secret: Secret | None) -> Path:
    """Enrol an agent, or another key of one, by a secret; the file with it.

    Raises `Failed`: no-master, no-parent-secret, not-permitted, bad-agent, alg-refused.
    """
    _need_agent(who)
    state = connection.read()
    ledger = state.ledger
    if state.requires_ssh:  # before a secret is made for nothing
        raise error("alg-refused", who=who, key=_next_number(state, who))
    if secret is None and not name_above(who):
        _master(connection, who)

    def brought(state: State, number: int, under: Record | None) -> dict[str, str]:
        chosen = secret or _derived(connection, state, who, number, under)
        connection.finder.keep(who, ledger["ledger"], chosen)  # before a record names it
        if secret is not None:
            _put_on_server(connection, who, chosen)
        return entry_of(chosen, ledger["nonce"], who, number)

    def fits(record: Record) -> bool:
        wanted = secret and entry_of(secret, ledger["nonce"], who, record["id"])
        return record["alg"] == HMAC and (not wanted or record["verifier"] == wanted["verifier"])

    connection.write(_enrolment(connection, who, admin, brought, fits))
    return connection.finder.home(who, ledger["ledger"])


def _master(connection: Connection, who: str) -> Secret:
    """The newest one, to derive a secret of `who` from. Raises `Failed`: no-master."""
    ledger_id = connection.read().ledger["ledger"]
    masters = connection.masters(ledger_id)
    if not masters:
        where = connection.settings.config_dir / "masters" / ledger_id
        raise error("no-master", who=who, where=where)
    return masters[-1]


def _derived(
    connection: Connection, state: State, who: str, number: int, under: Record | None
) -> Secret:
    """The secret of a key to come. Raises `Failed`: no-master, no-parent-secret."""
    nonce, above = state.ledger["nonce"], name_above(who)
    if under is None:
        return _master(connection, who).derive(nonce, who, number)
    higher = state.keys_above(above, under)
    found = connection.replica.keyring().find(nonce, above, under["id"], under, higher)
    if not isinstance(found, Secret):
        raise error("no-parent-secret", who=who, above=above, key=under["id"])
    return found.derive(nonce, who, number)


def enroll_ssh(connection: Connection, who: str, line: str, *, admin: bool) -> None:
    """Enrol an agent, or another key of one, by the public line of an SSH key.

    Raises `Failed`: bad-ssh-key, not-permitted, bad-agent.
    """
    _need_agent(who)
    public = public_of(line, "ssh_key")
    entry = {"alg": SSH, "verifier": public}
    operation = _enrolment(
        connection, who, admin, lambda *_: entry, lambda record: entry.items() <= record.items()
    )
    connection.write(operation)


def delegate(connection: Connection, name: str | None, *, ssh: bool) -> Delegate:
    """Enrol a delegate of mine, by a key that is made for it here.

    Raises `Failed`: agent-exists, not-permitted, bad-agent.
    """
    state, me = connection.read(), connection.settings.need_agent
    who = name if name and is_below(name, me) else f"{me}.{name or connection.hexadecimal(3)}"
    _need_agent(who)
    earlier = enrolled_before(
        connection, lambda one: one == who or (name is None and name_above(one) == me)
    )
    if earlier:
        return earlier
    if state.agent(who) is not None:
        raise error("agent-exists", who=who)
    _, mine = connection.identity().key(state, MAX_INTEGER)
    if isinstance(mine, Secret) and not ssh:
        path = enroll(connection, who, admin=False, secret=None)
        return coordledger.Delegate(who, HMAC, str(path))
    made = connection.ssh_keys.make(who)
    enroll_ssh(connection, who, line_of(made.public, who), admin=False)
    return coordledger.Delegate(who, SSH, made.where)


def enrolled_before(
    connection: Connection, fits: Callable[[str], bool], verifier: str | None = None
) -> Delegate | None:
    """An agent whose name `fits`, that an earlier process has enrolled, by the key with the
    `verifier` if there is one, and told nobody of.
    """

    def stands(what: str, record: Record, state: State, at: int) -> bool:
        if record["kind"] != "enroll" or not fits(record["who"]):
            return False
        if verifier not in (None, record["verifier"]):
            return False
        entry = state.agent(record["who"])
        return entry is not None and bool(entry["rev"] == record["rev"])

    earlier = connection.recall(stands)
    if earlier is None:
        return None
    who, alg = earlier.here.record["who"], earlier.here.record["alg"]
    if alg == SSH:
        where = connection.ssh_keys.made(who)[-1:]
    else:
        where = [connection.finder.home(who, connection.read().ledger["ledger"])]
    return coordledger.Delegate(who, alg, "".join(map(str, where)))


def _enrolment(
    connection: Connection,
    who: str,
    admin: bool,
    brought: Callable[[State, int, Record | None], dict[str, str]],
    fits: Callable[[Record], bool],
) -> Operation:
    """`brought(state, number, under)`: the key that gets this number, below that one if it is a
    delegate's; `fits`: whether a record brings it.
    """

    def build(state: State, at: int) -> tuple[str, Fields]:
        entry = state.agent(who) or {"rev": 0, "keys": [], "role": "agent"}
        under = _key_above(connection, state, who) if name_above(who) else None
        number = _next_number(state, who)
        role = "admin" if admin else entry["role"]
        about = {"who": who, "rev": entry["rev"] + 1, "id": number, "role": role}
        about |= {"under": under and under["id"]}
        return "enroll", about | brought(state, number, under)

    def stands(what: str, record: Record, state: State, at: int) -> bool:
        if record["kind"] != "enroll" or record["who"] != who:
            return False
        entry = state.agent(who)
        newest = entry is not None and entry["rev"] == record["rev"]
        return newest and fits(record) and (record["role"] == "admin" or not admin)

    return Operation(f"enroll {who}", build, stands=stands)


def _next_number(state: State, who: str) -> int:
    """Of who's next key. Those of all delegates below one identifier are numbered in a row."""
    first = state.agent(first_name(who)) or {"issued": 0, "keys": []}
    return 1 + int(first["issued"] if name_above(who) else len(first["keys"]))


def _key_above(connection: Connection, state: State, who: str) -> Record:
    """The newest key of the name above that a key of this delegate can stand under; it is mine,
    or under mine, if I am above it.

    Raises `Failed`: unknown-agent; and as `Identity.key`.
    """
    above, me = name_above(who), connection.settings.need_agent
    entry = state.agent(above) or {"keys": []}
    usable: list[Record] = [key for key in entry["keys"] if key["until"] is None]
    if is_below(who, me):
        mine, _ = connection.identity().key(state, MAX_INTEGER)

        def is_under_mine(key: Record) -> bool:
            line = [(above, key), *state.keys_above(above, key)]
            return (me, mine) in [(name, one["id"]) for name, one in line]

        usable = [key for key in usable if is_under_mine(key)]
    if not usable:
        raise error("unknown-agent", who=above)
    return usable[-1]


def _put_on_server(connection: Connection, who: str, secret: Secret) -> None:
    """A secret that no master gives has to be where records are checked, if that is here."""
    server = connection.settings.remote.folder
    if server and os.path.isdir(f"{server}/coordledger"):  # noqa: PTH112
        keyfiles.append(f"{server}/coordledger/{who}.secret", secret)


def revoke(connection: Connection, who: str, key: int | None) -> list[int]:
    """Revoke one key, or (without a number) every active one; their numbers.

    Raises `Failed`: bad-agent, unknown-agent, not-permitted, bad-key, last-key.
    """
    _need_agent(who)
    entry = connection.read().agent(who)
    if entry is None:  # a delegate leaves the state with its last key
        earlier = connection.recall(_revokes(who, key))
        if earlier is None:
            raise error("unknown-agent", who=who)
        return [int(earlier.here.record["id"])]
    active = [item["id"] for item in entry["keys"] if item["until"] is None]
    wanted = [key] if key is not None else active
    for number in wanted:
        connection.write(_revocation(who, number))
    return wanted


def _revocation(who: str, number: int) -> Operation:
    def build(state: State, at: int) -> tuple[str, Fields]:
        entry = state.agent(who) or {"rev": 0}
        return "revoke", {"who": who, "rev": entry["rev"] + 1, "id": number}

    return Operation(f"revoke {who}/{number}", build, stands=_revokes(who, number))


def _revokes(who: str, number: int | None) -> Stands:
    """Whether a record revokes this key, or any of the agent: no key is ever valid again."""

    def stands(what: str, record: Record, state: State, at: int) -> bool:
        same = record["kind"] == "revoke" and record["who"] == who
        return same and number in (None, record["id"])

    return stands


def purge(connection: Connection, who: str) -> Purged:
    """Revoke every key of an agent, and undo what it holds, has offered and has set, in one batch.

    The revocation comes first, so that the agent cannot begin anew in between. Raises `Failed`:
    bad-agent, unknown-agent, not-permitted, last-key; and what a write raises.
    """
    _need_agent(who)
    below = connection.read().delegates(who)
    verbs = ("revoke", "release", "withdraw", "edit", "remove")
    done: dict[str, list[str]] = {verb: [] for verb in verbs}
    lost: set[tuple[str, str]] = set()  # of tasks that moved meanwhile
    while undoing := [step for step in _undoing(connection, who) if step[:2] not in lost]:
        batch = Batch()
        batch.operations = [operation for _, _, operation in undoing]
        connection.begin()
        land(batch, connection.writer())
        for (verb, name, _), outcome in zip(undoing, batch.outcomes, strict=True):
            if outcome.error is None:
                done[verb].append(name)
            elif outcome.outcome == "lost" or outcome.code in ("unknown-task", "unknown-fact"):
                lost.add((verb, name))
            else:
                raise outcome.error
    state = connection.replica.position().state
    offers = (task for task in state.tasks_of("by", who) if task["status"] == "claimed")
    return coordledger.Purged(
        agent=who,
        revoked=tuple(map(int, done["revoke"])),
        ended=tuple(name for name in below if state.agent(name) is None),
        released=tuple(done["release"]),
        withdrawn=tuple(done["withdraw"]),
        left=tuple(sorted(task["task"] for task in offers)),
        facts=tuple(done["remove"]),
        freed=tuple(sorted(done["edit"])),
    )


def _undoing(connection: Connection, who: str) -> list[tuple[str, str, Operation]]:
    """Verb, subject and operation for all that is to be done about an agent, in this order.

    Raises `Failed`: unknown-agent.
    """
    state, at = connection.read(), connection.clock()
    entry = state.agent(who)
    if entry is None:  # a delegate leaves the state with its last key
        entry = {"keys": []}
        if not name_above(who):
            raise error("unknown-agent", who=who)
    connection.local.repository.read_ahead(state.unread_pages())
    why = f"{who} was revoked"
    reason = why if len(why) <= state.policy("max_text") else None
    active = [key["id"] for key in entry["keys"] if key["until"] is None]
    if who == state.ledger["owner"]:
        raise error("last-key", id=active[-1])
    # A key can sign its own revocation, and nothing after that.
    if active and who == connection.settings.agent:
        mine, _ = connection.identity().key(state, connection.replica.trusted.seq + 1)
        active.sort(key=lambda number: number == mine)
    ends = [("revoke", str(number), _revocation(who, number)) for number in active]
    undoing, released = [], set()
    for task in state.tasks_of("agent", who):
        if task["status"] == "claimed":
            released.add(task["task"])
            back = operations.release(task["task"], reason=reason, force=True)
            undoing.append(("release", task["task"], back))
    for task in state.tasks_of("by", who):
        free = task["task"] in released or standing(task, at, state.skew) in ("open", "expired")
        if free:
            away = operations.withdraw(task["task"], reason=reason)
            undoing.append(("withdraw", task["task"], away))
    undoing += [
        ("edit", name, operations.edit(name, not_before=None))
        for name in _put_off(connection, state, who, at)
    ]
    for fact in state.facts():
        if fact["agent"] == who or is_below(fact["agent"], who):
            away = operations.remove_fact(fact["fact"], if_rev=fact["rev"])
            undoing.append(("remove", fact["fact"], away))
    return undoing + ends if who == connection.settings.agent else ends + undoing


def _put_off(connection: Connection, state: State, who: str, at: int) -> Iterator[str]:
    """The tasks that an agent, or one below it, has given back for later, and nobody has touched
    since; those of them that I may edit, and that it has not offered itself.
    """
    me = connection.settings.need_agent
    for task in state.tasks():
        back, later = task["released"], task["not_before"]
        if back is None or back["seq"] != task["last_seq"]:
            continue
        if later is None or timestamps.parse(later) <= at:
            continue
        commit = connection.replica.commit_at(back["seq"])
        signer = commit.record["agent"] if commit else back["agent"]
        mine = state.is_admin(me) or task["by"] == me or is_below(task["by"], me)
        own = task["by"] == who or is_below(task["by"], who)
        if mine and not own and (signer == who or is_below(signer, who)):
            yield task["task"]


def change_policy(connection: Connection, changes: Mapping[str, int]) -> dict[str, int]:
    """The policy after the changes. Raises `Failed`: bad-value, bad-policy, not-permitted."""
    for key, value in changes.items():
        if key not in POLICY:
            raise error("bad-value", what=key, why="no such key of the policy")
        if key == "max_skew":
            raise error("bad-value", what=key, why="it is fixed when the ledger is made")
        _, least, most = POLICY[key]
        if not least <= value <= most:
            raise error("bad-policy", key=key, value=value, least=least, most=most)

    def build(state: State, at: int) -> tuple[str, Fields]:
        return "policy", {"rev": state.ledger["policy_rev"] + 1, "set": dict(changes)}

    connection.write(Operation("policy", build))
    # This copy may be behind; but nobody else has changed the policy since, or it had not landed.
    return dict(connection.replica.position().state.ledger["policy"]) | dict(changes)


def _need_agent(who: str) -> None:
    if not is_agent(who):
        raise error("bad-agent", value=who)
