"""Ports of each kind."""

from __future__ import annotations

import os
import socket
import termios
from types import SimpleNamespace

import pytest
import serial
import serial.tools.list_ports

from app.domain.linky import TicMode
from app.domain.p1 import P1Mode
from app.sources.serial.port import _SerialPort, check_url, open_port


def test_a_port_of_pyserials_own():
    port = open_port("loop://", TicMode.STANDARD)
    try:
        port._device.write(b"ADSC")
        first = port.read()
        nothing = port.read()
    finally:
        port.close()

    assert (first, nothing) == (b"ADSC", b"")
    assert not port.has_baud


def test_a_device_is_set_to_the_speed_of_its_mode_without_flow_control():
    ours, theirs = os.openpty()
    port = open_port(os.ttyname(theirs), TicMode.HISTORIQUE)
    try:
        before = termios.tcgetattr(theirs)
        port.set_mode(TicMode.STANDARD)
        after = termios.tcgetattr(theirs)
        os.write(ours, b"ADCO")
        read = port.read()
    finally:
        port.close()
        os.close(ours)
        os.close(theirs)

    assert (before[4], after[4]) == (termios.B1200, termios.B9600)
    assert not after[2] & termios.CRTSCTS
    assert not after[0] & (termios.IXON | termios.IXOFF)
    assert read == b"ADCO"


@pytest.mark.parametrize("name", ["a_file", "", "/dev/null"])
def test_what_is_no_serial_port_is_called_so(tmp_path, name):
    (tmp_path / "a_file").write_text("")
    with pytest.raises(OSError, match=r"^it is no serial port$"):
        open_port(str(tmp_path / name), TicMode.STANDARD)


def test_a_device_that_is_missing_names_those_that_are_here(tmp_path, monkeypatch):
    here = [SimpleNamespace(device="/dev/ttyUSB1"), SimpleNamespace(device="/dev/ttyUSB0")]
    monkeypatch.setattr(serial.tools.list_ports, "comports", lambda: here)
    with pytest.raises(OSError, match=r"^no such port; ports here: /dev/ttyUSB0, /dev/ttyUSB1$"):
        open_port(str(tmp_path / "ttyUSB7"), TicMode.STANDARD)


def test_a_device_that_goes_raises_os_error_and_closes_quietly():
    ours, theirs = os.openpty()
    port = open_port(os.ttyname(theirs), TicMode.HISTORIQUE)
    os.close(ours)
    os.close(theirs)

    with pytest.raises(OSError):
        port.read()
    port.close()
    port.close()


def test_a_stream_that_ends_raises_os_error_after_its_bytes():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = open_port(f"socket://127.0.0.1:{listener.getsockname()[1]}", TicMode.STANDARD)
        client, _ = listener.accept()
        nothing = port.read()
        client.sendall(b"ADSC")
        client.close()
        read = port.read()

        assert (nothing, read) == (b"", b"ADSC")
        with pytest.raises(ConnectionError):
            port.read()
        port.close()


@pytest.mark.parametrize("url", ["/dev/there-is-no-such-port", "socket://127.0.0.1:1"])
def test_a_port_that_is_not_there_is_an_os_error(url):
    with pytest.raises(OSError):
        open_port(url, TicMode.STANDARD)


@pytest.mark.parametrize(
    "url", ["/dev/ttyUSB0", "COM3", "socket://host:8000", "SOCKET://[::1]:8000", "loop://", "rfc2217://host:1"]
)
def test_urls_that_may_be_ports(url):
    check_url(url)


def test_a_p1_port_is_opened_at_its_own_speed():
    ours, theirs = os.openpty()
    port = open_port(os.ttyname(theirs), P1Mode.FAST)
    try:
        fast = termios.tcgetattr(theirs)
        port.set_mode(P1Mode.SLOW)
        slow = termios.tcgetattr(theirs)
        port.set_mode(TicMode.STANDARD)
        port.set_mode(P1Mode.FAST)
        again = termios.tcgetattr(theirs)
    finally:
        port.close()
        os.close(ours)
        os.close(theirs)

    assert (fast[4], slow[4], again[4]) == (termios.B115200, termios.B9600, termios.B115200)
    assert not fast[2] & termios.PARENB


class RecordingDevice:
    """A device that takes what it is set to, or refuses seven bits."""

    def __init__(self, *, refuses=False):
        self.baudrate, self.parity, self._bits, self.refuses = 115200, "N", 8, refuses

    @property
    def bytesize(self):
        return self._bits

    @bytesize.setter
    def bytesize(self, bits):
        if self.refuses and bits == 7:
            raise serial.SerialException("not this one")
        self._bits = bits

    def reset_input_buffer(self):
        self.flushed = self.baudrate


def test_a_mode_sets_speed_bits_and_parity():
    device = RecordingDevice()
    port = _SerialPort(device, has_baud=True)
    port.set_mode(P1Mode.SLOW)
    slow = device.baudrate, device.bytesize, device.parity, device.flushed
    port.set_mode(P1Mode.FAST)

    assert slow == (9600, 7, "E", 9600)
    assert (device.baudrate, device.bytesize, device.parity) == (115200, 8, "N")


def test_a_device_that_refuses_seven_bits_is_read_with_eight():
    device = RecordingDevice(refuses=True)
    _SerialPort(device, has_baud=True).set_mode(TicMode.HISTORIQUE)

    assert (device.baudrate, device.bytesize, device.flushed) == (1200, 8, 1200)
