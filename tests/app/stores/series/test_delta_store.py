"""What the contract does not say: crashes between two commits, retention, the tail, deletion down to the files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from app.domain.completeness import Reason
from app.domain.resolution import DAY_US, HOUR_US, SECOND_US, TEN_MIN_US, Resolution, from_us
from app.stores.errors import StoreUnavailable
from app.stores.failpoints import FailPoints, parse_fail_points
from app.stores.series import erasure
from app.stores.series.delta_store import DeltaSeriesStore
from app.stores.series.interface import SegmentLabel
from app.stores.series.tiering import Level
from app.stores.series.tiers import FLEET, Retention
from tests.app.stores.series.contract import ALL, TIERS, Clock, ContractFacts, upkeep
from tests.helpers import plain_rollup
from tests.helpers.memory_series import MemorySeriesStore
from tests.helpers.raw_rows import T0, raw_table, second_row


@pytest.fixture
def clock() -> Clock:
    return Clock(T0 + 3 * HOUR_US)


@pytest.fixture
def opened(tmp_path: Path, clock: Clock) -> Iterator[Any]:
    """Opens the one store of the test, again after a crash; a crash leaves the old one as it is."""
    stores = []

    def open_(**others: Any) -> DeltaSeriesStore:
        stores.append(
            DeltaSeriesStore(
                tmp_path / "series", facts=ContractFacts, now_us=clock, monotonic_s=clock.seconds, **others
            )
        )
        return stores[-1]

    yield open_
    for store in stores:
        store.close()


def put(store: Any, number: int, rows: list[Any]) -> bool:
    appended: bool = store.append(SegmentLabel("journal", number), {"raw": raw_table(rows)})
    return appended


def test_the_newest_label_of_a_journal_is_known_also_after_a_restart(opened: Any) -> None:
    store = opened()
    put(store, 7, [second_row(1, 0)])
    store.append(SegmentLabel("another", 99), {"raw": raw_table([second_row(1, 1)])})
    store.close()

    assert [opened().newest_label(journal) for journal in ("journal", "another", "unknown")] == [7, 99, -1]


def received(store: Any, resolution: Resolution, key: int = 1) -> list[int]:
    counts: list[int] = store.read(key, *ALL, resolution).column("received").to_pylist()
    return counts


class Crash(Exception):
    """Stands for the process's end."""


@pytest.mark.parametrize("level", list(Level))
def test_a_crash_after_a_roll_up_before_it_is_noted_changes_nothing(
    opened: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch, level: Level
) -> None:
    clock.now_us = T0 + 2 * DAY_US
    # Seven windows on two civil days.
    rows = [second_row(1, s + more) for s in range(0, 90_000, 14_400) for more in range(0, 500, 25)]
    store = opened()
    put(store, 0, rows)
    reference = MemorySeriesStore(ContractFacts(), clock)
    put(reference, 0, rows)
    finish = store._state.finish

    def crash(at: Level, *args: Any, **others: Any) -> None:
        if at is level:
            raise Crash
        finish(at, *args, **others)

    monkeypatch.setattr(store._state, "finish", crash)
    with pytest.raises(Crash):
        upkeep(store, clock)
    store = opened()
    for wait in (0, 120):
        for resolution in TIERS:
            wanted = plain_rollup.plain(reference.read(1, *ALL, resolution))
            plain_rollup.assert_same(plain_rollup.plain(store.read(1, *ALL, resolution)), wanted)
        clock.pass_seconds(wait)
        upkeep(store, clock)
    assert store.unmade == 0


def test_a_roll_up_that_can_not_be_committed_is_made_later(opened: Any, clock: Clock) -> None:
    store = opened(failpoints=FailPoints(parse_fail_points("rollup:error=ENOSPC@1-2")))
    put(store, 0, [second_row(1, s) for s in range(0, 3_600, 10)])
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            upkeep(store, clock)
    upkeep(store, clock)

    assert received(store, Resolution.TEN_MIN) == [60] * 6
    assert store.read_group(0, *ALL).num_rows == 360


def test_a_window_that_can_not_be_closed_is_closed_later(
    opened: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    put(store, 0, [second_row(1, s) for s in range(0, 600, 10)])
    with monkeypatch.context() as patch:
        patch.setattr(store._state, "mark", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(StoreUnavailable):
            upkeep(store, clock)
    upkeep(store, clock)

    assert store._tables.scan("ten_min").num_rows == 1


def test_a_crash_after_the_append_before_its_marks_is_mended_by_the_replay(
    opened: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    put(store, 0, [second_row(1, s) for s in range(0, 3_600, 10)])
    upkeep(store, clock)
    monkeypatch.setattr(store._intake, "_note", lambda *_: (_ for _ in ()).throw(Crash()))
    with pytest.raises(Crash):
        put(store, 1, [second_row(1, s) for s in range(5, 3_600, 10)])
    store = opened()
    put(store, 1, [second_row(1, s) for s in range(5, 3_600, 10)])

    assert received(store, Resolution.TEN_MIN) == [120] * 6
    clock.pass_seconds(600)
    upkeep(store, clock)
    assert received(store, Resolution.HOUR) == [720]


def test_what_comes_while_its_bucket_is_made_is_not_lost(
    opened: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened()
    put(store, 0, [second_row(key, s) for key in (1, 2) for s in range(0, 600, 10)])
    append_tier = store._tables.append_tier
    late = iter([[second_row(1, s) for s in range(5, 600, 10)]])

    def append_late_first(tier: str, rows: pa.Table, label: Any = None) -> Any:
        for number, segment in enumerate(late, 1):
            put(store, number, segment)
        return append_tier(tier, rows, label)

    monkeypatch.setattr(store._tables, "append_tier", append_late_first)
    upkeep(store, clock)
    assert received(store, Resolution.TEN_MIN) == [120]
    clock.pass_seconds(120)
    upkeep(store, clock)

    assert received(store, Resolution.TEN_MIN) == [120]
    assert received(store, Resolution.TEN_MIN, 2) == [60]
    clock.pass_seconds(1_000)
    upkeep(store, clock)
    assert store.unmade == 0


def test_a_tier_row_is_what_the_tables_hold_once_made(opened: Any, clock: Clock) -> None:
    store = opened()
    put(store, 0, [second_row(1, s) for s in range(0, 7_200, 10)])
    upkeep(store, clock)

    assert store._tables.scan("ten_min").num_rows == 12
    assert store._tables.scan("hour").num_rows == 2
    assert store._state.horizon(Level.HOUR) == T0 + 2 * HOUR_US
    upkeep(store, clock)
    assert store._tables.scan("ten_min").num_rows == 12


class TestTail:
    """Rows that are in the journal and not yet in the tables."""

    @pytest.mark.parametrize("made", [False, True])
    def test_answers_include_it(self, opened: Any, clock: Clock, made: bool) -> None:
        tail: list[pa.RecordBatch] = []
        store = opened(tail=lambda table: tail if table == "raw" else [])
        put(store, 0, [second_row(1, s) for s in range(0, 3_600, 10)])
        if made:
            upkeep(store, clock)
        news = [second_row(key, s) for key in (1, 2) for s in (5, 3_000, 3_005, 3_700)]
        tail += raw_table(news).to_batches()

        with_tail = {r: plain_rollup.plain(store.read(1, *ALL, r)) for r in TIERS}
        assert store.read(1, *ALL, Resolution.RAW).num_rows == 363
        assert [row["received"] for row in with_tail[Resolution.TEN_MIN]] == [61, 60, 60, 60, 60, 61, 1]
        assert store.latest([1, 2]).column("seq").to_pylist() == [3_700, 3_700]
        # In both places for a moment, then in the tables alone: the same answer.
        put(store, 1, news)
        for _ in range(2):
            for resolution in TIERS:
                plain_rollup.assert_same(
                    plain_rollup.plain(store.read(1, *ALL, resolution)), with_tail_without(with_tail, resolution)
                )
            tail.clear()

    def test_of_a_deleted_key_is_not_shown(self, opened: Any) -> None:
        tail = raw_table([second_row(1, 0)]).to_batches()
        store = opened(tail=lambda table: tail if table == "raw" else [])
        store.delete_key(1)

        assert all(store.read(1, *ALL, resolution).num_rows == 0 for resolution in Resolution)
        assert store.latest([1]).num_rows == 0


def with_tail_without(rows: dict[Resolution, Any], resolution: Resolution) -> list[dict[str, Any]]:
    """Without what depends on a row being there twice."""
    for row in rows[resolution]:
        row.pop("duplicate", None)
        row.pop("reasons", None)
    return rows[resolution]


class TestRetention:
    def test_each_tier_goes_when_its_time_is_up(self, opened: Any, clock: Clock) -> None:
        store = opened(retention=Retention(raw_days=1, ten_min_days=2, hour_days=4, day_days=6, fleet_days=2))
        put(store, 0, [second_row(1, s) for s in range(0, 7_200, 10)])
        held = {}
        for days in (0, 2, 4, 6, 9):
            clock.now_us = T0 + days * DAY_US + 3 * HOUR_US
            for _ in range(3):
                clock.pass_seconds(700)
                upkeep(store, clock)
            held[days] = [store._tables.scan(name).num_rows for name in ("raw", "ten_min", "hour", "day", "fleet")]

        assert held == {
            0: [720, 12, 2, 0, 720],
            2: [0, 12, 2, 1, 0],
            4: [0, 0, 2, 1, 0],
            6: [0, 0, 0, 1, 0],
            9: [0, 0, 0, 0, 0],
        }

    def test_another_retention_holds_from_the_next_cleaning_on(self, opened: Any, clock: Clock) -> None:
        store = opened(retention=Retention(raw_days=1, ten_min_days=31, hour_days=40, day_days=60))
        put(store, 0, [second_row(1, s) for s in range(0, 7_200, 10)])
        upkeep(store, clock)
        store.set_retention(Retention(raw_days=5, ten_min_days=31, hour_days=40, day_days=60))
        clock.now_us = T0 + 3 * DAY_US
        for _ in range(3):
            clock.pass_seconds(700)
            upkeep(store, clock)
        assert store.read(1, *ALL, Resolution.RAW).num_rows == 720

        store.set_retention(Retention(raw_days=1, ten_min_days=2, hour_days=40, day_days=60))
        upkeep(store, clock)
        assert store.read(1, *ALL, Resolution.RAW).num_rows == 0
        assert received(store, Resolution.HOUR) == [360, 360]

    @pytest.mark.parametrize("replayed", [False, True])
    def test_what_comes_after_its_raw_readings_went_is_added(self, opened: Any, clock: Clock, replayed: bool) -> None:
        store = opened()
        put(store, 0, [second_row(1, s) for s in range(0, 7_200, 10) if not 1_200 <= s < 3_000])
        upkeep(store, clock)
        clock.now_us = T0 + 5 * DAY_US
        upkeep(store, clock)
        assert store.read(1, *ALL, Resolution.RAW).num_rows == 0
        late = [[second_row(1, s, origin=1) for s in range(start, start + 900, 10)] for start in (1_200, 2_100)]
        for number, rows in enumerate(late, 1):
            put(store, number, rows)
            if replayed:
                store.close()
                store = opened()
                assert not put(store, number, rows)

        for wait in (0, 700):
            clock.pass_seconds(wait)
            upkeep(store, clock)
            assert received(store, Resolution.TEN_MIN) == [60] * 12
            assert received(store, Resolution.HOUR) == [360] * 2
            assert received(store, Resolution.DAY) == [720]
            assert sum(store.read(1, *ALL, Resolution.TEN_MIN).column("drawn_wh").to_pylist()) == 719
            assert store.read(1, *ALL, Resolution.RAW).num_rows == 0
        # The bucket that two segments brought parts of.
        shared = store.read(1, T0 + 1_800 * SECOND_US, T0 + 1_801 * SECOND_US, Resolution.TEN_MIN)
        assert shared.column("reasons").to_pylist()[0] & Reason.MERGED

    def test_nothing_goes_before_it_is_rolled_up(self, opened: Any, clock: Clock) -> None:
        store = opened()
        put(store, 0, [second_row(1, s) for s in range(0, 3_600, 10)])
        clock.now_us = T0 + 10 * DAY_US
        store._upkeep._clean(clock())
        while store._upkeep._clean(clock()):
            pass

        assert store.read(1, *ALL, Resolution.RAW).num_rows == 360
        upkeep(store, clock)
        assert received(store, Resolution.DAY) == [360]

    def test_a_clock_set_wrong_costs_nothing_for_a_day(self, opened: Any, clock: Clock) -> None:
        passed = [0.0]
        rows = [second_row(1, s) for s in range(0, 7_200, 10)]

        def work(store: Any, hours: int) -> None:
            for _ in range(hours):
                passed[0] += 3_600
                clock.pass_seconds(3_600)
                upkeep(store, clock)

        store = opened()
        store.close()
        store = DeltaSeriesStore(store._folder, facts=ContractFacts, now_us=clock, monotonic_s=lambda: passed[0])
        put(store, 0, rows)
        work(store, 2)
        clock.pass_seconds(365 * 86_400)
        work(store, 20)
        assert store.read(1, *ALL, Resolution.RAW).num_rows == 720
        work(store, 10)
        assert store.read(1, *ALL, Resolution.RAW).num_rows == 0
        store.close()

    def test_settings_that_contradict_are_refused(self) -> None:
        with pytest.raises(ValueError, match="at least as long"):
            Retention(raw_days=40)


def test_a_copy_of_old_tiers_is_taken_as_it_is(opened: Any, clock: Clock, tmp_path: Path) -> None:
    """Of hours and days whose readings are long gone; also by a store that never made anything."""
    store = opened()
    put(store, 0, [second_row(1, s) for s in range(0, 90_000, 600)])
    for days in (2, 5, 40):
        clock.now_us = T0 + days * DAY_US
        upkeep(store, clock)
    held = {
        resolution: plain_rollup.plain(store.read(1, *ALL, resolution))
        for resolution in Resolution
        if resolution in TIERS
    }
    assert held[Resolution.TEN_MIN] == []
    assert len(held[Resolution.HOUR]) == 25
    store.copy_out(tmp_path / "copy", *ALL)

    for folder, made_before in (("fresh", False), ("used", True)):
        other = DeltaSeriesStore(tmp_path / folder, facts=ContractFacts, now_us=clock, monotonic_s=clock.seconds)
        if made_before:
            put(other, 0, [second_row(2, s) for s in range(0, 90_000, 600)])
            upkeep(other, clock)
        assert other.copy_in(tmp_path / "copy") > 0
        assert other.copy_in(tmp_path / "copy") == 0
        for wait in (0, 120, 2_000):
            for resolution in (Resolution.HOUR, Resolution.DAY):
                plain_rollup.assert_same(plain_rollup.plain(other.read(1, *ALL, resolution)), held[resolution])
            clock.pass_seconds(wait)
            upkeep(other, clock)
        other.close()


def test_a_clock_set_back_opens_what_it_closed_too_early(opened: Any, clock: Clock) -> None:
    store = opened()
    put(store, 0, [second_row(1, s) for s in range(10_800, 11_400, 10)])
    clock.pass_seconds(30 * 86_400)
    upkeep(store, clock)
    clock.pass_seconds(-30 * 86_400)
    put(store, 1, [second_row(1, s) for s in range(11_400, 12_000, 10)])
    upkeep(store, clock)

    assert store._state.horizon(Level.TEN_MIN) <= clock()
    clock.pass_seconds(1_300)
    upkeep(store, clock)
    put(store, 2, [second_row(1, s) for s in range(12_000, 12_600, 10)])
    for resolution in TIERS:
        assert sum(received(store, resolution)) == 180
    clock.pass_seconds(86_400)
    upkeep(store, clock)
    for resolution in TIERS:
        assert sum(received(store, resolution)) == 180
    assert store.unmade == 0


class TestDeletion:
    def test_no_file_holds_the_key(self, opened: Any, clock: Clock, tmp_path: Path) -> None:
        key = 0x1234_5678_9ABC_DEF0
        store = opened()
        for number in range(3):
            put(store, number, [second_row(k, s + number) for k in (key, 2) for s in range(0, 7_200, 10)])
            upkeep(store, clock)
        put(store, 3, [second_row(key, 5)])
        assert erasure.files_with(store._tables, [key])

        assert store.delete_key(key) > 0
        assert erasure.files_with(store._tables, [key]) == []
        assert erasure.files_with(store._tables, [2])
        # Only the list of erased keys itself names it.
        holding = [
            path for path in tmp_path.rglob("*") if path.is_file() and key.to_bytes(8, "little") in path.read_bytes()
        ]
        assert [path.name.startswith("tiers-") for path in holding] == [True]

    def test_stays_so_over_a_restart(self, opened: Any, clock: Clock) -> None:
        store = opened()
        put(store, 0, [second_row(1, 0)])
        store.delete_key(1)
        store.close()
        store = opened()
        put(store, 0, [second_row(1, 0)])
        put(store, 1, [second_row(1, 1), second_row(2, 1)])

        assert store.read(1, *ALL, Resolution.RAW).num_rows == 0
        assert store.read(2, *ALL, Resolution.RAW).num_rows == 1


class TestFleet:
    def test_is_made_with_the_windows(self, opened: Any, clock: Clock) -> None:
        store = opened()
        put(store, 0, [second_row(key, s) for key in (1, 2, 3) for s in range(1_200)])
        upkeep(store, clock)

        found = store.read_group(0, T0 + TEN_MIN_US, T0 + 2 * TEN_MIN_US).to_pylist()
        assert len(found) == 60
        assert {row["reporting"] for row in found} == {3}
        # Each home grows 1 Wh in 10 s.
        assert [row["power_w"] for row in found] == pytest.approx([3 * 360] * 60)

    def test_late_readings_make_their_window_anew(self, opened: Any, clock: Clock) -> None:
        store = opened()
        put(store, 0, [second_row(1, s) for s in range(1_200)])
        upkeep(store, clock)
        put(store, 1, [second_row(2, s, origin=1) for s in range(1_200)])
        clock.pass_seconds(1_000)
        upkeep(store, clock)

        found = store.read_group(0, T0, T0 + 2 * TEN_MIN_US).to_pylist()
        assert {row["reporting"] for row in found} == {2}
        assert store.unmade == 0

    def test_live_sums_are_shown_until_then(self, opened: Any, clock: Clock) -> None:
        store = opened()
        put(store, 0, [second_row(1, s) for s in range(600)])
        upkeep(store, clock)
        stored = store.read_group(0, *ALL)
        later = stored.slice(0, 1).to_pylist()[0] | {"time": from_us(T0 + HOUR_US)}
        store.note_fleet(pa.concat_tables([stored.slice(0, 5), pa.Table.from_pylist([later], FLEET)]))

        assert store.read_group(0, *ALL).num_rows == stored.num_rows + 1


def test_many_segments_are_merged_and_answer_as_before(opened: Any, clock: Clock) -> None:
    store = opened()
    reference = MemorySeriesStore(ContractFacts(), clock)
    for number in range(70):
        rows = [second_row(key, s) for key in (1, 2) for s in range(number * 20, number * 20 + 20, 2)]
        put(store, number, rows)
        put(reference, number, rows)
    upkeep(store, clock)

    assert store.done["merge"] >= 1
    assert len(store._tables["raw"].files()) < 20
    for resolution in TIERS:
        wanted = plain_rollup.plain(reference.read(2, *ALL, resolution))
        plain_rollup.assert_same(plain_rollup.plain(store.read(2, *ALL, resolution)), wanted)


def test_readers_beside_appends_and_upkeep_see_every_reading(opened: Any, clock: Clock) -> None:
    """Counts never fall, and what an append has returned from is there."""
    store = opened()
    appended = 0
    failures: list[str] = []
    stop = threading.Event()

    def read() -> None:
        seen = 0
        while not stop.is_set():
            at_least = appended
            count = sum(received(store, Resolution.TEN_MIN))
            if count < max(at_least, seen):
                failures.append(f"{count} readings after {at_least} appended and {seen} seen")
            seen = count

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(40):
        rows = [second_row(1, s) for s in range(number * 90, number * 90 + 90, 3)]
        put(store, number, rows)
        appended += len(rows)
        clock.pass_seconds(30)
        store.maintain(clock())
    stop.set()
    reader.join()

    assert failures == []
    assert sum(received(store, Resolution.TEN_MIN)) == 1_200


def test_imported_days_are_made_one_by_one(opened: Any, clock: Clock) -> None:
    """Readings of a week ago, appended when their buckets count as made already."""
    store = opened()
    put(store, 0, [second_row(1, 0)])
    upkeep(store, clock)
    clock.now_us = T0 + DAY_US
    old = [second_row(1, s) for s in range(-20 * 3_600, -3_600, 600)]
    put(store, 1, [row | {"seq": None, "drawn_wh": None, "origin": 2} for row in old])
    for _ in range(3):
        clock.pass_seconds(700)
        upkeep(store, clock)

    assert store.unmade == 0
    assert received(store, Resolution.DAY) == [114, 1]
    assert np.sum(received(store, Resolution.HOUR)) == 115
