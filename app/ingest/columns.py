"""Turns readings into Arrow columns: the raw table, registers and aux, stamped once."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from app.domain.reading import PowerKind, Reading, StateBit
from app.stores.series.schema import AUX, RAW, REGISTERS, UTC_MICROSECONDS

Int64s = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

_FIELDS = tuple(field.name for field in msgspec.structs.fields(Reading))
_AT = {name: position for position, name in enumerate(_FIELDS)}

# What goes to aux: field, channel (phase), kind, unit.
AUX_FIELDS = (
    ("injected_wh", 1, "injected_energy", "Wh"),
    ("voltage_2_v", 2, "voltage", "V"),
    ("voltage_3_v", 3, "voltage", "V"),
    ("current_2_a", 2, "current", "A"),
    ("current_3_a", 3, "current", "A"),
    ("gas_m3", 1, "gas", "m3"),
    ("water_m3", 1, "water", "m3"),
    ("heat_gj", 1, "heat", "GJ"),
)


@dataclasses.dataclass(slots=True)
class Columns:
    """Readings side by side, before they have a key. Row i belongs to module slot `slots[i]`.

    `time_us` is the module's time where it had one, else the arrival (with StateBit.STAMPED_ON_ARRIVAL set).
    `power` and the other floats hold nan where nothing was measured.
    """

    slots: npt.NDArray[np.intp]
    arrival_us: Int64s
    time_us: Int64s
    state: npt.NDArray[np.int32]
    resent: npt.NDArray[np.bool_]
    power: Floats
    power_kind: npt.NDArray[np.int8]
    nullable: dict[str, pa.Array]
    registers: tuple[dict[int, int] | None, ...] | None
    aux: list[tuple[int, str, str, pa.Array]]
    readings: Sequence[Reading]

    def __len__(self) -> int:
        return len(self.slots)

    def withhold_instants(self, rows: npt.NDArray[np.bool_]) -> None:
        """Leave these rows their index alone: an instant's power is finer than their customer's consent."""
        self.power_kind = np.where(rows, 0, self.power_kind).astype(np.int8)
        for name in ("voltage_v", "current_a"):
            values = self.nullable[name]
            self.nullable[name] = pc.if_else(pa.array(rows), pa.scalar(None, values.type), values)


def gather(slots: Sequence[int], readings: Sequence[Reading], arrival_us: Int64s) -> Columns:
    """The columns of these readings; one pass in C per field, nothing per reading in Python."""
    columns: list[tuple[Any, ...]] = list(
        # Not strict: a Tele has one field more, the version, behind those of a Reading.
        zip(*map(msgspec.structs.astuple, readings), strict=False)
    )
    count = len(readings)

    def column(name: str) -> tuple[Any, ...]:
        return columns[_AT[name]]

    def absent(name: str) -> bool:
        return column(name).count(None) == count

    def nullable(name: str, kind: pa.DataType) -> pa.Array:
        values = column(name)
        return pa.nulls(count, kind) if values.count(None) == count else pa.array(values, kind)

    times = pa.array(column("time_ms"), pa.int64())
    state = np.zeros(count, np.int32) if absent("state") else _filled(pa.array(column("state"), pa.int32()), 0)
    if times.null_count:
        unstamped = times.is_null().to_numpy(zero_copy_only=False)
        time_us = np.where(unstamped, arrival_us, _filled(times, 0) * 1000)
        state = np.where(unstamped, state | StateBit.STAMPED_ON_ARRIVAL, state).astype(np.int32)
    else:
        time_us = times.to_numpy() * 1000

    aux = [
        (channel, kind, unit, nullable(name, pa.float64()))
        for name, channel, kind, unit in AUX_FIELDS
        if not absent(name)
    ]
    power, power_kind = _power(nullable("active_w", pa.float32()), nullable("apparent_va", pa.float32()), aux)
    resent = np.zeros(count, np.bool_)
    if not absent("resent"):
        resent = np.fromiter((flag is True for flag in column("resent")), np.bool_, count)
    return Columns(
        slots=np.asarray(slots, np.intp),
        arrival_us=arrival_us,
        time_us=time_us,
        state=state,
        resent=resent,
        power=power,
        power_kind=power_kind,
        nullable={
            "boot_id": nullable("boot_id", pa.int64()),
            "seq": nullable("seq", pa.int64()),
            "drawn_wh": nullable("drawn_wh", pa.int64()),
            "register": nullable("register", pa.int8()),
            "voltage_v": nullable("voltage_v", pa.float32()),
            "current_a": nullable("current_a", pa.float32()),
            "rssi_dbm": nullable("rssi_dbm", pa.int16()),
            "frame_gap_ms": nullable("frame_gap_ms", pa.int32()),
        },
        registers=None if absent("registers_wh") else column("registers_wh"),
        aux=aux,
        readings=readings,
    )


def _power(
    active: pa.Array, apparent: pa.Array, aux: list[tuple[int, str, str, pa.Array]]
) -> tuple[Floats, npt.NDArray[np.int8]]:
    """One power column and what it is: active where measured, else apparent; the second kind goes to aux."""
    count = len(active)
    if active.null_count == count:
        power = _floats(apparent)
        return power, np.where(np.isnan(power), 0, PowerKind.APPARENT_VA).astype(np.int8)
    watts = _floats(active)
    if apparent.null_count == count:
        return watts, np.where(np.isnan(watts), 0, PowerKind.ACTIVE_W).astype(np.int8)
    volt_amperes = _floats(apparent)
    has_active = ~np.isnan(watts)
    both = pa.array(volt_amperes.astype(np.float64), mask=~has_active | np.isnan(volt_amperes))
    if both.null_count < count:
        aux.append((1, "apparent_power", "VA", both))
    power = np.where(has_active, watts, volt_amperes)
    kind = np.where(has_active, PowerKind.ACTIVE_W, np.where(np.isnan(volt_amperes), 0, PowerKind.APPARENT_VA))
    return power, kind.astype(np.int8)


def raw_batch(
    columns: Columns, keys: Int64s, origin: npt.NDArray[np.int8], rows: npt.NDArray[np.intp] | None
) -> pa.RecordBatch:
    """The RAW rows of `columns`, or of the chosen `rows` of it; `keys` and `origin` are parallel to `columns`."""
    lag_ms = np.clip((columns.arrival_us - columns.time_us) // 1000, -(2**31), 2**31 - 1).astype(np.int32)
    absent = columns.power_kind == 0
    fields = columns.nullable
    batch = pa.RecordBatch.from_arrays(
        [
            pa.array(keys),
            pa.array(columns.time_us).cast(UTC_MICROSECONDS),
            pa.array(lag_ms),
            fields["boot_id"],
            fields["seq"],
            pa.array(columns.power, mask=absent),
            pa.array(columns.power_kind, mask=absent),
            fields["drawn_wh"],
            fields["register"],
            fields["voltage_v"],
            fields["current_a"],
            fields["rssi_dbm"],
            fields["frame_gap_ms"],
            pa.array(columns.state),
            pa.array(origin),
        ],
        schema=RAW,
    )
    return batch if rows is None else batch.take(pa.array(rows))


def aux_batch(
    columns: Columns, keys: Int64s, origin: npt.NDArray[np.int8], kept: npt.NDArray[np.bool_]
) -> pa.RecordBatch | None:
    """The AUX rows of the kept readings, None when there are none (a single-phase consumer has none)."""
    parts = []
    for channel, kind, unit, values in columns.aux:
        rows = np.flatnonzero(kept & ~values.is_null().to_numpy(zero_copy_only=False))
        if not len(rows):
            continue
        parts.append(
            pa.RecordBatch.from_arrays(
                [
                    pa.array(keys[rows]),
                    pa.array(columns.time_us[rows]).cast(UTC_MICROSECONDS),
                    pa.array(np.full(len(rows), channel, np.int8)),
                    pa.array([kind] * len(rows), pa.string()),
                    values.take(pa.array(rows)),
                    pa.array([unit] * len(rows), pa.string()),
                    pa.array(origin[rows]),
                ],
                schema=AUX,
            )
        )
    return pa.Table.from_batches(parts).combine_chunks().to_batches()[0] if parts else None


def register_batch(
    columns: Columns, keys: Int64s, origin: npt.NDArray[np.int8], rows: npt.NDArray[np.intp]
) -> pa.RecordBatch | None:
    """The REGISTERS rows of the chosen readings: one per register each of them carried."""
    if columns.registers is None:
        return None
    chosen = [columns.registers[row] or {} for row in rows.tolist()]
    at = np.repeat(rows, [len(registers) for registers in chosen])
    if not len(at):
        return None
    return pa.RecordBatch.from_arrays(
        [
            pa.array(keys[at]),
            pa.array(columns.time_us[at]).cast(UTC_MICROSECONDS),
            pa.array(list(itertools.chain.from_iterable(chosen)), pa.int8()),
            pa.array(list(itertools.chain.from_iterable(registers.values() for registers in chosen)), pa.int64()),
            pa.array(origin[at]),
        ],
        schema=REGISTERS,
    )


def _filled(values: pa.Array, fill: int) -> Any:
    return values.fill_null(fill).to_numpy(zero_copy_only=False)


def _floats(values: pa.Array) -> Floats:
    """Nulls as nan."""
    floats: Floats = values.to_numpy(zero_copy_only=False)
    return floats
