"""Writing sorted rows as merged files: row groups that end where a key ends, files of a bounded size."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.stores.series.delta import parquet_format
from app.stores.series.delta.files import DataFile, Int64Array
from app.stores.series.delta.log import new_file_name
from app.stores.series.delta.rows import KEY, TIME, int64_values
from app.stores.storage import Storage

# About 20 MB of realistic readings: few enough files, footers that parse in milliseconds; erasing a key rewrites no
# more than that.
_MAX_FILE_ROWS = 4_000_000

# A row group may be this much smaller or larger than asked when that lets it end with a key.
_PLAY = 0.2


class FileWriter:
    """Takes rows sorted by (key, time); `finish` gives the synced files.

    Leaving the context unlinks what was written, unless `finish` was its last word.
    """

    def __init__(
        self,
        directory: Path,
        schema: pa.Schema,
        *,
        order: int,
        level: int,
        group_rows: int,
        storage: Storage,
        tag: str = "",
    ) -> None:
        self._directory = directory
        self._schema = schema
        self._order = order
        self._level = level
        self._group_rows = group_rows
        self._tag = tag
        self._storage = storage
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0
        self._writer: pq.ParquetWriter | None = None
        self._names: list[str] = []
        self._bounds: list[tuple[int, int, int, int, int]] = []
        self._done: list[DataFile] = []
        self._finished = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._finished and problem is None:
            return
        # Whatever went wrong before is what matters; leftovers are removed at the next start as well.
        with contextlib.suppress(OSError, pa.ArrowException):
            if self._writer is not None:
                self._writer.close()
        for name in self._names:
            with contextlib.suppress(OSError):
                self._storage.unlink(self._directory / name)

    def write(self, rows: pa.Table) -> None:
        if not rows.num_rows:
            return
        self._waiting.append(rows)
        self._waiting_rows += rows.num_rows
        if self._waiting_rows > self._group_rows * (1 + _PLAY):
            self._write_groups(last=False)

    def finish(self) -> list[DataFile]:
        """All files, durable; none when there were no rows."""
        if self._waiting_rows:
            self._write_groups(last=True)
        if self._writer is not None:
            self._close_file()
        if self._done:
            self._storage.sync_directory(self._directory)
        self._finished = True
        return self._done

    def _write_groups(self, *, last: bool) -> None:
        rows = pa.concat_tables(self._waiting)
        keys, times = int64_values(rows[KEY]), int64_values(rows[TIME])
        ends = np.flatnonzero(keys[1:] != keys[:-1]) + 1
        start, limit = 0, round(self._group_rows * (1 + _PLAY))
        while len(keys) - start > limit or (last and start < len(keys)):
            end = self._end_of_group(start, len(keys), ends)
            self._write_group(rows.slice(start, end - start), keys[start:end], times[start:end])
            start = end
        self._waiting = [rows.slice(start)]
        self._waiting_rows = len(keys) - start

    def _end_of_group(self, start: int, total: int, ends: Int64Array) -> int:
        limit = start + round(self._group_rows * (1 + _PLAY))
        if total <= limit:
            return total
        nearest = int(np.searchsorted(ends, limit, side="right")) - 1
        if nearest >= 0 and ends[nearest] >= start + round(self._group_rows * (1 - _PLAY)):
            return int(ends[nearest])
        return start + self._group_rows

    def _write_group(self, rows: pa.Table, keys: Int64Array, times: Int64Array) -> None:
        if self._writer is None:
            name = new_file_name(self._level, self._order, self._tag)
            self._names.append(name)
            self._writer = parquet_format.open_writer(self._directory / name, self._schema, merged=True)
        self._writer.write_table(rows, row_group_size=len(keys))
        self._bounds.append((len(keys), int(keys[0]), int(keys[-1]), int(times.min()), int(times.max())))
        if sum(bound[0] for bound in self._bounds) >= _MAX_FILE_ROWS:
            self._close_file()

    def _close_file(self) -> None:
        assert self._writer is not None
        self._writer.close()
        self._writer = None
        path = self._directory / self._names[-1]
        self._storage.sync_file(path)
        rows, min_keys, max_keys, min_times, max_times = zip(*self._bounds, strict=True)
        self._bounds = []
        self._done.append(
            DataFile(
                path.name,
                self._order,
                self._level,
                sum(rows),
                path.stat().st_size,
                min(min_keys),
                max(max_keys),
                min(min_times),
                max(max_times),
            )
        )
