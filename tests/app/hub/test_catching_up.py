"""Changes are followed one at a time, none is forgotten, and a failure is tried again."""

from __future__ import annotations

import asyncio
import logging

from app.domain.errors import EnvironmentFault
from app.hub.catching_up import CatchingUp


async def test_what_changes_meanwhile_has_one_more_run():
    begun, go_on = asyncio.Semaphore(0), asyncio.Semaphore(0)
    running = []

    async def work():
        running.append(1)
        assert len(running) == 1, "one at a time"
        begun.release()
        await go_on.acquire()
        running.pop()

    catching_up = CatchingUp("test", work, failing="it fails")
    catching_up.ask()
    await begun.acquire()
    catching_up.ask()
    catching_up.ask()
    go_on.release()
    await asyncio.wait_for(begun.acquire(), 20)
    go_on.release()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert begun.locked(), "two changes during one run are one run more"
    await catching_up.stop()


async def test_a_failure_is_said_once_and_tried_until_it_works(caplog):
    done = asyncio.Event()
    errors = [EnvironmentFault("database away"), EnvironmentFault("database away"), LookupError("ours")]

    async def work():
        if errors:
            raise errors.pop(0)
        done.set()

    catching_up = CatchingUp("test", work, failing="changes can not be read", retry_s=0)
    with caplog.at_level(logging.WARNING):
        catching_up.ask()
        await asyncio.wait_for(done.wait(), 20)
        await asyncio.sleep(0)
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    await catching_up.stop()
