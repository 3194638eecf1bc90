"""Real dialects on a real hub: a Tasmota plug and a Shelly are discovered, adopted, read and commanded."""

from __future__ import annotations

import asyncio
import json
import time

import paho.mqtt.client as mqtt
import pytest

from tests.e2e.clients import eventually

PURPOSE = {"Wattdeck-Purpose": "test"}
PLUG_CONFIG = {
    "ip": "192.0.2.7",
    "dn": "Cellar",
    "hn": "plug-0001",
    "mac": "AABBCC000001",
    "md": "Metering plug",
    "ofln": "Offline",
    "onln": "Online",
    "sw": "14.2.0",
    "t": "plug_000001",
    "ft": "%prefix%/%topic%/",
    "tp": ["cmnd", "stat", "tele"],
    "ver": 1,
}
ENERGY = {"Total": 12.5, "Power": 203, "ApparentPower": 350, "Voltage": 231, "Current": 1.5}
SHELLY = "shellypro3em-aabbccddee01"
STATUS = {
    "em:0": {"id": 0, "a_voltage": 230.1, "total_act_power": 512.5, "total_aprt_power": 600.0},
    "emdata:0": {"id": 0, "total_act": 123_456.7, "total_act_ret": 12.0},
}


class Devices:
    """One client that speaks as each device would."""

    def __init__(self, address, secret):
        self.heard = []
        self.listens = False
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="house")
        self.client.username_pw_set("house", secret)
        self.client.on_message = lambda _client, _data, one: self.heard.append((one.topic, one.payload.decode()))
        self.client.on_subscribe = lambda *_: setattr(self, "listens", True)
        self.client.connect(*address)
        self.client.loop_start()
        eventually(self.client.is_connected)
        self.client.subscribe([("cmnd/#", 1), (f"{SHELLY}/rpc", 1)])
        eventually(lambda: self.listens)

    def say(self, topic, payload, *, retain=False):
        sent = self.client.publish(topic, payload if isinstance(payload, str) else json.dumps(payload), 1, retain)
        sent.wait_for_publish(10)

    def speak(self):
        self.say("tasmota/discovery/AABBCC000001/config", PLUG_CONFIG, retain=True)
        self.say("tele/plug_000001/LWT", "Online", retain=True)
        self.say("tele/plug_000001/STATE", {"Wifi": {"SSId": "x", "Channel": 6, "RSSI": 60, "Signal": -70}})
        self.say("tele/plug_000001/SENSOR", {"Time": "2026-01-01T00:00:00", "ENERGY": ENERGY})
        self.say(f"{SHELLY}/online", "true", retain=True)
        status = {"ts": time.time(), **STATUS}
        said = {"src": SHELLY, "dst": f"{SHELLY}/events", "method": "NotifyFullStatus", "params": status}
        self.say(f"{SHELLY}/events/rpc", said)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
async def devices(trial):
    admin = await trial.client()
    asked = {
        "username": "house",
        "kind": "source",
        "publish": ["tasmota/#", "tele/#", "stat/#", f"{SHELLY}/#", "wattdeck/#"],
        "subscribe": ["cmnd/#", f"{SHELLY}/rpc"],
    }
    secret = (await admin.post("/v1/credentials", json=asked)).json()["secret"]
    known = trial.hub.platform.path.credentials.authenticator.usernames
    await asyncio.to_thread(eventually, lambda: "house" in known())
    made = await asyncio.to_thread(Devices, trial.hub.addresses["mqtt"], secret)
    yield made
    made.close()


async def until(ask):
    for _ in range(300):
        if found := await ask():
            return found
        await asyncio.sleep(0.1)
    raise AssertionError("did not happen")


async def test_a_plug_and_a_three_phase_meter_become_modules(trial, devices):
    admin = await trial.client()
    await asyncio.to_thread(devices.speak)

    async def discovered():
        rows = (await admin.get("/v1/discovered")).json()["items"]
        return {row["device"]: row for row in rows} if len(rows) == 2 else None

    found = await until(discovered)
    assert {row["dialect"] for row in found.values()} == {"tasmota", "shelly"}
    assert found["plug_000001"]["firmware"] == "14.2.0"
    ids = [row["id"] for row in found.values()]
    report = (await admin.post("/v1/discovered/adopt", json={"ids": ids})).json()
    assert report["left_out"] == []
    serials = {one["id"]: one["serial"] for one in report["changed"]}
    plug, shelly = serials[found["plug_000001"]["id"]], serials[found[SHELLY]["id"]]
    source = trial.hub.platform.path.foreign.source
    await asyncio.to_thread(eventually, lambda: source.is_foreign(plug) and source.is_foreign(shelly))
    begun_us = time.time_ns() // 1000 - 60_000_000
    await asyncio.to_thread(devices.speak)

    async def stored(serial):
        asked = {"from_us": begun_us, "to_us": begun_us + 600_000_000}
        answer = await admin.get(f"/v1/modules/{serial}/readings", params=asked, headers=PURPOSE)
        assert answer.status_code == 200, answer.text
        table = answer.json()
        return table["rows"] and dict(zip(table["columns"], table["rows"][-1], strict=True))

    (of_plug, of_shelly) = [await until(lambda serial=serial: stored(serial)) for serial in (plug, shelly)]
    # The plug measures both kinds of power: watts are the power, and its total in kWh is an index in Wh.
    assert (of_plug["power"], of_plug["power_kind"], of_plug["drawn_wh"]) == (203, "W", 12_500)
    assert of_plug["rssi_dbm"] == -70, "Signal is dBm, RSSI a percentage"
    assert (of_shelly["power"], of_shelly["power_kind"], of_shelly["drawn_wh"]) == (512.5, "W", 123_456)

    sent = await admin.post(f"/v1/modules/{plug}/commands", json={"name": "reboot"})
    assert sent.status_code == 201, sent.text
    await asyncio.to_thread(eventually, lambda: devices.heard)
    assert devices.heard[0] == ("cmnd/plug_000001/Restart", "1")
    refused = await admin.post(f"/v1/modules/{plug}/commands", json={"name": "identify"})
    assert (refused.status_code, "dialect" in refused.text) == (409, True)
