"""An end of the hub that is asked for over the API."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

from app.domain.errors import EnvironmentFault
from app.domain.people import Principal
from app.stores.registry.actions import Deed, record
from app.stores.registry.registry import Registry

log = logging.getLogger(__name__)


class StopRequest:
    """Made on the loop; `asked` is set when somebody who may has asked."""

    def __init__(self, registry: Registry, now_us: Callable[[], int]) -> None:
        self.asked = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._registry = registry
        self._now_us = now_us

    def ask(self, by: Principal) -> int:
        """Note who asked, and have the hub ended; its process id. Blocks."""
        try:
            with self._registry.writing() as connection:
                record(connection, Deed(by.name, "hub.stop", "hub:this"), self._now_us())
        except EnvironmentFault as error:
            # A disk that is full is a reason to stop a hub, not to keep it from stopping.
            log.error("the end of the hub could not be noted among the actions: %s", error)
        log.info("%s has asked for the end of the hub", by.name)
        self._loop.call_soon_threadsafe(self.asked.set)
        return os.getpid()
