"""Directory and facts follow the registry: births, pairings, adoption, and a database that fails."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from app.domain.keys import SupplyPeriods
from app.hub.catching_up import CatchingUp
from app.hub.registry_facts import RegistryFacts
from app.hub.roster import Roster
from app.ingest.directory import NO_KEY, ModuleDirectory
from app.stores.registry.records import ModuleFacts, Place
from app.stores.registry.registry import Registry
from tests.app.ingest.readings import NOW_US, periods


@pytest.fixture
def registry(tmp_path):
    with Registry.open(tmp_path / "registry.sqlite") as opened:
        yield opened


class World:
    def __init__(self, registry):
        self.registry = registry
        self.directory = ModuleDirectory()
        self.roster = Roster(registry, self.directory, default_zone="Europe/Paris")
        self.roster.load()
        self.told = asyncio.Event()
        self.roster.on_adopted.append(self.told.set)
        self.roster.follow()

    async def next_change(self):
        await asyncio.wait_for(self.told.wait(), 20)
        self.told.clear()

    def key(self, serial):
        (key,) = self.directory.route(np.array([self.directory.slot(serial)]), np.array([NOW_US]))[0]
        return int(key)

    def period_ms(self, serial):
        return self.roster.facts.periods_ms(np.array([self.key(serial)])).tolist()


async def test_what_is_registered_is_known_and_what_comes_too(registry):
    registry.provision("A")
    world = World(registry)
    assert world.key("A") == registry.periods("A").periods[-1].key

    await asyncio.to_thread(registry.provision, "B")
    await world.next_change()
    assert (world.directory.slot("A"), world.directory.slot("B")) == (0, 1)
    assert world.key("B") == registry.periods("B").periods[-1].key


async def test_births_change_the_period_and_ask_for_no_places(registry, monkeypatch):
    registry.provision_many(["A", "B"])
    world = World(registry)
    monkeypatch.setattr(registry, "places", lambda: pytest.fail("every place of the fleet, for a birth"))
    before = world.roster.facts
    await asyncio.to_thread(registry.set_facts_of_many, {"A": ModuleFacts(2000, "1.0", None, None)})
    await world.next_change()

    assert world.period_ms("A") == [2000]
    assert before.periods_ms(np.array([world.key("A")])).tolist() == [1000], "a snapshot does not change"
    facts = world.roster.facts
    await asyncio.to_thread(registry.set_facts_of_many, {"A": ModuleFacts(2000, "1.1", None, None)})
    await world.next_change()
    assert world.roster.facts is facts, "firmware is nothing to ingest"


async def test_adoption_is_once_per_serial_and_passes_over_what_can_be_none(registry):
    world = World(registry)
    for _ in range(3):
        world.roster.adopt("NEW")
    world.roster.adopt("not a serial!")
    await world.next_change()

    assert world.directory.slot("NEW") == 0
    assert registry.module("NEW") is not None
    assert [record.serial for record in registry.modules()] == ["NEW"]
    await world.roster.stop()


async def test_a_registry_that_fails_forgets_nothing(registry, monkeypatch):
    world = World(registry)
    world.roster._catching_up = CatchingUp("roster", world.roster._catch_up, failing="it fails", retry_s=0)
    whole, failures = registry.ensure_modules, [LookupError(), OSError()]

    def failing(serials, template=None):
        if failures:
            raise failures.pop()
        return whole(serials, template)

    monkeypatch.setattr(registry, "ensure_modules", failing)
    world.roster.adopt("NEW")
    await world.next_change()

    assert failures == []
    assert world.directory.slot("NEW") is not None
    await world.roster.stop()


async def test_a_module_without_a_key_is_known_too(registry, monkeypatch):
    registry.provision("A")
    monkeypatch.setattr(registry, "all_periods", lambda _serials: {})
    world = World(registry)

    assert world.key("A") == NO_KEY


async def test_reload_takes_over_what_another_process_wrote(registry, tmp_path):
    world = World(registry)
    with Registry.open(tmp_path / "registry.sqlite") as other:
        await asyncio.to_thread(other.provision, "ELSEWHERE")
    world.roster.reload()
    await world.next_change()

    assert world.directory.slot("ELSEWHERE") is not None


def test_a_later_snapshot_is_what_one_made_anew_would_be():
    supply = {serial: periods((n, 0, 10), (n + 1, 10, None)) for serial, n in (("A", 1), ("B", 3), ("C", 5))}
    facts = RegistryFacts({"A": 1000}, supply, {2: Place("Nice", 7, "Asia/Tokyo")}, "Europe/Paris")
    changes = (
        ({"A": 1000}, {}, facts.places),
        ({"A": 2000, "B": 5000, "Z": 1}, {}, facts.places),
        ({}, {"B": SupplyPeriods(()), "D": periods((9, 0, None))}, facts.places),
        ({}, {}, {4: Place("Lyon", 8, "Europe/Rome")}),
    )
    keys = np.arange(12)
    for periods_ms, changed, places in changes:
        anew = RegistryFacts(
            {**facts.periods_ms_by_serial, **periods_ms}, {**facts.supply, **changed}, places, "Europe/Paris"
        )
        later = facts.with_changes(periods_ms, changed, places)
        assert later.periods_ms(keys).tolist() == anew.periods_ms(keys).tolist()
        assert later.groups(keys).tolist() == anew.groups(keys).tolist()
        assert [times.tolist() for times in later.paired_us(keys)] == [times.tolist() for times in anew.paired_us(keys)]
        assert [later.zone(int(key)) for key in keys] == [anew.zone(int(key)) for key in keys]
    assert facts.with_changes({"A": 1000}, {}, facts.places) is facts
