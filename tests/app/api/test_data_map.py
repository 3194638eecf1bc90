"""The data map of a real hub that had traffic of every sort: nothing lies where no row speaks of, and all is found."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time

import paho.mqtt.client as mqtt
import pytest

from app.domain.credentials import CredentialKind
from app.domain.keys import CollectionLevel
from app.domain.people import Role
from app.domain.settings import IngestSettings, Settings
from app.hub.data_directory import DataDirectory
from app.hub.hub import running_hub
from app.stores.registry.models import Command, PersonKey, SavedView
from app.stores.registry.records import NewSite, PairedAs
from app.stores.registry.registry import Registry
from tests.app.api.conftest import SETTINGS, ApiTrial
from tests.app.api.test_jobs import finished
from tests.e2e.clients import eventually

MINUTES = 8
SEED_US = 10**9


def connect(address, username, secret, client_id, **more):
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id, **more)
    client.username_pw_set(username, secret)
    client.connect(*address)
    client.loop_start()
    eventually(client.is_connected)
    return client


def say(client, serial, kind, payload, *, retain=False):
    message = client.publish(f"wd/v1/m/{serial}/{kind}", payload, qos=1, retain=retain)
    message.wait_for_publish(30)
    assert message.is_published()


def traffic(address, modules, service, now_ms):
    """Readings, births, garbage, and a service that is away while messages wait for it."""
    waiting = connect(address, "watcher", service, "watcher", clean_session=False)
    subscribed = []
    waiting.on_subscribe = lambda *_: subscribed.append(True)
    waiting.subscribe("wd/v1/m/#", qos=1)
    eventually(lambda: subscribed)
    waiting.disconnect()
    waiting.loop_stop()
    for module in modules:
        client = connect(address, module.username, module.secret, module.serial)
        say(client, module.serial, "state", json.dumps({"online": True, "boot_id": 1, "period_ms": 1000}), retain=True)
        readings = [
            {
                "time_ms": now_ms - 1000 * n,
                "boot_id": 1,
                "seq": 10_000 - n,
                "apparent_va": 500 + n,
                "drawn_wh": 10_000 - n,
            }
            for n in reversed(range(60 * MINUTES))
        ]
        for begin in range(0, len(readings), 200):
            say(client, module.serial, "tele", json.dumps(readings[begin : begin + 200]))
        say(client, module.serial, "tele", b"{garbage")
        client.disconnect()
        client.loop_stop()


@pytest.fixture
async def lived(tmp_path):
    """WD1 (of a holder who left and one who came), WD10 and WD2, with everything a hub can hold of them."""
    directory = DataDirectory(tmp_path / "data")
    directory.make()
    now_ms = time.time_ns() // 1_000_000
    half_us = (now_ms - MINUTES * 30_000) * 1000
    with Registry.open(directory.registry) as registry:
        modules = registry.provision_many(["WD1", "WD10", "WD2"])
        service = registry.add_credential("watcher", CredentialKind.SERVICE, subscribe=["wd/v1/m/#"])
        sites = registry.add_sites(
            [NewSite("Lyon", street="1 rue A", postcode="69001"), NewSite("Lyon", street="2 rue B")]
        )
        old, new = registry.add_holder(), registry.add_holder()
        registry.pair("WD1", 1, SEED_US, PairedAs(sites[0], CollectionLevel.SECOND, "METER-1", old))
        registry.change_holder("WD1", 1, half_us, new, CollectionLevel.SECOND)
        registry.pair("WD2", 1, SEED_US, PairedAs(sites[1], CollectionLevel.SECOND, "METER-2", None))
    async with contextlib.AsyncExitStack() as stack:
        settings = Settings(listen=SETTINGS.listen, ingest=IngestSettings(segment_seconds=1))
        hub = await stack.enter_async_context(running_hub(directory, settings))
        await asyncio.to_thread(traffic, hub.addresses["mqtt"], modules, service, now_ms)
        trial = ApiTrial(hub, directory, stack)
        trial.old, trial.new, trial.sites = old, new, sites
        trial.path = hub.platform.path
        admin = await trial.client()
        for serial in ("WD1", "WD10"):
            await finished(
                admin,
                await admin.post(
                    "/v1/jobs",
                    json={
                        "kind": "export",
                        "parameters": {"modules": [serial], "start_us": 0, "end_us": now_ms * 1000},
                    },
                ),
            )
        await asyncio.to_thread(_fill_registry, trial.path.registry, old, half_us)
        _plant(directory)
        await asyncio.to_thread(eventually, lambda: hub.statistics()["archive.segments"] > 0)
        yield trial


def _fill_registry(registry, holder, half_us):
    import sqlalchemy as sa

    with registry.writing() as connection:
        number = connection.execute(sa.text("SELECT id FROM modules WHERE serial = 'WD1'")).scalar_one()
        for offset in (-1, 1):
            connection.execute(
                sa.insert(Command).values(
                    id=f"C{offset}",
                    module_id=number,
                    name="reboot",
                    arguments="{}",
                    state="done",
                    sent_by="ann",
                    created_us=half_us + offset,
                    expires_us=half_us,
                )
            )
        connection.execute(sa.insert(PersonKey).values(subject=f"holder:{holder}", secret=b"s" * 32, created_us=1))
        connection.execute(
            sa.text(
                "INSERT INTO operators (id, name, role, password_hash, must_change_password, password_us, created_us)"
                " VALUES (100, 'ann', 'admin', 'x', false, 0, 0)"
            )
        )
        for name, filters in (("one", "serial:eq:WD1"), ("ten", "serial:eq:WD10")):
            connection.execute(
                sa.insert(SavedView).values(
                    operator_id=1, page="modules", name=name, definition=json.dumps({"filter": [filters]}), shared=False
                )
            )


def _plant(directory):
    """What only misfortune or an operator makes."""
    (directory.journal / "damaged").mkdir(exist_ok=True)
    (directory.journal / "damaged" / "00000000000000000001-7.bin").write_bytes(b"broken")
    (directory.imports / "copy-1").mkdir(parents=True)
    (directory.imports / "copy-1" / "raw.parquet").write_bytes(b"PAR1")


def held_by(answer):
    assert answer.status_code == 200, answer.text
    return {one["place"]: one["count"] for one in answer.json()["items"]}


async def test_nothing_lies_where_no_row_speaks_of(lived):
    client = await lived.client(purpose=None)
    answer = (await client.get("/v1/data-map")).json()
    files = [path for path in lived.directory.root.rglob("*") if path.is_file()]

    assert [one for one in answer["undeclared"] if "_pytest" not in one] == []
    assert len(files) > 20
    assert {"registry.modules", "series.raw", "journal", "quarantine", "jobs.results", "log.stderr"} <= {
        place["name"] for place in answer["items"]
    }
    raw = next(place for place in answer["items"] if place["name"] == "series.raw")
    assert raw["retention"] == "2 days"


async def test_what_has_no_row_is_told(lived, tmp_path):
    import sqlalchemy as sa

    (lived.directory.root / "notes.txt").write_text("x")
    (lived.directory.series / "raw" / "leftover.tmp").write_text("x")
    with lived.path.registry.writing() as connection:
        connection.execute(sa.text("CREATE TABLE shadow (id INTEGER PRIMARY KEY)"))
    handler = logging.FileHandler(tmp_path / "private.txt")
    logging.getLogger("app.somewhere").addHandler(handler)
    try:
        answer = (await (await lived.client()).get("/v1/data-map")).json()
    finally:
        logging.getLogger("app.somewhere").removeHandler(handler)
        handler.close()

    assert [one for one in answer["undeclared"] if "_pytest" not in one] == [
        "registry table shadow",
        f"log sink file {tmp_path / 'private.txt'}",
        "file notes.txt",
        "file series/raw/leftover.tmp",
    ]


async def test_everything_of_a_module_is_found(lived):
    admin = await lived.client()
    found = held_by(await admin.get("/v1/data-map/modules/WD1"))

    rows = found["series.raw"] + found["journal"]
    assert rows >= 60 * MINUTES
    assert found["live"] > 0
    assert found["quarantine"] == 1
    assert found["broker.retained"] == 1
    assert found["broker.queues"] == 1 + 1 + -(-60 * MINUTES // 200), "a birth, garbage, lists of readings"
    assert found["jobs.results"] == found["registry.jobs"] == 1
    assert found["registry.keys"] == 3, "before the pairing, and two holders"
    assert (found["registry.sites"], found["registry.pairings"], found["registry.commands"]) == (1, 1, 2)
    assert (found["registry.saved_views"], found["registry.person_keys"]) == (1, 0)
    assert found["imports"] == 1
    assert found["journal.damaged"] is None, "nobody can tell whose"
    assert held_by(await admin.get("/v1/data-map/modules/WD2"))["jobs.results"] == 0


async def test_a_holder_has_what_was_said_in_their_time(lived):
    admin = await lived.client()
    old = held_by(await admin.get(f"/v1/data-map/holders/{lived.old}"))
    new = held_by(await admin.get(f"/v1/data-map/holders/{lived.new}"))
    whole = held_by(await admin.get("/v1/data-map/modules/WD1"))

    for found in (old, new):
        assert 0 < found["series.raw"] + found["journal"] < whole["series.raw"] + whole["journal"]
    assert old["registry.keys"] == new["registry.keys"] == 1
    assert (old["live"], old["broker.retained"], old["quarantine"]) == (0, 0, 0), "the module says others' things now"
    assert new["live"] > 0
    assert (new["quarantine"], new["broker.retained"]) == (1, 1)
    assert (old["registry.commands"], new["registry.commands"]) == (1, 1)
    assert (old["registry.person_keys"], new["registry.person_keys"]) == (1, 0)


async def test_looking_is_personal_and_for_few(lived, monkeypatch):
    noted = []
    monkeypatch.setattr(
        lived.hub.platform.gate._log, "note", lambda who, why, subjects, what: noted.append((subjects, what))
    )
    admin = await lived.client()
    assert (await admin.get("/v1/data-map/modules/WD1")).status_code == 200
    assert (await admin.get(f"/v1/data-map/holders/{lived.old}")).status_code == 200
    assert noted == [(["module:WD1"], ("holdings",)), ([f"holder:{lived.old}"], ("holdings",))]
    for path in ("/v1/data-map/modules/WD9", "/v1/data-map/holders/c-nobody", "/v1/data-map/modules/%00"):
        assert (await admin.get(path)).status_code == 404
    assert (await (await lived.client(purpose=None)).get("/v1/data-map/modules/WD1")).status_code == 403
    assert (await (await lived.client(Role.SUPPORT)).get("/v1/data-map")).status_code == 403


async def test_each_place_forgets_a_holder_who_left_and_nobody_else(lived):
    data_map = lived.hub.platform.data_map
    admin = await lived.client()
    before = held_by(await admin.get(f"/v1/data-map/holders/{lived.new}"))
    await asyncio.to_thread(eventually, lambda: not lived.path.tail.batches("raw"))
    subject = await asyncio.to_thread(data_map.holder, lived.old)

    def erase_all():
        return {place.name: data_map.erase(place.name, subject) for place in data_map.places}

    erased = await asyncio.to_thread(erase_all)
    assert erased["series.raw"].count >= 30 * (MINUTES - 1)
    assert erased["registry.keys"].count == erased["registry.holders"].count == erased["registry.commands"].count == 1
    assert erased["registry.person_keys"].count == 1
    assert erased["registry.sites"].left, "the new holder lives there"
    assert "legal duty" in erased["registry.access_log"].left
    found = {place.name: held.count for place, held in await asyncio.to_thread(data_map.find, subject)}
    left = {name for name, count in found.items() if count}
    assert left <= {
        "registry.sites",
        "registry.key_ledger",
        "registry.token_ledger",
        "registry.access_log",
        "registry.erasures",
        "imports",
    }
    assert (await admin.get(f"/v1/data-map/holders/{lived.old}")).status_code == 404

    after = held_by(await admin.get(f"/v1/data-map/holders/{lived.new}"))
    for name in ("registry.keys", "registry.sites", "quarantine", "broker.retained", "registry.commands"):
        assert after[name] == before[name], name
    assert after["series.raw"] > 0
    # The live window's oldest seconds leave it by themselves while the test runs.
    assert after["live"] > before["live"] // 2
    # Where the new one lived stays; the module's exports stay until somebody erases the module.
    assert held_by(await admin.get("/v1/data-map/modules/WD1"))["jobs.results"] == 1


async def test_a_module_whose_supply_goes_on_keeps_its_keys_and_loses_the_rest(lived):
    data_map = lived.hub.platform.data_map
    admin = await lived.client()
    others = {serial: held_by(await admin.get(f"/v1/data-map/modules/{serial}")) for serial in ("WD10", "WD2")}
    subject = await asyncio.to_thread(data_map.module, "WD1")
    erased = await asyncio.to_thread(
        lambda: {place.name: data_map.erase(place.name, subject) for place in data_map.places}
    )

    assert "1 supply periods go on" in erased["registry.keys"].left
    assert erased["jobs.results"].count == erased["quarantine"].count == erased["broker.retained"].count == 1
    assert erased["broker.queues"].count == 0, "forgotten with the retained ones"
    assert erased["registry.saved_views"].count == 1
    assert erased["journal.damaged"].count == 1
    found = held_by(await admin.get("/v1/data-map/modules/WD1"))
    for name in ("jobs.results", "quarantine", "broker.retained", "broker.queues", "live", "registry.commands"):
        assert found[name] == 0, name
    assert found["journal.damaged"] == 0
    assert (await asyncio.to_thread(lived.path.registry.module, "WD1")).meter_serial is None
    for serial, before in others.items():
        after = held_by(await admin.get(f"/v1/data-map/modules/{serial}"))
        for name in ("jobs.results", "quarantine", "broker.retained", "broker.queues", "registry.saved_views"):
            assert after[name] == before[name], (serial, name)
