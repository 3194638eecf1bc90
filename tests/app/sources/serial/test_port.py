"""Ports of each kind."""

from __future__ import annotations

import os
import socket
import termios
from types import SimpleNamespace

import pytest
import serial.tools.list_ports

from app.domain.linky import TicMode
from app.sources.serial.port import check_url, open_port


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
