"""The live feed: topics below `wd/v1/live/`, what is on them, and the shape of a picture of the fleet.

`docs/protocol.md` describes each; the operators' listener alone carries them, and the hub alone publishes there.
"""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from app.protocol.topics import is_serial

LIVE_PREFIX = "wd/v1/live/"
# JSON, once a second: `LiveStats`.
STATS_TOPIC = LIVE_PREFIX + "stats"
# JSON arrays of `LiveEvent`, at most one a second.
EVENTS_TOPIC = LIVE_PREFIX + "events"
# Arrow IPC, once a second: FLEET_COLUMNS.
FLEET_TOPIC = LIVE_PREFIX + "fleet"
# The same without what is a home's own: no power.
STATES_TOPIC = LIVE_PREFIX + "states"
# JSON arrays of `LiveReading`, as they come.
MODULE_PREFIX = LIVE_PREFIX + "modules/"

ARROW_STREAM = "application/vnd.apache.arrow.stream"

# Metadata of the schema of every picture, as bytes in Arrow.
VERSION_KEY = b"roster_version"
AT_KEY = b"at_us"


class LiveScope(enum.StrEnum):
    """What a grant is for; each is a topic of its own."""

    STATS = "stats"
    EVENTS = "events"
    STATES = "states"
    FLEET = "fleet"
    MODULE = "module"


# What is somebody's consumption: granted for a purpose, and noted.
PERSONAL_SCOPES = frozenset({LiveScope.FLEET, LiveScope.MODULE})

_TOPICS = {
    LiveScope.STATS: STATS_TOPIC,
    LiveScope.EVENTS: EVENTS_TOPIC,
    LiveScope.STATES: STATES_TOPIC,
    LiveScope.FLEET: FLEET_TOPIC,
}


class LiveBit(enum.IntFlag):
    """Bits of `state` in a picture beside those of `app.domain.reading.StateBit`; the hub's own."""

    # An MQTT session of the module is open.
    CONNECTED = 1 << 24


# A picture's columns in their order: name -> (Arrow type, what it is). Unknown is null.
FLEET_COLUMNS: dict[str, tuple[str, str]] = {
    "number": ("int32", "the module's number in the roster"),
    "power": ("float32", "newest power, + drawn, - injected; null: unknown, or consent does not cover it"),
    "power_kind": ("int8", "1 W, 2 VA; null with power"),
    "rssi_dbm": ("int8", "signal, dBm"),
    "frame_gap_ms": ("int32", "time between the meter's two last good frames"),
    "age_ms": ("int32", "since the newest reading arrived, at the picture's time; null: none since the hub's start"),
    "state": ("int32", "state bits of the newest reading, and bit 24: connected"),
}
# Those that a picture without power lacks.
POWER_COLUMNS = ("power", "power_kind")
# The roster's columns, in the same way.
ROSTER_COLUMNS: dict[str, tuple[str, str]] = {
    "number": ("int32", "never given to another module while the hub runs"),
    "serial": ("string", "the module's serial"),
    "city": ("dictionary", "city of its site, null while it has none"),
    "period_ms": ("int32", "declared time between two readings, null: not declared"),
}


class LiveStats(msgspec.Struct, frozen=True):
    """The hub's counters, and the fleet in three numbers.

    `fleet_power_w` stands on index differences of the last 10 s; null while unknown or while fewer homes than
    anonymity asks for are in it. It is drawn power: modules without an index are not in it.
    """

    at_us: int
    statistics: dict[str, float]
    fleet_power_w: float | None
    fleet_power_homes: int
    modules_known: int
    modules_connected: int
    # With a reading in the last 3 s.
    modules_fresh: int


class LiveEvent(msgspec.Struct, frozen=True):
    """An event as it happens; `kind` and `details` as in `app.domain.events`."""

    module: str
    time_us: int
    kind: str
    details: dict[str, Any]


class LiveReading(msgspec.Struct, frozen=True, omit_defaults=True):
    """A reading of one module as it came in; what it did not say is left out."""

    time_us: int
    arrival_us: int
    power: float | None = None
    # 1 W, 2 VA.
    power_kind: int | None = None
    drawn_wh: int | None = None
    register: int | None = None
    voltage_v: float | None = None
    current_a: float | None = None
    rssi_dbm: int | None = None
    frame_gap_ms: int | None = None
    seq: int | None = None
    state: int = 0
    resent: bool = False


def module_topic(serial: str) -> str:
    """The topic of one module's readings. Raises ValueError for what can not be a serial."""
    if not is_serial(serial):
        raise ValueError(f"not a module serial: {serial[:40]!r}")
    return MODULE_PREFIX + serial


def topic_of(scope: LiveScope, serial: str | None = None) -> str:
    """The topic that a grant of this scope is for. Raises ValueError when the serial does not fit the scope."""
    if scope is LiveScope.MODULE:
        return module_topic(serial or "")
    if serial is not None:
        raise ValueError("only the scope 'module' has a serial")
    return _TOPICS[scope]
