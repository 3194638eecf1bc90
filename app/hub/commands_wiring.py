"""Builds remote commands on the data path."""

from __future__ import annotations

from collections.abc import Callable

from app.domain.events import Event, EventSink
from app.hub.statistics import Statistics
from app.hub.supervisor import Supervisor
from app.services.commands.delivery import CommandDelivery
from app.services.commands.sending import Commands
from app.services.commands.tally import CommandTally
from app.sources.mqtt import MqttSource
from app.stores.registry.commands import CommandBook
from app.stores.registry.registry import Registry
from broker.engine import Engine


class NoEvents:
    """An `EventSink` that keeps nothing."""

    def note(self, event: Event) -> None:
        """Forget it."""


def start_commands(
    registry: Registry,
    source: MqttSource,
    engine: Engine,
    supervisor: Supervisor,
    statistics: Statistics,
    events: EventSink,
    now_us: Callable[[], int],
) -> Commands:
    """Commands for the API; their delivery and expiry run with the supervisor."""
    book, tally = CommandBook(registry), CommandTally()
    delivery = CommandDelivery(book, source.commands, engine, events, tally, now_us)
    supervisor.lasting("commands", delivery.run)
    supervisor.lasting("command expiry", delivery.run_expiry)
    statistics.parts["commands"] = delivery.statistics
    return Commands(book, source.commands.listening, delivery.look_at, events, tally, now_us)
