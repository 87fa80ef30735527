"""Commands about messages.

Rules: a body is somebody else's text: it is shown indented and harmless, never interpreted.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from . import params
from .common import command, group, root
from .output import block, safe, task_name, when
from .wording import legacy_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from coordledger.client.claims import Legacy
    from coordledger.client.reports import Message

    from .common import App
    from .output import Screen

channel_option = click.option(
    "--channel", type=params.CHANNEL, metavar="CHANNEL", help="Of this channel, or to it."
)


def _where(message: Message) -> str:
    return f"#{message.channel}" if message.channel else str(message.to)


def _was_sent(legacy: Legacy) -> str:
    """What an importer says of a message from elsewhere."""
    channel = f"#{legacy.channel}" if legacy.channel else ""
    to = " ".join(filter(None, (legacy.to, channel)))
    return f"{legacy_of(legacy)}{' -> ' if to else ''}{to}"


def _threads(messages: Sequence[Message]) -> Iterator[tuple[bool, Message]]:
    """The messages thread by thread, each in its order, and whether one answers another.

    A thread stands where its first message does: that, or the first answer to one that is not
    among these.
    """
    roots: dict[int, int] = {}
    for message in messages:
        answered = message.seq if message.thread is None else message.thread
        roots[message.seq] = roots.setdefault(answered, answered)
    begun: dict[int, int] = {}
    for message in messages:
        begun.setdefault(roots[message.seq], message.seq)
    for message in sorted(messages, key=lambda one: (begun[roots[one.seq]], one.seq)):
        yield message.thread is not None, message


def print_messages(screen: Screen, messages: Sequence[Message], *, sent: bool = False) -> None:
    """`sent`: they may have been acknowledged, and it is said which of those to agents are not."""
    now = datetime.now(UTC)
    for answers, message in _threads(messages):
        thread = safe(f"  re {message.thread}") if answers else ""
        importance = ""
        if message.task is not None:
            importance = f"  offers it: coordledger claim {task_name(message.task)}"
        elif message.importance != "normal":
            importance = f"  {screen.styled(message.importance)}"
        doubt = screen.doubt(message.verdict, message.checked)
        who = f"{message.sender}/{message.session} -> {_where(message)}"
        at = when(message.sent_at, now)
        if message.legacy:
            who = f"{message.sender}/{message.session} imported {_was_sent(message.legacy)}"
        acked = _acked(screen, message, now) if sent and message.to else ""
        indent = "  " if answers else ""
        screen.line(
            f"{indent}{safe(message.seq)}  {safe(who)}  {at}{importance}{thread}{doubt}{acked}"
        )
        if message.body:
            screen.line(block(message.body, indent + "    "))
    screen.footer([message.checked for message in messages])
    if not messages:
        screen.line("no messages")


def _acked(screen: Screen, message: Message, now: datetime) -> str:
    ack = message.acked
    if ack is None:
        return "  not acknowledged"
    return f"  acknowledged {when(ack.at, now)}{screen.doubt(ack.verdict, ack.checked)}"


@command(
    "send",
    parent=root,
    example="coordledger send --to bob 'the tests of task-1 are red'\n"
    "git log -3 | coordledger send --channel general -",
)
@click.argument("body", type=params.TEXT)
@click.option("--to", type=params.AGENT, metavar="AGENT", help="To one agent.")
@channel_option
@click.option("--thread", type=int, metavar="N", help="An answer to message N.")
@click.option(
    "--importance",
    type=click.Choice(["low", "normal", "high"]),
    default="normal",
    show_default=True,
    help="high: there is room in a full inbox.",
)
def send(
    app: App, body: str, to: str | None, channel: str | None, thread: int | None, importance: str
) -> None:
    """Send BODY, or stdin for `-`, to an agent or a channel."""
    if (to is None) == (channel is None):
        raise click.UsageError("either --to AGENT or --channel CHANNEL")
    text = params.read_body(body)
    with app.ledger(writes=True) as ledger:
        sent = ledger.send(text, to=to, channel=channel, thread=thread, importance=importance)
    app.screen.value_of(sent)
    app.screen.line(f"sent {sent.seq} to {_where(sent)}")


@command("inbox", parent=root, example="coordledger inbox --wait 5m --json")
@click.option("--all", "everything", is_flag=True, help="Read ones of the channels too.")
@channel_option
@click.option("--wait", type=params.SPAN, metavar="DURATION", help="Wait for a message.")
def inbox(app: App, everything: bool, channel: str | None, wait: timedelta | None) -> None:
    """Messages to me, and what is unread in the channels.

    In all of them, or in those that git config coordledger.channels names.
    """
    with app.ledger() as ledger:
        found = ledger.inbox(everything=everything, channel=channel, wait=wait)
    app.screen.value_of(found)
    print_messages(app.screen, found)


@command("ack", parent=root, example="coordledger ack 17 18")
@click.argument("seqs", type=int, nargs=-1, metavar="[N]...")
@click.option("--all", "everything", is_flag=True, help="All that `inbox` shows.")
def ack(app: App, seqs: tuple[int, ...], everything: bool) -> None:
    """Acknowledge messages. They leave the inbox, and their senders can see that."""
    if everything == bool(seqs):
        raise click.UsageError("either N... or --all")
    with app.ledger(writes=True) as ledger:
        acked = ledger.ack(*seqs, everything=everything)
    app.screen.value({"acked": acked})
    app.screen.line(f"acked {' '.join(map(str, acked))}" if acked else "no messages")


@command(
    "messages",
    parent=root,
    example="coordledger messages --channel general --limit 20\n"
    "coordledger messages --from alice --to bob",
)
@channel_option
@click.option("--from", "sender", type=params.AGENT, metavar="AGENT", help="Sent by AGENT.")
@click.option("--to", type=params.AGENT, metavar="AGENT", help="To AGENT.")
@click.option(
    "--thread", type=click.IntRange(min=0), metavar="N", help="In the thread of message N."
)
@click.option("--since", type=click.IntRange(min=0), metavar="SEQ", help="Not before that record.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The newest N; 200.")
def messages(
    app: App,
    channel: str | None,
    sender: str | None,
    to: str | None,
    thread: int | None,
    since: int | None,
    limit: int | None,
) -> None:
    """All messages that were sent, oldest first.

    Acknowledged ones, too. They are read from the records of this copy. With --channel alone: what
    that channel keeps.
    """
    with app.ledger() as ledger:
        found = ledger.messages(channel, limit, sender=sender, to=to, thread=thread, since=since)
    app.screen.value_of(found)
    print_messages(app.screen, found, sent=True)


# -- channels

channels = group(
    "channel",
    parent=root,
    example="coordledger channel list",
    doc="The channels that there are, and dropping one.",
)


@command("list", parent=channels, example="coordledger channel list")
def list_(app: App) -> None:
    """List the channels, and how much they keep."""
    with app.ledger() as ledger:
        found = ledger.channels()
    app.screen.value_of(found)
    rows = [[one.channel, str(one.messages), str(one.bytes), str(one.seq)] for one in found]
    app.screen.table(["CHANNEL", "MESSAGES", "BYTES", "NEWEST"], rows, elastic=(0,))
    if not found:
        app.screen.line("no channels")


@command("drop", parent=channels, example="coordledger channel drop pr-17")
@click.argument("channel", type=params.CHANNEL)
def drop(app: App, channel: str) -> None:
    """Drop CHANNEL, as an admin. Its messages stay in the history."""
    with app.ledger(writes=True) as ledger:
        ledger.drop_channel(channel)
    app.screen.value({"dropped": channel})
    app.screen.line(f"dropped {safe(channel)}")
