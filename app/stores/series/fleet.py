"""Sums over the fleet and its cities, one row per 10 s.

A Linky's index steps by 1 Wh: one home steps 0 to 25 times in 10 s, so its own share is coarse (360 W a step); only the
sum over many homes means something. Power in W is therefore never read off one module here.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from app.domain.reading import PowerKind
from app.domain.resolution import SECOND_US
from app.stores.series.grouping import Int64s, concat, nullable, table_of
from app.stores.series.schema import UTC_MICROSECONDS
from app.stores.series.tiers import FLEET, FLEET_BUCKET_US, FLEET_GROUP

# A bucket closes this long after its end; what comes later counts when the window is made anew from raw.
LATENESS_US = 30 * SECOND_US
# An index step over a longer gap is no power of these 10 s: the module was away.
LONGEST_STEP_US = 60 * SECOND_US
# To know each module's step into a window and its rate at its start, readings from this long before are needed.
LEAD_US = 2 * LONGEST_STEP_US + FLEET_BUCKET_US
# Buckets are held open this far ahead of the newest closed one; readings of a clock further ahead wait for the roll-up.
_AHEAD_US = 120 * SECOND_US

_HOUR_S = 3600.0


@dataclasses.dataclass(slots=True)
class _Bucket:
    """What came in one 10 s, by slot."""

    heard: npt.NDArray[np.bool_]
    index_time: Int64s
    index_wh: Int64s
    va_sum: npt.NDArray[np.float64]
    va_count: npt.NDArray[np.int32]
    w_sum: npt.NDArray[np.float64]
    w_count: npt.NDArray[np.int32]

    @classmethod
    def of(cls, slots: int) -> _Bucket:
        return cls(
            np.zeros(slots, np.bool_),
            np.zeros(slots, np.int64),
            np.zeros(slots, np.int64),
            np.zeros(slots, np.float64),
            np.zeros(slots, np.int32),
            np.zeros(slots, np.float64),
            np.zeros(slots, np.int32),
        )

    def grow(self, slots: int) -> None:
        for field in dataclasses.fields(self):
            array = getattr(self, field.name)
            setattr(self, field.name, np.concatenate([array, np.zeros(slots - len(array), array.dtype)]))


class FleetSums:
    """Adds live batches up; one row per group and 10 s once the bucket is closed. For one thread.

    power_w of a bucket: over modules heard in it, the index's growth since the last reading before the bucket, divided
    by the time between the two; a module that reports more seldom than each 10 s keeps its rate until its next reading
    is due.
    """

    def __init__(self) -> None:
        self._groups = np.zeros(0, np.int32)
        self._carry_time = np.zeros(0, np.int64)
        self._carry_wh = np.zeros(0, np.int64)
        self._rate_w = np.zeros(0, np.float64)
        self._rate_until = np.zeros(0, np.int64)
        self._buckets: dict[int, _Bucket] = {}
        self._closed_until: int | None = None
        self.passed_over = 0

    def set_groups(self, groups: npt.NDArray[np.int32]) -> None:
        """City number by slot, 0 = none; more slots than before make room for new modules."""
        more = len(groups) - len(self._groups)
        self._groups = groups.astype(np.int32)
        if more > 0:
            for name in ("_carry_time", "_carry_wh", "_rate_w", "_rate_until"):
                array = getattr(self, name)
                setattr(self, name, np.concatenate([array, np.zeros(more, array.dtype)]))
            for bucket in self._buckets.values():
                bucket.grow(len(groups))

    def observe(
        self,
        slots: npt.NDArray[np.intp],
        time_us: Int64s,
        drawn_wh: Int64s,
        power: npt.NDArray[Any],
        kind: npt.NDArray[np.int8],
    ) -> None:
        """Takes readings, in any order; `drawn_wh` below 0 and `power` nan are unknown.

        What falls into a closed bucket, or too far ahead, is passed over here and counted (`passed_over`).
        """
        buckets = time_us - time_us % FLEET_BUCKET_US
        if self._closed_until is None and len(time_us):
            self._closed_until = int(buckets.min())
        low = self._closed_until or 0
        for start in np.unique(buckets):
            rows = np.flatnonzero(buckets == start)
            if start < low or start > low + _AHEAD_US:
                self.passed_over += len(rows)
                continue
            if (bucket := self._buckets.get(int(start))) is None:
                bucket = self._buckets[int(start)] = _Bucket.of(len(self._groups))
            self._add(bucket, slots[rows], time_us[rows], drawn_wh[rows], power[rows], kind[rows])

    def close_until(self, now_us: int, version: int) -> pa.Table:
        """FLEET rows of the buckets that ended LATENESS_US before now and were not given yet, oldest first."""
        horizon = now_us - LATENESS_US
        horizon -= horizon % FLEET_BUCKET_US
        parts = []
        if self._closed_until is not None and horizon > self._closed_until:
            # Held rates go on for LONGEST_STEP_US into silence; then there is nothing to say until somebody speaks.
            due = set(self._buckets)
            for bucket in tuple(due):
                due.update(range(bucket, bucket + LONGEST_STEP_US + 1, FLEET_BUCKET_US))
            due.update(range(self._closed_until, self._closed_until + LONGEST_STEP_US, FLEET_BUCKET_US))
            parts = [
                self._closed(start, self._buckets.pop(start, None), version)
                for start in sorted(due)
                if self._closed_until <= start < horizon
            ]
            self._closed_until = horizon
        return concat(FLEET, parts)

    def _add(
        self,
        bucket: _Bucket,
        slots: npt.NDArray[np.intp],
        time_us: Int64s,
        drawn_wh: Int64s,
        power: npt.NDArray[Any],
        kind: npt.NDArray[np.int8],
    ) -> None:
        bucket.heard[slots] = True
        for wanted, total, count in (
            (PowerKind.APPARENT_VA, bucket.va_sum, bucket.va_count),
            (PowerKind.ACTIVE_W, bucket.w_sum, bucket.w_count),
        ):
            chosen = (kind == wanted) & ~np.isnan(power)
            if chosen.any():
                np.add.at(total, slots[chosen], power[chosen].astype(np.float64))
                np.add.at(count, slots[chosen], 1)
        rows = np.flatnonzero((drawn_wh >= 0) & (time_us >= bucket.index_time[slots]))
        if len(rows) > 1 and (np.diff(time_us[rows]) < 0).any():
            # With a slot twice, numpy keeps the last assignment: that must be the newest.
            rows = rows[np.argsort(time_us[rows], kind="stable")]
        bucket.index_time[slots[rows]] = time_us[rows]
        bucket.index_wh[slots[rows]] = drawn_wh[rows]

    def _closed(self, start: int, bucket: _Bucket | None, version: int) -> pa.Table:
        if bucket is not None:
            self._take_steps(bucket)
        counted = np.flatnonzero(self._rate_until > start)
        total = 1 + int(self._groups.max(initial=0))

        def sums(slots: npt.NDArray[np.intp], values: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
            by_group = np.bincount(self._groups[slots], values, total)
            # The fleet is the sum of all, those of no city among them.
            by_group[FLEET_GROUP] = len(slots) if values is None else values.sum()
            return by_group

        nobody = np.zeros(0, np.intp)
        heard = nobody if bucket is None else np.flatnonzero(bucket.heard)
        reporting, in_power, power = sums(heard), sums(counted), sums(counted, self._rate_w[counted])
        columns: dict[str, pa.Array] = {}
        rows = (reporting > 0) | (in_power > 0)
        for prefix in ("va", "w"):
            with_power, mean = nobody, np.zeros(0)
            if bucket is not None:
                count, values = getattr(bucket, f"{prefix}_count"), getattr(bucket, f"{prefix}_sum")
                with_power = np.flatnonzero(count)
                mean = values[with_power] / count[with_power]
            modules = sums(with_power)[rows]
            columns[f"{prefix}_modules"] = nullable(modules, None, pa.int32())
            columns[f"{prefix}_sum"] = nullable(sums(with_power, mean)[rows], modules > 0, pa.float64())
        groups = np.flatnonzero(rows)
        columns["key"] = pa.array(groups.astype(np.int64))
        columns["time"] = pa.array(np.full(len(groups), start, np.int64)).cast(UTC_MICROSECONDS)
        columns["version"] = pa.array(np.full(len(groups), version, np.int64))
        columns["reporting"] = nullable(reporting[rows], None, pa.int32())
        columns["counted"] = nullable(in_power[rows], None, pa.int32())
        columns["power_w"] = nullable(power[rows], in_power[rows] > 0, pa.float64())
        return table_of(FLEET, columns)

    def _take_steps(self, bucket: _Bucket) -> None:
        slots = np.flatnonzero(bucket.index_time)
        time, index = bucket.index_time[slots], bucket.index_wh[slots]
        took = time - self._carry_time[slots]
        grown = index - self._carry_wh[slots]
        sound = (self._carry_time[slots] > 0) & (took <= LONGEST_STEP_US) & (grown >= 0)
        rate = grown * _HOUR_S * SECOND_US / np.maximum(took, 1)
        self._rate_w[slots] = np.where(sound, rate, 0.0)
        self._rate_until[slots] = np.where(sound, time + took, 0)
        self._carry_time[slots] = time
        self._carry_wh[slots] = index
