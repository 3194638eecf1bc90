"""Builds what stands on the data path: people, services, and the API over them."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable

from litestar import Litestar
from litestar.handlers import HTTPRouteHandler

from app.api.access import Gate
from app.api.app import make_app
from app.api.counters import ApiCounters
from app.api.routes.backups import backup_routes
from app.api.routes.commands import command_routes
from app.api.routes.credentials import credential_routes
from app.api.routes.data_map import data_map_routes
from app.api.routes.discovered import discovered_routes
from app.api.routes.doctor import doctor_routes
from app.api.routes.hub import hub_routes
from app.api.routes.metrics import metrics_routes
from app.api.routes.readings import readings_routes
from app.api.routes.state import state_routes
from app.domain.people import Principal
from app.domain.settings import Settings
from app.hub.api_wiring import serve_api
from app.hub.backup_wiring import BackingUp
from app.hub.credential_follower import CredentialFollower
from app.hub.data_directory import DataDirectory
from app.hub.data_map_wiring import data_map_of
from app.hub.doctor.examination import doctor_of_hub
from app.hub.fleet_wiring import FleetParts, fleet_routes, start_fleet
from app.hub.foreign_wiring import ForeignModules
from app.hub.jobs_wiring import erasure_of, start_jobs
from app.hub.live_wiring import start_live
from app.hub.module_watch import ModuleWatch
from app.hub.operations_wiring import quarantine_desk, start_commands
from app.hub.people_wiring import People, start_people
from app.hub.roster import Roster
from app.hub.statistics import Statistics
from app.hub.stop_request import StopRequest
from app.hub.supervisor import Supervisor
from app.hub.version import VERSION
from app.ingest.directory import ModuleDirectory
from app.ingest.ingest import Ingest
from app.ingest.live import LiveState
from app.ingest.quarantine import Quarantine
from app.ingest.tail import Tail
from app.protocol.hub_file import ApiFacts
from app.services.data_map.data_map import DataMap
from app.services.discovered import Discovered
from app.services.fleet.fleet import Fleet
from app.services.fleet.operations import FleetOperations
from app.services.group_power import GroupPower
from app.services.jobs.bulk import Bulk
from app.services.jobs.jobs import Jobs
from app.services.live.grants import LiveGrants
from app.services.mqtt_credentials import MqttCredentials
from app.services.people.parents_grant import ParentsGrant
from app.services.people.tokens import TokenTable
from app.services.readings import Readings
from app.services.runtime_settings import RuntimeSettings
from app.sources.mqtt import MqttSource
from app.sources.sessions import Sessions
from app.stores.registry.account_edits import AccountEdits
from app.stores.registry.registry import Registry, wall_clock_us
from app.stores.series.interface import SeriesStore
from broker.engine import Engine


@dataclasses.dataclass(frozen=True, slots=True)
class DataPath:
    """What runs already when the platform is built: everything from packet to disk."""

    directory: DataDirectory
    settings: Settings
    runtime_settings: RuntimeSettings
    registry: Registry
    roster: Roster
    credentials: CredentialFollower
    modules: ModuleDirectory
    live: LiveState
    sessions: Sessions
    tail: Tail
    ingest: Ingest
    quarantine: Quarantine
    store: SeriesStore
    source: MqttSource
    engine: Engine
    statistics: Statistics
    supervisor: Supervisor
    takes_readings: Callable[[], bool]
    watch: ModuleWatch
    foreign: ForeignModules


@dataclasses.dataclass(frozen=True, slots=True)
class Platform:
    """What runs on the data path."""

    api_address: tuple[str, int]
    api: ApiFacts
    tokens: TokenTable
    live_grants: LiveGrants
    gate: Gate
    app: Litestar
    # Lets the program that started this hub in, as administrator, while the hub runs.
    parents_grant: ParentsGrant
    # Set when somebody who may has asked over the API for the hub's end.
    stop_asked: asyncio.Event
    people: People
    fleet: Fleet
    jobs: Jobs
    data_map: DataMap
    path: DataPath


async def start_platform(path: DataPath, stack: contextlib.AsyncExitStack) -> Platform:
    """Build the services in order and serve the API; `stack` undoes it. Raises WattdeckError."""

    def now() -> Settings:
        return path.runtime_settings.now

    tokens = TokenTable(wall_clock_us)
    people = await start_people(path, tokens, stack, wall_clock_us)
    gate = Gate(tokens.principal_of, people.access_log, purpose_required=lambda: now().privacy.purpose_required)

    parents_grant = ParentsGrant(tokens)
    stop = StopRequest(path.registry, wall_clock_us)
    counters = ApiCounters()
    path.statistics.add("api", counters.now)

    events = path.watch.events
    parts = FleetParts(path.registry, path.modules, path.roster, path.live, path.sessions, path.supervisor)
    fleet = await start_fleet(parts, wall_clock_us)
    operations = FleetOperations(path.registry, events, now_us=wall_clock_us)
    commands = start_commands(
        path.registry,
        path.source,
        path.engine,
        path.supervisor,
        path.statistics,
        events,
        wall_clock_us,
        path.foreign.source,
    )
    backing_up = BackingUp(path)
    jobs = start_jobs(
        path.directory,
        path.registry,
        path.store,
        path.runtime_settings,
        gate,
        path.supervisor,
        stack,
        path.statistics,
        kinds=[
            Bulk(commands, operations, now_us=wall_clock_us),
            *backing_up.kinds,
            # No job runs before this function lets go of the loop.
            erasure_of(lambda: data_map, path.directory, path.registry),
        ],
    )
    live_grants, live_routes = start_live(path, gate, wall_clock_us)

    # Who logs out, is disabled or may less, listens no longer.
    def end_grants(principal: Principal) -> None:
        live_grants.end_grants_of(principal.name, principal.session_id)

    tokens.on_lost.append(end_grants)

    routes: list[HTTPRouteHandler] = [
        *state_routes(VERSION, path.statistics.now, path.takes_readings, simulated=path.directory.is_simulated),
        *live_routes,
        *readings_routes(Readings(path.registry, path.store), GroupPower(path.store, path.registry.city_numbers), gate),
        *hub_routes(parents_grant.exchange, stop.ask),
        *doctor_routes(doctor_of_hub(path.directory, now, path.statistics.now).examine),
        *metrics_routes(VERSION, path.statistics.now, is_open=path.settings.api.metrics_open),
        *people.routes(),
        *credential_routes(MqttCredentials(AccountEdits(path.registry, now_us=wall_clock_us))),
        *fleet_routes(path.registry, fleet, operations, jobs.jobs, gate, wall_clock_us),
        *discovered_routes(Discovered(path.registry, events, wall_clock_us)),
        *command_routes(commands, jobs.jobs),
        *quarantine_desk(path.quarantine, path.modules, path.ingest, path.source, path.registry, gate, wall_clock_us),
    ]
    routes += backup_routes(backing_up.start(jobs.jobs))
    data_map = data_map_of(path, jobs.jobs)
    routes += [*jobs.routes, *data_map_routes(data_map, gate)]
    app = make_app(VERSION, gate, routes)
    api = await serve_api(app, path.settings, path.directory.tls, counters, lambda: now().api.max_connections)
    stack.push_async_callback(api.server.stop)
    return Platform(
        api.address,
        api.facts,
        tokens,
        live_grants,
        gate,
        app,
        parents_grant,
        stop.asked,
        people,
        fleet,
        jobs.jobs,
        data_map,
        path,
    )
