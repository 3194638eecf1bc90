"""Decodes what the live feed sends: pictures of the fleet against a roster, statistics, events, readings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from app.domain.errors import OperatorInputError
from app.protocol.live import (
    AT_KEY,
    FLEET_COLUMNS,
    POWER_COLUMNS,
    VERSION_KEY,
    LiveBit,
    LiveEvent,
    LiveReading,
    LiveStats,
)

# How unknown looks in a column of whole numbers.
UNKNOWN = -1
# No signal has this strength.
UNKNOWN_RSSI = 0
_MOST_ROWS = 10_000_000

decode_stats = msgspec.json.Decoder(LiveStats).decode
decode_events = msgspec.json.Decoder(list[LiveEvent]).decode
decode_readings = msgspec.json.Decoder(list[LiveReading]).decode


class LivePayloadError(OperatorInputError):
    """A message of the live feed is not what this console understands."""


@dataclasses.dataclass(frozen=True, slots=True)
class Roster:
    """Serial and city by number. `version` is `<run>.<count>`: within a run a number never means another module."""

    version: str
    serials: Sequence[str]
    # None where a module has no site.
    cities: Sequence[str | None]
    # UNKNOWN where none was declared.
    period_ms: npt.NDArray[np.int32]

    def covers(self, frame: FleetFrame) -> bool:
        """Whether every number of a picture is in this roster; if not, fetch a new one."""
        return _run(self.version) == _run(frame.version) and (
            not len(frame.number) or int(frame.number.max()) < len(self.serials)
        )

    def is_current(self, frame: FleetFrame) -> bool:
        """Whether nothing of the modules has changed since; a roster that only `covers` may be fetched later."""
        return self.version == frame.version


@dataclasses.dataclass(frozen=True, slots=True)
class FleetFrame:
    """A picture of the fleet; arrays are parallel, a row per module.

    Power is nan where unknown (always in a picture without power), RSSI UNKNOWN_RSSI, gap and age UNKNOWN.
    """

    version: str
    at_us: int
    number: npt.NDArray[np.int32]
    power: npt.NDArray[np.float32]
    power_kind: npt.NDArray[np.int8]
    rssi_dbm: npt.NDArray[np.int8]
    frame_gap_ms: npt.NDArray[np.int32]
    age_ms: npt.NDArray[np.int32]
    state: npt.NDArray[np.int32]

    @property
    def connected(self) -> npt.NDArray[np.bool_]:
        """Which modules have an MQTT session open."""
        found: npt.NDArray[np.bool_] = (self.state & LiveBit.CONNECTED) != 0
        return found


def decode_fleet(payload: bytes) -> FleetFrame:
    """A picture of `fleet` or `states`. Raises LivePayloadError."""
    batch, version, at_us = _batch(payload)
    count = batch.num_rows
    filled: dict[str, Any] = {
        "power": np.full(count, np.nan, np.float32),
        "power_kind": np.zeros(count, np.int8),
    }
    fills = {"power": np.nan, "power_kind": 0, "rssi_dbm": UNKNOWN_RSSI, "state": 0}
    for name, (kind, _doc) in FLEET_COLUMNS.items():
        at = batch.schema.get_field_index(name)
        if at < 0:
            if name in POWER_COLUMNS:
                continue
            raise LivePayloadError(f"a picture of the fleet has no column {name}")
        column = batch.column(at)
        if column.type != pa.type_for_alias(kind):
            raise LivePayloadError(f"column {name} of a picture is {column.type}, not {kind}")
        filled[name] = column.fill_null(fills.get(name, UNKNOWN)).to_numpy(zero_copy_only=False)
    return FleetFrame(version=version, at_us=at_us, **filled)


def decode_roster(payload: bytes) -> Roster:
    """The answer of GET /v1/fleet/roster. Raises LivePayloadError."""
    batch, version, _at_us = _batch(payload)
    try:
        serials = batch.column("serial").to_pylist()
        cities = batch.column("city").to_pylist()
        period_ms = batch.column("period_ms").fill_null(UNKNOWN).to_numpy(zero_copy_only=False)
    except KeyError as error:
        raise LivePayloadError(f"a roster has no column {error}") from None
    return Roster(version, serials, cities, period_ms)


def _batch(payload: bytes) -> tuple[pa.RecordBatch, str, int]:
    try:
        with pa.ipc.open_stream(payload) as stream:
            batch = stream.read_next_batch()
            metadata = stream.schema.metadata or {}
    except (pa.ArrowException, StopIteration, OSError) as error:
        raise LivePayloadError(f"a message of the live feed can not be read: {error}") from None
    if batch.num_rows > _MOST_ROWS or VERSION_KEY not in metadata or not metadata.get(AT_KEY, b"").isdigit():
        raise LivePayloadError("a message of the live feed names no roster or time")
    return batch, metadata[VERSION_KEY].decode(errors="replace"), int(metadata[AT_KEY])


def _run(version: str) -> str:
    return version.partition(".")[0]
