"""Days as French households live them: civil days of Paris, weekends, public and school holidays."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import zoneinfo

import numpy as np

from device_sim.homes.chance import Int64s

_ZONE = zoneinfo.ZoneInfo("Europe/Paris")
_EPOCH_ORDINAL = dt.date(1970, 1, 1).toordinal()
# Clocks change at 2 or 3 in the morning; nothing of ours begins in between.
_CHANGE_S = 9_000
DAY_S = 86_400
SCHOOL_ZONES = ("A", "B", "C")

# Which zone leaves first, second and third for the winter and spring holidays; it rotates each year (2026: A, B, C).
_ROTATION = ((2, 0, 1), (1, 2, 0), (0, 1, 2))


@dataclasses.dataclass(frozen=True, slots=True)
class Day:
    """A civil day; times are UTC seconds since 1970."""

    number: int
    start_s: int
    end_s: int
    year: int
    month: int
    weekday: int
    day_of_year: int
    public_holiday: bool
    school_holidays: tuple[bool, bool, bool]
    # What the clock is moved by during the night: 3600 in spring, -3600 in autumn.
    moved_s: int

    @property
    def at_rest(self) -> bool:
        """A day most people do not work."""
        return self.weekday >= 5 or self.public_holiday

    def utc(self, clock_s: Int64s) -> Int64s:
        """UTC seconds of moments given as seconds on the wall clock, which may lie beyond midnight."""
        return self.start_s + clock_s - np.where(clock_s >= _CHANGE_S, self.moved_s, 0)


def day_number(time_s: int) -> int:
    """The civil day of a moment, counted from 1970."""
    return dt.datetime.fromtimestamp(time_s, _ZONE).date().toordinal() - _EPOCH_ORDINAL


@functools.lru_cache(maxsize=1024)
def day(number: int) -> Day:
    """What is known of a civil day."""
    date = dt.date.fromordinal(number + _EPOCH_ORDINAL)
    midnight = dt.datetime.combine(date, dt.time(), tzinfo=_ZONE)
    noon = dt.datetime.combine(date, dt.time(12), tzinfo=_ZONE)
    after = dt.datetime.combine(date + dt.timedelta(1), dt.time(), tzinfo=_ZONE)
    moved = (noon.utcoffset() or dt.timedelta()) - (midnight.utcoffset() or dt.timedelta())
    return Day(
        number,
        int(midnight.timestamp()),
        int(after.timestamp()),
        date.year,
        date.month,
        date.weekday(),
        date.timetuple().tm_yday,
        _is_public_holiday(date),
        _school_holidays(date),
        int(moved.total_seconds()),
    )


def days_between(start_s: int, end_s: int) -> range:
    """The numbers of the civil days that a range of time touches."""
    return range(day_number(start_s), day_number(end_s - 1) + 1)


def _is_public_holiday(date: dt.date) -> bool:
    if (date.month, date.day) in {(1, 1), (5, 1), (5, 8), (7, 14), (8, 15), (11, 1), (11, 11), (12, 25)}:
        return True
    since_easter = (date - _easter(date.year)).days
    return since_easter in {1, 39, 50}


def _easter(year: int) -> dt.date:
    """Gauss's rule, Gregorian."""
    century, of_19 = year // 100, year % 19
    moon = (century - century // 4 - (8 * century + 13) // 25 + 19 * of_19 + 15) % 30
    moon -= (moon // 28) * (1 - (29 // (moon + 1)) * ((21 - of_19) // 11))
    weekday = (year + year // 4 + moon + 2 - century + century // 4) % 7
    shift = moon - weekday
    month = 3 + (shift + 40) // 44
    return dt.date(year, month, shift + 28 - 31 * (month // 4))


def _school_holidays(date: dt.date) -> tuple[bool, bool, bool]:
    """By rule, a day or two off the official calendar in some years; by zone A, B, C."""
    year = date.year
    if (
        _saturday(year, 7, 3) <= date < dt.date(year, 9, 1)
        or _within(date, _saturday(year, 10, 17), 16)
        or _within(date, _saturday(year, 12, 19), 16)
        or _within(date, _saturday(year - 1, 12, 19), 16)
    ):
        return True, True, True
    winter = _saturday(year, 2, 6)
    return tuple(  # type: ignore[return-value]
        any(_within(date, begin + dt.timedelta(7 * turn), 16) for begin in (winter, winter + dt.timedelta(56)))
        for turn in _turns(year)
    )


def _turns(year: int) -> tuple[int, int, int]:
    order = _ROTATION[(year - 2024) % 3]
    return order.index(0), order.index(1), order.index(2)


def _saturday(year: int, month: int, day_of_month: int) -> dt.date:
    date = dt.date(year, month, day_of_month)
    return date + dt.timedelta((5 - date.weekday()) % 7)


def _within(date: dt.date, begin: dt.date, days: int) -> bool:
    return 0 <= (date - begin).days < days
