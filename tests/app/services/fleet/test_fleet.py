"""The fleet's table follows the registry, in gathered steps, and through its failures."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from app.domain.errors import EnvironmentFault
from app.domain.listing import Listing
from app.ingest.live import LiveState
from app.services.fleet import fleet as fleet_module
from app.services.fleet.fleet import Fleet, FleetNotReadYet
from app.sources.sessions import Sessions
from app.stores.registry.fleet_rows import FleetRows
from app.stores.registry.module_edits import BulkAction, ModuleEdits
from app.stores.registry.provisioning import Template
from app.stores.registry.records import ModuleKind, NewSite
from app.stores.registry.registry import Registry
from tests.helpers.mqtt_peer import until


class FailingRows(FleetRows):
    """Fails so often as it is told, and counts what it is asked."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry)
        self.failures = 0
        self.asked: list[int] = []

    def modules(self, serials):
        if self.failures:
            self.failures -= 1
            raise EnvironmentFault("the registry went away")
        self.asked.append(len(serials))
        return super().modules(serials)


@pytest.fixture
def registry(tmp_path):
    with contextlib.closing(Registry.open(tmp_path / "registry.sqlite")) as opened:
        yield opened


@pytest.fixture
def rows(registry) -> FailingRows:
    return FailingRows(registry)


@pytest.fixture
async def fleet(registry, rows, monkeypatch):
    monkeypatch.setattr(fleet_module, "RETRY_S", 0.01)
    made = Fleet(rows, lambda _: None, LiveState(), Sessions(lambda _: None), now_us=lambda: 1, rebuild_each_s=0.05)
    made.follow(registry.subscribe)
    running = asyncio.create_task(made.run())
    made.reload()
    await made.loaded.wait()
    yield made
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def serials(fleet: Fleet) -> list[str]:
    return fleet.select_all(Listing())


async def test_what_is_registered_is_listed_and_a_storm_is_gathered(fleet, registry, rows):
    def storm() -> None:
        for number in range(100):
            registry.ensure_modules([f"WD{number:03d}"])

    await asyncio.to_thread(storm)
    await until(lambda: len(fleet.table) == 100)

    assert serials(fleet) == [f"WD{number:03d}" for number in range(100)]
    # Far fewer looks than changes, and nobody is read again for another's sake.
    assert len(rows.asked) < 50
    assert sum(rows.asked) < 200


async def test_before_it_was_read_nobody_is_told_that_there_is_nothing(registry, rows):
    registry.ensure_modules(["WD1"])
    made = Fleet(rows, lambda _: None, LiveState(), Sessions(lambda _: None), now_us=lambda: 1)
    for ask in (lambda: made.table, lambda: serials(made), lambda: made.select_serials(["WD1"])):
        with pytest.raises(FleetNotReadYet):
            ask()
    made.load()

    assert serials(made) == ["WD1"]


async def test_all_at_once_is_read_as_one_by_one(registry, rows):
    home = registry.add_sites([NewSite("Lyon", street="1 rue A")])[0]
    registry.provision_many(["WD1", "WD2", "WD3"], Template(sites=(home, home, home), meter_serial="M"))
    registry.ensure_modules(["METER1"], Template(kind=ModuleKind.METER))
    registry.block("WD2")
    edits = ModuleEdits(registry)
    edits.act("eva", ["WD1", "WD3"], BulkAction.TAG, "pilot")
    edits.act("eva", ["WD1"], BulkAction.TAG, "north")

    read = [one for part in rows.all_modules(2) for one in part]

    assert [one.serial for one in read] == ["METER1", "WD1", "WD2", "WD3"]
    assert read == sorted(rows.modules(["WD1", "WD2", "WD3", "METER1"]))
    assert read[1].tags == ("north", "pilot")
    assert (read[2].blocked, read[0].blocked) == (True, None)
    assert [one for part in rows.all_sites(2) for one in part] == rows.sites([home])


async def test_while_the_registry_fails_the_old_table_holds_and_nothing_is_forgotten(fleet, registry, rows, caplog):
    registry.ensure_modules(["WD1"])
    await until(lambda: serials(fleet) == ["WD1"])
    rows.failures = 5

    registry.ensure_modules(["WD2"])
    await until(lambda: rows.failures < 5)
    assert serials(fleet) == ["WD1"]
    await until(lambda: serials(fleet) == ["WD1", "WD2"])

    assert caplog.text.count("can not be brought up to date") == 1


async def test_a_whole_reading_that_fails_half_way_leaves_the_table_whole(fleet, registry, rows, monkeypatch):
    monkeypatch.setattr(fleet_module, "_AT_ONCE", 2)
    registry.ensure_modules(["A", "B", "C", "D"])
    await until(lambda: len(fleet.table) == 4)
    real = rows.all_modules

    def second_fails(at_once):
        yield next(iter(real(at_once)))
        raise EnvironmentFault("the registry went away")

    monkeypatch.setattr(rows, "all_modules", second_fails)
    with pytest.raises(EnvironmentFault):
        await asyncio.to_thread(fleet.load)

    assert serials(fleet) == ["A", "B", "C", "D"]
    registry.ensure_modules(["E"])
    await until(lambda: serials(fleet) == ["A", "B", "C", "D", "E"])


async def test_a_site_is_found_as_long_as_it_is_there(fleet, registry):
    (number,) = registry.add_sites([NewSite("Lyon", street="12 rue X")])

    await until(lambda: fleet.state.index.find("rue x"))

    (hit,) = fleet.state.index.find("rue x")
    assert (hit.serial, hit.site_id) == (None, number)
