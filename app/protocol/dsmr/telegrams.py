"""Finds the telegrams of a P1 port in a stream of bytes; no I/O.

A telegram is `/` identification, lines of OBIS objects, `!`, and since DSMR 4 a CRC16 of it all. Streams begin within a
telegram, hold noise between telegrams, and have the parity in bit 7 where a 7E1 line is read as 8N1.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Iterator, Mapping, Sequence

# Belgian telegrams with 13 months of history and two long messages stay below 6 KiB.
MAX_TELEGRAM_BYTES = 16_384
_POLYNOMIAL = 0xA001
_SEVEN_BITS = bytes(byte & 0x7F for byte in range(256))
_WITH_BIT_7 = bytes(range(128, 256))
# `/`, the maker's three letters and one character of its type: what no line within a telegram contains. Other text on a
# line may (`H PLEINE/CREUSE` of a Linky): outside of a telegram it must be the first of its line.
_RESTART = re.compile(rb"/[A-Za-z]{3}[!-~]")
_START = re.compile(rb"(?<![ -~])/[A-Za-z]{3}[!-~]")
_LONGEST_START = 5
# Four digits are a whole CRC; fewer, or none, end with their line, or where the next telegram begins.
_END = re.compile(rb"!([0-9A-Fa-f]{4}|[^\r\n/]{0,8}(?=[\r\n/]))")
_END_PATIENCE = 9
_CRC = re.compile(rb"[0-9A-Fa-f]{1,4}\Z")
_LINE = re.compile(
    r"(?:(\d{1,3})-(\d{1,3}):)?(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?(?:\*255)?((?:\([^()]*\))+)\Z", re.ASCII
)
# Letters (F.F, C.1.0), and stored values of former months (*01, &01): they are objects, of no use here.
_UNUSED_LINE = re.compile(r"[A-Z0-9.:*&-]{1,24}(?:\([^()]*\))+\Z", re.ASCII)
# Frame characters of IEC 62056-21, which Germans keep around the lines.
_AROUND_LINES = " \0\x02\x03"
_VALUE = re.compile(r"\(([^()]*)\)")
_MORE_VALUES = re.compile(r"(?:\([^()]*\))+\Z")


class Fault(enum.StrEnum):
    """Why a telegram was dropped."""

    CRC = "crc"
    CRC_MISSING = "crc_missing"
    CUT = "cut"
    TOO_LONG = "too_long"


@dataclasses.dataclass(frozen=True, slots=True)
class Telegram:
    """A telegram. `objects` maps OBIS codes `A-B:C.D.E` to the texts in their brackets; `checked` by its CRC.

    `bad_lines` are lines that are no object: noise, in a telegram that has no CRC.
    """

    identification: str
    objects: Mapping[str, Sequence[str]]
    checked: bool
    bad_lines: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class BadTelegram:
    """A telegram that was dropped."""

    fault: Fault


Event = Telegram | BadTelegram


def crc16(data: bytes) -> int:
    """The CRC of a P1 telegram, over `/` to `!` inclusive."""
    crc = 0
    for byte in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc


class TelegramReader:
    """One stream: bytes in, telegrams out. What it keeps of an unfinished telegram is bounded."""

    def __init__(self) -> None:
        self.bytes_read = 0
        self.bytes_with_bit_7 = 0
        self.telegrams_good = 0
        self.telegrams_bad = 0
        # Telegrams whose end did not come before the stream ended.
        self.fragments = 0
        self._buffer = bytearray()
        self._identification_with_crc: str | None = None

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The telegrams that end in this chunk."""
        self.bytes_read += len(chunk)
        self.bytes_with_bit_7 += len(chunk) - len(chunk.translate(None, _WITH_BIT_7))
        # In pieces, so that what a huge chunk makes stays as small as the buffer.
        for at in range(0, len(chunk), MAX_TELEGRAM_BYTES):
            self._buffer += chunk[at : at + MAX_TELEGRAM_BYTES].translate(_SEVEN_BITS)
            while (event := self._next(final=False)) is not None:
                yield event

    def finish(self) -> Iterator[Event]:
        """The stream ended: a last telegram whose line end is missing, then nothing is kept."""
        while (event := self._next(final=True)) is not None:
            yield event
        self.fragments += _START.match(self._buffer) is not None
        self._buffer.clear()

    def _next(self, *, final: bool) -> Event | None:
        buffer = self._buffer
        start = _START.search(buffer)
        if start is None:
            del buffer[: max(0, len(buffer) - _LONGEST_START)]
            if len(buffer) == _LONGEST_START and buffer.startswith(b"/"):
                # It was judged by what stood before it, which is gone now.
                buffer[0] = ord("-")
            return None
        del buffer[: start.start()]
        mark = buffer.find(b"!", _LONGEST_START)
        restart = _RESTART.search(buffer, _LONGEST_START, mark if mark >= 0 else len(buffer))
        if restart is not None:
            # The new one begins a line from now on.
            return self._bad(Fault.CUT, restart.start())
        if mark < 0:
            return self._bad(Fault.TOO_LONG, len(buffer)) if len(buffer) > MAX_TELEGRAM_BYTES else None
        end = _END.match(buffer, mark)
        if end is not None:
            return self._whole(bytes(buffer[: mark + 1]), bytes(end[1]), end.end())
        if len(buffer) - mark > _END_PATIENCE:
            return self._bad(Fault.CRC, mark + 1)
        return self._whole(bytes(buffer[: mark + 1]), bytes(buffer[mark + 1 :]), len(buffer)) if final else None

    def _bad(self, fault: Fault, length: int) -> BadTelegram:
        del self._buffer[:length]
        self.telegrams_bad += 1
        return BadTelegram(fault)

    def _whole(self, body: bytes, end: bytes, length: int) -> Event:
        digits = end.strip()
        if digits and not _CRC.match(digits):
            return self._bad(Fault.CRC, length)
        if digits and int(digits, 16) != crc16(_with_line_ends(body)):
            return self._bad(Fault.CRC, length)
        telegram = _parsed(body, checked=bool(digits))
        if digits:
            self._identification_with_crc = telegram.identification
        elif telegram.identification == self._identification_with_crc:
            # This meter gives one: the digits were lost, and with them the proof that the rest is right.
            return self._bad(Fault.CRC_MISSING, length)
        elif body[-2:-1] not in (b"\r", b"\n"):
            # Without a CRC the end mark must at least stand where it belongs.
            return self._bad(Fault.CUT, length)
        del self._buffer[:length]
        self.telegrams_good += 1
        return telegram


def _with_line_ends(body: bytes) -> bytes:
    """The body as it was on the line: tools that save it as text turn CR LF into LF, and the CRC covers both."""
    return body if b"\r" in body else body.replace(b"\n", b"\r\n")


def _parsed(body: bytes, *, checked: bool) -> Telegram:
    lines = body[:-1].decode("ascii").replace("\r", "\n").split("\n")
    objects: dict[str, tuple[str, ...]] = {}
    bad_lines = 0
    last: str | None = None
    for line in lines[1:]:
        text = line.strip(_AROUND_LINES)
        if not text:
            continue
        found = _LINE.match(text)
        if found is not None:
            medium, channel, *rest, values = found.groups()
            last = f"{int(medium or 1)}-{int(channel or 0)}:" + ".".join(str(int(part or 0)) for part in rest)
            # A code that comes twice: the first one counts, as what follows may be history.
            objects.setdefault(last, tuple(_VALUE.findall(values)))
        elif last is not None and _MORE_VALUES.match(text):
            # DSMR 2 and 3 give the value of an M-Bus meter on a line of its own.
            objects[last] = (*objects[last], *_VALUE.findall(text))
        elif _UNUSED_LINE.match(text):
            last = None
        else:
            bad_lines += 1
    return Telegram(lines[0][1:].strip(), objects, checked, bad_lines)


def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return tuple(table)


_TABLE = _table()
