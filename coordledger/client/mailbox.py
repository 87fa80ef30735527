"""Read and acknowledge messages.

Rules of this file: reading changes nothing. A direct message leaves its inbox by a record; what
is read of a channel is this clone's own affair, and remembered beside its verified head.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import coordledger  # what is made of its names is imported when it is made
from coordledger.client import waiting
from coordledger.client.operations import Operation, need_channel
from coordledger.errors import error
from coordledger.format.rules.mailbox import MAX_ACK
from coordledger.format.state import channel_path

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

    from coordledger.client.opening import Connection
    from coordledger.client.reports import Channel, Message
    from coordledger.client.views import Views


def read(
    connection: Connection,
    views: Views,
    channel: str | None,
    wait: timedelta | None,
    *,
    everything: bool,
) -> list[Message]:
    """The messages to this agent and in the configured channels, or only those in `channel`; as
    soon as there are some, at the latest when `wait` is over.
    """
    end = waiting.end_of(connection, wait)
    settings = connection.settings
    channels = settings.channels if channel is None else (channel,)
    direct, me = channel is None, settings.need_agent
    while True:
        state = connection.read()
        messages = views.inbox(state, me, channels, direct=direct, everything=everything)
        if messages or connection.clock() >= end:
            return messages
        waiting.until_changed(connection, end)


def kept(connection: Connection, views: Views, channel: str, limit: int | None) -> list[Message]:
    """The newest `limit` of the messages that a channel keeps. Raises `Failed`: bad-channel."""
    need_channel(channel)
    lines = connection.read().channel(channel)
    newest = lines[-(limit or len(lines)) :]
    return [views.message(line, channel=channel) for line in newest]


def channels(connection: Connection) -> list[Channel]:
    """All channels that there are."""
    state = connection.read()
    found = []
    for name in state.channels():
        lines, size = state.channel(name), len(state.tree.get(channel_path(name)) or b"")
        found.append(coordledger.Channel(name, len(lines), size, lines[-1]["seq"]))
    return found


def acknowledge(connection: Connection, seqs: Iterable[int]) -> list[int]:
    """The messages that are acknowledged, sorted. Raises `Failed`: not-in-inbox, no-agent."""
    agent = connection.settings.need_agent
    state = connection.read()
    wanted = sorted(set(seqs))
    direct = {line["seq"] for line in state.inbox(agent)}
    kept = {name: {line["seq"] for line in state.channel(name)} for name in state.channels()}
    for seq in wanted:
        if seq not in direct and not any(seq in channel for channel in kept.values()):
            raise error("not-in-inbox", seq=seq)
    addressed = [seq for seq in wanted if seq in direct]
    for start in range(0, len(addressed), MAX_ACK):
        fields = {"messages": addressed[start : start + MAX_ACK]}
        connection.write(Operation("ack", lambda state, at, fields=fields: ("ack", fields)))  # type: ignore[misc]
    _mark_read(connection, agent, set(wanted) - direct, kept)
    return wanted


def _mark_read(
    connection: Connection, agent: str, seqs: set[int], kept: dict[str, set[int]]
) -> None:
    """`kept` are the messages that channels still have: marks of others are dropped."""
    if not seqs:
        return
    with connection.local.lock(connection.git.deadline):
        trusted = connection.replica.trusted
        for channel, existing in kept.items():
            read = (trusted.read_in(agent, channel) | seqs) & existing
            trusted = trusted.with_read(agent, channel, read)
        connection.local.save(trusted)
