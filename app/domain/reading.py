"""One reading of a meter, as every part of the platform knows it."""

from __future__ import annotations

import enum
from typing import Annotated

import msgspec
from msgspec import Meta

# What a wire message may say; the typed decoder checks these in the pass that parses. Constructing checks nothing.
# Counters stay below 2^53, so that they survive every JSON library on the way.
LARGEST_COUNTER = 2**53
# Year 9999: the last that every date library knows.
TimeMs = Annotated[int, Meta(ge=0, le=253_402_300_799_999)]
BootId = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Counter = Annotated[int, Meta(ge=0, le=LARGEST_COUNTER)]
Power = Annotated[float, Meta(ge=-1e6, le=1e6)]
Voltage = Annotated[float, Meta(ge=0, le=1000)]
Current = Annotated[float, Meta(ge=-10_000, le=10_000)]
# Other meters that a meter passes on: indexes, a thousand times what a large building uses in a century.
CubicMetres = Annotated[float, Meta(ge=0, le=1e9)]
GigaJoules = Annotated[float, Meta(ge=0, le=1e9)]
RegisterNumber = Annotated[int, Meta(ge=1, le=10)]
RssiDbm = Annotated[int, Meta(ge=-127, le=0)]
# Signed 32 bits, as the raw table keeps it: up to 24 days.
DurationMs = Annotated[int, Meta(ge=0, le=2**31 - 1)]
# The bits a module may set; those from 16 on are the hub's.
ModuleState = Annotated[int, Meta(ge=0, le=0xFFFF)]


class PowerKind(enum.IntEnum):
    """What an instantaneous power is. A Linky's is always apparent power; the two are never mixed."""

    ACTIVE_W = 1
    APPARENT_VA = 2


class Origin(enum.IntEnum):
    """How a reading came to us; on conflict for one (key, time) the lower number wins, then the latest."""

    MEASURED = 0
    RESENT = 1
    IMPORTED = 2


class StateBit(enum.IntFlag):
    """State of the module and the meter link at a reading, and what ingest had to do to it."""

    METER_LINK_BAD = 1 << 0
    METER_LINK_OFF = 1 << 1
    CLOCK_NEVER_SET = 1 << 2
    RELAY_OPEN = 1 << 3
    OVER_POWER = 1 << 4
    OVER_VOLTAGE = 1 << 5
    TERMINAL_COVER_OPEN = 1 << 6
    METER_CLOCK_DEGRADED = 1 << 7
    BREAKER_OPEN = 1 << 8
    # From here on set by the hub, never by a module.
    STAMPED_ON_ARRIVAL = 1 << 16


class Reading(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What a module says of one instant; everything is optional, unknown is None.

    Power is signed, + drawn, - injected. `time_ms` is UTC milliseconds since 1970 by the module's clock, None without.
    `active_w` and `apparent_va` may both be present when a device measures both; the raw table keeps active power then.
    `registers_wh` maps the supplier's register number (1..10) to its drawn index. Phase 1 is `voltage_v`, `current_a`.
    `gas_m3`, `water_m3` and `heat_gj` are indexes of other meters that the meter passes on.
    """

    time_ms: TimeMs | None = None
    boot_id: BootId | None = None
    seq: Counter | None = None
    active_w: Power | None = None
    apparent_va: Power | None = None
    drawn_wh: Counter | None = None
    injected_wh: Counter | None = None
    register: RegisterNumber | None = None
    registers_wh: Annotated[dict[RegisterNumber, Counter], Meta(max_length=10)] | None = None
    voltage_v: Voltage | None = None
    voltage_2_v: Voltage | None = None
    voltage_3_v: Voltage | None = None
    current_a: Current | None = None
    current_2_a: Current | None = None
    current_3_a: Current | None = None
    rssi_dbm: RssiDbm | None = None
    frame_gap_ms: DurationMs | None = None
    state: ModuleState | None = None
    resent: bool | None = None
    gas_m3: CubicMetres | None = None
    water_m3: CubicMetres | None = None
    heat_gj: GigaJoules | None = None
