"""Makes tables as months of operation leave them, faster than by operating for months: same layout, no syncs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.bench.realistic import RealisticFleet
from app.domain.resolution import DAY_US, HOUR_US, TEN_MIN_US
from app.stores.series.delta.files import CommitLabel
from app.stores.series.delta.output import FileWriter
from app.stores.series.delta.table import SeriesTable
from app.stores.series.delta_store import STATE_FOLDER
from app.stores.series.schema import RAW, UTC_MICROSECONDS
from app.stores.series.tiering import Level, TierState
from app.stores.storage import Storage

# Files as the second level of merging leaves them: an hour of a small fleet.
_LEVEL = 2
_COMMIT_S = 10
_LABEL = "earlier"


class UnsyncedStorage(Storage):
    """Leaves durability to the system: what a bench prepares may be lost with the machine."""

    def sync(self, descriptor: int) -> None:
        """Nothing."""

    def sync_directory(self, path: Path) -> None:
        """Nothing."""

    def sync_file(self, path: Path) -> None:
        """Nothing."""


def make_day(
    folder: Path, modules: int, commits: int, end_us: int, *, keys: Sequence[int] | None = None
) -> Sequence[int]:
    """A raw table with the 24 h before `end_us` of so many modules, merged, after so many commits; its keys."""
    fleet = RealisticFleet(modules, start_us=end_us - DAY_US, keys=keys)
    table = SeriesTable.open(folder, RAW, storage=UnsyncedStorage())
    hours = DAY_US // HOUR_US
    for hour in range(hours):
        with FileWriter(
            folder,
            RAW,
            order=table.version + 1,
            level=_LEVEL,
            group_rows=table.options.group_rows(_LEVEL),
            storage=UnsyncedStorage(),
        ) as writer:
            writer.write(fleet.in_order_of_keys(HOUR_US // 1_000_000))
            table.replace([], writer.finish())
        while table.version < commits * (hour + 1) // hours:
            table.append(RAW.empty_table(), label=CommitLabel(_LABEL, table.version + 1))
    table.close()
    # Roll-ups of these readings were made long ago: the bench is not about making them.
    state = TierState(folder.parent / STATE_FOLDER)
    state.advance({Level.TEN_MIN: end_us - end_us % TEN_MIN_US})
    state.close()
    return [int(key) for key in fleet.keys]


def make_tail(folder: Path, modules: int, seconds: int, end_us: int) -> Sequence[int]:
    """A raw table with the seconds before `end_us`, a commit each 10 s, nothing merged; its keys.

    Three commits' readings are made and sent again with later times: what they hold matters little to a query.
    """
    fleet = RealisticFleet(modules, start_us=end_us - seconds * 1_000_000)
    table = SeriesTable.open(folder, RAW, storage=UnsyncedStorage())
    made = [fleet.in_order_of_keys(_COMMIT_S) for _ in range(3)]
    for commit in range(seconds // _COMMIT_S):
        later_us = (commit - commit % 3) * _COMMIT_S * 1_000_000
        table.append(_later(made[commit % 3], later_us), label=CommitLabel(_LABEL, commit + 1))
    table.close()
    return [int(key) for key in fleet.keys]


def _later(rows: pa.Table, by_us: int) -> pa.Table:
    time = pc.add(rows["time"].cast(pa.int64()), np.int64(by_us)).cast(UTC_MICROSECONDS)
    return rows.set_column(RAW.get_field_index("time"), RAW.field("time"), time)
