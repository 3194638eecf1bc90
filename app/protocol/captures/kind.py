"""Tells by its first bytes what a capture is of."""

from __future__ import annotations

import enum
import re

from app.protocol.captures.mqtt_log import looks_like_message
from app.protocol.captures.shelly_status import is_status

# What of a file is looked at; of a Shelly's status, which is one JSON object, all of it must be in there.
HEAD_BYTES = 262_144
_LINES_LOOKED_AT = 200
# An escape sequence and the version of the transport layer.
_SML = b"\x1b\x1b\x1b\x1b\x01\x01\x01\x01"
_P1_IDENTIFICATION = re.compile(rb"(?:^|[^ -~])/[A-Za-z]{3}[!-~]")
_OBIS = re.compile(rb"(?:^|[^0-9])\d{1,3}-\d{1,3}:\d{1,3}\.\d{1,3}\.\d{1,3}(?:\*\d{1,3})?\(")


class CaptureKind(enum.StrEnum):
    """What a capture is of; the words of `--as`."""

    TIC = "tic"
    DSMR = "dsmr"
    MQTT = "mqtt"
    SHELLY_STATUS = "shelly-status"
    SML = "sml"


def kind_of(head: bytes) -> CaptureKind | None:
    """The kind of a file that begins so; None when it is none of those that have a mark of their own (TIC has none)."""
    if _SML in head[:4096]:
        return CaptureKind.SML
    if is_status(head):
        return CaptureKind.SHELLY_STATUS
    plain = bytes(byte & 0x7F for byte in head[:16_384])
    if len(_OBIS.findall(plain)) >= 2 or (_P1_IDENTIFICATION.search(plain) and _OBIS.search(plain)):
        return CaptureKind.DSMR
    lines = [line for line in head.split(b"\n", _LINES_LOOKED_AT)[:_LINES_LOOKED_AT] if line.strip()]
    messages = sum(looks_like_message(line) for line in lines)
    # The first line alone may be a message whose payload goes on over many.
    if messages and (2 * messages >= len(lines) or looks_like_message(lines[0])):
        return CaptureKind.MQTT
    return None
