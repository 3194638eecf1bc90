"""When the next piece of a recording is due."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

# A stop is seen within this.
_LONGEST_NAP_S = 0.2


class Pace:
    """Waits between pieces; `speed` divides every wait, None is as fast as it goes. `wait` is False once stopped."""

    def __init__(
        self, speed: float | None, stop: threading.Event, steady_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._speed = speed
        self._stop = stop
        self._steady_s = steady_s
        self._due_s: float | None = None

    def wait(self, after_s: float) -> bool:
        """Wait until `after_s` after the piece before was due: delays of sending do not add up."""
        if self._speed is None:
            return not self._stop.is_set()
        now_s = self._steady_s()
        due_s = (now_s if self._due_s is None else self._due_s) + max(0.0, after_s) / self._speed
        # What could not keep up does not hurry afterwards.
        self._due_s = max(due_s, now_s - 1.0)
        while (left_s := due_s - self._steady_s()) > 0 and not self._stop.is_set():
            self._stop.wait(min(left_s, _LONGEST_NAP_S))
        return not self._stop.is_set()
