"""Cuts the byte stream of a meter's customer output into groups and checks each.

    frame            = STX(02) group+ ETX(03)      EOT(04): the meter breaks off, a new STX follows
    historique group = LF(0A) label SP data SP checksum CR(0D)
    standard group   = LF(0A) label HT [horodate HT] data HT checksum CR(0D)

The rules of this reader, which adapters, loggers and noise make necessary:

1. CR or LF ends a group, each alone is enough (a lost CR costs no group, text whose line ends were converted is read).
2. Control bytes before a group are no part of it: LF may arrive as 0x0F, NULs may fill gaps. STX, ETX and EOT there
   mark frames; inside a group they are noise, unless what stands before them is whole and correct (its CR was lost) or
   the line ends right after them (the group was cut off).
3. When control bytes stand inside a group and it is therefore wrong, but what follows the last of them is correct, then
   that is the group, and what stands before it is stray bytes, or a group that was cut off if it has a separator.
4. Everything else of 4 bytes or more between two line ends is one group, good or bad. What stands at an edge of the
   stream (before the first line end or frame mark, after the last) is a group when it is good, and else a fragment,
   which is no fault: reading began or ended in the middle of a group.
5. A byte with bit 7 set comes from a line opened without parity: the bit is masked.
6. A group longer than any real one is cut, counted once, and skipped up to its end.
"""

from __future__ import annotations

import dataclasses
import enum
import re
from collections.abc import Iterator

from app.domain.linky import HORODATE_PATTERN, TicMode
from app.protocol.tic.labels import LABELS, LABELS_OF_MODE, Form

# The longest real group is PJOURF+1 with 98 characters of data; twice that leaves room for longer ones to come.
MAX_GROUP_BYTES = 256
# A label of one character, no data, the separators and the checksum.
MIN_GROUP_BYTES = 4

STX, ETX, EOT, HT, LF, CR, SI = 0x02, 0x03, 0x04, 0x09, 0x0A, 0x0D, 0x0F
_SP = 0x20
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
# What a stream is cut at. Repeated line ends, and noise (which means something only inside a group), come in one
# piece: a line without a meter can send megabytes of it.
_CUT = re.compile(rb"\r+|\n+|[\x02-\x04\x0f]|[\x00\x01\x05-\x08\x0b\x0c\x0e\x10-\x1f\x7f]+")
_NOT_PRINTABLE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f-\xff]")
_TRAILING_CONTROLS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]+\Z")
# The longest label of the specification has 9 characters (SMAXSN1-1), although its text says 8. Companies' meters have
# small letters and underscores in theirs.
_LABEL = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,11}\Z", re.ASCII)
_MASK_BIT_7 = bytes(byte & 0x7F for byte in range(256))
_WITHOUT_BIT_7 = bytes(range(128))
_HISTORIQUE_LABELS = frozenset(name.encode() for name in LABELS_OF_MODE[TicMode.HISTORIQUE])
# What shows that a stream is past its first, perhaps cut, group.
_OPENERS = frozenset({CR, LF, SI, STX, ETX, EOT})


class Fault(enum.StrEnum):
    """Why a group is bad."""

    CONTROL_BYTE = "control_byte"
    SEPARATOR = "separator"
    CHECKSUM = "checksum"
    FIELDS = "fields"
    LABEL = "label"
    HORODATE = "horodate"
    LENGTH = "length"
    DIGITS = "digits"
    CUT_OFF = "cut_off"
    TOO_LONG = "too_long"


class Mark(enum.Enum):
    """A byte between groups that says where a frame begins or ends."""

    FRAME_START = STX
    FRAME_END = ETX
    INTERRUPTED = EOT


_MARKS = {mark.value: mark for mark in Mark}


@dataclasses.dataclass(frozen=True, slots=True)
class Group:
    """A group whose checksum and form are right. `data` is as sent, padding included; `offset` counts stream bytes."""

    label: str
    data: str
    horodate: str | None
    mode: TicMode
    offset: int


@dataclasses.dataclass(frozen=True, slots=True)
class BadGroup:
    """A group that can not be used; `label` is a label of the specification or "other". It holds none of the bytes."""

    fault: Fault
    label: str
    offset: int


Event = Group | BadGroup | Mark


def checksum(zone: bytes) -> int:
    """The checksum character of a zone: six bits of the sum, moved to printable characters."""
    return (sum(zone) & 0x3F) + 0x20


def parse_group(content: bytes, offset: int = 0) -> Group | Fault:
    """A group from what stands between LF and CR, or what is wrong with it.

    The separator before the checksum says the mode, and the mode says the rule (historique leaves that separator out of
    the sum): trying both would double what six bits let through. Older meters may separate with HT in historique mode
    (NOI-CPT_02E): their labels, none of which the standard mode has, say so.
    """
    if _NOT_PRINTABLE.search(content):
        return Fault.CONTROL_BYTE
    if len(content) < MIN_GROUP_BYTES:
        return Fault.SEPARATOR
    separator = content[-2]
    if separator not in {HT, _SP}:
        return Fault.SEPARATOR
    label_bytes = content.partition(bytes((separator,)))[0]
    if separator == HT and label_bytes not in _HISTORIQUE_LABELS:
        mode, zone = TicMode.STANDARD, content[:-1]
    else:
        mode, zone = TicMode.HISTORIQUE, content[:-2]
    if checksum(zone) != content[-1]:
        return Fault.CHECKSUM
    text = content[:-2].decode("ascii")
    if mode is TicMode.STANDARD:
        fields = text.split("\t")
        horodate = fields.pop(1) if len(fields) == 3 else None
    else:
        fields = text.split(chr(separator), 1)
        horodate = None
    if len(fields) != 2 or "\t" in fields[1]:
        return Fault.FIELDS
    label, data = fields
    if not _LABEL.match(label):
        return Fault.LABEL
    fault = _implausible(mode, label, data, horodate)
    return fault or Group(label, data, horodate, mode, offset)


def _implausible(mode: TicMode, label: str, data: str, horodate: str | None) -> Fault | None:
    """What six bits of checksum let through: four lost zeros, for one, leave them as they were."""
    known = LABELS_OF_MODE[mode].get(label)
    if known is None:
        return None
    if known.horodated and (horodate is None or not HORODATE_PATTERN.match(horodate)):
        return Fault.HORODATE
    if known.form is Form.DIGITS:
        if not data.isdigit():
            return Fault.DIGITS
        return None if len(data) == known.length else Fault.LENGTH
    if known.form is Form.HEX:
        if any(character not in "0123456789ABCDEFabcdef" for character in data):
            return Fault.DIGITS
        return None if len(data) == known.length else Fault.LENGTH
    return None if len(data) <= known.length else Fault.LENGTH


class GroupReader:
    """Takes a stream in chunks of any size and gives its groups and frame marks in order.

    It keeps at most one unfinished group. Counters run since the construction.
    """

    def __init__(self) -> None:
        self.groups_good = 0
        self.groups_bad = 0
        self.fragments = 0
        self.stray_bytes = 0
        self.bytes_read = 0
        self.bytes_with_bit_7 = 0
        self._content = bytearray()
        self._content_offset = 0
        self._opened = False
        self._skipping = False

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The groups and marks that end in this chunk. The chunk is read as the result is iterated over."""
        if not chunk.isascii():
            masked = chunk.translate(_MASK_BIT_7)
            self.bytes_with_bit_7 += len(chunk.translate(None, _WITHOUT_BIT_7))
            chunk = masked
        base = self.bytes_read
        at = 0
        for match in _CUT.finditer(chunk):
            position = match.start()
            if position > at:
                yield from self._append(chunk[at:position], base + at)
            at = match.end()
            if chunk[position] in _OPENERS:
                # Of several line ends the others find no group to end.
                yield from self._control(chunk[position], base + position)
            elif self._content:
                yield from self._append(match.group(), base + position)
            self.bytes_read = base + at
        if at < len(chunk):
            yield from self._append(chunk[at:], base + at)
        self.bytes_read = base + len(chunk)

    def finish(self) -> Iterator[Event]:
        """The stream ended or was interrupted: the unfinished group if it is good. What follows is a new stream."""
        if self._content:
            content = _TRAILING_CONTROLS.sub(b"", bytes(self._content))
            parsed = parse_group(content, self._content_offset)
            if isinstance(parsed, Group):
                yield self._good(parsed)
            else:
                self.fragments += 1
        self._content.clear()
        self._opened = False
        self._skipping = False

    def _append(self, text: bytes, offset: int) -> Iterator[Event]:
        if self._skipping:
            return
        if not self._content:
            self._content_offset = offset
        if len(self._content) + len(text) > MAX_GROUP_BYTES:
            label = _label_of(bytes(self._content) + text[:16])
            self._content.clear()
            self._skipping = True
            yield self._bad(Fault.TOO_LONG, label)
            return
        self._content += text

    def _control(self, byte: int, offset: int) -> Iterator[Event]:
        ends_line = byte in {CR, LF}
        if self._skipping:
            if not ends_line and byte != ETX:
                return
            self._skipping = False
        if not self._content:
            if byte in _MARKS:
                yield _MARKS[byte]
        elif ends_line:
            yield from self._close(bytes(self._content), by_line_feed=byte == LF)
            self._content.clear()
        elif byte in _MARKS and isinstance(group := parse_group(bytes(self._content), self._content_offset), Group):
            self._content.clear()
            yield self._good(group)
            yield _MARKS[byte]
        else:
            yield from self._append(bytes((byte,)), offset)
            return
        if byte in _OPENERS:
            self._opened = True

    def _close(self, content: bytes, *, by_line_feed: bool) -> Iterator[Event]:
        if len(content) < MIN_GROUP_BYTES or not content.strip(b" \t"):
            # A blank line, or less than any group has.
            self.stray_bytes += len(content)
            return
        parsed = parse_group(content, self._content_offset)
        if isinstance(parsed, Group):
            yield self._good(parsed)
            return
        trailing = _TRAILING_CONTROLS.search(content)
        if trailing:
            yield from self._close_cut_off(content, trailing.start(), by_line_feed=by_line_feed)
            return
        if parsed is Fault.CONTROL_BYTE:
            start = max(match.end() for match in _CONTROL.finditer(content))
            rest = parse_group(content[start:], self._content_offset + start)
            if isinstance(rest, Group):
                yield from self._leave(content[:start])
                yield self._good(rest)
                return
        yield from self._wrong(parsed, content)

    def _close_cut_off(self, content: bytes, end: int, *, by_line_feed: bool) -> Iterator[Event]:
        """A line that ends in control bytes: marks when it ended there, noise otherwise."""
        text, controls = content[:end], content[end:]
        group = parse_group(text, self._content_offset)
        # A lone STX before CR is noise; before LF, or after ETX or EOT, it begins a frame.
        marks = controls if by_line_feed else controls[min(_first(controls, ETX), _first(controls, EOT)) :]
        if isinstance(group, Group):
            yield self._good(group)
        else:
            yield from self._wrong(Fault.CUT_OFF if marks else Fault.CONTROL_BYTE, text)
        for byte in marks:
            if byte in _MARKS:
                yield _MARKS[byte]

    def _leave(self, before: bytes) -> Iterator[Event]:
        text = _CONTROL.sub(b"", before)
        if HT in text or _SP in text:
            yield from self._wrong(Fault.CUT_OFF, before)
        else:
            self.stray_bytes += len(text)

    def _wrong(self, fault: Fault, content: bytes) -> Iterator[Event]:
        if self._opened:
            yield self._bad(fault, _label_of(content))
        else:
            self.fragments += 1

    def _good(self, group: Group) -> Group:
        self.groups_good += 1
        return group

    def _bad(self, fault: Fault, label: str) -> BadGroup:
        self.groups_bad += 1
        return BadGroup(fault, label, self._content_offset)


def _first(controls: bytes, byte: int) -> int:
    at = controls.find(byte)
    return len(controls) if at < 0 else at


def _label_of(content: bytes) -> str:
    """The label a damaged group seems to have, from the closed list, so that counters by label stay few."""
    label = re.split(rb"[\t ]", content, maxsplit=1)[0].decode("ascii", "replace")
    return label if label in LABELS else "other"
