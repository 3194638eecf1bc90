"""Makes readings of the bytes of one meter's line; no I/O, time is given."""

from __future__ import annotations

import collections
import dataclasses
import logging
import secrets

import msgspec

from app.domain.linky import MeterTime, TicMode
from app.domain.reading import Reading
from app.protocol.tic.frames import Frame, FrameReader
from app.protocol.tic.groups import BadGroup, Event, Group, GroupReader
from app.protocol.tic.readings import ReadingMaker
from app.sources.serial.link import LinkMonitor

log = logging.getLogger(__name__)

# A meter's clock further from ours than this is not used: its readings would fall into other hours of the store than
# those of every other module. Linky clocks are set over the power line and stay within seconds.
LARGEST_CLOCK_OFFSET_MS = 60_000


@dataclasses.dataclass(frozen=True, slots=True)
class MeterReading:
    """A reading and the meter it is of. `arrival_us` is UTC microseconds. The serial is personal data."""

    meter_serial: str
    mode: TicMode
    reading: Reading
    arrival_us: int


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
        self.meter_clock_offset_ms: int | None = None
        self._link = link
        self._groups = GroupReader()
        self._frames = FrameReader()
        self._maker = ReadingMaker()
        self._placed: tuple[int, int] | None = None
        self._clock_trusted = True

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
        self._placed = None

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
            self._placed = None
        found = self._maker.read(frame, steady_us)
        self.warnings.update(warning.value for warning in found.warnings)
        if found.reading is None or frame.mode is None:
            return None
        if self.meter_serial is None:
            # The number's group was damaged in every frame so far: nobody knows whose reading this is.
            self.frames_without_number += 1
            return None
        time_ms = self._time_ms(found.meter_time, found.reading.frame_gap_ms, now_us)
        reading = msgspec.structs.replace(found.reading, time_ms=time_ms, boot_id=self.boot_id, seq=self.readings)
        self.readings += 1
        return MeterReading(self.meter_serial, frame.mode, reading, now_us)

    def _time_ms(self, meter_time: MeterTime | None, gap_ms: int | None, now_us: int) -> int | None:
        """The meter's time if it can be believed, else None: then the arrival is the time."""
        if meter_time is None:
            return None
        date_ms = meter_time.time_ms
        self.meter_clock_offset_ms = date_ms - now_us // 1000
        trusted = not meter_time.degraded and abs(self.meter_clock_offset_ms) <= LARGEST_CLOCK_OFFSET_MS
        if trusted != self._clock_trusted:
            self._clock_trusted = trusted
            if trusted:
                log.info("the meter's clock agrees with ours again")
            else:
                log.warning(
                    "the meter's clock is not used: it is %.0f s from ours%s",
                    self.meter_clock_offset_ms / 1000,
                    " and says itself that it is degraded" if meter_time.degraded else "",
                )
        if not trusted:
            return None
        placed_ms = date_ms
        if self._placed is not None and self._placed[0] == date_ms:
            # The meter's clock counts seconds and frames may come faster: the gap places the second one of a second.
            placed_ms = min(self._placed[1] + (gap_ms or 1), date_ms + 999)
        self._placed = (date_ms, placed_ms)
        return placed_ms
