"""A meter on a serial port as a module of its own: its readings go the same way as every module's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from pathlib import Path

from app.domain.settings import SerialSettings
from app.hub.roster import Roster
from app.ingest.directory import ModuleDirectory
from app.ingest.ingest import Ingest
from app.sources.serial.handoff import Handoff
from app.sources.serial.reader import MeterReading, Protocol, SerialSource
from app.stores.registry.provisioning import Template
from app.stores.registry.records import ModuleKind

log = logging.getLogger(__name__)

METERS = {dialect: Template(kind=ModuleKind.METER, dialect=dialect, period_ms=None) for dialect in ("tic", "dsmr")}
# Readings that wait until their meter is registered (one fsync); a meter sends about one a second. The oldest are shed.
MOST_WAITING = 600


class SerialMeters:
    """Runs the reader of one port. The first frame of a meter registers it, under the serial it shows."""

    def __init__(
        self, settings: SerialSettings, state_path: Path, roster: Roster, modules: ModuleDirectory, ingest: Ingest
    ) -> None:
        """Without a URL there is nothing to run."""
        self._roster = roster
        self._modules = modules
        self._ingest = ingest
        self._waiting: list[MeterReading] = []
        self._shed = 0
        self._handoff = Handoff(self._wake)
        protocol = Protocol(settings.protocol)
        self._source = (
            SerialSource(settings.url, self._handoff.put, protocol=protocol, state_path=state_path)
            if settings.url
            else None
        )
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin to read; call it on the loop."""
        self._loop = asyncio.get_running_loop()
        if self._source is not None:
            self._source.start()

    async def stop(self) -> None:
        """Close the port; what was read is taken."""
        if self._source is not None:
            await asyncio.to_thread(self._source.stop)
            self._drain()

    def adopted(self) -> None:
        """The registry changed: a meter may have its slot now."""
        waiting, self._waiting = self._waiting, []
        for reading in waiting:
            self._take(reading)

    def counters(self) -> Mapping[str, float]:
        """The reader's counters, and the readings that were shed here; none without a port."""
        if self._source is None:
            return {}
        return {**self._source.counters(), "readings_shed": self._handoff.shed + self._shed}

    def _wake(self) -> None:
        # On the reader's thread.
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._drain)

    def _drain(self) -> None:
        for reading in self._handoff.take():
            self._take(reading)

    def _take(self, reading: MeterReading) -> None:
        slot = self._modules.slot(reading.meter_serial)
        if slot is not None:
            self._ingest.take([slot], [reading.reading], reading.arrival_us)
            return
        self._waiting.append(reading)
        if len(self._waiting) > MOST_WAITING:
            del self._waiting[0]
            self._shed += 1
        self._roster.adopt(reading.meter_serial, METERS[reading.dialect])
