"""Resolutions of a series and the buckets they cut time into; times are UTC microseconds since 1970."""

from __future__ import annotations

import datetime as dt
import enum
import zoneinfo

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]

SECOND_US = 1_000_000
TEN_MIN_US = 600 * SECOND_US
HOUR_US = 3_600 * SECOND_US
DAY_US = 24 * HOUR_US

# A civil day lasts 23 to 25 hours where clocks change by one hour; this bounds every zone's day.
LONGEST_DAY_US = 26 * HOUR_US

DEFAULT_ZONE = "Europe/Paris"

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


class Resolution(enum.StrEnum):
    """What a series can be read at; the value is what a person writes."""

    RAW = "raw"
    TEN_MIN = "10m"
    HOUR = "1h"
    DAY = "1d"


def widest_us(resolution: Resolution) -> int:
    """How far a bucket's end may lie behind its begin; a microsecond for raw readings."""
    return {Resolution.RAW: 1, Resolution.TEN_MIN: TEN_MIN_US, Resolution.HOUR: HOUR_US}.get(resolution, LONGEST_DAY_US)


def to_us(moment: dt.datetime) -> int:
    """UTC microseconds of an aware moment, exactly."""
    return (moment - _EPOCH) // dt.timedelta(microseconds=1)


def from_us(time_us: int) -> dt.datetime:
    """The aware UTC moment of UTC microseconds."""
    return _EPOCH + dt.timedelta(microseconds=time_us)


def floor_to(times_us: Int64s, width_us: int) -> Int64s:
    """The start of each time's bucket of a fixed width, counted from 1970 UTC."""
    return times_us - times_us % width_us


class CivilDays:
    """The days of one time zone, midnight to midnight, as UTC microseconds; a day has 23, 24 or 25 hours.

    Raises zoneinfo.ZoneInfoNotFoundError (a KeyError) for a zone the system does not know.
    """

    def __init__(self, zone: str = DEFAULT_ZONE) -> None:
        self.zone = zone
        self._info = zoneinfo.ZoneInfo(zone)

    def start_of(self, time_us: int) -> int:
        """The midnight at or before a time."""
        local = from_us(time_us).astimezone(self._info)
        return self._midnight(local.date())

    def next_start(self, time_us: int) -> int:
        """The first midnight after a time."""
        local = from_us(time_us).astimezone(self._info)
        return self._midnight(local.date() + dt.timedelta(days=1))

    def edges(self, start_us: int, end_us: int) -> Int64s:
        """Every midnight from the one at or before `start_us` to the one at or after `end_us`; at least two."""
        edge = self.start_of(start_us)
        edges = [edge]
        while edge < end_us or len(edges) < 2:
            edge = self.next_start(edge)
            edges.append(edge)
        return np.array(edges, np.int64)

    def floor(self, times_us: Int64s) -> Int64s:
        """The midnight at or before each time."""
        if not len(times_us):
            return times_us
        edges = self.edges(int(times_us.min()), int(times_us.max()) + 1)
        return edges[np.searchsorted(edges, times_us, side="right") - 1]

    def _midnight(self, day: dt.date) -> int:
        # Where midnight does not exist (a zone that changes clocks at midnight), zoneinfo takes the change itself.
        return to_us(dt.datetime.combine(day, dt.time(), tzinfo=self._info).astimezone(dt.UTC))
