"""From seconds to figures.

Rules of this file: medians and 95th percentiles, never means, but where a sum is meant
(CPU, records per second). The worst value is `max`. Milliseconds have one decimal.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Row = dict[str, Any]  # "what" and its figures
    Rows = tuple[list[Row], dict[str, str]]  # and what is left out, with the reason
    Report = Callable[[int, int], None]  # so many steps are done, of so many


def timed(act: Callable[[], object]) -> float:
    """The seconds that `act` takes."""
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def quantile(found: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    ordered = sorted(found)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(found: Sequence[float]) -> float:
    return quantile(found, 0.5)


def milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 1)


def in_turn(
    acts: Mapping[str, Callable[[int], float]], rounds: int, warm_up: int, report: Report
) -> dict[str, list[float]]:
    """The seconds of each act, A B C, A B C, …; each is told the number of the round."""
    times: dict[str, list[float]] = {name: [] for name in acts}
    for number in range(rounds + warm_up):
        for name, act in acts.items():
            seconds = act(number)
            if number >= warm_up:
                times[name].append(seconds)
        report(number + 1, rounds + warm_up)
    return times


def against(
    floor: str,
    acts: Mapping[str, Callable[[int], float]],
    rounds: int,
    warm_up: int,
    report: Report,
) -> list[Row]:
    """A row for each act: its times, and its median as a multiple of the floor's."""
    times = in_turn(acts, rounds, warm_up, report)
    least = median(times[floor])
    return [
        {
            "what": name,
            "median_ms": milliseconds(median(found)),
            "p95_ms": milliseconds(quantile(found, 0.95)),
            "of_floor": round(median(found) / least, 2),
        }
        for name, found in times.items()
    ]
