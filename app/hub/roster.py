"""Keeps ingest's directory and the store's facts of keys in step with the registry."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from app.domain.credentials import is_serial
from app.domain.keys import SupplyPeriods
from app.hub.catching_up import CatchingUp
from app.hub.registry_facts import RegistryFacts
from app.ingest.directory import ModuleDirectory, ModuleEntry
from app.stores.registry.provisioning import Template
from app.stores.registry.records import Change, ModulesChanged, SitesChanged
from app.stores.registry.registry import Registry

log = logging.getLogger(__name__)

# A module that connects without having been registered: nothing is known of it, not even its period.
ADOPTED = Template(period_ms=None)
# Our own modules have one channel; foreign ones with more have their own sources.
FIRST_CHANNEL = 1
# Entries put into the directory at once, less than a millisecond of the loop.
_ENTRIES_AT_ONCE = 100
_NO_PERIODS = SupplyPeriods(())


@dataclasses.dataclass(frozen=True, slots=True)
class _Found:
    """What a look into the registry changes."""

    facts: RegistryFacts
    entries: Sequence[ModuleEntry]


class Roster:
    """Loads the registry once and follows its changes; `directory` and `facts` change on the loop only."""

    def __init__(self, registry: Registry, directory: ModuleDirectory, *, default_zone: str) -> None:
        self.facts = RegistryFacts({}, {}, {}, default_zone)
        # Called after each change that was taken over.
        self.on_adopted: list[Callable[[], None]] = []
        self._registry = registry
        self._directory = directory
        self._wanted: dict[str, Template] = {}
        self._changed: set[str] = set()
        self._reload = False
        self._moved = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._catching_up = CatchingUp(
            "roster",
            self._catch_up,
            failing="changes of modules can not be read from the registry, the old ones hold",
        )

    def load(self) -> None:
        """Read everything; blocks, so before the loop serves anybody."""
        found = self._read({}, None, moved_sites=True)
        self.facts = found.facts
        self._directory.put(found.entries)

    def follow(self) -> None:
        """From now on take over each change of the registry; call it on the loop."""
        self._loop = asyncio.get_running_loop()
        self._registry.subscribe(self._on_change)

    async def stop(self) -> None:
        """Give up what is being read."""
        await self._catching_up.stop()

    def reload(self) -> None:
        """Read every module anew: another process has changed the registry."""
        self._reload = True
        self._catching_up.ask()

    def adopt(self, serial: str, template: Template = ADOPTED) -> None:
        """Register a module nobody registered, soon; `on_adopted` is called when it has a slot.

        What can not be a serial is passed over.
        """
        if serial not in self._wanted and is_serial(serial):
            self._wanted[serial] = template
            self._catching_up.ask()

    def _on_change(self, change: Change) -> None:
        # Called in whatever thread changed the registry.
        if isinstance(change, ModulesChanged) and self._loop is not None:
            self._loop.call_soon_threadsafe(self._note_changed, change.serials)
        if isinstance(change, SitesChanged) and change.moved and self._loop is not None:
            self._loop.call_soon_threadsafe(self._note_moved)

    def _note_changed(self, serials: Sequence[str]) -> None:
        self._changed.update(serials)
        self._catching_up.ask()

    def _note_moved(self) -> None:
        self._moved = True
        self._catching_up.ask()

    async def _catch_up(self) -> None:
        wanted, self._wanted = self._wanted, {}
        changed, self._changed = self._changed, set()
        everything, self._reload = self._reload, False
        moved, self._moved = self._moved, False
        try:
            some = None if everything else changed | set(wanted)
            found = await asyncio.to_thread(self._read, wanted, some, moved_sites=moved or everything)
        except BaseException:
            self._wanted = wanted | self._wanted
            self._changed |= changed
            self._reload |= everything
            self._moved |= moved
            raise
        # The facts first: a key has its place and period before its first reading can be stored.
        self.facts = found.facts
        for begin in range(0, len(found.entries), _ENTRIES_AT_ONCE):
            self._directory.put(found.entries[begin : begin + _ENTRIES_AT_ONCE])
            await asyncio.sleep(0)
        for tell in self.on_adopted:
            tell()

    def _read(self, wanted: Mapping[str, Template], some: AbstractSet[str] | None, *, moved_sites: bool) -> _Found:
        """Register what is wanted, then compare some modules (None: all) with what we know."""
        changed = None if some is None else sorted(some)
        for template in set(wanted.values()):
            serials = sorted(serial for serial, chosen in wanted.items() if chosen == template)
            adopted = self._registry.ensure_modules(serials, template)
            if adopted:
                log.info("registered %d unknown modules of kind %s", len(adopted), template.kind)
        before = self.facts
        periods_ms = {record.serial: record.period_ms or 0 for record in self._registry.modules(changed)}
        periods = self._registry.all_periods(changed)
        # A module whose every key was erased is known all the same: its readings have a reason to be refused.
        supply = {serial: periods.get((serial, FIRST_CHANNEL), _NO_PERIODS) for serial in periods_ms}
        moved = [serial for serial, found in supply.items() if before.supply.get(serial) != found]
        # A key gets its place with its period: where no period changed and no site moved, as with births, no place did.
        places = self._registry.places() if moved or moved_sites else before.places
        facts = before.with_changes(periods_ms, supply, places)
        if facts.places is not before.places:
            known = set(moved)
            moved += [
                serial
                for serial in facts.supply
                if serial not in known and facts.group_of(serial) != before.group_of(serial)
            ]
        return _Found(facts, [ModuleEntry(serial, facts.supply[serial], facts.group_of(serial)) for serial in moved])
