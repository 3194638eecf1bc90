"""A line of which nobody said what the meter on it speaks: TIC and P1 both listen until one has understood."""

from __future__ import annotations

from collections.abc import Mapping

from app.sources.serial.line import Line, LineMode, MeterLine, MeterReading
from app.sources.serial.link import LinkMonitor
from app.sources.serial.p1_line import P1Line


class AnyLine:
    """Feeds every line until a whole frame was correct, then that one alone, until the port is interrupted.

    A frame, not a group: a six-bit checksum may once be right in bytes of another kind. Counters are those of the line
    that understands, else of the first.
    """

    def __init__(self, link: LinkMonitor) -> None:
        self._lines: tuple[Line, ...] = (MeterLine(link), P1Line(link))
        self._chosen: Line | None = None
        self._shown: Line = self._lines[0]
        self.bytes_read = 0

    @property
    def readings(self) -> int:
        """Readings so far, of all."""
        return sum(line.readings for line in self._lines)

    @property
    def mode(self) -> LineMode | None:
        """How the last good group was spoken."""
        return self._shown.mode

    @property
    def groups_good(self) -> int:
        """Groups that could be used, by either."""
        return sum(line.groups_good for line in self._lines)

    @property
    def groups_bad(self) -> int:
        """Groups that were dropped by the line that understands."""
        return self._shown.groups_bad

    @property
    def frames_correct(self) -> int:
        """Frames without a fault, of all."""
        return sum(line.frames_correct for line in self._lines)

    @property
    def frames_bad(self) -> int:
        """Frames with one."""
        return self._shown.frames_bad

    @property
    def frames_without_number(self) -> int:
        """Frames of which nobody knows whose they are."""
        return self._shown.frames_without_number

    @property
    def errors_by_label(self) -> Mapping[str, int]:
        """Bad groups by the label they seem to have had."""
        return self._shown.errors_by_label

    @property
    def warnings(self) -> Mapping[str, int]:
        """What was odd about frames that were used."""
        return self._shown.warnings

    @property
    def meter_clock_offset_ms(self) -> int | None:
        """The meter's clock minus ours."""
        return self._shown.meter_clock_offset_ms

    def feed(self, chunk: bytes, *, now_us: int, steady_us: int) -> list[MeterReading]:
        """The readings of the frames that end in this chunk, which arrived now."""
        self.bytes_read += len(chunk)
        made: list[MeterReading] = []
        for line in self._lines if self._chosen is None else (self._chosen,):
            groups, frames = line.groups_good, line.frames_correct
            made += line.feed(chunk, now_us=now_us, steady_us=steady_us)
            if line.groups_good != groups:
                self._shown = line
            if line.frames_correct != frames:
                self._chosen = line
        return made

    def interrupted(self) -> None:
        """The port was closed, or its settings changed: what was unfinished is dropped, the meter may be another."""
        for line in self._lines:
            line.interrupted()
        self._chosen = None
