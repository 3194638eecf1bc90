"""Events over HTTP: what happened to modules at the broker, kept across restarts."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import resource
import time

import pytest

from app.domain.keys import CollectionLevel
from app.domain.people import Role
from app.hub.data_directory import DataDirectory
from app.hub.hub import running_hub
from app.stores.events.reader import EventReader, Wanted
from app.stores.registry.records import NewSite, PairedAs
from app.stores.registry.registry import Registry
from broker.packets import V311, Connect, Disconnect, encode
from tests.app.api.conftest import SETTINGS, ApiTrial
from tests.helpers.live_listener import LiveListener
from tests.helpers.mqtt_peer import until


@pytest.fixture
def provisioned(tmp_path):
    """A data directory with some modules."""
    directory = DataDirectory(tmp_path / "data")
    directory.make()
    with Registry.open(directory.registry) as registry:
        modules = registry.provision_many(["WD-1", "WD-2"])
        registry.add_sites([NewSite("Lyon")])
    return directory, {one.serial: one.secret for one in modules}


@contextlib.asynccontextmanager
async def running(directory):
    async with contextlib.AsyncExitStack() as stack:
        yield ApiTrial(await stack.enter_async_context(running_hub(directory, SETTINGS)), directory, stack)


async def come_and_go(trial, secrets, serial, *messages):
    async with LiveListener(
        trial.hub.addresses["mqtt"], serial, secrets[serial], client_id=serial, topics=[f"wd/v1/m/{serial}/cmd"]
    ) as module:
        for kind, message in messages:
            sent = module.client.publish(f"wd/v1/m/{serial}/{kind}", json.dumps(message), qos=1)
            await asyncio.to_thread(sent.wait_for_publish, 20)


async def settled(trial):
    await until(lambda: trial.hub.statistics()["events.waiting"] == 0)


async def kinds(client, serial, **more):
    answer = await client.get(f"/v1/modules/{serial}/events", params=more)
    assert answer.status_code == 200, answer.text
    return [one["kind"] for one in answer.json()["items"]]


BIRTH = {"online": True, "boot_id": 1, "firmware": "2.4.1", "bssid": "02:00:5e:10:00:01", "channel": 6}


async def test_a_modules_time_line_goes_on_after_a_restart(provisioned):
    directory, secrets = provisioned
    async with running(directory) as trial:
        await come_and_go(trial, secrets, "WD-1", ("state", BIRTH), ("log", {"text": "hello"}))
        await until(lambda: trial.hub.statistics()["broker.disconnects"] == 1)
    async with running(directory) as trial:
        await come_and_go(trial, secrets, "WD-1", ("state", BIRTH))
        await come_and_go(trial, secrets, "WD-1", ("state", BIRTH | {"boot_id": 2, "firmware": "2.5.0", "channel": 11}))
        await until(lambda: trial.hub.statistics()["broker.disconnects"] == 2)
        await settled(trial)
        client = await trial.client(Role.VIEWER, purpose=None)
        found = (await client.get("/v1/modules/WD-1/events")).json()
        only = await kinds(client, "WD-1", kind=["born", "log"])
        others = await kinds(client, "WD-2")

    assert [one["kind"] for one in reversed(found["items"])] == [
        *("connected", "born", "log", "disconnected"),
        *("connected", "disconnected"),
        *("connected", "born", "firmware_changed", "access_point_changed", "disconnected"),
    ]  # fmt: skip
    assert found["cursor"] is None
    assert sorted(only) == ["born", "born", "log"]
    assert others == []
    connected = found["items"][-1]
    assert connected["details"] == {"address": "127.0.0.1", "client_id": "WD-1"}
    assert found["items"][0]["details"] == {"cause": "client"}
    assert abs(connected["time_us"] - time.time_ns() // 1000) < 60e6
    assert "02:00:5e" not in json.dumps(found)


async def test_pages_of_the_fleet_and_days(provisioned):
    directory, secrets = provisioned
    async with running(directory) as trial:
        for serial in ("WD-1", "WD-2", "WD-1"):
            await come_and_go(trial, secrets, serial)
        await until(lambda: trial.hub.statistics()["broker.disconnects"] == 3)
        await settled(trial)
        client = await trial.client(Role.TECHNICIAN)
        pages, cursor = [], ""
        while cursor is not None:
            page = (await client.get("/v1/events", params={"limit": 4, "cursor": cursor})).json()
            pages.append([one["module"] for one in page["items"]])
            cursor = page["cursor"]
        today = dt.datetime.now(tz=dt.UTC).date()
        days = {"first": (today - dt.timedelta(days=1)).isoformat(), "last": (today + dt.timedelta(days=1)).isoformat()}
        daily = (await client.get("/v1/events/daily", params=days)).json()

    assert pages == [["WD-1", "WD-1", "WD-2", "WD-2"], ["WD-1", "WD-1"]]
    assert daily["zone"] == "Europe/Paris"
    [day] = daily["days"]
    assert day["kinds"]["connected"] == {"events": 3, "modules": 2}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/modules/NOBODY/events", 404),
        ("/v1/events?cursor=x", 422),
        ("/v1/events?kind=nothing", 400),
        ("/v1/events?limit=0", 400),
        ("/v1/events?limit=100000", 400),
        ("/v1/events?from_us=-1", 400),
        (f"/v1/events?to_us={2**70}", 400),
        ("/v1/modules/a%00b/events", 404),
        ("/v1/events/daily", 400),
        ("/v1/events/daily?first=2026-01-02&last=2026-01-01", 422),
        ("/v1/events/daily?first=0001-01-01&last=9999-12-31", 422),
        ("/v1/events/daily?first=9999-12-31&last=9999-12-31", 200),
        ("/v1/events/daily?first=2026-13-01&last=2026-01-01", 400),
        ("/v1/events", 200),
        ("/v1/modules/WD-1/events?from_us=5&to_us=1", 200),
    ],
)
async def test_a_question_is_answered_or_refused(provisioned, path, status):
    async with running(provisioned[0]) as trial:
        answer = await (await trial.client()).get(path)

    assert answer.status_code == status, answer.text


async def test_pairings_are_events(provisioned, monkeypatch):
    directory, _secrets = provisioned
    registries = []
    monkeypatch.setattr(Registry, "subscribe", _remembering(Registry.subscribe, registries))
    now_us = time.time_ns() // 1000
    async with running(directory) as trial:
        registry = registries[0]
        paired = PairedAs(1, CollectionLevel.SECOND, "012345678901")
        await asyncio.to_thread(registry.pair, "WD-1", 1, now_us - 3000, paired)
        await asyncio.to_thread(registry.change_meter, "WD-1", 1, now_us - 2000, "999")
        await asyncio.to_thread(registry.unpair, "WD-1", 1, now_us - 1000)
        await settled(trial)
        items = (await (await trial.client()).get("/v1/modules/WD-1/events")).json()["items"]

    assert [(one["kind"], one["time_us"] - now_us, one["details"]) for one in items] == [
        ("unpaired", -1000, {"channel": 1}),
        ("meter_changed", -2000, {"channel": 1}),
        ("paired", -3000, {"channel": 1, "site_id": 1}),
    ]


def _remembering(subscribe, found):
    def remember(self, listener):
        found.append(self)
        subscribe(self, listener)

    return remember


async def test_a_hub_without_its_events_serves_and_says_so(provisioned):
    directory, _secrets = provisioned
    directory.events.mkdir()
    async with running(directory) as trial:
        client = await trial.client()
        health = await client.get("/v1/ready")
        answer = await client.get("/v1/events")
        assert trial.hub.statistics()["events.failing"] == 1

    assert health.status_code == 200
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")


COUNT = 5_000


@pytest.mark.slow
async def test_a_storm_of_connects_is_all_in_the_store(tmp_path):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < 2 * COUNT + 500:
        pytest.skip("this machine opens too few files")
    directory = DataDirectory(tmp_path / "data")
    directory.make()
    with Registry.open(directory.registry) as registry:
        modules = registry.provision_many([f"WD{number:05}" for number in range(COUNT)])
    async with running(directory) as trial:
        address = trial.hub.addresses["mqtt"]
        writers = []

        async def come(module):
            reader, writer = await asyncio.open_connection(*address)
            writers.append(writer)
            connect = Connect(
                client_id=module.serial, version=V311, username=module.username, password=module.secret.encode()
            )
            writer.write(encode(connect, V311))
            assert (await reader.readexactly(4))[3] == 0

        for begin in range(0, COUNT, 250):
            await asyncio.gather(*map(come, modules[begin : begin + 250]))
        assert trial.hub.statistics()["modules.connected"] == COUNT
        for number, writer in enumerate(writers):
            if number % 2:
                writer.write(encode(Disconnect(), V311))
            writer.close()
        await until(lambda: trial.hub.statistics()["modules.connected"] == 0)
        await settled(trial)
        stats = trial.hub.statistics()

    assert stats["events.noted"] == stats["events.written"] == 2 * COUNT
    reader = EventReader(directory.events)
    today = dt.datetime.now(tz=dt.UTC).date()
    counted = {
        one.kind: (one.events, one.modules) for one in reader.days(today - dt.timedelta(1), today + dt.timedelta(1))
    }
    assert counted == {"connected": (COUNT, COUNT), "disconnected": (COUNT, COUNT)}
    causes = [one.details["cause"] for one in reader.page(Wanted(kinds=("disconnected",), limit=COUNT)).events]
    assert sorted(set(causes)) == ["client", "lost"]
    assert causes.count("client") == COUNT // 2
