"""Keeps ingest's directory and the store's facts of keys in step with the registry."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from app.domain.keys import SupplyPeriods
from app.ingest.directory import ModuleDirectory, ModuleEntry
from app.stores.registry.provisioning import Template
from app.stores.registry.records import Change, ModuleRecord, ModulesChanged, Place
from app.stores.registry.registry import Registry

log = logging.getLogger(__name__)

Int64s = npt.NDArray[np.int64]

# A module that connects without having been registered: nothing is known of it, not even its period.
ADOPTED = Template(period_ms=None)
# Our own modules have one channel; foreign ones with more have their own sources.
FIRST_CHANNEL = 1
_INT64 = np.iinfo(np.int64)


class Roster:
    """Loads the registry once and follows its changes; `directory` and `facts` change on the loop only."""

    def __init__(self, registry: Registry, directory: ModuleDirectory, *, default_zone: str) -> None:
        self.facts = RegistryFacts({}, {}, {}, default_zone)
        self._registry = registry
        self._directory = directory
        self._default_zone = default_zone
        self._wanted: dict[str, Template] = {}
        self._changed: set[str] = set()
        self._reload = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._work: asyncio.Task[None] | None = None
        self.on_adopted: list[Callable[[], None]] = []

    def load(self) -> None:
        """Read everything; blocks, so before the loop serves anybody."""
        self._take(self._registry.modules(), self._registry.all_periods(), self._registry.places())

    def follow(self) -> None:
        """From now on take over each change of the registry; call it on the loop."""
        self._loop = asyncio.get_running_loop()
        self._registry.subscribe(self._on_change)

    def reload(self) -> None:
        """Read every module anew: another process has changed the registry."""
        self._reload = True
        self._begin()

    def adopt(self, serial: str, template: Template = ADOPTED) -> None:
        """Register a module nobody registered, soon; `on_adopted` is called when it has a slot."""
        self._wanted[serial] = template
        self._begin()

    def _on_change(self, change: Change) -> None:
        # Called in whatever thread changed the registry.
        if isinstance(change, ModulesChanged) and self._loop is not None:
            self._loop.call_soon_threadsafe(self._note_changed, change.serials)

    def _note_changed(self, serials: Sequence[str]) -> None:
        self._changed.update(serials)
        self._begin()

    def _begin(self) -> None:
        if self._work is None or self._work.done():
            self._work = asyncio.get_running_loop().create_task(self._catch_up(), name="roster")

    async def _catch_up(self) -> None:
        while self._wanted or self._changed or self._reload:
            wanted, self._wanted = self._wanted, {}
            changed, self._changed = self._changed | set(wanted), set()
            everything, self._reload = self._reload, False
            try:
                found = await asyncio.to_thread(self._read, wanted, None if everything else sorted(changed))
            except Exception:
                log.exception("the registry's changes could not be read; they are read with the next change")
                return
            self._take(*found)
            for tell in self.on_adopted:
                tell()

    def _read(
        self, wanted: Mapping[str, Template], changed: Sequence[str] | None
    ) -> tuple[list[ModuleRecord], dict[tuple[str, int], SupplyPeriods], dict[int, Place]]:
        for template in set(wanted.values()):
            serials = sorted(serial for serial, chosen in wanted.items() if chosen == template)
            adopted = self._registry.ensure_modules(serials, template)
            if adopted:
                log.info("registered %d unknown modules of kind %s", len(adopted), template.kind)
        records = self._registry.modules(changed)
        return records, self._registry.all_periods(changed), self._registry.places()

    def _take(
        self,
        records: Iterable[ModuleRecord],
        periods: dict[tuple[str, int], SupplyPeriods],
        places: dict[int, Place],
    ) -> None:
        own = {serial: found for (serial, channel), found in periods.items() if channel == FIRST_CHANNEL}
        self._directory.put(ModuleEntry(serial, found, _group(found, places)) for serial, found in own.items())
        self.facts = self.facts.with_changes({record.serial: record.period_ms or 0 for record in records}, own, places)


def _group(periods: SupplyPeriods, places: dict[int, Place]) -> int:
    place = places.get(periods.periods[-1].key) if periods.periods else None
    return place.city_number if place else 0


class RegistryFacts:
    """What roll-ups ask about keys, as an immutable snapshot; any thread may ask. See stores.series.rollup.KeyFacts."""

    def __init__(
        self,
        periods_ms: dict[str, int],
        supply: dict[str, SupplyPeriods],
        places: dict[int, Place],
        default_zone: str,
    ) -> None:
        self._periods_ms = periods_ms
        self._supply = supply
        self._places = places
        self._default_zone = default_zone
        rows = [
            (
                period.key,
                periods_ms.get(serial, 0),
                # An unassigned period is paired from the beginning: a module in a trial has no site.
                period.from_us,
                _INT64.max if period.to_us is None else period.to_us,
                places[period.key].city_number if period.key in places else 0,
            )
            for serial, found in supply.items()
            for period in found.periods
        ]
        rows.sort()
        table = np.array(rows, np.int64).reshape(len(rows), 5)
        self._keys = table[:, 0]
        self._columns = table[:, 1:]

    def with_changes(
        self, periods_ms: dict[str, int], changed: dict[str, SupplyPeriods], places: dict[int, Place]
    ) -> RegistryFacts:
        """A new snapshot, with the periods of the changed modules replaced."""
        return RegistryFacts(self._periods_ms | periods_ms, self._supply | changed, places, self._default_zone)

    def periods_ms(self, keys: Int64s) -> Int64s:
        """The declared period in milliseconds, 0 where none was declared."""
        return self._column(keys, 0, 0)

    def paired_us(self, keys: Int64s) -> tuple[Int64s, Int64s]:
        """From when to when (half-open, UTC microseconds) each key is paired."""
        return self._column(keys, 1, _INT64.min), self._column(keys, 2, _INT64.max)

    def groups(self, keys: Int64s) -> Int64s:
        """The number of each key's city, 0 = none."""
        return self._column(keys, 3, 0)

    def zone(self, key: int) -> str:
        """The time zone whose days the key is counted in."""
        place = self._places.get(key)
        return place.zone if place else self._default_zone

    def _column(self, keys: Int64s, column: int, missing: int) -> Int64s:
        if not len(self._keys):
            return np.full(len(keys), missing, np.int64)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        found: Int64s = np.where(self._keys[at] == keys, self._columns[at, column], missing)
        return found
