"""What modules say of themselves when they connect, carried into the registry in bulk."""

from __future__ import annotations

import asyncio
import logging

from app.domain.errors import WattdeckError
from app.protocol.messages import Message, State
from app.protocol.topics import Kind
from app.stores.registry.records import ModuleFacts
from app.stores.registry.registry import Registry

log = logging.getLogger(__name__)

# A fleet that comes back sends all its births within seconds: they are written together.
WRITE_EACH_S = 1.0


class Births:
    """Remembers the newest facts of each module until the next write; one that says the same again costs nothing."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._waiting: dict[str, ModuleFacts] = {}
        self._written: dict[str, ModuleFacts] = {}

    def on_message(self, serial: str, _slot: int, kind: Kind, message: Message, _arrival_us: int) -> None:
        """A message that is no reading."""
        if kind is not Kind.STATE or not isinstance(message, State) or message.online is False:
            return
        facts = ModuleFacts(message.period_ms, message.firmware, message.hardware, message.meter_serial)
        if facts != self._written.get(serial):
            self._waiting[serial] = facts

    async def run(self) -> None:
        """Write what waits, until cancelled."""
        while True:
            await asyncio.sleep(WRITE_EACH_S)
            if not self._waiting:
                continue
            facts, self._waiting = self._waiting, {}
            try:
                await asyncio.to_thread(self._registry.set_facts_of_many, facts)
            except WattdeckError as error:
                log.warning("facts of %d modules could not be written, they are tried again: %s", len(facts), error)
                self._waiting = facts | self._waiting
                continue
            self._written.update(facts)
