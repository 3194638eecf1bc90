"""Births reach the registry in bulk, also when it fails for a while."""

from __future__ import annotations

import asyncio

import pytest

from app.domain.errors import EnvironmentFault
from app.hub import births as births_module
from app.hub.births import Births
from app.protocol.messages import Log, State
from app.protocol.topics import Kind
from app.stores.registry.registry import Registry
from tests.helpers.mqtt_peer import until


class Failing:
    """A registry that refuses some times."""

    def __init__(self, registry, failures):
        self._registry = registry
        self.failures = failures
        self.written = asyncio.Event()
        self.calls = []
        self._loop = asyncio.get_running_loop()

    def set_facts_of_many(self, facts):
        self.calls.append(dict(facts))
        if self.failures:
            self.failures -= 1
            raise EnvironmentFault("database away")
        self._registry.set_facts_of_many(facts)
        self._loop.call_soon_threadsafe(self.written.set)


@pytest.fixture
def registry(tmp_path):
    with Registry.open(tmp_path / "registry.sqlite") as opened:
        opened.provision_many(["A", "B"])
        yield opened


async def test_the_newest_facts_are_written_and_a_repeat_is_not(registry, monkeypatch):
    monkeypatch.setattr(births_module, "WRITE_EACH_S", 0.001)
    failing = Failing(registry, failures=2)
    births = Births(failing)
    births.on_message("A", 0, Kind.STATE, State(period_ms=1000, firmware="1"), 0)
    births.on_message("A", 0, Kind.STATE, State(period_ms=2000, firmware="2"), 0)
    births.on_message("B", 1, Kind.STATE, State(online=False), 0)
    births.on_message("B", 1, Kind.LOG, Log(text="hello"), 0)
    running = asyncio.create_task(births.run())
    await asyncio.wait_for(failing.written.wait(), 20)
    # The database has them a moment before the loop knows.
    await until(lambda: "A" in births._written)
    calls = len(failing.calls)
    births.on_message("A", 0, Kind.STATE, State(period_ms=2000, firmware="2"), 0)
    failing.written.clear()
    births.on_message("B", 1, Kind.STATE, State(firmware="3"), 0)
    await asyncio.wait_for(failing.written.wait(), 20)
    running.cancel()

    assert calls == 3, "two refusals, then written"
    assert (registry.module("A").firmware, registry.module("A").period_ms) == ("2", 2000)
    assert registry.module("B").firmware == "3"
    assert set(failing.calls[-1]) == {"B"}, "A says nothing new"
