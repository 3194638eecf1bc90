"""What the amqtt engine does in its own way; what it shares with the others is in test_engine_contract."""

from __future__ import annotations

import logging
import socket

import pytest

from broker.amqtt_engine import LIMITS, AmqttEngine
from broker.options import Listener
from tests.helpers.engine_trial import Client, Registry, Sink, get, running, until


@pytest.fixture
async def trial(tmp_path):
    async with running("amqtt", tmp_path) as made:
        yield made


async def test_a_command_for_nobody_is_not_taken(trial):
    taken = []
    trial.engine.publish("m/m1/cmd", b"nobody", qos=1, on_taken=lambda: taken.append(1))

    assert (trial.engine.receivers("m/m1/cmd"), taken) == (0, [])


async def test_forgetting_topics_closes_what_has_lost_its_credential(trial):
    async with trial.connected("m1") as one, trial.connected("m2") as two:
        await one.publish("m/m1/tele", b"a")
        await until(lambda: trial.sink.messages)
        trial.registry.blocked.add("m2")
        trial.engine.forget_topics()
        await get(two.ends)
        await one.publish("m/m1/tele", b"b")
        await until(lambda: len(trial.sink.messages) == 2)

    assert trial.sink.opened == ["m/m1/tele"] * 2


async def test_held_clients_that_want_guarantees_are_not_read_and_the_others_are(trial):
    async with trial.connected("m1") as one, trial.connected("m2") as two:
        await one.publish("m/m1/tele", b"first")
        await until(lambda: trial.sink.messages)
        trial.engine.hold_guaranteed(True)
        one.paho.publish("m/m1/tele", b"held", qos=1)
        two.paho.publish("m/m2/tele", b"free")
        await until(lambda: len(trial.sink.messages) == 2)
        assert trial.sink.messages[1][1] == b"free"
        trial.engine.hold_guaranteed(False)
        await until(lambda: len(trial.sink.messages) == 3)

    assert trial.sink.messages[2][1] == b"held"


async def test_what_amqtt_can_not_do_is_said_at_the_start(caplog):
    engine = AmqttEngine([Listener("mqtt", 0, ("127.0.0.1",))], Registry(), Sink())
    with caplog.at_level(logging.WARNING):
        await engine.start()
    await engine.stop()

    said = " ".join(record.message for record in caplog.records)
    assert all(limit in said for limit in LIMITS)


async def test_stopping_closes_connections_and_the_port(trial):
    async with trial.connected("m1") as client:
        await trial.engine.stop()
        await get(client.ends)

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", trial.port), timeout=1)
    assert trial.engine.addresses() == {}


async def test_an_engine_for_the_operators_beside_it():
    registry, sink = Registry(), Sink()
    beside = AmqttEngine([Listener("operators", 0, ("127.0.0.1",))], registry, sink)
    engine = AmqttEngine([Listener("mqtt", 0, ("127.0.0.1",))], registry, sink, beside=beside)
    await engine.start()
    assert engine.addresses().keys() == {"mqtt", "operators"}
    ports = {name: address[1] for name, address in engine.addresses().items()}
    async with Client(ports["mqtt"], "m1") as module, Client(ports["operators"], "m2") as operator:
        assert (await get(module.connects), await get(operator.connects)) == (0, 0)
        await until(lambda: engine.counters()["connections"] == 2)
        operator.paho.subscribe("m/m2/cmd")
        await get(operator.granted)
        engine.publish("m/m2/cmd", b"to both")
        assert await get(operator.received) == b"to both"
        assert engine.disconnect("m2", "test") == 1
        await get(operator.ends)
    await engine.stop()

    assert beside.addresses() == {}
