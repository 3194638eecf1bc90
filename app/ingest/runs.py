"""The rows of a chunk module by module, in order, without a loop in Python."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]

# Above every value given to `highest_before`, so that one module's values never reach into the next one's.
_SPAN = np.int64(1) << 40


class Runs:
    """Sorts rows by module slot, keeping their order within a module. Results are parallel to `slots`.

    What is known from before the chunk is an array by slot; `update` writes back what holds after it.
    """

    def __init__(self, slots: npt.NDArray[np.intp]) -> None:
        self._order = np.argsort(slots, kind="stable")
        self._slots = slots[self._order]
        changes = self._slots[1:] != self._slots[:-1]
        self._first = np.concatenate([[True], changes])[: len(slots)]
        self._last = np.concatenate([changes, [True]])[: len(slots)]

    def before(self, values: Int64s, known: Int64s) -> Int64s:
        """The value of the same module's row before; `known[slot]` for its first."""
        own = values[self._order]
        return self._unsorted(np.where(self._first, known[self._slots], np.roll(own, 1)))

    def highest_before(self, values: Int64s, known: Int64s) -> Int64s:
        """The highest of `known[slot]` and the values of the same module's rows before. Values: -1 to 2^39."""
        highest = self._running_highest(values, known)
        return self._unsorted(np.where(self._first, known[self._slots], np.roll(highest, 1)))

    def update(self, values: Int64s, known: Int64s) -> None:
        """Set `known` to each module's last value."""
        known[self._slots[self._last]] = values[self._order][self._last]

    def update_highest(self, values: Int64s, known: Int64s) -> None:
        """Raise `known` to each module's highest value."""
        known[self._slots[self._last]] = self._running_highest(values, known)[self._last]

    def _running_highest(self, values: Int64s, known: Int64s) -> Int64s:
        # Each module's values are lifted above those before, so that one running maximum serves them all.
        lift = (np.cumsum(self._first) - 1) * _SPAN
        lifted = np.maximum(values[self._order], known[self._slots]) + lift
        highest: Int64s = np.maximum.accumulate(lifted) - lift
        return highest

    def _unsorted(self, values: Int64s) -> Int64s:
        out = np.empty_like(values)
        out[self._order] = values
        return out
