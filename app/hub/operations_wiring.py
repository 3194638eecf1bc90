"""Builds what operators do to the data path: commands to modules, refused messages."""

from __future__ import annotations

import os
from collections.abc import Callable

from litestar.handlers import HTTPRouteHandler

from app.api.access import Gate
from app.api.routes.quarantine import quarantine_routes
from app.domain.events import EventSink
from app.hub.statistics import Statistics
from app.hub.supervisor import Supervisor
from app.ingest.directory import ModuleDirectory
from app.ingest.ingest import Ingest
from app.ingest.quarantine import Quarantine
from app.ingest.quarantine_shelf import QuarantineShelf
from app.ingest.replay import Replay
from app.services.commands.delivery import CommandDelivery
from app.services.commands.sending import Commands
from app.services.commands.tally import CommandTally
from app.services.quarantine import QuarantineDesk
from app.sources.foreign import ForeignSource
from app.sources.mqtt import MqttSource
from app.stores.failpoints import FailPoints
from app.stores.registry.commands import CommandBook
from app.stores.registry.registry import Registry
from broker.engine import Engine


def start_commands(
    registry: Registry,
    source: MqttSource,
    engine: Engine,
    supervisor: Supervisor,
    statistics: Statistics,
    events: EventSink,
    now_us: Callable[[], int],
    foreign: ForeignSource,
) -> Commands:
    """Begin to deliver and to expire commands, under the supervisor."""
    book, tally = CommandBook(registry), CommandTally()
    delivery = CommandDelivery(
        book,
        source.commands,
        engine,
        events,
        tally,
        now_us,
        FailPoints.from_environment(os.environ),
        is_foreign=foreign.is_foreign,
        sendings=foreign.sendings,
    )
    supervisor.lasting("commands", delivery.run)
    supervisor.lasting("command expiry", delivery.run_expiry)
    statistics.add("commands", delivery.statistics)
    return Commands(book, source.commands.listening, delivery.look_at, events, tally, now_us, foreign.sendings)


def quarantine_desk(
    quarantine: Quarantine,
    modules: ModuleDirectory,
    ingest: Ingest,
    source: MqttSource,
    registry: Registry,
    gate: Gate,
    now_us: Callable[[], int],
) -> list[HTTPRouteHandler]:
    """The routes of refused messages."""
    replay = Replay(modules, ingest, source.pass_on, now_us)
    return quarantine_routes(QuarantineDesk(QuarantineShelf(quarantine), replay, registry, now_us), gate)
