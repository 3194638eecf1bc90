"""Readings that flow through ingest, journal and store at a steady rate, while something is measured."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from app.domain.keys import CollectionLevel, SupplyPeriod, SupplyPeriods
from app.domain.reading import Reading
from app.hub.loop_lag import LoopLag
from app.ingest.archiver import Archiver
from app.ingest.committer import CommitRules, Committer
from app.ingest.directory import ModuleDirectory, ModuleEntry
from app.ingest.ingest import Ingest
from app.ingest.live import LiveState
from app.ingest.quarantine import Quarantine
from app.ingest.stamping import TimeLimits
from app.ingest.tail import Tail
from app.protocol.codec import decode_tele
from app.protocol.golden import golden
from app.stores.journal.journal import Journal
from app.stores.series.delta_store import DeltaSeriesStore
from app.stores.series.rollup import NoFacts
from app.stores.series.schema import INGESTED

_SLICE_S = 0.02


class Flow:
    """What a measurement may use while readings flow in."""

    def __init__(self, store: DeltaSeriesStore, lag: LoopLag, ingest: Ingest) -> None:
        self.store = store
        self.lag = lag
        self.ingest = ingest


@contextlib.asynccontextmanager
async def flowing(folder: Path, keys: Sequence[int], rate: int) -> AsyncIterator[Flow]:
    """The series in `folder / "series"`, with so many readings a second for these keys, round and round.

    Everything is as in the hub, save that readings come decoded instead of from a broker.
    """
    directory = ModuleDirectory()
    directory.put(ModuleEntry(str(number), _period(key)) for number, key in enumerate(keys))
    journal = Journal.open(folder / "journal", INGESTED)
    tail = Tail(journal.read)
    store = DeltaSeriesStore(folder / "series", facts=NoFacts, now_us=_now_us, tail=tail.batches)
    quarantine = Quarantine(folder / "quarantine.sqlite", 100)
    live = LiveState()
    live.reserve(len(keys))
    ingest = Ingest(
        directory,
        live,
        quarantine,
        limits=TimeLimits.of(future_minutes=5, raw_days=2, resent_days=31),
        time_zone="Europe/Paris",
        buffer_rows=1_000_000,
    )
    archiver = Archiver(journal, store, tail, now_us=_now_us)
    archiver.start()
    rules = CommitRules(commit_s=0.25, segment_s=10, segment_bytes=64_000_000, minimum_free_bytes=0)
    committer = Committer(journal, ingest, quarantine, tail, rules, disk=folder, on_sealed=archiver.put)
    committing = asyncio.create_task(committer.run())
    lag = LoopLag()
    others = [asyncio.create_task(lag.run()), asyncio.create_task(_feed(ingest, len(keys), rate))]
    try:
        yield Flow(store, lag, ingest)
    finally:
        for task in others:
            task.cancel()
        committer.stop()
        await committing
        await asyncio.to_thread(archiver.stop, 60.0)
        store.close()


async def _feed(ingest: Ingest, modules: int, rate: int) -> None:
    template = decode_tele(golden("tele"))
    assert isinstance(template, Reading)
    sent = 0
    began = time.monotonic()
    while True:
        await asyncio.sleep(_SLICE_S)
        due = int((time.monotonic() - began) * rate)
        now_us = _now_us()
        numbers = range(sent, due)
        readings = [
            Reading(
                time_ms=now_us // 1000,
                boot_id=template.boot_id,
                seq=number // modules,
                apparent_va=template.apparent_va,
                drawn_wh=number // modules,
                voltage_v=template.voltage_v,
                current_a=template.current_a,
                rssi_dbm=template.rssi_dbm,
                frame_gap_ms=template.frame_gap_ms,
                state=0,
            )
            for number in numbers
        ]
        ingest.take([number % modules for number in numbers], readings, now_us)
        sent = due


def _period(key: int) -> SupplyPeriods:
    return SupplyPeriods([SupplyPeriod(key, 0, None, CollectionLevel.SECOND, assigned=True)])


def _now_us() -> int:
    return time.time_ns() // 1000
