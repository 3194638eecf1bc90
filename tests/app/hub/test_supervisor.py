"""No task of the hub ends unseen."""

from __future__ import annotations

import asyncio

from app.hub.supervisor import Supervisor


async def test_a_lasting_task_that_fails_begins_anew_and_is_counted(caplog):
    supervisor = Supervisor(restart_after_s=0)
    works = asyncio.Event()
    runs = 0

    async def work():
        nonlocal runs
        runs += 1
        if runs < 3:
            raise LookupError("a fault")
        works.set()
        await asyncio.Event().wait()

    supervisor.lasting("views", work)
    await asyncio.wait_for(works.wait(), 20)
    await supervisor.stop()

    assert supervisor.faults == 2
    assert not supervisor.failure.done()
    assert caplog.text.count("task views failed") == 2
    assert "LookupError" in caplog.text


async def test_a_vital_task_that_fails_is_the_hubs_failure(caplog):
    supervisor = Supervisor()

    async def work():
        raise LookupError("a fault")

    task = supervisor.vital("committer", work())
    await asyncio.wait_for(supervisor.failure, 20)

    assert task.done()
    assert supervisor.faults == 1
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]


async def test_a_vital_task_that_ends_in_order_is_no_failure():
    supervisor = Supervisor()

    async def work():
        return

    await supervisor.vital("committer", work())
    await asyncio.sleep(0)
    assert not supervisor.failure.done()
