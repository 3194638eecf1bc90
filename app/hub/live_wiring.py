"""Builds the live feed and the events' RSSI watch on a running data path."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from litestar.handlers import HTTPRouteHandler

from app.api.access import Gate
from app.api.routes.events import events_routes
from app.api.routes.live import live_routes
from app.hub.engines import OPERATORS, operators_broker
from app.services.events.rssi_steps import RssiSteps
from app.services.live.feed import LiveFeed
from app.services.live.grants import LiveGrants
from app.services.live.roster import LiveRoster

if TYPE_CHECKING:
    from app.hub.platform import DataPath


def start_live(path: DataPath, gate: Gate, now_us: Callable[[], int]) -> tuple[LiveGrants, list[HTTPRouteHandler]]:
    """Start the feed; the grants, and the routes of feed and events."""
    watch, modules, settings = path.watch, path.modules, path.settings
    broker = operators_broker(path.engine)
    grants = LiveGrants(now_us, lambda: path.runtime_settings.now.live.grant_minutes)
    grants.close_sessions = broker.end_sessions
    path.credentials.authenticator.find_grant = grants.find
    path.source.on_connected.append(grants.opened)
    path.source.on_disconnected.append(grants.closed)
    roster = LiveRoster(modules, lambda: path.roster.facts, now_us)
    feed = LiveFeed(
        broker,
        grants,
        path.live,
        modules,
        path.sessions,
        roster,
        watch.buffer,
        watch.readings,
        statistics=path.statistics.now,
        now_us=now_us,
    )
    steps = RssiSteps(path.live, modules, watch.events, now_us)
    path.supervisor.lasting("live feed", feed.run)
    path.supervisor.lasting("RSSI steps", steps.run)

    def counted() -> Mapping[str, float]:
        return {**dataclasses.asdict(feed.counters), "grants": len(grants), "events_shed": watch.buffer.shed}

    path.statistics.add("live", counted)
    path.statistics.add("events", watch.counted)
    path.statistics.add("modules", lambda: {"connected": path.sessions.count})

    def is_module(serial: str) -> bool:
        return modules.slot(serial) is not None

    def address() -> tuple[str, int]:
        return path.engine.addresses()[OPERATORS]

    routes = [
        *live_routes(grants, roster, feed.picture, is_module, address, gate),
        *events_routes(watch.store.reader, is_module, settings.store.time_zone),
    ]
    return grants, routes
