"""Modules of others on a real hub: real clients speak, people adopt them over HTTP, and they are modules like any."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import time

import paho.mqtt.client as mqtt
import pytest

from app.domain.people import Role
from app.hub.data_directory import DataDirectory
from app.hub.hub import running_hub
from app.stores.registry.models import ForeignDevice
from app.stores.registry.records import NewSite
from tests.app.api.conftest import SETTINGS, ApiTrial
from tests.app.api.test_erasure import erased
from tests.e2e.clients import eventually
from tests.helpers.fake_dialect import FakeDialect, fake_dialects

FACTS = {
    "name": "Kitchen of Martin",
    "maker": "Acme",
    "model": "Plug 3",
    "firmware": "1.2.3",
    "ssid": "Martin's Wi-Fi",
    "bssid": "aa:bb:cc:dd:ee:ff",
    "channel": 6,
    "rssi_dbm": -61,
    "link_quality": 99,
    "meter_serial": "M-77",
}


class Gateway:
    """One MQTT client that speaks for many devices."""

    def __init__(self, address, secret):
        self.heard = []
        self.subscribed = 0
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="bridge", protocol=mqtt.MQTTv5)
        if secret is not None:
            self.client.username_pw_set("gateway", secret)
        self.client.on_message = lambda _client, _data, one: self.heard.append((one.topic, one.payload.decode()))
        self.client.on_subscribe = self._on_subscribe
        self.client.connect(*address)
        self.client.loop_start()
        eventually(self.client.is_connected)

    def say(self, device, what, payload, *, retain=False):
        """With QoS 1; returns when the hub has answered, which is after the commit."""
        data = payload if isinstance(payload, str) else json.dumps(payload)
        sent = self.client.publish(f"fake/{device}/{what}", data, qos=1, retain=retain)
        sent.wait_for_publish(10)
        assert sent.is_published()

    def listen(self, pattern):
        self.client.subscribe(pattern, qos=1)
        eventually(lambda: self.subscribed)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()

    def _on_subscribe(self, *_said):
        self.subscribed += 1


class Trial(ApiTrial):
    """A hub that knows the fake dialect."""

    def __init__(self, hub, directory, stack, dialect):
        super().__init__(hub, directory, stack)
        self.dialect = dialect

    async def gateway(self, secret=None):
        admin = await self.client()
        if secret is None:
            asked = {"username": "gateway", "kind": "source", "publish": ["fake/#", "named/#"], "subscribe": ["#"]}
            secret = (await admin.post("/v1/credentials", json=asked)).json()["secret"]
        known = self.hub.platform.path.credentials.authenticator.usernames
        await asyncio.to_thread(eventually, lambda: "gateway" in known())
        made = await asyncio.to_thread(Gateway, self.hub.addresses["mqtt"], secret)
        made.secret = secret
        self._stack.callback(made.close)
        return made

    async def listed(self, **params):
        answer = await (await self.client()).get("/v1/discovered", params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()["items"]

    async def until(self, true):
        """The first answer of a coroutine function that is true."""
        for _ in range(400):
            if found := await true():
                return found
            await asyncio.sleep(0.05)
        raise AssertionError("did not happen")

    async def device(self, of, **wanted):
        """A device's row, once it has these values."""

        async def look():
            rows = await self.listed(filter=f"device:eq:{of}")
            return rows and all(rows[0][key] == value for key, value in wanted.items()) and rows[0]

        return await self.until(look)

    async def adopted(self, gateway, name, **more):
        """A device that is a module with a slot."""
        await asyncio.to_thread(gateway.say, name, "facts", {"model": "Plug 3"})
        row = await self.device(name, model="Plug 3")
        report = (await (await self.client()).post("/v1/discovered/adopt", json={"ids": [row["id"]], **more})).json()
        assert [one["id"] for one in report["changed"]] == [row["id"]], report
        serial = report["changed"][0]["serial"]
        slot = self.hub.platform.path.modules.slot
        await asyncio.to_thread(eventually, lambda: slot(serial) is not None)
        await asyncio.to_thread(eventually, lambda: self.hub.platform.path.foreign.source.is_foreign(serial))
        return serial

    async def module(self, serial, **wanted):
        """A module's row in the list, once it has these values."""

        async def look():
            rows = (await (await self.client()).get("/v1/modules", params={"filter": f"serial:eq:{serial}"})).json()
            found = rows.get("items")
            return found and all(found[0][key] == value for key, value in wanted.items()) and found[0]

        return await self.until(look)

    def statistic(self, name):
        return self.hub.statistics()[f"foreign.{name}"]


@contextlib.asynccontextmanager
async def hub_on(directory, *, anonymous=False):
    dialect = FakeDialect()
    settings = dataclasses.replace(SETTINGS, broker=dataclasses.replace(SETTINGS.broker, allow_anonymous=anonymous))
    async with contextlib.AsyncExitStack() as stack:
        hub = await stack.enter_async_context(running_hub(directory, settings, dialects=fake_dialects(dialect)))
        yield Trial(hub, directory, stack, dialect)


@pytest.fixture
def directory(tmp_path):
    made = DataDirectory(tmp_path / "data")
    made.make()
    return made


@pytest.fixture
async def trial(directory):
    async with hub_on(directory) as made:
        yield made


def reading(**more):
    return {"time_ms": time.time_ns() // 1_000_000, "active_w": 812.5, "drawn_wh": 5000, **more}


async def test_a_device_is_discovered_adopted_and_a_module_like_any(trial):
    admin = await trial.client()
    gateway = await trial.gateway()
    await asyncio.to_thread(gateway.say, "plug-1", "facts", FACTS)
    await asyncio.to_thread(gateway.say, "plug-1", "read", reading())
    row = await trial.device("plug-1", power_kind="W")
    assert (row["state"], row["serial"], row["model"], row["rssi_dbm"], row["link_quality"]) == (
        "discovered",
        None,
        "Plug 3",
        -61,
        99,
    )
    # What says where it is and whose its meter is has no place in a list.
    assert not {"ssid", "bssid", "meter_serial"} & row.keys()
    assert "Wi-Fi" not in json.dumps(row)
    assert trial.statistic("unadopted") == 1
    assert (await admin.get("/v1/modules")).json()["items"] == []

    (site,) = await asyncio.to_thread(trial.hub.platform.path.registry.add_sites, [NewSite("Lyon")])
    serial = await trial.adopted(gateway, "plug-1", site_id=site, tags=["pilot", "plugs"])
    assert serial == "plug-1"
    begun = time.time_ns() // 1000
    for number in range(3):
        await asyncio.to_thread(gateway.say, "plug-1", "read", reading(drawn_wh=5001 + number))
    module = await trial.module("plug-1", received=3, firmware="1.2.3")

    assert (module["kind"], module["dialect"], module["hardware"]) == ("foreign", "fake", "Plug 3")
    assert (module["city"], module["site_id"], module["tags"]) == ("Lyon", site, ["pilot", "plugs"])
    # The signal that was told apart came with the first of the readings.
    assert (module["rssi_dbm"], module["blocked"]) == (-61, None)
    # The second of these words is for a slow machine.
    assert module["state"] in {"live", "silent"}
    asked = {"from_us": begun - 10**6, "to_us": begun + 60 * 10**6}
    stored = (await admin.get("/v1/modules/plug-1/readings", params=asked)).json()
    rows = [dict(zip(stored["columns"], row, strict=True)) for row in stored["rows"]]
    # What came before it was a module was never kept.
    assert [(row["power"], row["power_kind"], row["drawn_wh"], row["rssi_dbm"]) for row in rows] == [
        (812.5, "W", 5001, -61),
        (812.5, "W", 5002, None),
        (812.5, "W", 5003, None),
    ]

    async def told():
        kinds = {one["kind"] for one in (await admin.get("/v1/modules/plug-1/events")).json()["items"]}
        return {"adopted", "paired", "born"} <= kinds

    await trial.until(told)
    deeds = (await admin.get("/v1/actions", params={"filter": "subject:eq:module:plug-1"})).json()["items"]
    assert [one["what"] for one in deeds] == ["device.adopt"]
    assert (await trial.device("plug-1", state="adopted"))["serial"] == "plug-1"


async def test_in_a_trial_anybody_is_discovered_and_nobody_adopted_unasked(directory):
    async with hub_on(directory, anonymous=True) as trial:
        gateway = await asyncio.to_thread(Gateway, trial.hub.addresses["mqtt"], None)
        await asyncio.to_thread(gateway.say, "plug-1", "read", reading(), retain=True)
        row = await trial.device("plug-1", power_kind="W")
        gateway.close()

        assert row["state"] == "discovered"
        # What the device itself asks the broker to remember is news to us.
        assert trial.statistic("unadopted") == 1
        assert trial.hub.platform.path.modules.slot("plug-1") is None


async def test_presence_is_the_devices_own_not_its_gateways(trial):
    gateway = await trial.gateway()
    here, gone = await trial.adopted(gateway, "here"), await trial.adopted(gateway, "gone")
    for name in (here, gone):
        await asyncio.to_thread(gateway.say, name, "online", "true")
        await asyncio.to_thread(gateway.say, name, "read", reading())
        await trial.module(name, connected=True, received=1)
    await asyncio.to_thread(gateway.say, gone, "online", "false")

    await trial.module(gone, state="offline", connected=False)
    await trial.module(here, connected=True)
    admin = await trial.client()

    async def told():
        items = (await admin.get(f"/v1/modules/{gone}/events")).json()["items"]
        kinds = [one["kind"] for one in items]
        return {"connected", "disconnected"} <= set(kinds) and items

    (left,) = [one for one in await trial.until(told) if one["kind"] == "disconnected"]
    assert left["details"] == {"cause": "word"}
    # What it says after its will was of another connection.
    await asyncio.to_thread(gateway.say, gone, "read", reading())
    await trial.module(gone, connected=True)


async def test_a_command_goes_in_the_devices_words_and_is_answered(trial):
    admin = await trial.client()
    gateway = await trial.gateway()
    serial = await trial.adopted(gateway, "plug-1")
    await asyncio.to_thread(gateway.say, "plug-1", "online", "true")
    sent = await admin.post(f"/v1/modules/{serial}/commands", json={"name": "reboot"})
    assert sent.status_code in {200, 201, 202}, sent.text
    command_id = sent.json()["id"]
    # Nothing is lost to a device that has not subscribed yet: it gets it as soon as it has.
    await asyncio.to_thread(gateway.listen, "fake-cmnd/#")
    await asyncio.to_thread(eventually, lambda: len(gateway.heard) >= 2)
    assert gateway.heard == [("fake-cmnd/plug-1/prepare", ""), ("fake-cmnd/plug-1/reboot", command_id)]
    await asyncio.to_thread(gateway.say, "plug-1", "ack", {"id": command_id, "result": "done"})

    async def done():
        found = (await admin.get(f"/v1/commands/{command_id}")).json()
        return found["state"] == "acknowledged" and found

    assert (await trial.until(done))["result"] == {"result": "done"}
    assert len(gateway.heard) == 2


async def test_a_command_that_its_dialect_has_not_is_refused(trial):
    admin = await trial.client()
    gateway = await trial.gateway()
    serials = [await trial.adopted(gateway, name) for name in ("dumb-1", "plug-1")]
    for serial, name in ((serials[0], "reboot"), (serials[1], "identify")):
        answer = await admin.post(f"/v1/modules/{serial}/commands", json={"name": name})
        assert answer.status_code == 409
        assert "it speaks a dialect that has no such command" in answer.json()["detail"]
    preview = await admin.post("/v1/commands/bulk", json={"name": "reboot", "serials": serials, "preview": True})
    assert preview.status_code < 300, preview.text
    assert "dumb-1" in json.dumps(preview.json()["left_out"])
    assert "plug-1" not in json.dumps(preview.json()["left_out"])


async def test_ignored_restored_and_left_out_with_the_reason(trial):
    admin = await trial.client()
    gateway = await trial.gateway()
    for name in ("a", "b", "c"):
        await asyncio.to_thread(gateway.say, name, "facts", {"model": "Old" if name == "c" else "New"})
    ids = {name: (await trial.device(name))["id"] for name in ("a", "b", "c")}
    ignored = (await admin.post("/v1/discovered/ignore", json={"filter": ["model:eq:Old"]})).json()
    assert [one["id"] for one in ignored["changed"]] == [ids["c"]]
    await asyncio.to_thread(gateway.say, "c", "read", reading())
    await asyncio.to_thread(eventually, lambda: trial.statistic("ignored") == 1)

    report = (await admin.post("/v1/discovered/adopt", json={"ids": [*ids.values(), 999, ids["a"]]})).json()
    assert [one["serial"] for one in report["changed"]] == ["a", "b"]
    assert report["left_out"] == [
        {"id": 999, "reason": "there is no such device"},
        {"id": ids["c"], "reason": "it is ignored; restore it first"},
    ]
    again = (await admin.post("/v1/discovered/adopt", json={"ids": [ids["a"]]})).json()
    assert again == {"changed": [], "left_out": [{"id": ids["a"], "reason": "it is adopted already, as a"}]}
    restored = (await admin.post("/v1/discovered/restore", json={"ids": [ids["c"], ids["b"]]})).json()
    assert ([one["id"] for one in restored["changed"]], len(restored["left_out"])) == ([ids["c"]], 1)
    assert [one["device"] for one in await trial.listed(sort="-device", filter="state:eq:adopted")] == ["b", "a"]

    refused = {
        "both": {"ids": [1], "filter": ["model:eq:New"]},
        "neither": {},
        "no column": {"filter": ["ssid:eq:x"]},
    }
    for asked in refused.values():
        assert (await admin.post("/v1/discovered/adopt", json=asked)).status_code == 422
    assert (await admin.post("/v1/discovered/adopt", json={"ids": [ids["c"]], "site_id": 5})).status_code == 404
    auditor = await trial.client(Role.AUDITOR)
    assert (await auditor.post("/v1/discovered/adopt", json={"ids": [1]})).status_code == 403


async def test_a_serial_that_is_taken_is_made_another(trial):
    gateway = await trial.gateway()
    await asyncio.to_thread(trial.hub.platform.path.registry.provision, "WD-1")
    serial = await trial.adopted(gateway, "WD-1")
    assert serial.startswith("WD-1-")
    await asyncio.to_thread(gateway.say, "WD-1", "read", reading())
    await trial.module(serial, received=1)
    await trial.module("WD-1", received=0)


async def test_what_can_not_be_used_is_answered_and_put_aside(trial):
    admin = await trial.client()
    gateway = await trial.gateway()
    serial = await trial.adopted(gateway, "plug-1")
    await asyncio.to_thread(gateway.say, "plug-1", "read", "{")
    await asyncio.to_thread(gateway.say, "plug-1", "bug", "x")
    await asyncio.to_thread(gateway.say, "x", "stranger", "x")
    for number in range(60):
        await asyncio.to_thread(gateway.say, f"nobody-{number}", "read", "{")

    async def kept():
        rows = (await admin.get("/v1/quarantine", params={"limit": 200})).json()["items"]
        return {(one["module"], one["reason"]) for one in rows} >= {(serial, "syntax"), ("", "bug")} and rows

    rows = await trial.until(kept)
    assert {one["kind"] for one in rows} == {"fake"}
    assert trial.statistic("faults") == 1
    assert trial.statistic("refused") == 63
    # The hub goes on.
    await asyncio.to_thread(gateway.say, "plug-1", "read", reading())
    await trial.module(serial, received=1)


async def test_a_topic_is_asked_for_again_when_its_dialect_knows_it(trial):
    gateway = await trial.gateway()
    serial = await trial.adopted(gateway, "plug-1")

    def speak():
        sent = gateway.client.publish("named/counter", json.dumps(reading()), qos=1)
        sent.wait_for_publish(10)

    await asyncio.to_thread(speak)
    assert trial.statistic("readings") == 0
    await asyncio.to_thread(gateway.say, "plug-1", "claim", "named/counter")

    async def taken():
        await asyncio.to_thread(speak)
        return trial.statistic("readings")

    await trial.until(taken)
    await trial.module(serial, dialect="fake")


async def test_readings_of_several_messages_come_when_their_time_is_over(trial):
    gateway = await trial.gateway()
    serial = await trial.adopted(gateway, "plug-1")
    await asyncio.to_thread(gateway.say, "plug-1", "part", reading())
    await trial.module(serial, received=1)


async def test_a_hub_that_comes_back_knows_its_devices(directory):
    async with hub_on(directory) as trial:
        gateway = await trial.gateway()
        await asyncio.to_thread(gateway.say, "plug-1", "facts", FACTS)
        serial = await trial.adopted(gateway, "plug-1")
        await asyncio.to_thread(gateway.say, "seen", "facts", {"model": "X"})
        await trial.device("seen", model="X")
        secret = gateway.secret
    async with hub_on(directory) as trial:
        assert (trial.statistic("devices_adopted"), trial.statistic("devices_discovered")) == (1, 1)
        admin = await trial.client()
        gateway = await trial.gateway(secret)
        await asyncio.to_thread(gateway.say, "plug-1", "read", reading())
        await trial.module(serial, received=1)
        row = await trial.device("plug-1", state="adopted")
        assert (row["name"], row["messages"] >= 2) == ("Kitchen of Martin", True)
        await asyncio.to_thread(gateway.say, "plug-1", "log", {"text": "hello"})

        async def told():
            kinds = [one["kind"] for one in (await admin.get(f"/v1/modules/{serial}/events")).json()["items"]]
            return "log" in kinds and kinds

        # What is the same as before is no birth.
        assert (await trial.until(told)).count("born") == 1


async def test_what_was_recognised_is_erased_with_its_module(trial):
    admin = await trial.client()
    gateway = await trial.gateway()
    serial = await trial.adopted(gateway, "plug-1")
    await asyncio.to_thread(gateway.say, "plug-1", "facts", FACTS)
    await trial.device("plug-1", name="Kitchen of Martin")
    _job, file = await erased(admin, f"module:{serial}")
    (row,) = [one for one in file["receipt"]["places"] if one["place"] == "registry.foreign_devices"]
    assert (row["before"], row["after"]) == (1, 0)
    # Nor does it come back from memory with the next message.
    await asyncio.to_thread(gateway.say, "plug-1", "log", {"text": "hello"})
    await asyncio.to_thread(gateway.say, "other", "facts", {"model": "later"})
    await trial.device("other", model="later")
    found = await trial.device("plug-1")
    assert (found["name"], found["state"]) == (None, "adopted")

    def facts():
        with trial.hub.platform.path.registry.reading() as connection:
            return connection.execute(ForeignDevice.__table__.select()).all()

    assert "Martin" not in str(await asyncio.to_thread(facts))
