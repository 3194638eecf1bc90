"""One reading of a meter, as every part of the platform knows it."""

from __future__ import annotations

import enum

import msgspec


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
    # From here on set by the hub, never by a module.
    STAMPED_ON_ARRIVAL = 1 << 16


class Reading(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What a module says of one instant; everything is optional, unknown is None.

    Power is signed, + drawn, - injected. `time_ms` is UTC milliseconds since 1970 by the module's clock (None: no clock).
    `active_w` and `apparent_va` may both be present when a device measures both; the raw table keeps active power then.
    `registers_wh` maps the supplier's register number (1..10) to its drawn index. Phase 1 is `voltage_v`, `current_a`.
    """

    time_ms: int | None = None
    boot_id: int | None = None
    seq: int | None = None
    active_w: float | None = None
    apparent_va: float | None = None
    drawn_wh: int | None = None
    injected_wh: int | None = None
    register: int | None = None
    registers_wh: dict[int, int] | None = None
    voltage_v: float | None = None
    voltage_2_v: float | None = None
    voltage_3_v: float | None = None
    current_a: float | None = None
    current_2_a: float | None = None
    current_3_a: float | None = None
    rssi_dbm: int | None = None
    frame_gap_ms: int | None = None
    state: int | None = None
    resent: bool | None = None
