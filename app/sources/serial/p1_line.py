"""Makes readings of the bytes of one P1 port (DSMR); no I/O, time is given."""

from __future__ import annotations

import collections
import secrets

import msgspec

from app.domain.p1 import P1Mode
from app.protocol.dsmr.readings import ReadingMaker, meter_number
from app.protocol.dsmr.telegrams import BadTelegram, Event, Telegram, TelegramReader
from app.protocol.foreign import serial_of
from app.sources.serial.line import MeterReading
from app.sources.serial.link import LinkMonitor
from app.sources.serial.meter_clock import MeterClock


class P1Line:
    """One line: a telegram is a frame, and its only group, as one CRC covers it all."""

    def __init__(self, link: LinkMonitor, boot_id: int | None = None) -> None:
        self.boot_id = secrets.randbits(32) if boot_id is None else boot_id
        self.mode: P1Mode | None = None
        self.meter_serial: str | None = None
        self.readings = 0
        self.frames_correct = 0
        self.frames_bad = 0
        # A telegram without a number has its identification.
        self.frames_without_number = 0
        self.errors_by_label: collections.Counter[str] = collections.Counter()
        self.warnings: collections.Counter[str] = collections.Counter()
        self._link = link
        self._telegrams = TelegramReader()
        self._maker = ReadingMaker()
        self._clock = MeterClock()

    @property
    def bytes_read(self) -> int:
        """Bytes so far."""
        return self._telegrams.bytes_read

    @property
    def groups_good(self) -> int:
        """Telegrams that could be used."""
        return self._telegrams.telegrams_good

    @property
    def groups_bad(self) -> int:
        """Telegrams that were dropped."""
        return self._telegrams.telegrams_bad

    @property
    def meter_clock_offset_ms(self) -> int | None:
        """The meter's clock minus ours."""
        return self._clock.offset_ms

    def feed(self, chunk: bytes, *, now_us: int, steady_us: int) -> list[MeterReading]:
        """The readings of the telegrams that end in this chunk, which arrived now."""
        made = []
        for event in self._telegrams.feed(chunk):
            reading = self._read(event, now_us=now_us, steady_us=steady_us)
            if reading is not None:
                made.append(reading)
        return made

    def interrupted(self) -> None:
        """The port was closed, or its settings changed: what was unfinished is dropped, the meter may be another."""
        for _event in self._telegrams.finish():
            pass
        self.meter_serial = None
        self._maker = ReadingMaker()
        self._clock.forget_meter()

    def _read(self, event: Event, *, now_us: int, steady_us: int) -> MeterReading | None:
        correct = isinstance(event, Telegram) and not event.bad_lines
        self._link.frame(correct=correct, now_us=steady_us)
        self.frames_correct += correct
        self.frames_bad += not correct
        if isinstance(event, BadTelegram):
            self.errors_by_label[event.fault.value] += 1
            return None
        # Telegrams have a CRC since DSMR 4, and that is when the port became fast.
        self.mode = P1Mode.FAST if event.checked else P1Mode.SLOW
        serial = serial_of("dsmr", meter_number(event))
        if serial != self.meter_serial:
            self.meter_serial = serial
            self._maker = ReadingMaker()
            self._clock.forget_meter()
        found = self._maker.read(event, steady_us)
        self.warnings.update(warning.value for warning in found.warnings)
        if found.reading is None:
            return None
        time_ms = self._clock.time_ms(found.meter_time, found.reading.frame_gap_ms, now_us)
        reading = msgspec.structs.replace(found.reading, time_ms=time_ms, boot_id=self.boot_id, seq=self.readings)
        self.readings += 1
        return MeterReading(serial, self.mode, reading, now_us)
