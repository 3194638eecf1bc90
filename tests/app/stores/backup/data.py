"""Data directories to be backed up."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from app.bench.realistic import RealisticFleet
from app.hub.registry_facts import RegistryFacts
from app.stores.series.delta_store import DeltaSeriesStore
from app.stores.series.interface import SegmentLabel

T0 = 1_780_000_200_000_000


def fill_series(data: Path, *, files: int, first: int = 0, rows: int = 3_000) -> list[int]:
    """Raw files in the series store, as segments of one journal; the keys in them."""
    fleet = RealisticFleet(20, seed=first + 1, start_us=T0)
    store = DeltaSeriesStore(
        data / "series", facts=lambda: RegistryFacts({}, {}, {}, "Europe/Paris"), now_us=lambda: T0
    )
    for number in range(first, first + files):
        store.append(SegmentLabel("f" * 32, number), {"raw": fleet.in_order_of_keys(rows // 20)})
    store.close()
    return [int(key) for key in np.sort(fleet.keys)]
