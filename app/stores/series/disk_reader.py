"""Reading a data folder beside the hub that writes it, or without one; nothing is ever written."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from app.domain.resolution import Resolution
from app.stores.errors import StoreDamaged, StoreUnavailable
from app.stores.journal import segment_format
from app.stores.journal.segment_format import Frame, NotASegment
from app.stores.series.delta import log as delta_log
from app.stores.series.delta.files import DataFile, ScanCount
from app.stores.series.delta.footers import Footers
from app.stores.series.delta.recovery import recover
from app.stores.series.delta.scan import Wanted, scan_files
from app.stores.series.delta_store import STATE_FOLDER
from app.stores.series.interface import StoreSize
from app.stores.series.overlay import Overlay, chosen
from app.stores.series.rollup import KeyFacts
from app.stores.series.schema import INGESTED
from app.stores.series.tables import SPECS
from app.stores.series.tier_memory import TierMemory
from app.stores.series.tiering import newest_log
from app.stores.storage import ReadOnlyStorage

# While we look, the hub may merge files, cut its log or delete a segment: then we look again.
_TRIES = 5
_PAUSE_S = 0.05


def open_reader(
    series: Path,
    journal: Path,
    *,
    facts: Callable[[], KeyFacts],
    now_us: Callable[[], int],
    keys: Collection[int] | None = None,
) -> DiskReader:
    """What a data directory's `series` and `journal` folders hold at this moment, as a snapshot that does not move on.

    Includes the journal's rows that no table has yet; with `keys` only rows of these keys, which takes less memory.
    Raises StoreUnavailable when the folders can not be read, StoreDamaged when they hold something else. The hub keeps
    removed files for 15 minutes: a reader open for longer may find some gone (StoreUnavailable).
    """
    for _ in range(_TRIES - 1):
        with contextlib.suppress(FileNotFoundError, StoreDamaged):
            return _snapshot(series, journal, facts, now_us, keys)
        time.sleep(_PAUSE_S)
    try:
        return _snapshot(series, journal, facts, now_us, keys)
    except OSError as problem:
        raise StoreUnavailable(series, problem) from problem


class DiskReader:
    """SeriesReader over a snapshot."""

    def __init__(self, overlay: Overlay, tables: Mapping[str, _TableView]) -> None:
        self._overlay = overlay
        self._tables = tables

    def read(self, key: int, start_us: int, end_us: int, resolution: Resolution) -> pa.Table:
        return self._overlay.read(key, start_us, end_us, resolution)

    def read_many(self, keys: Collection[int] | None, start_us: int, end_us: int) -> pa.Table:
        """RAW of several keys, or of all, rising by (key, time), one row for each."""
        return self._overlay.ingested("raw", keys, start_us, end_us)

    def read_registers(self, key: int, start_us: int, end_us: int) -> pa.Table:
        return self._overlay.registers(key, start_us, end_us)

    def read_aux(self, key: int, start_us: int, end_us: int) -> pa.Table:
        return self._overlay.aux(key, start_us, end_us)

    def read_group(self, group: int, start_us: int, end_us: int) -> pa.Table:
        return self._overlay.group(group, start_us, end_us)

    def latest(self, keys: Collection[int]) -> pa.Table:
        return self._overlay.newest(keys)

    def sizes(self) -> Mapping[str, StoreSize]:
        return {name: table.size() for name, table in self._tables.items()}

    def close(self) -> None:
        """Nothing is held open."""


class _TableView:
    """A table's live files at one moment; a table not made yet has none."""

    def __init__(self, directory: Path, schema: pa.Schema) -> None:
        self._directory = directory
        self._schema = schema
        self._footers = Footers(directory)
        self._files: tuple[DataFile, ...] = ()
        if (directory / delta_log.FOLDER).is_dir():
            storage = ReadOnlyStorage()
            self._files = recover(directory, delta_log.DeltaLog(directory, storage), storage).state.files()

    def scan(self, columns: Sequence[str] | None, wanted: Wanted) -> pa.Table:
        asked = self._schema if columns is None else pa.schema([self._schema.field(name) for name in columns])
        needed = pa.schema([*asked, *(self._schema.field(name) for name in ("key", "time") if name not in asked.names)])
        try:
            pieces = scan_files(self._directory, self._files, self._footers, needed, wanted, ScanCount())
        except OSError as problem:
            raise StoreUnavailable(self._directory, problem) from problem
        found = pa.concat_tables(pieces) if pieces else needed.empty_table()
        return found.select(asked.names)

    def size(self) -> StoreSize:
        return StoreSize(sum(file.rows for file in self._files), sum(file.size_bytes for file in self._files), 0)


class _Views:
    """Scanner over table views."""

    def __init__(self, folder: Path) -> None:
        self.tables = {name: _TableView(folder / name, spec.schema) for name, spec in SPECS.items()}

    def scan(
        self,
        table: str,
        *,
        columns: Sequence[str] | None = None,
        keys: Collection[int] | None = None,
        start_us: int | None = None,
        end_us: int | None = None,
    ) -> pa.Table:
        return self.tables[table].scan(columns, Wanted.of(keys, start_us, end_us))


def _snapshot(
    series: Path,
    journal: Path,
    facts: Callable[[], KeyFacts],
    now_us: Callable[[], int],
    keys: Collection[int] | None,
) -> DiskReader:
    # In this order what leaves one place has entered the next: journal, then state, then tables.
    tail = _journal_rows(journal, keys)
    state = TierMemory(newest_log(series / STATE_FOLDER)[0])
    views = _Views(series)
    overlay = Overlay(views, state, facts, now_us, lambda table: tail.get(table, []))
    return DiskReader(overlay, views.tables)


def _journal_rows(folder: Path, keys: Collection[int] | None) -> dict[str, list[pa.RecordBatch]]:
    """The rows of every segment, oldest first, as batches by table."""
    rows: dict[str, list[pa.RecordBatch]] = {name: [] for name in INGESTED}
    for path in sorted(folder.glob("*.wal")) if folder.is_dir() else []:
        for name, batch in _segment_rows(path):
            if name not in rows:
                continue
            found = [batch] if keys is None else chosen([batch], INGESTED[name], sorted(keys), None, None).to_batches()
            rows[name] += found
    return rows


def _segment_rows(path: Path) -> list[tuple[str, pa.RecordBatch]]:
    """A segment's whole frames; one just begun, torn or damaged gives what is sound of it (the hub reports damage)."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        # Appended to the tables since we looked: they are read after this.
        return []
    try:
        header = segment_format.decode_header(data)
    except NotASegment:
        return []
    return [
        (
            header.tables[found.table][0],
            pa.ipc.read_record_batch(pa.py_buffer(found.body), header.tables[found.table][1]),
        )
        for found in segment_format.frames(data, header.end, len(data))
        if isinstance(found, Frame) and found.table < len(header.tables)
    ]
