"""Somebody is erased in a running hub: the backups made before can not show them any more, and no file of it does."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import sqlite3
import time

import pytest
import sqlalchemy as sa

from app.domain.keys import CollectionLevel
from app.domain.settings import BackupSettings
from app.hub.data_directory import DataDirectory
from app.hub.hub import running_hub
from app.services.erasures import ErasureFollower
from app.stores.backup.directory import BackupDirectory
from app.stores.backup.latest import tell_erasures
from app.stores.registry.faults import RegistryBusy
from app.stores.registry.models import Holder, Key, PersonKey, Site
from app.stores.registry.person_keys import PersonKeys
from app.stores.registry.records import NewSite, PairedAs
from app.stores.registry.registry import Registry
from tests.app.api.conftest import SETTINGS, ApiTrial
from tests.app.api.test_backups import finished
from tests.e2e.conftest import run_command
from tests.helpers.mqtt_peer import until

STREET, METER, NOTE = "17 rue des Marqueurs", "METER-0815-4711", "behind the blue door"


@pytest.fixture
async def lived(tmp_path):
    """A hub of a holder who left, with a folder for backups."""
    directory = DataDirectory(tmp_path / "data")
    directory.make()
    with Registry.open(directory.registry) as registry:
        registry.provision("WD1")
        (site,) = registry.add_sites([NewSite("Lyon", street=STREET, postcode="69001")])
        holder = registry.add_holder()
        registry.pair("WD1", 1, 10**9, PairedAs(site, CollectionLevel.SECOND, METER, holder))
        registry.set_facts("WD1", meter_serial=METER)
        registry.unpair("WD1", 1, 2 * 10**9)
    settings = dataclasses.replace(SETTINGS, backup=BackupSettings(directory=str(tmp_path / "backups")))
    async with contextlib.AsyncExitStack() as stack:
        trial = ApiTrial(await stack.enter_async_context(running_hub(directory, settings)), directory, stack)
        trial.holder, trial.site = holder, site
        trial.backups = tmp_path / "backups"
        yield trial


async def back_up(trial):
    client = await trial.client()
    assert (await client.post("/v1/backups")).status_code == 202
    state = await finished(client)
    assert state["last"]["state"] == "done", state
    return state["last"]["snapshot"]


def erase(trial):
    """As the places of the data map erase, the keys of persons too."""
    data_map = trial.hub.platform.data_map
    for subject in (data_map.holder(trial.holder), data_map.module("WD1")):
        for place in data_map.places:
            data_map.erase(place.name, subject)


def known(trial):
    return {each.subject for each in BackupDirectory(trial.backups).read_erasures().erased}


def follower_of(registry, folder, **options):
    return ErasureFollower(
        registry, lambda: folder, lambda there: tell_erasures(BackupDirectory(there), registry), **options
    )


def restored(trial, name, snapshot):
    there = trial.directory.root.parent / name
    answer = run_command("restore", trial.backups, "--data", there, "--snapshot", snapshot)
    assert answer.returncode == 0, answer.stderr
    return Registry.open(there / "registry.sqlite")


async def test_an_erasure_reaches_the_backups_without_another_backup(lived):
    snapshot = await back_up(lived)
    with await asyncio.to_thread(restored, lived, "before", snapshot) as registry:
        assert registry.sites()[0].street == STREET, "it was there"
    await asyncio.to_thread(erase, lived)
    await until(lambda: f"holder:{lived.holder}" in known(lived))

    with await asyncio.to_thread(restored, lived, "after", snapshot) as registry:
        site = registry.sites()[0]
        assert (site.street, site.postcode) == (None, None)
        with registry.reading() as connection:
            assert connection.execute(sa.select(sa.func.count()).select_from(Holder)).scalar_one() == 0
            assert not connection.execute(sa.select(Key.key).where(Key.holder_token.is_not(None))).all()
    await until(lambda: lived.hub.statistics()["backup.erasures_behind"] == 0)
    # Erasing by the data map left the folder one of this hub: the next backup goes into it.
    await back_up(lived)


async def test_the_access_log_stays_sound_after_a_restore_without_the_erased(lived):
    client = await lived.client()
    seen = await client.get(f"/v1/data-map/holders/{lived.holder}")
    assert seen.status_code == 200
    assert (await client.get("/v1/data-map/modules/WD1")).status_code == 200
    snapshot = await back_up(lived)
    await asyncio.to_thread(erase, lived)
    await until(lambda: f"holder:{lived.holder}" in known(lived))
    (await asyncio.to_thread(restored, lived, "after", snapshot)).close()

    data = lived.directory.root.parent / "after"
    answer = await asyncio.to_thread(run_command, "verify-log", "--data", data)
    assert answer.returncode == 0, answer.stdout
    assert "entries name erased persons" in answer.stdout
    with contextlib.closing(sqlite3.connect(data / "registry.sqlite")) as database, database:
        changed = database.execute("UPDATE access_log SET operator = 'nobody' WHERE subject = 'erased'")
        assert changed.rowcount >= 1
    answer = await asyncio.to_thread(run_command, "verify-log", "--data", data)
    assert (answer.returncode, "were changed since" in answer.stdout) == (1, True)


async def test_a_folder_that_is_in_use_is_told_later(lived, caplog):
    follower = follower_of(lived.hub.platform.path.registry, lived.backups, again_s=0.05)
    await back_up(lived)
    directory = BackupDirectory(lived.backups)
    with directory.locked(make=False):
        keys = PersonKeys(lived.hub.platform.path.registry)
        await asyncio.to_thread(keys.erase_person, f"holder:{lived.holder}")
        await until(lambda: lived.hub.statistics()["backup.erasure_failures"])
        assert lived.hub.statistics()["backup.erasures_behind"] == 1
        assert not await asyncio.to_thread(follower.follow)
        assert f"holder:{lived.holder}" not in known(lived)
    assert "has not reached the backups yet" in caplog.text
    running = asyncio.create_task(follower.run())
    await until(lambda: f"holder:{lived.holder}" not in directory.read_keyring().keys)
    running.cancel()
    assert f"holder:{lived.holder}" in known(lived)


async def test_the_backups_of_another_hub_are_left_alone(lived, tmp_path):
    await back_up(lived)
    with Registry.open(tmp_path / "other.sqlite") as other:
        PersonKeys(other).erase_person("holder:c-0123456789")
        before = (lived.backups / "keyring.json").read_bytes()
        follower = follower_of(other, lived.backups)
        assert not await asyncio.to_thread(follower.follow)
        assert (lived.backups / "keyring.json").read_bytes() == before
        assert await asyncio.to_thread(follower_of(other, None).follow)
        assert await asyncio.to_thread(follower_of(other, tmp_path / "nothing").follow)


async def test_what_is_erased_is_in_no_file_of_the_data_directory(lived):
    path = lived.hub.platform.path
    client = await lived.client()
    version = (await client.get("/v1/modules/WD1")).headers["etag"]
    answer = await client.patch("/v1/modules/WD1", json={"note": NOTE}, headers={"If-Match": version})
    assert answer.status_code == 200, answer.text
    path.quarantine.put(1_500_000_000, "WD1", "tele", "garbage", "", f"{{{METER}".encode())
    refused = path.quarantine.take_pending()
    await asyncio.to_thread(path.quarantine.store, refused)
    with path.registry.reading() as connection:
        assert connection.execute(sa.select(Site.street)).scalar_one() == STREET
    marks = [text.encode() for text in (STREET, METER, NOTE)]

    def files():
        return [file for file in lived.directory.root.rglob("*") if file.is_file()]

    def found():
        return {(file.name, mark) for file in files() for mark in marks if mark in file.read_bytes()}

    assert {mark for _name, mark in found()} == set(marks), "a test that looks where it is"
    await asyncio.to_thread(erase, lived)
    with path.registry.reading() as connection:
        assert connection.execute(sa.select(PersonKey.subject)).all() == []
        assert connection.execute(sa.select(Site.street)).scalar_one() is None
    # The log of changes is cleared right after.
    try:
        await until(lambda: not found())
    except TimeoutError:
        assert found() == set()


async def test_readers_of_an_older_state_do_not_keep_the_registry_from_being_written(lived):
    registry = lived.hub.platform.path.registry
    with registry.reading_at_one_moment() as connection:
        connection.execute(sa.select(Site.id)).all()
        await asyncio.to_thread(PersonKeys(registry).ensure, "site:99")
        began = time.monotonic()
        with pytest.raises(RegistryBusy):
            await asyncio.to_thread(registry.overwrite_erased)
        assert time.monotonic() - began < 3
        await asyncio.to_thread(PersonKeys(registry).erase_person, "site:99")
    await until(lambda: not (lived.directory.root / "registry.sqlite-wal").stat().st_size or _cleared(registry))


def _cleared(registry):
    with contextlib.suppress(RegistryBusy):
        registry.overwrite_erased()
    return False
