"""Work that follows changes: one run at a time, one more when something changed meanwhile, again when it failed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from app.domain.errors import WattdeckError

log = logging.getLogger(__name__)

RETRY_S = 2.0


class CatchingUp:
    """Runs `work` on the loop after each `ask`. `work` takes what has changed, and puts it back when it raises."""

    def __init__(
        self, name: str, work: Callable[[], Awaitable[None]], *, failing: str, retry_s: float = RETRY_S
    ) -> None:
        """`failing` is the sentence of the log when `work` raises; it is said once until it works again."""
        self._name = name
        self._work = work
        self._failing = failing
        self._retry_s = retry_s
        self._asked = False
        self._task: asyncio.Task[None] | None = None

    def ask(self) -> None:
        """Something changed; call it on the loop."""
        self._asked = True
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        """Give up what is being tried."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        said = False
        while self._asked:
            self._asked = False
            try:
                await self._work()
            except Exception as error:
                # The top of a task: what comes is said, and tried again.
                if not said:
                    ours = not isinstance(error, WattdeckError)
                    log.error("%s: %s", self._failing, error, exc_info=error if ours else None)
                said = True
                self._asked = True
                await asyncio.sleep(self._retry_s)
            else:
                if said:
                    log.warning("no longer: %s", self._failing)
                said = False
