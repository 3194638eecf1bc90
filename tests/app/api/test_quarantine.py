"""Refused messages through a real hub: what an operator replays is read back from the store."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import time

import pytest

from app.domain.credentials import CredentialKind
from app.domain.keys import CollectionLevel
from app.domain.people import Role
from app.domain.reading import Origin
from app.domain.resolution import Resolution
from app.domain.settings import Settings
from app.hub.data_directory import DataDirectory
from app.hub.hub import running_hub
from app.hub.opening import stored_series
from app.services.access_log import AccessLog
from app.stores.registry.records import NewSite, PairedAs
from app.stores.registry.registry import Registry
from broker.packets import V311
from tests.app.api.conftest import SETTINGS, ApiTrial
from tests.helpers.mqtt_peer import RawClient

WAIT_S = 20
FOREVER_US = 2**51


class Desk:
    """A hub with a service that may publish for any module, and what it stored."""

    def __init__(self, trial, service, looks):
        self.trial = trial
        self.service = service
        self.looks = looks

    async def get(self, path, status=200, **parameters):
        answer = await (await self.trial.client()).get(path, params=parameters)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def post(self, path, body=None, status=200):
        answer = await (await self.trial.client()).post(path, json={} if body is None else body)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def refused(self, serial, payload, kind="tele"):
        """Publish what is refused, and wait until it is kept; its number."""
        before = {one["id"] for one in (await self.get("/v1/quarantine"))["items"]}
        self.service.publish(f"wd/v1/m/{serial}/{kind}", payload, qos=1, packet_id=9)
        await self.service.acknowledged()
        async with asyncio.timeout(WAIT_S):
            while True:
                (*new,) = {one["id"] for one in (await self.get("/v1/quarantine"))["items"]} - before
                if new:
                    return new[0]
                await asyncio.sleep(0.01)

    async def register(self, serial, **template):
        """Register a module as another process would, and let the hub take it over."""
        with Registry.open(self.trial.directory.registry) as registry:
            registry.ensure_modules([serial], **template)
        self.trial.hub.reload()
        async with asyncio.timeout(WAIT_S):
            while self.trial.hub.statistics()["modules.known"] == 0:  # noqa: ASYNC110 - the roster tells nobody
                await asyncio.sleep(0.005)


@pytest.fixture
async def desk(tmp_path, monkeypatch):
    looks = []
    monkeypatch.setattr(AccessLog, "note", lambda _self, *what: looks.append(what))
    directory = DataDirectory(tmp_path / "data")
    directory.make()
    with Registry.open(directory.registry) as registry:
        secret = registry.add_credential("gateway", CredentialKind.SERVICE, publish=["wd/v1/m/#"])
    async with contextlib.AsyncExitStack() as stack:
        hub = await stack.enter_async_context(running_hub(directory, SETTINGS))
        service = await RawClient.connected(
            hub.addresses["mqtt"][1], "gw", V311, username="gateway", password=secret.encode()
        )
        yield Desk(ApiTrial(hub, directory, stack), service, looks)


def reading(seq=1, *, ago_s=0.0, **fields):
    made = {"time_ms": int((time.time() - ago_s) * 1000), "boot_id": 1, "seq": seq, "apparent_va": 100 + seq}
    return json.dumps(made | fields).encode()


def read_back(directory, serial):
    """Every raw reading of a module by `./run read`'s own way: the stored series beside the running hub."""
    with Registry.open_to_read(directory.registry) as registry:
        keys = [period.key for period in registry.periods(serial).periods]
        with stored_series(directory, Settings(), registry, [serial]) as reader:
            rows = []
            for key in keys:
                rows += reader.read(key, 0, FOREVER_US, Resolution.RAW).to_pylist()
    return rows


async def rows_of(desk, serial="NEW"):
    return await asyncio.to_thread(read_back, desk.trial.directory, serial)


async def test_an_unknown_modules_reading_is_stored_after_it_was_registered(desk):
    number = await desk.refused("NEW", reading(7, ago_s=5))
    found = await desk.get(f"/v1/quarantine/{number}")
    assert (found["message"]["reason"], found["message"]["not_replayable"]) == ("unknown_module", None)
    again = await desk.post(f"/v1/quarantine/{number}/replay")
    assert again == {"state": "refused", "reason": "unknown_module", "detail": ""}

    await desk.register("NEW")
    assert (await desk.post(f"/v1/quarantine/{number}/replay"))["state"] == "taken"

    (row,) = await rows_of(desk)
    assert (row["seq"], row["origin"]) == (7, Origin.RESENT)
    assert 4000 < row["lag_ms"] < 8000, "by its arrival, not by the time of the replay"
    assert (await desk.get("/v1/quarantine"))["total"] == 0
    await desk.post(f"/v1/quarantine/{number}/replay", status=404)


async def test_a_reading_of_a_time_that_was_erased_stays_refused(desk):
    await desk.register("NEW")
    with Registry.open(desk.trial.directory.registry) as registry:
        key = registry.periods("NEW").periods[-1].key
        (site,) = registry.add_sites([NewSite("Lyon")])
        at_us = int((time.time() - 3600) * 1e6)
        registry.pair("NEW", 1, at_us, PairedAs(site, CollectionLevel.SECOND))
        registry.erase_key(key)
    desk.trial.hub.reload()
    number = None
    async with asyncio.timeout(WAIT_S):
        # The roster takes the change over in its own time.
        while number is None:
            before = desk.trial.hub.statistics().get("refused.no_supply_period", 0)
            desk.service.publish("wd/v1/m/NEW/tele", reading(1, ago_s=7200), qos=1, packet_id=9)
            await desk.service.acknowledged()
            if desk.trial.hub.statistics().get("refused.no_supply_period", 0) > before:
                items = (await desk.get("/v1/quarantine"))["items"]
                number = items[0]["id"] if items else None
    assert (await desk.post(f"/v1/quarantine/{number}/replay"))["reason"] == "no_supply_period"


async def test_a_replayed_reading_displaces_none_that_was_measured(desk):
    payload = reading(1, ago_s=3)
    number = await desk.refused("NEW", payload)
    await desk.register("NEW")
    measured = json.loads(payload) | {"apparent_va": 999}
    desk.service.publish("wd/v1/m/NEW/tele", json.dumps(measured).encode(), qos=1, packet_id=9)
    await desk.service.acknowledged()

    assert (await desk.post(f"/v1/quarantine/{number}/replay"))["state"] == "taken"

    (row,) = await rows_of(desk)
    assert (row["power"], row["origin"]) == (999, Origin.MEASURED)


async def test_many_are_replayed_by_filter_and_what_is_refused_again_stays_once(desk):
    good = [await desk.refused("NEW", reading(seq, ago_s=10 - seq)) for seq in range(5)]
    garbage = await desk.refused("NEW", b"{")
    future = await desk.refused("NEW", reading(50, ago_s=-3600))
    await desk.refused("OTHER", reading(1))
    await desk.register("NEW")

    answer = await desk.post("/v1/quarantine/replay", {"filter": ["module:eq:NEW"]})

    assert answer == {
        "taken": 5,
        "partly": 0,
        "refused": 2,
        "not_replayable": 0,
        "reasons": {"syntax": 1, "time_in_future": 1},
        "more": False,
    }
    left = {one["id"]: one["reason"] for one in (await desk.get("/v1/quarantine"))["items"]}
    assert left.pop(garbage) == "syntax"
    assert left.pop(future) == "time_in_future"
    assert list(left.values()) == ["unknown_module"]
    assert not set(left) & set(good)
    assert [row["seq"] for row in await rows_of(desk)] == [0, 1, 2, 3, 4]
    again = await desk.post("/v1/quarantine/replay", {"ids": [*good, garbage]})
    assert (again["taken"], again["refused"]) == (0, 1)


async def test_of_an_array_the_bad_readings_stay(desk):
    parts = [json.loads(reading(1, ago_s=5)), json.loads(reading(2, ago_s=-3600)), json.loads(reading(3, ago_s=4))]
    number = await desk.refused("NEW", json.dumps(parts).encode())
    await desk.register("NEW")

    assert await desk.post(f"/v1/quarantine/{number}/replay") == {
        "state": "partly",
        "reason": "time_in_future",
        "detail": f"module time {parts[1]['time_ms'] / 1000:.3f}",
    }

    assert [row["seq"] for row in await rows_of(desk)] == [1, 3]
    kept = await desk.get(f"/v1/quarantine/{number}")
    assert [one["seq"] for one in json.loads(kept["text"])] == [2]
    assert (await desk.get("/v1/quarantine"))["total"] == 1


async def test_what_can_not_be_replayed_says_why(desk):
    long = await desk.refused("NEW", json.dumps([json.loads(reading(n, ago_s=n)) for n in range(200)]).encode())
    birth = await desk.refused("NEW", b'{"online":true}', kind="state")
    await desk.register("NEW")

    found = await desk.get(f"/v1/quarantine/{long}")
    assert found["message"]["cut"]
    assert found["message"]["size"] > 4096
    assert "4096" in found["message"]["not_replayable"]
    assert (await desk.post(f"/v1/quarantine/{long}/replay"))["state"] == "not_replayable"
    assert "birth" in (await desk.post(f"/v1/quarantine/{birth}/replay"))["detail"]
    assert (await desk.get("/v1/quarantine"))["total"] == 2
    assert await desk.post("/v1/quarantine/replay", {"filter": []}) == {
        "taken": 0,
        "partly": 0,
        "refused": 0,
        "not_replayable": 2,
        "reasons": {},
        "more": False,
    }


async def test_other_kinds_go_their_way_too(desk):
    number = await desk.refused("NEW", b'{"text":"hello"}', kind="log")
    await desk.register("NEW")

    assert (await desk.post(f"/v1/quarantine/{number}/replay"))["state"] == "taken"
    assert (await desk.get("/v1/quarantine"))["total"] == 0


async def test_a_payload_is_shown_to_who_says_why_and_the_look_is_noted(desk):
    number = await desk.refused("NEW", b"\xff\x00\x01")
    found = await desk.get(f"/v1/quarantine/{number}")
    assert (found["text"], base64.b64decode(found["payload_base64"])) == (None, b"\xff\x00\x01")
    ((_principal, purpose, subjects, attributes),) = desk.looks
    assert (purpose.code, list(subjects), list(attributes)) == ("test", ["module:NEW"], ["payload"])
    without = await desk.trial.client(Role.SUPPORT, purpose=None)
    assert (await without.get(f"/v1/quarantine/{number}")).status_code == 403
    assert (await without.get("/v1/quarantine")).status_code == 200, "the list shows no payload"
    viewer = await desk.trial.client(Role.TECHNICIAN)
    assert (await viewer.get("/v1/quarantine")).status_code == 403


async def test_dropping_needs_the_number_that_was_seen(desk):
    numbers = [await desk.refused("NEW", b"{") for _ in range(3)]
    assert await desk.get("/v1/quarantine/reasons") == [{"reason": "unknown_module", "count": 3}]
    body = {"filter": ["reason:eq:unknown_module"], "up_to": numbers[1]}
    refused = await desk.post("/v1/quarantine/drop", body | {"expected_count": 3}, status=409)
    assert "2 messages" in refused["detail"]
    assert (await desk.post("/v1/quarantine/drop", body | {"expected_count": 2}))["dropped"] == 2
    client = await desk.trial.client()
    assert (await client.delete(f"/v1/quarantine/{numbers[2]}")).status_code == 204
    assert (await client.delete(f"/v1/quarantine/{numbers[2]}")).status_code == 404
    assert (await desk.get("/v1/quarantine"))["total"] == 0
    with Registry.open_to_read(desk.trial.directory.registry) as registry, registry.reading() as connection:
        deeds = connection.exec_driver_sql(
            "SELECT what, subject, actor FROM actions WHERE actor <> 'hub' ORDER BY id"
        ).fetchall()
    assert [tuple(one) for one in deeds] == [
        ("quarantine.drop", "quarantine:several", "test-admin"),
        ("quarantine.drop", f"quarantine:{numbers[2]}", "test-admin"),
    ]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/quarantine/replay", {}, 422),
        ("/v1/quarantine/replay", {"ids": [1], "filter": []}, 422),
        ("/v1/quarantine/replay", {"ids": []}, 400),
        ("/v1/quarantine/replay", {"ids": [0]}, 400),
        ("/v1/quarantine/replay", {"filter": ["nonsense"]}, 422),
        ("/v1/quarantine/drop", {"filter": []}, 400),
        ("/v1/quarantine/drop", {"filter": ["cut:eq:maybe"], "expected_count": 0}, 422),
        ("/v1/quarantine/99999999999999999999/replay", {}, 400),
    ],
)
async def test_nonsense_is_refused(desk, path, body, status):
    await desk.post(path, body, status=status)
