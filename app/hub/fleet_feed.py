"""The fleet's and the cities' power as it happens: live batches summed up each 10 s."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from app.ingest.columns import Columns
from app.ingest.directory import ModuleDirectory
from app.stores.series.fleet import FleetSums

_CLOSE_EACH_S = 2.0
_UNKNOWN_INDEX = -1


class FleetFeed:
    """Observes ingest and hands over each closed bucket; on the loop."""

    def __init__(
        self, modules: ModuleDirectory, note: Callable[[pa.Table], None], *, now_us: Callable[[], int]
    ) -> None:
        self._modules = modules
        self._note = note
        self._now_us = now_us
        self._sums = FleetSums()
        self._known_modules = 0

    def observe(self, columns: Columns, kept: npt.NDArray[np.bool_]) -> None:
        """Take the kept readings of a chunk."""
        if len(self._modules) > self._known_modules:
            self._take_groups()
        drawn = columns.nullable["drawn_wh"]
        drawn_wh = drawn.fill_null(_UNKNOWN_INDEX).to_numpy(zero_copy_only=False)
        if kept.all():
            self._sums.observe(columns.slots, columns.time_us, drawn_wh, columns.power, columns.power_kind)
            return
        rows = np.flatnonzero(kept)
        self._sums.observe(
            columns.slots[rows],
            columns.time_us[rows],
            drawn_wh[rows],
            columns.power[rows],
            columns.power_kind[rows],
        )

    async def run(self) -> None:
        """Hand over closed buckets until cancelled."""
        while True:
            await asyncio.sleep(_CLOSE_EACH_S)
            self._take_groups()
            # These rows are shown until the roll-up has made them from raw, and never stored: any version is too low.
            rows = self._sums.close_until(self._now_us(), 0)
            if rows.num_rows:
                self._note(rows)

    def _take_groups(self) -> None:
        self._known_modules = len(self._modules)
        self._sums.set_groups(self._modules.groups)
