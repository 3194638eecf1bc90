"""Merging sorted files into one sorted stream of rows, within bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from app.stores.series.delta import parquet_format
from app.stores.series.delta.files import DataFile, Int64Array
from app.stores.series.delta.rows import KEY, TIME, int64_values, one_per_key_and_time

_FIRST_TIME = np.iinfo(np.int64).min

# The last key of a batch is held back until it is whole, unless it alone has more rows than this.
MAX_HELD_ROWS = 262_144

# Sorting a batch takes three times its memory (about 70 bytes a reading).
_MAX_BATCH_ROWS = 524_288

# Each input holds a decoded row group or two (about 1.2 MB of 16,384 readings): 60 of 480,000 rows peak at 445 MB.
MAX_INPUTS = 64


class _Source:
    """The rows of one file that are decoded but not taken yet."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._reader = parquet_format.open_reader(path)
        self._schema = schema
        self._groups: int = self._reader.num_row_groups
        self._next_group = 0
        self._rows = schema.empty_table()
        self.keys: Int64Array = np.empty(0, np.int64)
        self.times: Int64Array = np.empty(0, np.int64)

    @property
    def exhausted(self) -> bool:
        """Nothing is left in the file; decoded rows may be."""
        return self._next_group >= self._groups

    def refill(self) -> None:
        """Decodes row groups until the rows at hand span more than one (key, time), or the file ends."""
        while not self.exhausted and (len(self.keys) == 0 or self.last == (int(self.keys[0]), int(self.times[0]))):
            more = parquet_format.read_groups(self._reader, [self._next_group], self._schema)
            self._next_group += 1
            self._rows = pa.concat_tables([self._rows, more]) if self._rows.num_rows else more
            self.keys, self.times = int64_values(self._rows[KEY]), int64_values(self._rows[TIME])

    @property
    def last(self) -> tuple[int, int]:
        return int(self.keys[-1]), int(self.times[-1])

    def take_before(self, bound: tuple[int, int] | None) -> pa.Table:
        """Takes the rows below a (key, time), all of them for None."""
        end = len(self.keys)
        if bound is not None:
            start = int(np.searchsorted(self.keys, bound[0]))
            same = int(np.searchsorted(self.keys, bound[0], side="right"))
            end = start + int(np.searchsorted(self.times[start:same], bound[1]))
        taken = self._rows.slice(0, end)
        self._rows = self._rows.slice(end)
        self.keys, self.times = self.keys[end:], self.times[end:]
        return taken

    def close(self) -> None:
        self._reader.close()


def merged(
    directory: Path, files: Sequence[DataFile], schema: pa.Schema, extra: Sequence[str] = ()
) -> Iterator[pa.Table]:
    """All rows of the files sorted by (key, time, extra), one of each; older files first decide ties as `rows` says.

    A key is whole in one batch, save one that alone has more than MAX_HELD_ROWS rows: it goes on in the next batch.
    Memory: about two row groups of each file and the batch made of them. Raises OSError and pyarrow's errors.
    """
    sources = [_Source(directory / file.name, schema) for file in sorted(files, key=lambda file: file.order)]
    try:
        held = schema.empty_table()
        for rows in _rounds(sources):
            batch = one_per_key_and_time(pa.concat_tables([held, *rows]), extra)
            end = _end_of_whole_keys(batch)
            if end:
                yield batch.slice(0, end)
            held = batch.slice(end)
        if held.num_rows:
            yield held.combine_chunks()
    finally:
        for source in sources:
            source.close()


def _rounds(sources: Sequence[_Source]) -> Iterator[list[pa.Table]]:
    """Rows that nothing still to be decoded can precede, by source; a (key, time) never falls into two rounds."""
    while True:
        for source in sources:
            source.refill()
        lasts = [source.last for source in sources if not source.exhausted]
        bound = min(lasts, default=None)
        for part in _parts(sources, bound):
            yield [source.take_before(part) for source in sources if len(source.keys)]
        yield [source.take_before(bound) for source in sources if len(source.keys)]
        if bound is None:
            return


def _parts(sources: Sequence[_Source], bound: tuple[int, int] | None) -> list[tuple[int, int]]:
    """Bounds below `bound` that cut what is decoded into batches of about _MAX_BATCH_ROWS."""
    count = sum(len(source.keys) for source in sources) // _MAX_BATCH_ROWS
    longest = max(sources, key=lambda source: len(source.keys)).keys
    places = np.arange(1, count + 1) * len(longest) // (count + 1)
    cuts = sorted({int(key) for key in longest[places]})
    return [(key, _FIRST_TIME) for key in cuts if bound is None or key <= bound[0]]


def _end_of_whole_keys(batch: pa.Table) -> int:
    """Where the last key begins, or the last (key, time) when that key is too long to be held."""
    if not batch.num_rows:
        return 0
    keys = int64_values(batch[KEY])
    start = int(np.searchsorted(keys, keys[-1]))
    if len(keys) - start <= MAX_HELD_ROWS:
        return start
    times = int64_values(batch[TIME])
    return start + int(np.searchsorted(times[start:], times[-1]))
