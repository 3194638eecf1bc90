"""The fleet's series for readers: what is stored, then what was summed up live since."""

from __future__ import annotations

import threading
from collections import deque

import numpy as np
import pyarrow as pa

from app.stores.series.grouping import concat, numbers
from app.stores.series.overlay import Overlay
from app.stores.series.tiers import FLEET

# Live rows are kept this many closings: the roll-up makes a window at most 11 minutes after its last bucket.
_LIVE_BATCHES = 240


class FleetView:
    """Any thread may call."""

    def __init__(self, overlay: Overlay) -> None:
        self._overlay = overlay
        self._lock = threading.Lock()
        self._live: deque[pa.Table] = deque(maxlen=_LIVE_BATCHES)

    def note(self, rows: pa.Table) -> None:
        """Takes FLEET rows of buckets just closed."""
        if rows.num_rows:
            with self._lock:
                self._live.append(rows)

    def read(self, group: int, start_us: int, end_us: int) -> pa.Table:
        """See SeriesReader.read_group: where both have a bucket, the stored one counts."""
        with self._lock:
            live = concat(FLEET, list(self._live))
        stored = self._overlay.group(group, start_us, end_us)
        if not live.num_rows:
            return stored
        times = numbers(live, "time")[0]
        wanted = (numbers(live, "key")[0] == group) & (times >= start_us) & (times < end_us)
        wanted &= ~np.isin(times, numbers(stored, "time")[0])
        return concat(FLEET, [stored, live.filter(pa.array(wanted))]).sort_by("time").combine_chunks()
