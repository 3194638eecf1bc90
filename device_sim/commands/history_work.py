"""One process's share of a past: simulates some homes from its begin to its end and hands them to its writer."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable
from typing import Any

import numpy as np

from device_sim.commands.tools import Past
from device_sim.homes import calendar
from device_sim.homes.delivery import Delivery
from device_sim.homes.neighbourhood import Neighbourhood
from device_sim.homes.past import MINUTE_S, buckets_of, seconds_of

_US = 1_000_000
_HOUR_S = 3_600
# So many home-minutes are in memory at once.
_MINUTES_AT_ONCE = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class Share:
    """Some of the homes of a past, by index; the home at an index has this number."""

    seed: int
    past: Past
    rows: tuple[int, ...]


_told: Any = None


def begin_process(progress: Any) -> None:
    """Of a pool: Ctrl-C is the parent's to answer, and progress goes into this queue."""
    global _told  # noqa: PLW0603 - the only way into a pool's process
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _told = progress


def fill_in_process(share: Share) -> Any:
    """`fill`, its progress into the queue."""
    return fill(share, _told.put)


def fill(share: Share, tell: Callable[[int], None]) -> Any:
    """Write a share; tells simulated home-seconds, in pieces. What the writer finished with."""
    span, homes = share.past.span, len(share.rows)
    start_s, raw_s, end_s = span.start_us // _US, span.raw_us // _US, span.end_us // _US
    neighbourhood = Neighbourhood(share.seed, share.rows, span.start_us)
    number = neighbourhood.households.number
    injects = neighbourhood.households.pv_kwp > 0
    delivery = Delivery(share.seed, number, start_s, end_s)
    writer = share.past.writer(share.rows)
    for begin, until in _day_ranges(start_s, raw_s, max(_MINUTES_AT_ONCE // (1_440 * homes), 1)):
        before = neighbourhood.counted_wh
        block = neighbourhood.block(begin * _US, until - begin, step_s=MINUTE_S)
        writer.write_buckets(buckets_of(block, delivery, before, injects))
        tell(homes * (until - begin))
    for begin in range(raw_s, end_s, _HOUR_S):
        until = min(begin + _HOUR_S, end_s)
        before = neighbourhood.counted_wh
        block = neighbourhood.block(begin * _US, until - begin)
        writer.write_seconds(seconds_of(block, delivery, before, injects))
        # A second costs as much as a minute does.
        tell(homes * (until - begin) * MINUTE_S)
    return writer.finish()


def work_of(homes: int, past: Past) -> int:
    """What `fill` will have told of all the homes when it is done."""
    span = past.span
    return homes * (span.raw_us - span.start_us + MINUTE_S * (span.end_us - span.raw_us)) // _US


def _day_ranges(start_s: int, end_s: int, days: int) -> list[tuple[int, int]]:
    """A range in pieces of so many civil days."""
    if end_s <= start_s:
        return []
    edges = [calendar.day(number).start_s for number in calendar.days_between(start_s, end_s)][::days]
    edges = [start_s, *(edge for edge in edges if edge > start_s), end_s]
    return [(int(begin), int(until)) for begin, until in zip(edges[:-1], np.array(edges[1:]), strict=True)]
