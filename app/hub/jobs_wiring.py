"""Builds what works behind the scenes: settings that change, jobs, actions and their retention."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Sequence

from litestar.handlers import HTTPRouteHandler

from app.api.access import Gate
from app.api.routes.actions import action_routes
from app.api.routes.jobs import job_routes
from app.api.routes.settings import settings_routes
from app.domain.settings import Settings
from app.hub.configuration import Layers
from app.hub.data_directory import DataDirectory
from app.hub.receipt_signing import signing_with
from app.hub.statistics import Statistics
from app.hub.supervisor import Supervisor
from app.ingest.ingest import Ingest
from app.ingest.quarantine import Quarantine
from app.ingest.stamping import TimeLimits
from app.services.actions import Actions
from app.services.data_map.data_map import DataMap
from app.services.jobs.erasure import Erasure
from app.services.jobs.export import Export
from app.services.jobs.import_copy import ImportCopy
from app.services.jobs.jobs import Jobs
from app.services.jobs.kinds import JobKind, kinds_of
from app.services.jobs.recompute import Recompute
from app.services.jobs.runner import JobRunner
from app.services.runtime_settings import RuntimeSettings
from app.services.tidying import Chore, Tidying
from app.stores.failpoints import FailPoints
from app.stores.registry.action_log import ActionLog
from app.stores.registry.erasure_record import ErasureRecord
from app.stores.registry.jobs import JobTable
from app.stores.registry.registry import Registry, wall_clock_us
from app.stores.series.delta_store import DeltaSeriesStore
from app.stores.series.interface import SeriesStore
from app.stores.series.tiers import Retention

_TIERS = ("raw_days", "ten_minute_days", "hour_days", "day_days", "fleet_days")


@dataclasses.dataclass(frozen=True, slots=True)
class JobsPart:
    """What others may build on."""

    jobs: Jobs
    actions: Actions
    routes: list[HTTPRouteHandler]


def retention_of(settings: Settings) -> Retention:
    """How long each tier of the store is kept."""
    kept = settings.store
    return Retention(kept.raw_days, kept.ten_minute_days, kept.hour_days, kept.day_days, kept.fleet_days)


def limits_of(settings: Settings) -> TimeLimits:
    """How far a reading's time may be from its arrival."""
    return TimeLimits.of(
        future_minutes=settings.ingest.future_minutes,
        raw_days=settings.store.raw_days,
        resent_days=settings.ingest.resent_days,
    )


def runtime_settings_of(layers: Layers, registry: Registry) -> RuntimeSettings:
    """The settings of this hub."""
    return RuntimeSettings(layers.path, layers.load(), layers.evaluate, registry, now_us=wall_clock_us)


def follow_settings(live: RuntimeSettings, store: DeltaSeriesStore, ingest: Ingest, quarantine: Quarantine) -> None:
    """Have the data path told of new settings; call it on the loop."""
    loop = asyncio.get_running_loop()

    def on_loop_limits(settings: Settings) -> None:
        loop.call_soon_threadsafe(ingest.set_limits, limits_of(settings))

    def on_loop_quarantine(settings: Settings) -> None:
        loop.call_soon_threadsafe(quarantine.keep_rows, settings.ingest.quarantine_rows)

    live.on_change(["hub.log_level"], lambda settings: logging.getLogger().setLevel(settings.hub.log_level))
    live.on_change([f"store.{name}" for name in _TIERS], lambda settings: store.set_retention(retention_of(settings)))
    live.on_change(["ingest.future_minutes", "ingest.resent_days", "store.raw_days"], on_loop_limits)
    live.on_change(["ingest.quarantine_rows"], on_loop_quarantine)


def erasure_of(data_map: Callable[[], DataMap], directory: DataDirectory, registry: Registry) -> Erasure:
    """The kind of job that erases; it needs the data map, which needs jobs, so it is asked for later."""
    memory = ErasureRecord(registry, wall_clock_us)
    return Erasure(data_map, memory, signing_with(directory.tls), now_us=wall_clock_us)


def start_jobs(
    directory: DataDirectory,
    registry: Registry,
    store: SeriesStore,
    live: RuntimeSettings,
    gate: Gate,
    supervisor: Supervisor,
    stack: contextlib.AsyncExitStack,
    statistics: Statistics,
    *,
    kinds: Sequence[JobKind] = (),
    chores: Sequence[Chore] = (),
) -> JobsPart:
    """Run jobs and retention until `stack` ends. `kinds` and `chores` are those of other parts of the hub."""
    table = JobTable(registry, wall_clock_us)
    known = kinds_of(
        Export(registry, store, now_us=wall_clock_us, raw_days=lambda: live.now.store.raw_days),
        ImportCopy(directory.imports, store),
        Recompute(registry, store, lambda: retention_of(live.now), now_us=wall_clock_us),
        *kinds,
    )
    runner = JobRunner(
        table,
        known,
        directory.jobs,
        now_us=wall_clock_us,
        result_days=lambda: live.now.jobs.result_days,
        failpoints=FailPoints.from_environment(os.environ),
    )
    jobs = Jobs(table, runner, directory.jobs, now_us=wall_clock_us, keep_days=lambda: live.now.jobs.days)
    actions = Actions(ActionLog(registry), now_us=wall_clock_us, keep_days=lambda: live.now.actions.days)
    supervisor.lasting("jobs", runner.run)
    supervisor.lasting("tidying", Tidying([jobs.tidy, actions.tidy, *chores]).run)
    stack.push_async_callback(runner.stop)
    statistics.add("jobs", lambda: {"running": runner.running, **runner.counts})
    routes = [*job_routes(jobs, gate), *action_routes(actions), *settings_routes(live)]
    return JobsPart(jobs, actions, routes)
