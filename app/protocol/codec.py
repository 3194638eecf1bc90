"""Messages of our modules from and to bytes: JSON or CBOR, told apart by the first byte.

Whatever the bytes are, a decoder returns a message or raises `Refused`; it reads no further than its size limit, and
neither nesting nor announced lengths make it use more memory than a small multiple of the payload.
"""

from __future__ import annotations

import enum
import io
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import cbor2
import msgspec
from msgspec import Meta

from app.domain.reading import Reading
from app.protocol.messages import MAX_LOG_LINES, MAX_READINGS, VERSION, Ack, Cmd, Diag, Fota, Log, Message, State, Tele
from app.protocol.topics import Kind

# A catch-up of 1,000 readings of 190 bytes fits; a single one is far below.
MAX_TELE_BYTES = 262_144
# A birth, a health report, a single reading or a hundred log lines of usual length. 65,536 items of one byte each are
# what CBOR decodes in 5 ms, and the hub's loop does nothing else meanwhile.
MAX_OTHER_BYTES = 65_536
# An array of structs that hold one map is three levels; the rest is room for fields we do not know yet.
MAX_CBOR_DEPTH = 16
MAX_DETAIL_LENGTH = 160

_JSON_FIRST = frozenset(b"{[ \t\r\n")
# Major types 4 (array) and 5 (map); both forms, with a length and open-ended.
_CBOR_FIRST = frozenset(range(0x80, 0xC0))
_CBOR_ARRAY, _CBOR_LENGTH_FOLLOWS, _CBOR_OPEN_ARRAY, _CBOR_BREAK = 0x80, 24, 0x9F, b"\xff"
_MAP_FIRST = frozenset((ord("{"), *range(0xA0, 0xC0)))
# Every tag for which cbor2 builds something of its own (RFC 8949 section 3.4 and the registered ones it knows): big
# numbers, dates, regular expressions, shared references. Our messages have none, and some cost more than they weigh.
_CBOR2_TAGS = (*range(6), *range(21, 41), 43, 100, 256, 258, 260, 261, 1004, 43000, 55799)


class Reason(enum.StrEnum):
    """Why a payload was refused; the names are what counters and the quarantine show."""

    EMPTY = "empty"
    TOO_LARGE = "too_large"
    FORMAT = "format"
    SYNTAX = "syntax"
    NESTING = "nesting"
    VERSION = "version"
    MISSING = "missing"
    TYPE = "type"
    RANGE = "range"
    LENGTH = "length"


class Refused(Exception):
    """A payload that is no message of ours: `reason`, and `detail` for a developer of modules (it quotes no values)."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason.value)
        self.reason = reason
        self.detail = detail[:MAX_DETAIL_LENGTH]


class _VersionOnly(msgspec.Struct):
    v: int = VERSION


def _decoder(message_type: Any, limit_bytes: int, many_type: Any = None, most: int = 0) -> Callable[[bytes], Any]:
    """A decoder of one kind of message, from either encoding; `many_type` is what a top-level array of `most` may be.

    A closure, not an object: calls of it are the hot path of the hub (0.6 us a reading, 0.1 of them ours).
    """
    decode_json = msgspec.json.Decoder(message_type if many_type is None else message_type | many_type).decode

    def decode(payload: bytes) -> Any:
        if len(payload) > limit_bytes:
            raise Refused(Reason.TOO_LARGE, f"{len(payload)} bytes, at most {limit_bytes}")
        if not payload:
            raise Refused(Reason.EMPTY)
        first = payload[0]
        if len(payload) > MAX_OTHER_BYTES and first in _MAP_FIRST:
            raise Refused(Reason.TOO_LARGE, f"{len(payload)} bytes, at most {MAX_OTHER_BYTES} for one message")
        if first in _JSON_FIRST:
            if most and len(payload) > 3 * most:
                _check_json_length(payload, most)
            try:
                return decode_json(payload)
            except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
                _refuse(error, lambda kind: msgspec.json.decode(payload, type=kind))
        if first not in _CBOR_FIRST:
            raise Refused(Reason.FORMAT, f"first byte 0x{first:02x} begins neither JSON nor a CBOR map or array")
        tree = _cbor_tree(payload, most)
        # msgspec remembers what it learned of a class, and inspects a union anew at each call (3 us).
        wanted = many_type if many_type is not None and isinstance(tree, list) else message_type
        try:
            return msgspec.convert(tree, wanted, str_keys=True)
        except (msgspec.ValidationError, RecursionError) as error:
            _refuse(error, lambda kind: msgspec.convert(tree, kind))

    return decode


def _no_tag(_decoder: object, _value: object = None) -> NoReturn:
    raise ValueError("tags are not part of the protocol")


_NO_TAGS: dict[int, Any] = dict.fromkeys(_CBOR2_TAGS, _no_tag)


def _check_json_length(payload: bytes, most: int) -> None:
    """Raise Refused for an array of too many objects, without making them all: that would take 20 ms."""
    if payload.count(b"{") <= most:
        return
    try:
        length = len(msgspec.json.decode(payload, type=list[msgspec.Raw]))
    except (msgspec.DecodeError, RecursionError):
        # Not an array, or not well formed: the decoder proper says what it is.
        return
    if length > most:
        raise Refused(Reason.LENGTH, f"an array of {length}, at most {most}")


def _announced(payload: bytes) -> int | None:
    """The length a top-level CBOR array begins with; None for one without, and for what is no array."""
    first = payload[0]
    if not _CBOR_ARRAY <= first < _CBOR_OPEN_ARRAY:
        return None
    short = first & 0x1F
    if short < _CBOR_LENGTH_FOLLOWS:
        return short
    return int.from_bytes(payload[1 : 1 + (1 << (short - _CBOR_LENGTH_FOLLOWS))]) if short <= 27 else None


def _cbor_tree(payload: bytes, most: int) -> Any:
    """The objects of a payload; a top-level array of more than `most` (when that is not 0) is not decoded."""
    announced = _announced(payload)
    if most and announced is not None and announced > most:
        raise Refused(Reason.LENGTH, f"an array of {announced}, at most {most}")
    stream = io.BytesIO(payload)
    decoder = cbor2.CBORDecoder(
        stream,
        tag_hook=_no_tag,
        semantic_decoders=_NO_TAGS,
        max_depth=MAX_CBOR_DEPTH,
        # Map keys are text alone: others could be chosen to collide, and a map of them costs the square of its size.
        strict_hashable_types=True,
    )
    try:
        tree = _open_array(payload, stream, decoder, most) if payload[0] == _CBOR_OPEN_ARRAY else decoder.decode()
    except cbor2.CBORDecodeEOF:
        raise Refused(Reason.SYNTAX, "CBOR ends too early") from None
    except (cbor2.CBORDecodeError, ValueError, TypeError, OverflowError, RecursionError, MemoryError) as error:
        text = str(error)
        raise Refused(Reason.NESTING if "depth" in text else Reason.SYNTAX, f"CBOR: {text}") from None
    if stream.tell() != len(payload):
        raise Refused(Reason.SYNTAX, "bytes after the CBOR item")
    return tree


def _open_array(payload: bytes, stream: io.BytesIO, decoder: cbor2.CBORDecoder, most: int) -> list[Any]:
    """The items of an array without a length, given up when they are more than `most`."""
    stream.seek(1)
    items: list[Any] = []
    while payload[stream.tell() : stream.tell() + 1] != _CBOR_BREAK:
        if most and len(items) >= most:
            raise Refused(Reason.LENGTH, f"an array of more than {most}")
        items.append(decoder.decode())
    stream.seek(1, io.SEEK_CUR)
    return items


def _refuse(error: Exception, decode_as: Callable[[Any], Any]) -> NoReturn:
    """Raise the refusal for what a decoder reported; a wrong version explains every other complaint."""
    if isinstance(error, RecursionError):
        raise Refused(Reason.NESTING, "nested too deep") from None
    if not isinstance(error, msgspec.ValidationError):
        raise Refused(Reason.SYNTAX, str(error)) from None
    try:
        versions = decode_as(_VersionOnly | list[_VersionOnly])
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        versions = []
    for found in versions if isinstance(versions, list) else [versions]:
        if found.v != VERSION:
            raise Refused(Reason.VERSION, f"version {found.v}; this hub understands {VERSION}") from None
    text = str(error)
    if "missing required field" in text:
        reason = Reason.MISSING
    elif " of length " in text:
        reason = Reason.LENGTH
    elif "<=" in text or ">=" in text or "out of range" in text:
        reason = Reason.RANGE
    else:
        reason = Reason.TYPE
    raise Refused(reason, text) from None


_Readings = Annotated[list[Tele], Meta(min_length=1, max_length=MAX_READINGS)]
_LogLines = Annotated[list[Log], Meta(min_length=1, max_length=MAX_LOG_LINES)]

decode_tele: Callable[[bytes], Reading | list[Reading]] = _decoder(Tele, MAX_TELE_BYTES, _Readings, MAX_READINGS)
decode_state: Callable[[bytes], State] = _decoder(State, MAX_OTHER_BYTES)
decode_log: Callable[[bytes], Log | list[Log]] = _decoder(Log, MAX_OTHER_BYTES, _LogLines, MAX_LOG_LINES)
decode_diag: Callable[[bytes], Diag] = _decoder(Diag, MAX_OTHER_BYTES)
decode_fota: Callable[[bytes], Fota] = _decoder(Fota, MAX_OTHER_BYTES)
decode_cmd: Callable[[bytes], Cmd] = _decoder(Cmd, MAX_OTHER_BYTES)
decode_ack: Callable[[bytes], Ack] = _decoder(Ack, MAX_OTHER_BYTES)

DECODERS: dict[Kind, Callable[[bytes], Any]] = {
    Kind.TELE: decode_tele,
    Kind.STATE: decode_state,
    Kind.LOG: decode_log,
    Kind.DIAG: decode_diag,
    Kind.FOTA: decode_fota,
    Kind.CMD: decode_cmd,
    Kind.ACK: decode_ack,
}


def encode_json(message: Message | list[Message]) -> bytes:
    """A message as compact JSON, without what is unknown."""
    return msgspec.json.encode(message)


def encode_cbor(message: Message | list[Message]) -> bytes:
    """A message as CBOR: the same fields under the same text keys, floats of 64 bits."""
    return cbor2.dumps(msgspec.to_builtins(message, str_keys=True))


#: The last will of every module: fixed, so that it can be given to the broker before anything is known.
WILL_PAYLOAD = encode_json(State(online=False))
