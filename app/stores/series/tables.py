"""The Delta tables of one data folder, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from app.stores.failpoints import FailPoints
from app.stores.series.delta.files import CommitLabel
from app.stores.series.delta.table import SeriesTable, TableOptions
from app.stores.series.schema import AUX, RAW, REGISTERS
from app.stores.series.tiers import FLEET, TIER_REGISTERS, TIER_STORED
from app.stores.series.versions import join_registers, split_registers
from app.stores.storage import Storage


@dataclasses.dataclass(frozen=True, slots=True)
class TableSpec:
    """A table's name on disk, its schema, and the columns that tell rows of one (key, time) apart."""

    name: str
    schema: pa.Schema
    extra_key: tuple[str, ...] = ()
    of_key: bool = True  # whether `key` is a series key, so that deleting one concerns the table


TABLES = (
    TableSpec("raw", RAW),
    TableSpec("registers", REGISTERS, ("register",)),
    TableSpec("aux", AUX, ("channel", "kind")),
    TableSpec("ten_min", TIER_STORED, ("part",)),
    TableSpec("ten_min_registers", TIER_REGISTERS, ("part", "register")),
    TableSpec("hour", TIER_STORED, ("part",)),
    TableSpec("hour_registers", TIER_REGISTERS, ("part", "register")),
    TableSpec("day", TIER_STORED, ("part",)),
    TableSpec("day_registers", TIER_REGISTERS, ("part", "register")),
    TableSpec("fleet", FLEET, of_key=False),
)
SPECS = {spec.name: spec for spec in TABLES}


class Scanner(Protocol):
    """Where rows are read from: the store's own tables, or another process's view of them."""

    def scan(
        self,
        table: str,
        *,
        columns: Sequence[str] | None = None,
        keys: Collection[int] | None = None,
        start_us: int | None = None,
        end_us: int | None = None,
    ) -> pa.Table:
        """Rows as stored with start_us <= time < end_us, of the keys (None: all), oldest commit first."""
        ...


def scan_tier(
    scanner: Scanner, tier: str, keys: Collection[int] | None, start_us: int | None, end_us: int | None
) -> pa.Table:
    """TIER rows as stored (every version and part)."""
    # Registers after the rows they belong to: what is committed between the two scans has its rows in neither or both.
    stored = scanner.scan(tier, keys=keys, start_us=start_us, end_us=end_us)
    registers = scanner.scan(f"{tier}_registers", keys=keys, start_us=start_us, end_us=end_us)
    return join_registers(stored, registers)


class Tables:
    """Opens and holds them all; any thread may call (see SeriesTable)."""

    def __init__(
        self,
        folder: Path,
        *,
        keep_s: float = 900,
        failpoints: FailPoints | None = None,
        storage: Storage | None = None,
    ) -> None:
        """`keep_s`: how long removed files stay for readers."""
        self.folder = folder
        self._tables: dict[str, SeriesTable] = {}
        for spec in TABLES:
            options = TableOptions(extra_key=spec.extra_key, keep_s=keep_s)
            self._tables[spec.name] = SeriesTable.open(folder / spec.name, spec.schema, options, failpoints, storage)

    def __getitem__(self, name: str) -> SeriesTable:
        return self._tables[name]

    def __iter__(self) -> Iterator[tuple[TableSpec, SeriesTable]]:
        return ((SPECS[name], table) for name, table in self._tables.items())

    def scan(
        self,
        table: str,
        *,
        columns: Sequence[str] | None = None,
        keys: Collection[int] | None = None,
        start_us: int | None = None,
        end_us: int | None = None,
    ) -> pa.Table:
        """See Scanner."""
        return self._tables[table].scan(columns, keys=keys, start_us=start_us, end_us=end_us)

    def append_tier(self, tier: str, rows: pa.Table, label: CommitLabel | None = None) -> int | None:
        """Appends TIER rows; None when the label was there already."""
        stored, registers = split_registers(rows)
        # The registers first: rows of a version without its registers would be taken for having none.
        if registers.num_rows:
            self._tables[f"{tier}_registers"].append(registers, label=label)
        return self._tables[tier].append(stored, label=label)

    def close(self) -> None:
        for table in self._tables.values():
            table.close()
