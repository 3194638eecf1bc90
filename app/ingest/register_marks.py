"""Which readings' registers are worth a row: a change of the running one, and each 10-minute boundary."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from app.ingest.columns import Columns
from app.ingest.directory import grown
from app.ingest.runs import Runs

_TEN_MINUTES_US = 600_000_000


class RegisterMarks:
    """Remembers the running register and boundary per module; while register k runs, its growth is the index's."""

    def __init__(self) -> None:
        self._register = np.full(0, -1, np.int64)
        self._boundary = np.full(0, -1, np.int64)

    def marked(self, columns: Columns, kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
        """The rows whose registers are to be written, ascending."""
        if columns.registers is None:
            return np.zeros(0, np.intp)
        rows = np.flatnonzero(kept & np.fromiter(map(bool, columns.registers), np.bool_, len(columns)))
        if not len(rows):
            return rows
        slots = columns.slots[rows]
        self._grow(int(slots.max()) + 1)
        running = columns.nullable["register"].fill_null(-1).to_numpy(zero_copy_only=False)[rows].astype(np.int64)
        boundary = columns.time_us[rows] // _TEN_MINUTES_US
        runs = Runs(slots)
        changed = running != runs.before(running, self._register)
        crossed = boundary > runs.highest_before(boundary, self._boundary)
        runs.update(running, self._register)
        runs.update_highest(boundary, self._boundary)
        marked: npt.NDArray[np.intp] = rows[changed | crossed]
        return marked

    def _grow(self, size: int) -> None:
        if size > len(self._register):
            self._register = grown(self._register, max(1024, 2 * size), -1)
            self._boundary = grown(self._boundary, max(1024, 2 * size), -1)
