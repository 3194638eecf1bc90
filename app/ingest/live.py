"""Live state: the newest value of every module in flat arrays, and the last five minutes of power."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from app.ingest.columns import Columns
from app.ingest.directory import grown

RING_SECONDS = 300
# A module's clock may be this far ahead and its power still be shown; further ahead would end what the ring remembers.
_AHEAD_SECONDS = 5
_RING_ROWS = RING_SECONDS + _AHEAD_SECONDS
_UNKNOWN_RSSI = 0
_ARRAYS = {
    "time_us": (np.int64, 0),
    "arrival_us": (np.int64, 0),
    "power": (np.float32, np.nan),
    "power_kind": (np.int8, 0),
    "drawn_wh": (np.int64, -1),
    "rssi_dbm": (np.int16, _UNKNOWN_RSSI),
    "frame_gap_ms": (np.int32, -1),
    "state": (np.int32, 0),
    "received": (np.int64, 0),
}


class LiveState:
    """One row per module slot. Times are UTC microseconds, 0 = never; power nan, index and gap -1, RSSI 0 = unknown.

    Rules and views read whole columns; nothing here is per module in Python. Memory: about 1.3 kB a module, nearly all
    of it the power ring.
    """

    time_us: npt.NDArray[np.int64]
    arrival_us: npt.NDArray[np.int64]
    power: npt.NDArray[np.float32]
    power_kind: npt.NDArray[np.int8]
    drawn_wh: npt.NDArray[np.int64]
    rssi_dbm: npt.NDArray[np.int16]
    frame_gap_ms: npt.NDArray[np.int32]
    state: npt.NDArray[np.int32]
    received: npt.NDArray[np.int64]

    def __init__(self) -> None:
        self._capacity = 0
        for name, (kind, fill) in _ARRAYS.items():
            setattr(self, name, np.full(0, fill, kind))
        # One row a second, cleared when the second begins anew.
        self._ring = np.zeros((_RING_ROWS, 0), np.float32)
        self._ring_second = np.zeros(_RING_ROWS, np.int64)

    def update(self, columns: Columns, timely: npt.NDArray[np.bool_], personal: npt.NDArray[np.bool_]) -> None:
        """Take the timely readings.

        Where `personal` is false (no consent for 1 s) power and index are not kept.
        """
        slots = columns.slots
        if not len(slots):
            return
        self.reserve(int(slots.max()) + 1)
        np.add.at(self.received, slots, 1)
        # A reading older than what is shown (re-sent, out of order) changes no newest value, but belongs into the ring.
        newest = timely & (columns.time_us >= self.time_us[slots])
        self._ring_put(columns, timely & personal)
        rows = np.flatnonzero(newest)
        # With a slot twice in `slots`, numpy keeps the last assignment: the latest time.
        rows = rows[np.argsort(columns.time_us[rows], kind="stable")]
        slots = slots[rows]
        self.time_us[slots] = columns.time_us[rows]
        self.arrival_us[slots] = columns.arrival_us[rows]
        self.state[slots] = columns.state[rows]
        shown = personal[rows]
        self.power[slots[~shown]] = np.nan
        # A short frame (currents alone) clears nothing.
        with_power = rows[shown & (columns.power_kind[rows] != 0)]
        self.power[columns.slots[with_power]] = columns.power[with_power]
        self.power_kind[columns.slots[with_power]] = columns.power_kind[with_power]
        self._put_known("drawn_wh", columns, rows[shown])
        self._put_known("rssi_dbm", columns, rows)
        self._put_known("frame_gap_ms", columns, rows)

    def put_rssi(self, slot: int, rssi_dbm: int) -> None:
        """A signal that a module told apart from its readings; on the loop."""
        self.reserve(slot + 1)
        self.rssi_dbm[slot] = rssi_dbm

    def recent_power(self, slot: int, now_us: int) -> npt.NDArray[np.float32]:
        """Power of the last 300 s, oldest first, one value a second, nan where nothing came."""
        if slot >= self._capacity:
            return np.full(RING_SECONDS, np.nan, np.float32)
        second = now_us // 1_000_000
        seconds = np.arange(second - RING_SECONDS + 1, second + 1)
        at = seconds % _RING_ROWS
        return np.where(self._ring_second[at] == seconds, self._ring[at, slot], np.float32(np.nan))

    def forget(self, slot: int) -> None:
        """Know nothing of a module any more but how much came of it; on the loop."""
        if slot >= self._capacity:
            return
        for name, (_kind, fill) in _ARRAYS.items():
            if name != "received":
                getattr(self, name)[slot] = fill
        self._ring[:, slot] = np.nan

    def _put_known(self, name: str, columns: Columns, rows: npt.NDArray[np.intp]) -> None:
        values = columns.nullable[name]
        if values.null_count == len(values):
            return
        if values.null_count:
            rows = rows[~values.is_null().to_numpy(zero_copy_only=False)[rows]]
            values = values.fill_null(0)
        getattr(self, name)[columns.slots[rows]] = values.to_numpy(zero_copy_only=False)[rows]

    def _ring_put(self, columns: Columns, allowed: npt.NDArray[np.bool_]) -> None:
        second = columns.time_us // 1_000_000
        age = columns.arrival_us // 1_000_000 - second
        recent = allowed & (age < RING_SECONDS) & (age >= -_AHEAD_SECONDS) & (columns.power_kind != 0)
        rows = np.flatnonzero(recent)
        second = second[rows]
        for begun in np.unique(second):
            at = begun % _RING_ROWS
            if begun > self._ring_second[at]:
                self._ring[at] = np.nan
                self._ring_second[at] = begun
        current = second == self._ring_second[second % _RING_ROWS]
        rows, second = rows[current], second[current]
        self._ring[second % _RING_ROWS, columns.slots[rows]] = columns.power[rows]

    def reserve(self, size: int) -> None:
        """Make room for this many modules at once, rather than growing under load."""
        if size <= self._capacity:
            return
        self._capacity = max(1024, size + size // 4)
        for name, (_kind, fill) in _ARRAYS.items():
            setattr(self, name, grown(getattr(self, name), self._capacity, fill))
        ring = np.full((_RING_ROWS, self._capacity), np.nan, np.float32)
        ring[:, : self._ring.shape[1]] = self._ring
        self._ring = ring
