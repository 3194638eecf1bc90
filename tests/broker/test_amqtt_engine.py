"""The amqtt engine with real clients on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import socket

import paho.mqtt.client as paho
import pytest

from broker.amqtt_engine import LIMITS, AmqttEngine
from broker.engine import Access, Batch, ClientInfo
from broker.options import Listener

SECRETS = {"m1": b"one", "m2": b"two"}


class Registry:
    """Modules that may publish below their own name."""

    def __init__(self):
        self.blocked = set()

    def authenticate(self, listener, client_id, username, password):
        if username in self.blocked or username not in SECRETS or SECRETS[username] != password:
            return None
        return Access(username, "module", publish=(f"m/{username}/tele",), subscribe=(f"m/{username}/cmd",))


class Sink:
    def __init__(self):
        self.messages = []
        self.arrivals = []
        self.events = []
        self.subscribed = []
        self.opened = []

    def open_topic(self, client: ClientInfo, topic: str):
        self.opened.append((client.client_id, topic))
        return (client.access.subject, topic)

    def accept(self, batch: Batch):
        assert len(batch.handles) == len(batch.payloads) == len(batch.guaranteed) > 0
        self.arrivals.append(batch.arrival_us)
        self.messages += zip(batch.handles, batch.payloads, batch.guaranteed, strict=True)
        batch.acknowledge()

    def client_connected(self, client):
        self.events.append(("connected", client.client_id, client.listener, client.address))

    def client_subscribed(self, client, pattern, held):
        self.subscribed.append((client.client_id, pattern))

    def client_disconnected(self, client, cause):
        self.events.append(("disconnected", client.client_id, cause))


@pytest.fixture
def registry():
    return Registry()


@pytest.fixture
def sink():
    return Sink()


@pytest.fixture
async def engine(registry, sink):
    made = AmqttEngine([Listener("mqtt", 0, ("127.0.0.1",))], registry, sink)
    await made.start()
    yield made
    await made.stop()


class Client:
    """A paho client in its own thread, waited for without blocking the loop."""

    def __init__(self, engine, name, password=None):
        self.connects: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.received: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.published: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.granted: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
        self.ends: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.paho = paho.Client(paho.CallbackAPIVersion.VERSION2, client_id=name, reconnect_on_failure=False)
        self.paho.username_pw_set(name, password if password is not None else SECRETS[name].decode())
        self.paho.on_connect = lambda _c, _u, _f, reason, _p: self.connects.put(reason.value)
        self.paho.on_message = lambda _c, _u, message: self.received.put(message.payload)
        self.paho.on_publish = lambda _c, _u, mid, _r, _p: self.published.put(mid)
        self.paho.on_subscribe = lambda _c, _u, _m, codes, _p: self.granted.put([code.value for code in codes])
        self.paho.on_disconnect = lambda _c, _u, _f, reason, _p: self.ends.put(reason.value)
        self.address = engine.addresses()["mqtt"]

    async def __aenter__(self):
        await asyncio.to_thread(self.paho.connect, *self.address)
        self.paho.loop_start()
        return self

    async def __aexit__(self, *_):
        self.paho.disconnect()
        await asyncio.to_thread(self.paho.loop_stop)


async def get(source):
    return await asyncio.to_thread(source.get, timeout=10)


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the engine gives no event to wait for
            await asyncio.sleep(0.005)


@contextlib.asynccontextmanager
async def connected(engine, name):
    async with Client(engine, name) as client:
        assert await get(client.connects) == 0
        yield client


@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_messages_reach_the_sink_in_order(engine, sink, qos):
    async with connected(engine, "m1") as client:
        for number in range(20):
            client.paho.publish("m/m1/tele", b"%d" % number, qos=qos)
        await until(lambda: len(sink.messages) == 20)

    assert sink.messages == [(("m1", "m/m1/tele"), b"%d" % number, qos > 0) for number in range(20)]
    assert sink.opened == [("m1", "m/m1/tele")]
    assert engine.counters()["messages_to_sink"] == 20


async def test_the_sink_hears_of_connections_and_of_all_messages_before_their_end(engine, sink):
    async with connected(engine, "m1") as client:
        client.paho.publish("m/m1/tele", b"x", qos=1)
        await get(client.published)
    await until(lambda: len(sink.events) == 2)

    assert sink.events == [("connected", "m1", "mqtt", "127.0.0.1"), ("disconnected", "m1", "closed")]
    assert len(sink.messages) == 1
    assert engine.counters()["connections"] == 0


async def test_an_unknown_or_wrong_credential_is_refused(engine, sink):
    for name, password in (("m1", "two"), ("stranger", "one")):
        async with Client(engine, name, password) as client:
            assert await get(client.connects) != 0

    assert sink.events == []
    assert engine.counters()["connects_refused"] == 2


async def test_topics_outside_the_access_go_nowhere(engine, sink):
    async with connected(engine, "m1") as client:
        client.paho.publish("m/m2/tele", b"forged", qos=1)
        client.paho.publish("m/m1/tele", b"own", qos=1)
        client.paho.subscribe([("m/m2/cmd", 0), ("#", 0), ("m/m1/cmd", 0)])
        assert await get(client.granted) == [0x80, 0x80, 0]
        await until(lambda: sink.messages)

    assert [payload for _, payload, _ in sink.messages] == [b"own"]
    assert engine.counters()["publish_denied"] == 1
    assert engine.counters()["subscribe_denied"] == 2


async def test_the_hub_publishes_and_retains(engine):
    engine.publish("m/m1/cmd", b"kept", qos=1, retain=True)
    async with connected(engine, "m1") as client:
        client.paho.subscribe("m/m1/cmd", qos=1)
        await get(client.granted)
        assert await get(client.received) == b"kept"
        engine.publish("m/m1/cmd", b"now")
        assert await get(client.received) == b"now"


async def test_who_would_get_a_message_and_that_it_was_sent(engine, sink):
    taken = []
    engine.publish("m/m1/cmd", b"nobody", qos=1, on_taken=lambda: taken.append(1))
    assert (engine.receivers("m/m1/cmd"), taken) == (0, [])
    async with connected(engine, "m1") as client:
        client.paho.subscribe("m/m1/cmd", 1)
        await until(lambda: sink.subscribed == [("m1", "m/m1/cmd")])
        assert (engine.receivers("m/m1/cmd"), engine.receivers("m/m2/cmd")) == (1, 0)
        engine.publish("m/m1/cmd", b"now", qos=1, on_taken=lambda: taken.append(2))
    await until(lambda: engine.receivers("m/m1/cmd") == 0)

    assert taken == [2]


async def test_a_subject_is_disconnected(engine, sink):
    async with connected(engine, "m1") as client, connected(engine, "m2"):
        await until(lambda: len(sink.events) == 2)
        assert engine.disconnect("m1", "blocked") == 1
        await get(client.ends)
        assert engine.disconnect("nobody", "blocked") == 0
        await until(lambda: engine.counters()["connections"] == 1)


async def test_forgetting_topics_asks_again_and_closes_what_has_lost_its_credential(engine, sink, registry):
    async with connected(engine, "m1") as one, connected(engine, "m2") as two:
        one.paho.publish("m/m1/tele", b"a", qos=1)
        await until(lambda: sink.messages)
        registry.blocked.add("m2")
        engine.forget_topics()
        await get(two.ends)
        one.paho.publish("m/m1/tele", b"b", qos=1)
        await until(lambda: len(sink.messages) == 2)

    assert sink.opened == [("m1", "m/m1/tele")] * 2


async def test_held_clients_that_want_guarantees_are_not_read(engine, sink):
    async with connected(engine, "m1") as one, connected(engine, "m2") as two:
        one.paho.publish("m/m1/tele", b"first", qos=1)
        await until(lambda: sink.messages)
        engine.hold_guaranteed(True)
        one.paho.publish("m/m1/tele", b"held", qos=1)
        # A client without guarantees goes on; when its message is here, the held one has had every chance.
        two.paho.publish("m/m2/tele", b"free")
        await until(lambda: len(sink.messages) == 2)
        assert sink.messages[1][1] == b"free"
        engine.hold_guaranteed(False)
        await until(lambda: len(sink.messages) == 3)

    assert sink.messages[2][1] == b"held"


async def test_what_amqtt_can_not_do_is_said_at_the_start(registry, sink, caplog):
    engine = AmqttEngine([Listener("mqtt", 0, ("127.0.0.1",))], registry, sink)
    with caplog.at_level(logging.WARNING):
        await engine.start()
    await engine.stop()

    said = " ".join(record.message for record in caplog.records)
    assert all(limit in said for limit in LIMITS)


async def test_a_taken_port_is_an_oserror(registry, sink):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        engine = AmqttEngine([Listener("mqtt", taken.getsockname()[1], ("127.0.0.1",))], registry, sink)
        with pytest.raises(OSError):
            await engine.start()
    await engine.stop()


async def test_stopping_closes_connections_and_the_port(registry, sink):
    engine = AmqttEngine([Listener("mqtt", 0, ("127.0.0.1",))], registry, sink)
    await engine.start()
    address = engine.addresses()["mqtt"]
    async with connected(engine, "m1") as client:
        await engine.stop()
        await get(client.ends)

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, timeout=1)
    assert engine.addresses() == {}


class OperatorsOf:
    """The other listener of an engine, by the name that a module's client looks for."""

    def __init__(self, engine):
        self._engine = engine

    def addresses(self):
        return {"mqtt": self._engine.addresses()["operators"]}


async def test_an_engine_for_the_operators_beside_it(registry, sink):
    beside = AmqttEngine([Listener("operators", 0, ("127.0.0.1",))], registry, sink)
    engine = AmqttEngine([Listener("mqtt", 0, ("127.0.0.1",))], registry, sink, beside=beside)
    await engine.start()
    assert engine.addresses().keys() == {"mqtt", "operators"}
    async with connected(engine, "m1"), connected(OperatorsOf(engine), "m2") as operator:
        await until(lambda: engine.counters()["connections"] == 2)
        operator.paho.subscribe("m/m2/cmd")
        await get(operator.granted)
        engine.publish("m/m2/cmd", b"to both")
        assert await get(operator.received) == b"to both"
        assert engine.disconnect("m2", "test") == 1
        await get(operator.ends)
    await engine.stop()

    assert beside.addresses() == {}
