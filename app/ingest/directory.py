"""Which module is which slot of the live arrays, and whose series key its readings belong to at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from app.domain.keys import CollectionLevel, SupplyPeriods

# A slot without a supply period at that time.
NO_KEY = 0
_FOREVER = np.iinfo(np.int64).max


@dataclasses.dataclass(frozen=True, slots=True)
class ModuleEntry:
    """What ingest must know of a module's channel. `group` numbers its city for the city series, 0 = none."""

    serial: str
    periods: SupplyPeriods
    group: int = 0


class ModuleDirectory:
    """Module serials to slots, and (slot, time) to keys; slots are given once and never reused while the hub runs.

    Almost every reading falls into its module's newest period, so that one is kept in flat arrays; older ones are
    looked up per reading.
    """

    def __init__(self) -> None:
        self._slots: dict[str, int] = {}
        self._serials: list[str] = []
        self._older: dict[int, SupplyPeriods] = {}
        self._key = np.zeros(0, np.int64)
        self._start = np.zeros(0, np.int64)
        self._end = np.zeros(0, np.int64)
        self._level = np.zeros(0, np.int8)
        self._group = np.zeros(0, np.int32)

    def __len__(self) -> int:
        return len(self._serials)

    def slot(self, serial: str) -> int | None:
        """The slot of a module, None when it is unknown."""
        return self._slots.get(serial)

    def serial(self, slot: int) -> str:
        """The module of a slot."""
        return self._serials[slot]

    @property
    def groups(self) -> npt.NDArray[np.int32]:
        """City number by slot."""
        return self._group[: len(self._serials)]

    @property
    def levels(self) -> npt.NDArray[np.int8]:
        """Collection level of the newest period by slot."""
        return self._level[: len(self._serials)]

    def serials(self) -> list[str]:
        """Every module by slot; a copy."""
        return self._serials.copy()

    def put(self, entries: Iterable[ModuleEntry]) -> None:
        """Add modules, or replace what is known of them (a pairing changed)."""
        for entry in entries:
            slot = self._slots.get(entry.serial)
            if slot is None:
                slot = len(self._serials)
                self._slots[entry.serial] = slot
                self._serials.append(entry.serial)
                self._grow(slot + 1)
            self._set_periods(slot, entry)

    def route(
        self, slots: npt.NDArray[np.intp], time_us: npt.NDArray[np.int64]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int8]]:
        """The key (NO_KEY: none) and collection level of each reading, by its module and module time."""
        keys = self._key[slots]
        levels = self._level[slots]
        outside = (time_us < self._start[slots]) | (time_us >= self._end[slots])
        if outside.any():
            # Indexing with an array made copies: they may be written to.
            for row in np.flatnonzero(outside):
                older = self._older.get(int(slots[row]))
                period = older.at(int(time_us[row])) if older else None
                keys[row] = period.key if period else NO_KEY
                levels[row] = period.level if period else CollectionLevel.NONE
        return keys, levels

    def key_now(self, slot: int) -> int:
        """The newest period's key."""
        return int(self._key[slot])

    def _set_periods(self, slot: int, entry: ModuleEntry) -> None:
        periods = entry.periods.periods
        newest = periods[-1] if periods else None
        self._key[slot] = newest.key if newest else NO_KEY
        self._start[slot] = newest.from_us if newest else 0
        self._end[slot] = _FOREVER if newest is None or newest.to_us is None else newest.to_us
        self._level[slot] = newest.level if newest else CollectionLevel.NONE
        self._group[slot] = entry.group
        self._older.pop(slot, None)
        if len(periods) > 1:
            self._older[slot] = entry.periods

    def _grow(self, size: int) -> None:
        if size <= len(self._key):
            return
        capacity = max(1024, 2 * size)
        for name in ("_key", "_start", "_end", "_level", "_group"):
            setattr(self, name, grown(getattr(self, name), capacity))


def grown(array: npt.NDArray[Any], capacity: int, fill: float = 0) -> npt.NDArray[Any]:
    """The array with room for `capacity` rows along its first axis; new rows hold `fill`."""
    bigger = np.full((capacity, *array.shape[1:]), fill, array.dtype)
    bigger[: len(array)] = array
    return bigger
