"""Listeners: addresses, TLS in the process, TLS in workers."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import sys

import psutil
import pytest

from broker.native.server import NativeBroker
from broker.options import BrokerOptions, Listener, Tls
from broker.packets import V5
from tests.helpers.mqtt_peer import RawClient, RecordingSink, running_broker, until
from tests.helpers.tls_files import client_context, make_tls_files

WORKERS = pytest.param(
    2,
    marks=pytest.mark.skipif(
        not hasattr(socket, "SO_REUSEPORT") or sys.platform == "darwin", reason="no port can be shared here"
    ),
)


def tls_listeners(tls: Tls) -> list[Listener]:
    return [Listener("test", 0, ("127.0.0.1",)), Listener("tls", 0, ("127.0.0.1",), tls=tls)]


async def test_both_address_families_share_a_port():
    listeners = [Listener("test", 0, ("127.0.0.1", "::1"))]
    async with running_broker(listeners=listeners) as run:
        await run.client("four")
        if socket.has_ipv6:
            try:
                _, writer = await asyncio.open_connection("::1", run.port)
            except OSError:
                pytest.skip("no IPv6 on this machine")
            writer.close()


async def test_a_taken_port_is_an_error_and_leaves_nothing_behind():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        broker = NativeBroker(BrokerOptions(), [Listener("test", port, ("127.0.0.1",))], None, RecordingSink())
        with pytest.raises(OSError):
            await broker.start()


@pytest.mark.parametrize("workers", [0, WORKERS])
async def test_messages_over_tls(tmp_path, workers):
    tls = make_tls_files(tmp_path)
    async with running_broker(listeners=tls_listeners(tls), tls_workers=workers, max_packet_size=2**20) as run:
        port = run.broker.addresses()["tls"][1]
        clients = [await RawClient.connected(port, f"c{number}", V5, client_context(tls)) for number in range(6)]
        for number, client in enumerate(clients):
            await client.subscribe((f"to/{number}", 1))
            client.publish("keep/a", b"x" * 300_000, 1, 1)
            await client.acknowledged()
            run.broker.publish(f"to/{number}", b"y" * 300_000, qos=1)
            assert len((await client.message()).payload) == 300_000
        assert next(iter(run.core.connections)).address == "127.0.0.1"
        clients[0].publish("", b"a topic alias that was never set")
        await clients[0].ended()
        clients[1].writer.close()
        await run.sink.until_event("lost", "c1")

        assert ("protocol", "c0") in run.sink.events
        assert [len(payload) for payload in run.sink.payloads] == [300_000] * 6


@pytest.mark.parametrize("workers", [0, WORKERS])
async def test_a_slow_reader_over_tls_is_bounded_too(tmp_path, workers):
    tls = make_tls_files(tmp_path)
    async with running_broker(listeners=tls_listeners(tls), tls_workers=workers, max_unsent_bytes=200_000) as run:
        client = await RawClient.connected(run.broker.addresses()["tls"][1], "slow", V5, client_context(tls))
        await client.subscribe(("a", 0))
        client.writer.transport.pause_reading()
        sent = 0
        while run.count("dropped_slow") < 100 and sent < 20_000:
            run.broker.publish("a", b"x" * 50_000)
            sent += 1
            await asyncio.sleep(0.0005)
        client.writer.transport.resume_reading()
        for _ in range(sent - run.count("dropped_slow")):
            await client.message()

        assert run.count("dropped_slow") >= 100


async def test_a_tls_worker_that_dies_is_replaced_and_its_clients_are_lost(tmp_path):
    if not hasattr(socket, "SO_REUSEPORT") or sys.platform == "darwin":
        pytest.skip("no port can be shared here")
    tls = make_tls_files(tmp_path)
    async with running_broker(listeners=tls_listeners(tls), tls_workers=1) as run:
        port = run.broker.addresses()["tls"][1]
        await RawClient.connected(port, "c", V5, client_context(tls))
        (worker,) = [child for child in psutil.Process().children() if "broker.native.worker" in child.cmdline()]
        worker.kill()
        await run.sink.until_event("lost", "c")
        client = None
        while client is None:
            try:
                client = await RawClient.connected(port, "c", V5, client_context(tls))
            except OSError:
                await asyncio.sleep(0.05)
        await client.nothing()

        assert run.count("tls_worker_restarts") == 1
    assert not [child for child in psutil.Process().children() if "broker.native.worker" in child.cmdline()]


@pytest.mark.parametrize("workers", [0, WORKERS])
async def test_tls_handshakes_that_fail_are_counted_and_told(tmp_path, workers, caplog):
    tls = make_tls_files(tmp_path)
    async with running_broker(listeners=tls_listeners(tls), tls_workers=workers, tls_handshake_s=0.5) as run:
        port = run.broker.addresses()["tls"][1]
        plain = await RawClient.open(port)
        plain.writer.write(b"\x10\x10\0\4MQTT\4\2\0\x3c\0\4abcd")
        await until(lambda: run.count("tls_handshakes_failed") == 1)
        with pytest.raises(ssl.SSLError):
            await RawClient.open(port, V5, ssl.create_default_context())
        await until(lambda: run.count("tls_handshakes_failed") == 2)
        run.advance(61)
        silent = await RawClient.open(port)
        await until(lambda: run.count("tls_handshakes_failed") == 3)
        assert await silent.stream.read() == b""
        await RawClient.connected(port, "c", V5, client_context(tls))

    lines = [line for line in caplog.messages if "tls_handshakes_failed" in line]
    assert len(lines) == 2
    assert "client '127.0.0.1': listener tls: it speaks no TLS" in lines[0]
    assert "(and 1 more that were not logged)" in lines[1]


async def test_tls_workers_ignore_the_stop_of_the_whole_group(tmp_path, caplog):
    if not hasattr(socket, "SO_REUSEPORT") or sys.platform == "darwin":
        pytest.skip("no port can be shared here")
    tls = make_tls_files(tmp_path)
    async with running_broker(listeners=tls_listeners(tls), tls_workers=2) as run:
        client = await RawClient.connected(run.broker.addresses()["tls"][1], "c", V5, client_context(tls))
        for child in psutil.Process().children():
            if "broker.native.worker" in child.cmdline():
                os.kill(child.pid, signal.SIGTERM)
        await client.nothing()
        assert run.count("tls_worker_restarts") == 0
    assert not [line for line in caplog.messages if "a TLS worker ended" in line]
    assert not [child for child in psutil.Process().children() if "broker.native.worker" in child.cmdline()]


async def test_a_link_without_the_token_is_refused(tmp_path):
    if not hasattr(socket, "SO_REUSEPORT") or sys.platform == "darwin":
        pytest.skip("no port can be shared here")
    from broker.native import mux_frames as frames

    tls = make_tls_files(tmp_path)
    async with running_broker(listeners=tls_listeners(tls), tls_workers=1) as run:
        directory = run.broker._workers[0]._directory
        assert directory is not None
        reader, writer = await asyncio.open_unix_connection(f"{directory.name}/tls")
        writer.write(frames.head(frames.HELLO, 0, 3) + b"abc" + frames.head(frames.OPEN, 1))

        assert await reader.read() == b""
        assert run.count("connections") == 0


async def test_files_that_do_not_fit_are_an_error(tmp_path):
    tls = make_tls_files(tmp_path)
    tls.key.write_text("no key")
    for workers in (0, 1):
        broker = NativeBroker(BrokerOptions(tls_workers=workers), tls_listeners(tls), None, RecordingSink())
        with pytest.raises(OSError):
            await broker.start()
