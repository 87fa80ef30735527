"""Commands about messages.

Rules: a body is somebody else's text: it is shown indented and harmless, never interpreted.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from . import params
from .common import command, group, root
from .output import block, safe, when

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from coordledger.client.reports import Message

    from .common import App
    from .output import Screen

channel_option = click.option("--channel", type=params.CHANNEL, metavar="CHANNEL")


def _where(message: Message) -> str:
    return f"#{message.channel}" if message.channel else str(message.to)


def print_messages(screen: Screen, messages: Sequence[Message]) -> None:
    now = datetime.now(UTC)
    for message in messages:
        thread = safe(f"  thread {message.thread}") if message.thread is not None else ""
        importance = ""
        if message.importance != "normal":
            importance = f"  {screen.styled(message.importance)}"
        doubt = screen.doubt(message.verdict, message.checked)
        who = f"{message.sender}/{message.session} -> {_where(message)}"
        at = when(message.sent_at, now)
        screen.line(f"{safe(message.seq)}  {safe(who)}  {at}{importance}{thread}{doubt}")
        screen.line(block(message.body))
    screen.footer([message.checked for message in messages])
    if not messages:
        screen.line("no messages")


@command(
    "send",
    parent=root,
    section="Messages",
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


@command("inbox", parent=root, section="Messages", example="coordledger inbox --wait 5m --json")
@click.option("--all", "everything", is_flag=True, help="Read ones of the channels too.")
@channel_option
@click.option("--wait", type=params.SPAN, metavar="DURATION", help="Wait for a message.")
def inbox(app: App, everything: bool, channel: str | None, wait: timedelta | None) -> None:
    """Messages to this agent, and what is unread in its channels."""
    with app.ledger() as ledger:
        found = ledger.inbox(everything=everything, channel=channel, wait=wait)
    app.screen.value_of(found)
    print_messages(app.screen, found)


@command("ack", parent=root, section="Messages", example="coordledger ack 17 18")
@click.argument("seqs", type=int, nargs=-1, required=True, metavar="N...")
def ack(app: App, seqs: tuple[int, ...]) -> None:
    """Acknowledge messages: they leave the inbox."""
    with app.ledger(writes=True) as ledger:
        acked = ledger.ack(*seqs)
    app.screen.value({"acked": acked})
    app.screen.line(f"acked {' '.join(map(str, acked))}")


@command(
    "messages",
    parent=root,
    section="Messages",
    example="coordledger messages --channel general --limit 20",
)
@click.option("--channel", type=params.CHANNEL, metavar="CHANNEL", required=True)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="The newest N.")
def messages(app: App, channel: str, limit: int | None) -> None:
    """What a channel keeps, oldest first."""
    with app.ledger() as ledger:
        found = ledger.messages(channel, limit)
    app.screen.value_of(found)
    print_messages(app.screen, found)


# -- channels

channels = group(
    "channel",
    parent=root,
    section="Messages",
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
    app.screen.table(["CHANNEL", "MESSAGES", "BYTES", "NEWEST"], rows)
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
