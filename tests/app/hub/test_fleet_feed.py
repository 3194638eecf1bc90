"""The fleet's live sums hear what was kept, and know modules that come later."""

from __future__ import annotations

import asyncio

import numpy as np

from app.domain.reading import Reading
from app.hub import fleet_feed
from app.hub.fleet_feed import FleetFeed
from app.ingest.directory import ModuleDirectory, ModuleEntry
from tests.app.ingest.readings import NOW_MS, NOW_US, columns_of, periods


async def test_closed_buckets_are_handed_over_with_what_was_kept(monkeypatch):
    monkeypatch.setattr(fleet_feed, "_CLOSE_EACH_S", 0.001)
    directory, noted, got = ModuleDirectory(), [], asyncio.Event()
    directory.put([ModuleEntry("A", periods((11, 0, None)), group=3)])
    now_us = NOW_US

    def note(rows):
        noted.extend(rows.to_pylist())
        got.set()

    feed = FleetFeed(directory, note, now_us=lambda: now_us)
    for second in range(30):
        if second == 5:
            directory.put([ModuleEntry("B", periods((21, 0, None)), group=3)])
        readings = [
            Reading(time_ms=NOW_MS + second * 1000, apparent_va=100, drawn_wh=1000 + second),
            Reading(time_ms=NOW_MS + second * 1000, apparent_va=900, drawn_wh=9000 + second),
        ]
        feed.observe(
            columns_of(*readings[: len(directory)], slots=[0, 1][: len(directory)]),
            np.array([True, False])[: len(directory)],
        )
    now_us += 10**9
    running = asyncio.create_task(feed.run())
    await asyncio.wait_for(got.wait(), 20)
    running.cancel()

    assert {row["reporting"] for row in noted if row["reporting"]} == {1}, "what was not kept is not heard"
    assert {row["va_sum"] for row in noted if row["va_modules"]} == {100}
    assert len({row["key"] for row in noted}) == 2, "the fleet and the city"
