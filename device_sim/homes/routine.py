"""When people of each home get up, go, come back and go to bed on a civil day."""

from __future__ import annotations

import dataclasses

import numpy as np

from device_sim.homes.calendar import Day
from device_sim.homes.chance import Int64s, spread, uniform
from device_sim.homes.cities import SCHOOL_ZONES
from device_sim.homes.households import Bools, Households

_AWAY, _WEEK, _WAKE, _LEAVE, _RETURN, _BED, _OUTING, _LEAVES_OFF = range(201, 209)
WORKING, AT_HOME, AT_REST = range(3)


@dataclasses.dataclass(frozen=True, slots=True)
class Routine:
    """A day of each home, in UTC seconds. `leave_s` == `return_s` where nobody goes; `bed_s` may lie after midnight.

    `away`: the home is empty all day. `kind`: WORKING, AT_HOME or AT_REST, which curve its day follows.
    """

    away: Bools
    kind: Int64s
    wake_s: Int64s
    leave_s: Int64s
    return_s: Int64s
    bed_s: Int64s


def routine_of(seed: int, homes: Households, day: Day) -> Routine:
    """The routine of each home on a day."""
    number = homes.number
    today = np.full(1, day.number, np.int64)
    week = np.full(1, (day.number + 3) // 7, np.int64)
    on_holiday = np.array(day.school_holidays)[SCHOOL_ZONES[homes.city]]
    # Whole weeks in the school holidays, a weekend now and then.
    away = uniform(seed, _WEEK, number, week) < np.where(on_holiday, 0.17, 0.012)
    if day.weekday >= 5:
        away |= uniform(seed, _AWAY, number, week) < 0.06
    at_work = homes.works & (not day.at_rest) & ~(on_holiday & (uniform(seed, _LEAVES_OFF, number, week) < 0.3))
    kind = np.where(at_work, WORKING, AT_REST if day.at_rest else AT_HOME).astype(np.int64)
    hour = 3600.0
    wake = hour * np.where(at_work, 6.6, 8.1 if day.at_rest else 7.5) + 2_200 * spread(seed, _WAKE, number, today)
    outing = uniform(seed, _OUTING, number, today)
    goes = at_work | (outing < 0.45)
    leave = hour * np.where(at_work, 8.1, 14.0) + 2_000 * spread(seed, _LEAVE, number, today)
    back = hour * np.where(at_work, 17.9, 17.0) + 3_000 * spread(seed, _RETURN, number, today)
    bed = hour * (22.8 + 0.4 * (day.weekday in {4, 5})) + 2_200 * spread(seed, _BED, number, today)
    leave, back = np.maximum(leave, wake + 1_800), np.where(goes, np.maximum(back, leave + 1_800), leave)
    back = np.where(goes, back, np.maximum(leave, wake + 1_800))

    def moments(clock_s: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> Int64s:
        return day.utc(clock_s.astype(np.int64))

    return Routine(away, kind, moments(wake), moments(leave), moments(back), moments(bed))
