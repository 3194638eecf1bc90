"""Makes events of what the broker, the modules and the registry tell."""

from __future__ import annotations

import asyncio
import collections
import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from app.domain.events import Event, EventKind, EventSink
from app.protocol.messages import Log, Message, State
from app.protocol.topics import Kind, is_serial
from app.sources.sessions import serial_of
from app.stores.registry.records import GIVEN, Change, CredentialsChanged, PairingChanged
from broker.engine import ClientInfo

# A module in a loop of errors must not push everybody else's events out of the queue.
MOST_LINES_PER_SECOND = 200
# A module's own time of a log line is taken within these bounds of its arrival; a clock that is wrong orders nothing.
_OLDEST_LINE_US = 31 * 86_400_000_000
_NEWEST_LINE_US = 300_000_000
_ALIAS_HEX = 10
# A fleet that comes for the first time connects before it is registered; above, the oldest are nobody's.
MOST_STRANGERS = 50_000
MOST_OF_A_STRANGER = 8
_STRANGERS_AT_ONCE = 1000


class _Birth(NamedTuple):
    """What a birth says that is worth a comparison; the names are those of the event's details."""

    boot_id: int | None = None
    reset_reason: str | None = None
    firmware: str | None = None
    hardware: str | None = None
    bssid: str | None = None
    channel: int | None = None
    period_ms: int | None = None

    def details(self) -> dict[str, Any]:
        return {name: value for name, value in self._asdict().items() if value is not None}


class EventRecorder:
    """Called on the loop, but for `registry_changed`; cheap per call, since a fleet may come back all at once.

    The address of an access point tells where a home is, so events hold an alias of it: equal for equal addresses.
    """

    def __init__(
        self,
        sink: EventSink,
        *,
        born: Mapping[str, Mapping[str, Any]],
        alias_key: bytes,
        is_known: Callable[[str], bool],
        now_us: Callable[[], int],
    ) -> None:
        self._sink = sink
        self._alias_key = alias_key
        self._is_known = is_known
        self._now_us = now_us
        # What clients of modules did that are not registered, or only just: until `adopted`, the newest of them.
        self._strangers: collections.OrderedDict[str, list[Event]] = collections.OrderedDict()
        self._births = {serial: _birth_of(details) for serial, details in born.items()}
        self._aliases: dict[str, str] = {}
        self._lines: collections.Counter[str] = collections.Counter()
        self._lines_second = 0
        self.dropped_lines = 0

    def connected(self, client: ClientInfo) -> None:
        """A client was accepted."""
        details = {"address": client.address, "client_id": client.client_id}
        self._note_of(client, EventKind.CONNECTED, details)

    def disconnected(self, client: ClientInfo, cause: str) -> None:
        """A client's connection ended."""
        self._note_of(client, EventKind.DISCONNECTED, {"cause": cause})

    def presence(self, serial: str, online: bool, arrival_us: int) -> None:
        """A foreign device, or its last will, says that it is there or gone."""
        kind, details = (EventKind.CONNECTED, {}) if online else (EventKind.DISCONNECTED, {"cause": "word"})
        self._sink.note(Event(serial, arrival_us, kind, details))

    def adopted(self) -> None:
        """Modules may have been registered: note what they did before, on the running loop."""
        if self._strangers:
            self._note_strangers(list(self._strangers))

    def on_message(self, serial: str, _slot: int, kind: Kind, message: Message, arrival_us: int) -> None:
        """A message of a module that is no reading."""
        if kind is Kind.STATE and isinstance(message, State):
            if message.online is not False:
                self._on_birth(serial, message, arrival_us)
        elif kind is Kind.LOG and isinstance(message, Log):
            self._on_line(serial, message, arrival_us)

    def registry_changed(self, change: Change) -> None:
        """A listener of the registry; in whatever thread changed it."""
        if isinstance(change, PairingChanged):
            details: dict[str, Any] = {"channel": change.channel}
            if change.site_id is not None:
                details["site_id"] = change.site_id
            self._sink.note(Event(change.serial, change.at_us, change.kind, details))
        elif isinstance(change, CredentialsChanged) and change.by is not None:
            for username in change.usernames:
                # Its module may not be known here yet; other names than modules' are never given one.
                if change.by == GIVEN or self._is_known(username):
                    self.credential_changed(username, change.by)

    def credential_changed(self, serial: str, by: str) -> None:
        """A module's credential was changed, by this process or another. Any thread may call."""
        self._sink.note(Event(serial, self._now_us(), EventKind.CREDENTIAL, {"by": by}))

    def _note_of(self, client: ClientInfo, kind: EventKind, details: Mapping[str, Any]) -> None:
        serial = serial_of(client)
        # Where anonymous clients are let in, a client may be called anything.
        if serial is None or not is_serial(serial):
            return
        event = Event(serial, self._now_us(), kind, details)
        if self._is_known(serial):
            self._sink.note(event)
            return
        waiting = self._strangers.setdefault(serial, [])
        if len(waiting) < MOST_OF_A_STRANGER:
            waiting.append(event)
        if len(self._strangers) > MOST_STRANGERS:
            self._strangers.popitem(last=False)

    def _note_strangers(self, serials: Sequence[str]) -> None:
        for serial in serials[:_STRANGERS_AT_ONCE]:
            if self._is_known(serial):
                for event in self._strangers.pop(serial, ()):
                    self._sink.note(event)
        if len(serials) > _STRANGERS_AT_ONCE:
            asyncio.get_running_loop().call_soon(self._note_strangers, serials[_STRANGERS_AT_ONCE:])

    def _on_birth(self, serial: str, state: State, arrival_us: int) -> None:
        birth = _Birth(
            state.boot_id,
            _shared(state.reset_reason),
            _shared(state.firmware),
            _shared(state.hardware),
            None if state.bssid is None else self._alias(state.bssid),
            state.channel,
            state.period_ms,
        )
        before = self._births.get(serial)
        if birth == before:
            return
        self._births[serial] = birth
        self._sink.note(Event(serial, arrival_us, EventKind.BORN, birth.details()))
        if before is None:
            return
        if None not in {before.firmware, birth.firmware} and before.firmware != birth.firmware:
            details = {"before": before.firmware, "after": birth.firmware}
            self._sink.note(Event(serial, arrival_us, EventKind.FIRMWARE_CHANGED, details))
        if (before.bssid and birth.bssid and before.bssid != birth.bssid) or (
            before.channel and birth.channel and before.channel != birth.channel
        ):
            access_points = {"before": _access_point(before), "after": _access_point(birth)}
            self._sink.note(Event(serial, arrival_us, EventKind.ACCESS_POINT_CHANGED, access_points))

    def _on_line(self, serial: str, line: Log, arrival_us: int) -> None:
        second = arrival_us // 1_000_000
        if second != self._lines_second:
            self._lines_second = second
            self._lines.clear()
        self._lines[serial] += 1
        if self._lines[serial] > MOST_LINES_PER_SECOND:
            self.dropped_lines += 1
            return
        time_us = arrival_us
        if line.time_ms is not None and (
            arrival_us - _OLDEST_LINE_US <= line.time_ms * 1000 <= arrival_us + _NEWEST_LINE_US
        ):
            time_us = line.time_ms * 1000
        details = {"level": line.level, "tag": line.tag, "text": line.text}
        told = {name: value for name, value in details.items() if value is not None}
        self._sink.note(Event(serial, time_us, EventKind.LOG, told))

    def _alias(self, bssid: str) -> str:
        found = self._aliases.get(bssid)
        if found is None:
            if len(self._aliases) > 200_000:
                self._aliases.clear()
            digest = hashlib.blake2b(bssid.casefold().encode(), key=self._alias_key, digest_size=_ALIAS_HEX // 2)
            found = self._aliases[bssid] = f"ap-{digest.hexdigest()}"
        return found


def _birth_of(details: Mapping[str, Any]) -> _Birth:
    known: dict[str, Any] = {name: value for name, value in details.items() if name in _Birth._fields}
    said: dict[str, Any] = {name: _shared(value) if isinstance(value, str) else value for name, value in known.items()}
    return _Birth(**said)


def _access_point(birth: _Birth) -> dict[str, Any]:
    return {name: value for name, value in (("bssid", birth.bssid), ("channel", birth.channel)) if value is not None}


def _shared(text: str | None) -> str | None:
    """One object for a text that a whole fleet says."""
    return None if text is None else sys.intern(text)
