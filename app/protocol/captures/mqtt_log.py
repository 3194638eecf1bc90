"""MQTT logs, as `mosquitto_sub -v` prints them: a topic, a blank, a payload on each line.

A time may stand before the topic (`-F '%I %t %p'` or `'%U %t %p'`). A payload may hold blanks, and as JSON go on over
several lines; an empty one is `(null)` or nothing.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import msgspec

# More than any module's payload; a longer line is dropped and counted.
MAX_LINE_BYTES = 1_048_576
# JSON over several lines is what people paste; each line more costs a look at all of it.
MAX_JOINED_BYTES = 65_536
MAX_TOPIC_BYTES = 65_535
_NO_PAYLOAD = b"(null)"
_ISO_TIME = rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:?\d\d)?"
_UNIX_TIME = rb"\d{9,11}(?:\.\d{1,9})?"
_TIME = re.compile(rb"(%s|%s) (?=\S)" % (_ISO_TIME, _UNIX_TIME))
# What brokers refuse in a topic, and what a line of JSON or prose begins with.
_TOPIC = re.compile(rb"[^\x00-\x20+#\"{}\[\],]+")
# Zigbee2MQTT's topics have the blanks of friendly names: `zigbee2mqtt/Linky cellar {"power":1}`.
_NAME_THEN_OBJECT = re.compile(rb"([^\x00-\x1f+#\"{}\[\],]*/[^\x00-\x1f+#\"{}\[\],]+) (\{.*\})\s*\Z")
_MICROSECONDS = 1_000_000
# Year 9999.
_LATEST_US = 253_402_300_799_000_000


class LoggedMessage(NamedTuple):
    """A message of a log; `time_us` is UTC microseconds where the line had a time, `line` counts from 1."""

    topic: str
    payload: bytes
    time_us: int | None = None
    line: int = 0


class BadLine(NamedTuple):
    """A line that is no message."""

    line: int
    why: str


def looks_like_message(line: bytes) -> bool:
    """Whether a line is a topic of at least two levels and a payload."""
    found = parse_line(line)
    return found is not None and "/" in found.topic.strip("/") and b" " in line.strip()


def parse_line(line: bytes, number: int = 0) -> LoggedMessage | None:
    """The message of a line; None when it begins with no topic."""
    text = line.rstrip(b"\r\n")
    time_us = None
    if (stamp := _TIME.match(text)) is not None:
        time_us = _time_us(stamp[1].decode("ascii"))
        text = text[stamp.end() :]
    named = _NAME_THEN_OBJECT.match(text)
    topic, payload = named.groups() if named else text.partition(b" ")[::2]
    if len(topic) > MAX_TOPIC_BYTES or not (named or _TOPIC.fullmatch(topic)):
        return None
    try:
        name = topic.decode()
    except UnicodeDecodeError:
        return None
    return LoggedMessage(name, b"" if payload == _NO_PAYLOAD else payload, time_us, number)


def read_log(chunks: Iterable[bytes]) -> Iterator[LoggedMessage | BadLine]:
    """Every message and every line that is none, in order; any bytes give an answer, memory is bounded."""
    pending: LoggedMessage | None = None
    for number, line in enumerate(_lines(chunks), 1):
        if line is None:
            yield BadLine(number, "too long")
            continue
        if pending is not None:
            joined = _joined(pending, line)
            if joined is not None:
                pending = joined if _is_open(joined.payload) else None
                if pending is None:
                    yield joined
                continue
            # It never became whole: it is given as it stood, and this line is looked at by itself.
            yield pending
            pending = None
        if not line.strip():
            continue
        found = parse_line(line, number)
        if found is None:
            yield BadLine(number, "no topic")
        elif _is_open(found.payload):
            pending = found
        else:
            yield found
    if pending is not None:
        yield pending


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes | None]:
    """Lines, None for one that is too long."""
    rest = bytearray()
    skipping = False
    for chunk in chunks:
        *whole, last = chunk.split(b"\n")
        for piece in whole:
            rest += piece
            yield None if skipping or len(rest) > MAX_LINE_BYTES else bytes(rest)
            rest.clear()
            skipping = False
        if skipping or len(rest) + len(last) > MAX_LINE_BYTES:
            rest.clear()
            skipping = True
        else:
            rest += last
    if skipping or rest:
        yield None if skipping else bytes(rest)


def _joined(begun: LoggedMessage, line: bytes) -> LoggedMessage | None:
    """A payload with one more line of it; None when the line is a message of its own, or it is getting too long."""
    if looks_like_message(line) or len(begun.payload) + 1 + len(line) > MAX_JOINED_BYTES:
        return None
    return begun._replace(payload=begun.payload + b"\n" + line.rstrip(b"\r"))


def _is_open(payload: bytes) -> bool:
    """Whether a payload is JSON that ends too early: the rest may be on the next lines."""
    text = payload.strip()
    if text[:1] not in (b"{", b"["):
        return False
    if text[-1:] not in (b"}", b"]"):
        return True
    try:
        msgspec.json.decode(text, type=msgspec.Raw)
    except msgspec.DecodeError as error:
        return "truncated" in str(error)
    except RecursionError:
        return False
    return False


def _time_us(text: str) -> int | None:
    try:
        if "T" not in text:
            time_us = round(float(text) * _MICROSECONDS)
        else:
            moment = dt.datetime.fromisoformat(text)
            time_us = round(moment.replace(tzinfo=moment.tzinfo or dt.UTC).timestamp() * _MICROSECONDS)
    except (ValueError, OverflowError):
        return None
    return time_us if 0 <= time_us <= _LATEST_US else None
