"""Messages, to an agent's inbox or to a channel, and channels themselves: send, ack, drop.

An inbox refuses what is too much and keeps each message until it is acknowledged; its last part is
a reserve for what is urgent, of which nobody gets more than a share. A channel takes everything and
sheds its oldest messages. The names of channels are bounded, so an admin can
drop one: its messages leave the state, and stay in the history.
"""

from __future__ import annotations

from coordledger.errors import RuleBroken
from coordledger.format import fields
from coordledger.format.names import first_name
from coordledger.format.rules.kind import Kind, need_admin, need_size
from coordledger.format.state import (
    INBOX_BYTES,
    RESERVED_BYTES,
    channel_path,
    inbox_path,
    line_of,
    lines_in,
    value_of,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from coordledger.format.records import Record
    from coordledger.format.state import Changes, State

MAX_ACK = 256
SHOWN = 4  # senders that an error names
SHARES = 4  # of a reserve


def _need_one_addressee(record: Record) -> None:
    if (record["to"] is None) == (record["channel"] is None):
        raise RuleBroken("bad-record", field="to", why="exactly one of to and channel is null")


def _send(state: State, record: Record, seq: int) -> Changes:
    need_size(state, record, "body", "max_body")
    thread = record["thread"]
    if thread is not None and thread > record["base"]["seq"]:
        raise RuleBroken("bad-thread", thread=thread)
    kept = ("agent", "session", "at", "thread", "importance", "body")
    line = line_of({name: record[name] for name in kept} | {"seq": seq})
    if record["to"] is not None:
        return _to_inbox(state, record["to"], record["agent"], line)
    return _to_channel(state, record["channel"], line)


def _to_inbox(state: State, agent: str, sender: str, line: bytes) -> Changes:
    if not state.has_active_key(agent):
        raise RuleBroken("unknown-agent", who=agent)
    path = inbox_path(agent)
    lines = lines_in(state.tree.get(path))
    content = b"".join([*lines, line])
    why = _too_much(state, lines, content) or _too_much_of_one(state, lines, line, sender)
    if why := why or _not_for_the_reserve(state, lines, line, sender):
        raise RuleBroken("mailbox-full", who=agent, why=why)
    return {path: content}


def _too_much(state: State, lines: list[bytes], content: bytes) -> str:
    if len(lines) >= state.policy("inbox_messages"):
        return f"{len(lines)} messages: {_senders(lines)}"
    if len(content) > INBOX_BYTES:
        return f"{sum(map(len, lines))} bytes: {_senders(lines)}"
    return ""


def _too_much_of_one(state: State, lines: list[bytes], line: bytes, sender: str) -> str:
    beginning = b'{"agent":"%s",' % sender.encode("ascii")  # of a line in canonical form
    senders = [old for old in lines if old.startswith(beginning)]
    if len(senders) >= state.policy("sender_messages"):
        return f"{len(senders)} from {sender}"
    if sum(map(len, senders)) + len(line) > state.policy("sender_bytes"):
        return f"too many bytes from {sender}"
    return ""


def _not_for_the_reserve(state: State, lines: list[bytes], line: bytes, sender: str) -> str:
    """Why the line may not use the reserve, if it does.

    A share is that of an agent and all its delegates, whose names it can make itself.
    """
    most = state.policy("inbox_messages")
    reserve = min(state.policy("inbox_reserve"), most // 2)
    total = sum(map(len, lines))
    fits = len(lines) < most - reserve and total + len(line) <= INBOX_BYTES - RESERVED_BYTES
    if fits or not reserve:
        return ""
    left = "what is left is for importance high"
    if not _is_high(line):
        return f"{len(lines)} messages, {total} bytes: {_senders(lines)}; {left}"
    family = first_name(sender)
    beginnings = tuple(b'{"agent":"%s%s' % (family.encode("ascii"), end) for end in (b'"', b"."))
    high = [old for old in lines if old.startswith(beginnings) and _is_high(old)]
    used, size = len(high), sum(map(len, high))
    if used < max(1, reserve // SHARES) and size + len(line) <= RESERVED_BYTES // SHARES:
        return ""
    what = f"{used} from {family} and below, {size} bytes"
    return f"{left}, and a quarter of it for one agent: {what}"


def _is_high(line: bytes) -> bool:
    return b',"importance":"high",' in line  # no text has this: its quotation marks are escaped


def _senders(lines: list[bytes]) -> str:
    """Who fills an inbox: how many messages from whom, the most first."""
    counts: dict[str, int] = {}
    for line in lines:
        sender = value_of(line)["agent"]
        counts[sender] = counts.get(sender, 0) + 1
    most = sorted(counts, key=lambda sender: (-counts[sender], sender))
    shown = [f"{counts[sender]} from {sender}" for sender in most[:SHOWN]]
    left = sum(counts[sender] for sender in most[SHOWN:])
    return ", ".join([*shown, f"{left} from others"] if left else shown)


def _to_channel(state: State, channel: str, line: bytes) -> Changes:
    path = channel_path(channel)
    lines = lines_in(state.tree.get(path))
    if not lines and len(state.channels()) >= state.policy("channels"):
        raise RuleBroken("too-many-channels", limit=state.policy("channels"))
    lines = [*lines, line][-state.policy("channel_messages") :]
    total, limit = sum(map(len, lines)), state.policy("channel_bytes")
    while total > limit:
        total -= len(lines.pop(0))
    return {path: b"".join(lines)}


def _ack(state: State, record: Record, seq: int) -> Changes:
    path = inbox_path(record["agent"])
    lines = {value_of(line)["seq"]: line for line in lines_in(state.tree.get(path))}
    for number in record["messages"]:
        if lines.pop(number, None) is None:
            raise RuleBroken("not-in-inbox", seq=number)
    return {path: b"".join(lines.values()) or None}


def _send_subject(record: Record) -> str:
    to, channel = record["to"], record["channel"]
    return f"send to {to}" if to else f"send to channel {channel}"


def _ack_subject(record: Record) -> str:
    first, *others = record["messages"]
    return f"ack {first} and {len(others)} more" if others else f"ack {first}"


def _drop(state: State, record: Record, seq: int) -> Changes:
    need_admin(state, record, "drop channels")
    path = channel_path(record["channel"])
    if state.tree.get(path) is None:
        raise RuleBroken("unknown-channel", channel=record["channel"])
    return {path: None}


KINDS = {
    "send": Kind(
        {
            "to": fields.or_null(fields.agent),
            "channel": fields.or_null(fields.identifier),
            "thread": fields.or_null(fields.count),
            "importance": fields.one_of("low", "normal", "high"),
            "body": fields.filled_text,
        },
        check=_need_one_addressee,
        apply=_send,
        subject=_send_subject,
    ),
    "ack": Kind(
        {"messages": fields.array(fields.count, 1, MAX_ACK, lambda seq: seq)},
        apply=_ack,
        subject=_ack_subject,
    ),
    "drop": Kind(
        {"channel": fields.identifier},
        apply=_drop,
        subject=lambda record: f"drop channel {record['channel']}",
    ),
}
