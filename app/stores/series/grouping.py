"""Rows in consecutive groups, and what is taken of each group at once: the numpy under the roll-ups."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Anys = npt.NDArray[Any]

# Quantiles sort (group, value) as one integer: the value must fit here.
_VALUE_BITS = 32
_VALUE_OFFSET = 1 << (_VALUE_BITS - 1)


def numbers(table: pa.Table, name: str) -> tuple[Int64s, Bools | None]:
    """An integer or time column as int64 (0 where null), and which rows are known (None: all)."""
    column = table.column(name).combine_chunks()
    known = None
    if column.null_count:
        known = column.is_valid().to_numpy(zero_copy_only=False)
        column = column.fill_null(pa.scalar(0, column.type))
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    return column.to_numpy(zero_copy_only=False).astype(np.int64, copy=False), known


def floats(table: pa.Table, name: str) -> tuple[Anys, Bools | None]:
    """A float column in its own width, and which rows are known: not null and not nan (None: all)."""
    values: Anys = table.column(name).combine_chunks().to_numpy(zero_copy_only=False)
    unknown = np.isnan(values)
    return values, ~unknown if unknown.any() else None


def nullable(values: Anys, known: Bools | None, kind: pa.DataType) -> pa.Array:
    """An Arrow column, null where not known."""
    if pa.types.is_timestamp(kind):
        return pa.array(values.astype(np.int64, copy=False), mask=_mask(known)).cast(kind)
    return pa.array(values.astype(kind.to_pandas_dtype(), copy=False), kind, mask=_mask(known))


def _mask(known: Bools | None) -> Bools | None:
    return None if known is None or known.all() else ~known


def boundaries(*columns: Anys) -> Int64s:
    """Where a new group starts: wherever any of the sorted columns changes."""
    count = len(columns[0])
    if not count:
        return np.zeros(0, np.int64)
    changed = np.zeros(count, np.bool_)
    changed[0] = True
    for column in columns:
        changed[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(changed)


@dataclasses.dataclass(frozen=True, slots=True)
class Groups:
    """Rows of sorted data in groups: `ids` of each row (rising), among `total` groups; a group may have no row."""

    ids: Int64s
    total: int
    starts: Int64s
    present: Int64s

    @classmethod
    def of(cls, ids: Int64s, total: int) -> Groups:
        """From each row's group number, rising."""
        starts = boundaries(ids)
        return cls(ids, total, starts, ids[starts])

    @classmethod
    def from_starts(cls, starts: Int64s, count: int) -> Groups:
        """From the first row of each group."""
        lengths = np.diff(np.append(starts, count))
        total = len(starts)
        return cls(np.repeat(np.arange(total), lengths), total, starts, np.arange(total))

    def only(self, rows: Bools | None) -> Groups:
        """The chosen rows in the same groups."""
        return self if rows is None else Groups.of(self.ids[rows], self.total)

    @property
    def counts(self) -> Int64s:
        """Rows of each group."""
        counts = np.zeros(self.total, np.int64)
        counts[self.present] = np.diff(np.append(self.starts, len(self.ids)))
        return counts

    def known(self) -> Bools:
        """Which groups have a row."""
        known = np.zeros(self.total, np.bool_)
        known[self.present] = True
        return known

    def reduce(self, function: np.ufunc, values: Anys, kind: Any = None) -> Anys:
        """The ufunc over each group's values; 0 for a group without rows."""
        dtype = kind or values.dtype
        result = np.zeros(self.total, dtype)
        if len(self.starts):
            result[self.present] = function.reduceat(values, self.starts, dtype=dtype)
        return result

    def firsts(self, values: Anys) -> Anys:
        """Each group's first value."""
        result = np.zeros(self.total, values.dtype)
        result[self.present] = values[self.starts]
        return result

    def lasts(self, values: Anys) -> Anys:
        """Each group's last value."""
        result = np.zeros(self.total, values.dtype)
        if len(self.starts):
            result[self.present] = values[np.append(self.starts[1:], len(self.ids)) - 1]
        return result

    def within(self) -> Bools:
        """For each row but the first of all: whether the row before is of the same group."""
        same: Bools = self.ids[1:] == self.ids[:-1]
        return same

    def sum_of_steps(self, steps: Anys) -> Int64s:
        """Sums what was found between row i and i+1 (`steps[i]`, 0 across groups) into the group of row i+1."""
        if not len(self.ids):
            return np.zeros(self.total, np.int64)
        padded = np.zeros(len(self.ids), np.int64)
        padded[1:] = steps
        return self.reduce(np.add, padded)

    def quantiles(self, values: Int64s, shares: Sequence[tuple[int, int]]) -> list[Int64s]:
        """Nearest-rank quantiles of whole numbers below 2^31 in size, each share as (numerator, denominator)."""
        packed = (self.ids << _VALUE_BITS) | (values + _VALUE_OFFSET)
        packed.sort()
        lengths = np.diff(np.append(self.starts, len(self.ids)))
        results = []
        for top, bottom in shares:
            rank = (lengths * top + bottom - 1) // bottom - 1
            result = np.zeros(self.total, np.int64)
            result[self.present] = (packed[self.starts + rank] & ((1 << _VALUE_BITS) - 1)) - _VALUE_OFFSET
            results.append(result)
        return results

    def weighted_quantiles(self, values: Int64s, weights: Int64s, shares: Sequence[tuple[int, int]]) -> list[Int64s]:
        """Per group the smallest value at which the weights of values up to it reach the share of their sum."""
        order = np.lexsort((values, self.ids))
        values, weights = values[order], weights[order]
        running = np.cumsum(weights)
        ends = np.append(self.starts[1:], len(self.ids)) - 1
        before = running[self.starts] - weights[self.starts] if len(self.starts) else running
        totals = (running[ends] - before) if len(self.starts) else running
        results = []
        for top, bottom in shares:
            target = before + (totals * top + bottom - 1) // bottom
            result = np.zeros(self.total, np.int64)
            if len(self.starts):
                result[self.present] = values[np.searchsorted(running, target)]
            results.append(result)
        return results


def table_of(schema: pa.Schema, columns: dict[str, pa.Array]) -> pa.Table:
    """A table with exactly the schema's columns."""
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def concat(schema: pa.Schema, tables: Iterable[pa.Table]) -> pa.Table:
    """One table in one chunk; none gives an empty one."""
    parts = [table for table in tables if table.num_rows]
    if not parts:
        return schema.empty_table()
    return pa.concat_tables(parts).combine_chunks()


def in_order(keys: Int64s, times: Int64s) -> bool:
    """Whether rows are sorted by (key, time) with no pair twice."""
    if len(keys) < 2:
        return True
    rising = (keys[1:] > keys[:-1]) | ((keys[1:] == keys[:-1]) & (times[1:] > times[:-1]))
    return bool(rising.all())


def place(keys: Int64s, slots: Int64s, group_keys: Int64s, group_slots: Int64s) -> tuple[Int64s, Bools]:
    """Which of the groups, sorted by (key, slot), each row falls into, and whether it falls into any.

    Slots are small whole numbers (a bucket's number, not its time).
    """
    distinct, first = np.unique(group_keys, return_index=True)
    if not len(distinct):
        return np.zeros(len(keys), np.int64), np.zeros(len(keys), np.bool_)
    owner = np.repeat(np.arange(len(distinct)), np.diff(np.append(first, len(group_keys))))
    position = np.minimum(np.searchsorted(distinct, keys), len(distinct) - 1)
    low = group_slots.min()
    span = int(group_slots.max() - low) + 1
    inside = (distinct[position] == keys) & (slots >= low) & (slots < low + span)
    # The key's position and the slot beside each other are one sortable number.
    codes = position * span + np.where(inside, slots - low, 0)
    group_codes = owner * span + (group_slots - low)
    ids = np.minimum(np.searchsorted(group_codes, codes), len(group_codes) - 1)
    return ids, inside & (group_codes[ids] == codes)
