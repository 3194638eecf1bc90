"""Sums over the fleet: live ones and those made from raw are the same figures."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.resolution import SECOND_US, to_us
from app.stores.series.fleet import LATENESS_US, LEAD_US, FleetSums
from app.stores.series.fleet_rollup import added, fleet_rows
from app.stores.series.grouping import numbers
from app.stores.series.tiers import FLEET
from app.stores.series.unique import unique_readings
from tests.helpers.raw_rows import T0, raw_row, raw_table

CITIES = {1: 0, 2: 7, 3: 7, 4: 9}


def live(rows: list[Any], *, until_s: int, order: Random | None = None) -> list[dict[str, Any]]:
    """The rows fed in batches, in order of time or shuffled within the lateness, buckets closed as time goes on."""
    sums = FleetSums()
    sums.set_groups(np.array([0, *CITIES.values()], np.int32))
    arriving = sorted(rows, key=lambda row: to_us(row["time"]) + (order.randrange(25 * SECOND_US) if order else 0))
    parts = []
    for row in arriving:
        parts.append(sums.close_until(to_us(row["time"]), 1))
        feed(sums, [row])
    parts.append(sums.close_until(T0 + until_s * SECOND_US + LATENESS_US, 1))
    assert sums.passed_over == 0
    return by_time(pa.concat_tables(parts))


def feed(sums: FleetSums, rows: list[Any]) -> None:
    sums.observe(
        np.array([row["key"] for row in rows], np.intp),
        np.array([to_us(row["time"]) for row in rows], np.int64),
        np.array([-1 if row["drawn_wh"] is None else row["drawn_wh"] for row in rows], np.int64),
        np.array([np.nan if row["power"] is None else row["power"] for row in rows], np.float32),
        np.array([row["power_kind"] or 0 for row in rows], np.int8),
    )


def made(rows: list[Any], start_s: int, end_s: int) -> list[dict[str, Any]]:
    raw, _ = unique_readings(raw_table(rows))
    cities = np.array([CITIES[key] for key in numbers(raw, "key")[0].tolist()], np.int64)
    return by_time(fleet_rows(raw, cities, T0 + start_s * SECOND_US, T0 + end_s * SECOND_US, 1))


def by_time(table: pa.Table) -> list[dict[str, Any]]:
    return sorted(table.to_pylist(), key=lambda row: (row["time"], row["key"]))


def same(got: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    assert [(row["time"], row["key"]) for row in got] == [(row["time"], row["key"]) for row in wanted]
    for mine, theirs in zip(got, wanted, strict=True):
        for name in FLEET.names[3:]:
            assert mine[name] == pytest.approx(theirs[name]), (name, mine, theirs)


def home(key: int, second: int, wh: int | None, **values: Any) -> dict[str, Any]:
    return raw_row(key, T0 + second * SECOND_US, drawn_wh=wh, **values)


def drawn(random: Random, count: int, span_s: int) -> list[Any]:
    rows, index = {}, dict.fromkeys(CITIES, 1_000)
    for second in sorted(random.sample(range(span_s), count)):
        key = random.choice(list(CITIES))
        index[key] = max(index[key] + random.choice((0, 1, 3, -500 if random.random() < 0.05 else 2)), 0)
        kind = random.choice((None, 1, 2))
        power = None if kind is None else float(random.randrange(3_000))
        wh = index[key] if random.random() < 0.8 else None
        rows[key, second] = home(key, second, wh, power=power, power_kind=kind)
    return list(rows.values())


@given(st.integers(0, 1 << 32), st.integers(1, 120))
@settings(max_examples=80, deadline=None)
def test_live_sums_are_what_raw_readings_give(seed: int, count: int) -> None:
    random = Random(seed)
    rows = drawn(random, count, 600)
    first = min(to_us(row["time"]) for row in rows)
    start = (first - T0) // SECOND_US // 10 * 10

    same(live(rows, until_s=700), made(rows, start, 700))


def test_the_order_of_arrival_does_not_matter_within_the_lateness() -> None:
    rows = [home(key, s, 100 + s // 3, power=300.0, power_kind=2) for key in CITIES for s in range(0, 120, 2)]

    same(live(rows, until_s=200, order=Random(4)), live(rows, until_s=200))


def test_power_is_the_growth_of_indices_over_the_time_it_took() -> None:
    rows = [home(key, s, 1_000 + s * 2 // 10) for key in CITIES for s in range(60)]

    found = {row["time"].second: row for row in made(rows, 0, 60) if row["key"] == 0}
    # 2 Wh in 10 s is 720 W a home; before the first step nothing is known.
    assert found[0]["power_w"] is None
    assert found[30]["power_w"] == pytest.approx(4 * 720)
    assert (found[30]["reporting"], found[30]["counted"]) == (4, 4)
    assert found[30]["va_sum"] is None


def test_a_city_is_the_sum_of_its_homes() -> None:
    rows = [home(key, s, s * key, power=100.0 * key, power_kind=2) for key in CITIES for s in range(30)]

    found = {row["key"]: row for row in made(rows, 0, 30) if row["time"].second == 20}
    assert sorted(found) == [0, 7, 9]
    assert found[7]["power_w"] == pytest.approx(5 * 3_600)
    assert found[0]["power_w"] == pytest.approx(10 * 3_600)
    assert found[7]["va_sum"] == pytest.approx(500)


def test_a_module_that_was_away_brings_no_spike() -> None:
    rows = [home(1, s, 1_000) for s in range(20)] + [home(1, s, 3_000 + s) for s in range(300, 340)]

    found = {row["time"].minute * 60 + row["time"].second: row for row in made(rows, 0, 340)}
    assert found[300]["power_w"] is None
    assert found[310]["power_w"] == pytest.approx(3_600)
    assert 200 not in found


def test_a_slow_module_keeps_its_rate_until_its_next_reading_is_due() -> None:
    rows = [home(1, s, 1_000 + s) for s in range(0, 241, 30)]

    powers = [row["power_w"] for row in made(rows, 30, 240)]
    assert powers == pytest.approx([3_600] * 21)


def test_an_index_that_falls_is_no_power() -> None:
    rows = [home(1, s, 1_000 if s < 15 else 3) for s in range(40)]

    assert [row["power_w"] for row in made(rows, 0, 40)] == [None, None, 0.0, 0.0]


def test_a_window_made_apart_is_as_if_made_in_one() -> None:
    rows = drawn(Random(3), 250, 900)
    lead = LEAD_US // SECOND_US
    window = [row for row in rows if 600 - lead <= (to_us(row["time"]) - T0) // SECOND_US < 900]

    whole = [row for row in made(rows, 0, 900) if row["time"].minute >= 10]
    same(made(window, 600, 900), whole)


def test_parts_of_the_fleet_add_up() -> None:
    rows = drawn(Random(8), 250, 600)
    parts = []
    for chosen in ((1, 2), (3, 4)):
        raw, _ = unique_readings(raw_table([row for row in rows if row["key"] in chosen]))
        cities = np.array([CITIES[key] for key in numbers(raw, "key")[0].tolist()], np.int64)
        parts.append(fleet_rows(raw, cities, T0, T0 + 600 * SECOND_US, 1))

    same(by_time(added(parts)), made(rows, 0, 600))
    assert added([]).num_rows == 0


def test_what_comes_too_late_is_passed_over_and_counted() -> None:
    sums = FleetSums()
    sums.set_groups(np.zeros(5, np.int32))
    feed(sums, [home(1, 100, 5)])
    sums.close_until(T0 + 200 * SECOND_US, 1)
    feed(sums, [home(1, 90, 5), home(1, 5_000, 5)])

    assert sums.passed_over == 2


def test_new_modules_find_room() -> None:
    sums = FleetSums()
    sums.set_groups(np.zeros(2, np.int32))
    feed(sums, [home(1, 0, 5)])
    sums.set_groups(np.array([0, 0, 0, 0, 9], np.int32))
    feed(sums, [home(4, 1, 5)])

    rows = sums.close_until(T0 + 60 * SECOND_US, 1).to_pylist()
    assert [(row["key"], row["reporting"]) for row in rows if row["reporting"]] == [(0, 2), (9, 1)]
