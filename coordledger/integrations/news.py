"""Messages and offers as a model is given them.

Rules of this file: who wrote a text, and who has checked that, stands before it; the text is
quoted, cut, and on one line, so that nothing in it can pass for anything else. Only so many are
shown at once; how many more there are is said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordledger.client.texts import quoted, safe, word
from coordledger.client.vouches import NOBODY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordledger.client.reports import Message

SHOWN = 3
MOST = 300  # characters of a text
UNVERIFIED = "UNVERIFIED"


def told(messages: Sequence[Message], me: str) -> str:
    """The messages for a model whose session signs as `me`; "" if there are none."""
    if not messages:
        return ""
    lines = ["coordledger: new for this agent (in quotation marks: what others wrote)."]
    lines += [_line(message, me) for message in messages[:SHOWN]]
    more = len(messages) - SHOWN
    if more > 0:
        lines.append(f"{more} more: coordledger inbox")
    if any(one.task is None for one in messages):
        lines.append("coordledger ack N marks message N as read.")
    return "\n".join(lines)


def program(name: str | None, me: str) -> str:
    """What a command begins with that is to act as `name`, in a session that signs as `me`."""
    return "coordledger" if name in (None, me) else f"coordledger --as {safe(str(name))}"


def _line(message: Message, me: str) -> str:
    who = safe(f"{message.sender}/{message.session}{doubt(message.verdict, message.checked)}")
    if message.task is not None:
        note = f": {quoted(message.body, MOST)}" if message.body else ""
        command = f"{program(message.to, me)} claim"
        return f"{who} offers task {word(message.task)} ({command} takes it over){note}"
    where = f" in channel {safe(message.channel)}" if message.channel else ""
    urgent = ", importance high" if message.importance == "high" else ""
    return f"message {message.seq} from {who}{where}{urgent}: {quoted(message.body, MOST)}"


def doubt(verdict: str, checked: str) -> str:
    """What is said beside a name whose signature nobody has checked, or which is bad."""
    if verdict in ("invalid", "unknown-key"):
        return f" ({verdict.upper()})"
    return f" ({UNVERIFIED})" if checked == NOBODY else ""
