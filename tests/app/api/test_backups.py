"""Backups over HTTP: who may, starting one, looking through it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses

import psutil
import pytest
import sqlalchemy as sa

from app.domain.people import Role
from app.domain.settings import BackupSettings
from app.hub.data_directory import DataDirectory
from app.hub.hub import running_hub
from app.services.backups import next_time
from app.stores.registry.models import Action, Job
from app.stores.registry.registry import Registry
from tests.app.api.conftest import SETTINGS, ApiTrial
from tests.helpers.mqtt_peer import until


@pytest.fixture
async def backed(tmp_path):
    """A hub that has a folder for backups and no schedule."""
    directory = DataDirectory(tmp_path / "data")
    directory.make()
    settings = dataclasses.replace(SETTINGS, backup=BackupSettings(directory=str(tmp_path / "backups"), keep=1))
    async with contextlib.AsyncExitStack() as stack:
        hub = await stack.enter_async_context(running_hub(directory, settings))
        yield ApiTrial(hub, directory, stack)


async def finished(client):
    """What ran last, when nothing runs any more."""
    while True:
        state = (await client.get("/v1/backups")).json()
        if state["running"] is None and state["last"] is not None:
            return state
        await asyncio.sleep(0.05)


async def test_start_look_through_and_start_again(backed):
    client = await backed.client()
    empty = (await client.get("/v1/backups")).json()
    assert (empty["snapshots"], empty["running"], empty["last"], empty["next_us"]) == ([], None, None, None)

    begun = await client.post("/v1/backups")
    assert begun.status_code == 202, begun.text
    assert begun.json()["state"] == "running"
    assert (await client.post("/v1/backups")).status_code == 409
    state = await finished(client)
    assert (state["last"]["state"], state["last"]["asked_by"]) == ("done", "test-admin")
    (snapshot,) = state["snapshots"]
    assert snapshot["name"] == state["last"]["snapshot"]
    assert snapshot["size_bytes"] > 0
    assert snapshot["verified_us"] is None

    assert (await client.post(f"/v1/backups/{snapshot['name']}/verify")).status_code == 202
    state = await finished(client)
    assert (state["last"]["kind"], state["last"]["state"]) == ("verify", "done")
    assert state["snapshots"][0]["verified_us"] > snapshot["taken_us"]
    assert state["snapshots"][0]["problems"] == []

    await client.post("/v1/backups")
    state = await finished(client)
    assert len(state["snapshots"]) == 1, "backup.keep"
    assert state["snapshots"][0]["name"] != snapshot["name"]
    with Registry.open_to_read(backed.directory.registry) as registry, registry.reading() as connection:
        deeds = connection.execute(
            sa.select(Action.what, Action.actor, Action.subject).where(Action.actor != "hub").order_by(Action.id)
        ).all()
    assert [deed for deed in deeds if deed.what != "job.start"] == [
        ("backup.start", "test-admin", "hub:backups"),
        ("backup.verify", "test-admin", f"snapshot:{snapshot['name']}"),
        ("backup.start", "test-admin", "hub:backups"),
    ]
    assert sum(deed.what == "job.start" for deed in deeds) == 3


async def test_a_verification_that_finds_something_says_what(backed, tmp_path):
    client = await backed.client()
    await client.post("/v1/backups")
    name = (await finished(client))["snapshots"][0]["name"]
    for path in (tmp_path / "backups" / "objects").glob("*/*"):
        path.write_bytes(b"?" * path.stat().st_size)
    await client.post(f"/v1/backups/{name}/verify")
    state = await finished(client)
    assert state["last"]["state"] == "failed"
    assert "SHA-256 is wrong" in state["last"]["message"]
    assert state["snapshots"][0]["problems"]
    assert backed.hub.statistics()["backup.failures"] == 1


async def test_without_a_folder_nothing_can_be_started(trial):
    client = await trial.client()
    answer = await client.post("/v1/backups")
    assert answer.status_code == 422
    assert "backup.directory" in answer.json()["detail"]
    assert (await client.get("/v1/backups")).json()["directory"] == ""


@pytest.mark.parametrize("name", ["20260101T000000Z-00000000", "x", "..%2f..", "%00", "a" * 3000])
async def test_a_snapshot_that_is_not_there(backed, name):
    client = await backed.client()
    assert (await client.post(f"/v1/backups/{name}/verify")).status_code in {400, 404}


@pytest.mark.parametrize("role", [Role.SUPPORT, Role.TECHNICIAN, Role.VIEWER, Role.AUDITOR])
async def test_backups_are_for_the_admin(trial, role):
    client = await trial.client(role)
    assert (await client.get("/v1/backups")).status_code == 403
    assert (await client.post("/v1/backups")).status_code == 403


async def ended(client, job_id):
    while True:
        job = (await client.get(f"/v1/jobs/{job_id}")).json()
        if job["state"] not in {"queued", "running"}:
            return job
        await asyncio.sleep(0.05)


async def test_a_backup_is_a_job(backed):
    client = await backed.client()
    work = (await client.post("/v1/backups")).json()
    (job,) = (await client.get("/v1/jobs")).json()["items"]
    assert (job["id"], job["kind"], job["owner"]) == (work["job"], "backup", "test-admin")
    job = await ended(client, work["job"])
    state = await finished(client)
    snapshot = state["snapshots"][0]["name"]
    assert (job["state"], job["message"]) == ("done", f"backup of {snapshot} done")

    # And the other way round.
    asked = await client.post("/v1/jobs", json={"kind": "verify_backup", "parameters": {"snapshot": snapshot}})
    assert asked.status_code == 201, asked.text
    assert (await ended(client, asked.json()["id"]))["state"] == "done"
    state = await finished(client)
    assert (state["last"]["kind"], state["last"]["snapshot"], state["last"]["job"]) == (
        "verify",
        snapshot,
        asked.json()["id"],
    )
    assert backed.hub.statistics()["backup.runs"] == 2

    for parameters in ({"snapshot": "x"}, {"snapshot": "20260101T000000Z-00000000"}, {}):
        answer = await client.post("/v1/jobs", json={"kind": "verify_backup", "parameters": parameters})
        assert answer.status_code in {404, 422}, parameters
    support = await backed.client(Role.SUPPORT)
    assert (await support.post("/v1/jobs", json={"kind": "backup"})).status_code == 403


@pytest.fixture
def stuck(monkeypatch, tmp_path):
    """Backups that say a word and go on for ever; the file has the number of the process."""
    program = tmp_path / "stuck.py"
    number = tmp_path / "number"
    program.write_text(
        f"import os, pathlib, sys, time\nprint('series 120 of 900 MB', file=sys.stderr, flush=True)\n"
        f"pathlib.Path({str(number)!r}).write_text(str(os.getpid()))\ntime.sleep(600)\n"
    )
    monkeypatch.setattr("app.hub.backup_wiring._PROGRAM", program)
    return number


async def test_a_backup_can_be_cancelled_as_a_job(stuck, backed):
    client = await backed.client()
    job_id = (await client.post("/v1/backups")).json()["job"]
    await until(lambda: stuck.exists() and stuck.read_text())
    assert backed.hub.statistics()["backup.running"] == 1
    assert (await client.post("/v1/jobs", json={"kind": "backup"})).status_code == 409

    assert (await client.post(f"/v1/jobs/{job_id}/cancel")).status_code == 200
    assert (await ended(client, job_id))["state"] == "cancelled"
    assert not psutil.pid_exists(int(stuck.read_text()))
    state = await finished(client)
    assert (state["last"]["state"], state["last"]["message"]) == ("failed", "it was cancelled")
    assert (backed.hub.statistics()["backup.failing"], backed.hub.statistics()["backup.running"]) == (0, 0)


async def test_a_hub_that_stops_leaves_its_backup_to_the_next(stuck, tmp_path):
    directory = DataDirectory(tmp_path / "data")
    directory.make()
    settings = dataclasses.replace(SETTINGS, backup=BackupSettings(directory=str(tmp_path / "backups"), at="03:30"))
    async with running_hub(directory, settings):
        await until(lambda: stuck.exists() and stuck.read_text())
    assert not psutil.pid_exists(int(stuck.read_text()))
    with Registry.open_to_read(directory.registry) as registry, registry.reading() as connection:
        found = connection.execute(sa.select(Job.kind, Job.owner, Job.state)).all()
    assert found == [("backup", "schedule", "queued")]

    number = stuck.read_text()
    async with running_hub(directory, settings):
        await until(lambda: stuck.read_text() not in {"", number})


async def test_a_backup_that_was_cancelled_is_not_begun_again_before_its_time(stuck, tmp_path):
    directory = DataDirectory(tmp_path / "data")
    directory.make()
    settings = dataclasses.replace(SETTINGS, backup=BackupSettings(directory=str(tmp_path / "backups"), at="03:30"))
    async with contextlib.AsyncExitStack() as stack:
        hub = await stack.enter_async_context(running_hub(directory, settings))
        client = await ApiTrial(hub, directory, stack).client()
        await until(lambda: hub.statistics()["backup.running"])
        running = (await client.get("/v1/backups")).json()["running"]
        assert running["asked_by"] == "schedule"
        await client.post(f"/v1/jobs/{running['job']}/cancel")
        job = await ended(client, running["job"])
        state = (await client.get("/v1/backups")).json()
        assert state["running"] is None
        assert 0 < state["next_us"] - job["finished_us"] <= 25 * 3_600_000_000
        assert state["next_us"] == next_time("03:30", "Europe/Paris", job["finished_us"])
