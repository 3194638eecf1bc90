"""What every engine must do, with real clients on real sockets: native, amqtt, and external on Mosquitto.

What an engine can not do is left out by name here (`CAPABLE`), and stated by the engine itself (`LIMITS`).
"""

from __future__ import annotations

import socket

import pytest

from broker.amqtt_engine import AmqttEngine
from broker.native.server import NativeBroker
from broker.options import BrokerOptions, Listener
from tests.helpers.engine_trial import Registry, Sink, get, running, until
from tests.helpers.mosquitto import BINARY, REASON
from tests.helpers.tls_files import make_tls_files

ENGINES = ("native", "amqtt", "external")
CAPABLE = {
    "credentials and access": ("native", "amqtt"),
    "tells of clients": ("native", "amqtt"),
    "acknowledges after the commit": ("native", "external"),
}


def engines(capability: str | None = None):
    """Run a test on each engine that can do it."""
    kinds = ENGINES if capability is None else CAPABLE[capability]
    skip = pytest.mark.skipif(BINARY is None, reason=REASON)
    return pytest.mark.parametrize(
        "kind", [pytest.param(one, marks=skip if one == "external" else ()) for one in kinds]
    )


@engines()
@pytest.mark.parametrize("qos", [0, 1, 2])
async def test_messages_reach_the_sink_in_order(kind, qos, tmp_path):
    async with running(kind, tmp_path) as trial, trial.connected("m1") as client:
        for number in range(50):
            client.paho.publish("m/m1/tele", b"%d" % number, qos=qos)
        await until(lambda: len(trial.sink.messages) == 50)

        assert trial.sink.messages == [("m/m1/tele", b"%d" % number, qos > 0) for number in range(50)]
        assert trial.sink.opened == ["m/m1/tele"]
        assert trial.sink.old_news == []
        counters = trial.engine.counters()
        assert (counters["messages_to_sink"], counters["messages_received"]) == (50, 50)
        assert 1 <= counters["batches"] <= 50


@engines()
async def test_ten_thousand_messages_in_order_per_topic(kind, tmp_path):
    async with running(kind, tmp_path) as trial, trial.connected("m1") as one, trial.connected("m2") as two:
        for number in range(5_000):
            for name, client in (("m1", one), ("m2", two)):
                client.paho.publish(f"m/{name}/{('tele', 'state')[number % 2]}", b"%d" % number, qos=1)
        await until(lambda: len(trial.sink.messages) >= 10_000)

        by_topic: dict[object, list[int]] = {}
        for topic, payload, _ in trial.sink.messages:
            by_topic.setdefault(topic, []).append(int(payload))
        assert sorted(by_topic) == ["m/m1/state", "m/m1/tele", "m/m2/state", "m/m2/tele"]
        assert all(numbers == sorted(set(numbers)) for numbers in by_topic.values())
        assert sum(map(len, by_topic.values())) == 10_000


@engines("acknowledges after the commit")
async def test_what_was_not_acknowledged_comes_again_to_the_next_hub(kind, tmp_path):
    async with running(kind, tmp_path) as trial:
        trial.sink.manual = True
        async with trial.connected("m1", keep=True) as client:
            for number in range(20):
                client.paho.publish("m/m1/tele", b"%d" % number, qos=1)
            await until(lambda: len(trial.sink.messages) == 20)
            for batch in trial.sink.batches[: len(trial.sink.batches) // 2]:
                batch.acknowledge()
            safe = sum(len(batch.payloads) for batch in trial.sink.batches[: len(trial.sink.batches) // 2])
            # The hub dies with the rest in memory.
            await trial.engine.stop()
            await trial.start(Sink())
            await until(lambda: len(trial.sink.messages) >= 20 - safe)

        assert trial.sink.payloads[: 20 - safe] == [b"%d" % number for number in range(safe, 20)]


@engines()
async def test_topics_the_sink_does_not_want_go_nowhere(kind, tmp_path):
    async with running(kind, tmp_path) as trial, trial.connected("m1") as client:
        await client.publish("m/m1/unwanted", b"1", b"2")
        await client.publish("m/m1/tele", b"own")
        await until(lambda: trial.sink.messages)

        assert trial.sink.payloads == [b"own"]


@engines()
async def test_the_hub_publishes_and_retains(kind, tmp_path):
    async with running(kind, tmp_path) as trial:
        taken = []
        trial.engine.publish("m/m1/cmd", b"kept", qos=1, retain=True)
        async with trial.connected("m1") as client:
            client.paho.subscribe("m/m1/cmd", qos=1)
            await get(client.granted)
            assert await get(client.received) == b"kept"
            trial.engine.publish("m/m1/cmd", b"now", qos=1, on_taken=lambda: taken.append(1))
            assert await get(client.received) == b"now"
            assert trial.engine.receivers("m/m1/cmd") == 1
            await until(lambda: taken == [1])


@engines()
async def test_over_tls(kind, tmp_path):
    async with running(kind, tmp_path, make_tls_files(tmp_path)) as trial, trial.connected("m1") as client:
        await client.publish("m/m1/tele", *(b"%d" % number for number in range(100)))
        await until(lambda: len(trial.sink.messages) == 100)

        assert trial.sink.payloads == [b"%d" % number for number in range(100)]


@engines()
async def test_a_client_that_comes_back_goes_on(kind, tmp_path):
    async with running(kind, tmp_path) as trial:
        for number in range(3):
            async with trial.connected("m1") as client:
                await client.publish("m/m1/tele", b"%d" % number)
        await until(lambda: len(trial.sink.messages) == 3)

        assert trial.sink.payloads == [b"0", b"1", b"2"]


@engines()
async def test_while_held_no_guaranteed_message_comes(kind, tmp_path):
    async with running(kind, tmp_path) as trial, trial.connected("m1") as client:
        await client.publish("m/m1/tele", b"first")
        await until(lambda: trial.sink.messages)
        trial.engine.hold_guaranteed(True)
        client.paho.publish("m/m1/tele", b"held", qos=1)
        # Held or not, the hub can publish; when that is through, the held message has had every chance.
        async with trial.connected("m2") as other:
            other.paho.subscribe("m/m2/cmd", qos=1)
            await get(other.granted)
            trial.engine.publish("m/m2/cmd", b"through", qos=1)
            assert await get(other.received) == b"through"
        assert trial.sink.payloads == [b"first"]
        assert trial.engine.counters()["reads_held"] >= 1
        trial.engine.hold_guaranteed(False)
        await until(lambda: trial.sink.payloads == [b"first", b"held"])


@engines()
async def test_forgetting_topics_asks_again(kind, tmp_path):
    async with running(kind, tmp_path) as trial, trial.connected("m1") as client:
        await client.publish("m/m1/tele", b"1")
        await until(lambda: trial.sink.messages)
        trial.engine.forget_topics()
        await client.publish("m/m1/tele", b"2")
        await until(lambda: len(trial.sink.messages) == 2)

        assert trial.sink.opened == ["m/m1/tele"] * 2


@engines()
async def test_stopping_frees_the_port_and_is_heard_of_by_nobody_twice(kind, tmp_path):
    async with running(kind, tmp_path) as trial:
        await trial.engine.stop()
        if trial.broker is None:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", trial.port), timeout=1)
        # A second stop finds nothing to do.
        await trial.engine.stop()


# -- what only engines can do that serve the modules themselves


@engines("tells of clients")
async def test_the_sink_hears_of_connections_and_of_all_messages_before_their_end(kind, tmp_path):
    async with running(kind, tmp_path) as trial:
        async with trial.connected("m1") as client:
            await client.publish("m/m1/tele", b"x")
            client.paho.subscribe("m/m1/cmd", 1)
            await until(lambda: trial.sink.subscribed == [("m1", "m/m1/cmd")])
            assert (trial.engine.receivers("m/m1/cmd"), trial.engine.receivers("m/m2/cmd")) == (1, 0)
        await until(lambda: len(trial.sink.events) == 2)

        assert [event[:2] for event in trial.sink.events] == [("connected", "m1"), ("disconnected", "m1")]
        assert trial.sink.payloads == [b"x"]
        await until(lambda: trial.engine.counters()["connections"] == 0)
        assert trial.engine.receivers("m/m1/cmd") == 0


@engines("credentials and access")
async def test_an_unknown_or_wrong_credential_is_refused(kind, tmp_path):
    async with running(kind, tmp_path) as trial:
        for name, password in (("m1", "two"), ("stranger", "one")):
            async with trial.client(name, password) as client:
                assert await get(client.connects) != 0

        assert trial.sink.events == []
        assert trial.engine.counters()["connects_refused"] == 2


@engines("credentials and access")
async def test_topics_outside_the_access_go_nowhere(kind, tmp_path):
    async with running(kind, tmp_path) as trial, trial.connected("m1") as client:
        client.paho.publish("m/m2/tele", b"forged", qos=1)
        client.paho.publish("m/m1/tele", b"own", qos=1)
        client.paho.subscribe([("m/m2/cmd", 0), ("#", 0), ("m/m1/cmd", 0)])
        assert await get(client.granted) == [0x80, 0x80, 0]
        await until(lambda: trial.sink.messages)

        assert trial.sink.payloads == [b"own"]
        counters = trial.engine.counters()
        assert (counters["publish_denied"], counters["subscribe_denied"]) == (1, 2)


@engines("credentials and access")
async def test_a_subject_is_disconnected(kind, tmp_path):
    async with running(kind, tmp_path) as trial, trial.connected("m1") as client, trial.connected("m2"):
        await until(lambda: len(trial.sink.events) == 2)
        assert trial.engine.disconnect("m1", "blocked") == 1
        await get(client.ends)
        assert trial.engine.disconnect("nobody", "blocked") == 0
        await until(lambda: trial.engine.counters()["connections"] == 1)


@pytest.mark.parametrize("kind", ["native", "amqtt"])
async def test_a_taken_port_is_an_oserror(kind):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listeners = [Listener("mqtt", taken.getsockname()[1], ("127.0.0.1",))]
        engine = (
            NativeBroker(BrokerOptions(), listeners, Registry(), Sink())
            if kind == "native"
            else AmqttEngine(listeners, Registry(), Sink())
        )
        with pytest.raises(OSError):
            await engine.start()
    await engine.stop()
