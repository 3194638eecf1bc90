"""The reader on real pseudo-terminals and real sockets."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pathlib
import queue
import resource
import socket
import termios
import threading

import pytest

from app.domain.linky import TicMode
from app.domain.p1 import P1Mode
from app.sources.serial.link import Link
from app.sources.serial.port import UnknownPortError
from app.sources.serial.reader import LISTEN_US, MeterReading, Protocol, SerialSource
from tests.app.protocol.dsmr import synthetic as dsmr
from tests.app.protocol.tic import synthetic

# Long enough for a busy machine; nothing waits so long when the code is right.
PATIENCE_S = 30


class SteppedClock:
    """Stands still until a test moves it; the wall clock begins with the fixtures' date."""

    def __init__(self) -> None:
        self._steady_us = 0

    def now_us(self) -> int:
        return 1_763_888_400_000_000 + self._steady_us

    def steady_us(self) -> int:
        return self._steady_us

    def move(self, step_us: int) -> None:
        self._steady_us += step_us


class FakeMeter:
    """A pseudo-terminal that repeats a frame while somebody listens at the right speed, and rubbish otherwise."""

    def __init__(self, link_path: pathlib.Path, stream: bytes, speed: int | None = None) -> None:
        self._stream, self._speed = stream, speed
        self.speeds_seen: list[int] = []
        self._ours, self._theirs = os.openpty()
        link_path.unlink(missing_ok=True)
        link_path.symlink_to(os.ttyname(self._theirs))
        os.set_blocking(self._ours, False)
        self._unplugged = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        while not self._unplugged.wait(0.02):
            speed = termios.tcgetattr(self._theirs)[4]
            if not self.speeds_seen or self.speeds_seen[-1] != speed:
                self.speeds_seen.append(speed)
            right = self._speed is None or speed == self._speed
            # Nobody reads and the line is full: a meter sends all the same, and it is lost.
            with contextlib.suppress(BlockingIOError):
                os.write(self._ours, self._stream if right else b"\xf1\x8f\x00\x7f\xe0" * 20)

    def unplug(self) -> None:
        self._unplugged.set()
        self._thread.join()
        os.close(self._ours)
        os.close(self._theirs)


class FakeGateway:
    """A TCP server that gives each client a stream; `hang_up` ends the connection, a new one is accepted."""

    def __init__(self, stream: bytes) -> None:
        self._stream = stream
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.clients: queue.Queue[socket.socket] = queue.Queue()
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"socket://127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                client.sendall(self._stream)
                self.clients.put(client)

    def hang_up(self) -> None:
        self.clients.get(timeout=PATIENCE_S).close()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        while not self.clients.empty():
            self.clients.get().close()


@pytest.fixture
def clock():
    return SteppedClock()


@pytest.fixture
def sources(clock):
    """Makes started sources whose readings are in a queue; stops them."""
    started: list[SerialSource] = []

    def make(url: str, **options) -> tuple[SerialSource, queue.Queue[MeterReading]]:
        readings: queue.Queue[MeterReading] = queue.Queue()
        source = SerialSource(url, readings.put, clock=clock, **options)
        started.append(source)
        source.start()
        return source, readings

    yield make
    for source in started:
        source.stop()


@pytest.fixture
def plug(tmp_path):
    meters: list[FakeMeter] = []

    def plug_in(stream: bytes, speed: int | None = None) -> FakeMeter:
        meter = FakeMeter(tmp_path / "ttyTIC", stream, speed)
        meters.append(meter)
        return meter

    yield plug_in
    for meter in meters:
        if not meter._unplugged.is_set():
            meter.unplug()


@pytest.fixture
def gateway():
    made: list[FakeGateway] = []

    def make(stream: bytes) -> FakeGateway:
        made.append(FakeGateway(stream))
        return made[-1]

    yield make
    for one in made:
        one.close()


def until(condition, meanwhile=lambda: None) -> None:
    """Wait for a condition of another thread."""
    waited = threading.Event()
    for _ in range(int(PATIENCE_S / 0.01)):
        if condition():
            return
        meanwhile()
        waited.wait(0.01)
    pytest.fail("it did not happen")


def test_readings_of_a_serial_port(plug, sources, tmp_path):
    plug(synthetic.historique_hc())
    source, readings = sources(str(tmp_path / "ttyTIC"))
    first, second = (readings.get(timeout=PATIENCE_S) for _ in range(2))

    assert first.meter_serial == "041961000017"
    assert first.mode is TicMode.HISTORIQUE
    assert first.reading.drawn_wh == 12_345_678
    assert (second.reading.seq or 0) - (first.reading.seq or 0) == 1
    assert source.link is Link.GOOD
    assert source.counters()["groups_good"] >= 22


def test_the_mode_is_found_and_remembered(plug, sources, clock, tmp_path):
    state_path = tmp_path / "modes.json"
    port = str(tmp_path / "ttyTIC")
    meter = plug(synthetic.standard_mono(), termios.B9600)
    source, readings = sources(port, state_path=state_path)
    until(lambda: not readings.empty(), meanwhile=lambda: clock.move(LISTEN_US // 20))
    reading = readings.get()
    source.stop()

    assert reading.mode is TicMode.STANDARD
    assert termios.B1200 in meter.speeds_seen
    assert source.counters()["mode_switches"] >= 1
    assert json.loads(state_path.read_text()) == {port: "standard"}

    # The next start listens at the right speed at once; the clock stands still.
    again, readings = sources(port, state_path=state_path)
    readings.get(timeout=PATIENCE_S)

    assert again.counters()["mode_switches"] == 0


def test_a_damaged_memory_of_modes_is_no_obstacle(plug, sources, tmp_path, caplog):
    state_path = tmp_path / "modes.json"
    state_path.write_text("{")
    plug(synthetic.historique_hc())
    _, readings = sources(str(tmp_path / "ttyTIC"), state_path=state_path)
    readings.get(timeout=PATIENCE_S)
    until(lambda: state_path.read_text() != "{")

    assert json.loads(state_path.read_text()) == {str(tmp_path / "ttyTIC"): "historique"}
    assert "remembered modes" in caplog.text


def test_unplugging_and_replugging_is_survived_and_said_once_each_way(plug, sources, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    meter = plug(synthetic.historique_hc())
    source, readings = sources(str(tmp_path / "ttyTIC"))
    readings.get(timeout=PATIENCE_S)
    meter.unplug()
    until(lambda: source.link is Link.OFF)
    while not readings.empty():
        readings.get()
    plug(synthetic.historique_ejp())
    found = readings.get(timeout=PATIENCE_S)

    assert found.meter_serial == "021561000031"
    until(lambda: caplog.text.count("a meter answers") == 2)
    assert caplog.text.count("is not available") == 1
    assert "041961000017" not in caplog.text


def test_a_port_that_is_not_there_yet_is_waited_for(plug, sources, tmp_path, caplog):
    _, readings = sources(str(tmp_path / "ttyTIC"))
    until(lambda: "no such port; ports here: " in caplog.text)
    plug(synthetic.historique_hc())

    assert readings.get(timeout=PATIENCE_S).meter_serial == "041961000017"


def test_a_port_that_is_silent_says_so_once(plug, sources, clock, tmp_path, caplog):
    plug(b"")
    source, _ = sources(str(tmp_path / "ttyTIC"))
    until(lambda: source.counters()["mode_switches"] >= 3, meanwhile=lambda: clock.move(LISTEN_US // 5))

    assert caplog.text.count("ttyTIC is open and silent") == 1
    assert "is not available" not in caplog.text


def test_bytes_that_are_no_tic_are_told_once_both_speeds_were_tried(plug, sources, clock, tmp_path, caplog):
    plug(b"\xf1\x8f\x00\x7f\xe0" * 20)
    source, _ = sources(str(tmp_path / "ttyTIC"))
    until(lambda: source.counters()["bytes"] > 0)
    until(lambda: source.counters()["mode_switches"] >= 4, meanwhile=lambda: clock.move(LISTEN_US // 5))

    assert caplog.text.count("answers with bytes that are no TIC and no P1 telegrams: check") == 1
    assert "is not available" not in caplog.text


def test_a_network_stream_of_no_meter_is_told_and_opened_anew(gateway, sources, clock, caplog):
    source, _ = sources(gateway(b"HTTP/1.1 400 Bad Request\r\n\r\n").url)
    until(lambda: source.counters()["bytes"] > 0)
    until(lambda: source.counters()["opened"] >= 2, meanwhile=lambda: clock.move(1_000_000))

    assert caplog.text.count("answers with bytes that are no TIC") == 1
    assert "is not available" not in caplog.text


def test_a_network_stream_is_read_in_either_mode(gateway, sources):
    one = gateway(synthetic.files()["std_hc_mono.bin"])
    other = gateway(synthetic.files()["hist_hc_mono.bin"])
    _, standard = sources(one.url)
    _, historique = sources(other.url)

    assert [standard.get(timeout=PATIENCE_S).mode for _ in range(3)] == [TicMode.STANDARD] * 3
    assert [historique.get(timeout=PATIENCE_S).mode for _ in range(3)] == [TicMode.HISTORIQUE] * 3


def test_a_network_stream_that_ends_is_opened_again_and_loses_no_frame(gateway, sources):
    server = gateway(synthetic.files()["std_hc_mono.bin"])
    source, readings = sources(server.url)
    server.hang_up()
    sequence = [readings.get(timeout=PATIENCE_S).reading.seq for _ in range(6)]

    assert sequence == [0, 1, 2, 3, 4, 5]
    assert source.counters()["opened"] >= 2


def test_a_network_stream_that_fell_silent_is_opened_again(gateway, sources, clock):
    server = gateway(synthetic.files()["std_hc_mono.bin"])
    source, readings = sources(server.url)
    for _ in range(3):
        readings.get(timeout=PATIENCE_S)
    until(lambda: source.counters()["opened"] >= 2, meanwhile=lambda: clock.move(1_000_000))

    assert readings.get(timeout=PATIENCE_S).reading.seq == 3


def test_a_line_without_frames_is_bad_after_ten_seconds(gateway, sources, clock):
    source, readings = sources(gateway(synthetic.files()["std_hc_mono.bin"]).url)
    for _ in range(3):
        readings.get(timeout=PATIENCE_S)
    good = source.link
    clock.move(10_500_000)

    assert good is Link.GOOD
    assert source.link is Link.BAD
    assert source.counters()["frame_age_s"] == 10.5


def test_what_the_listener_raises_loses_one_reading_and_no_more(gateway, clock, caplog):
    seen: queue.Queue[MeterReading] = queue.Queue()

    def listener(reading: MeterReading) -> None:
        if reading.reading.seq == 0:
            raise RuntimeError("busy")
        seen.put(reading)

    source = SerialSource(gateway(synthetic.files()["std_hc_mono.bin"]).url, listener, clock=clock)
    source.start()
    try:
        assert seen.get(timeout=PATIENCE_S).reading.seq == 1
    finally:
        source.stop()
    assert source.counters()["readings_lost"] == 1
    assert "a meter's reading was lost" in caplog.text


def test_a_descriptor_above_1023_is_read(plug, sources, tmp_path):
    # select() knows no such descriptor, and a hub with thousands of connections has them.
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 1200:
        pytest.skip("this process may not open so many files")
    plug(synthetic.historique_hc())
    held = []
    try:
        while not held or held[-1] < 1024:
            held.append(os.dup(0))
        _, readings = sources(str(tmp_path / "ttyTIC"))

        assert readings.get(timeout=PATIENCE_S).meter_serial == "041961000017"
    finally:
        for descriptor in held:
            os.close(descriptor)


@pytest.mark.parametrize("url", ["", "bogus://x", "socket://", "socket://host", "socket://host:x", "socket://:5"])
def test_a_url_that_names_no_port_is_refused_at_once(url):
    with pytest.raises(UnknownPortError, match="serial port"):
        SerialSource(url, lambda _reading: None)


def test_stop_before_anything_came_returns(sources, tmp_path):
    source, _ = sources(str(tmp_path / "absent"))
    source.stop()

    assert source.link is Link.OFF


def test_a_p1_port_behind_a_socket_is_understood_without_being_told(gateway, sources):
    stream = b"".join(dsmr.netherlands(second) for second in range(3))
    source, readings = sources(gateway(b"half a line\r\n!1234\r\n" + stream).url)
    found = [readings.get(timeout=PATIENCE_S) for _ in range(3)]

    assert {(one.meter_serial, one.dialect, one.mode) for one in found} == {
        (dsmr.NETHERLANDS_NUMBER, "dsmr", P1Mode.FAST)
    }
    assert [one.reading.seq for one in found] == [0, 1, 2]
    assert [one.reading.active_w for one in found] == [111] * 3
    assert source.link is Link.GOOD
    assert (source.counters()["frames_good"], source.counters()["groups_bad"]) == (3, 0)


def test_a_p1_meters_clock_dates_its_readings_while_it_agrees_with_ours(gateway, sources, clock):
    clock.move(-1_200_000_000)
    _, agrees = sources(gateway(dsmr.netherlands(5)).url)
    assert agrees.get(timeout=PATIENCE_S).reading.time_ms == 1_763_887_205_000
    clock.move(300_000_000)
    _, differs = sources(gateway(dsmr.netherlands(5)).url)
    assert differs.get(timeout=PATIENCE_S).reading.time_ms is None


def test_the_speed_of_a_p1_port_is_found_and_remembered(plug, sources, clock, tmp_path):
    state_path = tmp_path / "modes.json"
    port = str(tmp_path / "ttyTIC")
    meter = plug(dsmr.netherlands(), termios.B115200)
    source, readings = sources(port, state_path=state_path)
    until(lambda: not readings.empty(), meanwhile=lambda: clock.move(LISTEN_US // 20))
    until(state_path.exists)
    source.stop()

    assert meter.speeds_seen.index(termios.B1200) < meter.speeds_seen.index(termios.B115200)
    assert json.loads(state_path.read_text()) == {port: "p1_115200"}
    again, readings = sources(port, state_path=state_path)
    readings.get(timeout=PATIENCE_S)
    assert again.counters()["mode_switches"] == 0


def test_the_speed_that_worked_is_remembered_whatever_is_usual_for_such_telegrams(plug, sources, clock, tmp_path):
    state_path = tmp_path / "modes.json"
    port = str(tmp_path / "ttyTIC")
    plug(dsmr.netherlands(), termios.B9600)
    sources(port, state_path=state_path)
    until(state_path.exists, meanwhile=lambda: clock.move(LISTEN_US // 20))

    assert json.loads(state_path.read_text()) == {port: "p1_9600"}


@pytest.mark.parametrize("protocol", [Protocol.AUTO, Protocol.DSMR])
def test_an_old_p1_port_is_slow(protocol, plug, sources, clock, tmp_path):
    plug(dsmr.with_parity(dsmr.old_netherlands()), termios.B9600)
    _, readings = sources(str(tmp_path / "ttyTIC"), protocol=protocol)
    until(lambda: not readings.empty(), meanwhile=lambda: clock.move(LISTEN_US // 20))

    found = readings.get()
    assert (found.meter_serial, found.reading.drawn_wh) == ("E0088000000000019", 80_235)


@pytest.mark.parametrize(
    ("protocol", "mode"), [(Protocol.TIC, TicMode.HISTORIQUE), (Protocol.DSMR, P1Mode.FAST), (Protocol.AUTO, None)]
)
def test_what_a_port_was_said_to_speak_is_listened_for_alone(protocol, mode, gateway, sources):
    stream = dsmr.netherlands() + synthetic.historique_hc() + dsmr.netherlands(1) + synthetic.historique_hc()
    source, readings = sources(gateway(stream).url, protocol=protocol)
    found = [readings.get(timeout=PATIENCE_S).mode for _ in range(2)]

    if mode is None:
        # One meter is on a line: the first that is understood.
        assert set(found) <= {P1Mode.FAST, TicMode.HISTORIQUE}
    else:
        assert found == [mode] * 2
        assert source.counters()["readings"] == 2


def test_a_remembered_mode_of_another_protocol_is_not_used(plug, sources, tmp_path):
    state_path = tmp_path / "modes.json"
    port = str(tmp_path / "ttyTIC")
    state_path.write_text(json.dumps({port: "p1_115200"}))
    plug(synthetic.historique_hc(), termios.B1200)
    source, readings = sources(port, state_path=state_path, protocol=Protocol.TIC)

    assert readings.get(timeout=PATIENCE_S).mode is TicMode.HISTORIQUE
    assert source.counters()["mode_switches"] == 0


def test_a_damaged_telegram_makes_the_line_bad_and_is_counted(gateway, sources):
    bad = dsmr.netherlands(1).replace(b"229.9", b"229.8")
    source, readings = sources(gateway(dsmr.netherlands() + bad).url)
    readings.get(timeout=PATIENCE_S)
    until(lambda: source.counters()["frames_bad"] == 1)

    assert source.link is Link.BAD
    assert source.errors_by_label() == {"crc": 1}
