"""A module's readings and their completeness, as anyone outside may see them: by serial, never by series key."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.domain.completeness import Reason
from app.domain.errors import OperatorInputError
from app.domain.keys import SupplyPeriod
from app.domain.resolution import Resolution, widest_us
from app.stores.registry.faults import UnknownNameError
from app.stores.registry.registry import Registry
from app.stores.series.interface import SeriesReader
from app.stores.series.schema import AUX, RAW, REGISTERS
from app.stores.series.tiers import TIER_READ

# A day of one second is 86,400 rows; raw retention bounds what can be there, this bounds what is asked.
LONGEST_RAW_US = 62 * 86_400_000_000
# Rows travel in pieces of this many: a piece of JSON is made in some 10 ms.
ROWS_AT_ONCE = 5_000

# Words for the numbers of PowerKind (0: unknown) and Origin.
_KINDS = pa.array([None, "W", "VA"], pa.string())
_ORIGINS = pa.array(["measured", "re_sent", "imported"], pa.string())


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """One question: UTC microseconds, half-open; `table` is readings, registers or aux (those have no buckets)."""

    serial: str
    channel: int
    start_us: int
    end_us: int
    every: Resolution = Resolution.RAW
    table: str = "readings"


@dataclasses.dataclass(frozen=True, slots=True)
class Completeness:
    """What was due in a range, and what came. Counts of buckets whose period is unknown are left out of `expected`.

    `share` is received (duplicates left out) over expected, at most 1; None where nothing was due.
    """

    expected: int
    received: int
    late: int
    duplicate: int
    lost: int
    reasons: tuple[str, ...]

    @property
    def share(self) -> float | None:
        """See above."""
        return None if not self.expected else min(1.0, (self.received - self.duplicate) / self.expected)


class Readings:
    """Answers from the series store; every method blocks."""

    def __init__(self, registry: Registry, store: SeriesReader) -> None:
        self._registry = registry
        self._store = store

    def tables(self, asked: Asked) -> tuple[pa.Schema, Iterator[pa.Table]]:
        """The columns, and a table for each supply period in the range, oldest first.

        A bucket in which one period ends and the next begins has a row for each: what each of them has of it.
        `power_kind` and `origin` are words (W, VA; measured, re_sent, imported), `time` is UTC microseconds.
        Raises UnknownNameError, OperatorInputError for a range that can not be.
        """
        if asked.start_us >= asked.end_us:
            raise OperatorInputError("from_us must lie before to_us")
        if asked.every is Resolution.RAW and asked.end_us - asked.start_us > LONGEST_RAW_US:
            raise OperatorInputError("raw readings are asked for 62 days at most; use buckets (every=10m) for more")
        if asked.table != "readings" and asked.every is not Resolution.RAW:
            raise OperatorInputError(f"table {asked.table} has no buckets; use every=raw")
        periods = self._periods(asked)
        schema = shown_schema(asked.every, asked.table)
        return schema, (
            shown(
                self._read(
                    period.key,
                    max(asked.start_us, _first_us(period, asked.every)),
                    min(asked.end_us, asked.end_us if period.to_us is None else period.to_us),
                    asked,
                ),
                schema,
            )
            for period in periods
        )

    def completeness(self, asked: Asked) -> tuple[Completeness, pa.Table]:
        """Over the range at `asked.every` (10m, 1h or 1d): the sum, and expected, received, ... of each bucket."""
        if asked.every is Resolution.RAW:
            raise OperatorInputError("completeness is counted in buckets: every is 10m, 1h or 1d")
        _schema, tables = self.tables(asked)
        names = ["time", "expected", "received", "late", "duplicate", "lost", "reasons"]
        buckets = pa.concat_tables([table.select(names) for table in tables] or [_empty(names)])
        sums = {name: pc.sum(buckets[name]).as_py() or 0 for name in names[1:6]}
        reasons = int(np.bitwise_or.reduce(buckets["reasons"].to_numpy())) if buckets.num_rows else 0
        return Completeness(**sums, reasons=reason_words(reasons)), buckets

    def _periods(self, asked: Asked) -> list[SupplyPeriod]:
        record = self._registry.module(asked.serial)
        if record is None:
            raise UnknownNameError("module", asked.serial)
        if asked.channel not in record.channels:
            raise UnknownNameError("channel", f"{asked.channel} of module {asked.serial}")
        return [
            period
            for period in self._registry.periods(asked.serial, asked.channel).periods
            if _first_us(period, asked.every) < asked.end_us and (period.to_us is None or period.to_us > asked.start_us)
        ]

    def _read(self, key: int, start_us: int, end_us: int, asked: Asked) -> pa.Table:
        if asked.table == "registers":
            return self._store.read_registers(key, start_us, end_us)
        if asked.table == "aux":
            return self._store.read_aux(key, start_us, end_us)
        return self._store.read(key, start_us, end_us, asked.every)


def _first_us(period: SupplyPeriod, every: Resolution) -> int:
    """From when on its key can have rows: the bucket in which a period begins has begun before it."""
    return period.from_us - widest_us(every) + 1


def reason_words(bits: int) -> tuple[str, ...]:
    """Why a bucket is not simply complete, in words."""
    return tuple(reason.name.lower() for reason in Reason if bits & reason and reason.name)


def shown_schema(every: Resolution, table: str) -> pa.Schema:
    """The columns of an answer: the store's, without the key, kinds and origins as words."""
    stored = {"registers": REGISTERS, "aux": AUX}.get(table, RAW if every is Resolution.RAW else TIER_READ)
    return pa.schema(
        [
            pa.field(field.name, pa.string()) if field.name in {"power_kind", "origin"} else field
            for field in stored
            if field.name != "key"
        ]
    )


def _empty(names: list[str]) -> pa.Table:
    return pa.schema([TIER_READ.field(name) for name in names]).empty_table()


def shown(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The store's rows with the columns of `shown_schema`, or with some of them."""
    columns = []
    for field in schema:
        column = table[field.name]
        if field.name == "power_kind":
            column = pc.take(_KINDS, column.combine_chunks().fill_null(0))
        elif field.name == "origin":
            column = pc.take(_ORIGINS, column.combine_chunks())
        columns.append(column)
    return pa.Table.from_arrays(columns, schema=schema)
