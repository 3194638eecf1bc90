"""What one million readings cost from journal to roll-up, in CPU seconds and bytes."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import psutil
import pyarrow as pa

from app.bench.realistic import RealisticFleet
from app.domain.resolution import TEN_MIN_US
from app.stores.journal.journal import Journal
from app.stores.series.delta_store import DeltaSeriesStore
from app.stores.series.interface import SegmentLabel
from app.stores.series.rollup import NoFacts
from app.stores.series.schema import INGESTED

_COMMITS_A_SECOND = 4
_SEGMENT_S = 10
_WINDOW_S = 600


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds per million readings by part, all processes; bytes per reading of the merged raw table."""

    journal: float
    archive: float
    upkeep: float
    bytes_per_reading: float
    rows: int

    @property
    def total(self) -> float:
        """CPU seconds per million readings."""
        return self.journal + self.archive + self.upkeep


def measure_cost(folder: Path, rows: int) -> Cost:
    """Ten minutes of a fleet: journaled each 250 ms and synced, archived each 10 s, then merged and rolled up."""
    modules = max(1, rows // _WINDOW_S)
    now_us = time.time_ns() // 1000
    start_us = now_us - now_us % TEN_MIN_US - 2 * TEN_MIN_US
    fleet = RealisticFleet(modules, start_us=start_us)
    journal = Journal.open(folder / "journal", INGESTED)
    store = DeltaSeriesStore(folder / "series", facts=NoFacts, now_us=lambda: now_us)
    spent = {"journal": 0.0, "archive": 0.0, "upkeep": 0.0}
    stored = 0
    for segment_number in range(_WINDOW_S // _SEGMENT_S):
        made = fleet.in_order_of_arrival(_SEGMENT_S).combine_chunks().to_batches()[0]
        stored += made.num_rows
        step = max(1, made.num_rows // (_SEGMENT_S * _COMMITS_A_SECOND))
        began = _cpu_s()
        for at in range(0, made.num_rows, step):
            journal.append("raw", made.slice(at, step))
            journal.sync()
        segment = journal.seal()
        spent["journal"] += _cpu_s() - began
        assert segment is not None
        began = _cpu_s()
        store.append(SegmentLabel(segment.journal_id, segment_number), {"raw": pa.Table.from_batches([made])})
        journal.remove(segment)
        spent["archive"] += _cpu_s() - began
    began = _cpu_s()
    # The window is long closed by this clock: all that is ever to be done with it becomes due.
    while store.maintain(now_us):
        store.settle()
    store.settle()
    while store.maintain(now_us):
        store.settle()
    spent["upkeep"] += _cpu_s() - began
    size = store.sizes()["raw"]
    store.close()
    journal.close()
    per_million = {part: seconds * 1e6 / stored for part, seconds in spent.items()}
    return Cost(**per_million, bytes_per_reading=size.live_bytes / size.rows, rows=stored)


def _cpu_s() -> float:
    times = psutil.Process().cpu_times()
    # Merging processes have ended by the time they are asked for: the system adds them to ours.
    return float(times.user + times.system + times.children_user + times.children_system)
