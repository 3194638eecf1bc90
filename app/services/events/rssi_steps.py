"""Notices when a module's signal has become much better or worse within a minute, over whole columns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from app.domain.events import Event, EventKind, EventSink
from app.ingest.directory import ModuleDirectory
from app.ingest.live import LiveState

LEAST_STEP_DB = 10.0
LOOK_EACH_S = 5.0
# A minute.
_LOOKS_BACK = 12
# People walk past and doors close: a step is what stays for some looks.
_WEIGHT = 0.4
_SETTLED_DB = 4.0
# Of a module that is silent for longer nothing is known.
_FRESH_US = 15_000_000
# More are told at the next look: an event costs two microseconds, and the loop has others to serve.
_MOST_AT_ONCE = 500

Floats = npt.NDArray[np.float32]


class Step(NamedTuple):
    """A module's signal a minute ago and now, dBm."""

    slot: int
    before_dbm: int
    after_dbm: int


class RssiSteps:
    """On the loop; a look at 48,000 modules takes half a millisecond."""

    def __init__(self, live: LiveState, modules: ModuleDirectory, sink: EventSink, now_us: Callable[[], int]) -> None:
        self._live = live
        self._modules = modules
        self._sink = sink
        self._now_us = now_us
        self._looks = 0
        self._smooth = np.zeros(0, np.float32)
        self._past = np.zeros((_LOOKS_BACK, 0), np.float32)

    async def run(self) -> None:
        """Look and note, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EACH_S)
            now_us = self._now_us()
            for step in self.look(now_us):
                details = {"before_dbm": step.before_dbm, "after_dbm": step.after_dbm}
                self._sink.note(Event(self._modules.serial(step.slot), now_us, EventKind.RSSI_STEP, details))

    def look(self, now_us: int) -> list[Step]:
        """Take the present values; the steps that are new."""
        size = min(len(self._modules), len(self._live.rssi_dbm))
        self._grow(size)
        rssi = self._live.rssi_dbm[:size].astype(np.float32)
        fresh = (rssi != 0) & (now_us - self._live.arrival_us[:size] < _FRESH_US)
        known = ~np.isnan(self._smooth)
        mixed = np.where(known, self._smooth + np.float32(_WEIGHT) * (rssi - self._smooth), rssi)
        self._smooth = np.where(fresh, mixed, np.float32(np.nan)).astype(np.float32)
        at = self._looks % _LOOKS_BACK
        before = self._past[at].copy()
        self._past[at] = self._smooth
        self._looks += 1
        # Comparisons with nan are false.
        stepped = (np.abs(self._smooth - before) >= LEAST_STEP_DB) & (np.abs(self._smooth - rssi) < _SETTLED_DB)
        slots = np.flatnonzero(stepped)
        # The others are compared with what was before, too, at the next look.
        slots = slots[:_MOST_AT_ONCE]
        # From here on a step is one from the new level.
        self._past[:, slots] = self._smooth[slots]
        return [Step(int(slot), round(float(before[slot])), round(float(self._smooth[slot]))) for slot in slots]

    def _grow(self, size: int) -> None:
        missing = size - len(self._smooth)
        if missing > 0:
            self._smooth = np.concatenate([self._smooth, np.full(missing, np.nan, np.float32)])
            self._past = np.concatenate([self._past, np.full((_LOOKS_BACK, missing), np.nan, np.float32)], axis=1)
