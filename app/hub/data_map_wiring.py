"""Builds the data map of a hub: which part of it looks into which place."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from app.domain.data_map import DataSubject, Erased, Held
from app.domain.data_places import REGISTRY_PLACES, SERIES_PLACES
from app.domain.errors import EnvironmentFault, OperatorInputError
from app.ingest.quarantine_holdings import forget_refused, refused_in
from app.protocol.topics import PREFIX
from app.services.data_map.data_map import DataMap
from app.services.data_map.keepers import (
    Calls,
    FolderKeeper,
    Keeper,
    KeysKeeper,
    SeriesKeeper,
    TableKeeper,
    imports_keeper,
    jobs_keeper,
    journal_keeper,
    live_keeper,
)
from app.services.jobs.jobs import Jobs
from app.stores.events.store import EventStore
from app.stores.registry import upgrading
from app.stores.registry.registry import wall_clock_us
from app.stores.series.copying import read_manifest
from app.stores.series.schema import INGESTED
from broker.native.forgetting import KeptOf
from broker.native.server import NativeBroker

if TYPE_CHECKING:
    from pathlib import Path

    from app.hub.platform import DataPath

T = TypeVar("T")
# A loop that does not answer within this is in trouble of another kind.
_LOOP_S = 30.0


def data_map_of(path: DataPath, jobs: Jobs, more: Mapping[str, Keeper] | None = None) -> DataMap:
    """Call it on the loop. `more` are keepers of other parts of the hub, by the names of their places."""
    on_loop = _OnLoop()
    keepers: dict[str, Keeper] = {
        place.name: KeysKeeper(path.registry) if place.table == "keys" else TableKeeper(path.registry, place.table)
        for place in REGISTRY_PLACES
        if place.table
    }
    keepers |= {
        place.name: SeriesKeeper(path.store, place.name.removeprefix("series."))
        for place in SERIES_PLACES
        if place.name not in ("series.delta_log", "series.state", "series.fleet")
    }
    keepers["registry.foreign_devices"] = _devices_keeper(path, on_loop)
    live = path.live
    keepers |= {
        "journal": journal_keeper(path.tail.batches, tuple(INGESTED)),
        "journal.damaged": FolderKeeper(path.directory.journal / "damaged"),
        "quarantine": _quarantine_keeper(path.directory.quarantine),
        "live": live_keeper(
            path.modules.slot,
            lambda slot: live.recent_power(slot, wall_clock_us()),
            lambda slot: slot < len(live.time_us) and bool(live.time_us[slot]),
            lambda slot: on_loop(_call(lambda: live.forget(slot))),
        ),
        "events": _events_keeper(path.watch.store),
        "before_upgrade": FolderKeeper(path.directory.root / upgrading.FOLDER),
        "jobs.results": jobs_keeper(jobs),
        "imports": imports_keeper(path.directory.imports, _keys_of_copy),
    }
    if isinstance(path.engine, NativeBroker):
        keepers |= _broker_keepers(path.engine, on_loop)
    return DataMap(
        path.registry,
        path.directory.root,
        keepers | dict(more or {}),
        lambda: path.runtime_settings.now,
    )


class _OnLoop:
    """Runs a coroutine on the hub's loop for a thread, and waits."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def __call__(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(_LOOP_S)
        except TimeoutError:
            future.cancel()
            raise EnvironmentFault("the hub is too busy to look into its memory; try again") from None


async def _call(work: Any) -> None:
    work()


def _quarantine_keeper(file: Path) -> Calls:
    return Calls(
        lambda subject: Held(*refused_in(file, subject.spans)),
        lambda subject: Erased(forget_refused(file, subject.spans)),
    )


def _devices_keeper(path: DataPath, on_loop: _OnLoop) -> Calls:
    """The table, and what is known in memory, which would be written again."""
    table = TableKeeper(path.registry, "foreign_devices")

    def erase(subject: DataSubject) -> Erased:
        on_loop(path.foreign.register.forget_facts(subject.serials))
        return table.erase(subject)

    return Calls(table.find, erase)


def _events_keeper(store: EventStore) -> Calls:
    return Calls(
        lambda subject: Held(sum(store.reader.count(*span) for span in subject.spans)),
        lambda subject: Erased(sum(store.erase(*span) for span in subject.spans)),
    )


def _broker_keepers(engine: NativeBroker, on_loop: _OnLoop) -> dict[str, Keeper]:
    def kept(subject: DataSubject) -> list[KeptOf]:
        return [on_loop(engine.kept_below(f"{PREFIX}{serial}/")) for serial in subject.serials]

    def forget(subject: DataSubject) -> list[KeptOf]:
        return [on_loop(engine.forget_below(f"{PREFIX}{serial}/")) for serial in subject.serials]

    def retained(subject: DataSubject) -> Held:
        found = kept(subject)
        return Held(sum(one.retained for one in found), sum(one.retained_bytes for one in found))

    def queued(subject: DataSubject) -> Held:
        found = kept(subject)
        return Held(sum(one.queued for one in found), sum(one.queued_bytes for one in found))

    return {
        "broker.retained": Calls(retained, lambda subject: Erased(sum(one.retained for one in forget(subject)))),
        "broker.queues": Calls(queued, lambda subject: Erased(sum(one.queued for one in forget(subject)))),
    }


def _keys_of_copy(folder: Path) -> list[int] | None:
    """The keys that a copy is of; None for all, or for a folder that is no copy."""
    try:
        return read_manifest(folder).keys
    except OperatorInputError:
        return None
