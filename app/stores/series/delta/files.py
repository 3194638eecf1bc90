"""A table's data files, and what is known of each without opening it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64Array = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CommitLabel:
    """Makes a commit exactly-once: for each `app_id` versions only rise, one already committed is passed over."""

    app_id: str
    version: int


@dataclass(frozen=True, slots=True)
class DataFile:
    """One live Parquet file; its rows are sorted by (key, time). `name` is relative to the table's folder.

    `order` says how new its rows are (the commit that brought them, the newest one for merged files); `level` 0 is as
    appended, 1 merged by windows, 2 by hours. Times are UTC microseconds. Bounds are inclusive.
    """

    name: str
    order: int
    level: int
    rows: int
    size_bytes: int
    min_key: int
    max_key: int
    min_us: int
    max_us: int


@dataclass(frozen=True, slots=True)
class RowGroupIndex:
    """Bounds of each row group of one file; keys rise from group to group."""

    rows: Int64Array
    min_key: Int64Array
    max_key: Int64Array
    min_us: Int64Array
    max_us: Int64Array


@dataclass(slots=True)
class ScanCount:
    """What scans cost, summed up over those it was passed to."""

    files: int = 0
    row_groups: int = 0
    rows_decoded: int = 0
    rows_returned: int = 0


@dataclass(frozen=True, slots=True)
class TableSizes:
    """Bytes and rows of live files, of removed files still kept, of the log; files by level."""

    rows: int
    live_bytes: int
    kept_bytes: int
    log_bytes: int
    files_by_level: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Verification:
    """What opening had to mend; all zero for a sound table."""

    rolled_back_commits: int = 0
    blanked_commits: int = 0
    missing_files: int = 0
    orphans_removed: int = 0
