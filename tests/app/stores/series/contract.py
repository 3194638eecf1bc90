"""What any series store must do. Subclass, give it the fixture `store` (whose clock is `clock`), and run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.domain.completeness import Reason
from app.domain.errors import OperatorInputError
from app.domain.resolution import DAY_US, HOUR_US, SECOND_US, TEN_MIN_US, CivilDays, Resolution, to_us
from app.stores.series.interface import Recomputed, SegmentLabel, SeriesStore
from app.stores.series.rollup import NoFacts
from app.stores.series.schema import AUX, RAW, REGISTERS
from app.stores.series.tiers import FLEET, TIER_READ
from tests.helpers import plain_rollup
from tests.helpers.raw_rows import (
    T0,
    aux_row,
    aux_table,
    raw_row,
    raw_table,
    register_row,
    register_table,
    second_row,
)

ALL = (0, T0 + 400 * DAY_US)
TIERS = (Resolution.TEN_MIN, Resolution.HOUR, Resolution.DAY)


class Clock:
    """The hub's clock, set by hand; calling it gives UTC microseconds."""

    def __init__(self, now_us: int) -> None:
        self.now_us = now_us

    def __call__(self) -> int:
        return self.now_us

    def seconds(self) -> float:
        """A monotonic clock that agrees with this one."""
        return self.now_us / SECOND_US

    def pass_seconds(self, seconds: float) -> int:
        self.now_us += int(seconds * SECOND_US)
        return self.now_us


class ContractFacts(NoFacts):
    """A period of 1 s; zone Europe/Paris."""

    def periods_ms(self, keys: Any) -> Any:
        return np.full(len(keys), 1000)


def upkeep(store: SeriesStore, clock: Clock, steps: int = 2_000) -> None:
    """Upkeep until nothing is due, however a store goes about it."""
    for _ in range(steps):
        if not store.maintain(clock()):
            settle: Callable[[], None] | None = getattr(store, "settle", None)
            if settle is None:
                return
            settle()
            if not store.maintain(clock()):
                return
    raise AssertionError(f"upkeep does not end within {steps} steps")


class SeriesStoreContract:
    """Each test stands for a sentence of `SeriesStore`."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock(T0 + 2 * HOUR_US)

    @pytest.fixture
    def store(self, clock: Clock, tmp_path: Path) -> Any:
        raise NotImplementedError

    def put(self, store: SeriesStore, number: int, raw: list[Any], **others: Any) -> bool:
        return store.append(SegmentLabel("journal", number), {"raw": raw_table(raw), **others})

    def test_what_was_appended_can_be_read(self, store: SeriesStore) -> None:
        rows = [second_row(1, s) for s in range(5)]
        assert self.put(store, 0, [*rows, second_row(2, 0)])

        found = store.read(1, *ALL, Resolution.RAW)
        assert found.schema.equals(RAW)
        assert found.to_pylist() == rows

    def test_a_segment_is_taken_once(self, store: SeriesStore) -> None:
        assert self.put(store, 4, [second_row(1, 0)])
        assert not self.put(store, 4, [second_row(1, 0)])
        assert self.put(store, 5, [second_row(1, 1)])
        assert store.append(SegmentLabel("another journal", 4), {"raw": raw_table([second_row(1, 2)])})

        assert store.read(1, *ALL, Resolution.RAW).num_rows == 3
        assert store.read(1, *ALL, Resolution.DAY).column("received").to_pylist() == [3]

    def test_an_empty_segment_is_taken(self, store: SeriesStore) -> None:
        assert self.put(store, 0, []) in (True, False)
        assert not self.put(store, 0, [])
        assert store.append(SegmentLabel("journal", 1), {}) in (True, False)

    def test_ranges_are_half_open(self, store: SeriesStore) -> None:
        self.put(store, 0, [second_row(1, s) for s in (0, 599, 600, 1_200)])

        raw = store.read(1, T0, T0 + 600 * SECOND_US, Resolution.RAW)
        tier = store.read(1, T0, T0 + 2 * TEN_MIN_US, Resolution.TEN_MIN)
        assert raw.column("seq").to_pylist() == [0, 599]
        assert tier.column("received").to_pylist() == [2, 1]
        assert store.read(1, T0 + 1, T0 + TEN_MIN_US, Resolution.TEN_MIN).num_rows == 0

    @pytest.mark.parametrize("resolution", list(Resolution))
    def test_an_empty_range_is_an_empty_table(self, store: SeriesStore, resolution: Resolution) -> None:
        self.put(store, 0, [second_row(1, 0)])

        for key, start, end in ((1, T0, T0), (1, T0 + 1, T0 - 1), (9, *ALL), (1, T0 + DAY_US, T0 + 2 * DAY_US)):
            found = store.read(key, start, end, resolution)
            assert found.num_rows == 0
            assert found.schema.equals(RAW if resolution is Resolution.RAW else TIER_READ)

    @pytest.mark.parametrize(
        ("given", "wins"),
        [([(0, 10.0), (1, 20.0)], 10.0), ([(2, 10.0), (1, 20.0)], 20.0), ([(0, 10.0), (0, 20.0)], 20.0)],
        ids=["measured before re-sent", "re-sent before imported", "then the latest"],
    )
    def test_one_reading_for_each_time(self, store: SeriesStore, given: list[tuple[int, float]], wins: float) -> None:
        for number, (origin, power) in enumerate(given):
            self.put(store, number, [second_row(1, 0, power=power, origin=origin)])

        assert store.read(1, *ALL, Resolution.RAW).column("power").to_pylist() == [wins]
        assert store.read(1, *ALL, Resolution.TEN_MIN).column("va_mean").to_pylist() == [wins]

    def test_many_keys_can_be_read_at_once(self, store: SeriesStore) -> None:
        rows = [second_row(key, s) for key in (3, 1, 2) for s in (1, 0)]
        self.put(store, 0, rows)
        self.put(store, 1, rows)

        whole = store.read_many(None, *ALL)
        assert [(row["key"], row["seq"]) for row in whole.to_pylist()] == [(k, s) for k in (1, 2, 3) for s in (0, 1)]
        assert store.read_many([3, 1, 9], T0, T0 + 1).column("key").to_pylist() == [1, 3]
        assert store.read_many([], *ALL).schema.equals(RAW)

    def test_unknown_stays_unknown(self, store: SeriesStore, clock: Clock) -> None:
        self.put(store, 0, [raw_row(1, T0)])
        upkeep(store, clock)

        assert store.read(1, *ALL, Resolution.RAW).to_pylist() == [raw_row(1, T0)]
        (row,) = store.read(1, *ALL, Resolution.TEN_MIN).to_pylist()
        assert row["received"] == 1
        for name in ("lost", "va_mean", "w_mean", "drawn_wh", "injected_wh", "registers", "rssi_p10", "voltage_mean"):
            assert row[name] is None, name

    @pytest.mark.parametrize("resolution", TIERS)
    def test_an_answer_does_not_wait_for_upkeep(self, store: SeriesStore, clock: Clock, resolution: Resolution) -> None:
        self.put(store, 0, [second_row(1, s) for s in range(0, 7_200, 30)])
        before = plain_rollup.plain(store.read(1, *ALL, resolution))
        upkeep(store, clock)
        after = plain_rollup.plain(store.read(1, *ALL, resolution))

        plain_rollup.assert_same(after, before)
        assert sum(row["received"] for row in after) == 240

    @pytest.mark.parametrize("resolution", TIERS)
    def test_late_readings_count(self, store: SeriesStore, clock: Clock, resolution: Resolution) -> None:
        clock.pass_seconds(2 * 86_400 - 3 * 3_600)
        self.put(store, 0, [second_row(1, s) for s in range(0, 3_600, 60)])
        upkeep(store, clock)
        self.put(store, 1, [second_row(1, s, origin=1, lag_ms=90_000_000) for s in range(30, 3_600, 60)])

        at_once = plain_rollup.plain(store.read(1, *ALL, resolution))
        clock.pass_seconds(120)
        upkeep(store, clock)
        assert sum(row["received"] for row in at_once) == 120
        assert sum(row["late"] for row in at_once) == 60
        plain_rollup.assert_same(plain_rollup.plain(store.read(1, *ALL, resolution)), at_once)

    @pytest.mark.parametrize("resolution", TIERS)
    def test_energy_adds_up_over_gaps(self, store: SeriesStore, clock: Clock, resolution: Resolution) -> None:
        seconds = [*range(0, 1_200, 10), *range(5_000, 7_000, 10)]
        self.put(store, 0, [second_row(1, s) for s in seconds])
        upkeep(store, clock)

        assert sum(store.read(1, *ALL, resolution).column("drawn_wh").to_pylist()) == 699

    def test_the_first_bucket_of_a_range_knows_what_came_before(self, store: SeriesStore) -> None:
        self.put(store, 0, [second_row(1, s) for s in (0, 100, 2_000, 2_100)])

        (row,) = store.read(1, T0 + TEN_MIN_US, T0 + HOUR_US, Resolution.TEN_MIN).to_pylist()
        assert row["drawn_wh"] == 200
        assert row["lost"] == 1_899 + 99

    def test_a_bucket_not_over_is_marked(self, store: SeriesStore, clock: Clock) -> None:
        clock.now_us = T0 + 300 * SECOND_US
        self.put(store, 0, [second_row(1, s) for s in range(300)])

        (row,) = store.read(1, *ALL, Resolution.TEN_MIN).to_pylist()
        assert row["reasons"] & Reason.OPEN
        assert (row["expected"], row["received"]) == (300, 300)

    def test_days_are_civil_days(self, store: SeriesStore, clock: Clock) -> None:
        # Paris, 2026-03-29: 23 hours.
        days = CivilDays("Europe/Paris")
        start = days.start_of(T0 + 27 * DAY_US)
        end = days.next_start(start)
        assert end - start == 23 * HOUR_US
        clock.now_us = end + HOUR_US
        times = range(start - HOUR_US, end + HOUR_US, HOUR_US)
        self.put(store, 0, [raw_row(1, time, drawn_wh=at) for at, time in enumerate(times)])
        upkeep(store, clock)

        found = plain_rollup.plain(store.read(1, start, end, Resolution.DAY))
        assert [row["time"] for row in found] == [start]
        assert (found[0]["received"], found[0]["expected"], found[0]["drawn_wh"]) == (23, 23 * 3_600, 23)

    def test_registers_and_aux_can_be_read(self, store: SeriesStore) -> None:
        registers = [register_row(1, T0, number, 100 * number) for number in (1, 2)]
        aux = [aux_row(1, T0, "injected_energy", 5.0), aux_row(1, T0, "voltage", 230.0, channel=2)]
        self.put(store, 0, [second_row(1, 0)], registers=register_table(registers), aux=aux_table(aux))
        self.put(store, 1, [], registers=register_table(registers), aux=aux_table(aux))

        assert store.read_registers(1, *ALL).to_pylist() == registers
        assert store.read_aux(1, *ALL).to_pylist() == aux
        assert store.read_registers(1, *ALL).schema.equals(REGISTERS)
        assert store.read_aux(1, T0 + 1, T0 + 1).schema.equals(AUX)

    def test_latest_is_the_newest_time(self, store: SeriesStore) -> None:
        self.put(store, 0, [second_row(1, 50), second_row(2, 10), second_row(3, 5)])
        self.put(store, 1, [second_row(1, 40, origin=1)])

        found = store.latest([2, 1, 7])
        assert found.column("key").to_pylist() == [1, 2]
        assert found.column("seq").to_pylist() == [50, 10]

    def test_a_group_without_rows_is_empty(self, store: SeriesStore) -> None:
        assert store.read_group(12_345, *ALL).schema.equals(FLEET)
        assert store.read_group(12_345, *ALL).num_rows == 0

    def test_a_deleted_key_is_gone_for_ever(self, store: SeriesStore, clock: Clock) -> None:
        rows = [second_row(key, s) for key in (1, 2) for s in range(0, 1_800, 60)]
        others = {
            "registers": register_table([register_row(1, T0, 1, 1)]),
            "aux": aux_table([aux_row(1, T0, "gas", 1.0)]),
        }
        self.put(store, 0, rows, **others)
        upkeep(store, clock)
        deleted = store.delete_key(1)
        self.put(store, 1, [second_row(1, 5_000), second_row(2, 5_000)])
        upkeep(store, clock)

        assert deleted >= 32
        for resolution in Resolution:
            assert store.read(1, *ALL, resolution).num_rows == 0
            assert store.read(2, *ALL, resolution).num_rows > 0
        assert store.latest([1, 2]).column("key").to_pylist() == [2]
        assert store.delete_key(1) == 0

    def test_what_is_held_of_keys_is_told_by_table(self, store: SeriesStore) -> None:
        rows = [second_row(key, s) for key in (1, 2) for s in range(10)]
        self.put(store, 0, rows, registers=register_table([register_row(1, T0, 1, 1)]))

        held = store.held([1, 7])
        assert (held["raw"], held["registers"], held["aux"], held["removed"]) == (10, 1, 0, 0)
        assert store.held([1, 2])["raw"] == 20
        assert sum(store.held([]).values()) == 0
        store.delete_key(1)
        assert sum(store.held([1]).values()) == 0
        assert store.held([2])["raw"] == 10

    @pytest.mark.parametrize("made", [False, True])
    def test_a_range_that_begins_within_a_bucket_has_whole_buckets_alone(
        self, store: SeriesStore, clock: Clock, made: bool
    ) -> None:
        self.put(store, 0, [second_row(1, s, drawn_wh=s) for s in range(0, 3 * 3_600, 10)])
        clock.pass_seconds(4 * 3_600)
        if made:
            upkeep(store, clock)

        for resolution, width_s in ((Resolution.TEN_MIN, 600), (Resolution.HOUR, 3_600)):
            rows = store.read(1, T0 + 1_230 * SECOND_US, T0 + DAY_US, resolution)
            times = [to_us(time) for time in rows.column("time").to_pylist()]
            first = -(-1_230 // width_s)
            assert times == [T0 + n * width_s * SECOND_US for n in range(first, 3 * 3_600 // width_s)]
            assert set(rows.column("drawn_wh").to_pylist()) == {width_s}

    def test_making_anew_what_is_right_changes_no_answer(self, store: SeriesStore, clock: Clock) -> None:
        clock.pass_seconds(86_400)
        self.put(store, 0, [second_row(key, s) for key in (1, 2) for s in range(0, 4_000, 50)])
        upkeep(store, clock)
        before = {resolution: store.read(1, *ALL, resolution) for resolution in TIERS}
        for resolution in (*TIERS, *TIERS):
            assert store.recompute(resolution, [1, 2, 77], *ALL).kept == 0
        for resolution in TIERS:
            assert store.read(1, *ALL, resolution).equals(before[resolution])
        store.delete_key(1)
        assert store.recompute(Resolution.DAY, [1], *ALL) == Recomputed(0, 0)

    def test_sizes_count_rows(self, store: SeriesStore) -> None:
        self.put(store, 0, [second_row(1, s) for s in range(10)])

        assert store.sizes()["raw"].rows == 10

    def test_a_copy_of_a_key_comes_back(self, store: SeriesStore, clock: Clock, tmp_path: Path) -> None:
        clock.pass_seconds(86_400)
        rows = [second_row(key, s, origin=s % 3) for key in (1, 2) for s in range(0, 4_000, 50)]
        aux = aux_table([aux_row(1, T0, "injected_energy", 5.0), aux_row(2, T0, "injected_energy", 5.0)])
        self.put(store, 0, rows, registers=register_table([register_row(1, T0, 1, 1)]), aux=aux)
        upkeep(store, clock)
        before = {resolution: store.read(2, *ALL, resolution) for resolution in Resolution}
        store.copy_out(tmp_path / "copy", *ALL, keys=[2])
        store.copy_out(tmp_path / "all", *ALL)
        other = self.another(clock, tmp_path / "other")

        assert other.copy_in(tmp_path / "copy") > 0
        assert other.copy_in(tmp_path / "copy") == 0
        assert other.read(1, *ALL, Resolution.RAW).num_rows == 0
        for wait in (None, 0, 120):
            if wait is not None:
                clock.pass_seconds(wait)
                upkeep(other, clock)
            assert other.read(2, *ALL, Resolution.RAW).to_pylist() == before[Resolution.RAW].to_pylist()
            assert other.read_aux(2, *ALL).num_rows == 1
            for resolution in TIERS:
                wanted = plain_rollup.plain(before[resolution])
                plain_rollup.assert_same(plain_rollup.plain(other.read(2, *ALL, resolution)), wanted)
        assert other.copy_in(tmp_path / "all") > 0
        assert other.read(1, *ALL, Resolution.RAW).num_rows == 80
        other.close()

    def test_a_copy_is_taken_in_pieces_that_stay(self, store: SeriesStore, clock: Clock, tmp_path: Path) -> None:
        clock.pass_seconds(86_400)
        self.put(store, 0, [second_row(1, s) for s in range(0, 4_000, 50)])
        upkeep(store, clock)
        rows = store.copy_out(tmp_path / "copy", *ALL)
        wanted = {resolution: store.read(1, *ALL, resolution) for resolution in Resolution}
        other = self.another(clock, tmp_path / "other")

        first = next(iter(other.copy_in_pieces(tmp_path / "copy")))
        assert 0 < first.taken == first.rows
        rest = list(other.copy_in_pieces(tmp_path / "copy", after=1))
        assert first.rows + sum(piece.rows for piece in rest) == rows
        assert [piece.taken for piece in other.copy_in_pieces(tmp_path / "copy")] == [0] * (1 + len(rest))
        for resolution in TIERS:
            found = plain_rollup.plain(other.read(1, *ALL, resolution))
            plain_rollup.assert_same(found, plain_rollup.plain(wanted[resolution]))
        assert other.read(1, *ALL, Resolution.RAW).equals(wanted[Resolution.RAW])
        other.close()

    def test_a_copy_of_a_range_holds_that_range(self, store: SeriesStore, clock: Clock, tmp_path: Path) -> None:
        self.put(store, 0, [second_row(1, s) for s in range(0, 3_600, 60)])
        store.copy_out(tmp_path / "copy", T0 + TEN_MIN_US, T0 + 2 * TEN_MIN_US)
        other = self.another(clock, tmp_path / "other")
        other.copy_in(tmp_path / "copy")

        assert other.read(1, *ALL, Resolution.RAW).column("seq").to_pylist() == list(range(600, 1_200, 60))
        other.close()

    def test_what_is_no_copy_is_refused(self, store: SeriesStore, tmp_path: Path) -> None:
        with pytest.raises(OperatorInputError):
            store.copy_in(tmp_path)
        store.copy_out(tmp_path / "copy", *ALL)
        (tmp_path / "copy" / "raw.parquet").write_bytes(b"not parquet")
        with pytest.raises(OperatorInputError):
            store.copy_in(tmp_path / "copy")

    def test_closing_twice_is_allowed(self, store: SeriesStore) -> None:
        store.close()
        store.close()

    def another(self, clock: Clock, folder: Path) -> SeriesStore:
        """A second, empty store."""
        raise NotImplementedError
