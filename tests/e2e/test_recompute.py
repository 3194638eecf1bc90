"""Recompute and import on a real hub: what a site's moved time zone asks for, exact also when the hub is killed."""

from __future__ import annotations

import time

import pytest

from app.domain.keys import CollectionLevel
from app.domain.resolution import DAY_US, HOUR_US, CivilDays, Resolution
from app.stores.failpoints import ENVIRONMENT_VARIABLE
from app.stores.registry.records import NewSite, PairedAs
from app.stores.registry.registry import Registry
from app.stores.series.delta_store import DeltaSeriesStore
from app.stores.series.interface import SegmentLabel
from app.stores.series.rollup import NoFacts
from app.stores.series.tiers import Retention
from tests.app.stores.series.contract import Clock, upkeep
from tests.e2e.clients import eventually
from tests.e2e.test_jobs import client_of
from tests.helpers.raw_rows import raw_table, second_row

DAYS = 4
SERIALS = [f"WD{number:02}" for number in range(15)]
TOKYO = "Asia/Tokyo"


def start_and_die(hubs, kind, parameters, *, step):
    """A job on a hub that is killed at one of its steps; the job's id."""
    hub = hubs(environment={ENVIRONMENT_VARIABLE: f"job_step:kill@{step}"})
    with client_of(hub) as client:
        answer = client.post("/v1/jobs", json={"kind": kind, "parameters": parameters})
        assert answer.status_code == 201, answer.text
    hub.wait(60)
    return answer.json()["id"]


def ended(client, job_id):
    eventually(lambda: client.get(f"/v1/jobs/{job_id}").json()["state"] not in ("queued", "running"))
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert job["state"] == "done", job
    return job


@pytest.fixture
def moved(tmp_path):
    """A data directory with days of Paris for modules whose site turns out to lie in Tokyo; (begin, rows by key)."""
    data = tmp_path / "data"
    data.mkdir()
    now_us = time.time_ns() // 1000
    begin_us = now_us - now_us % DAY_US - DAYS * DAY_US
    with Registry.open(data / "registry.sqlite") as registry:
        registry.provision_many(SERIALS)
        (site,) = registry.add_sites([NewSite("Tokyo", zone=TOKYO)])
        for serial in SERIALS:
            registry.pair(serial, 1, begin_us - DAY_US, PairedAs(site, CollectionLevel.SECOND))
        periods = registry.all_periods()
        keys = [next(p.key for p in periods[serial, 1].periods if p.assigned) for serial in SERIALS]
    clock = Clock(begin_us + DAYS * DAY_US + HOUR_US // 2)
    store = DeltaSeriesStore(
        data / "series", facts=lambda: NoFacts("Europe/Paris"), now_us=clock, retention=Retention(30, 31)
    )
    rows = [
        second_row(key, second, start_us=begin_us) for key in keys for second in range(0, DAYS * 86_400 - 7_200, 7_200)
    ]
    store.append(SegmentLabel("a" * 32, 0), {"raw": raw_table(rows)})
    upkeep(store, clock, 20_000)
    assert {time_us % DAY_US for time_us in _times(store, keys[0], now_us)} != {15 * HOUR_US}
    store.close()
    return begin_us, keys, now_us


def _times(store, key, now_us):
    return store.read(key, 0, now_us, Resolution.DAY)["time"].cast("int64").to_pylist()


@pytest.mark.slow
def test_days_are_made_anew_after_a_kill(hubs, moved):
    begin_us, _keys, now_us = moved
    parameters = {"all": True, "start_us": begin_us - 10 * DAY_US, "end_us": now_us}
    # 15 modules are two steps of modules for each slice of time and tier.
    job_id = start_and_die(hubs, "recompute", parameters, step=5)

    hub = hubs()
    with client_of(hub) as client:
        job = ended(client, job_id)
        assert (job["done"], job["total"]) == (45, 45)
        assert "buckets were made anew" in job["message"]
        again = ended(
            client, client.post("/v1/jobs", json={"kind": "recompute", "parameters": parameters}).json()["id"]
        )
        assert "stay as they are" not in again["message"]
        query = {"from_us": 0, "to_us": now_us, "every": "1d"}
        for serial in (SERIALS[0], SERIALS[-1]):
            answer = client.get(f"/v1/modules/{serial}/readings", params=query).json()
            at = {name: answer["columns"].index(name) for name in ("time", "received")}
            midnights = [row[at["time"]] for row in answer["rows"]]
            assert midnights == [CivilDays(TOKYO).start_of(midnight) for midnight in midnights]
            assert len(set(midnights)) == len(midnights)
            assert sum(row[at["received"]] for row in answer["rows"]) == DAYS * 12 - 1
    assert hub.sigterm() == 0


@pytest.mark.slow
def test_an_import_goes_on_after_a_kill(hubs, tmp_path):
    data = tmp_path / "data"
    hub = hubs()
    assert hub.sigterm() == 0
    now_us = time.time_ns() // 1000
    begin_us = now_us - now_us % DAY_US - DAY_US
    clock = Clock(begin_us + DAY_US)
    other = DeltaSeriesStore(tmp_path / "other", facts=NoFacts, now_us=clock)
    rows = [second_row(4711, second, start_us=begin_us) for second in range(0, 20_000, 10)]
    other.append(SegmentLabel("b" * 32, 0), {"raw": raw_table(rows)})
    upkeep(other, clock, 20_000)
    count = other.copy_out(data / "imports" / "copy-1", 0, now_us)
    wanted = other.read(4711, 0, now_us, Resolution.HOUR)["received"].to_pylist()
    other.close()
    job_id = start_and_die(hubs, "import", {"folder": "copy-1"}, step=1)

    hub = hubs()
    with client_of(hub) as client:
        job = ended(client, job_id)
        assert job["done"] == job["total"] == count
        again = client.post("/v1/jobs", json={"kind": "import", "parameters": {"folder": "copy-1"}}).json()["id"]
        assert ended(client, again)["message"].startswith(f"0 of {count} rows were new")
    assert hub.sigterm() == 0
    store = DeltaSeriesStore(data / "series", facts=NoFacts, now_us=lambda: now_us)
    assert store.read(4711, 0, now_us, Resolution.RAW).num_rows == len(rows)
    assert store.read(4711, 0, now_us, Resolution.HOUR)["received"].to_pylist() == wanted
    store.close()
