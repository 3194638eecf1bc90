"""Obeys the collection level: what a customer has not agreed to is not written."""

from __future__ import annotations

import datetime as dt
import zoneinfo

import numpy as np
import numpy.typing as npt

from app.domain.keys import CollectionLevel
from app.ingest.directory import grown
from app.ingest.runs import Runs

Bools = npt.NDArray[np.bool_]
Int64s = npt.NDArray[np.int64]

_TEN_MINUTES_US = 600_000_000
# Civil days begin on a quarter of an hour in every zone of today: within one, all moments are of the same day.
_QUARTER_US = 900_000_000


class Thinning:
    """Keeps of a module at a coarser level the first reading of each 10 minutes or civil day.

    Its index differences remain at that level. A reading from before the newest kept one is not written.

    What was kept last is remembered in memory only: after a restart one more reading of the running period is kept.
    """

    def __init__(self, time_zone: str) -> None:
        self._zone = zoneinfo.ZoneInfo(time_zone)
        # By slot, and apart by level: their periods are numbered differently.
        self._newest = {
            level: np.full(0, -1, np.int64) for level in (CollectionLevel.TEN_MINUTES, CollectionLevel.DAILY)
        }

    def kept(self, slots: npt.NDArray[np.intp], time_us: Int64s, levels: npt.NDArray[np.int8], given: Bools) -> Bools:
        """Which of the `given` readings may be written; all of a home at 1 s, none of one without consent."""
        kept: Bools = given & (levels == CollectionLevel.SECOND)
        for level, newest in self._newest.items():
            rows = np.flatnonzero(given & (levels == level))
            if len(rows):
                kept[rows] = self._first_of_period(level, newest, slots[rows], time_us[rows])
        return kept

    def _first_of_period(
        self, level: CollectionLevel, newest: Int64s, slots: npt.NDArray[np.intp], time_us: Int64s
    ) -> Bools:
        size = int(slots.max()) + 1
        if size > len(newest):
            newest = self._newest[level] = grown(newest, max(1024, 2 * size), -1)
        period = time_us // _TEN_MINUTES_US if level is CollectionLevel.TEN_MINUTES else self._civil_days(time_us)
        runs = Runs(slots)
        first: Bools = period > runs.highest_before(period, newest)
        runs.update_highest(period, newest)
        return first

    def _civil_days(self, time_us: Int64s) -> Int64s:
        quarters, which = np.unique(time_us // _QUARTER_US, return_inverse=True)
        days = [dt.datetime.fromtimestamp(int(quarter) * 900, self._zone).toordinal() for quarter in quarters]
        return np.array(days, np.int64)[which]
