"""The messages of our modules, version 1, as typed structs; `docs/protocol.md` describes every field.

Units are in the names. Everything is optional unless it has no default; unknown fields are ignored by the decoder.
Bounds stand in the types, so that one pass of the typed decoder both parses and validates.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from app.domain.reading import BootId, Counter, DurationMs, Reading, RssiDbm, TimeMs

VERSION = 1
MAX_READINGS = 1000
MAX_LOG_LINES = 100

# Absent means 1; the upper bound is what refuses a message of a later version.
Version = Annotated[int, Meta(ge=1, le=VERSION)]
ShortText = Annotated[str, Meta(max_length=64)]
LogText = Annotated[str, Meta(max_length=1000)]
Identifier = Annotated[str, Meta(min_length=1, max_length=64)]
Ssid = Annotated[str, Meta(max_length=32)]
Bssid = Annotated[str, Meta(max_length=17)]
# 2.4 GHz has 1..14, 5 GHz up to 177, 6 GHz up to 233.
Channel = Annotated[int, Meta(ge=1, le=255)]
Percent = Annotated[float, Meta(ge=0, le=100)]
PeriodMs = Annotated[int, Meta(ge=100, le=86_400_000)]
CelsiusDegrees = Annotated[float, Meta(ge=-100, le=300)]
MilliVolts = Annotated[int, Meta(ge=0, le=1_000_000)]
WholeNumber = Annotated[int, Meta(ge=-(2**53), le=2**53)]
BoundedText = Annotated[str, Meta(max_length=512)]
# A parameter or an answer of a command: flat, so that it can be shown and logged as it is.
Scalar = bool | WholeNumber | Annotated[float, Meta(ge=-1e15, le=1e15)] | BoundedText | None
Parameters = Annotated[dict[Identifier, Scalar], Meta(max_length=32)]


class Tele(Reading, frozen=True, gc=False, omit_defaults=True):
    """A reading as it travels: the domain's reading and the version of the protocol."""

    v: Version = 1


class State(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a module says of itself when it connects (birth), retained; its last will has only `online`, false."""

    v: Version = 1
    online: bool | None = None
    time_ms: TimeMs | None = None
    boot_id: BootId | None = None
    period_ms: PeriodMs | None = None
    firmware: ShortText | None = None
    hardware: ShortText | None = None
    module_kind: ShortText | None = None
    meter_kind: ShortText | None = None
    meter_serial: ShortText | None = None
    ssid: Ssid | None = None
    bssid: Bssid | None = None
    channel: Channel | None = None
    rssi_dbm: RssiDbm | None = None
    reset_reason: ShortText | None = None
    uptime_s: Counter | None = None
    clock: ShortText | None = None


class Log(msgspec.Struct, frozen=True, omit_defaults=True):
    """A line of a module's log."""

    v: Version = 1
    time_ms: TimeMs | None = None
    boot_id: BootId | None = None
    uptime_ms: Counter | None = None
    level: ShortText | None = None
    tag: ShortText | None = None
    text: LogText | None = None


class Diag(msgspec.Struct, frozen=True, omit_defaults=True):
    """A module's health: memory, supply, radio, queues and the link to its meter. Counters run since the boot."""

    v: Version = 1
    time_ms: TimeMs | None = None
    boot_id: BootId | None = None
    uptime_s: Counter | None = None
    heap_free_bytes: Counter | None = None
    heap_least_bytes: Counter | None = None
    heap_largest_block_bytes: Counter | None = None
    chip_temperature_c: CelsiusDegrees | None = None
    supply_mv: MilliVolts | None = None
    rssi_dbm: RssiDbm | None = None
    bssid: Bssid | None = None
    channel: Channel | None = None
    wifi_connects: Counter | None = None
    wifi_down_ms: Counter | None = None
    mqtt_connects: Counter | None = None
    round_trip_ms: DurationMs | None = None
    queued_readings: Counter | None = None
    dropped_readings: Counter | None = None
    meter_link: ShortText | None = None
    meter_frames_good: Counter | None = None
    meter_frames_bad: Counter | None = None
    meter_groups_good: Counter | None = None
    meter_groups_bad: Counter | None = None
    meter_bytes_per_s: Counter | None = None
    meter_frame_age_ms: DurationMs | None = None
    meter_clock_offset_ms: WholeNumber | None = None
    clock_offset_ms: WholeNumber | None = None


class Fota(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a firmware update of a module is."""

    v: Version = 1
    time_ms: TimeMs | None = None
    boot_id: BootId | None = None
    job: ShortText | None = None
    phase: ShortText | None = None
    percent: Percent | None = None
    done_bytes: Counter | None = None
    total_bytes: Counter | None = None
    from_firmware: ShortText | None = None
    to_firmware: ShortText | None = None
    error: ShortText | None = None
    detail: BoundedText | None = None


class Cmd(msgspec.Struct, frozen=True, omit_defaults=True):
    """A command to a module. A module does not run it after `expires_ms`, and not twice under one `id`."""

    id: Identifier
    name: Identifier
    v: Version = 1
    expires_ms: TimeMs | None = None
    args: Parameters | None = None


class Ack(msgspec.Struct, frozen=True, omit_defaults=True):
    """A module's answer to a command; long ones are answered twice, `accepted` first."""

    id: Identifier
    v: Version = 1
    time_ms: TimeMs | None = None
    boot_id: BootId | None = None
    result: ShortText | None = None
    detail: BoundedText | None = None
    took_ms: DurationMs | None = None
    data: Parameters | None = None


Message = Reading | State | Log | Diag | Fota | Cmd | Ack

__all__ = [
    "MAX_LOG_LINES",
    "MAX_READINGS",
    "VERSION",
    "Ack",
    "Cmd",
    "Diag",
    "Fota",
    "Log",
    "Message",
    "State",
    "Tele",
]
