"""Makes readings of the bytes of one meter's line; no I/O, time is given."""

from __future__ import annotations

import collections
import dataclasses
import secrets
from collections.abc import Mapping
from typing import Protocol

import msgspec

from app.domain.linky import TicMode
from app.domain.p1 import P1Mode
from app.domain.reading import Reading
from app.protocol.tic.frames import Frame, FrameReader
from app.protocol.tic.groups import BadGroup, Event, Group, GroupReader
from app.protocol.tic.readings import ReadingMaker
from app.sources.serial.link import LinkMonitor
from app.sources.serial.meter_clock import MeterClock

# How a meter on a line speaks.
LineMode = TicMode | P1Mode


@dataclasses.dataclass(frozen=True, slots=True)
class MeterReading:
    """A reading and the meter it is of. `arrival_us` is UTC microseconds. The serial is personal data."""

    meter_serial: str
    mode: LineMode
    reading: Reading
    arrival_us: int

    @property
    def dialect(self) -> str:
        """What the meter speaks, as it stands in the registry."""
        return dialect_of(self.mode)


def dialect_of(mode: LineMode) -> str:
    """The dialect that a mode belongs to."""
    return "tic" if isinstance(mode, TicMode) else "dsmr"


class Line(Protocol):
    """Makes readings of the bytes of a line. Counters run since the construction, over all openings of the port.

    A frame is what the meter sends at once; a group is the smallest part of it that can be good or bad by itself.
    """

    @property
    def readings(self) -> int:
        """Readings so far."""
        ...

    @property
    def mode(self) -> LineMode | None:
        """How the last good group was spoken."""
        ...

    @property
    def bytes_read(self) -> int:
        """Bytes so far."""
        ...

    @property
    def groups_good(self) -> int:
        """Groups that could be used."""
        ...

    @property
    def groups_bad(self) -> int:
        """Groups that were dropped."""
        ...

    @property
    def frames_correct(self) -> int:
        """Frames without a fault."""
        ...

    @property
    def frames_bad(self) -> int:
        """Frames with one."""
        ...

    @property
    def frames_without_number(self) -> int:
        """Frames of which nobody knows whose they are."""
        ...

    @property
    def errors_by_label(self) -> Mapping[str, int]:
        """Bad groups by the label they seem to have had."""
        ...

    @property
    def warnings(self) -> Mapping[str, int]:
        """What was odd about frames that were used."""
        ...

    @property
    def meter_clock_offset_ms(self) -> int | None:
        """The meter's clock minus ours, at the last frame that told it."""
        ...

    def feed(self, chunk: bytes, *, now_us: int, steady_us: int) -> list[MeterReading]:
        """The readings of the frames that end in this chunk, which arrived now."""
        ...

    def interrupted(self) -> None:
        """The port was closed, or its settings changed: what was unfinished is dropped, the meter may be another."""
        ...


class MeterLine:
    """One line: bytes in, readings out. Counters run since the construction, over all openings of the port.

    `boot_id` marks this run of the line and `seq` counts its readings, as a module's do.
    """

    def __init__(self, link: LinkMonitor, boot_id: int | None = None) -> None:
        self.boot_id = secrets.randbits(32) if boot_id is None else boot_id
        self.mode: TicMode | None = None
        self.meter_serial: str | None = None
        self.readings = 0
        self.frames_bad = 0
        self.frames_without_number = 0
        self.errors_by_label: collections.Counter[str] = collections.Counter()
        self.errors_by_fault: collections.Counter[str] = collections.Counter()
        self.warnings: collections.Counter[str] = collections.Counter()
        self._link = link
        self._groups = GroupReader()
        self._frames = FrameReader()
        self._maker = ReadingMaker()
        self._clock = MeterClock()

    @property
    def bytes_read(self) -> int:
        """Bytes so far."""
        return self._groups.bytes_read

    @property
    def groups_good(self) -> int:
        """Groups that could be used."""
        return self._groups.groups_good

    @property
    def groups_bad(self) -> int:
        """Groups that were dropped."""
        return self._groups.groups_bad

    @property
    def frames_correct(self) -> int:
        """Frames without a fault."""
        return self._frames.frames_correct

    @property
    def meter_clock_offset_ms(self) -> int | None:
        """The meter's clock minus ours."""
        return self._clock.offset_ms

    def feed(self, chunk: bytes, *, now_us: int, steady_us: int) -> list[MeterReading]:
        """The readings of the frames that end in this chunk, which arrived now."""
        return self._take(list(self._groups.feed(chunk)), now_us=now_us, steady_us=steady_us)

    def interrupted(self) -> None:
        """The port was closed, or its settings changed: what was unfinished is dropped, the meter may be another."""
        for _event in self._groups.finish():
            pass
        for _frame in self._frames.finish():
            pass
        self.meter_serial = None
        self._maker = ReadingMaker()
        self._clock.forget_meter()

    def _take(self, events: list[Event], *, now_us: int, steady_us: int) -> list[MeterReading]:
        for event in events:
            if isinstance(event, BadGroup):
                self.errors_by_label[event.label] += 1
                self.errors_by_fault[event.fault] += 1
            elif isinstance(event, Group):
                self.mode = event.mode
        made = []
        for frame in self._frames.take(events):
            if not frame.whole:
                continue
            self._link.frame(correct=frame.correct, now_us=steady_us)
            self.frames_bad += not frame.correct
            reading = self._read(frame, now_us=now_us, steady_us=steady_us)
            if reading is not None:
                made.append(reading)
        return made

    def _read(self, frame: Frame, *, now_us: int, steady_us: int) -> MeterReading | None:
        serial = frame.meter_id
        if serial is not None and serial != self.meter_serial:
            self.meter_serial = serial
            self._maker = ReadingMaker()
            self._clock.forget_meter()
        found = self._maker.read(frame, steady_us)
        self.warnings.update(warning.value for warning in found.warnings)
        if found.reading is None or frame.mode is None:
            return None
        if self.meter_serial is None:
            # The number's group was damaged in every frame so far: nobody knows whose reading this is.
            self.frames_without_number += 1
            return None
        time_ms = self._clock.time_ms(found.meter_time, found.reading.frame_gap_ms, now_us)
        reading = msgspec.structs.replace(found.reading, time_ms=time_ms, boot_id=self.boot_id, seq=self.readings)
        self.readings += 1
        return MeterReading(self.meter_serial, frame.mode, reading, now_us)
