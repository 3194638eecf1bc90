"""A hub on somebody else's broker: what modules publish there is stored, whatever happens to the hub."""

from __future__ import annotations

import contextlib
import json

import paho.mqtt.client as mqtt
import pytest

from app.hub.bench_tools import HubTools
from tests.e2e.clients import WAIT_S, eventually, publish, publish_later, readings, sequences
from tests.e2e.test_operations import asked, send
from tests.helpers.mosquitto import BINARY, REASON, Mosquitto

pytestmark = pytest.mark.skipif(BINARY is None, reason=REASON)


@pytest.fixture
def broker(tmp_path):
    made = Mosquitto(tmp_path / "mosquitto")
    made.start()
    yield made
    made.kill()


@contextlib.contextmanager
def module(broker, serial="WD1"):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=serial)
    client.will_set(f"wd/v1/m/{serial}/state", json.dumps({"online": False}), qos=1, retain=True)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    eventually(client.is_connected, "never connected")
    try:
        yield client
    finally:
        client.disconnect()
        client.loop_stop()


def url(broker):
    return f"mqtt://127.0.0.1:{broker.port}"


def test_readings_are_read_back_and_nothing_is_lost_over_kill_9(broker, hubs, tmp_path):
    HubTools().provision(tmp_path / "data", ["WD1"])
    hub = hubs(engine=url(broker))
    with module(broker) as client:
        # One series of times: two readings of one millisecond would be one.
        sent = readings(620)
        publish(client, "WD1", *sent[:20])
        eventually(lambda: hub.stats()["broker.acknowledged"] == 20)
        # What the hub has acknowledged is on disk, and what it had not, or never saw, the broker keeps.
        under_way = publish_later(client, "WD1", *sent[20:520])
        hub.kill()
        for message in under_way:
            message.wait_for_publish(WAIT_S)
        publish(client, "WD1", *sent[520:])
    hub = hubs(engine=url(broker))
    eventually(lambda: hub.stats()["broker.upstream_unacknowledged"] == 0 and set(sequences(tmp_path, "WD1")) >= {619})
    assert hub.sigterm() == 0

    assert sequences(tmp_path, "WD1") == list(range(620))


def test_a_module_is_there_while_it_is_heard_and_gets_its_commands(broker, hubs, tmp_path):
    HubTools().provision(tmp_path / "data", ["WD1"])
    hub = hubs(engine=url(broker))
    assert "operators" in hub_listeners(hub)
    got = []
    with module(broker) as client:
        client.on_message = lambda _c, _u, message: got.append(json.loads(message.payload))
        client.subscribe("wd/v1/m/WD1/cmd", qos=1)
        client.publish("wd/v1/m/WD1/state", json.dumps({"online": True, "boot_id": 1, "period_ms": 1000}), 1, True)
        eventually(lambda: hub.stats()["modules.connected"] == 1)
        command_id = send(hub, "identify")
        eventually(lambda: got)
        assert got[0]["name"] == "identify"
        client.publish("wd/v1/m/WD1/ack", json.dumps({"id": got[0]["id"], "result": "done"}), 1)
        eventually(lambda: asked(hub, "GET", f"/v1/commands/{command_id}")["state"] == "acknowledged")
        client.publish("wd/v1/m/WD1/state", json.dumps({"online": False}), 1, True).wait_for_publish(WAIT_S)
        eventually(lambda: hub.stats()["modules.connected"] == 0)


def hub_listeners(hub):
    listeners = set()
    for name in ("mqtt", "mqtts", "operators", "api"):
        with contextlib.suppress(KeyError):
            hub.address(name)
            listeners.add(name)
    return listeners


def test_a_password_of_the_command_line_is_in_no_log_and_no_setting(broker, hubs, tmp_path):
    hub = hubs(engine=f"mqtt://hub:geheim-1@127.0.0.1:{broker.port}")
    shown = asked(hub, "GET", "/v1/settings")
    assert hub.sigterm() == 0
    written = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())

    assert f"mqtt://hub:***@127.0.0.1:{broker.port}" in json.dumps(shown)
    assert "geheim" not in json.dumps(shown)
    assert b"geheim" not in written
