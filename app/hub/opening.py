"""Opens what a data directory holds to be read, beside a running hub or without one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator

from app.domain.errors import OperatorInputError
from app.domain.settings import Settings
from app.hub.data_directory import DataDirectory
from app.hub.registry_facts import RegistryFacts
from app.stores.registry.registry import Registry
from app.stores.series.disk_reader import DiskReader, open_reader


def read_only_registry(directory: DataDirectory, settings: Settings) -> Registry:
    """The registry of a data directory, for a command beside a hub. Raises OperatorInputError where there is none."""
    if not settings.registry.url and not directory.registry.exists():
        raise OperatorInputError(f"{directory.root} is no data directory: it has no registry; name another with --data")
    return Registry.open_to_read(settings.registry.url or directory.registry)


def registry_facts(
    registry: Registry, serials: Collection[str] | None, default_zone: str
) -> Callable[[], RegistryFacts]:
    """What roll-ups must know of the keys of some modules, or of all, as the registry has it now."""
    chosen = None if serials is None else list(serials)
    periods = {serial: found for (serial, channel), found in registry.all_periods(chosen).items() if channel == 1}
    periods_ms = {record.serial: record.period_ms or 0 for record in registry.modules(chosen)}
    facts = RegistryFacts(periods_ms, periods, registry.places(), default_zone)
    return lambda: facts


@contextlib.contextmanager
def stored_series(
    directory: DataDirectory, settings: Settings, registry: Registry, serials: Collection[str] | None = None
) -> Iterator[DiskReader]:
    """The series of some modules, or of all, as they stand at this moment.

    Raises StoreUnavailable and StoreDamaged.
    """
    facts = registry_facts(registry, serials, settings.store.time_zone)
    keys = None
    if serials is not None:
        keys = [period.key for found in registry.all_periods(list(serials)).values() for period in found.periods]
    reader = open_reader(directory.series, directory.journal, facts=facts, now_us=_now_us, keys=keys)
    try:
        yield reader
    finally:
        reader.close()


def _now_us() -> int:
    return time.time_ns() // 1000
