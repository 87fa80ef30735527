"""From seconds to figures.

Rules of this file: medians and 95th percentiles, never means, but where a sum is meant
(CPU, records per second). The worst value is `max`. Milliseconds have one decimal, and
three below one.
"""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Row = dict[str, Any]  # "what" and its figures
    Rows = tuple[list[Row], dict[str, str]]  # and what is left out, with the reason
    Report = Callable[[int, int], None]  # so many steps are done, of so many


@dataclass(frozen=True, slots=True)
class Took:
    """Seconds on the clock, and of all cores."""

    wall: float
    cpu: float


def cpu() -> float:
    """Seconds of CPU so far: of this process and of those that it has waited for."""
    used = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def timed(act: Callable[[], object]) -> Took:
    before, start = cpu(), time.perf_counter()
    act()
    return Took(time.perf_counter() - start, cpu() - before)


def quantile(found: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed."""
    ordered = sorted(found)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(found: Sequence[float]) -> float:
    return quantile(found, 0.5)


def milliseconds(seconds: float) -> float:
    return round(1000 * seconds, 1 if seconds >= 0.001 else 3)


def in_turn(
    acts: Mapping[str, Callable[[int], Took]], rounds: int, warm_up: int, report: Report
) -> dict[str, list[Took]]:
    """What each act took, A B C, A B C, …; each is told the number of the round."""
    times: dict[str, list[Took]] = {name: [] for name in acts}
    for number in range(rounds + warm_up):
        for name, act in acts.items():
            took = act(number)
            if number >= warm_up:
                times[name].append(took)
        report(number + 1, rounds + warm_up)
    return times


def against(
    floor: str,
    acts: Mapping[str, Callable[[int], Took]],
    rounds: int,
    warm_up: int,
    report: Report,
) -> list[Row]:
    """A row for each act: its times, and its median as a multiple of the floor's."""
    times = in_turn(acts, rounds, warm_up, report)
    walls = {name: [took.wall for took in found] for name, found in times.items()}
    return [
        {
            "what": name,
            "median_ms": milliseconds(median(walls[name])),
            "p95_ms": milliseconds(quantile(walls[name], 0.95)),
            "cpu_ms": milliseconds(median([took.cpu for took in found])),
            "of_floor": round(median(walls[name]) / median(walls[floor]), 2),
        }
        for name, found in times.items()
    ]
