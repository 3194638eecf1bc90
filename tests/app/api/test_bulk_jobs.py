"""Bulk work as jobs, over real HTTP: who may, what becomes of each module, and where new secrets are told."""

from __future__ import annotations

import asyncio
import csv
import io
import stat
import time

import httpx
import pytest

from app.api.routes import commands as command_routes
from app.api.routes import module_admin
from app.domain.people import Role
from app.services.jobs import bulk, context
from app.services.jobs.runner import MOST_SECRET_DAYS
from app.stores.registry.provisioning import Template
from app.stores.registry.records import Collection, ModuleKind
from app.stores.registry.registry import Registry
from tests.helpers.mqtt_peer import RawClient, until

WAIT_S = 60
SERIALS = [f"WD{number}" for number in range(1, 8)]


@pytest.fixture
def registry(trial) -> Registry:
    """The hub's own: it is told of changes at once."""
    found = trial.hub.platform.path.registry
    found.provision_many(SERIALS)
    found.ensure_modules(["METER"], Template(kind=ModuleKind.METER, dialect="tic"))
    found.set_collection("WD7", Collection.RETIRED)
    return found


@pytest.fixture(autouse=True)
def steps(monkeypatch):
    monkeypatch.setattr(bulk, "MODULES_A_STEP", 3)
    monkeypatch.setattr(context, "SAVE_EACH_S", 0)


@pytest.fixture
async def support(trial, registry):
    return await trial.client(Role.SUPPORT)


def wanted(**parameters):
    return {"kind": "bulk", "parameters": parameters}


async def finished(client: httpx.AsyncClient, job_id: str) -> dict:
    async with asyncio.timeout(WAIT_S):
        while True:
            job = (await client.get(f"/v1/jobs/{job_id}")).json()
            if job["state"] not in ("queued", "running"):
                return job
            await asyncio.sleep(0.005)


async def done(client: httpx.AsyncClient, **parameters) -> tuple[dict, list[dict]]:
    """A job that is done, and the rows of its file."""
    answer = await client.post("/v1/jobs", json=wanted(**parameters))
    assert answer.status_code == 201, answer.text
    job = await finished(client, answer.json()["id"])
    assert job["state"] == "done", job["message"]
    return job, await rows_of(client, job["id"])


async def rows_of(client: httpx.AsyncClient, job_id: str) -> list[dict]:
    answer = await client.get(f"/v1/jobs/{job_id}/result")
    assert answer.status_code == 200, answer.text
    return list(csv.DictReader(io.StringIO(answer.text)))


async def test_a_command_for_many_tells_of_each_module(trial, support):
    modules = ["WD3", "METER", "WD1", '=NO,"BODY"', "WD7", "WD3"]
    job, rows = await done(
        support, action="command", name="identify", arguments={"duration_s": 5}, modules=modules, expires_in_s=600
    )

    assert [(row["serial"], row["outcome"], row["reason"]) for row in rows] == [
        ("WD3", "queued", ""),
        ("METER", "left_out", "it is a meter on a serial port, which takes no commands"),
        ("WD1", "queued", ""),
        ('=NO,"BODY"', "left_out", "no module of this serial is registered"),
        ("WD7", "left_out", "it is retired"),
    ]
    assert job["message"] == "5 of 5 modules: 2 queued, 3 left out"
    assert (job["done"], job["total"], job["parameters"]["modules_count"]) == (5, 5, 5)
    found = (await support.get(f"/v1/commands/bulk/{job['id']}", params={"sort": "module"})).json()
    commands = found["commands"]["items"]
    assert [(one["module"], one["id"]) for one in commands] == [
        (row["serial"], row["command_id"]) for row in sorted(rows, key=lambda row: row["serial"]) if row["command_id"]
    ]
    assert {(one["sent_by"], one["arguments"]["duration_s"], one["name"]) for one in commands} == {
        ("test-support", 5, "identify")
    }
    assert {one["expires_us"] - one["created_us"] for one in commands} == {600_000_000}
    actions = (await (await trial.client()).get("/v1/actions", params={"filter": "what:eq:command.send_bulk"})).json()
    assert [(one["subject"], one["after"]["modules"]) for one in actions["items"]] == [(f"bulk:{job['id']}", 5)]


async def test_modules_are_changed_and_their_events_noted_once(trial, support, registry):
    await done(support, action="tag", tag="pilot", modules=["WD1", "WD2", "WD3", "WD4"])
    job, rows = await done(support, action="block", all=True, with_tag="pilot")
    assert [(row["serial"], row["outcome"]) for row in rows] == [(f"WD{n}", "done") for n in (1, 2, 3, 4)]
    _, rows = await done(support, action="unblock", modules=["WD1", "WD5", "METER"])
    assert [(row["outcome"], row["reason"]) for row in rows] == [
        ("done", ""),
        ("left_out", "is not blocked"),
        ("left_out", "has no credential"),
    ]
    assert {row.username for row in registry.credential_rows() if row.blocked} == {"WD2", "WD3", "WD4"}

    async def words() -> list[str]:
        answer = await support.get("/v1/modules/WD1/events", params={"kind": "credential"})
        assert answer.status_code == 200, answer.text
        return [event["details"]["by"] for event in answer.json()["items"]]

    async with asyncio.timeout(WAIT_S):
        while len(found := await words()) < 3:  # noqa: ASYNC110 - nobody tells of events here
            await asyncio.sleep(0.02)
    assert sorted(found) == ["blocked", "given", "unblocked"]
    admin = await trial.client()
    deeds = (await admin.get("/v1/actions", params={"filter": "what:eq:module.block"})).json()["items"]
    assert {(one["actor"], one["after"]["job"]) for one in deeds} == {("test-support", job["id"])}


async def test_new_secrets_are_told_in_the_file_to_who_asked_and_nowhere_else(trial, support, caplog):
    answer = await support.post(
        "/v1/modules/bulk", json={"what": "rekey", "serials": ["WD1", "METER"], "preview": False}
    )
    report = answer.json()
    assert (report["affected"], report["left_out"]) == (
        ["WD1"],
        [{"serial": "METER", "reason": "has no credential of its own"}],
    )
    job = await finished(support, report["job_id"])
    rows = await rows_of(support, job["id"])

    assert [(row["serial"], row["outcome"], row["username"]) for row in rows] == [
        ("WD1", "done", "WD1"),
        ("METER", "left_out", ""),
    ]
    secret = rows[0]["secret"]
    port = trial.hub.addresses["mqtt"][1]
    module = await RawClient.connected(port, "WD1", username="WD1", password=secret.encode())
    module.drop()
    # Its owner alone, for a day, in a file that nobody else on the machine can read; and that they did is an action.
    admin = await trial.client()
    assert (await admin.get(f"/v1/jobs/{job['id']}")).status_code == 200
    refused = await admin.get(f"/v1/jobs/{job['id']}/result")
    assert (refused.status_code, "test-support alone" in refused.text) == (403, True)
    assert job["result"]["expires_us"] <= time.time_ns() // 1000 + MOST_SECRET_DAYS * 86_400_000_000
    (path,) = trial.directory.jobs.iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    told = (await admin.get("/v1/actions", params={"filter": "what:eq:job.fetch_secrets"})).json()["items"]
    assert [(one["actor"], one["subject"]) for one in told] == [("test-support", f"job:{job['id']}")]
    everything = (await admin.get("/v1/actions.csv")).text + (await admin.get("/v1/jobs")).text + caplog.text
    assert secret not in everything
    with trial.hub.platform.path.registry.reading() as connection:
        dump = "\n".join(connection.connection.dbapi_connection.iterdump())
    assert "module.rekey" in dump
    assert secret not in dump
    assert (await support.delete(f"/v1/jobs/{job['id']}/result")).status_code == 204
    assert list(trial.directory.jobs.iterdir()) == []


@pytest.mark.parametrize(
    ("role", "parameters", "status"),
    [
        (Role.TECHNICIAN, {"action": "command", "name": "diagnose", "modules": ["WD1"]}, 201),
        (Role.TECHNICIAN, {"action": "command", "name": "diagnose", "all": True}, 403),
        (
            Role.TECHNICIAN,
            {"action": "command", "name": "set_period", "arguments": {"period_ms": 1000}, "modules": ["WD1"]},
            403,
        ),
        (Role.TECHNICIAN, {"action": "block", "modules": ["WD1"]}, 403),
        (Role.TECHNICIAN, {"action": "rekey", "modules": ["WD1"]}, 403),
        (Role.VIEWER, {"action": "command", "name": "diagnose", "modules": ["WD1"]}, 403),
        (Role.SUPPORT, {"action": "command", "name": "diagnose", "all": True}, 201),
        (Role.SUPPORT, {"action": "command", "name": "explode", "modules": ["WD1"]}, 422),
        (Role.SUPPORT, {"action": "command", "modules": ["WD1"]}, 422),
        (Role.SUPPORT, {"action": "command", "name": "diagnose", "arguments": {"x": 1}, "modules": ["WD1"]}, 422),
        (Role.SUPPORT, {"action": "command", "name": "diagnose", "expires_in_s": 0, "modules": ["WD1"]}, 422),
        (Role.SUPPORT, {"action": "block", "name": "diagnose", "modules": ["WD1"]}, 422),
        (Role.SUPPORT, {"action": "block"}, 422),
        (Role.SUPPORT, {"action": "block", "modules": ["WD1"], "all": True}, 422),
        (Role.SUPPORT, {"action": "block", "modules": ["WD1"], "city": "Lyon"}, 422),
        (Role.SUPPORT, {"action": "block", "all": True, "city": "Nowhere"}, 422),
        (Role.SUPPORT, {"action": "block", "all": True, "city": "\0"}, 422),
        (Role.SUPPORT, {"action": "block", "modules": ["\0"]}, 201),
        (Role.SUPPORT, {"action": "tag", "modules": ["WD1"]}, 422),
        (Role.SUPPORT, {"action": "tag", "tag": "a b", "modules": ["WD1"]}, 422),
        (Role.SUPPORT, {"action": "block", "tag": "a", "modules": ["WD1"]}, 422),
        (Role.SUPPORT, {"action": "explode", "modules": ["WD1"]}, 422),
    ],
)
async def test_who_may_and_what_makes_sense(trial, registry, role, parameters, status):
    answer = await (await trial.client(role)).post("/v1/jobs", json=wanted(**parameters))
    assert answer.status_code == status, answer.text


async def test_the_routes_start_a_job_for_very_many(trial, support, monkeypatch):
    monkeypatch.setattr(command_routes, "MODULES_AT_ONCE", 3)
    monkeypatch.setattr(module_admin, "_CHANGED_AT_ONCE", 3)
    body = {"name": "diagnose", "serials": [*SERIALS, "NOBODY"]}
    sent = (await support.post("/v1/commands/bulk", json=body)).json()

    assert sent["bulk_id"] == sent["job_id"]
    assert (sent["when_back_count"], sent["left_out_count"]) == (6, 2)
    assert (await support.get(f"/v1/commands/bulk/{sent['bulk_id']}")).status_code == 200, "whether it has begun or not"
    assert (await finished(support, sent["job_id"]))["message"] == "8 of 8 modules: 6 queued, 2 left out"
    assert (await support.get(f"/v1/commands/bulk/{sent['bulk_id']}")).json()["counts"] == {"queued": 6}
    body = {"what": "block", "serials": SERIALS[:4]}
    assert (await support.post("/v1/modules/bulk", json=body)).json()["job_id"] is None, "a preview"
    report = (await support.post("/v1/modules/bulk", json={**body, "preview": False})).json()
    assert report["affected"] == SERIALS[:4]
    assert (await finished(support, report["job_id"]))["message"] == "4 of 4 modules: 4 done, 0 left out"
    # Few are done at once, as ever.
    few = (
        await support.post("/v1/modules/bulk", json={"what": "unblock", "serials": ["WD1"], "preview": False})
    ).json()
    assert (few["job_id"], few["affected"]) == (None, ["WD1"])


async def test_a_cancel_between_steps_leaves_what_was_queued_and_tells_it(trial, support, monkeypatch):
    real, entered, go_on = bulk.Bulk._command, asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(kind, *args):
        rows = real(kind, *args)
        loop.call_soon_threadsafe(entered.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(WAIT_S)
        return rows

    monkeypatch.setattr(bulk.Bulk, "_command", slow)
    job_id = (await support.post("/v1/jobs", json=wanted(action="command", name="diagnose", modules=SERIALS))).json()[
        "id"
    ]
    await entered.wait()
    assert (await support.post(f"/v1/jobs/{job_id}/cancel")).status_code == 200
    go_on.set()
    job = await finished(support, job_id)

    assert (job["state"], job["message"]) == ("cancelled", "3 of 7 modules: 3 queued, 0 left out")
    rows = await rows_of(support, job_id)
    assert [(row["serial"], row["outcome"]) for row in rows] == [(serial, "queued") for serial in SERIALS[:3]]
    assert (await support.get(f"/v1/commands/bulk/{job_id}")).json()["counts"] == {"queued": 3}


async def test_what_comes_to_its_turn_too_late_is_told_as_such(trial, support, monkeypatch):
    kind = trial.hub.platform.jobs._runner.kinds["bulk"]
    real = kind.prepare

    def long_ago(parameters):
        definite = real(parameters)
        return {**definite, "expires_us": definite["created_us"] - 1}

    monkeypatch.setattr(kind, "prepare", long_ago)
    job, rows = await done(support, action="command", name="diagnose", modules=["WD1"])
    assert job["message"] == "1 of 1 modules: 0 queued, 1 left out"
    assert rows[0]["reason"] == "the time of the command was over before its turn came"


async def test_a_list_that_was_asked_for_before_the_fleet_was_read_is_none(trial, support):
    fleet = trial.hub.platform.fleet
    await until(lambda: len(fleet.table) == len(SERIALS) + 1)
    state, fleet._state = fleet._state, None
    answer = await support.get("/v1/modules")
    assert (answer.status_code, "still reads the fleet" in answer.text) == (503, True)
    fleet._state = state
    assert (await support.get("/v1/modules")).json()["total"] == len(SERIALS) + 1
