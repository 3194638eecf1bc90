"""Commands and refused messages with a real hub process that is killed, and readings read back by the command line."""

from __future__ import annotations

import contextlib
import json
import queue
import urllib.request

import paho.mqtt.client as mqtt
import pytest

from app.hub.bench_tools import HubTools
from tests.e2e.clients import WAIT_S, connected, eventually, readings, stored
from tests.e2e.conftest import run_command


def asked(hub, method, path, body=None):
    """A request with the hub's own token."""
    host, port = hub.address("api")
    request = urllib.request.Request(
        f"http://{host}:{port}{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={
            "Authorization": f"Bearer {hub.token}",
            "Content-Type": "application/json",
            "Wattdeck-Purpose": "test",
        },
    )
    with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
        return json.load(answer)


def send(hub, name="diagnose"):
    return asked(hub, "POST", "/v1/modules/WD1/commands", {"name": name})["id"]


class Listener:
    """A module that listens with a session of its own kind and remembers the ids of what it got."""

    def __init__(self, hub, secret, *, keeps, serial, reconnects):
        self.got = queue.Queue()
        self._topic = f"wd/v1/m/{serial}"
        self._client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2, client_id=serial, clean_session=not keeps, reconnect_on_failure=reconnects
        )
        if secret is not None:
            self._client.username_pw_set(serial, secret)
        self._client.on_connect = lambda client, *_rest: client.subscribe(f"{self._topic}/cmd", 1)
        self._client.on_message = lambda _client, _data, message: self.got.put(json.loads(message.payload)["id"])
        self._client.connect(*hub.address("mqtt"))
        self._client.loop_start()

    def next(self):
        return self.got.get(timeout=WAIT_S)

    def answer(self, command_id):
        self._client.publish(f"{self._topic}/ack", json.dumps({"id": command_id, "result": "done"}), qos=1)

    def say(self, state):
        self._client.publish(f"{self._topic}/state", json.dumps(state), qos=1).wait_for_publish(WAIT_S)

    def close(self):
        self._client.disconnect()
        self._client.loop_stop()


@contextlib.contextmanager
def listening(hub, secret, *, keeps=False, serial="WD1", reconnects=False):
    module = Listener(hub, secret, keeps=keeps, serial=serial, reconnects=reconnects)
    try:
        yield module
    finally:
        module.close()


@pytest.mark.parametrize("keeps", [False, True])
def test_a_queued_command_survives_kill_9_and_comes_once(hubs, tmp_path, keeps):
    (provisioned,) = HubTools().provision(tmp_path / "data", ["WD1"])
    hub = hubs()
    with listening(hub, provisioned.secret, keeps=keeps):
        pass
    first = send(hub)
    hub.kill()

    hub = hubs()
    second = send(hub)
    with listening(hub, provisioned.secret, keeps=keeps) as module:
        assert [module.next(), module.next()] == [first, second]
        for command_id in (first, second):
            module.answer(command_id)
            eventually(lambda one=command_id: asked(hub, "GET", f"/v1/commands/{one}")["state"] == "acknowledged")
        assert module.got.empty()
    hub.kill()

    hub = hubs()
    assert asked(hub, "GET", "/v1/commands")["total"] == 2
    with listening(hub, provisioned.secret, keeps=keeps) as module:
        marker = send(hub, "identify")
        assert module.next() == marker, "what was answered does not come again"


@pytest.mark.parametrize("name", ["diagnose", "reboot"])
def test_a_hub_that_is_killed_before_the_answer_repeats_only_what_may_be(hubs, tmp_path, name):
    (provisioned,) = HubTools().provision(tmp_path / "data", ["WD1"])
    hub = hubs()
    with listening(hub, provisioned.secret) as module:
        command_id = send(hub, name)
        assert module.next() == command_id
        # That the module took it is written, a moment later.
        eventually(lambda: asked(hub, "GET", f"/v1/commands/{command_id}")["sent_us"] is not None)
        hub.kill()

    hub = hubs()
    with listening(hub, provisioned.secret) as module:
        eventually(lambda: asked(hub, "GET", "/v1/statistics")["broker.subscriptions"] == 1)
        marker = send(hub, "identify")
        # Which of them comes first is a matter of when it subscribed.
        expected = {marker, command_id} if name == "diagnose" else {marker}
        assert {module.next() for _ in expected} == expected
        module.answer(marker)
        eventually(lambda: asked(hub, "GET", f"/v1/commands/{marker}")["state"] == "acknowledged")
        assert module.got.empty()
        assert asked(hub, "GET", f"/v1/commands/{command_id}")["state"] == "sent"


def test_a_replayed_reading_is_printed_by_read_and_survives_kill_9(hubs, tmp_path):
    hub = hubs(settings={"broker.allow_anonymous": "true", "registry.adopt_unknown": "no"})
    with connected(hub, client_id="anyone") as client:
        for reading in readings(3):
            client.publish("wd/v1/m/WD2/tele", json.dumps(reading), qos=1).wait_for_publish(WAIT_S)
    eventually(lambda: asked(hub, "GET", "/v1/quarantine")["total"] == 3)
    assert run_command("provision", "--data", tmp_path / "data", "WD2").returncode == 0

    def taken():
        answer = asked(hub, "POST", "/v1/quarantine/replay", {"filter": ["reason:eq:unknown_module"]})
        return answer["taken"] == 3

    eventually(taken, "the hub never took the new module over")
    hub.kill()

    rows = stored(tmp_path, "WD2")
    assert [(row["seq"], row["origin"]) for row in rows] == [("0", "1"), ("1", "1"), ("2", "1")]
    hub = hubs()
    assert asked(hub, "GET", "/v1/quarantine")["total"] == 0
