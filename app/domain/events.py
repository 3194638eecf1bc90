"""What happens to a module, as the time line, the cause chain and reports read it."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any, Protocol


class EventKind(enum.StrEnum):
    """Every kind of event; `details` of each are named beside it."""

    # address, client_id; none of a foreign device, which says itself that it is there
    CONNECTED = "connected"
    # cause; word: a foreign device, or its last will, said so itself
    DISCONNECTED = "disconnected"
    # boot_id, reset_reason, firmware, hardware, bssid, channel, period_ms: those that the module said; bssid is an
    # alias, since the address of an access point tells where a home is
    BORN = "born"
    # before, after
    FIRMWARE_CHANGED = "firmware_changed"
    # before, after: each with bssid (its alias) and channel
    ACCESS_POINT_CHANGED = "access_point_changed"
    # before_dbm, after_dbm
    RSSI_STEP = "rssi_step"
    # channel, site_id (of PAIRED); told by the registry
    PAIRED = "paired"
    UNPAIRED = "unpaired"
    METER_CHANGED = "meter_changed"
    # id, name, state
    COMMAND = "command"
    # level, text
    LOG = "log"
    # dialect, site_id: a device that was discovered became a module
    ADOPTED = "adopted"
    # by: given, blocked, unblocked, re-keyed, removed; told by the registry
    CREDENTIAL = "credential"


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One event of a module. `time_us` is UTC microseconds; details are plain JSON values, no personal data."""

    module: str
    time_us: int
    kind: EventKind
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class EventSink(Protocol):
    """Where events go."""

    def note(self, event: Event) -> None:
        """Take an event; any thread may call, nothing blocks. Written in bulk within a second or so."""
        ...
