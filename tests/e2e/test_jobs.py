"""A hub that is killed in the middle of an export goes on with it, and the file is the same."""

from __future__ import annotations

import gzip
import json
import time

import httpx
import pytest

from app.hub.bench_tools import HubTools
from app.stores.failpoints import ENVIRONMENT_VARIABLE
from tests.e2e.clients import WAIT_S, connected, eventually

SERIALS = ("WD1", "WD2", "WD3")
EACH_S = 60
HOURS = 40


def history(start_ms):
    readings = [
        {"time_ms": start_ms + n * EACH_S * 1000, "boot_id": 1, "seq": n, "apparent_va": 100 + n % 7, "drawn_wh": n}
        for n in range(HOURS * 3600 // EACH_S)
    ]
    return [json.dumps(readings[begin : begin + 100]) for begin in range(0, len(readings), 100)]


def client_of(hub):
    host, port = hub.address("api")
    headers = {"Authorization": f"Bearer {hub.token}", "Wattdeck-Purpose": "test"}
    return httpx.Client(base_url=f"http://{host}:{port}", headers=headers, timeout=20)


def start(client, parameters):
    answer = client.post("/v1/jobs", json={"kind": "export", "parameters": parameters})
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def result_of(client, job_id):
    eventually(lambda: client.get(f"/v1/jobs/{job_id}").json()["state"] not in ("queued", "running"))
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert job["state"] == "done", job
    return client.get(f"/v1/jobs/{job_id}/result").content


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "arrow", "parquet"])
def test_killed_in_the_middle_it_makes_the_same_file(hubs, tmp_path, form):
    modules = HubTools().provision(tmp_path / "data", SERIALS)
    start_ms = time.time_ns() // 1_000_000 - HOURS * 3_600_000
    parameters = {
        "modules": list(SERIALS),
        "start_us": start_ms * 1000,
        "end_us": (start_ms + HOURS * 3_600_000) * 1000 - 1,
        "format": form,
    }
    hub = hubs()
    for module in modules:
        with connected(hub, serial=module.serial, secret=module.secret) as mqtt:
            sent = [mqtt.publish(f"wd/v1/m/{module.serial}/tele", one, qos=1) for one in history(start_ms)]
            for message in sent:
                message.wait_for_publish(WAIT_S)
    with client_of(hub) as client:
        whole = result_of(client, start(client, parameters))
    assert hub.sigterm() == 0

    # Each step takes a moment, so that there is a middle; kill -9 comes at no moment of the hub's choice.
    hub = hubs(environment={ENVIRONMENT_VARIABLE: "job_step:stall=0.15@1+"})
    with client_of(hub) as client:
        job_id = start(client, parameters)
        eventually(lambda: (job := client.get(f"/v1/jobs/{job_id}").json())["done"] >= 1 and job["state"] == "running")
        hub.kill()
    extension = {"csv": "csv.gz", "arrow": "arrows", "parquet": "parquet.spool"}[form]
    part = tmp_path / "data" / "jobs" / f"{job_id}.{extension}.part"
    assert part.stat().st_size > 0
    assert form == "parquet" or part.stat().st_size < len(whole)

    hub = hubs()
    with client_of(hub) as client:
        again = result_of(client, job_id)
    assert again == whole
    assert not part.exists()
    if form == "csv":
        lines = gzip.decompress(whole).decode().splitlines()
        assert len(lines) == 1 + len(SERIALS) * HOURS * 3600 // EACH_S
