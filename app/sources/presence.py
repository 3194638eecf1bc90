"""Which foreign devices are there by what they say themselves: a session may be that of a gateway with many."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Bools = npt.NDArray[np.bool_]


class ForeignPresence:
    """Changes on the loop only; any thread may read the arrays, which are by module slot."""

    def __init__(self) -> None:
        self._here = np.zeros(0, np.bool_)
        self._gone = np.zeros(0, np.bool_)
        self._heard = np.zeros(0, np.bool_)
        self._usual_us = np.zeros(0, np.int64)

    def heard_of(self, slot: int) -> None:
        """Something came of a device."""
        if slot >= len(self._heard):
            self._grow(slot + 1)
        self._heard[slot] = True

    def told(self, slot: int, online: bool | None) -> None:
        """A device, or its last will, says that it is there or gone; None: nobody says so any more."""
        self.heard_of(slot)
        self._here[slot] = online is True
        self._gone[slot] = online is False

    def learned(self, slot: int, usual_us: int) -> None:
        """The usual time between two of its readings, as they came."""
        self.heard_of(slot)
        self._usual_us[slot] = usual_us

    def here(self, size: int) -> Bools:
        """Whether each of the first `size` slots says that it is there; a copy, as the others."""
        return _first(self._here, size)

    def gone(self, size: int) -> Bools:
        """Whether each says that it is gone."""
        return _first(self._gone, size)

    def heard(self, size: int) -> Bools:
        """Whether anything came of each since the hub started."""
        return _first(self._heard, size)

    def usual_us(self, size: int) -> npt.NDArray[np.int64]:
        """The usual time between two readings of each, 0: not known."""
        found = np.zeros(size, np.int64)
        part = self._usual_us[:size]
        found[: len(part)] = part
        return found

    def _grow(self, size: int) -> None:
        more = max(size, 2 * len(self._heard), 64)
        self._usual_us = self.usual_us(more)
        # The last to grow is the one that `heard_of` looks at.
        self._here, self._gone, self._heard = (_first(each, more) for each in (self._here, self._gone, self._heard))


def _first(array: Bools, size: int) -> Bools:
    """The first `size` values, false where there are fewer."""
    found = np.zeros(size, np.bool_)
    part = array[:size]
    found[: len(part)] = part
    return found
