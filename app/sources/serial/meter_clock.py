"""Decides whether a meter's clock may date its readings, and tells readings of one second apart."""

from __future__ import annotations

import logging

from app.domain.linky import MeterTime

log = logging.getLogger(__name__)

# A meter's clock further from ours than this is not used: its readings would fall into other hours of the store than
# those of every other module. Linky clocks are set over the power line and stay within seconds.
LARGEST_CLOCK_OFFSET_MS = 60_000


class MeterClock:
    """The clock of the meter on one line."""

    def __init__(self) -> None:
        self.offset_ms: int | None = None
        self._placed: tuple[int, int] | None = None
        self._trusted = True

    def forget_meter(self) -> None:
        """The next reading may be another meter's."""
        self._placed = None

    def time_ms(self, meter_time: MeterTime | None, gap_ms: int | None, now_us: int) -> int | None:
        """The meter's time if it can be believed, else None: then the arrival is the time."""
        if meter_time is None:
            return None
        date_ms = meter_time.time_ms
        self.offset_ms = date_ms - now_us // 1000
        trusted = not meter_time.degraded and abs(self.offset_ms) <= LARGEST_CLOCK_OFFSET_MS
        if trusted != self._trusted:
            self._trusted = trusted
            if trusted:
                log.info("the meter's clock agrees with ours again")
            else:
                log.warning(
                    "the meter's clock is not used: it is %.0f s from ours%s",
                    self.offset_ms / 1000,
                    " and says itself that it is degraded" if meter_time.degraded else "",
                )
        if not trusted:
            return None
        placed_ms = date_ms
        if self._placed is not None and self._placed[0] == date_ms:
            # The meter's clock counts seconds and frames may come faster: the gap places the second one of a second.
            placed_ms = min(self._placed[1] + (gap_ms or 1), date_ms + 999)
        self._placed = (date_ms, placed_ms)
        return placed_ms
