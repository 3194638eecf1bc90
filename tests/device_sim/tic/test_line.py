"""The line: what is sent arrives byte for byte, at the pace of a meter or of its reader, and nobody is waited for."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from app.domain.linky import TicMode
from device_sim.tic import line
from device_sim.tic.contracts import CONTRACTS
from device_sim.tic.line import PtyOutlet, TcpOutlet, play
from device_sim.tic.meter import MeterPlan
from device_sim.tic.power import ConstantPower
from device_sim.tic.stream import MeterStream

START_S = 1_770_000_000.0


def stream():
    return MeterStream(MeterPlan(CONTRACTS["hchp"]), TicMode.STANDARD, ConstantPower(500.0, 1), START_S)


def expected(seconds):
    meter, data = stream(), b""
    for piece in meter.pieces():
        data += piece.data
        if piece.ends_frame and meter.at_s + piece.line_s - START_S >= seconds:
            break
    return data


async def test_every_byte_arrives_over_tcp_however_fast():
    outlet = TcpOutlet()
    await outlet.open(0)
    playing = asyncio.ensure_future(play(stream(), outlet, fast=True, seconds=300))
    reader, writer = await asyncio.open_connection("127.0.0.1", outlet.port)
    try:
        data = asyncio.ensure_future(reader.read(-1))
        await playing
        await outlet.close()
        assert await data == expected(300)
    finally:
        writer.close()


async def test_fast_waits_for_a_reader():
    outlet = TcpOutlet()
    await outlet.open(0)
    meter = stream()
    playing = asyncio.ensure_future(play(meter, outlet, fast=True, seconds=1))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not playing.done()
    assert meter.at_s == START_S
    playing.cancel()
    await outlet.close()


@pytest.mark.skipif(os.name == "nt", reason="this system has no pseudo terminals")
async def test_every_byte_arrives_over_a_pseudo_terminal_however_fast():
    outlet = PtyOutlet()
    wanted, data = expected(60), bytearray()
    terminal = os.open(outlet.path, os.O_RDONLY | os.O_NOCTTY)
    try:
        playing = asyncio.ensure_future(play(stream(), outlet, fast=True, seconds=60))
        while len(data) < len(wanted):
            data += await asyncio.to_thread(os.read, terminal, 65_536)
        await playing
        assert bytes(data) == wanted
    finally:
        os.close(terminal)
        await outlet.close()


@pytest.mark.skipif(os.name == "nt", reason="this system has no pseudo terminals")
async def test_the_last_bytes_wait_for_their_reader():
    outlet = PtyOutlet()
    terminal = os.open(outlet.path, os.O_RDONLY | os.O_NOCTTY)
    try:
        await outlet.write(b"last words")
        closing = asyncio.ensure_future(outlet.close())
        await asyncio.sleep(0)
        assert not closing.done()
        assert os.read(terminal, 100) == b"last words"
        await closing
    finally:
        os.close(terminal)


@pytest.mark.skipif(os.name == "nt", reason="this system has no pseudo terminals")
async def test_nobody_on_a_pseudo_terminal_costs_nothing(monkeypatch):
    monkeypatch.setattr(line, "LAST_WORDS_S", 0.02)
    outlet = PtyOutlet()
    for _ in range(100):
        await outlet.write(b"x" * 1000)
    assert len(outlet._rest) <= 1000
    await outlet.close()


async def test_the_pace_is_real():
    outlet = TcpOutlet()
    await outlet.open(0)
    began = time.monotonic()
    await play(stream(), outlet, seconds=2)
    took_s = time.monotonic() - began
    await outlet.close()
    # The last sleep is not left out, and a busy machine may make it longer.
    assert 1.9 < took_s < 10


async def test_a_reader_that_does_not_read_costs_nobody_anything(monkeypatch):
    monkeypatch.setattr(line, "MOST_WAITING_BYTES", 4096)
    outlet = TcpOutlet()
    await outlet.open(0)
    _, lazy = await asyncio.open_connection("127.0.0.1", outlet.port, limit=1)
    await outlet.drain()  # it is there
    lazy.transport.pause_reading()
    for _ in range(3000):
        await outlet.write(b"x" * 4096)
    [waiting] = outlet._readers
    assert waiting.transport.get_write_buffer_size() <= 2 * 4096 + 65_536
    lazy.transport.abort()
    waiting.transport.abort()
    await outlet.close()


async def test_readers_may_come_and_go():
    outlet = TcpOutlet()
    await outlet.open(0)
    playing = asyncio.ensure_future(play(stream(), outlet))
    for _ in range(2):
        reader, writer = await asyncio.open_connection("127.0.0.1", outlet.port)
        assert b"\r" in await reader.readuntil(b"\r")
        writer.close()
    playing.cancel()
    await outlet.close()


async def test_a_lag_is_not_sent_at_once(monkeypatch):
    """A process that was stopped goes on from now: its meter's time too."""
    outlet, meter = TcpOutlet(), stream()
    loop = asyncio.get_running_loop()
    real, jump = loop.time, [0.0]
    monkeypatch.setattr(loop, "time", lambda: real() + jump[0])
    playing = asyncio.ensure_future(play(meter, outlet, seconds=100))
    await asyncio.sleep(0)
    jump[0] = 60.0
    await asyncio.sleep(0.05)
    assert 59 < meter.at_s - START_S < 70
    playing.cancel()
