"""Reading rows of some keys and a span of time, decoding only the row groups that can hold them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from app.stores.series.delta import parquet_format
from app.stores.series.delta.files import DataFile, Int64Array, RowGroupIndex, ScanCount
from app.stores.series.delta.footers import Footers
from app.stores.series.delta.rows import KEY, TIME, int64_values

# Up to so many keys are looked up one by one in the sorted rows; more are matched in one pass over all rows.
_MAX_LOOKED_UP = 64
# Adjacent groups are decoded together up to this many rows: memory of one step stays some tens of megabytes.
_MAX_ROWS_AT_ONCE = 262_144

_FIRST = np.iinfo(np.int64).min
_LAST = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Wanted:
    """Rows with start_us <= time < end_us of some keys (sorted; None: all)."""

    keys: Int64Array | None
    start_us: int
    end_us: int

    @classmethod
    def of(cls, keys: Collection[int] | None, start_us: int | None, end_us: int | None) -> Wanted:
        chosen = None if keys is None else np.unique(np.fromiter(keys, np.int64, len(keys)))
        return cls(chosen, _FIRST if start_us is None else start_us, _LAST if end_us is None else end_us)

    def may_be_in(self, file: DataFile) -> bool:
        if file.max_us < self.start_us or file.min_us >= self.end_us:
            return False
        if self.keys is None:
            return True
        first = int(np.searchsorted(self.keys, file.min_key))
        return first < len(self.keys) and int(self.keys[first]) <= file.max_key

    def groups(self, index: RowGroupIndex) -> npt.NDArray[np.intp]:
        """Row groups that may hold wanted rows."""
        chosen = (index.max_us >= self.start_us) & (index.min_us < self.end_us)
        if self.keys is not None:
            chosen &= np.searchsorted(self.keys, index.min_key) < np.searchsorted(
                self.keys, index.max_key, side="right"
            )
        return np.flatnonzero(chosen)

    def ranges(self, keys: Int64Array, times: Int64Array) -> list[tuple[int, int]] | None:
        """Stretches of sorted rows that are wanted; None when there are too many keys to look up one by one."""
        assert self.keys is not None
        inside = self.keys[np.searchsorted(self.keys, keys[0]) : np.searchsorted(self.keys, keys[-1], side="right")]
        if len(inside) > _MAX_LOOKED_UP:
            return None
        found = []
        starts, ends = np.searchsorted(keys, inside), np.searchsorted(keys, inside, side="right")
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            first, last = np.searchsorted(times[start:end], (self.start_us, self.end_us)).tolist()
            if first < last:
                found.append((start + first, start + last))
        return found

    def mask(self, keys: Int64Array, times: Int64Array) -> npt.NDArray[np.bool_]:
        chosen = (times >= self.start_us) & (times < self.end_us)
        if self.keys is not None:
            place = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
            chosen &= self.keys[place] == keys
        return chosen


def scan_files(
    directory: Path, files: Sequence[DataFile], footers: Footers, schema: pa.Schema, wanted: Wanted, count: ScanCount
) -> list[pa.Table]:
    """The wanted rows of the files in their order, under `schema` (which has key and time)."""
    pieces: list[pa.Table] = []
    if wanted.keys is not None and not len(wanted.keys):
        return pieces
    for file in files:
        if not wanted.may_be_in(file):
            continue
        index = footers.index(file)
        groups = wanted.groups(index)
        if not len(groups):
            continue
        count.files += 1
        with parquet_format.open_reader(directory / file.name, footers.footer(file)) as reader:
            for some in _steps(groups, index.rows):
                rows = parquet_format.read_groups(reader, some, schema)
                count.row_groups += len(some)
                count.rows_decoded += rows.num_rows
                pieces.extend(piece for piece in _chosen(rows, wanted) if piece.num_rows)
    count.rows_returned += sum(piece.num_rows for piece in pieces)
    return pieces


def _steps(groups: npt.NDArray[np.intp], group_rows: Int64Array) -> list[list[int]]:
    steps: list[list[int]] = []
    rows = _MAX_ROWS_AT_ONCE
    for group in groups.tolist():
        rows += int(group_rows[group])
        if rows > _MAX_ROWS_AT_ONCE:
            steps.append([])
            rows = int(group_rows[group])
        steps[-1].append(group)
    return steps


def _chosen(rows: pa.Table, wanted: Wanted) -> list[pa.Table]:
    keys, times = int64_values(rows[KEY]), int64_values(rows[TIME])
    if wanted.keys is not None:
        ranges = wanted.ranges(keys, times)
        if ranges is not None:
            return [rows.slice(start, end - start) for start, end in ranges]
    mask = wanted.mask(keys, times)
    if mask.all():
        return [rows]
    return [rows.filter(pa.array(mask))]
