"""Whether a meter's line is good, bad or off, as Enedis asks of receivers (NOI-CPT_54E, annex A 9.4)."""

from __future__ import annotations

import enum

# 10 s, give or take one, without a correct frame makes a line bad.
FRAME_LIMIT_US = 10_000_000


class Link(enum.StrEnum):
    """State of a line."""

    OFF = "off"
    BAD = "bad"
    GOOD = "good"


class LinkMonitor:
    """Follows one line. Times are those of a steady clock, in microseconds."""

    def __init__(self) -> None:
        self._state = Link.OFF
        self._correct_at_us: int | None = None

    def opened(self) -> None:
        """The port is open; until a correct frame came the line is bad."""
        self._state = Link.BAD
        self._correct_at_us = None

    def closed(self) -> None:
        """The port is closed or gone."""
        self._state = Link.OFF
        self._correct_at_us = None

    def frame(self, *, correct: bool, now_us: int) -> None:
        """A whole frame came. Frames of a closed port (the rest of a buffer) change nothing."""
        if self._state is Link.OFF:
            return
        self._state = Link.GOOD if correct else Link.BAD
        if correct:
            self._correct_at_us = now_us

    def state(self, now_us: int) -> Link:
        """The state now."""
        if self._state is Link.GOOD and self.frame_age_us(now_us) > FRAME_LIMIT_US:
            self._state = Link.BAD
        return self._state

    def frame_age_us(self, now_us: int) -> float:
        """Age of the last correct frame; infinite when none came since the port was opened."""
        return float("inf") if self._correct_at_us is None else max(0, now_us - self._correct_at_us)
