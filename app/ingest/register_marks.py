"""Which readings' registers are worth a row: a change of the running one, and each 10-minute boundary."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from app.ingest.columns import Columns
from app.ingest.directory import grown

_TEN_MINUTES_US = 600_000_000


class RegisterMarks:
    """Remembers the running register and boundary per module; while register k runs, its growth is the index's."""

    def __init__(self) -> None:
        self._register = np.full(0, -1, np.int16)
        self._boundary = np.full(0, -1, np.int64)

    def marked(self, columns: Columns, kept: npt.NDArray[np.bool_]) -> list[int]:
        """The rows whose registers are to be written."""
        if columns.registers is None:
            return []
        size = int(columns.slots.max()) + 1
        if size > len(self._register):
            self._register = grown(self._register, max(1024, 2 * size), -1)
            self._boundary = grown(self._boundary, max(1024, 2 * size), -1)
        running = columns.nullable["register"].fill_null(-1).to_numpy(zero_copy_only=False)
        boundary = columns.time_us // _TEN_MINUTES_US
        rows = []
        for row in np.flatnonzero(kept):
            slot = columns.slots[row]
            if not columns.registers[row]:
                continue
            if running[row] != self._register[slot] or boundary[row] > self._boundary[slot]:
                self._register[slot] = running[row]
                self._boundary[slot] = max(boundary[row], self._boundary[slot])
                rows.append(int(row))
        return rows
