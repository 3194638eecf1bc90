"""Credentials of sources and services: made over the API, used at the real broker, changed while they are connected."""

from __future__ import annotations

import asyncio
import json

import paho.mqtt.client as mqtt
import pytest

from app.domain.people import Scope
from tests.e2e.clients import eventually

SHELLY = {"username": "shelly", "kind": "source", "publish": ["shellies/#"], "note": "the flat's meters"}


class Device:
    """A client at the hub's broker; `reason` is why it was let in or not."""

    def __init__(self, address, username, secret):
        self.heard = []
        self.reason = None
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=f"c-{username}", protocol=mqtt.MQTTv5)
        self.client.username_pw_set(username, secret)
        self.client.on_connect = self._on_connect
        self.client.on_message = lambda _client, _data, message: self.heard.append(message.topic)
        self.client.connect(*address)
        self.client.loop_start()
        eventually(lambda: self.reason is not None)

    def _on_connect(self, _client, _data, _flags, reason, _properties):
        self.reason = str(reason)

    def publish(self, topic):
        sent = self.client.publish(topic, b"1", qos=1)
        sent.wait_for_publish(10)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def devices(trial):
    made = []

    async def device(username, secret):
        # What was made over the API is in force within a moment.
        known = trial.hub.platform.path.credentials.authenticator.usernames
        await asyncio.to_thread(eventually, lambda: username in known())
        made.append(await asyncio.to_thread(Device, trial.hub.addresses["mqtt"], username, secret))
        return made[-1]

    yield device
    for one in made:
        one.close()


async def test_a_source_and_a_service_speak_on_their_topics_alone(trial, devices):
    admin = await trial.client()
    source = await admin.post("/v1/credentials", json=SHELLY)
    service = await admin.post(
        "/v1/credentials", json={"username": "grafana", "kind": "service", "subscribe": ["shellies/+/power"]}
    )
    assert (source.status_code, service.status_code) == (201, 201), source.text
    watcher = await devices("grafana", service.json()["secret"])
    watcher.client.subscribe("shellies/+/power")
    denied = trial.hub.statistics()["broker.publish_denied"]
    shelly = await devices("shelly", source.json()["secret"])

    def speak():
        eventually(lambda: trial.hub.statistics()["broker.subscriptions"] > 0)
        shelly.publish("elsewhere/a/power")
        shelly.publish("shellies/a/power")
        eventually(lambda: watcher.heard)

    await asyncio.to_thread(speak)
    assert watcher.heard == ["shellies/a/power"]
    assert trial.hub.statistics()["broker.publish_denied"] == denied + 1


async def test_it_is_listed_edited_and_blocked(trial, devices):
    admin = await trial.client()
    made = await admin.post("/v1/credentials", json=SHELLY)
    secret, etag = made.json()["secret"], made.headers["ETag"]
    shelly = await devices("shelly", secret)
    assert shelly.reason == "Success"

    listed = (await admin.get("/v1/credentials", params={"filter": "kind:eq:source"})).json()
    assert [one["username"] for one in listed["items"]] == ["shelly"]
    assert "secret" not in json.dumps(listed)
    # Modules' credentials are none of these, nor can they be reached as such.
    assert (await admin.get("/v1/credentials/WD1")).status_code == 404

    edit = {"publish": ["shellies/#", "tele/#"], "blocked": True}
    assert (await admin.patch("/v1/credentials/shelly", json=edit)).status_code == 428
    edited = await admin.patch("/v1/credentials/shelly", json=edit, headers={"If-Match": etag})
    assert edited.status_code == 200, edited.text
    assert edited.json()["publish"] == ["shellies/#", "tele/#"]
    assert edited.json()["blocked_us"] is not None
    assert (
        await admin.patch("/v1/credentials/shelly", json={"note": "x"}, headers={"If-Match": etag})
    ).status_code == 412
    await asyncio.to_thread(eventually, lambda: not shelly.client.is_connected())
    assert (await devices("shelly", secret)).reason != "Success"

    freed = await admin.patch(
        "/v1/credentials/shelly", json={"blocked": False}, headers={"If-Match": edited.headers["ETag"]}
    )
    assert freed.json()["blocked_us"] is None
    renewed = (await admin.post("/v1/credentials/shelly/secret")).json()["secret"]
    assert renewed != secret

    assert (await admin.delete("/v1/credentials/shelly")).status_code == 204
    assert (await admin.get("/v1/credentials/shelly")).status_code == 404
    deeds = (await admin.get("/v1/actions", params={"filter": "subject:eq:credential:shelly", "sort": "at_us"})).json()
    assert [one["what"] for one in deeds["items"]] == [
        "credential.create",
        "credential.edit",
        "credential.edit",
        "credential.rekey",
        "credential.remove",
    ]
    assert secret not in json.dumps(deeds)
    assert renewed not in json.dumps(deeds)


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"username": "shelly"}, 409, "shelly"),
        ({"publish": ["a/#/b"]}, 422, "no topic pattern"),
        ({"username": "WD1"}, 409, "WD1"),
        ({"username": "a/b"}, 400, ""),
        ({"kind": "module"}, 400, ""),
        ({"kind": "operator"}, 400, ""),
    ],
)
async def test_what_can_not_be_is_refused(trial, change, status, says):
    admin = await trial.client()
    await asyncio.to_thread(trial.hub.platform.path.registry.provision, "WD1")
    assert (await admin.post("/v1/credentials", json=SHELLY)).status_code == 201
    answer = await admin.post("/v1/credentials", json={**SHELLY, "username": "other", **change})
    assert answer.status_code == status, answer.text
    assert says in answer.text


async def test_nobody_gives_by_mqtt_what_they_may_not_do(trial):
    admin = await trial.client()
    token = await admin.post("/v1/api-tokens", json={"name": "clerk", "scopes": [Scope.PEOPLE]})
    made = await admin.post("/v1/credentials", json={**SHELLY, "subscribe": ["wd/v1/m/#"]})
    assert made.status_code == 201
    async with trial.anonymous() as clerk:
        clerk.headers["Authorization"] = f"Bearer {token.json()['token']}"
        listens = await clerk.post("/v1/credentials", json={"username": "a", "kind": "service", "subscribe": ["#"]})
        speaks = await clerk.post("/v1/credentials", json={"username": "b", "kind": "source", "publish": ["#"]})
        takes = await clerk.post("/v1/credentials/shelly/secret")
        reads = await clerk.get("/v1/credentials/shelly")
    assert [listens.status_code, speaks.status_code, takes.status_code, reads.status_code] == [403, 403, 403, 200]
