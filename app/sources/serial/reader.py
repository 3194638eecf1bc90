"""Runs a meter's port on a thread of its own: opens it, finds the mode, reads, and opens it again when it was lost."""

from __future__ import annotations

import enum
import logging
import pathlib
import threading
from collections.abc import Callable, Mapping

from app.domain.linky import TicMode
from app.domain.p1 import P1Mode
from app.sources.serial.any_line import AnyLine
from app.sources.serial.clock import Clock, SystemClock
from app.sources.serial.line import Line, LineMode, MeterLine, MeterReading
from app.sources.serial.link import FRAME_LIMIT_US, Link, LinkMonitor
from app.sources.serial.p1_line import P1Line
from app.sources.serial.port import Port, check_url, open_port
from app.sources.serial.remembered_modes import RememberedModes

log = logging.getLogger(__name__)

# How long to listen for a good group before another speed is tried: more than a frame of either TIC mode.
LISTEN_US = 3_000_000
# Before DSMR 5 a P1 port sends a telegram every 10 s.
LISTEN_P1_US = 12_000_000
# Between attempts to open a port that is not there: soon after a replug, seldom over a weekend.
FIRST_RETRY_S = 0.5
LONGEST_RETRY_S = 10.0
# The thread looks up each 0.2 s; only a connection being made may hold it for longer.
STOP_PATIENCE_S = 2.0
# After this and the 10 s of the line's own limit, a network stream without groups is closed and opened anew.
SILENT_STREAM_US = 20_000_000
_RATE_WINDOW_US = 2_000_000


class Protocol(enum.StrEnum):
    """What is listened for on a port."""

    AUTO = "auto"
    TIC = "tic"
    DSMR = "dsmr"


# In this order, again and again. Most Linky meters are delivered in historique mode; a standard Linky and a slow P1
# port have the same speed and characters, and without a name for what is spoken both are listened for.
_MODES: dict[Protocol, tuple[LineMode, ...]] = {
    Protocol.AUTO: (TicMode.HISTORIQUE, TicMode.STANDARD, P1Mode.FAST),
    Protocol.TIC: (TicMode.HISTORIQUE, TicMode.STANDARD),
    Protocol.DSMR: (P1Mode.FAST, P1Mode.SLOW),
}
_NAMES = {Protocol.AUTO: "TIC and no P1 telegrams", Protocol.TIC: "TIC", Protocol.DSMR: "P1 telegrams"}

__all__ = ["MeterReading", "Protocol", "SerialSource"]


class _State(enum.Enum):
    ANSWERS = enum.auto()
    SILENT = enum.auto()
    NOISE = enum.auto()
    LOST = enum.auto()


class _NothingOfAMeterError(Exception):
    """A stream that is open and useless, as the log says already."""


class SerialSource:
    """The reader of one port.

    `on_reading` is called on the reader's thread, for each reading in order; it must return quickly and marshal to
    where it belongs. What it raises is logged and counted, and the reading is lost. A meter's serial is personal
    data: it is in the readings, never in a log line.
    """

    def __init__(
        self,
        url: str,
        on_reading: Callable[[MeterReading], None],
        *,
        protocol: Protocol = Protocol.AUTO,
        clock: Clock | None = None,
        state_path: pathlib.Path | None = None,
    ) -> None:
        """Raises UnknownPortError for a URL of no kind; a port that is not there now is waited for instead."""
        check_url(url)
        self._url = url
        self._on_reading = on_reading
        self._clock = clock or SystemClock()
        self._remembered = RememberedModes(state_path)
        self._link = LinkMonitor()
        self._protocol = protocol
        self._modes = _MODES[protocol]
        self._line = _line_for(protocol, self._link)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._remembered_mode = self._remembered.mode(url)
        self._port_mode = self._first_mode()
        self._listen_until_us = 0
        self._groups_at_last_look = 0
        self._retry_s = FIRST_RETRY_S
        # What the log says of the port since it last answered or was lost: each state once.
        self._said: set[_State] = set()
        self._bytes_at_last_answer = 0
        self._switches_since_answer = 0
        self._opened = 0
        self._callback_failures = 0
        self._mode_switches = 0
        self._rate = _ByteRate()

    def start(self) -> None:
        """Begin to read, once."""
        if self._thread is not None:
            raise RuntimeError("the serial source was started before")
        self._thread = threading.Thread(target=self._run, name="serial-source", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port and return, within `STOP_PATIENCE_S`; readings that come later are dropped."""
        self._stop.set()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(STOP_PATIENCE_S)

    @property
    def link(self) -> Link:
        """The state of the line now."""
        return self._link.state(self._clock.steady_us())

    @property
    def mode(self) -> LineMode | None:
        """The mode of the last good group."""
        return self._line.mode

    def counters(self) -> Mapping[str, float]:
        """What a technician asks of a line, since the start; absent while unknown. Reading it needs no lock."""
        line = self._line
        counters: dict[str, float] = {
            "frames_good": line.frames_correct,
            "frames_bad": line.frames_bad,
            "frames_without_number": line.frames_without_number,
            "groups_good": line.groups_good,
            "groups_bad": line.groups_bad,
            "readings": line.readings,
            "readings_lost": self._callback_failures,
            "bytes": line.bytes_read,
            "bytes_per_s": self._rate.bytes_per_s,
            "opened": self._opened,
            "mode_switches": self._mode_switches,
        }
        age_us = self._link.frame_age_us(self._clock.steady_us())
        if age_us != float("inf"):
            counters["frame_age_s"] = age_us / 1_000_000
        if line.meter_clock_offset_ms is not None:
            counters["meter_clock_offset_s"] = line.meter_clock_offset_ms / 1000
        counters.update({f"warning_{name}": count for name, count in list(line.warnings.items())})
        return counters

    def errors_by_label(self) -> Mapping[str, int]:
        """Bad groups by the label they seem to have had; labels we do not know are together under "other"."""
        return dict(self._line.errors_by_label)

    def _run(self) -> None:
        while not self._stop.is_set():
            mode = self._first_mode()
            try:
                port = open_port(self._url, mode)
                self._opened += 1
                self._serve(port, mode)
            except _NothingOfAMeterError:
                log.debug("serial port %s is opened anew", self._url)
            except OSError as error:
                self._say_lost(error)
            except Exception:
                log.exception("reading serial port %s failed, it will be opened again", self._url)
            self._stop.wait(self._retry_s)
            self._retry_s = min(2 * self._retry_s, LONGEST_RETRY_S)

    def _first_mode(self) -> LineMode:
        remembered = self._remembered_mode
        allowed = remembered is not None and (self._protocol is Protocol.AUTO or remembered in self._modes)
        return remembered if remembered is not None and allowed else self._modes[0]

    def _serve(self, port: Port, mode: LineMode) -> None:
        """Read until the source is stopped; OSError when the port is lost."""
        self._port_mode = mode
        self._listen_until_us = self._clock.steady_us() + _listen_us(mode)
        self._groups_at_last_look = self._line.groups_good
        self._link.opened()
        try:
            while not self._stop.is_set():
                self._take(port.read())
                self._look_for_mode(port)
        finally:
            port.close()
            self._link.closed()
            self._line.interrupted()

    def _take(self, chunk: bytes) -> None:
        steady_us = self._clock.steady_us()
        self._rate.add(len(chunk), steady_us)
        if not chunk:
            return
        for reading in self._line.feed(chunk, now_us=self._clock.now_us(), steady_us=steady_us):
            if self._stop.is_set():
                return
            try:
                self._on_reading(reading)
            except Exception:
                self._callback_failures += 1
                log.exception("a meter's reading was lost")

    def _look_for_mode(self, port: Port) -> None:
        """Try another speed after 3 s without a good group (12 s of a P1 port), 10 s when there were some before."""
        now_us = self._clock.steady_us()
        if self._line.groups_good != self._groups_at_last_look:
            self._groups_at_last_look = self._line.groups_good
            self._listen_until_us = now_us + max(FRAME_LIMIT_US, _listen_us(self._line.mode))
            self._say_answers(port)
        elif now_us > self._listen_until_us:
            every_speed = not port.has_baud or self._switches_since_answer >= len(self._modes) - 1
            self._say_nothing_of_a_meter(every_speed=every_speed)
            if not port.has_baud:
                # Meters never stop: a stream without a byte of sense for so long is a peer that has died unnoticed.
                if now_us > self._listen_until_us + SILENT_STREAM_US:
                    raise _NothingOfAMeterError
                return
            self._port_mode = self._next_mode()
            port.set_mode(self._port_mode)
            self._mode_switches += 1
            self._switches_since_answer += 1
            self._line.interrupted()
            self._listen_until_us = now_us + _listen_us(self._port_mode)

    def _next_mode(self) -> LineMode:
        """The mode after this one; after one that is not among ours, as remembered, the first."""
        at = self._modes.index(self._port_mode) if self._port_mode in self._modes else -1
        return self._modes[(at + 1) % len(self._modes)]

    def _say_answers(self, port: Port) -> None:
        """A meter speaks on the port: the only proof that it is the right port at the right speed."""
        self._retry_s = FIRST_RETRY_S
        mode = self._line.mode
        if port.has_baud and isinstance(mode, P1Mode):
            # What counts next time is the speed that worked, whatever is usual for such telegrams.
            mode = P1Mode.FAST if self._port_mode is P1Mode.FAST else P1Mode.SLOW
        if mode is not None and mode is not self._remembered_mode:
            self._remembered_mode = mode
            self._remembered.remember(self._url, mode)
        self._bytes_at_last_answer = self._line.bytes_read
        self._switches_since_answer = 0
        if _State.ANSWERS not in self._said:
            self._said = {_State.ANSWERS}
            log.info("a meter answers on serial port %s, mode %s", self._url, self._line.mode)

    def _say_nothing_of_a_meter(self, *, every_speed: bool) -> None:
        """The port is there and no meter speaks on it: tell which of the two it is."""
        if self._line.bytes_read == self._bytes_at_last_answer:
            state, text = (
                _State.SILENT,
                "is open and silent: check the wiring, and that the meter's output is connected",
            )
        elif every_speed:
            state = _State.NOISE
            text = (
                f"answers with bytes that are no {_NAMES[self._protocol]}: "
                "check the wiring, the adapter and the meter's mode"
            )
        else:
            return
        self._said.discard(_State.ANSWERS)
        if state not in self._said:
            self._said.add(state)
            log.warning("serial port %s %s", self._url, text)

    def _say_lost(self, error: OSError) -> None:
        self._bytes_at_last_answer = self._line.bytes_read
        self._switches_since_answer = 0
        if _State.LOST not in self._said:
            self._said = {_State.LOST}
            log.warning("serial port %s is not available, will be opened again: %s", self._url, error)


def _line_for(protocol: Protocol, link: LinkMonitor) -> Line:
    if protocol is Protocol.TIC:
        return MeterLine(link)
    return P1Line(link) if protocol is Protocol.DSMR else AnyLine(link)


def _listen_us(mode: LineMode | None) -> int:
    return LISTEN_P1_US if isinstance(mode, P1Mode) else LISTEN_US


class _ByteRate:
    """Bytes per second over the last full window."""

    def __init__(self) -> None:
        self.bytes_per_s = 0.0
        self._bytes = 0
        self._since_us: int | None = None

    def add(self, count: int, now_us: int) -> None:
        if self._since_us is None:
            self._since_us = now_us
        self._bytes += count
        elapsed_us = now_us - self._since_us
        if elapsed_us >= _RATE_WINDOW_US:
            self.bytes_per_s = self._bytes * 1_000_000 / elapsed_us
            self._bytes = 0
            self._since_us = now_us
