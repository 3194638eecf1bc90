"""Opens a meter's port: any URL pyserial knows (`/dev/ttyUSB0`, `COM3`, `socket://host:port`, `loop://`).

pyserial opens and sets devices; what it waits with is `select`, which knows no file descriptor above 1023, and a hub
with thousands of connections has those. So devices on Linux and sockets are read here.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import pathlib
import select
import socket
import stat
import sys
import urllib.parse
from collections.abc import Iterator
from typing import Protocol

import serial
import serial.tools.list_ports

from app.domain.errors import OperatorInputError
from app.domain.linky import BAUD, TicMode
from app.domain.p1 import P1Mode

if sys.platform == "win32":
    _TERMIOS_ERRORS: tuple[type[Exception], ...] = ()
else:
    import termios

    _TERMIOS_ERRORS = (termios.error,)

# How long a read waits for the first byte: also how long a stop may take.
READ_TIMEOUT_S = 0.2
CONNECT_TIMEOUT_S = 5.0
# The most taken in one go: some frames, when they waited in a buffer.
READ_BYTES = 4096


@dataclasses.dataclass(frozen=True, slots=True)
class LineSettings:
    """Speed and characters of a line; one stop bit, no flow control, as no adapter of a meter drives it."""

    baud: int
    byte_size: int
    parity: str


_7E1 = (serial.SEVENBITS, serial.PARITY_EVEN)
_8N1 = (serial.EIGHTBITS, serial.PARITY_NONE)
SETTINGS: dict[TicMode | P1Mode, LineSettings] = {
    TicMode.HISTORIQUE: LineSettings(BAUD[TicMode.HISTORIQUE], *_7E1),
    TicMode.STANDARD: LineSettings(BAUD[TicMode.STANDARD], *_7E1),
    P1Mode.FAST: LineSettings(115_200, *_8N1),
    P1Mode.SLOW: LineSettings(9600, *_7E1),
}


class UnknownPortError(OperatorInputError):
    """A URL that names no port of any kind."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"serial port {url!r}: {why}; give /dev/ttyUSB0, COM3 or socket://host:port")
        self.url = url


class Port(Protocol):
    """An open port; `has_baud` is false for streams without a speed of their own. Raises OSError when it is gone."""

    has_baud: bool

    def read(self) -> bytes:
        """What came; empty when nothing did within the time-out."""
        ...

    def set_mode(self, mode: TicMode | P1Mode) -> None:
        """Listen at the speed of this mode, and forget what came at the old one."""
        ...

    def close(self) -> None:
        """Close, whatever state it is in; raises nothing."""
        ...


def check_url(url: str) -> None:
    """Raise UnknownPortError for a URL that no kind of port answers to. Nothing is opened."""
    if _is_socket(url):
        _address(url)
        return
    if not url.strip():
        raise UnknownPortError(url, "no port is named")
    try:
        serial.serial_for_url(url, do_not_open=True)
    except (ValueError, OSError) as error:
        raise UnknownPortError(url, str(error)) from None


def open_port(url: str, mode: TicMode | P1Mode) -> Port:
    """Open a port at the speed of a mode. Raises OSError when it is not there or refuses; its text says which."""
    if _is_socket(url):
        return _SocketPort(url)
    try:
        return _open_device(url, mode)
    except OSError as error:
        raise _explained(url, error) from error


def _explained(url: str, error: OSError) -> OSError:
    """The error in an operator's words where the system's are none; the error itself otherwise."""
    if "://" in url:
        return error
    try:
        is_device = stat.S_ISCHR(pathlib.Path(url).stat().st_mode)
    except OSError:
        is_device = sys.platform == "win32" and "FileNotFoundError" not in str(error)
        if not is_device:
            here = ", ".join(sorted(port.device for port in serial.tools.list_ports.comports()))
            return FileNotFoundError(f"no such port; ports here: {here or 'none'}")
    # pyserial keeps the system's error number in its text alone.
    if not is_device or error.errno == errno.ENOTTY or f"({errno.ENOTTY}," in str(error):
        return OSError("it is no serial port")
    return error


def _open_device(url: str, mode: TicMode | P1Mode) -> Port:
    has_baud = "://" not in url or url.lower().startswith(("rfc2217://", "alt://", "hwgrep://", "spy://", "cp2110://"))
    settings = SETTINGS[mode]
    try:
        device = _open(url, settings)
    except (OSError, ValueError) as error:
        # Some drivers refuse 7E1: then parity arrives as bit 7, which the codecs mask.
        try:
            device = _open(url, LineSettings(settings.baud, *_8N1))
        except (OSError, ValueError):
            raise error if isinstance(error, OSError) else OSError(str(error)) from error
    if sys.platform == "linux" and "://" not in url:
        return _LinuxDevicePort(device)
    return _SerialPort(device, has_baud=has_baud)


class _SerialPort:
    """Whatever pyserial offers."""

    def __init__(self, device: serial.SerialBase, *, has_baud: bool) -> None:
        self.has_baud = has_baud
        self._device = device

    def read(self) -> bytes:
        chunk = bytearray(self._device.read(1))
        while chunk and len(chunk) < READ_BYTES:
            # What was read before the port went is returned; the next call raises.
            try:
                waiting = self._device.in_waiting
                more = self._device.read(min(waiting, READ_BYTES)) if waiting else b""
            except OSError:
                break
            if not more:
                break
            chunk += more
        return bytes(chunk)

    def set_mode(self, mode: TicMode | P1Mode) -> None:
        settings, device = SETTINGS[mode], self._device
        if device.baudrate != settings.baud:
            with _termios_as_os_error():
                device.baudrate = settings.baud
        # Both kinds of character are ten bits long, and the codecs mask the last: a driver that refuses is put up with.
        with contextlib.suppress(OSError, ValueError), _termios_as_os_error():
            if (device.bytesize, device.parity) != (settings.byte_size, settings.parity):
                device.bytesize = settings.byte_size
                device.parity = settings.parity
        with _termios_as_os_error():
            device.reset_input_buffer()

    def close(self) -> None:
        try:
            self._device.close()
        except OSError:
            # It is gone already; closing was all we wanted.
            return


class _LinuxDevicePort(_SerialPort):
    """A device opened by pyserial and read without it."""

    def __init__(self, device: serial.SerialBase) -> None:
        super().__init__(device, has_baud=True)
        self._descriptor: int = device.fileno()
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def read(self) -> bytes:
        if not self._poll.poll(READ_TIMEOUT_S * 1000):
            return b""
        try:
            chunk = os.read(self._descriptor, READ_BYTES)
        except BlockingIOError:
            return b""
        if not chunk:
            raise OSError("the device is gone")
        return chunk


class _SocketPort:
    """A byte stream over TCP: a serial server, or a module that passes its meter's bytes on."""

    has_baud = False

    def __init__(self, url: str) -> None:
        self._socket = socket.create_connection(_address(url), timeout=CONNECT_TIMEOUT_S)
        self._socket.settimeout(READ_TIMEOUT_S)

    def read(self) -> bytes:
        try:
            chunk = self._socket.recv(READ_BYTES)
        except TimeoutError:
            return b""
        if not chunk:
            raise ConnectionError("closed by the other side")
        return chunk

    def set_mode(self, mode: TicMode | P1Mode) -> None:
        """A stream has no speed; the mode shows in its separators."""

    def close(self) -> None:
        self._socket.close()


def _is_socket(url: str) -> bool:
    return url.lower().startswith("socket://")


def _address(url: str) -> tuple[str, int]:
    parts = urllib.parse.urlsplit(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise UnknownPortError(url, str(error)) from None
    if not host or not port:
        raise UnknownPortError(url, "host or port is missing")
    return host, port


def _open(url: str, settings: LineSettings) -> serial.SerialBase:
    with _termios_as_os_error():
        return serial.serial_for_url(
            url,
            baudrate=settings.baud,
            bytesize=settings.byte_size,
            parity=settings.parity,
            stopbits=serial.STOPBITS_ONE,
            timeout=READ_TIMEOUT_S,
            rtscts=False,
            dsrdtr=False,
            xonxoff=False,
        )


@contextlib.contextmanager
def _termios_as_os_error() -> Iterator[None]:
    """Pyserial lets this one through, when a driver refuses every change that was asked for; it is no OSError."""
    try:
        yield
    except _TERMIOS_ERRORS as error:
        raise OSError(*error.args) from error
