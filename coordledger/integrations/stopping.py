"""Why a session goes on when it is about to stop: it holds tasks that others wait for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordledger.client.texts import word
from coordledger.integrations.here import until
from coordledger.integrations.news import program

if TYPE_CHECKING:
    from collections.abc import Sequence

    from coordledger.client.claims import Claim

_SHOWN = 5


def reason(held: Sequence[Claim], me: str, now: int) -> str:
    """What this session, which signs as `me`, holds, and what ends that."""
    words = [f"task {word(one.task)} until {until(one, now)}" for one in held[:_SHOWN]]
    more = f" and {len(held) - _SHOWN} more" if len(held) > _SHOWN else ""
    task = word(held[0].task) if len(held) == 1 else "TASK"
    names = {one.agent for one in held}
    run = program(names.pop() if len(names) == 1 else me, me)
    return (
        f"This session still holds {', '.join(words)}{more}; nobody else can claim that."
        f" A finished task is completed ({run} complete {task}), one that is given up is"
        f" released ({run} release {task}); what is still needed stays held."
        " This is said once."
    )
