"""Nothing is acknowledged before it is durable, whatever the disk does; and a stop ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest

from app.domain.reading import Reading
from app.ingest.committer import CommitRules, Committer
from app.ingest.ingest import Ingest
from app.ingest.live import LiveState
from app.ingest.quarantine import Quarantine, newest_refused
from app.ingest.stamping import TimeLimits
from app.ingest.tail import Tail
from app.stores.failpoints import FailPoints, parse_fail_points
from app.stores.journal.journal import Journal
from app.stores.series.schema import INGESTED
from app.stores.storage import Storage
from tests.app.ingest.readings import NOW_MS, NOW_US, FakeBatch, directory_of, periods


class CountingStorage(Storage):
    """Remembers how many batches were acknowledged at each sync."""

    def __init__(self):
        self.synced = 0

    def sync(self, descriptor):
        super().sync(descriptor)
        self.synced += 1


class World:
    def __init__(self, folder, *, fail="", minimum_free_bytes=0, segment_s=3600.0):
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.storage = CountingStorage()
        self.journal = Journal.open(folder / "journal", INGESTED, FailPoints(parse_fail_points(fail)), self.storage)
        self.tail = Tail(self.journal.read)
        self.quarantine = Quarantine(folder / "quarantine.sqlite", 100)
        self.ingest = Ingest(
            directory_of(A=periods((11, 0, None))),
            LiveState(),
            self.quarantine,
            limits=TimeLimits.of(future_minutes=5, raw_days=2, resent_days=31),
            time_zone="Europe/Paris",
            buffer_rows=1_000_000,
        )
        self.sealed = []
        rules = CommitRules(0.01, segment_s, 10**9, minimum_free_bytes)
        self.committer = Committer(
            self.journal, self.ingest, self.quarantine, self.tail, rules, disk=folder, on_sealed=self.sealed.extend
        )
        self.next_seq = 0

    def send(self, count=1):
        batch = BatchThatLooks(self, [0] * count, [b""] * count, [True] * count)
        readings = [Reading(time_ms=NOW_MS + self.next_seq + n, seq=self.next_seq + n) for n in range(count)]
        self.next_seq += count
        self.ingest.take([0] * count, readings, NOW_US, guaranteed=batch)
        return batch

    def on_disk(self):
        """What a hub would find after kill -9, without touching the files."""
        journal = Journal.open(self.folder / "journal", INGESTED)
        return sequences(
            batch for segment in journal.pending() for name, batch in journal.read(segment) if name == "raw"
        )

    @contextlib.asynccontextmanager
    async def running(self):
        task = asyncio.create_task(self.committer.run())
        try:
            yield task
        finally:
            self.committer.stop()
            await asyncio.wait([task])


class BatchThatLooks(FakeBatch):
    """Looks at the disk at the moment it is acknowledged."""

    def __init__(self, world, *columns):
        super().__init__(*columns)
        self._world = world
        self.syncs_before = None
        self.event = asyncio.Event()

    def acknowledge(self):
        super().acknowledge()
        self.syncs_before = self._world.storage.synced
        self.event.set()


def sequences(batches):
    return sorted(row["seq"] for batch in batches for row in batch.to_pylist())


async def done(batch):
    await asyncio.wait_for(batch.event.wait(), 20)


async def test_acknowledged_after_the_sync_and_readable_at_once(tmp_path):
    world = World(tmp_path / "d")
    async with world.running():
        batch = world.send(3)
        before = world.storage.synced
        await done(batch)
        assert batch.syncs_before > before
        assert world.on_disk() == [0, 1, 2]
        assert sequences(world.tail.batches("raw")) == [0, 1, 2]
    assert batch.acknowledged == 1


@pytest.mark.parametrize("point", ["journal_write", "journal_written", "journal_sync"])
@pytest.mark.parametrize("times", ["1-3", "2-4"])
async def test_a_refusing_disk_withholds_acknowledgements_and_stores_each_once(tmp_path, caplog, point, times):
    world = World(tmp_path / "d", fail=f"{point}:error=EIO@{times}")
    with caplog.at_level(logging.WARNING):
        async with world.running():
            first = world.send(2)
            await done(first)
            second = world.send(2)
            await done(second)
    assert world.committer.counters.failures == 3
    assert [record.levelname for record in caplog.records if record.name == "app.ingest.committer"] == [
        "ERROR",
        "WARNING",
    ]
    assert (first.acknowledged, second.acknowledged) == (1, 1)
    assert world.on_disk() == [0, 1, 2, 3]
    assert sequences(world.tail.batches("raw")) == [0, 1, 2, 3]


async def test_a_disk_that_can_not_be_asked_for_its_room_is_a_disk_that_refuses(tmp_path):
    """The rows must not be taken for written because something failed before they were."""
    world = World(tmp_path / "d")
    away = tmp_path / "away"
    world.folder.rename(away)
    async with world.running():
        batch = world.send()
        await world.committer.flush()
        assert batch.acknowledged == 0
        away.rename(world.folder)
        await done(batch)
        assert world.on_disk() == [0]


async def test_flush_waits_for_what_was_taken_and_returns_while_the_disk_refuses(tmp_path):
    world = World(tmp_path / "d")
    async with world.running():
        batch = world.send()
        await world.committer.flush()
        assert batch.acknowledged == 1
    refusing = World(tmp_path / "refusing", minimum_free_bytes=2**62)
    async with refusing.running():
        batch = refusing.send()
        await asyncio.wait_for(refusing.committer.flush(), 20)
        assert batch.acknowledged == 0


async def test_a_stop_while_the_disk_refuses_ends_says_what_is_lost_and_acknowledges_nothing(tmp_path, caplog):
    world = World(tmp_path / "d", minimum_free_bytes=2**62)
    async with world.running() as task:
        batch = world.send(7)
        await world.committer.flush()
    assert task.done()
    assert task.exception() is None
    assert batch.acknowledged == 0
    assert "7 readings are not stored" in caplog.text


async def test_what_was_given_up_and_still_reached_the_disk_is_archived_with_its_segment(tmp_path):
    world = World(tmp_path / "d", fail="journal_sync:error=EIO@2")
    async with world.running():
        await done(world.send(2))
        given_up = world.send(2)
        world.committer.stop()
    assert given_up.acknowledged == 0
    rows = [batch for segment in world.sealed for name, batch in world.tail.rows_of(segment) if name == "raw"]
    assert sequences(rows) == world.on_disk() == [0, 1, 2, 3]


async def test_segments_are_sealed_in_time_and_handed_over_with_their_rows(tmp_path):
    world = World(tmp_path / "d", segment_s=0.0)
    async with world.running():
        for _ in range(3):
            await done(world.send())
    rows = [batch for segment in world.sealed for name, batch in world.tail.rows_of(segment) if name == "raw"]
    assert sequences(rows) == [0, 1, 2]
    assert world.journal.pending() == world.sealed


async def test_a_batch_that_can_not_be_acknowledged_costs_the_others_nothing(tmp_path):
    world = World(tmp_path / "d")

    class Broken(FakeBatch):
        def acknowledge(self):
            raise LookupError

    async with world.running():
        world.ingest.acknowledge_later(Broken([0], [b""], [True]))
        await done(world.send())
    assert world.committer.counters.acknowledge_faults == 1


async def test_a_fault_of_ours_ends_it_loudly_and_nobody_waits_for_ever(tmp_path, monkeypatch):
    world = World(tmp_path / "d")

    def broken(*_anything):
        raise LookupError("a fault")

    monkeypatch.setattr(world.journal, "append", broken)
    async with world.running() as task:
        batch = world.send()
        await asyncio.wait_for(world.committer.flush(), 20)
        await asyncio.wait([task])
        assert isinstance(task.exception(), LookupError)
        await asyncio.wait_for(world.committer.flush(), 20)
    assert batch.acknowledged == 0


async def test_refused_messages_are_stored(tmp_path):
    world = World(tmp_path / "d")
    async with world.running():
        world.quarantine.put(NOW_US, "A", "tele", "syntax", "", b"{")
        await world.committer.flush()
        assert [message.reason for message in newest_refused(tmp_path / "d" / "quarantine.sqlite", 5)] == ["syntax"]
