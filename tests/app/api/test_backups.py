"""Backups over HTTP: who may, starting one, looking through it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses

import pytest
import sqlalchemy as sa

from app.domain.people import Role
from app.domain.settings import BackupSettings
from app.hub.data_directory import DataDirectory
from app.hub.hub import running_hub
from app.stores.registry.models import Action
from app.stores.registry.registry import Registry
from tests.app.api.conftest import SETTINGS, ApiTrial


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
    assert deeds == [
        ("backup.start", "test-admin", "hub:backups"),
        ("backup.verify", "test-admin", f"snapshot:{snapshot['name']}"),
        ("backup.start", "test-admin", "hub:backups"),
    ]


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
