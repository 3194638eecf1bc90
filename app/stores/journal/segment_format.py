"""The bytes of a journal segment.

A header (magic, length, CRC-32, JSON: journal id, number, where the segment before ends, tables with their Arrow
schemas), then frames. A frame is 16 bytes (magic, length, CRC-32 of length, table and body, table number) and a body
padded to 8 bytes: an Arrow IPC record batch without its schema. A sealed segment ends with a frame of table 255 and an
empty body. Numbers are little-endian.
"""

from __future__ import annotations

import base64
import binascii
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import pyarrow as pa

FILE_MAGIC = b"WDJRNL01"
FRAME_MAGIC = b"WdFr"
SEAL = 255
ALIGNMENT = 8

_FILE_HEAD = struct.Struct("<8sII")
_FRAME_HEAD = struct.Struct("<4sIIB3x")
_CHECKED_HEAD = struct.Struct("<IB")
# Schemas of a few dozen columns take some kilobytes; a longer header is garbage.
_MAX_HEADER = 1 << 20


class NotASegment(Exception):
    """The file does not begin with a sound header."""


class PreviousEnd(msgspec.Struct, frozen=True):
    """Where an earlier segment ends that was left with bytes nobody was promised."""

    number: int
    length: int


class _Table(msgspec.Struct, frozen=True):
    name: str
    schema: str


class _HeaderFields(msgspec.Struct, frozen=True):
    journal: str
    number: int
    previous: PreviousEnd | None
    tables: list[_Table]


@dataclass(frozen=True, slots=True)
class Header:
    """What a segment says of itself; `end` is the offset of its first frame."""

    journal_id: str
    number: int
    previous: PreviousEnd | None
    tables: tuple[tuple[str, pa.Schema], ...]
    end: int


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame whose checksum is right."""

    table: int
    body: memoryview


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes from `start` to `end` that are no frame; `last` when no good frame follows."""

    start: int
    end: int
    last: bool


def encode_header(
    journal_id: str, number: int, previous: PreviousEnd | None, schemas: Mapping[str, pa.Schema]
) -> bytes:
    tables = [
        _Table(name, base64.b64encode(schema.serialize().to_pybytes()).decode("ascii"))
        for name, schema in schemas.items()
    ]
    text = msgspec.json.encode(_HeaderFields(journal_id, number, previous, tables))
    text += b" " * (-(len(text) + _FILE_HEAD.size) % ALIGNMENT)
    return _FILE_HEAD.pack(FILE_MAGIC, len(text), zlib.crc32(text)) + text


def decode_header(data: bytes | memoryview) -> Header:
    """The header at the start of `data`; raises NotASegment for anything else."""
    if len(data) < _FILE_HEAD.size:
        raise NotASegment("too short")
    magic, length, checksum = _FILE_HEAD.unpack_from(data)
    end = _FILE_HEAD.size + length
    if magic != FILE_MAGIC or length > _MAX_HEADER or end > len(data):
        raise NotASegment("no segment header")
    text = bytes(data[_FILE_HEAD.size : end])
    if zlib.crc32(text) != checksum:
        raise NotASegment("header checksum is wrong")
    try:
        fields = msgspec.json.decode(text, type=_HeaderFields)
        tables = tuple(
            (table.name, pa.ipc.read_schema(pa.py_buffer(base64.b64decode(table.schema)))) for table in fields.tables
        )
    except (msgspec.MsgspecError, binascii.Error, pa.ArrowException, OSError) as problem:
        raise NotASegment(f"header can not be read: {problem}") from problem
    return Header(fields.journal, fields.number, fields.previous, tables, end)


def header_bytes(length_prefix: bytes) -> int:
    """How many bytes the header takes, judged by the first 16; raises NotASegment."""
    if len(length_prefix) < _FILE_HEAD.size:
        raise NotASegment("too short")
    magic, length, _checksum = _FILE_HEAD.unpack_from(length_prefix)
    if magic != FILE_MAGIC or length > _MAX_HEADER:
        raise NotASegment("no segment header")
    return _FILE_HEAD.size + int(length)


def encode_frame(table: int, body: bytes | memoryview) -> list[bytes | memoryview]:
    """The buffers of one frame, the body not copied."""
    checksum = zlib.crc32(body, zlib.crc32(_CHECKED_HEAD.pack(len(body), table)))
    head = _FRAME_HEAD.pack(FRAME_MAGIC, len(body), checksum, table)
    padding = -len(body) % ALIGNMENT
    return [head, body, bytes(padding)] if padding else [head, body]


def length_of(buffers: Sequence[bytes | memoryview]) -> int:
    return sum(len(buffer) for buffer in buffers)


def frames(data: bytes, start: int, end: int) -> Iterator[Frame | Damage]:
    """Frames and damaged stretches from `start` to `end`, in order; never raises."""
    view = memoryview(data)
    offset = start
    while offset < end:
        found = _frame_at(view, offset, end)
        if found is not None:
            frame, offset = found
            yield frame
            continue
        resumed = _next_good_frame(data, view, offset + 1, end)
        yield Damage(offset, resumed, last=resumed == end)
        offset = resumed


def _frame_at(view: memoryview, offset: int, end: int) -> tuple[Frame, int] | None:
    body_start = offset + _FRAME_HEAD.size
    if body_start > end:
        return None
    magic, length, checksum, table = _FRAME_HEAD.unpack_from(view, offset)
    body_end = body_start + length
    if magic != FRAME_MAGIC or body_end > end:
        return None
    body = view[body_start:body_end]
    if zlib.crc32(body, zlib.crc32(_CHECKED_HEAD.pack(length, table))) != checksum:
        return None
    return Frame(table, body), min(body_end + -length % ALIGNMENT, end)


def _next_good_frame(data: bytes, view: memoryview, offset: int, end: int) -> int:
    while True:
        offset = data.find(FRAME_MAGIC, offset, end)
        if offset < 0:
            return end
        if _frame_at(view, offset, end) is not None:
            return offset
        offset += 1
