"""Watches the hub's tasks: none of them ends unseen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

log = logging.getLogger(__name__)

# A task that fails at each start must not fill the log.
RESTART_AFTER_S = 1.0


class Supervisor:
    """Owns the tasks of one hub; on its loop.

    `failure` is done when a task without which nothing is stored has ended by a fault: the hub must end then, rather
    than look healthy. `faults` counts failures of every task.
    """

    def __init__(self, *, restart_after_s: float = RESTART_AFTER_S) -> None:
        self.faults = 0
        self.failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._restart_after_s = restart_after_s
        self._tasks: set[asyncio.Task[None]] = set()

    def vital(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task whose failure is the hub's; its owner ends it."""
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(self._on_vital_done)
        return task

    def lasting(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """A task that begins anew when it failed, until `stop`."""
        self._tasks.add(asyncio.create_task(self._keep(name, run), name=name))

    async def stop(self) -> None:
        """Cancel the lasting tasks and wait for their end."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _keep(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await run()
            except Exception:
                self.faults += 1
                log.exception("task %s failed and begins anew", name)
            await asyncio.sleep(self._restart_after_s)

    def _on_vital_done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        self.faults += 1
        log.critical("task %s failed, nothing can be stored any more; the hub ends", task.get_name(), exc_info=error)
        if not self.failure.done():
            self.failure.set_result(None)
