"""Keeps the devices of others that were heard in step with the registry, and gives their dialects the time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from app.domain.errors import WattdeckError
from app.hub.catching_up import CatchingUp
from app.sources.foreign import ForeignSource
from app.stores.registry.foreign_devices import ForeignDevices
from app.stores.registry.records import Change, DevicesChanged, DeviceStanding
from app.stores.registry.registry import Registry

log = logging.getLogger(__name__)

DUE_EACH_S = 1.0
WRITE_EACH_S = 3.0
# One transaction, some tens of milliseconds of a thread.
_WRITTEN_AT_ONCE = 1000
_FORGET_EACH_S = 3600.0
# What was only discovered is of whoever passed by.
FORGOTTEN_AFTER_US = 30 * 86_400_000_000


class DeviceRegister:
    """Loads the devices once and follows what people decide; everything but `load` is for the loop."""

    def __init__(self, registry: Registry, source: ForeignSource, now_us: Callable[[], int]) -> None:
        self._registry = registry
        self._devices = ForeignDevices(registry, now_us=now_us)
        self._source = source
        self._now_us = now_us
        self._loop: asyncio.AbstractEventLoop | None = None
        self.write_failures = 0
        self._writing = asyncio.Lock()
        self._reloading = CatchingUp(
            "foreign devices", self._read_all, failing="devices of others can not be read from the registry"
        )

    def load(self) -> None:
        """Read everything; blocks, so before the loop serves anybody."""
        self._source.known.load(self._devices.every())

    def follow(self) -> None:
        """From now on take over each change of the registry."""
        self._loop = asyncio.get_running_loop()
        self._registry.subscribe(self._on_change)

    def reload(self) -> None:
        """Read every device anew: another process has changed the registry."""
        self._reloading.ask()

    async def stop(self) -> None:
        """Give up what is being read, and write what was heard last."""
        await self._reloading.stop()
        await self._write()

    async def forget_facts(self, serials: Sequence[str]) -> None:
        """Know no more of modules than that they are there; on return nothing that was known is on its way to disk."""
        async with self._writing:
            for serial in serials:
                self._source.forget_facts(serial)

    async def run(self) -> None:
        """Tell the time once a second, until cancelled."""
        while True:
            await asyncio.sleep(DUE_EACH_S)
            self._source.due(self._now_us())

    async def run_writing(self) -> None:
        """Write what was heard, and forget who has not been heard for long, until cancelled."""
        loop = asyncio.get_running_loop()
        forget_at = loop.time()
        while True:
            await asyncio.sleep(WRITE_EACH_S)
            await self._write()
            if loop.time() >= forget_at:
                forget_at = loop.time() + _FORGET_EACH_S
                await self._forget()

    async def _write(self) -> None:
        async with self._writing:
            await self._write_alone()

    async def _write_alone(self) -> None:
        known = self._source.known
        # No more than there were: what comes meanwhile is for the next time.
        for _ in range(known.unwritten // _WRITTEN_AT_ONCE + 1):
            seen = known.take_unwritten(_WRITTEN_AT_ONCE)
            if not seen:
                return
            try:
                await asyncio.to_thread(self._devices.note, seen)
            except WattdeckError as error:
                known.put_back(seen)
                self.write_failures += 1
                log.warning("%d foreign devices could not be written, they are tried again: %s", len(seen), error)
                return

    async def _forget(self) -> None:
        try:
            gone = await asyncio.to_thread(self._devices.forget_unheard, self._now_us() - FORGOTTEN_AFTER_US)
        except WattdeckError as error:
            log.warning("foreign devices that are long gone could not be forgotten, it is tried again: %s", error)
            return
        for standing in gone:
            self._source.forget(standing.dialect, standing.device)

    def _on_change(self, change: Change) -> None:
        # Called in whatever thread changed the registry.
        if isinstance(change, DevicesChanged) and self._loop is not None:
            self._loop.call_soon_threadsafe(self._put, change.standings)

    def _put(self, standings: Sequence[DeviceStanding]) -> None:
        for standing in standings:
            self._source.put(standing, self._now_us())

    async def _read_all(self) -> None:
        self._source.known.load(await asyncio.to_thread(self._devices.every))
