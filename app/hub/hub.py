"""The hub: builds every part of the data path, starts them in order, and stops them so that nothing taken is lost."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from app.domain.errors import EnvironmentFault
from app.domain.settings import Settings
from app.hub.births import Births
from app.hub.configuration import Layers
from app.hub.credential_follower import CredentialFollower
from app.hub.data_directory import DataDirectory
from app.hub.engines import build_engine, hear_modules
from app.hub.fleet_feed import FleetFeed
from app.hub.foreign_wiring import ForeignModules
from app.hub.jobs_wiring import follow_settings, limits_of, retention_of, runtime_settings_of
from app.hub.loop_lag import LoopLag
from app.hub.module_watch import ModuleWatch
from app.hub.platform import DataPath, Platform, start_platform
from app.hub.roster import Roster
from app.hub.serial_meters import SerialMeters
from app.hub.statistics import Statistics
from app.hub.supervisor import Supervisor
from app.ingest.archiver import Archiver
from app.ingest.columns import Columns
from app.ingest.committer import CommitRules, Committer
from app.ingest.directory import ModuleDirectory
from app.ingest.ingest import Bools, Ingest
from app.ingest.live import LiveState
from app.ingest.quarantine import Quarantine
from app.ingest.tail import Tail
from app.protocol.dialects import Dialects
from app.protocol.messages import Message
from app.protocol.topics import Kind
from app.sources.heard import HeardModules
from app.sources.mqtt import MqttSource
from app.sources.sessions import Sessions
from app.stores.failpoints import FailPoints
from app.stores.journal.journal import Journal
from app.stores.registry.registry import Registry, wall_clock_us
from app.stores.series.delta_store import DeltaSeriesStore
from app.stores.series.schema import INGESTED
from app.stores.series.upkeep import UpkeepRules
from broker.engine import Engine

log = logging.getLogger(__name__)

_MEGABYTE = 1_000_000
COMMIT_RULES = ("ingest.commit_ms", "ingest.segment_seconds", "ingest.segment_mb", "ingest.minimum_free_mb")
# What waits in the journal at the end gets this long to reach the series store; the rest is replayed at the next start.
STOP_ARCHIVE_S = 10.0
# A commit takes milliseconds; on a disk that stalls, senders of what is not durable send it again.
STOP_FLUSH_S = 5.0


@dataclasses.dataclass(frozen=True, slots=True)
class RunningHub:
    """What the outside may ask of a hub that listens."""

    addresses: Mapping[str, tuple[str, int]]
    statistics: Callable[[], Mapping[str, float]]
    reload: Callable[[], None]
    # Done when nothing can be stored any more by a fault of ours: the hub must be ended.
    failure: asyncio.Future[None]
    platform: Platform


@contextlib.asynccontextmanager
async def running_hub(
    directory: DataDirectory,
    settings: Settings,
    layers: Layers | None = None,
    *,
    lines_dropped: Callable[[], int] = lambda: 0,
    dialects: Dialects | None = None,
) -> AsyncIterator[RunningHub]:
    """A hub on one data directory in the running loop, until the block ends. `lines_dropped`: those its log has lost.

    The end takes the reverse way of the start: listeners first, then a last commit, the series store, the registry.
    `layers` is where the settings come from, for changing them while it runs; None: a program made them. `dialects` are
    those of modules of others; None: every one there is.
    Raises WattdeckError when something stands in the way; what was started is stopped again then.
    """
    async with contextlib.AsyncExitStack() as stack:
        failpoints = FailPoints.from_environment(os.environ)
        supervisor = Supervisor()
        registry = stack.enter_context(
            Registry.open(
                settings.registry.url or directory.registry, upgrade_server=settings.registry.upgrade == "yes"
            )
        )
        layers = layers or Layers.around(directory.settings, settings)
        runtime_settings = runtime_settings_of(layers, registry)
        modules = ModuleDirectory()
        roster = Roster(registry, modules, default_zone=settings.store.time_zone)
        roster.load()
        roster.follow()
        stack.push_async_callback(roster.stop)

        journal = Journal.open(directory.journal, INGESTED, failpoints)
        tail = Tail(journal.read)
        store = _open_store(directory, settings, roster, tail, failpoints)
        stack.callback(store.close)
        journal.skip_numbers(store.newest_label(journal.journal_id))
        archiver = Archiver(journal, store, tail, now_us=wall_clock_us, upkeep_each_s=settings.store.upkeep_seconds)
        archiver.start()
        stack.callback(archiver.stop, STOP_ARCHIVE_S)

        watch = ModuleWatch(directory, runtime_settings, registry, modules, stack, wall_clock_us)
        live = LiveState()
        live.reserve(len(modules))
        quarantine = Quarantine(directory.quarantine, settings.ingest.quarantine_rows)
        fleet = FleetFeed(modules, store.note_fleet, now_us=wall_clock_us)
        ingest = _build_ingest(settings, modules, live, quarantine, [fleet.observe, watch.readings.observe])
        committer = Committer(
            journal, ingest, quarantine, tail, _commit_rules(settings), disk=directory.root, on_sealed=archiver.put
        )
        stack.push_async_callback(_stop_committer, committer, supervisor.vital("committer", committer.run()))

        births = Births(registry)

        def on_message(serial: str, slot: int, kind: Kind, message: Message, arrival_us: int) -> None:
            if heard is not None and not source.is_old_news:
                heard.on_message(serial, slot, kind, message, arrival_us)
            births.on_message(serial, slot, kind, message, arrival_us)
            watch.recorder.on_message(serial, slot, kind, message, arrival_us)

        foreign = ForeignModules(registry, modules, ingest, quarantine, live, watch.recorder, wall_clock_us, dialects)
        stack.push_async_callback(foreign.register.stop)
        source = MqttSource(
            modules.slot,
            ingest,
            quarantine,
            serial_of=modules.serial,
            on_message=on_message,
            adopt=roster.adopt if _adopts(settings) else None,
            foreign=foreign.source,
        )
        heard = HeardModules(source, modules.serial) if settings.hub.engine == "external" else None
        watch.follow(source)
        roster.on_adopted.append(source.adopted)
        roster.on_adopted.append(lambda: foreign.source.adopted(wall_clock_us()))
        sessions = Sessions(modules.slot, foreign.presence)
        source.on_connected.append(sessions.opened)
        source.on_disconnected.append(sessions.closed)
        roster.on_adopted.append(sessions.adopted)
        roster.on_adopted.append(watch.recorder.adopted)
        credentials = CredentialFollower(
            registry,
            allow_anonymous=settings.broker.allow_anonymous,
            on_changed_elsewhere=watch.recorder.credential_changed,
        )
        engine = build_engine(settings, directory, credentials.authenticator, source)
        if heard is not None:
            hear_modules(engine, source, heard)
            supervisor.lasting("heard modules", heard.run)
        credentials.follow(engine)
        stack.push_async_callback(credentials.stop)
        try:
            await engine.start()
        except OSError as error:
            raise EnvironmentFault(f"the broker can not listen: {error.strerror or error}; see --mqtt-port") from error
        stack.push_async_callback(_stop_engine, engine, committer)
        ingest.hold_guaranteed = engine.hold_guaranteed
        source.forget_topics = engine.forget_topics

        meters = SerialMeters(settings.serial, directory.serial, roster, modules, ingest)
        roster.on_adopted.append(meters.adopted)
        meters.start()
        stack.push_async_callback(meters.stop)
        lag = LoopLag()
        for name, run in (
            ("lag", lag.run),
            ("births", births.run),
            ("fleet", fleet.run),
            ("used credentials", credentials.run),
        ):
            supervisor.lasting(name, run)
        foreign.run(supervisor)
        stack.push_async_callback(supervisor.stop)

        statistics = Statistics(
            ingest, committer, archiver, journal, quarantine, engine, source, modules, meters, lag, supervisor
        )
        statistics.add("foreign", foreign.statistics)
        statistics.add("hub", lambda: {"log_lines_dropped": lines_dropped()})

        def takes_readings() -> bool:
            return committer.failing_since is None and not supervisor.failure.done()

        follow_settings(runtime_settings, store, ingest, quarantine)
        runtime_settings.on_change(COMMIT_RULES, lambda settings: committer.set_rules(_commit_rules(settings)))
        path = DataPath(
            directory,
            settings,
            runtime_settings,
            registry,
            roster,
            credentials,
            modules,
            live,
            sessions,
            tail,
            ingest,
            quarantine,
            store,
            source,
            engine,
            statistics,
            supervisor,
            takes_readings,
            watch,
            foreign,
        )
        platform = await start_platform(path, stack)

        def reload() -> None:
            roster.reload()
            foreign.register.reload()
            credentials.reload()
            platform.people.reload()
            platform.fleet.reload()

        addresses = {**engine.addresses(), "api": platform.api_address}
        yield RunningHub(addresses, statistics.now, reload, supervisor.failure, platform)


def _open_store(
    directory: DataDirectory, settings: Settings, roster: Roster, tail: Tail, failpoints: FailPoints
) -> DeltaSeriesStore:
    kept = settings.store
    return DeltaSeriesStore(
        directory.series,
        facts=lambda: roster.facts,
        now_us=wall_clock_us,
        tail=tail.batches,
        retention=retention_of(settings),
        rules=UpkeepRules(kept.merge_files, kept.lease_minutes * 60, kept.clean_minutes * 60),
        failpoints=failpoints,
    )


def _build_ingest(
    settings: Settings,
    modules: ModuleDirectory,
    live: LiveState,
    quarantine: Quarantine,
    observers: Sequence[Callable[[Columns, Bools], None]],
) -> Ingest:
    return Ingest(
        modules,
        live,
        quarantine,
        limits=limits_of(settings),
        time_zone=settings.store.time_zone,
        buffer_rows=settings.ingest.buffer_rows,
        observers=observers,
    )


def _commit_rules(settings: Settings) -> CommitRules:
    return CommitRules(
        commit_s=settings.ingest.commit_ms / 1000,
        segment_s=settings.ingest.segment_seconds,
        segment_bytes=settings.ingest.segment_mb * _MEGABYTE,
        minimum_free_bytes=settings.ingest.minimum_free_mb * _MEGABYTE,
    )


def _adopts(settings: Settings) -> bool:
    choice = settings.registry.adopt_unknown
    return choice == "yes" or (choice == "auto" and settings.broker.allow_anonymous)


async def _stop_engine(engine: Engine, committer: Committer) -> None:
    # What was taken is answered before its connections close; a disk that stalls must not keep them open for ever.
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(committer.flush(), STOP_FLUSH_S)
    await engine.stop()


async def _stop_committer(committer: Committer, running: asyncio.Task[None]) -> None:
    committer.stop()
    # Its failure was told when it happened.
    await asyncio.wait([running])
