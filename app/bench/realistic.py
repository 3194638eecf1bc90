"""Readings as a fleet of Linky modules at 1 Hz sends them, made fast and always the same for one seed.

Calibrated on REDD house 5 at 1 s: 58 % of a home's power steps are zero, 95 % are at most 1, 1 % are above 5; the
readings here are no easier to compress (36 %, 82 %, 0.8 %). Power is VA in whole numbers, voltage in 0.1 V, current in
0.1 A; module time has some milliseconds of jitter and a drifting clock; arrival lags by tens of milliseconds with a
long tail; one reading in a thousand is lost.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from app.domain.reading import Origin, PowerKind
from app.stores.series.schema import RAW

Floats = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]

# Typical power (VA), share of time on, and how often it may switch (once in so many seconds at most).
_APPLIANCES = ((110.0, 0.4, 300), (900.0, 0.05, 60), (2100.0, 0.03, 60), (60.0, 0.5, 120))
_LOST = 0.001


class RealisticFleet:
    """A fleet that goes on where its last call ended; `keys` are its series keys, by order of arrival in a second."""

    def __init__(
        self,
        modules: int,
        *,
        seed: int = 1,
        start_us: int = 1_780_000_200_000_000,
        keys: Sequence[int] | None = None,
    ) -> None:
        self._random = random = np.random.default_rng(seed)
        self.modules = modules
        drawn = np.unique(random.integers(1, 2**63 - 1, modules + 16, dtype=np.int64))
        drawn = random.permutation(drawn)[:modules]
        self.keys: Integers = drawn if keys is None else np.array(keys, np.int64)
        self._order_by_key = np.argsort(self.keys)
        self._start_us = start_us
        self._seconds = 0
        self._phase_ms = np.sort(random.integers(0, 1000, modules))
        self._drift = random.normal(0, 20e-6, modules)
        self._boot_id = random.integers(1, 2**32, modules, dtype=np.int64)
        self._base_va = random.uniform(60, 400, modules).astype(np.float32)
        self._sizes = [(size * random.uniform(0.6, 1.6, modules)).astype(np.float32) for size, _, _ in _APPLIANCES]
        self._on = [random.random(modules) < share for _, share, _ in _APPLIANCES]
        self._index_wh = random.integers(1_000_000, 60_000_000, modules).astype(np.float64)
        self._volts = random.normal(233, 2.5, modules).astype(np.float32)
        self._lag_ms = random.uniform(8, 60, modules).astype(np.float32)
        self._rssi = random.uniform(-82, -48, modules).astype(np.float32)
        self._last_jitter = np.zeros(modules, np.float32)

    def in_order_of_arrival(self, seconds: int) -> pa.Table:
        """The next seconds, second by second, as ingest sees them."""
        return self._table(self._block(seconds), None)

    def in_order_of_keys(self, seconds: int) -> pa.Table:
        """The next seconds, sorted by (key, time)."""
        return self._table(self._block(seconds), self._order_by_key)

    def _block(self, seconds: int) -> dict[str, npt.NDArray[np.generic]]:
        random, shape = self._random, (seconds, self.modules)
        elapsed = np.arange(self._seconds, self._seconds + seconds)[:, None]
        jitter = np.rint(random.standard_normal(shape, np.float32) * 2.5)
        time_ms = elapsed * 1000 + self._phase_ms + np.rint(elapsed * 1000 * self._drift).astype(np.int64)
        gaps = 1000 + np.diff(jitter, axis=0, prepend=self._last_jitter[None, :])
        self._last_jitter = jitter[-1]
        power = self._power(seconds)
        energy = np.cumsum(power, axis=0, dtype=np.float64) / 3600 + self._index_wh
        self._index_wh = energy[-1]
        drift = np.cumsum(random.standard_normal(((seconds + 9) // 10, self.modules), np.float32) * 0.15, axis=0)
        drift += self._volts * np.float32(0.98) + np.float32(233 * 0.02)
        self._volts = drift[-1]
        volts = np.repeat(drift, 10, axis=0)[:seconds] - power * np.float32(0.0006)
        volts += random.standard_normal(shape, np.float32) * np.float32(0.12)
        slow = np.repeat(random.standard_normal(((seconds + 4) // 5, self.modules), np.float32), 5, axis=0)[:seconds]
        lag = self._lag_ms + random.standard_exponential(shape, np.float32) * 12
        # A module that retries on a weak radio link is late by up to seconds.
        lag += (random.random(shape, np.float32) < 0.005) * random.random(shape, np.float32) * 2000
        sequence = np.broadcast_to(elapsed, shape) + 1
        self._seconds += seconds
        return {
            "key": np.broadcast_to(self.keys, shape),
            "time": (self._start_us // 1000 + time_ms + jitter.astype(np.int64)) * 1000,
            "lag_ms": lag.astype(np.int32),
            "boot_id": np.broadcast_to(self._boot_id, shape),
            "seq": sequence,
            "power": power,
            "power_kind": np.broadcast_to(np.int8(PowerKind.APPARENT_VA), shape),
            "drawn_wh": energy.astype(np.int64),
            "register": np.broadcast_to((1 + (elapsed // 28_800) % 2).astype(np.int8), shape),
            "voltage_v": np.rint(volts * 10) / np.float32(10),
            "current_a": np.rint(power / volts * 10) / np.float32(10),
            "rssi_dbm": np.rint(self._rssi + slow * np.float32(1.2)).astype(np.int16),
            "frame_gap_ms": gaps.astype(np.int32),
            "state": np.broadcast_to(np.int32(0), shape),
            "origin": np.broadcast_to(np.int8(Origin.MEASURED), shape),
        }

    def _power(self, seconds: int) -> Floats:
        random, shape = self._random, (seconds, self.modules)
        second = np.arange(seconds)[:, None]
        power = np.broadcast_to(self._base_va, shape).copy()
        for number, (_size, share, interval) in enumerate(_APPLIANCES):
            for begin in range(0, seconds, interval):
                end = min(begin + interval, seconds)
                # Long-run share of time on, at about one switch in ten intervals.
                wanted = random.random(self.modules) < share
                after = np.where(
                    random.random(self.modules) < 0.2 * min(1, (end - begin) / interval), wanted, self._on[number]
                )
                when = random.integers(begin, end, self.modules)
                on = np.where(second[begin:end] < when, self._on[number], after)
                power[begin:end] += on * self._sizes[number]
                self._on[number] = after
        noise = random.standard_normal(shape, np.float32)
        power += noise * (np.float32(0.45) + power * np.float32(0.0008))
        return np.rint(np.maximum(power, 0))

    def _table(self, block: dict[str, npt.NDArray[np.generic]], modules: npt.NDArray[np.intp] | None) -> pa.Table:
        first = block["key"]
        kept = np.flatnonzero(self._random.random(first.size, np.float32) >= _LOST)
        arrays = []
        for field in RAW:
            values = block[field.name]
            flat = values.ravel() if modules is None else values[:, modules].T.ravel()
            column = pa.array(flat[kept])
            arrays.append(column.cast(field.type) if column.type != field.type else column)
        return pa.Table.from_arrays(arrays, schema=RAW)
