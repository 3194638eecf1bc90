"""A series store in memory that makes every answer anew from all it was given: slow, and obviously right.

It keeps no tiers and forgets nothing, so it says what a store should answer as long as nothing is too old.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from app.domain.resolution import HOUR_US, CivilDays, Resolution, from_us, to_us
from app.stores.series.copying import MANIFEST, Manifest, read_manifest
from app.stores.series.interface import CopiedPiece, Recomputed, SegmentLabel, StoreSize
from app.stores.series.rollup import KeyFacts
from app.stores.series.schema import INGESTED
from app.stores.series.tiers import FLEET, TIER_READ
from tests.helpers import plain_rollup

_EXTRA = {"raw": (), "registers": ("register",), "aux": ("channel", "kind")}


class MemorySeriesStore:
    """SeriesStore; see there."""

    def __init__(self, facts: KeyFacts, now_us: Callable[[], int]) -> None:
        self._facts = facts
        self._now_us = now_us
        self._labels: set[SegmentLabel] = set()
        self._rows: dict[str, list[dict[str, Any]]] = {name: [] for name in INGESTED}
        self._erased: set[int] = set()

    def append(self, label: SegmentLabel, tables: Mapping[str, pa.Table]) -> bool:
        if label in self._labels:
            return False
        self._labels.add(label)
        for name, table in tables.items():
            self._rows[name] += [row for row in table.to_pylist() if row["key"] not in self._erased]
        return True

    def held(self, keys: Collection[int]) -> Mapping[str, int]:
        return {name: sum(row["key"] in keys for row in rows) for name, rows in self._rows.items()} | {"removed": 0}

    def read(self, key: int, start_us: int, end_us: int, resolution: Resolution) -> pa.Table:
        if resolution is Resolution.RAW:
            return self._ingested("raw", key, start_us, end_us)
        rows = self._tiers(key)[resolution]
        found = [row | {"time": row["time"]} for row in rows if start_us <= row["time"] < end_us]
        for row in found:
            for name in ("time", "first_time", "last_time"):
                row[name] = from_us(row[name])
        return pa.Table.from_pylist(found, TIER_READ)

    def read_many(self, keys: Collection[int] | None, start_us: int, end_us: int) -> pa.Table:
        rows = plain_rollup.unique(self._rows["raw"])[0]
        found = [r for r in rows if start_us <= to_us(r["time"]) < end_us and (keys is None or r["key"] in keys)]
        return pa.Table.from_pylist(found, INGESTED["raw"])

    def read_registers(self, key: int, start_us: int, end_us: int) -> pa.Table:
        return self._ingested("registers", key, start_us, end_us)

    def read_aux(self, key: int, start_us: int, end_us: int) -> pa.Table:
        return self._ingested("aux", key, start_us, end_us)

    def read_group(self, group: int, start_us: int, end_us: int) -> pa.Table:
        return FLEET.empty_table()

    def latest(self, keys: Collection[int]) -> pa.Table:
        newest = {}
        for row in plain_rollup.unique(self._rows["raw"])[0]:
            if row["key"] in keys:
                newest[row["key"]] = row
        return pa.Table.from_pylist([newest[key] for key in sorted(newest)], INGESTED["raw"])

    def sizes(self) -> Mapping[str, StoreSize]:
        return {name: StoreSize(len(rows), 0, 0) for name, rows in self._rows.items()}

    def maintain(self, now_us: int) -> bool:
        return False

    def recompute(self, resolution: Resolution, keys: Collection[int], start_us: int, end_us: int) -> Recomputed:
        """Every answer is made anew here."""
        return Recomputed(0, 0)

    def delete_key(self, key: int) -> int:
        self._erased.add(key)
        before = sum(map(len, self._rows.values()))
        for name, rows in self._rows.items():
            self._rows[name] = [row for row in rows if row["key"] != key]
        return before - sum(map(len, self._rows.values()))

    def copy_out(self, folder: Path, start_us: int, end_us: int, *, keys: Collection[int] | None = None) -> int:
        folder.mkdir()
        counts = {}
        for name, schema in INGESTED.items():
            rows = plain_rollup.unique(self._rows[name], _EXTRA[name])[0]
            chosen = [r for r in rows if start_us <= to_us(r["time"]) < end_us and (keys is None or r["key"] in keys)]
            pq.write_table(pa.Table.from_pylist(chosen, schema), folder / f"{name}.parquet")
            counts[name] = len(chosen)
        manifest = Manifest(1, secrets.token_hex(16), start_us, end_us, None if keys is None else sorted(keys), counts)
        (folder / MANIFEST).write_bytes(msgspec.json.encode(manifest))
        return sum(counts.values())

    def copy_in(self, folder: Path) -> int:
        manifest = read_manifest(folder)
        tables = {name: pq.read_table(folder / f"{name}.parquet").cast(schema) for name, schema in INGESTED.items()}
        if not self.append(SegmentLabel(f"copy-{manifest.copy_id}", 1), tables):
            return 0
        return sum(table.num_rows for table in tables.values())

    def copy_in_pieces(self, folder: Path, *, after: int = 0) -> Iterator[CopiedPiece]:
        """One piece."""
        rows = sum(read_manifest(folder).rows.values())
        if not after:
            yield CopiedPiece(rows, self.copy_in(folder))

    def close(self) -> None:
        pass

    def _ingested(self, name: str, key: int, start_us: int, end_us: int) -> pa.Table:
        rows = plain_rollup.unique(self._rows[name], _EXTRA[name])[0]
        found = [row for row in rows if row["key"] == key and start_us <= to_us(row["time"]) < end_us]
        return pa.Table.from_pylist(found, INGESTED[name])

    def _tiers(self, key: int) -> dict[Resolution, list[dict[str, Any]]]:
        of_key = {
            name: [row for row in plain_rollup.unique(rows, _EXTRA[name])[0] if row["key"] == key]
            for name, rows in self._rows.items()
        }
        keys = np.array([key], np.int64)
        starts, ends = self._facts.paired_us(keys)
        paired = (int(starts[0]), int(ends[0]))
        period = int(self._facts.periods_ms(keys)[0]) or None
        now = self._now_us()
        ten = plain_rollup.roll_up(
            of_key["raw"], of_key["registers"], of_key["aux"], period_ms=period, paired=paired, until=now
        )
        # Copies of one time may have been merged away: how many there were is not for sure.
        days = CivilDays(self._facts.zone(key))
        hour = plain_rollup.combine(
            ten, lambda t: (t - t % HOUR_US, t - t % HOUR_US + HOUR_US), paired=paired, until=now
        )
        day = plain_rollup.combine(hour, lambda t: (days.start_of(t), days.next_start(t)), paired=paired, until=now)
        made = {Resolution.TEN_MIN: ten, Resolution.HOUR: hour, Resolution.DAY: day}
        return {resolution: plain_rollup.with_steps(rows) for resolution, rows in made.items()}
