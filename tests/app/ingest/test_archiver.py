"""Segments reach the series store in order, each once, whatever fails on the way; and nothing fails unseen."""

from __future__ import annotations

import logging
import threading

import pytest

from app.ingest.archiver import Archiver
from app.ingest.tail import Tail
from app.stores.errors import StoreDamaged, StoreUnavailable
from app.stores.failpoints import FailPoints, parse_fail_points
from app.stores.journal.journal import Journal
from app.stores.series.delta_store import DeltaSeriesStore
from app.stores.series.schema import INGESTED
from app.stores.storage import Storage
from tests.app.stores.series.contract import ContractFacts
from tests.helpers.raw_rows import T0, raw_table, second_row

NOW_US = T0 + 3600 * 10**6
WAIT_S = 20


class World:
    """A journal with a writer, and an archiver over a real store; `store` may be taken out of its hands."""

    def __init__(self, folder, *, fail="", storage=None):
        self.journal = Journal.open(folder / "journal", INGESTED, FailPoints(parse_fail_points(fail)), storage)
        self.tail = Tail(self.journal.read)
        self.store = DeltaSeriesStore(
            folder / "series",
            facts=ContractFacts,
            now_us=lambda: NOW_US,
            failpoints=FailPoints(parse_fail_points(fail)),
        )
        self.archiver = Archiver(
            self.journal, self.store, self.tail, now_us=lambda: NOW_US, upkeep_each_s=0.01, retry_s=0.01
        )
        self.next_second = 0

    def segment(self, rows=3):
        for batch in raw_table([second_row(1, self.next_second + n) for n in range(rows)]).to_batches():
            self.journal.append("raw", batch)
            self.journal.sync()
            self.tail.add({"raw": batch})
        self.next_second += rows
        segment = self.journal.seal()
        self.tail.seal([segment])
        return segment

    def stored(self):
        return self.store.read_many([1], 0, 2**62).column("seq").to_pylist()

    def close(self):
        self.archiver.stop(WAIT_S)
        self.store.close()


@pytest.fixture
def worlds(tmp_path):
    made = []

    def make(**options):
        made.append(World(tmp_path, **options))
        return made[-1]

    yield make
    for world in made:
        world.close()


def until(true, why="did not happen"):
    tick = threading.Event()
    for _ in range(WAIT_S * 100):
        if true():
            return
        tick.wait(0.01)
    raise AssertionError(why)


class FailsAtFirst:
    """A method that raises some times, then works."""

    def __init__(self, method, *errors):
        self._method = method
        self._errors = list(errors)
        self.calls = 0

    def __call__(self, *words):
        self.calls += 1
        if self._errors:
            raise self._errors.pop(0)
        return self._method(*words)


def test_segments_are_archived_in_order_and_removed(worlds):
    world = worlds()
    world.archiver.start()
    world.archiver.put([world.segment(), world.segment()])

    until(lambda: world.archiver.counters.segments == 2)
    assert world.stored() == list(range(6))
    assert world.journal.pending() == []
    assert world.tail.batches("raw") == []


def test_an_earlier_runs_segments_are_replayed_each_exactly_once(worlds, tmp_path, caplog):
    first = worlds(fail="segment_delete:error=EIO@1+")
    first.archiver.start()
    first.archiver.put([first.segment()])
    until(lambda: first.archiver.counters.failures > 2)
    assert first.stored() == [0, 1, 2], "in the store, but its file can not be removed"
    first.close()

    second = worlds()
    second.archiver.start()
    until(lambda: second.archiver.counters.segments == 1)
    assert second.stored() == [0, 1, 2]
    assert second.store.sizes()["raw"].rows == 3
    assert list((tmp_path / "journal").glob("*.wal")) == []


@pytest.mark.parametrize("error", [OSError(28, "full"), StoreDamaged(None, "torn"), LookupError("a fault of ours")])
def test_what_fails_is_said_once_and_tried_until_it_works(worlds, monkeypatch, caplog, error):
    world = worlds()
    monkeypatch.setattr(world.store, "append", FailsAtFirst(world.store.append, *[error] * 3))
    with caplog.at_level(logging.WARNING):
        world.archiver.start()
        world.archiver.put([world.segment()])
        until(lambda: world.archiver.counters.segments == 1)
    said = [record for record in caplog.records if record.name == "app.ingest.archiver"]

    assert [record.levelname for record in said] == ["ERROR", "WARNING"]
    assert (said[0].exc_info is not None) == isinstance(error, LookupError), "a fault of ours with its traceback"
    assert world.archiver.counters.failures == 3
    assert world.archiver.counters.faults == (3 if isinstance(error, LookupError) else 0)
    assert not world.archiver.failing
    assert world.stored() == [0, 1, 2]


def test_upkeep_that_fails_does_not_stop_archiving_and_is_told_apart(worlds, monkeypatch, caplog):
    world = worlds()
    broken = FailsAtFirst(world.store.maintain, *[ZeroDivisionError("fault")] * 10**6)
    monkeypatch.setattr(world.store, "maintain", broken)
    world.archiver.start()
    until(lambda: world.archiver.counters.upkeep_failures >= 2)
    world.archiver.put([world.segment()])
    until(lambda: world.archiver.counters.segments == 1)

    assert world.archiver.failing
    assert caplog.text.count("upkeep of the series store fails") == 1
    assert "can not be written" not in caplog.text


def test_a_file_that_is_gone_although_its_removal_failed_stops_nothing(worlds, monkeypatch):
    class FolderCanNotBeSynced(Storage):
        failures = 0
        armed = False

        def sync_directory(self, directory):
            if self.armed and self.failures < 1:
                self.failures += 1
                raise OSError(5, "input/output error")
            super().sync_directory(directory)

    storage = FolderCanNotBeSynced()
    world = worlds(storage=storage)
    segments = [world.segment(), world.segment()]
    storage.armed = True
    world.archiver.start()

    until(lambda: world.archiver.counters.segments == 2, "an unlinked segment blocks the others")
    assert storage.failures == 1
    assert world.stored() == list(range(6))
    assert segments[0] not in world.journal.pending()


def test_a_stop_while_the_store_fails_ends_and_leaves_the_segment(worlds, monkeypatch, tmp_path):
    world = worlds()
    refusal = StoreUnavailable(tmp_path, OSError(30, "read-only"))
    monkeypatch.setattr(world.store, "append", FailsAtFirst(world.store.append, *[refusal] * 10**6))
    world.archiver.start()
    segment = world.segment()
    world.archiver.put([segment])
    until(lambda: world.archiver.counters.failures >= 1)
    world.archiver.stop(WAIT_S)

    assert world.journal.pending() == [segment]
    assert world.archiver.waiting == 1
