"""Readings over HTTP: what a module sent is what a client reads, in each form, and only for who may."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import io
import json
import time

import httpx
import paho.mqtt.client as mqtt
import pyarrow as pa
import pytest

from app.domain.keys import CollectionLevel
from app.domain.people import Role
from app.domain.resolution import DAY_US, HOUR_US, SECOND_US, Resolution
from app.hub.data_directory import DataDirectory
from app.hub.hub import running_hub
from app.stores.registry.records import NewSite, PairedAs
from app.stores.registry.registry import Registry
from tests.app.api.conftest import SETTINGS, ApiTrial

COUNT = 7_000
YEAR_2100_US = 4_102_444_800_000_000


def send(address, provisioned, payloads):
    """Publish with QoS 1 and wait until all is acknowledged."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=provisioned.serial)
    client.username_pw_set(provisioned.username, provisioned.secret)
    client.max_inflight_messages_set(100)
    client.connect(*address)
    client.loop_start()
    try:
        sent = [client.publish(f"wd/v1/m/{provisioned.serial}/tele", json.dumps(p), qos=1) for p in payloads]
        for message in sent:
            message.wait_for_publish(30)
            assert message.is_published()
    finally:
        client.disconnect()
        client.loop_stop()


@pytest.fixture
async def stored(tmp_path):
    """A hub that has taken two hours of WD-1, a reading each second with ten missing, through its broker."""
    directory = DataDirectory(tmp_path / "data")
    directory.make()
    now_ms = time.time_ns() // 1_000_000
    start_ms = now_ms - COUNT * 1000
    with Registry.open(directory.registry) as registry:
        provisioned = registry.provision("WD-1")
        (site,) = registry.add_sites([NewSite("Lyon")])
        registry.pair("WD-1", 1, start_ms * 1000 - 10**9, PairedAs(site, CollectionLevel.SECOND))
    batch = [
        {"time_ms": start_ms + 1000 * n, "boot_id": 1, "seq": n, "apparent_va": 1000 + n, "drawn_wh": 5000 + n}
        for n in range(COUNT)
        if not 100 <= n < 110
    ]
    payloads = [batch[begin : begin + 100] for begin in range(0, len(batch), 100)]
    async with contextlib.AsyncExitStack() as stack:
        hub = await stack.enter_async_context(running_hub(directory, SETTINGS))
        await asyncio.to_thread(send, hub.addresses["mqtt"], provisioned, payloads)
        trial = ApiTrial(hub, directory, stack)
        trial.start_us = start_ms * 1000
        yield trial


def asked(trial, **more):
    return {"from_us": trial.start_us, "to_us": trial.start_us + COUNT * 1_000_000, **more}


async def test_json_csv_and_arrow_say_the_same(stored):
    client = await stored.client()
    as_json = (await client.get("/v1/modules/WD-1/readings", params=asked(stored))).json()
    as_csv = (await client.get("/v1/modules/WD-1/readings.csv", params=asked(stored))).text
    as_arrow = (await client.get("/v1/modules/WD-1/readings.arrow", params=asked(stored))).content

    table = pa.ipc.open_stream(as_arrow).read_all()
    lines = list(csv.DictReader(io.StringIO(as_csv)))
    rows = [dict(zip(as_json["columns"], row, strict=True)) for row in as_json["rows"]]
    assert table.num_rows == len(lines) == len(rows) == COUNT - 10
    assert "key" not in as_json["columns"]
    assert [row["seq"] for row in rows] == table["seq"].to_pylist() == [int(line["seq"]) for line in lines]
    assert rows[0]["time"] == stored.start_us
    assert (rows[5]["power"], rows[5]["power_kind"], rows[5]["origin"]) == (1005.0, "VA", "measured")
    assert (float(lines[5]["power"]), lines[5]["power_kind"], lines[5]["voltage_v"]) == (1005.0, "VA", "")
    assert lines[0]["time"].endswith("Z")


async def test_buckets_have_the_energy_of_the_index(stored):
    client = await stored.client()
    answer = (await client.get("/v1/modules/WD-1/readings", params=asked(stored, every="10m"))).json()

    drawn = answer["columns"].index("drawn_wh")
    # The first reading of all has no step into it.
    assert sum(row[drawn] for row in answer["rows"]) == pytest.approx(COUNT - 1, abs=600)
    assert len(answer["rows"]) == pytest.approx(COUNT / 600, abs=1.1)


async def test_completeness_counts_what_is_missing(stored):
    client = await stored.client()
    everything = {"from_us": 0, "to_us": YEAR_2100_US, "every": "10m"}
    answer = (await client.get("/v1/modules/WD-1/completeness", params=everything)).json()

    assert answer["lost"] == 10
    assert answer["received"] == COUNT - 10
    assert "lost" in answer["reasons"]
    assert sum(bucket["lost"] for bucket in answer["buckets"]) == 10
    assert 0.9 < answer["share"] <= 1


@pytest.mark.parametrize("every", ["10m", "1h", "1d"])
async def test_the_bucket_in_which_a_supply_period_begins_counts(stored, every):
    client = await stored.client()
    # The fixture's period begins within a bucket, and its first reading comes within the same hour or day.
    params = {"from_us": stored.start_us - 2 * DAY_US, "to_us": YEAR_2100_US, "every": every}
    answer = (await client.get("/v1/modules/WD-1/readings", params=params)).json()
    counted = (await client.get("/v1/modules/WD-1/completeness", params=params)).json()

    at = {name: answer["columns"].index(name) for name in ("time", "received", "drawn_wh")}
    assert sum(row[at["received"]] for row in answer["rows"]) == COUNT - 10
    assert sum(row[at["drawn_wh"]] for row in answer["rows"]) == COUNT - 1
    assert counted["received"] == COUNT - 10
    assert [bucket["time_us"] for bucket in counted["buckets"]] == [row[at["time"]] for row in answer["rows"]]


@pytest.mark.parametrize("every", ["10m", "1h", "1d"])
async def test_a_bucket_that_two_holders_share_has_a_row_for_each(tmp_path, every):
    """Whose readings are whose within it stays apart, and neither is left out."""
    directory = DataDirectory(tmp_path / "data")
    directory.make()
    begin_us = time.time_ns() // 1000 - DAY_US
    begin_us -= begin_us % HOUR_US
    moved_us = begin_us + 300 * SECOND_US
    with Registry.open(directory.registry) as registry:
        provisioned = registry.provision("WD-1")
        (site,) = registry.add_sites([NewSite("Lyon")])
        holders = registry.add_holder(), registry.add_holder()
        registry.pair("WD-1", 1, begin_us - DAY_US, PairedAs(site, CollectionLevel.SECOND, None, holders[0]))
        registry.change_holder("WD-1", 1, moved_us, holders[1], CollectionLevel.SECOND)
        keys = [period.key for period in registry.periods("WD-1").periods if period.assigned]
    batch = [
        {"time_ms": begin_us // 1000 + 1000 * n, "boot_id": 1, "seq": n, "apparent_va": 100, "drawn_wh": n}
        for n in range(400)
    ]
    async with contextlib.AsyncExitStack() as stack:
        hub = await stack.enter_async_context(running_hub(directory, SETTINGS))
        await asyncio.to_thread(send, hub.addresses["mqtt"], provisioned, [batch[:200], batch[200:]])
        client = await ApiTrial(hub, directory, stack).client()
        path, span = "/v1/modules/WD-1", {"to_us": YEAR_2100_US, "every": every}
        answer = (await client.get(f"{path}/readings", params={"from_us": 0, **span})).json()
        counted = (await client.get(f"{path}/completeness", params={"from_us": 0, **span})).json()
        bucket_us = answer["rows"][0][answer["columns"].index("time")]
        later = (await client.get(f"{path}/readings", params={"from_us": bucket_us + 1, **span})).json()
        narrow = {"from_us": bucket_us, "to_us": bucket_us + 1, "every": every}
        first = (await client.get(f"{path}/readings", params=narrow)).json()
        rows = [hub.platform.path.store.read(key, bucket_us, bucket_us + 1, Resolution(every)) for key in keys]

    received = answer["columns"].index("received")
    assert [row[received] for row in answer["rows"]] == [300, 100]
    assert [row["received"].to_pylist() for row in rows] == [[300], [100]]
    assert len({row[0] for row in answer["rows"]}) == 1
    assert counted["received"] == 400
    assert [bucket["received"] for bucket in counted["buckets"]] == [300, 100]
    assert later["rows"] == [], "a bucket belongs to the range that it begins in"
    assert first["rows"] == answer["rows"]


async def test_a_range_without_readings_is_an_empty_answer(stored):
    client = await stored.client()
    params = {"from_us": 0, "to_us": 1}
    as_json = await client.get("/v1/modules/WD-1/readings", params=params)
    as_arrow = await client.get("/v1/modules/WD-1/readings.arrow", params=params)

    assert as_json.json()["rows"] == []
    assert pa.ipc.open_stream(as_arrow.content).read_all().num_rows == 0


@pytest.mark.parametrize(
    ("path", "params", "status"),
    [
        ("/v1/modules/NONE/readings", {"from_us": 0, "to_us": 1}, 404),
        ("/v1/modules/WD-1/readings", {"from_us": 0, "to_us": 1, "channel": 2}, 404),
        ("/v1/modules/WD-1/readings", {"from_us": 1, "to_us": 1}, 422),
        ("/v1/modules/WD-1/readings", {"from_us": 0, "to_us": YEAR_2100_US}, 422),
        ("/v1/modules/WD-1/readings", {"from_us": 0, "to_us": 1, "table": "aux", "every": "1h"}, 422),
        ("/v1/modules/WD-1/readings", {"from_us": "yesterday", "to_us": 1}, 400),
        ("/v1/modules/WD-1/readings", {}, 400),
        ("/v1/fleet/power-history", {"from_us": 0, "to_us": 1, "city": "Nowhere"}, 404),
    ],
)
async def test_what_can_not_be_asked_is_a_problem_with_a_sentence(stored, path, params, status):
    answer = await (await stored.client()).get(path, params=params)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


async def test_a_viewer_sees_no_homes_consumption(stored):
    viewer = await stored.client(Role.VIEWER)
    support = await stored.client(Role.SUPPORT)
    refused = await viewer.get("/v1/modules/WD-1/readings", params=asked(stored))
    span = {"from_us": stored.start_us, "to_us": stored.start_us + COUNT * 1_000_000, "city": "Lyon"}

    async def power(client):
        answer = (await client.get("/v1/fleet/power-history", params=span)).json()
        return [watts for watts in answer["power_w"] if watts is not None]

    assert refused.status_code == 403
    async with asyncio.timeout(60):
        # Upkeep makes the sums of what has just been stored.
        while not await power(support):  # noqa: ASYNC110 - another process of the store does it
            await asyncio.sleep(0.1)
    assert await power(viewer) == [], "one home is no group"


async def test_without_a_purpose_nothing_is_shown(stored):
    client: httpx.AsyncClient = await stored.client(purpose=None)
    answer = await client.get("/v1/modules/WD-1/readings", params=asked(stored))

    assert answer.status_code == 403
    assert answer.json()["type"] == "urn:wattdeck:problem:purpose-needed"
