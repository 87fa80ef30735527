"""Time: the clock of records, and the deadline of a command.

The hooks import this: it imports nothing but `time`.
"""

from __future__ import annotations

import time

from coordledger.errors import error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def unix_ms() -> int:
    """Milliseconds since 1970, as this machine's clock has them."""
    return time.time_ns() // 1_000_000


class Deadline:
    """A point on the monotonic clock by which a command has to be over."""

    def __init__(self, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self._monotonic = seconds, monotonic
        self._end = monotonic() + seconds

    def left(self) -> float:
        """The seconds that are left. Raises `Failed`: timeout."""
        left = self._end - self._monotonic()
        if left <= 0:
            raise error("timeout", seconds=f"{self.seconds:g}")
        return left

    def allows(self, seconds: float) -> bool:
        """Whether it is not over in so many seconds."""
        return self._monotonic() + seconds < self._end

    def over(self) -> bool:
        return self._monotonic() >= self._end
