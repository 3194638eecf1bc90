"""Builds the fleet's services and their routes."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable

from litestar.handlers import HTTPRouteHandler

from app.api.access import Gate
from app.api.routes.module_admin import module_admin_routes
from app.api.routes.modules import module_routes
from app.api.routes.pairings import pairing_routes
from app.api.routes.sites import site_routes
from app.api.routes.views import view_routes
from app.hub.roster import Roster
from app.hub.supervisor import Supervisor
from app.ingest.directory import ModuleDirectory
from app.ingest.live import LiveState
from app.services.fleet.fleet import Fleet
from app.services.fleet.operations import FleetOperations
from app.services.jobs.jobs import Jobs
from app.sources.sessions import Sessions
from app.stores.registry.fleet_rows import FleetRows
from app.stores.registry.registry import Registry
from app.stores.registry.site_edits import SiteEdits
from app.stores.registry.views import SavedViews

# A start waits this long for the fleet to be read, which some thousands of modules need.
_FIRST_READING_S = 0.5


@dataclasses.dataclass(frozen=True, slots=True)
class FleetParts:
    """What of the data path the fleet's services stand on."""

    registry: Registry
    modules: ModuleDirectory
    roster: Roster
    live: LiveState
    sessions: Sessions
    supervisor: Supervisor


async def start_fleet(parts: FleetParts, now_us: Callable[[], int]) -> Fleet:
    """Follow the fleet, and begin to read it. The API need not wait for a large one; until then it says so."""
    fleet = Fleet(FleetRows(parts.registry), parts.modules.slot, parts.live, parts.sessions, now_us=now_us)
    # First followed, then read: a change in between is read twice, never missed.
    fleet.follow(parts.registry.subscribe)
    parts.roster.on_adopted.append(fleet.ask)
    fleet.reload()
    parts.supervisor.lasting("fleet table", fleet.run)
    parts.supervisor.lasting("usual gaps", fleet.watch_gaps)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(fleet.loaded.wait(), _FIRST_READING_S)
    return fleet


def fleet_routes(
    registry: Registry, fleet: Fleet, operations: FleetOperations, jobs: Jobs, gate: Gate, now_us: Callable[[], int]
) -> list[HTTPRouteHandler]:
    """The routes of modules, pairings, sites and views."""
    sites = SiteEdits(registry, now_us=now_us)
    return [
        *module_routes(fleet, operations, sites, gate),
        *module_admin_routes(fleet, operations, jobs),
        *pairing_routes(fleet, operations, gate),
        *site_routes(sites, gate),
        *view_routes(SavedViews(registry, now_us=now_us)),
    ]
