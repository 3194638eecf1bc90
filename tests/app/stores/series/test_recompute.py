"""Roll-ups made anew: they become what a fresh store would make, and nothing is lost where its source is gone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from app.domain.resolution import DAY_US, HOUR_US, SECOND_US, TEN_MIN_US, Resolution, to_us
from app.stores.errors import StoreUnavailable
from app.stores.failpoints import FailPoints, parse_fail_points
from app.stores.series import due_work
from app.stores.series.delta_store import DeltaSeriesStore
from app.stores.series.interface import Recomputed, SegmentLabel
from app.stores.series.rollup import NoFacts
from app.stores.series.tables import scan_tier
from app.stores.series.tiers import Retention
from tests.app.stores.series.contract import ALL, TIERS, Clock, upkeep
from tests.helpers import plain_rollup
from tests.helpers.memory_series import MemorySeriesStore
from tests.helpers.raw_rows import T0, raw_table, second_row

KEYS = (1, 2)
# Some windows of each day: enough for every border, few enough to be quick.
DAYS = 4
EACH_S = 14_400


class Facts(NoFacts):
    """What the test says, from when on it says so."""

    def __init__(self) -> None:
        super().__init__("Europe/Paris")
        self.period_ms = 1000

    def move(self, zone: str) -> None:
        self._zone = zone

    def periods_ms(self, keys: Any) -> Any:
        return np.full(len(keys), self.period_ms)


@pytest.fixture
def facts() -> Facts:
    return Facts()


@pytest.fixture
def clock() -> Clock:
    return Clock(T0 + DAYS * DAY_US + HOUR_US)


@pytest.fixture
def opened(tmp_path: Path, clock: Clock, facts: Facts) -> Iterator[Any]:
    """Opens the one store of the test, again after a restart."""
    stores: list[DeltaSeriesStore] = []

    def open_(retention: Retention | None = None, **others: Any) -> DeltaSeriesStore:
        for store in stores:
            store.close()
        stores.append(
            DeltaSeriesStore(
                tmp_path / "series",
                facts=lambda: facts,
                now_us=clock,
                monotonic_s=clock.seconds,
                retention=retention or Retention(30, 31),
                **others,
            )
        )
        return stores[-1]

    yield open_
    for store in stores:
        store.close()


def rows_of(days: int = DAYS, keys: tuple[int, ...] = KEYS, first_day: int = 0) -> list[Any]:
    seconds = range(first_day * 86_400, days * 86_400, EACH_S)
    return [second_row(key, second + part) for key in keys for second in seconds for part in (0, 1, 2)]


def put(store: Any, rows: list[Any], number: int = 0) -> None:
    store.append(SegmentLabel("journal", number), {"raw": raw_table(rows)})


def recompute(store: Any, start_us: int = 0, end_us: int = 2**60, keys: tuple[int, ...] = KEYS) -> list[Recomputed]:
    return [store.recompute(tier, keys, start_us, end_us) for tier in TIERS]


def reference(facts: Facts, clock: Clock, rows: list[Any]) -> MemorySeriesStore:
    store = MemorySeriesStore(facts, clock)
    put(store, rows)
    return store


def differences(store: Any, wanted: Any) -> list[Resolution]:
    """The tiers in which any key's answers are not those of the reference."""
    found = []
    for tier in TIERS:
        for key in KEYS:
            got, right = (plain_rollup.plain(one.read(key, *ALL, tier)) for one in (store, wanted))
            try:
                plain_rollup.assert_same(got, right)
            except AssertionError:
                found.append(tier)
                break
    return found


def spoil(store: Any, tier: str, key: int = 1, **values: Any) -> None:
    """Writes other values into every row of a key, as a fault of ours might have."""
    rows = scan_tier(store._tables, tier, [key], None, None)
    version = store._state.next_version(0)
    spoilt = [row | values | {"version": version} for row in rows.to_pylist()]
    store._tables.append_tier(tier, pa.Table.from_pylist(spoilt, rows.schema))


@pytest.mark.parametrize(
    ("zone", "settled", "days_a_call"),
    [("America/New_York", False, 99), ("Asia/Tokyo", True, 1), ("Asia/Kathmandu", True, 2)],
)
def test_days_of_another_zone_become_those_of_the_present_one(
    opened: Any, clock: Clock, facts: Facts, zone: str, settled: bool, days_a_call: int
) -> None:
    store = opened()
    rows = rows_of()
    put(store, rows)
    upkeep(store, clock)
    facts.move(zone)
    if settled:
        later = rows_of(DAYS + 2, first_day=DAYS)
        clock.pass_seconds(2 * 86_400)
        put(store, later, 1)
        upkeep(store, clock)
        rows += later
    right = reference(facts, clock, rows)
    assert differences(store, right) == [Resolution.DAY]

    begin = T0 - 2 * DAY_US
    while begin < clock():
        store.recompute(Resolution.DAY, KEYS, begin, begin + days_a_call * DAY_US)
        begin += days_a_call * DAY_US
    assert differences(store, right) == []

    # Withdrawn rows stay so over merges and restarts, and again changes nothing.
    store.settle()
    store = opened()
    assert differences(store, right) == []
    recompute(store)
    assert differences(store, right) == []
    clock.pass_seconds(3 * 86_400)
    upkeep(store, clock)
    assert differences(store, reference(facts, clock, rows)) == []


def test_a_part_of_the_days_can_be_done_and_nothing_counts_twice(opened: Any, clock: Clock, facts: Facts) -> None:
    """As a cancelled job leaves it."""
    store = opened()
    put(store, rows_of())
    upkeep(store, clock)
    received = sum(store.read(1, *ALL, Resolution.HOUR)["received"].to_pylist())
    facts.move("Asia/Tokyo")
    clock.pass_seconds(86_400)
    put(store, rows_of(DAYS + 1, first_day=DAYS), 1)
    upkeep(store, clock)
    for end in (T0 + 2 * DAY_US, T0 + 3 * DAY_US + 5 * HOUR_US):
        store.recompute(Resolution.DAY, KEYS, T0 + DAY_US, end)

        days = store.read(1, T0, T0 + DAYS * DAY_US, Resolution.DAY)
        hours = store.read(1, *ALL, Resolution.HOUR)
        spans = sorted(zip(days["first_time"].to_pylist(), days["last_time"].to_pylist(), strict=True))
        inner = [span for span in spans if to_us(span[1]) < T0 + (DAYS - 1) * DAY_US]
        assert all(before[1] < after[0] for before, after in itertools.pairwise(inner))
        assert sum(hours["received"].to_pylist()) == received + 18


def test_what_was_spoilt_is_made_right(opened: Any, clock: Clock, facts: Facts) -> None:
    store = opened()
    put(store, rows_of())
    upkeep(store, clock)
    right = reference(facts, clock, rows_of())
    assert differences(store, right) == []
    for tier in ("ten_min", "hour", "day"):
        spoil(store, tier, drawn_last_wh=10**9, received=1)
    assert differences(store, right) == list(TIERS)

    done = recompute(store, keys=(1,))
    assert differences(store, right) == []
    windows = DAYS * 86_400 // EACH_S
    assert done[:2] == [Recomputed(windows, 0), Recomputed(windows, 0)]
    assert done[2] == Recomputed(DAYS, 0)
    assert opened().read(1, *ALL, Resolution.HOUR).equals(store.read(1, *ALL, Resolution.HOUR))


def test_a_finer_tier_that_counted_too_much_is_made_right_with_all_above(
    opened: Any, clock: Clock, facts: Facts
) -> None:
    store = opened()
    put(store, rows_of())
    upkeep(store, clock)
    for tier in ("ten_min", "hour", "day"):
        spoil(store, tier, received=999)
    recompute(store)

    assert differences(store, reference(facts, clock, rows_of())) == []


def test_what_is_known_of_a_module_now_holds_for_then(opened: Any, clock: Clock, facts: Facts) -> None:
    store = opened()
    put(store, rows_of())
    upkeep(store, clock)
    facts.period_ms = 4_000
    right = reference(facts, clock, rows_of())
    assert differences(store, right) == list(TIERS)

    recompute(store)
    assert differences(store, right) == []


def test_only_what_was_asked_for_is_made_anew(opened: Any, clock: Clock, facts: Facts) -> None:
    store = opened()
    put(store, rows_of())
    upkeep(store, clock)
    spoil(store, "ten_min", states=1)
    before = store.read(1, *ALL, Resolution.TEN_MIN)["states"].to_pylist()
    assert set(before) == {1}

    # The first window begins at T0: a range that begins within it leaves it as it is, half-open at its end.
    done = store.recompute(Resolution.TEN_MIN, [1], T0 + 1, T0 + 2 * EACH_S * SECOND_US)
    after = store.read(1, *ALL, Resolution.TEN_MIN)["states"].to_pylist()
    assert (done, after.count(0), after[1]) == (Recomputed(1, 0), 1, 0)
    assert store.recompute(Resolution.TEN_MIN, [], 0, 2**60) == Recomputed(0, 0)
    assert store.recompute(Resolution.DAY, [77], 0, 2**60) == Recomputed(0, 0)


def test_where_finer_data_are_gone_the_old_roll_up_stays(opened: Any, clock: Clock, facts: Facts) -> None:
    retention = Retention(1, 2, 396, 761)
    store = opened(retention)
    put(store, rows_of())
    upkeep(store, clock)
    for _ in range(4):
        clock.pass_seconds(1_200)
        upkeep(store, clock)
    before = {tier: store.read(1, *ALL, tier) for tier in TIERS}
    ten_min, hours = before[Resolution.TEN_MIN], before[Resolution.HOUR]
    assert 0 < ten_min.num_rows < hours.num_rows, "retention has cut some ten-minute buckets"
    assert 0 < store.read(1, *ALL, Resolution.RAW).num_rows < 3 * ten_min.num_rows

    recompute(store)
    for tier in TIERS:
        plain_rollup.assert_same(plain_rollup.plain(store.read(1, *ALL, tier)), plain_rollup.plain(before[tier]))


def test_an_hour_of_which_a_part_is_gone_is_kept_and_counted(opened: Any, clock: Clock, facts: Facts) -> None:
    store = opened()
    put(store, [second_row(1, second) for second in range(0, 7_200, 60)])
    upkeep(store, clock)
    before = store.read(1, *ALL, Resolution.HOUR)
    # As retention cuts: the first half of an hour's ten-minute rows.
    table = store._tables["ten_min"]
    table.drop_before(T0 + 3 * TEN_MIN_US)
    while table.drop_before(T0 + 3 * TEN_MIN_US):
        pass
    assert store.read(1, *ALL, Resolution.TEN_MIN).num_rows == 9

    assert store.recompute(Resolution.HOUR, [1], *ALL) == Recomputed(1, 1)
    assert store.read(1, *ALL, Resolution.HOUR)["received"].to_pylist() == before["received"].to_pylist() == [60, 60]


def test_days_whose_hours_are_gone_keep_their_zone(opened: Any, clock: Clock, facts: Facts) -> None:
    store = opened()
    put(store, rows_of())
    upkeep(store, clock)
    days = store.read(1, *ALL, Resolution.DAY)
    cut = to_us(days["time"][2].as_py())
    for name in ("hour", "hour_registers"):
        while store._tables[name].drop_before(cut):
            pass
    facts.move("Asia/Tokyo")
    total = sum(days["received"].to_pylist())

    done = store.recompute(Resolution.DAY, [1], *ALL)
    found = store.read(1, *ALL, Resolution.DAY)
    # The first day lies before all hours that are left: it is not looked at.
    assert done.kept == 1
    assert found["time"].to_pylist()[:2] == days["time"].to_pylist()[:2]
    assert sum(found["received"].to_pylist()) == total
    assert {to_us(time) % DAY_US for time in found["time"].to_pylist()[2:]} == {15 * HOUR_US}, "midnight of Tokyo"


def test_late_readings_that_come_meanwhile_are_not_lost(opened: Any, clock: Clock, facts: Facts) -> None:
    store = opened()
    put(store, rows_of())
    upkeep(store, clock)
    late = [second_row(1, 5), second_row(2, EACH_S + 7)]
    put(store, late, 1)
    right = reference(facts, clock, [*rows_of(), *late])
    assert differences(store, right) == []

    recompute(store)
    assert differences(store, right) == []
    clock.pass_seconds(1_000)
    upkeep(store, clock)
    assert differences(store, reference(facts, clock, [*rows_of(), *late])) == []


def test_a_failure_leaves_all_as_it_was_and_it_can_be_repeated(opened: Any, clock: Clock, facts: Facts) -> None:
    store = opened()
    put(store, rows_of())
    upkeep(store, clock)
    for tier in ("ten_min", "hour", "day"):
        spoil(store, tier, received=1)
    right = reference(facts, clock, rows_of())
    for number in (1, 2, 3):
        store = opened(failpoints=FailPoints(parse_fail_points(f"rollup:error=ENOSPC@{number}")))
        with pytest.raises(StoreUnavailable):
            recompute(store, keys=(1,))
    store = opened()
    recompute(store, keys=(1,))

    assert differences(store, right) == []


def test_the_fleet_is_summed_up_whole_though_a_bucket_is_made_anew_in_between(
    opened: Any, clock: Clock, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A window is closed in several pieces, whose sums wait for the last."""
    monkeypatch.setattr(due_work, "_RAW_ROWS", 1)
    store = opened()
    put(store, [second_row(key, second) for key in KEYS for second in range(600)])
    clock.pass_seconds(1)
    put(store, [second_row(key, second) for key in KEYS for second in range(7_200, 7_800)], 1)
    while store.read_group(0, T0, T0 + HOUR_US).num_rows == 0:
        assert store.maintain(clock())
    begun = store.done.get("rollup", 0)
    while store.done.get("rollup", 0) < begun + 1:
        assert store.maintain(clock())
    assert store.recompute(Resolution.TEN_MIN, [1], T0, T0 + HOUR_US).made == 1
    upkeep(store, clock)

    first, second = (store.read_group(0, T0 + at, T0 + at + TEN_MIN_US) for at in (0, 2 * HOUR_US))
    assert second["reporting"].to_pylist() == first["reporting"].to_pylist() == [2] * 60
