"""Builds what stands on the data path: people, services, and the API over them."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable

from litestar import Litestar
from litestar.handlers import HTTPRouteHandler

from app.api.access import Gate
from app.api.app import make_app
from app.api.routes.backups import backup_routes
from app.api.routes.readings import readings_routes
from app.api.routes.state import state_routes
from app.api.server import ApiServer
from app.domain.credentials import hash_secret
from app.domain.people import ROLE_SCOPES, Principal, Role
from app.domain.settings import Settings
from app.hub.backup_wiring import backups_of
from app.hub.credential_follower import CredentialFollower
from app.hub.data_directory import DataDirectory
from app.hub.roster import Roster
from app.hub.statistics import Statistics
from app.hub.supervisor import Supervisor
from app.hub.version import VERSION
from app.ingest.directory import ModuleDirectory
from app.ingest.ingest import Ingest
from app.ingest.live import LiveState
from app.ingest.quarantine import Quarantine
from app.services.access_log import AccessLog
from app.services.group_power import GroupPower
from app.services.people.tokens import TokenTable
from app.services.readings import Readings
from app.sources.mqtt import MqttSource
from app.stores.registry.registry import Registry
from app.stores.series.interface import SeriesStore
from broker.engine import Engine


def wall_clock_us() -> int:
    """UTC microseconds since 1970."""
    return time.time_ns() // 1000


@dataclasses.dataclass(frozen=True, slots=True)
class DataPath:
    """What runs already when the platform is built: everything from packet to disk."""

    directory: DataDirectory
    settings: Settings
    registry: Registry
    roster: Roster
    credentials: CredentialFollower
    modules: ModuleDirectory
    live: LiveState
    ingest: Ingest
    quarantine: Quarantine
    store: SeriesStore
    source: MqttSource
    engine: Engine
    statistics: Statistics
    supervisor: Supervisor
    takes_readings: Callable[[], bool]


@dataclasses.dataclass(frozen=True, slots=True)
class Platform:
    """What runs on the data path."""

    api_address: tuple[str, int]
    tokens: TokenTable
    gate: Gate
    app: Litestar

    def let_parent_in(self, token: str) -> None:
        """Let the program that started this hub in, as administrator, while the hub runs."""
        self.tokens.put(hash_secret(token), Principal("embedded", ROLE_SCOPES[Role.ADMIN], role=Role.ADMIN), None)


async def start_platform(path: DataPath, stack: contextlib.AsyncExitStack) -> Platform:
    """Build the services in order and serve the API; `stack` undoes it. Raises WattdeckError."""
    tokens = TokenTable(wall_clock_us)
    access_log = AccessLog()
    gate = Gate(tokens.principal_of, access_log, purpose_required=lambda: True)

    routes: list[HTTPRouteHandler] = [
        *state_routes(VERSION, path.statistics.now, path.takes_readings, simulated=False),
        *readings_routes(Readings(path.registry, path.store), GroupPower(path.store, path.registry.city_numbers), gate),
        *backup_routes(backups_of(path)),
    ]
    settings = path.settings
    app = make_app(VERSION, gate, routes)
    api = ApiServer(app, settings.listen.api_host, settings.listen.api_port)
    address = await api.start()
    stack.push_async_callback(api.stop)
    return Platform(address, tokens, gate, app)
