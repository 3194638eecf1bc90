"""Notices that this machine's clock was set while we ran, so that right readings are not refused for it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from app.stores import wall_clock

log = logging.getLogger(__name__)

# A clock that is slewed or drifts moves by less than this between two looks; what moves more was set.
STEP_US = 2_000_000


class ClockWatch:
    """Sums up the steps of the wall clock since the start, forwards and back apart, by the monotonic clock.

    Which of two times was the right one nobody here knows: readings are measured with the more generous of both.
    """

    def __init__(
        self, *, wall_us: Callable[[], int] = wall_clock.now_us, monotonic_us: Callable[[], int] = wall_clock.steady_us
    ) -> None:
        self.forwards_us = 0
        self.back_us = 0
        self._wall_us = wall_us
        self._monotonic_us = monotonic_us
        self._offset_us = wall_us() - monotonic_us()

    def look(self) -> None:
        """Compare the two clocks; cheap enough for each chunk."""
        step_us = self._wall_us() - self._monotonic_us() - self._offset_us
        # Drift is taken along: it is no step, however long it adds up.
        self._offset_us += step_us
        if -STEP_US < step_us < STEP_US:
            return
        if step_us > 0:
            self.forwards_us += step_us
        else:
            self.back_us -= step_us
        log.warning(
            "this machine's clock was set by %+.1f s; readings are taken by either time until the next start",
            step_us / 1e6,
        )
