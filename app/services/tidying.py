"""Retention of what stands in the registry, in bounded steps now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

# What has expired may stay a little longer; nobody waits for it.
LOOK_EACH_S = 600.0
# Between two steps others have the database.
_PAUSE_S = 0.05

# One bounded step in a worker thread; whether there may be more to do.
Chore = Callable[[], bool]


class Tidying:
    """Does each chore until nothing is left of it, then waits. A chore that raises ends `run`; run it again then."""

    def __init__(self, chores: Sequence[Chore], *, look_each_s: float = LOOK_EACH_S) -> None:
        self._chores = tuple(chores)
        self._look_each_s = look_each_s

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            for chore in self._chores:
                more = True
                while more:
                    more = await asyncio.to_thread(chore)
                    await asyncio.sleep(_PAUSE_S)
            await asyncio.sleep(self._look_each_s)
