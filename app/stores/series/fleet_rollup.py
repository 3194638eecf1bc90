"""The fleet's sums made anew from raw readings, vectorised: the same figures as `fleet.FleetSums` gives live."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from app.domain.reading import PowerKind
from app.domain.resolution import SECOND_US
from app.stores.series.fleet import LONGEST_STEP_US
from app.stores.series.grouping import Groups, Int64s, boundaries, concat, floats, nullable, numbers, table_of
from app.stores.series.schema import UTC_MICROSECONDS
from app.stores.series.tiers import FLEET, FLEET_BUCKET_US, FLEET_GROUP

_HOUR_US = 3_600.0 * SECOND_US
Anys = npt.NDArray[Any]


def fleet_source(before: pa.Table, raw: pa.Table) -> pa.Table:
    """What `fleet_rows` needs: of the rows before the window (sorted, unique) the index, of its own also the power."""
    names = ["key", "time", "drawn_wh", "power", "power_kind"]
    if not before.num_rows:
        return raw.select(names)
    lead = before.select(names[:3])
    for name in names[3:]:
        field = raw.schema.field(name)
        lead = lead.append_column(field, pa.nulls(lead.num_rows, field.type))
    both = pa.concat_tables([lead, raw.select(names)]).combine_chunks()
    # Per key the rows before come first, in order, so a stable sort by key alone is enough.
    keys = numbers(both, "key")[0]
    return both.take(pa.array(np.argsort(keys, kind="stable"))).combine_chunks()


def fleet_rows(raw: pa.Table, cities: Int64s, start_us: int, end_us: int, version: int) -> pa.Table:
    """FLEET rows of [start_us, end_us) from raw rows (sorted by (key, time), unique) of [start_us - LEAD_US, end_us).

    Both times are multiples of 10 s; `cities[i]` is the city of raw row i's key. Rows made of different keys add up
    (`added`).
    """
    if not raw.num_rows:
        return FLEET.empty_table()
    keys, times = numbers(raw, "key")[0], numbers(raw, "time")[0]
    buckets = (times - start_us) // FLEET_BUCKET_US
    starts = boundaries(keys, buckets)
    groups = Groups.from_starts(starts, len(keys))
    sums = _Sums(cities[starts], buckets[starts], (end_us - start_us) // FLEET_BUCKET_US)
    heard = np.ones(groups.total)
    sums.add("reporting", np.arange(groups.total), heard)
    power, power_known = floats(raw, "power")
    kind, _ = numbers(raw, "power_kind")
    for prefix, wanted in (("va", PowerKind.APPARENT_VA), ("w", PowerKind.ACTIVE_W)):
        chosen = kind == wanted if power_known is None else (kind == wanted) & power_known
        of_kind = groups.only(None if chosen.all() else chosen)
        if len(of_kind.ids):
            values = (power if chosen.all() else power[chosen]).astype(np.float64)
            mean = of_kind.reduce(np.add, values)[of_kind.present] / of_kind.counts[of_kind.present]
            sums.add(f"{prefix}_sum", of_kind.present, mean)
            sums.add(f"{prefix}_modules", of_kind.present, np.ones(len(mean)))
    _add_power(raw, keys, times, groups, sums)
    return sums.rows(start_us, version)


def _add_power(raw: pa.Table, keys: Int64s, times: Int64s, groups: Groups, sums: _Sums) -> None:
    drawn, known = numbers(raw, "drawn_wh")
    indexed = groups.only(known)
    at = indexed.present
    if not len(at):
        return
    last_wh = indexed.lasts(drawn if known is None else drawn[known])[at]
    last_us = indexed.lasts(times if known is None else times[known])[at]
    key = keys[groups.starts][at]
    grown, took = np.diff(last_wh), np.diff(last_us)
    sound = (key[1:] == key[:-1]) & (took <= LONGEST_STEP_US) & (grown >= 0)
    # A rate holds until the next reading is due, or the next bucket that has one.
    until = np.where(sound, last_us[1:] + took, 0)
    bucket = sums.buckets[at][1:]
    following = np.append(np.where(key[2:] == key[1:-1], bucket[1:], np.iinfo(np.int64).max), np.iinfo(np.int64).max)
    due = -(-(until - last_us[1:] + last_us[1:] % FLEET_BUCKET_US) // FLEET_BUCKET_US) + bucket
    lasts = np.where(sound, np.clip(np.minimum(following, due) - bucket, 1, None), 0)
    item = np.repeat(np.arange(len(lasts)), lasts)
    offset = np.arange(len(item)) - np.repeat(np.cumsum(lasts) - lasts, lasts)
    rate = grown * _HOUR_US / np.maximum(took, 1)
    sums.add("power_w", at[1:][item], rate[item], offset)
    sums.add("counted", at[1:][item], np.ones(len(item)), offset)


class _Sums:
    """Sums per city and bucket of what (key, bucket) groups contribute; the fleet is the sum of all."""

    def __init__(self, cities: Int64s, buckets: Int64s, count: int) -> None:
        self.buckets = buckets
        self._count = count
        self._numbers, self._city = np.unique(np.append(cities, FLEET_GROUP), return_inverse=True)
        self._totals: dict[str, Anys] = {}

    def add(self, name: str, groups: Int64s, values: Anys, offset: Int64s | None = None) -> None:
        """Adds values of groups to their bucket, or to one `offset` buckets later, where that is in the range."""
        bucket = self.buckets[groups] if offset is None else self.buckets[groups] + offset
        inside = (bucket >= 0) & (bucket < self._count)
        cell = self._city[groups[inside]] * self._count + bucket[inside]
        total: Anys = np.bincount(cell, values[inside].astype(np.float64), len(self._numbers) * self._count)
        self._totals[name] = total

    def rows(self, start_us: int, version: int) -> pa.Table:
        shape = (len(self._numbers), self._count)
        totals = {name: self._table(name, shape) for name in FLEET.names[3:]}
        city, bucket = np.nonzero((totals["reporting"] > 0) | (totals["counted"] > 0))
        columns = {
            "key": pa.array(self._numbers[city].astype(np.int64)),
            "time": pa.array(start_us + bucket * FLEET_BUCKET_US).cast(UTC_MICROSECONDS),
            "version": pa.array(np.full(len(city), version, np.int64)),
        }
        known = {"power_w": "counted", "va_sum": "va_modules", "w_sum": "w_modules"}
        for name, values in totals.items():
            there = totals[known[name]][city, bucket] > 0 if name in known else None
            columns[name] = nullable(values[city, bucket], there, FLEET.field(name).type)
        return table_of(FLEET, columns)

    def _table(self, name: str, shape: tuple[int, int]) -> Anys:
        total = self._totals.get(name, np.zeros(shape[0] * shape[1])).reshape(shape)
        # Group 0 holds the modules of no city until here.
        total[0] = total.sum(axis=0)
        return total


def added(parts: list[pa.Table]) -> pa.Table:
    """FLEET rows of disjoint sets of modules, summed up per (group, time)."""
    rows = concat(FLEET, parts)
    if not rows.num_rows:
        return rows
    summed = rows.group_by(["key", "time"]).aggregate(
        [("version", "max")] + [(name, "sum") for name in FLEET.names[3:]]
    )
    columns = {"key": summed["key"], "time": summed["time"], "version": summed["version_max"]}
    columns |= {name: summed[f"{name}_sum"] for name in FLEET.names[3:]}
    whole = pa.table({name: columns[name].cast(FLEET.field(name).type) for name in FLEET.names}, schema=FLEET)
    return whole.sort_by([("key", "ascending"), ("time", "ascending")]).combine_chunks()
