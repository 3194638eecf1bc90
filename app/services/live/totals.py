"""The fleet in a few numbers, second by second."""

from __future__ import annotations

import collections
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.services.live.picture import Picture

# Single watt-hours of many homes make a smooth sum over this time.
WINDOW_S = 10.0
# Below this many homes a sum says something of one of them.
LEAST_HOMES = 40
FRESH_US = 3_000_000
# More than any connection draws in a second: a meter that was changed, not consumption.
_LARGEST_STEP_WH = 1_000


class Totals(NamedTuple):
    """`power_w` is None while unknown, or of too few homes."""

    power_w: float | None
    homes: int
    connected: int
    fresh: int


class FleetTotals:
    """Fleet power from index differences between pictures; VA never become watts."""

    def __init__(self, least_homes: int = LEAST_HOMES) -> None:
        self._least_homes = least_homes
        self._before: npt.NDArray[np.int64] = np.zeros(0, np.int64)
        # (time, Wh drawn since the picture before)
        self._steps: collections.deque[tuple[int, int]] = collections.deque()

    def forget(self) -> None:
        """Nobody listens: the next picture begins anew."""
        self._before = np.zeros(0, np.int64)
        self._steps.clear()

    def of(self, picture: Picture) -> Totals:
        """Take a picture; the numbers of now."""
        if self._steps and picture.at_us <= self._steps[-1][0]:
            # The clock was set back: what came before is of another time.
            self.forget()
        drawn = picture.drawn_wh
        before = np.full(len(drawn), -1, np.int64)
        before[: len(self._before)] = self._before[: len(drawn)]
        step = drawn - before
        # A module that is silent draws all the same: what it says later counts then.
        counted = (drawn >= 0) & (before >= 0)
        plausible = counted & (step >= 0) & (step <= _LARGEST_STEP_WH)
        self._before = np.where(drawn >= 0, drawn, before)
        self._steps.append((picture.at_us, int(step[plausible].sum())))
        while len(self._steps) > 1 and picture.at_us - self._steps[0][0] > WINDOW_S * 1e6:
            self._steps.popleft()
        age_us = picture.at_us - picture.arrival_us
        return Totals(
            self._power(int(counted.sum())),
            int(counted.sum()),
            int(picture.connected.sum()),
            int(((picture.arrival_us > 0) & (age_us < FRESH_US)).sum()),
        )

    def _power(self, homes: int) -> float | None:
        began, ended = self._steps[0][0], self._steps[-1][0]
        # The first step's own energy came before the window began.
        drawn = sum(step for _, step in list(self._steps)[1:])
        if homes < self._least_homes or ended <= began:
            return None
        return drawn * 3600e6 / (ended - began)
