"""Small builders for the tests of ingest."""

from __future__ import annotations

import numpy as np

from app.domain.keys import CollectionLevel, SupplyPeriod, SupplyPeriods
from app.domain.reading import Reading
from app.ingest.columns import Columns, gather
from app.ingest.directory import ModuleDirectory, ModuleEntry

NOW_US = 1_763_884_800_000_000
NOW_MS = NOW_US // 1000


def columns_of(*readings: Reading, slots: list[int] | None = None, arrival_us: int = NOW_US) -> Columns:
    return gather(slots or [0] * len(readings), list(readings), np.full(len(readings), arrival_us, np.int64))


def periods(*spans: tuple[int, int, int | None], level: CollectionLevel = CollectionLevel.SECOND) -> SupplyPeriods:
    return SupplyPeriods(SupplyPeriod(key, start, end, level, assigned=True) for key, start, end in spans)


def directory_of(**modules: SupplyPeriods) -> ModuleDirectory:
    directory = ModuleDirectory()
    directory.put(ModuleEntry(serial, found) for serial, found in modules.items())
    return directory


class FakeBatch:
    """A broker's batch that remembers being acknowledged."""

    def __init__(self, handles=(), payloads=(), guaranteed=(), arrival_us=NOW_US):
        self.handles = list(handles)
        self.payloads = list(payloads)
        self.guaranteed = list(guaranteed) or [False] * len(self.handles)
        self.retained = ()
        self.arrival_us = arrival_us
        self.acknowledged = 0

    def acknowledge(self):
        self.acknowledged += 1
