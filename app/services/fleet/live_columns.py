"""What changes by the second: columns of the live state and of the sessions, worked out for a table when asked for."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from app.domain.completeness import SILENT_FLOOR_US, SILENT_PERIODS
from app.domain.liveness import LIVENESS, UNKNOWN, Int64s, liveness
from app.domain.reading import PowerKind
from app.ingest.live import LiveState
from app.services.fleet.columns import FleetColumn, NumberColumn, WordColumn
from app.services.fleet.table import FleetTable

# The usual gap of a module is that of its last half minute.
_LOOK_EACH_S = 10.0
_LOOKS = 3
# Fewer readings than this say nothing of what is usual.
_LEAST_READINGS = 5
_US = 1_000_000
_WORDS = tuple(str(word) for word in LIVENESS)
_ALPHABETICAL = tuple(sorted(_WORDS))
_RANKS = np.array([_ALPHABETICAL.index(word) for word in _WORDS], np.int32)
POWER_KINDS = ("", "W", "VA")
assert POWER_KINDS[PowerKind.ACTIVE_W] == "W"
assert POWER_KINDS[PowerKind.APPARENT_VA] == "VA"


class OpenSessions(Protocol):
    """Who is connected, by slot; see app.sources.sessions.Sessions."""

    def open_now(self, size: int) -> npt.NDArray[np.bool_]:
        """Whether each slot has a session open."""
        ...

    def heard(self, size: int) -> npt.NDArray[np.bool_]:
        """Whether each slot had a session since the hub started."""
        ...

    def gone(self, size: int) -> npt.NDArray[np.bool_]:
        """Whether each slot is a foreign device that says it is gone."""
        ...

    def usual_us(self, size: int) -> npt.NDArray[np.int64]:
        """The usual time between two readings of a foreign device, 0: not known."""
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class _Look:
    at_us: int
    received: Int64s
    arrival_us: Int64s


class UsualGaps:
    """The time between two readings of each slot of late: the mean over the last half minute.

    The mean stands for the median that the rule of `Verdict.LATE` names: two numbers per module, not a history.
    """

    def __init__(self, live: LiveState) -> None:
        self._live = live
        self._looks: collections.deque[_Look] = collections.deque(maxlen=_LOOKS)
        self.each_s = _LOOK_EACH_S

    def look(self, now_us: int) -> None:
        """Remember how far each module is; a fraction of a millisecond."""
        self._looks.append(_Look(now_us, self._live.received.copy(), self._live.arrival_us.copy()))

    def gap_us(self, slots: Int64s, received: Int64s, arrival_us: Int64s, period_us: Int64s) -> Int64s:
        """The usual gap of some slots that have received so much by now; UNKNOWN where too little came."""
        gaps = np.full(len(slots), UNKNOWN, np.int64)
        looks = list(self._looks)
        if not looks:
            return gaps
        before = looks[0]
        since = received - _at(before.received, slots, 0)
        began_us = _at(before.arrival_us, slots, 0)
        # Whoever was silent then is not judged by its silence.
        fresh = before.at_us - began_us <= np.maximum(SILENT_FLOOR_US, SILENT_PERIODS * period_us)
        enough = fresh & (since >= _LEAST_READINGS)
        gaps[enough] = (arrival_us[enough] - began_us[enough]) // since[enough]
        return gaps


@dataclasses.dataclass(frozen=True, slots=True)
class LiveColumns:
    """The columns of one table at one instant."""

    all: Mapping[str, FleetColumn]
    state: npt.NDArray[np.int8]


def live_columns(
    table: FleetTable,
    rows: npt.NDArray[np.intp] | None,
    live: LiveState,
    sessions: OpenSessions,
    gaps: UsualGaps,
    now_us: int,
) -> LiveColumns:
    """The live columns of a table, or of some of its rows. Any thread: what ingest writes meanwhile is in it or not."""
    every = slice(None) if rows is None else rows
    slots = table.slots[every]
    size = int(slots.max()) + 1 if len(slots) else 0
    arrival_us = _at(live.arrival_us, slots, 0)
    received = _at(live.received, slots, 0)
    rssi = _at(live.rssi_dbm, slots, 0)
    frame_gap = _at(live.frame_gap_ms, slots, UNKNOWN)
    connected = _at(sessions.open_now(size), slots, 0).astype(np.bool_)
    never = arrival_us == 0
    age_us = np.where(never, UNKNOWN, np.maximum(0, now_us - arrival_us))
    declared_us = np.maximum(table.numbers["period_ms"][every], 0) * 1000
    period_us = np.where(declared_us > 0, declared_us, _at(sessions.usual_us(size), slots, 0))
    used = table.numbers["last_used_us"][every] > 0
    heard = ~never | used | _at(sessions.heard(size), slots, 0).astype(np.bool_)
    state = liveness(
        heard=heard,
        session_open=connected,
        sessionless=table.sessionless[every],
        age_us=age_us,
        period_us=period_us,
        gap_us=gaps.gap_us(slots, received, arrival_us, period_us),
        gone=_at(sessions.gone(size), slots, 0).astype(np.bool_),
    )
    power = _at(live.power, slots, np.nan).astype(np.float64)
    kinds = _at(live.power_kind, slots, 0).astype(np.int32)
    no_power = np.isnan(power) | (kinds == 0)
    return LiveColumns(
        {
            "connected": NumberColumn(connected),
            "state": WordColumn(state.astype(np.int32), _WORDS, _RANKS, _ALPHABETICAL),
            "last_us": NumberColumn(_at(live.time_us, slots, 0), never),
            "age_s": NumberColumn(np.round(age_us / _US, 1), never),
            "rssi_dbm": NumberColumn(rssi, rssi == 0),
            "frame_gap_ms": NumberColumn(frame_gap, frame_gap == UNKNOWN),
            "received": NumberColumn(received),
            "power": NumberColumn(np.round(power, 1), no_power),
            "power_kind": WordColumn(
                np.where(no_power, -1, kinds), POWER_KINDS, np.array([0, 2, 1], np.int32), ("", "VA", "W")
            ),
        },
        state,
    )


def _at(values: npt.NDArray[Any], slots: Int64s, missing: float) -> npt.NDArray[Any]:
    """The values of slots; `missing` where there is no slot, or the array has not grown to it yet."""
    kind = np.float64 if values.dtype.kind == "f" else np.int64
    there = (slots >= 0) & (slots < len(values))
    found = np.full(len(slots), missing, kind)
    found[there] = values[slots[there]]
    return found
