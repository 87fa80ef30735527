"""The gate for scripts: it opens for a claim that is live and checked, and for nothing else.

Rules of this file:
- The server is asked for its vouch before the state is read: the vouch tells its time, and what it
  covers is in the state that is read next. Nothing that was remembered stands for it.
- A lease has ended if the server's clock, this machine's or the chain's own times say so: a clock
  that is slow opens nothing.
- A gate does not open on records that nobody has checked; nor where the hook finds something
  below that it cannot vouch for, unless one's own check is asked for and there is a key for it.
- Where no hook has ever answered the server is asked only if the gate would else stay shut: a try
  leaves nothing there, but is seen.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from coordledger.client import tries
from coordledger.client.claims import moment
from coordledger.client.views import agent_of
from coordledger.client.vouches import HERE, SERVER
from coordledger.errors import error
from coordledger.format import timestamps
from coordledger.format.chain import INVALID, UNKNOWN_KEY

if TYPE_CHECKING:
    from coordledger.client.claims import Claim
    from coordledger.client.opening import Connection
    from coordledger.client.replica import Replica
    from coordledger.client.tries import Asked
    from coordledger.client.views import Views
    from coordledger.format.records import Record
    from coordledger.format.state import State

_TURNS = 4  # until no record on the task comes between the vouch and the state


def require(
    connection: Connection,
    views: Views,
    task: str,
    *,
    by: str | None,
    epoch: int | None,
    check: str | None,
) -> Claim:
    """As `Ledger.require`."""
    if connection.settings.offline:
        raise error("bad-value", what="--offline", why="a gate asks the remote")
    if check not in (None, HERE):
        raise error("bad-value", what="--check", why="it can only be here")
    me = connection.identity() if by is None and epoch is not None else None
    agent, session = (me.agent, me.session) if me else (by, None)
    claim, state, asked = _look(connection, views, task)
    now = _latest(connection, state, asked)
    need_live(claim, state, now, by=agent, session=session, epoch=epoch)
    need_valid_keys(connection.replica, state, task)
    vouched = _is_vouched_for(connection.replica, claim, asked)
    need_checked(claim, asked, here=check == HERE, vouched=vouched)
    return claim


def _look(connection: Connection, views: Views, task: str) -> tuple[Claim, State, Asked | None]:
    """The claim, the state that it is in, and what the server has answered just before. Two ways
    over the network, but where others write on the task in between.
    """
    connection.begin()
    if connection.local.trusted is None:
        connection.replica.refresh()
    vouches, asked = connection.replica.vouches, None
    if vouches.enforcement != "none" or vouches.were_given:
        asked = tries.ask(connection)
    for _ in range(_TURNS):
        state = connection.replica.refresh().state
        claim = views.claim(state, task)
        if claim.checked == HERE or (asked and not asked.vouches_below(claim.seq)):
            break
        asked = tries.ask(connection)
    _need_newest(connection, asked)
    return claim, state, asked


def _need_newest(connection: Connection, asked: Asked | None) -> None:
    """Where the ledger is read from a copy that lags, the state is older than the vouch.

    Raises `Integrity`: remote-behind.
    """
    trusted, vouch = connection.replica.trusted, asked.vouch if asked else None
    if vouch and vouch.seq > trusted.seq:
        head = f"{vouch.seq}:{vouch.digest[:16]}"
        raise error("remote-behind", remote=connection.remote.shown, seq=trusted.seq, head=head)


def _latest(connection: Connection, state: State, asked: Asked | None) -> int:
    """The moment that it is at least, in milliseconds since 1970."""
    at, head = connection.clock(), connection.replica.position().head
    moments = [at]
    if head:  # another's clock may be ahead by a skew
        moments.append(timestamps.parse(head.record["at"]) - state.skew)
    if asked and asked.vouch:
        moments.append(timestamps.parse(asked.vouch.at) + max(0, at - asked.at))
    return min(max(moments), timestamps.LATEST)


def need_live(
    claim: Claim,
    state: State,
    at: int,
    *,
    by: str | None,
    epoch: int | None,
    session: str | None = None,
) -> None:
    """Raises `Lost`: not-live, not-holder, wrong-epoch, holder-revoked.

    A lease counts until `max_skew` before its end: another clock may be that far ahead.
    """
    ends = claim.expires_at - timedelta(milliseconds=state.skew) if claim.expires_at else None
    if ends is None or ends <= (moment(at) or ends):
        raise error("not-live", task=claim.task)
    if by not in (None, claim.agent) or session not in (None, claim.session):
        raise error(
            "not-holder",
            task=claim.task,
            agent=claim.agent,
            session=claim.session,
            epoch=claim.epoch,
        )
    if epoch not in (None, claim.epoch):
        raise error("wrong-epoch", task=claim.task, epoch=claim.epoch, got=epoch)
    if not agent_of(state, str(claim.agent)).active:
        raise error("holder-revoked", task=claim.task, agent=claim.agent)


def need_valid_keys(replica: Replica, state: State, name: str) -> None:
    """Whether the holder's records that a task's line stands on are of keys that are valid now:
    who has stolen a key may have claimed with it before it was revoked.

    Where this copy lacks a record, every key counts that may have signed it. Raises `Lost`:
    claim-key-revoked, holder-revoked.
    """
    task = state.task(name) or {}
    agent = task["agent"]
    keys = (state.agent(agent) or {"keys": []})["keys"]
    for seq in (task["claim_seq"], task["last_seq"]):
        commit = replica.commit_at(seq)
        if commit and commit.record["agent"] != agent:
            continue
        signed = [
            key
            for key in keys
            if (key["id"] == commit.record["key"] if commit else _could_sign(key, seq))
        ]
        if not signed:  # it was a delegate, and the name has come again
            raise error("holder-revoked", task=name, agent=agent)
        for key in signed:
            if key["until"] is not None:
                number, until = key["id"], key["until"]
                raise error("claim-key-revoked", task=name, agent=agent, key=number, seq=until)


def _could_sign(key: Record, seq: int) -> bool:
    return bool(key["from"] <= seq and (key["until"] is None or seq <= key["until"]))


def _is_vouched_for(replica: Replica, claim: Claim, asked: Asked | None) -> bool:
    """Whether the server vouches now for this very chain, up to the claim's newest record: so for
    the keys' enrolments, too. What it has vouched for before does not count.
    """
    vouch = asked.vouch if asked else None
    return vouch is not None and vouch.seq >= claim.seq and replica.vouches.fits(vouch)


def need_checked(claim: Claim, asked: Asked | None, *, here: bool, vouched: bool) -> None:
    """Raises `Integrity`: bad-signature, invalid-below; `Failed`: no-key, nobody-checked,
    unverified-below, …

    `here`: the server's check does not count. Else it counts if the claim is `vouched` for now; and
    where its hook refuses to, no check of single records makes up for what it has found.
    """
    if claim.verdict in (INVALID, UNKNOWN_KEY):
        raise error("bad-signature", agent=claim.agent, key="?")
    if here and claim.checked != HERE:
        raise error("no-key", agent=claim.agent)
    if here:
        return
    if asked and asked.refusal:
        raise asked.refusal
    if claim.checked == HERE:
        return
    if claim.checked != SERVER or not vouched:
        raise error("nobody-checked", agent=claim.agent)
