"""Plays the dump of a meter's line as the meter would: at the line's speed, to a serial device or by TCP."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

import serial

from app.domain.errors import EnvironmentFault
from app.domain.linky import BAUD, TicMode
from app.protocol.captures.kind import CaptureKind
from device_sim.replay.pace import Pace

# One character of a line is ten bits.
_BITS = 10
P1_BAUD = 115_200
# A DSMR 5 meter's; older ones send every 10 s.
P1_PERIOD_S = 1.0
# Small enough that a paced line flows, large enough for a fast one.
_PIECE_BYTES = 64
_LARGE_PIECE_BYTES = 4096
_ACCEPT_S = 0.2
_P1_END = re.compile(rb"!(?:[0-9A-Fa-f]{1,4})?[^\r\n]{0,8}\r?\n?")


@dataclasses.dataclass(frozen=True, slots=True)
class Dump:
    """The bytes of a line, and how fast it was."""

    content: bytes
    kind: CaptureKind

    @property
    def baud(self) -> int:
        """Of the line it was recorded from."""
        if self.kind is CaptureKind.DSMR:
            return P1_BAUD
        return BAUD[TicMode.STANDARD if b"\t" in self.content else TicMode.HISTORIQUE]


class Sink(Protocol):
    """Where the bytes go. `send` raises OSError when the other side is gone."""

    def send(self, piece: bytes) -> None:
        """Give it all."""
        ...


class SerialSink:
    """A serial device, set to the dump's speed."""

    def __init__(self, device: str, dump: Dump) -> None:
        seven = dump.kind is CaptureKind.TIC
        settings = (serial.SEVENBITS, serial.PARITY_EVEN) if seven else (serial.EIGHTBITS, serial.PARITY_NONE)
        try:
            self._device = serial.Serial(device, dump.baud, *settings, write_timeout=10)
        except (OSError, ValueError):
            # Some drivers refuse 7E1, pseudo-terminals among them: then the reader has no parity to check.
            try:
                self._device = serial.Serial(device, dump.baud, write_timeout=10)
            except (OSError, ValueError) as error:
                raise EnvironmentFault(f"serial port {device}: {error}") from error

    def send(self, piece: bytes) -> None:
        """Give it all."""
        self._device.write(piece)

    def close(self) -> None:
        """Close the device."""
        self._device.close()


class TcpListener:
    """A port that one reader after the other connects to, as to a serial server."""

    def __init__(self, host: str, port: int) -> None:
        try:
            self._listener = socket.create_server((host, port))
        except OSError as error:
            raise EnvironmentFault(f"TCP port {port} can not be opened: {error}") from error
        self._listener.settimeout(_ACCEPT_S)
        self.address: tuple[str, int] = self._listener.getsockname()[:2]

    def next_peer(self, stop: threading.Event) -> socket.socket | None:
        """The next reader; None when stopped."""
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                peer, _ = self._listener.accept()
                peer.settimeout(10)
                return peer
        return None

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()


class LinePlayer:
    """Plays dumps, one after the other; `bytes_sent` and `rounds` count what was given away."""

    def __init__(self, dumps: list[Dump], speed: float | None, stop: threading.Event, *, loop: bool) -> None:
        self.bytes_sent = 0
        self.rounds = 0
        self._dumps = dumps
        self._speed = speed
        self._stop = stop
        self._loop = loop

    def play_to(self, sink_of: Callable[[Dump], Sink]) -> None:
        """Play to a sink made for each dump. Raises OSError when it is gone."""
        for dump, pieces in self._rounds():
            sink = sink_of(dump)
            for piece in pieces:
                sink.send(piece)
                self.bytes_sent += len(piece)

    def play_on(self, listener: TcpListener) -> None:
        """Play to whoever connects; when they leave the rest waits for the next one."""
        peer: socket.socket | None = None
        for _dump, pieces in self._rounds():
            for piece in pieces:
                sent = False
                while not sent:
                    peer = peer or listener.next_peer(self._stop)
                    if peer is None:
                        return
                    try:
                        peer.sendall(piece)
                        sent = True
                    except OSError:
                        peer.close()
                        peer = None
                self.bytes_sent += len(piece)
        if peer is not None:
            # The end comes after all bytes were taken: closing at once could throw away what is under way.
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_WR)
                peer.recv(1)
            peer.close()

    def _rounds(self) -> Iterator[tuple[Dump, Iterator[bytes]]]:
        while not self._stop.is_set():
            for dump in self._dumps:
                yield dump, self._pieces(dump, Pace(self._speed, self._stop))
            self.rounds += 1
            if not self._loop:
                return

    def _pieces(self, dump: Dump, pace: Pace) -> Iterator[bytes]:
        """Pieces of a dump, each when it is due."""
        size = _LARGE_PIECE_BYTES if self._speed is None else _PIECE_BYTES
        for part in parts_of(dump):
            sent_s = 0.0
            for at in range(0, len(part), size):
                piece = part[at : at + size]
                lasts_s = len(piece) * _BITS / dump.baud
                if not pace.wait(lasts_s):
                    return
                sent_s += lasts_s
                yield piece
            if dump.kind is CaptureKind.DSMR and not pace.wait(P1_PERIOD_S - sent_s):
                return


def parts_of(dump: Dump) -> Iterator[bytes]:
    """Telegrams of a P1 port one by one; the line of a Linky never pauses."""
    at = 0
    if dump.kind is CaptureKind.DSMR:
        for end in _P1_END.finditer(dump.content):
            yield dump.content[at : end.end()]
            at = end.end()
    if at < len(dump.content):
        yield dump.content[at:]
