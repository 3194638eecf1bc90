"""What a log of MQTT messages holds: of our own modules, and of those of others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from app.domain.reading import Reading
from app.hub.capture_findings import Findings
from app.protocol.captures.mqtt_log import BadLine, LoggedMessage, read_log
from app.protocol.captures.shelly_status import status_messages
from app.protocol.codec import DECODERS, Refused
from app.protocol.dialects import Dialects, Said
from app.protocol.foreign import Facts, Presence, Refusal
from app.protocol.messages import State
from app.protocol.topics import ModuleTopic, parse

OWN = "wattdeck"
# The virtual clock, from a moment that never changes, so that a file gives the same each time. Lines are near enough
# to one another for what a device says of one moment to stay together.
START_US = 1_767_225_600_000_000
_LINE_US = 50_000
# After the last line: what waits for more of its sample is due within this.
_AFTERMATH_S = 30
_STATE_FACTS = ("firmware", "hardware", "module_kind", "meter_kind", "meter_serial", "ssid", "bssid", "channel")


def read_mqtt(chunks: Iterable[bytes], dialects: Dialects) -> Findings:
    """Decode a log line by line; any bytes give an answer."""
    return _read(Findings("mqtt"), read_log(chunks), dialects)


def read_shelly_status(content: bytes, dialects: Dialects) -> Findings:
    """Decode the answer to Shelly.GetStatus as the messages its device publishes."""
    found = _read(Findings("shelly-status"), status_messages(content), dialects)
    found.bytes_read = len(content)
    return found


def _read(found: Findings, lines: Iterable[LoggedMessage | BadLine], dialects: Dialects) -> Findings:
    now_us = START_US
    for line in lines:
        if isinstance(line, BadLine):
            found.refused("line", line.why, f"line {line.line}")
            continue
        found.messages += 1
        now_us += _LINE_US
        own = parse(line.topic)
        if own is not None:
            _take_own(found, own, line, now_us)
        elif dialects.of_topic(line.topic) is None:
            found.unclaimed_topic(line.topic)
        else:
            said = dialects.take(line.topic, line.payload, retained=False, arrival_us=now_us)
            _take_said(found, said, f"line {line.line}: {line.topic}", now_us)
        _take_said(found, dialects.due(now_us), "", now_us)
    for _ in range(_AFTERMATH_S):
        now_us += 1_000_000
        _take_said(found, dialects.due(now_us), "", now_us)
    return found


def _take_said(found: Findings, said: Sequence[Said], where: str, now_us: int) -> None:
    for dialect, device, what in said:
        if isinstance(what, Reading):
            found.found_reading(dialect, device, now_us // 1000, what)
        elif isinstance(what, Presence):
            found.found_presence(dialect, device, online=what.online)
        elif isinstance(what, Facts):
            found.found_facts(dialect, device, msgspec.to_builtins(what))
        elif isinstance(what, Refusal):
            found.refused(what.reason, what.detail, where)
        else:
            found.others[type(what).__name__.lower()] += 1


def _take_own(found: Findings, topic: ModuleTopic, line: LoggedMessage, now_us: int) -> None:
    try:
        decoded = DECODERS[topic.kind](line.payload)
    except Refused as error:
        found.refused(error.reason.value, error.detail, f"line {line.line}: {line.topic}")
        return
    for message in decoded if isinstance(decoded, list) else [decoded]:
        if isinstance(message, State):
            if message.online is not None:
                found.found_presence(OWN, topic.serial, online=message.online)
            facts = msgspec.to_builtins(message)
            found.found_facts(OWN, topic.serial, {name: facts[name] for name in _STATE_FACTS if name in facts})
        elif isinstance(message, Reading):
            plain = Reading(**{name: getattr(message, name) for name in Reading.__struct_fields__})
            found.found_reading(OWN, topic.serial, now_us // 1000, plain)
        else:
            found.others[topic.kind.value] += 1
