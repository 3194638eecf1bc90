"""Each setting that is declared live: after a change over the API, whoever uses it does as the new value says."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import time

import pytest
import sqlalchemy as sa

from app.domain.errors import WattdeckError
from app.domain.events import Event, EventKind
from app.domain.resolution import DAY_US
from app.domain.settings import catalogue
from app.hub.configuration import load_layers
from app.hub.data_directory import DataDirectory
from app.hub.hub import running_hub
from app.services.actions import Actions
from app.stores.registry.action_log import ActionLog
from app.stores.registry.actions import Deed, record
from app.stores.registry.jobs import JobTable
from app.stores.registry.models import Job
from app.stores.series.tiers import Retention
from tests.app.api.conftest import ApiTrial
from tests.app.api.test_backups import finished
from tests.app.api.test_settings import FLAGS, SET, all_of
from tests.helpers.mqtt_peer import until


class Changing(ApiTrial):
    """A hub whose settings a test changes."""

    async def set(self, **values):
        """section__name=value, one request."""
        client = await self.client()
        said = {key.replace("__", "."): value for key, value in values.items()}
        _rows, version = await all_of(client)
        answer = await client.patch("/v1/settings", json=said, headers={"If-Match": version})
        assert answer.status_code == 200, answer.text
        rows = {row["key"]: row for row in answer.json()["items"]}
        for key, value in said.items():
            assert (rows[key]["value"], rows[key]["needs_restart"]) == (value, False), key

    @property
    def path(self):
        return self.hub.platform.path


@pytest.fixture
async def hub(tmp_path):
    directory = DataDirectory(tmp_path / "data")
    directory.make()
    layers = load_layers(directory.root, environment={}, flags=FLAGS, assignments=SET)
    async with contextlib.AsyncExitStack() as stack:
        yield Changing(
            await stack.enter_async_context(running_hub(directory, layers.load().settings, layers)), directory, stack
        )


async def log_level(hub):
    level = logging.getLogger().level
    try:
        await hub.set(hub__log_level="ERROR")
        assert logging.getLogger().level == logging.ERROR
    finally:
        logging.getLogger().setLevel(level)


async def tiers(hub):
    await hub.set(
        store__raw_days=3, store__ten_minute_days=32, store__hour_days=400, store__day_days=800, store__fleet_days=9
    )
    assert hub.path.store._upkeep._retention == Retention(3, 32, 400, 800, 9)


async def time_limits(hub):
    await hub.set(ingest__future_minutes=1, ingest__resent_days=60, ingest__quarantine_rows=5)
    await until(lambda: hub.path.ingest._limits.future_us == 60_000_000)
    assert hub.path.ingest._limits.resent_us == 60 * DAY_US
    await until(lambda: hub.path.quarantine._most_rows == 5)


async def commits(hub):
    await hub.set(
        ingest__commit_ms=50, ingest__segment_seconds=3, ingest__segment_mb=2, ingest__minimum_free_mb=1_000_000
    )
    rules = hub.path.statistics._committer._rules
    assert (rules.commit_s, rules.segment_s, rules.segment_bytes) == (0.05, 3, 2_000_000)
    # So much is free nowhere.
    from app.ingest.committer import DiskNearlyFull

    with pytest.raises(DiskNearlyFull):
        hub.path.statistics._committer._write({})


async def log_ins(hub):
    async with hub.anonymous() as client:

        async def refused():
            return await client.post("/v1/session", json={"name": "nobody", "password": "wrong"})

        await hub.set(people__login_attempts=2, people__lock_minutes=0.5, people__session_hours=1)
        assert [(await refused()).status_code for _ in range(3)] == [401, 401, 429]
        assert 20 <= int((await refused()).headers["retry-after"]) <= 30
        password = hub.hub.platform.people.first_password
        answer = await client.post("/v1/session", json={"name": "admin", "password": password})
        assert answer.status_code == 201, answer.text
        assert 3500 < answer.json()["expires_us"] / 1e6 - time.time() <= 3600


async def purpose(hub):
    client = await hub.client(purpose=None)
    path = "/v1/data-map/modules/WD9"
    assert (await client.get(path)).json()["type"] == "urn:wattdeck:problem:purpose-needed"
    await hub.set(privacy__purpose_required=False)
    assert (await client.get(path)).status_code == 404


async def event_days(hub):
    store = hub.path.watch.store
    store.note(Event("WD9", time.time_ns() // 1000 - 5 * DAY_US, EventKind.CONNECTED))
    assert await asyncio.to_thread(store.flush)
    await hub.set(events__days=4)
    await until(lambda: store.counters.deleted == 1)


async def grants(hub):
    await hub.set(live__grant_minutes=1)
    answer = await (await hub.client()).post("/v1/live-grants", json={"scope": "stats"})
    assert 50 < answer.json()["expires_us"] / 1e6 - time.time() <= 60


async def retention(hub):
    old_us = time.time_ns() // 1000 - 5 * DAY_US
    jobs = hub.hub.platform.jobs

    def make():
        table = JobTable(hub.path.registry, lambda: old_us)
        job = {
            "id": "0" * 26,
            "kind": "export",
            "owner": "ann",
            "state": "done",
            "parameters": "{}",
            "cancel_asked": False,
        }
        with hub.path.registry.writing() as connection:
            connection.execute(sa.insert(Job).values(**job, created_us=old_us, finished_us=old_us))
            record(connection, Deed("ann", "x.y", "hub:z"), old_us)
        jobs.tidy()
        assert table.get("0" * 26)
        return table

    table = await asyncio.to_thread(make)
    await hub.set(jobs__days=4, jobs__result_days=2, actions__days=4)
    (actions,) = [
        one for one in gc.get_objects() if isinstance(one, Actions) and one._log._registry is hub.path.registry
    ]
    await asyncio.to_thread(jobs.tidy)
    await asyncio.to_thread(actions.tidy)
    with pytest.raises(WattdeckError):
        await asyncio.to_thread(table.get, "0" * 26)
    from app.domain.listing import Listing

    found = await asyncio.to_thread(ActionLog(hub.path.registry).found, Listing())
    assert "x.y" not in {one.what for one in found.rows}
    assert jobs._runner._result_days() == 2


async def backups(hub):
    client = await hub.client()
    one, other = hub.directory.root.parent / "one", hub.directory.root.parent / "other"
    # The first one by schedule is made at once: there is none yet.
    await hub.set(backup__directory=str(one), backup__at="03:30", backup__keep=1)
    state = await finished(client)
    assert (state["last"]["asked_by"], state["last"]["state"], state["directory"]) == ("schedule", "done", str(one))
    # No more by itself, and in another folder.
    await hub.set(backup__at="", backup__directory=str(other))
    state = (await client.get("/v1/backups")).json()
    assert (state["snapshots"], state["next_us"], state["keep"]) == ([], None, 1)
    for _ in range(2):
        assert (await client.post("/v1/backups")).status_code == 202
        state = await finished(client)
    assert (state["last"]["state"], len(state["snapshots"])) == ("done", 1)


async def connections(hub):
    client = await hub.client()
    await hub.set(api__max_connections=4)
    opened = [await asyncio.open_connection(*hub.hub.addresses["api"]) for _ in range(4)]
    try:
        await until(lambda: hub.hub.statistics()["api.connections"] > 4)
        assert (await client.get("/v1/session")).status_code == 503
    finally:
        for _reader, writer in opened:
            writer.close()


# What is shown to hold at once, and by what.
SHOWN = {
    log_level: ("hub.log_level",),
    tiers: tuple(f"store.{name}" for name in ("raw_days", "ten_minute_days", "hour_days", "day_days", "fleet_days")),
    time_limits: ("ingest.future_minutes", "ingest.resent_days", "ingest.quarantine_rows"),
    commits: ("ingest.commit_ms", "ingest.segment_seconds", "ingest.segment_mb", "ingest.minimum_free_mb"),
    log_ins: ("people.login_attempts", "people.lock_minutes", "people.session_hours"),
    purpose: ("privacy.purpose_required",),
    event_days: ("events.days",),
    grants: ("live.grant_minutes",),
    retention: ("jobs.result_days", "jobs.days", "actions.days"),
    backups: ("backup.directory", "backup.at", "backup.keep"),
    connections: ("api.max_connections",),
}


def test_each_live_setting_is_shown_to_be_live():
    shown = [key for keys in SHOWN.values() for key in keys]
    assert sorted(shown) == sorted(key for key, row in catalogue().items() if row.live)


@pytest.mark.parametrize("shown", SHOWN, ids=lambda shown: shown.__name__)
async def test_a_live_setting_holds_at_once(hub, shown):
    await shown(hub)
