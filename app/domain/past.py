"""A simulated past as it is handed to the stores: readings by the second, and what ten minutes of them come to."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]
Anys = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, slots=True)
class PastHome:
    """A module, the site that it measures, and how many registers the offer there has."""

    serial: str
    city: str
    postcode: str
    street: str
    delivery_point: str
    meter_serial: str
    registers: int


@dataclasses.dataclass(frozen=True, slots=True)
class PastSpan:
    """From when to when, UTC microseconds: `start_us` a civil midnight, the others whole ten minutes, raw an hour."""

    start_us: int
    ten_min_us: int
    raw_us: int
    end_us: int


@dataclasses.dataclass(frozen=True, slots=True)
class PastSeconds:
    """Readings of some homes (rows) by the second (columns) from `start_us`, a whole ten minutes."""

    start_us: int
    # (homes,): from the second's begin to its reading, less than a second.
    phase_us: Int64s
    # (homes, seconds): whether the reading arrived.
    arrived: npt.NDArray[np.bool_]
    boot_id: Int64s
    seq: Int64s
    power_va: Anys
    drawn_wh: Int64s
    injected_wh: Int64s
    register: Anys
    voltage_v: Anys
    current_a: Anys
    rssi_dbm: Anys
    frame_gap_ms: Anys
    lag_ms: Anys
    # (homes, registers): what each shows before the first second.
    registers_wh: Int64s
    # (homes,): whether the meter counts injected energy.
    injects: npt.NDArray[np.bool_]


@dataclasses.dataclass(frozen=True, slots=True)
class PastBuckets:
    """What the readings of some homes (rows) come to in each ten minutes (columns) from `start_us`.

    Columns are named as the store's; `first` and `last` are of the first and the last reading that arrived, `received`
    0 where none did.
    """

    start_us: int
    received: Int64s
    lost: Int64s
    first_us: Int64s
    last_us: Int64s
    first_boot_id: Int64s
    first_seq: Int64s
    last_boot_id: Int64s
    last_seq: Int64s
    va_mean: Anys
    va_mean_square: Anys
    va_min: Anys
    va_max: Anys
    drawn_first_wh: Int64s
    drawn_last_wh: Int64s
    injected_first_wh: Int64s
    injected_last_wh: Int64s
    # The register that ran, and (homes, buckets, registers) what each showed.
    register: Int64s
    registers_first_wh: Int64s
    registers_last_wh: Int64s
    rssi_p10: Int64s
    rssi_median: Int64s
    gap_median_ms: Int64s
    voltage_mean: Anys
    voltage_min: Anys
    voltage_max: Anys
    injects: npt.NDArray[np.bool_]
