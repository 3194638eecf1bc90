"""The external engine as a client of brokers that fail, restart, refuse and keep."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket

import pytest

from broker import external_link
from broker.amqtt_engine import AmqttEngine
from broker.external_engine import LIMITS, ExternalEngine
from broker.external_link import backoff_s
from broker.external_socket import BufferedSocket
from broker.native.server import NativeBroker
from broker.options import BrokerOptions, Listener, Upstream
from tests.helpers.engine_trial import Client, Registry, Sink, get, running, until
from tests.helpers.mosquitto import BINARY, REASON, Mosquitto, password_file
from tests.helpers.tls_files import make_tls_files

needs_mosquitto = pytest.mark.skipif(BINARY is None, reason=REASON)


@pytest.fixture
async def trial(tmp_path):
    async with running("external", tmp_path) as made:
        yield made


@contextlib.asynccontextmanager
async def started(upstream, sink, filters=("m/+/tele",), **options):
    engine = ExternalEngine(upstream, filters, sink, **options)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


@needs_mosquitto
async def test_nothing_is_lost_while_the_hub_is_down(trial):
    async with trial.connected("m1") as client:
        await client.publish("m/m1/tele", b"0")
        await until(lambda: trial.sink.messages)
        await trial.engine.stop()
        await client.publish("m/m1/tele", *(b"%d" % number for number in range(1, 500)))
        await trial.start(Sink())
        await until(lambda: len(trial.sink.messages) >= 499)

    assert trial.sink.payloads == [b"%d" % number for number in range(1, 500)]


@needs_mosquitto
async def test_a_broker_that_restarts_is_found_again_and_has_kept_the_session(trial):
    async with trial.connected("m1") as client:
        await client.publish("m/m1/tele", b"before")
        await until(lambda: trial.sink.messages and trial.engine.counters()["upstream_unacknowledged"] == 0)
    await asyncio.to_thread(trial.broker.stop)
    await until(lambda: trial.engine.counters()["upstream_connected"] == 0)
    assert trial.engine.receivers("m/m1/cmd") == 0
    await asyncio.to_thread(trial.broker.start)
    async with trial.connected("m1") as client:
        # Whether or not the hub is back already: its session is.
        await client.publish("m/m1/tele", b"after")
        await until(lambda: len(trial.sink.messages) == 2)

    counters = trial.engine.counters()
    assert trial.sink.payloads == [b"before", b"after"]
    assert counters["upstream_reconnects"] >= 1
    assert counters["upstream_sessions_lost"] == 0


@needs_mosquitto
async def test_a_broker_that_was_killed_and_lost_the_session_is_told_of(trial, caplog):
    async with trial.connected("m1") as client:
        await client.publish("m/m1/tele", b"before")
        await until(lambda: trial.sink.messages)
    await asyncio.to_thread(trial.broker.kill)
    await until(lambda: trial.engine.counters()["upstream_connected"] == 0)
    await asyncio.to_thread(trial.broker.start)
    await until(lambda: trial.engine.counters()["upstream_connected"] == 2)
    async with trial.connected("m1") as client:
        await client.publish("m/m1/tele", b"after")
        await until(lambda: len(trial.sink.messages) == 2)

    assert trial.engine.counters()["upstream_sessions_lost"] == 1
    assert "has not kept our session" in caplog.text


@needs_mosquitto
@pytest.mark.parametrize("meanwhile", [False, True])
async def test_what_is_acknowledged_of_an_earlier_connection_is_not_told(trial, meanwhile):
    trial.sink.manual = True
    async with trial.connected("m1", keep=True) as client:
        client.paho.publish("m/m1/tele", b"once", qos=1)
        await until(lambda: trial.sink.messages)
        await asyncio.to_thread(trial.broker.stop)
        await until(lambda: trial.engine.counters()["upstream_connected"] == 0)
        if meanwhile:
            trial.sink.batches[0].acknowledge()
        await asyncio.to_thread(trial.broker.start)
        await until(lambda: len(trial.sink.messages) == 2)
        if not meanwhile:
            trial.sink.batches[0].acknowledge()
        await until(lambda: trial.engine.counters()["upstream_acks_void"] == 1)
        assert trial.engine.counters()["upstream_unacknowledged"] == 1
        trial.sink.batches[1].acknowledge()
        trial.sink.batches[1].acknowledge()
        await until(lambda: trial.engine.counters()["acknowledged"] == 1)

    assert trial.sink.payloads == [b"once", b"once"]
    assert trial.engine.counters()["upstream_unacknowledged"] == 0


@needs_mosquitto
async def test_what_the_broker_had_kept_is_old_news_and_comes_once(tmp_path):
    broker = Mosquitto(tmp_path / "mosquitto")
    broker.start()
    upstream = Upstream("127.0.0.1", broker.port, "hub")
    try:
        async with Client(broker.port, "m1") as client:
            assert await get(client.connects) == 0
            client.paho.publish("m/m1/tele", b"kept", qos=1, retain=True)
            await get(client.published)
            sink = Sink()
            async with started(upstream, sink):
                await until(lambda: sink.messages)
                client.paho.publish("m/m1/tele", b"news", qos=1, retain=True)
                await until(lambda: len(sink.messages) == 2)
            assert (sink.payloads, sink.old_news) == ([b"kept", b"news"], [b"kept"])
            sink = Sink()
            async with started(upstream, sink):
                await client.publish("m/m1/tele", b"more")
                await until(lambda: sink.messages)
            assert (sink.payloads, sink.old_news) == ([b"more"], [])
    finally:
        broker.kill()


@needs_mosquitto
async def test_a_publication_that_nobody_has_subscribed_to_is_not_taken(trial):
    taken, unrouted = [], []
    trial.engine.on_unrouted = unrouted.extend
    trial.engine.publish("m/m1/cmd", b"nobody", qos=1, on_taken=lambda: taken.append(1))
    await until(lambda: unrouted)

    assert (taken, unrouted) == ([], ["m/m1/cmd"])
    assert trial.engine.counters()["upstream_publish_unrouted"] == 1
    with pytest.raises(ValueError, match="filter"):
        trial.engine.publish("m/+/cmd", b"")


@needs_mosquitto
async def test_filters_are_dealt_out_and_every_topic_stays_in_order(tmp_path):
    broker = Mosquitto(tmp_path / "mosquitto")
    broker.start()
    sink = Sink()
    try:
        upstream = Upstream("127.0.0.1", broker.port, "hub", consumers=2, shared_group="hubs")
        async with (
            started(upstream, sink, ("m/+/tele", "m/+/state")) as engine,
            Client(broker.port, "m1") as client,
        ):
            assert engine.counters()["upstream_connected"] == 3
            for number in range(1_000):
                client.paho.publish(f"m/m1/{('tele', 'state')[number % 2]}", b"%d" % number, qos=1)
            await until(lambda: len(sink.messages) == 1_000)
            for topic in ("m/m1/tele", "m/m1/state"):
                numbers = [int(payload) for handle, payload, _ in sink.messages if handle == topic]
                assert len(numbers) == 500
                assert numbers == sorted(numbers)
            await until(lambda: engine.counters()["acknowledged"] == 1_000)
    finally:
        broker.kill()


@needs_mosquitto
async def test_a_password_is_sent_and_never_said(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    (tmp_path / "mosquitto").mkdir()
    users = password_file(tmp_path / "mosquitto", "hub", "geheim-1")
    broker = Mosquitto(tmp_path / "mosquitto", lines=[f"password_file {users}", "allow_anonymous false"])
    broker.start()
    try:
        good = Upstream("127.0.0.1", broker.port, "hub", "hub", "geheim-1")
        async with started(good, Sink()) as engine:
            assert engine.counters()["upstream_connected"] == 2
        bad = Upstream("127.0.0.1", broker.port, "hub", "hub", "geheim-2")
        async with started(bad, Sink()) as engine:
            assert engine.counters()["upstream_connected"] == 0
            assert engine.counters()["upstream_failures"] >= 1
    finally:
        broker.kill()

    assert "refused us: Not authorized" in caplog.text
    assert "geheim" not in caplog.text + repr(good)


@needs_mosquitto
async def test_a_certificate_of_an_unknown_authority_is_not_trusted(tmp_path, caplog):
    tls = make_tls_files(tmp_path)
    broker = Mosquitto(tmp_path / "mosquitto", tls=tls)
    broker.start()
    try:
        async with started(Upstream("127.0.0.1", broker.port, "hub", tls=True), Sink()) as engine:
            assert engine.counters()["upstream_connected"] == 0
    finally:
        broker.kill()

    assert "certificate verify failed" in caplog.text


async def test_a_broker_that_is_away_is_waited_for(caplog):
    sink = Sink()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    async with started(Upstream("127.0.0.1", port, "hub"), sink) as engine:
        assert engine.counters()["upstream_connected"] == 0
        assert all(limit in caplog.text for limit in LIMITS)
        broker = NativeBroker(BrokerOptions(), [Listener("mqtt", port, ("127.0.0.1",))], Everybody(), Sink())
        await broker.start()
        await until(lambda: engine.counters()["upstream_connected"] == 2)
        await broker.stop()

    assert "can not be reached" in caplog.text


async def test_a_broker_of_3_1_1_is_spoken_to_in_3_1_1(caplog, monkeypatch):
    caplog.set_level(logging.INFO)
    # amqtt does not answer a version that it does not know.
    monkeypatch.setattr(external_link, "CONNACK_S", 0.3)
    broker = AmqttEngine([Listener("mqtt", 0, ("127.0.0.1",))], Everybody(), Sink())
    await broker.start()
    sink = Sink()
    async with started(Upstream("127.0.0.1", broker.addresses()["mqtt"][1], "hub"), sink) as engine:
        await until(lambda: engine.counters()["upstream_connected"] == 2)
        broker.publish("m/m1/tele", b"old tongue", qos=1)
        await until(lambda: sink.messages)
        await until(lambda: engine.counters()["acknowledged"] == 1)
    await broker.stop()

    assert sink.payloads == [b"old tongue"]
    assert "MQTT 3.1.1" in caplog.text


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x20\x7f", bytes(range(256)) * 4])
async def test_whatever_answers_instead_of_a_broker_is_no_more_than_a_failure(answer, caplog):
    async def serve(reader, writer):
        await reader.read(10)
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with started(Upstream("127.0.0.1", server.sockets[0].getsockname()[1], "hub"), Sink()) as engine:
        await until(lambda: engine.counters()["upstream_failures"] >= 4)
        assert engine.counters()["upstream_connected"] == 0
    server.close()


async def test_the_operators_are_served_beside_it():
    beside = NativeBroker(BrokerOptions(), [Listener("operators", 0, ("127.0.0.1",))], Registry(), Sink())
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    async with started(Upstream("127.0.0.1", port, "hub"), Sink(), beside=beside) as engine:  # noqa: SIM117 - its address
        async with Client(engine.addresses()["operators"][1], "m1") as operator:
            assert await get(operator.connects) == 0
            operator.paho.subscribe("m/m1/cmd")
            await get(operator.granted)
            assert engine.receivers("m/m1/cmd") == 1
            engine.publish("m/m1/cmd", b"hello")
            assert await get(operator.received) == b"hello"
            assert engine.counters()["connections"] == 1
            assert engine.disconnect("m1", "test") == 1
            await get(operator.ends)


@needs_mosquitto
async def test_private_topics_and_a_sink_that_raises(tmp_path, caplog):
    class Broken(Sink):
        def accept(self, batch):
            super().accept(batch)
            raise ValueError("broken")

    broker = Mosquitto(tmp_path / "mosquitto")
    broker.start()
    sink = Broken(manual=True)
    try:
        async with (
            started(Upstream("127.0.0.1", broker.port, "hub"), sink, ("#",), private="live/") as engine,
            Client(broker.port, "m1") as client,
        ):
            await client.publish("live/fleet", b"forged")
            await client.publish("m/m1/tele", b"good")
            await until(lambda: engine.counters()["acknowledged"] == 1 and sink.messages)
    finally:
        broker.kill()

    assert sink.payloads == [b"good"]
    assert "the sink raised" in caplog.text


def test_the_next_attempt_comes_later_each_time_and_at_no_common_moment():
    random.seed(1)
    delays = [[backoff_s(attempt) for _ in range(50)] for attempt in range(12)]

    assert all(0.25 <= one <= 30 for row in delays for one in row)
    assert max(delays[0]) <= 0.5
    assert min(delays[11]) >= 15
    assert all(max(row) > min(row) * 1.5 for row in delays)


def test_the_socket_reads_and_writes_in_large_pieces():
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        buffered = BufferedSocket(ours)
        with pytest.raises(BlockingIOError):
            buffered.recv(1)
        assert buffered.blocked
        theirs.send(b"abcdef")
        assert [buffered.recv(1), buffered.recv(3), buffered.pending(), buffered.recv(9)] == [b"a", b"bcd", 2, b"ef"]
        big = bytes(4_000_000)
        assert buffered.send(big) == len(big)
        buffered.flush()
        assert 0 < buffered.unsent < len(big)
        got = bytearray()
        while len(got) < len(big):
            got += theirs.recv(1 << 20)
            buffered.flush()
        assert got == big
        theirs.close()
        assert buffered.recv(1) == b""


class Everybody(Registry):
    """Lets everybody do everything."""

    def authenticate(self, _listener, client_id, _username, _password):
        from broker.engine import Access

        return Access(client_id, "anonymous", publish=("#",), subscribe=("#",))
