"""A meter on a port is adopted once, and what was read meanwhile is kept or counted."""

from __future__ import annotations

import asyncio
import socket
import threading

import pytest

from app.domain.linky import TicMode
from app.domain.reading import Reading
from app.domain.settings import SerialSettings
from app.hub import serial_meters
from app.hub.serial_meters import SerialMeters
from app.ingest.directory import ModuleDirectory, ModuleEntry
from app.sources.serial.line import MeterReading
from tests.app.ingest.readings import NOW_US, periods


def group(label, value):
    content = f"{label} {value}".encode()
    return b"\n" + content + b" " + bytes([(sum(content) & 0x3F) + 0x20]) + b"\r"


FRAME = (
    b"\x02"
    + b"".join(
        group(label, value)
        for label, value in (
            ("ADCO", "012345678912"),
            ("OPTARIF", "BASE"),
            ("ISOUSC", "30"),
            ("BASE", "002815235"),
            ("PTEC", "TH.."),
            ("IINST", "002"),
            ("PAPP", "00430"),
            ("HHPHC", "A"),
        )
    )
    + b"\x03"
)


class FakeRoster:
    def __init__(self):
        self.wanted = []

    def adopt(self, serial, template):
        self.wanted.append((serial, template.dialect))


class FakeIngest:
    def __init__(self):
        self.taken = asyncio.Queue()

    def take(self, slots, readings, arrival_us, *, guaranteed=None):
        for slot, reading in zip(slots, readings, strict=True):
            self.taken.put_nowait((slot, reading.apparent_va))


class World:
    def __init__(self, tmp_path, url):
        self.roster, self.modules, self.ingest = FakeRoster(), ModuleDirectory(), FakeIngest()
        self.meters = SerialMeters(
            SerialSettings(url=url), tmp_path / "serial.json", self.roster, self.modules, self.ingest
        )

    def register(self):
        self.modules.put([ModuleEntry("012345678912", periods((11, 0, None)))])
        self.meters.adopted()


@pytest.fixture
def line():
    """A serial line over TCP on which a meter speaks."""
    server = socket.create_server(("127.0.0.1", 0))
    ended = threading.Event()

    def speak():
        try:
            peer, _address = server.accept()
            with peer:
                while not ended.wait(0.05):
                    peer.sendall(FRAME)
        except OSError:
            return

    speaker = threading.Thread(target=speak, daemon=True)
    speaker.start()
    yield f"socket://127.0.0.1:{server.getsockname()[1]}"
    ended.set()
    server.close()
    speaker.join(5)


async def test_readings_from_the_wire_wait_for_their_meter_and_reach_ingest(tmp_path, line):
    world = World(tmp_path, line)
    world.meters.start()
    for _ in range(2000):
        if world.roster.wanted:
            break
        await asyncio.sleep(0.01)
    assert world.roster.wanted[0] == ("012345678912", "tic")
    assert world.ingest.taken.empty()

    world.register()
    assert await asyncio.wait_for(world.ingest.taken.get(), 20) == (0, 430)
    assert world.meters.counters()["frames_good"] >= 1
    await world.meters.stop()


async def test_above_the_bound_the_oldest_are_shed_and_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(serial_meters, "MOST_WAITING", 3)
    world = World(tmp_path, "socket://127.0.0.1:9")
    for number in range(5):
        world.meters._take(MeterReading("012345678912", TicMode.HISTORIQUE, Reading(apparent_va=number), NOW_US))
    world.register()

    assert [world.ingest.taken.get_nowait() for _ in range(3)] == [(0, 2), (0, 3), (0, 4)]
    assert world.meters.counters()["readings_shed"] == 2


async def test_without_a_port_there_is_nothing(tmp_path):
    world = World(tmp_path, "")
    world.meters.start()

    assert world.meters.counters() == {}
    await world.meters.stop()
