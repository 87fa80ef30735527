"""Times in people's words, as git reads them: `yesterday`, `2 hours ago`, `2026-05-04 10:00`.

Rules: git's own parser decides, the one that refuses what is none; a day without a time is that day
at this time, as everywhere in git, and parts of a second are dropped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordledger.errors import error

if TYPE_CHECKING:
    from coordledger.git.process import Git

_NOW = 2**63  # and above: git's largest number says "all that there is until now"


def parse_date(git: Git, text: str, what: str) -> int | None:
    """Milliseconds since 1970; None for now. `what` says where it was typed. Raises `Failed`:
    bad-value.
    """
    read = ("config", "--type=expiry-date", "--get", "coordledger.moment")
    ran = None if "\0" in text else git.run("-c", f"coordledger.moment={text}", *read)
    if ran is None or ran.code or not ran.out.strip().isdecimal():
        why = f"git reads no time in {text!a}; yesterday, 2 hours ago, 2026-05-04 10:00"
        raise error("bad-value", what=what, why=why)
    seconds = int(ran.out)
    return None if seconds >= _NOW else 1000 * seconds
