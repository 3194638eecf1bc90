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


def make_ingest(tmp_path, directory=None, *, buffer_rows=1_000_000):
    return Ingest(
        directory or directory_of(A=periods((11, 0, None)), B=periods((21, 0, None))),
        LiveState(),
        Quarantine(tmp_path / "quarantine.sqlite", 100),
        limits=LIMITS,
        time_zone="Europe/Paris",
        buffer_rows=buffer_rows,
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
