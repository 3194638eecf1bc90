"""Ingest bounds what it holds, sheds by rule, and keeps what was promised."""

import pytest

from app.domain.keys import CollectionLevel
from app.domain.reading import Reading
from app.ingest.ingest import CHUNK_ROWS, Ingest
from app.ingest.live import LiveState
from app.ingest.quarantine import Quarantine
from app.ingest.stamping import TimeLimits
from tests.app.ingest.readings import NOW_MS, NOW_US, FakeBatch, directory_of, periods

LIMITS = TimeLimits.of(future_minutes=5, raw_days=2, resent_days=31)


def make_ingest(tmp_path, directory=None, *, buffer_rows=1_000_000, quarantine=None, observers=()):
    return Ingest(
        directory or directory_of(A=periods((11, 0, None)), B=periods((21, 0, None))),
        LiveState(),
        quarantine or Quarantine(tmp_path / "quarantine.sqlite", 100),
        limits=LIMITS,
        time_zone="Europe/Paris",
        buffer_rows=buffer_rows,
        observers=observers,
    )


def take(ingest, count, *, slot=0, guaranteed=None, first=0):
    readings = [Reading(time_ms=NOW_MS + n, seq=first + n, apparent_va=100) for n in range(count)]
    ingest.take([slot] * count, readings, NOW_US, guaranteed=guaranteed)


def rows(chunks, table="raw"):
    return [row for chunk in chunks if table in chunk.tables for row in chunk.tables[table].to_pylist()]


def test_readings_of_both_kinds_come_out_once_with_their_batches(tmp_path):
    ingest = make_ingest(tmp_path)
    batch = FakeBatch()
    take(ingest, 3)
    take(ingest, 2, slot=1, guaranteed=batch)
    chunks, batches = ingest.drain()

    assert sorted((row["key"], row["seq"]) for row in rows(chunks)) == [(11, 0), (11, 1), (11, 2), (21, 0), (21, 1)]
    assert batches == [batch]
    assert ingest.waiting == 5
    ingest.committed(chunks)
    assert ingest.waiting == 0
    assert ingest.drain() == ([], [])


def test_nothing_is_acknowledged_by_ingest_itself(tmp_path):
    ingest = make_ingest(tmp_path)
    batch = FakeBatch()
    take(ingest, CHUNK_ROWS * 2, guaranteed=batch)
    ingest.drain()

    assert batch.acknowledged == 0


def test_above_the_bound_the_oldest_best_effort_readings_are_shed_and_counted(tmp_path):
    ingest = make_ingest(tmp_path, buffer_rows=10 * CHUNK_ROWS)
    batch = FakeBatch()
    take(ingest, CHUNK_ROWS, slot=1, guaranteed=batch)
    for number in range(15):
        take(ingest, CHUNK_ROWS, first=number * CHUNK_ROWS)
    chunks, batches = ingest.drain()
    kept = rows(chunks)

    assert ingest.counters.shed == 6 * CHUNK_ROWS
    assert len(kept) == 10 * CHUNK_ROWS
    assert {row["seq"] for row in kept if row["key"] == 11} == set(range(6 * CHUNK_ROWS, 15 * CHUNK_ROWS))
    assert sum(row["key"] == 21 for row in kept) == CHUNK_ROWS, "what was promised is never shed"
    assert batches == [batch]


def test_senders_of_guaranteed_readings_are_held_back_and_released(tmp_path):
    ingest = make_ingest(tmp_path, buffer_rows=10 * CHUNK_ROWS)
    said = []
    ingest.hold_guaranteed = said.append
    for _ in range(6):
        take(ingest, CHUNK_ROWS, guaranteed=FakeBatch())

    assert said == [True]
    chunks, _ = ingest.drain()
    ingest.committed(chunks)
    assert said == [True, False]


def test_readings_in_flight_still_count_against_the_bound(tmp_path):
    ingest = make_ingest(tmp_path, buffer_rows=10 * CHUNK_ROWS)
    take(ingest, 8 * CHUNK_ROWS)
    in_flight, _ = ingest.drain()
    take(ingest, 4 * CHUNK_ROWS)

    assert ingest.counters.shed == 4 * CHUNK_ROWS
    ingest.committed(in_flight)
    assert ingest.waiting == 0


def test_readings_without_a_supply_period_are_refused_with_a_reason(tmp_path):
    ingest = make_ingest(tmp_path, directory_of(A=periods((11, NOW_US + 1000, None))))
    take(ingest, 3)
    chunks, _ = ingest.drain()

    assert [row["seq"] for row in rows(chunks)] == [1, 2]
    assert ingest.counters.unrouted == 1


@pytest.mark.parametrize(
    ("level", "kept"), [(CollectionLevel.NONE, 0), (CollectionLevel.DAILY, 1), (CollectionLevel.TEN_MINUTES, 2)]
)
def test_the_collection_level_is_obeyed(tmp_path, level, kept):
    ingest = make_ingest(tmp_path, directory_of(A=periods((11, 0, None), level=level)))
    readings = [
        Reading(
            time_ms=NOW_MS + minute * 60_000 - 900_000, apparent_va=500, voltage_v=230, drawn_wh=minute, injected_wh=1
        )
        for minute in range(15)
    ]
    ingest.take([0] * len(readings), readings, NOW_US)
    chunks, _ = ingest.drain()

    assert len(rows(chunks)) == kept
    assert all(
        row["power"] is None and row["voltage_v"] is None and row["drawn_wh"] is not None for row in rows(chunks)
    )
    assert rows(chunks, "aux") == []
    assert ingest.counters.withheld_by_consent == len(readings) - kept


def test_registers_are_written_on_a_change_and_at_each_boundary(tmp_path):
    ingest = make_ingest(tmp_path)
    start = NOW_MS - NOW_MS % 600_000 - 600_000
    plan = [(0, 1), (1000, 1), (2000, 2), (3000, 2), (600_000, 2), (601_000, 2)]
    readings = [Reading(time_ms=start + at, register=running, registers_wh={1: 5, 2: 6}) for at, running in plan]
    ingest.take([0] * len(readings), readings, NOW_US)
    chunks, _ = ingest.drain()
    marked = sorted({int(row["time"].timestamp() * 1000) - start for row in rows(chunks, "registers")})

    assert marked == [0, 2000, 600_000]
    assert len(rows(chunks, "registers")) == 6


def test_received_is_the_sum_of_what_became_of_it(tmp_path):
    ingest = make_ingest(tmp_path, directory_of(A=periods((11, NOW_US, None))))
    readings = [Reading(time_ms=NOW_MS + offset) for offset in (0, 1, -1, 10**9, -(10**9))]
    ingest.take([0] * 5, readings, NOW_US)
    ingest.drain()
    counters = ingest.counters

    assert counters.received == counters.kept + counters.quarantined + counters.unrouted + counters.withheld_by_consent
    assert (counters.kept, counters.quarantined, counters.unrouted) == (2, 2, 1)


class BrokenOnce:
    """An observer that fails the first time."""

    def __init__(self):
        self.calls = 0

    def __call__(self, _columns, _kept):
        self.calls += 1
        if self.calls == 1:
            raise LookupError("observer")


def test_an_observer_that_fails_costs_no_reading(tmp_path, caplog):
    ingest = make_ingest(tmp_path, observers=[BrokenOnce()])
    take(ingest, 3)
    chunks, _ = ingest.drain()

    assert len(rows(chunks)) == 3
    assert ingest.counters.faults == 1
    assert "LookupError" in caplog.text


def test_a_chunk_that_can_not_be_made_goes_to_quarantine_and_its_batch_is_answered(tmp_path, caplog):
    quarantine = Quarantine(tmp_path / "quarantine.sqlite", 100)
    ingest = make_ingest(tmp_path, quarantine=quarantine)
    batch = FakeBatch()
    impossible = Reading(time_ms=NOW_MS, rssi_dbm=10**9)
    ingest.take([0, 1], [impossible, Reading(time_ms=NOW_MS, seq=5)], NOW_US, guaranteed=batch)
    chunks, batches = ingest.drain()
    take(ingest, 2)

    assert (chunks, batches) == ([], [batch])
    assert quarantine.counts["bug"] == 2
    assert [(refused.module, refused.reason) for refused in quarantine.take_pending()] == [("A", "bug"), ("B", "bug")]
    assert len(rows(ingest.drain()[0])) == 2, "the next ones are taken"
    counters = ingest.counters
    assert counters.received == counters.kept + counters.quarantined + counters.unrouted + counters.withheld_by_consent
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "Traceback" in caplog.text


def test_messages_without_readings_hold_their_senders_back_too(tmp_path):
    ingest = make_ingest(tmp_path, buffer_rows=100)
    said = []
    ingest.hold_guaranteed = said.append
    for _ in range(6):
        ingest.acknowledge_later(FakeBatch([0] * 10, [b""] * 10, [True] * 10))

    assert said == [True]
    chunks, batches = ingest.drain()
    assert said == [True], "until they are acknowledged"
    ingest.committed(chunks, batches)
    assert said == [True, False]


def test_a_fleet_whose_clocks_are_wrong_is_counted_and_kept_up_to_the_bound(tmp_path):
    quarantine = Quarantine(tmp_path / "quarantine.sqlite", 10_000)
    ingest = make_ingest(tmp_path, quarantine=quarantine)
    ahead, behind = Reading(time_ms=NOW_MS + 10**9), Reading(time_ms=NOW_MS - 10**9)
    ingest.take([0] * 3000, [ahead] * 2000 + [behind] * 1000, NOW_US)

    assert ingest.drain()[0] == []
    assert (quarantine.counts["time_in_future"], quarantine.counts["time_too_old"]) == (2000, 1000)
    assert len(quarantine.take_pending()) == 500
    assert ingest.counters.quarantined == 3000
