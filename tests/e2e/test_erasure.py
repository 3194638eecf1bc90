"""A hub that is killed in the middle of an erasure goes on with it, and nothing is left for having been forgotten."""

from __future__ import annotations

import time

import pytest

from app.domain.keys import CollectionLevel
from app.stores.failpoints import ENVIRONMENT_VARIABLE
from app.stores.registry.records import NewSite, PairedAs
from app.stores.registry.registry import Registry
from tests.e2e.clients import connected, eventually, publish
from tests.e2e.test_jobs import client_of

SECONDS = 300


@pytest.fixture
def home(tmp_path):
    """WD1, whose holder moved out a moment ago; (module, holder)."""
    data = tmp_path / "data"
    data.mkdir()
    now_us = time.time_ns() // 1000
    with Registry.open(data / "registry.sqlite") as registry:
        module = registry.provision("WD1")
        (site,) = registry.add_sites([NewSite("Lyon", street="1 rue A")])
        holder = registry.add_holder()
        registry.pair("WD1", 1, 10**9, PairedAs(site, CollectionLevel.SECOND, "METER-1", holder))
        registry.unpair("WD1", 1, now_us)
    return module, holder


# Before what was found is written down; after a place of the store; within the registry, when the keys are gone.
@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 4, 34])
def test_killed_in_the_middle_it_erases_the_rest(hubs, tmp_path, home, step):
    module, holder = home
    begin_ms = time.time_ns() // 1_000_000 - SECONDS * 1000 - 60_000
    hub = hubs()
    with connected(hub, serial=module.serial, secret=module.secret) as mqtt:
        publish(mqtt, module.serial, *({"time_ms": begin_ms + 1000 * n, "seq": n} for n in range(SECONDS)))
    assert hub.sigterm() == 0

    hub = hubs(environment={ENVIRONMENT_VARIABLE: f"job_step:kill@{step}"})
    with client_of(hub) as client:
        held = client.get(f"/v1/data-map/holders/{holder}").json()["items"]
        assert sum(one["count"] or 0 for one in held if one["place"] in ("series.raw", "journal")) == SECONDS
        answer = client.post("/v1/jobs", json={"kind": "erasure", "parameters": {"subject": f"holder:{holder}"}})
        job_id = answer.json()["id"]
        hub.wait(60)

    hub = hubs()
    with client_of(hub) as client:
        eventually(lambda: client.get(f"/v1/jobs/{job_id}").json()["state"] not in ("queued", "running"))
        job = client.get(f"/v1/jobs/{job_id}").json()
        receipt = client.get(f"/v1/jobs/{job_id}/result").json()["receipt"]
        after = {row["place"]: row["after"] for row in receipt["places"]}
        before = {row["place"]: row["before"] for row in receipt["places"]}

        assert job["state"] == "done", job
        assert (receipt["still_found"], receipt["remembered"]) == ([], [f"holder:{holder}", "site:1"])
        assert before["series.raw"] + before["journal"] == SECONDS
        assert after["series.raw"] == after["registry.keys"] == after["registry.holders"] == after["journal"] == 0
        assert (before["registry.sites"], after["registry.sites"]) == (1, 0)
        assert client.get(f"/v1/data-map/holders/{holder}").status_code == 404
