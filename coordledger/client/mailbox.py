"""Send, read and acknowledge messages.

Rules of this file: reading changes nothing. A direct message leaves its inbox by a record; what
is read of a channel is this clone's own affair, and remembered beside its verified head. What an
inbox or a channel keeps no more is read from the records.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import coordledger  # what is made of its names is imported when it is made
from coordledger import client
from coordledger.client import operations, scan, waiting
from coordledger.client.legacies import archived
from coordledger.client.operations import need_channel
from coordledger.errors import Failed, error
from coordledger.format.rules.mailbox import MAX_ACK
from coordledger.format.state import channel_path

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from datetime import timedelta

    from coordledger.client.index.store import Index
    from coordledger.client.opening import Connection
    from coordledger.client.replica import Replica
    from coordledger.client.reports import Channel, Message
    from coordledger.client.views import Views
    from coordledger.format.commit import Commit
    from coordledger.format.records import Record

    Sent = tuple[Commit, Commit | None]  # a message, and the record that acknowledges it

MOST = 200  # messages that are read, where nobody says how many: no channel keeps more


class Mail:
    """What a `Ledger` does with messages."""

    if TYPE_CHECKING:  # `Ledger` has them
        connection: Connection
        _views: Views

    def send(
        self,
        body: str,
        *,
        to: str | None = None,
        channel: str | None = None,
        thread: int | None = None,
        importance: str = "normal",
    ) -> Message:
        """Send the text `body` to one agent (`to`) or to one channel.

        `thread` is the seq of a message to reply to, `importance` low, normal or high. Raises
        `Failed`: unknown-agent, mailbox-full, text-too-long, bad-thread.
        """
        published = self.connection.write(
            operations.send(body, to=to, channel=channel, thread=thread, importance=importance)
        )
        line = published.here.record | {"seq": published.seq}
        return self._views.message(line, to=to, channel=channel)

    def inbox(
        self,
        *,
        everything: bool = False,
        channel: str | None = None,
        wait: timedelta | None = None,
        cancel: threading.Event | None = None,
    ) -> list[Message]:
        """The messages to this agent that are not acknowledged, and the unread ones of the
        channels: of those that are configured, else of all (or only of `channel`); `everything`
        takes read ones too. Tasks that are offered to this agent come last. With `wait` it blocks
        until there is something or the time is over, or `cancel` is set. A session with a key of
        its own has the messages and offers to its agent, too.
        """
        if channel is not None:
            need_channel(channel)
        connection = self.connection
        end, settings = waiting.end_of(connection, wait), connection.settings
        channels = settings.channels if channel is None else (channel,)
        which = {"direct": channel is None, "everything": everything}
        while True:
            seen = waiting.newest(connection)
            state = connection.read()
            found = self._views.inbox(state, settings.names, channels, **which)
            if channel is None:
                for name in settings.names:
                    found += self._views.offers.messages(state, name)
            if found or waiting.has_ended(connection.clock(), end, cancel):
                return found
            waiting.until_changed(connection, end, seen, *waiting.stopped_by(cancel))

    def messages(
        self,
        channel: str | None = None,
        limit: int | None = None,
        *,
        sender: str | None = None,
        to: str | None = None,
        thread: int | None = None,
        since: int | None = None,
    ) -> list[Message]:
        """The newest `limit` messages (by default 200), oldest first.

        Of a `channel` alone: those that it keeps. Else all that the records of this copy tell of,
        acknowledged and forgotten ones too: by the agent `sender`, `to` an agent, in the `thread`
        to which the message of that seq belongs, `since` the record with that seq; `acked` tells
        which of them were acknowledged, and when. Imported ones, with `legacy`, are asked for by
        what is said there. Raises `Failed`: bad-channel.
        """
        if channel is not None:
            need_channel(channel)
        state, most = self.connection.read(), limit or MOST
        if channel is not None and (sender, to, thread, since) == (None,) * 4:
            return [self._views.message(m, channel=channel) for m in state.channel(channel)[-most:]]
        replica = self.connection.replica
        looked_up = client.index.ask_if_there(
            replica,
            lambda one: _found(
                one,
                one.messages(
                    most, first=since or 0, sender=sender, to=to, channel=channel, thread=thread
                ),
            ),
        )
        if looked_up is not None:
            return [self._message_of(*both) for both in looked_up]
        asked = {"agent": sender, "to": to, "channel": channel}
        wanted = {name: value for name, value in asked.items() if value is not None}
        kinds = ("send", "ack", "archive") if thread is None else ("send", "ack")
        threads = _Threads(replica)
        root = None if thread is None else threads.root_of(thread)
        found: list[Sent] = []
        for send, ack in _sent(replica, max(since or 0, root or 0), kinds):
            if wanted.items() <= _facts_of(send.record).items():
                if root is not None and threads.root_of(send.seq, send.record) != root:
                    continue
                found.append((send, ack))
                if len(found) == most:
                    break
        return [self._message_of(send, ack) for send, ack in reversed(found)]

    def _message_of(self, send: Commit, ack: Commit | None) -> Message:
        if send.record["kind"] == "send":
            return self._views.sent(send, ack)
        return archived(self.connection.replica, send)

    def ack(self, *seqs: int, everything: bool = False) -> list[int]:
        """Acknowledge the messages `seqs`, or with `everything` all that `inbox` shows: direct
        ones by a record, channel ones in this clone; what was acknowledged, sorted.
        Raises `Failed`: not-in-inbox.
        """
        connection, names = self.connection, self.connection.settings.names
        state = connection.read()
        direct = {name: {line["seq"] for line in state.inbox(name)} for name in names}
        kept = {name: {line["seq"] for line in state.channel(name)} for name in state.channels()}
        wanted = set(seqs)
        if everything:
            wanted |= self._views.unread(state, names, connection.settings.channels)
        gone = wanted.difference(*direct.values(), *kept.values())
        if gone and not connection.recall(operations.acks(sorted(gone))):
            raise error("not-in-inbox", seq=min(gone))
        for name in names:
            addressed = sorted(wanted & direct[name])
            self._ack(connection.as_agent(name), name, addressed, leaves_out=everything)
        _mark_read(connection, names[-1], wanted.difference(*direct.values()), kept)
        return sorted(wanted)

    def _ack(
        self, connection: Connection, agent: str, addressed: list[int], *, leaves_out: bool
    ) -> None:
        """Acknowledge messages to an agent; with `leaves_out` those that are still there."""
        for start in range(0, len(addressed), MAX_ACK):
            lot = addressed[start : start + MAX_ACK]
            try:
                connection.write(operations.ack(agent, lot, leaves_out=leaves_out))
            except Failed as fault:
                if not leaves_out or fault.code != "not-in-inbox":
                    raise  # else another session has acknowledged them meanwhile

    def channels(self) -> list[Channel]:
        """All channels that there are."""
        state = self.connection.read()
        found = []
        for name in state.channels():
            lines, size = state.channel(name), len(state.tree.get(channel_path(name)) or b"")
            found.append(coordledger.Channel(name, len(lines), size, lines[-1]["seq"]))
        return found

    def drop_channel(self, channel: str) -> None:
        """Drop a channel, as an admin: its messages leave the state, and stay in the history.
        Raises `Failed`: unknown-channel, not-permitted, bad-channel.
        """
        self.connection.write(operations.drop(channel))


def _found(index: Index, places: list[tuple[int, str, int | None]]) -> list[Sent]:
    """The messages at these places. Raises `Stale`."""
    sends = index.read([(seq, oid) for seq, oid, _ in places])
    acks = {seq: index.record_at(ack) for seq, _, ack in places if ack is not None}
    return [(send, acks.get(send.seq)) for send in sends]


def _facts_of(record: Record) -> Record:
    """Who has sent a message to whom; of an imported one by the names there."""
    return record if record["kind"] == "send" else record | {"agent": record["legacy"]["agent"]}


def _sent(replica: Replica, first: int, kinds: tuple[str, ...]) -> Iterator[Sent]:
    """The messages from the record at `first` on, the newest first.

    What acknowledges one came after it, so it was met before; it is its addressee's, or the
    record would not be valid.
    """
    acks: dict[int, Commit] = {}
    for commit in scan.newest_first(replica, kinds, first):
        record = commit.record
        if record["kind"] == "ack":
            acks |= dict.fromkeys(record["messages"], commit)
        else:
            yield commit, acks.get(commit.seq)


class _Threads:
    """Which message a thread begins with: replies name the one that they answer."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica
        self._roots: dict[int, int] = {}

    def root_of(self, seq: int, record: Record | None = None) -> int:
        """The first message of the thread that the message `seq` is in; `record` is its own, if
        it is known.
        """
        way: list[int] = []
        while seq not in self._roots:
            way.append(seq)
            if record is None:
                commit = self._replica.commit_at(seq)
                record = commit.record if commit else {}
            above = record.get("thread")
            record = None
            if above is None or above >= seq:
                self._roots[seq] = seq
            else:
                seq = above
        self._roots |= dict.fromkeys(way, self._roots[seq])
        return self._roots[seq]


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
