"""Settings over HTTP: what holds, where it comes from, and changing the file as its owner wrote it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tomllib

import pytest

from app.domain.people import Role
from app.domain.settings import catalogue
from app.hub.configuration import Layers, load_layers
from app.hub.data_directory import DataDirectory
from app.hub.hub import running_hub
from app.stores.series.tiers import Retention
from tests.app.api.conftest import ApiTrial

FILE = """# Our hub, by Ann.

[ingest]
buffer_rows = 20000 # faster than usual

  # Laboratory clocks are off.
  future_minutes = 30.0

[broker]
refuse_subscribe = ["a/#"]   # test
"""
FLAGS = {"listen.mqtt_port": 0, "listen.api_port": 0}
SET = [
    "listen.mqtts_port=0",
    "listen.operators_port=0",
    "listen.mqtt_hosts=127.0.0.1",
    "tls.enabled=false",
]


@pytest.fixture
async def configured(tmp_path):
    """A hub with a file, an environment, flags and --set."""
    directory = DataDirectory(tmp_path / "data")
    directory.make()
    directory.settings.write_text(FILE)
    layers = load_layers(directory.root, environment={"WATTDECK_STORE_FLEET_DAYS": "100"}, flags=FLAGS, assignments=SET)
    async with contextlib.AsyncExitStack() as stack:
        hub = await stack.enter_async_context(running_hub(directory, layers.load().settings, layers))
        yield ApiTrial(hub, directory, stack)


async def all_of(client):
    answer = await client.get("/v1/settings")
    assert answer.status_code == 200
    return {one["key"]: one for one in answer.json()["items"]}, answer.headers["etag"]


async def patched(client, values, version=None):
    version = version or (await all_of(client))[1]
    return await client.patch("/v1/settings", json=values, headers={"If-Match": version})


async def test_every_setting_with_its_source(configured):
    rows, _version = await all_of(await configured.client())

    assert list(rows) == list(catalogue())
    sources = {key: rows[key]["source"] for key in rows if rows[key]["source"] != "default"}
    assert sources == {
        "ingest.buffer_rows": "file",
        "ingest.future_minutes": "file",
        "broker.refuse_subscribe": "file",
        "store.fleet_days": "environment",
        "listen.mqtt_port": "flag",
        "listen.api_port": "flag",
        "listen.mqtts_port": "--set",
        "listen.operators_port": "--set",
        "listen.mqtt_hosts": "--set",
        "tls.enabled": "--set",
    }
    assert rows["ingest.buffer_rows"] == {
        "key": "ingest.buffer_rows",
        "value": 20000,
        "default": 1_000_000,
        "doc": catalogue()["ingest.buffer_rows"].doc,
        "allowed": "a whole number from 10000 to 20000000",
        "minimum": 10_000,
        "maximum": 20_000_000,
        "choices": None,
        "source": "file",
        "live": False,
        "needs_restart": False,
        "next_value": 20000,
    }
    assert rows["hub.log_level"]["live"]


async def test_a_change_keeps_what_the_owner_wrote_and_says_what_waits(configured):
    client = await configured.client()
    answer = await patched(
        client,
        {
            "ingest.buffer_rows": 30000,
            "ingest.future_minutes": 7.5,
            "broker.refuse_subscribe": ["a/#", "b"],
            "jobs.result_days": 3,
        },
    )
    assert answer.status_code == 200, answer.text
    text = configured.directory.settings.read_text()
    assert tomllib.loads(text) == {
        "ingest": {"buffer_rows": 30000, "future_minutes": 7.5},
        "broker": {"refuse_subscribe": ["a/#", "b"]},
        "jobs": {"result_days": 3},
    }
    for comment in ("# Our hub, by Ann.", "# faster than usual", "  # Laboratory clocks are off.", "# test"):
        assert comment in text
    rows = {one["key"]: one for one in answer.json()["items"]}
    assert [key for key in rows if rows[key]["needs_restart"]] == ["broker.refuse_subscribe", "ingest.buffer_rows"]
    assert (rows["ingest.buffer_rows"]["value"], rows["ingest.buffer_rows"]["next_value"]) == (20000, 30000)
    assert (rows["ingest.future_minutes"]["value"], rows["jobs.result_days"]["value"]) == (7.5, 3)
    assert [path.name for path in configured.directory.root.glob("wattdeck*")] == ["wattdeck.toml"]

    # The next hub reads what was written.
    assert load_layers(configured.directory.root, environment={}).load().settings.ingest.buffer_rows == 30000

    back = await patched(client, {"ingest.buffer_rows": None, "jobs.result_days": None}, answer.headers["etag"])
    rows = {one["key"]: one for one in back.json()["items"]}
    assert (rows["ingest.buffer_rows"]["next_value"], rows["ingest.buffer_rows"]["source"]) == (1_000_000, "default")
    assert rows["jobs.result_days"]["value"] == 7
    assert "# Our hub, by Ann." in configured.directory.settings.read_text()


async def test_changes_are_written_down(configured):
    client = await configured.client()
    await patched(client, {"registry.url": "postgresql://ann:s3cr3t@db/x?password=s3cr3t&a=b"})

    deed = (await client.get("/v1/actions")).json()["items"][0]
    assert (deed["actor"], deed["what"], deed["before"]) == ("test-admin", "settings.edit", {"registry.url": ""})
    assert deed["after"] == {"registry.url": "postgresql://ann:***@db/x?password=***&a=b"}
    answer = await client.get("/v1/settings")
    assert "s3cr3t" not in answer.text
    assert "s3cr3t" in configured.directory.settings.read_text()


@pytest.mark.parametrize(
    ("values", "status", "words"),
    [
        ({"store.fleet_days": 10}, 409, "environment"),
        ({"listen.api_port": 1}, 409, "set by flag"),
        ({"tls.enabled": True}, 409, "set by --set"),
        ({"ingest.buffer_rows": 1}, 422, "from 10000 to 20000000"),
        ({"ingest.buffer_rows": "soon"}, 422, "a whole number"),
        ({"ingest.buffer_rows": 2**70}, 422, "a whole number"),
        ({"hub.log_level": "LOUD"}, 422, "one of DEBUG"),
        ({"ingest.bufer_rows": 300}, 422, "no setting"),
        ({"store.raw_days": 40}, 422, "must be at least store.raw_days"),
        ({"tls.certificate": "a\0b"}, 422, "control characters"),
        ({"store.time_zone": "Mars/Olympus"}, 422, "no time zone"),
        ({}, 422, "name 1 to"),
    ],
)
async def test_what_can_not_be_set_changes_nothing(configured, values, status, words):
    client = await configured.client()
    answer = await patched(client, values)

    assert answer.status_code == status, answer.text
    assert words in answer.json()["detail"]
    assert configured.directory.settings.read_text() == FILE
    made = (await client.get("/v1/actions", params={"filter": "actor:ne:hub"})).json()
    assert made["total"] == 0


async def test_two_editors_do_not_overwrite_each_other(configured):
    client = await configured.client()
    _rows, version = await all_of(client)
    assert (await client.patch("/v1/settings", json={"jobs.days": 80})).status_code == 428
    # Ann edits by hand meanwhile.
    configured.directory.settings.write_text(FILE + "[jobs]\ndays = 70\n")
    assert (await patched(client, {"jobs.days": 80}, version)).status_code == 412
    rows, version = await all_of(client)
    assert (rows["jobs.days"]["value"], rows["jobs.days"]["next_value"]) == (90, 70)
    assert (await patched(client, {"jobs.days": 80}, version)).status_code == 200

    configured.directory.settings.write_text("[jobs\n")
    answer = await client.get("/v1/settings")
    assert "not valid TOML" in answer.json()["problem"]
    assert (await patched(client, {"jobs.days": 80}, answer.headers["etag"])).status_code == 422
    assert configured.directory.settings.read_text() == "[jobs\n"


async def test_runtime_settings_hold_at_once(configured):
    client = await configured.client()
    level = logging.getLogger().level
    path = configured.hub.platform.path
    try:
        answer = await patched(
            client,
            {
                "hub.log_level": "ERROR",
                "store.raw_days": 3,
                "store.day_days": 800,
                "ingest.future_minutes": 1,
                "ingest.resent_days": 60,
                "ingest.quarantine_rows": 5,
                "actions.days": 10,
            },
        )
        assert answer.status_code == 200, answer.text
        assert logging.getLogger().level == logging.ERROR
        assert path.store._upkeep._retention == Retention(3, 31, 396, 800, 100)
        await asyncio.sleep(0)
        assert path.ingest._limits.future_us == 60_000_000
        assert path.ingest._limits.past_us == 3 * 86_400_000_000
        assert path.ingest._limits.resent_us == 60 * 86_400_000_000
        assert path.quarantine._most_rows == 5
        assert path.runtime_settings.now.actions.days == 10
        assert path.runtime_settings.now.ingest.buffer_rows == 20000
    finally:
        logging.getLogger().setLevel(level)


async def test_a_file_that_can_not_be_written_changes_nothing(configured, monkeypatch):
    from pathlib import Path

    client = await configured.client()
    _rows, version = await all_of(client)

    def refuse(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", refuse)
    answer = await patched(client, {"jobs.days": 80}, version)
    monkeypatch.undo()

    assert (answer.status_code, "nothing was changed" in answer.json()["detail"]) == (503, True)
    assert configured.directory.settings.read_text() == FILE
    made = (await client.get("/v1/actions", params={"filter": "actor:ne:hub"})).json()
    assert made["total"] == 0
    assert (await all_of(client))[0]["jobs.days"]["value"] == 90


async def test_only_who_may_change_settings_sees_them(configured):
    for role in (Role.SUPPORT, Role.VIEWER, Role.AUDITOR):
        client = await configured.client(role)
        assert (await client.get("/v1/settings")).status_code == 403
        assert (await client.patch("/v1/settings", json={"jobs.days": 80})).status_code == 403


def test_settings_of_a_program_stand_above_the_file(tmp_path):
    from tests.app.api.conftest import SETTINGS

    (tmp_path / "wattdeck.toml").write_text("[ingest]\nbuffer_rows = 20000\n[listen]\nmqtt_port = 0\n")
    loaded = Layers.around(tmp_path / "wattdeck.toml", SETTINGS).load()

    assert loaded.settings == SETTINGS
    assert loaded.said_by["ingest.buffer_rows"] == "program"
    assert loaded.said_by["listen.mqtt_port"] == str(tmp_path / "wattdeck.toml")
