"""Roll-ups compared with plain Python, and the rules that a comparison can not show."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.completeness import Reason
from app.domain.resolution import HOUR_US, SECOND_US, TEN_MIN_US, CivilDays
from app.stores.series.combine import combine, with_steps
from app.stores.series.grouping import numbers
from app.stores.series.overlay import bucket_bounds, source_of
from app.stores.series.rollup import NoFacts, Source, roll_up
from app.stores.series.tiering import Level
from app.stores.series.versions import as_part, join_registers, latest, resolve, split_registers
from tests.helpers import plain_rollup
from tests.helpers.raw_rows import (
    T0,
    anchors,
    aux_row,
    aux_table,
    extras,
    raw_table,
    readings,
    register_row,
    register_table,
    second_row,
)

HOUR_AT = lambda time: (time - time % HOUR_US, time - time % HOUR_US + HOUR_US)  # noqa: E731


class Facts(NoFacts):
    """Key 1 declares a period, key 2 is paired for a while, others say nothing."""

    def periods_ms(self, keys: Any) -> Any:
        return np.where(keys == 1, 1500, 0)

    def paired_us(self, keys: Any) -> tuple[Any, Any]:
        start, end = super().paired_us(keys)
        return np.where(keys == 2, T0 + 60 * SECOND_US, start), np.where(keys == 2, T0 + 900 * SECOND_US, end)


def period_of(key: int) -> int | None:
    return 1500 if key == 1 else None


def paired_of(key: int) -> tuple[int, int]:
    return (T0 + 60 * SECOND_US, T0 + 900 * SECOND_US) if key == 2 else (-(1 << 63), (1 << 63) - 1)


def reference(raw: list[Any], registers: list[Any], aux: list[Any], until: int | None = None) -> list[Any]:
    rows, copies = plain_rollup.unique(raw)
    registers, _ = plain_rollup.unique(registers, ("register",))
    aux, _ = plain_rollup.unique(aux, ("channel", "kind"))
    result = []
    for key in sorted({row["key"] for row in rows}):
        mine = [(at, row) for at, row in enumerate(rows) if row["key"] == key]
        result += plain_rollup.roll_up(
            [row for _, row in mine],
            [row for row in registers if row["key"] == key],
            [row for row in aux if row["key"] == key],
            period_ms=period_of(key),
            paired=paired_of(key),
            copies={position: copies[at] for position, (at, _) in enumerate(mine)},
            until=until,
        )
    return result


def made(raw: list[Any], registers: list[Any] = [], aux: list[Any] = [], until: int | None = None) -> Any:  # noqa: B006
    tables = {"raw": raw_table(raw), "registers": register_table(registers), "aux": aux_table(aux)}
    return roll_up(source_of(tables), Facts(), 1, until)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_ten_minutes_are_what_plain_python_makes_of_them(data: st.DataObject) -> None:
    raw = data.draw(readings())
    registers, aux = data.draw(anchors(raw)), data.draw(extras(raw))
    until = data.draw(st.sampled_from((None, T0 + 700 * SECOND_US)))

    plain_rollup.assert_same(
        plain_rollup.plain(made(raw, registers, aux, until)), reference(raw, registers, aux, until)
    )


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_hours_are_what_plain_python_makes_of_ten_minutes(data: st.DataObject) -> None:
    raw = data.draw(readings(span_s=9_000))
    registers, aux = data.draw(anchors(raw)), data.draw(extras(raw))
    rows = made(raw, registers, aux)
    starts, ends = bucket_bounds(Level.HOUR, numbers(rows, "time")[0], CivilDays("UTC"))

    hours = plain_rollup.plain(combine(rows, starts, ends, Facts(), 1))

    wanted = []
    ten_min = plain_rollup.plain(rows)
    for key in sorted({row["key"] for row in ten_min}):
        wanted += plain_rollup.combine([row for row in ten_min if row["key"] == key], HOUR_AT, paired=paired_of(key))
    plain_rollup.assert_same(hours, wanted)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_readers_get_what_lies_between_rows_too(data: st.DataObject) -> None:
    raw = data.draw(readings(keys=2, span_s=9_000))
    registers, aux = data.draw(anchors(raw)), data.draw(extras(raw))
    rows = made(raw, registers, aux)

    wanted = []
    ten_min = plain_rollup.plain(rows)
    for key in (1, 2):
        wanted += plain_rollup.with_steps([row for row in ten_min if row["key"] == key])
    plain_rollup.assert_same(plain_rollup.plain(with_steps(rows, 0)), wanted)


@given(st.lists(st.tuples(st.integers(1, 900), st.integers(0, 40)), min_size=2, max_size=60))
@settings(deadline=None)
def test_energy_of_buckets_adds_up_to_the_difference_of_the_index(steps: list[tuple[int, int]]) -> None:
    seconds, index = np.cumsum([gap for gap, _ in steps]), 5_000 + np.cumsum([wh for _, wh in steps])
    rows = made([second_row(5, int(s), drawn_wh=int(wh)) for s, wh in zip(seconds, index, strict=True)])
    starts, ends = bucket_bounds(Level.HOUR, numbers(rows, "time")[0], CivilDays("UTC"))
    hours = combine(rows, starts, ends, Facts(), 1)

    for table in (rows, hours):
        assert sum(with_steps(table, 0).column("drawn_wh").to_pylist()) == index[-1] - index[0]


def test_an_index_that_falls_is_marked_and_counts_no_energy() -> None:
    rows = made([second_row(1, s, drawn_wh=wh) for s, wh in ((0, 100), (1, 110), (2, 5), (3, 9))])

    (row,) = rows.to_pylist()
    assert row["drawn_grown_wh"] == 14
    assert row["reasons"] & Reason.INDEX_FELL


def test_w_and_va_are_kept_apart() -> None:
    rows = made([second_row(1, 0, power=100.0, power_kind=1), second_row(1, 1, power=300.0, power_kind=2)])

    (row,) = rows.to_pylist()
    assert (row["w_count"], row["w_mean"], row["va_count"], row["va_mean"]) == (1, 100.0, 1, 300.0)
    assert row["reasons"] & Reason.MIXED_POWER


def test_a_sequence_that_wraps_loses_nothing() -> None:
    rows = made([second_row(1, s, seq=(2**32 - 2 + s) % 2**32) for s in range(4)])

    assert rows.column("lost").to_pylist() == [0]


def test_a_reboot_is_no_loss() -> None:
    rows = made([second_row(1, 0, boot_id=1, seq=500), second_row(1, 1, boot_id=2, seq=0)])

    (row,) = rows.to_pylist()
    assert row["lost"] == 0
    assert row["reasons"] & Reason.REBOOTED


def test_losses_between_buckets_belong_to_the_later() -> None:
    rows = made([second_row(1, 599, seq=599), second_row(1, 605, seq=605)])

    assert with_steps(rows, 0).column("lost").to_pylist() == [0, 5]


def test_a_period_nobody_declared_is_learned_from_the_gaps() -> None:
    rows = made([second_row(3, s) for s in (0, 10, 20, 31, 40, 300)])

    (row,) = rows.to_pylist()
    assert (row["period_ms"], row["expected"]) == (10_000, 60)
    assert row["reasons"] & Reason.PERIOD_LEARNED


def test_registers_share_the_energy_of_a_day_with_a_change() -> None:
    index = {s: 1_000 + s for s in range(0, 1_200, 10)}
    raw = [second_row(1, s, drawn_wh=wh, register=1 if s < 900 else 2) for s, wh in index.items()]
    seen = [register_row(1, T0, 1, 400), register_row(1, T0, 2, 600)]
    seen += [register_row(1, T0 + 600 * SECOND_US, r, wh) for r, wh in ((1, 1_000), (2, 600))]
    seen += [register_row(1, T0 + 900 * SECOND_US, r, wh) for r, wh in ((1, 1_300), (2, 600))]

    rows = with_steps(made(raw, seen), 0).column("registers").to_pylist()

    first, second = ({item["register"]: item for item in items} for items in rows)
    assert first[1]["grown_wh"] == 590
    assert (first[1]["last_wh"], second[1]["first_wh"]) == (990, 1_000)
    # The step into the second bucket is in its share; together they are the index's 1,190 Wh.
    assert (second[1]["grown_wh"], second[2]["grown_wh"]) == (310, 290)


def test_injected_energy_comes_from_aux() -> None:
    raw = [second_row(1, s) for s in range(3)]
    aux = [aux_row(1, T0 + s * SECOND_US, "injected_energy", 70.0 + s) for s in range(3)]

    (row,) = with_steps(made(raw, [], aux), 0).to_pylist()
    assert (row["injected_first_wh"], row["injected_last_wh"], row["injected_wh"]) == (70, 72, 2)


def test_nothing_makes_nothing() -> None:
    assert made([]).num_rows == 0
    assert with_steps(made([]), 0).num_rows == 0
    assert roll_up(Source(raw_table([])), Facts(), 1).num_rows == 0


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)])
def test_civil_days_have_23_to_25_hours(day: str, hours: int) -> None:
    noon = int(np.datetime64(f"{day}T10:00", "us").astype(np.int64))
    days = CivilDays("Europe/Paris")

    assert days.next_start(noon) - days.start_of(noon) == hours * HOUR_US
    edges = days.edges(noon, noon + 1)
    assert edges.tolist() == [days.start_of(noon), days.next_start(noon)]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_rows_survive_being_split_for_the_disk(data: st.DataObject) -> None:
    raw = data.draw(readings())
    rows = made(raw, data.draw(anchors(raw)))
    stored, registers = split_registers(rows)

    again = join_registers(stored, registers.take(pa.array(range(registers.num_rows)[::-1], pa.int64())))

    assert again.to_pylist() == rows.to_pylist()


def test_the_highest_version_counts() -> None:
    old = roll_up(Source(raw_table([second_row(1, 0)])), Facts(), 3)
    new = roll_up(Source(raw_table([second_row(1, s) for s in range(2)])), Facts(), 4)
    assert latest(pa.concat_tables([new, old])).column("received").to_pylist() == [2]


def test_late_parts_are_added_to_what_is_there() -> None:
    whole = made([second_row(1, s) for s in range(60)])
    base = made([second_row(1, s) for s in range(60) if not 20 <= s < 30])
    part = as_part(made([second_row(1, s) for s in range(20, 30)]), 12)

    (row,), (wanted,) = resolve(pa.concat_tables([base, part])).to_pylist(), whole.to_pylist()
    for name in (
        "received",
        "lost",
        "drawn_first_wh",
        "drawn_last_wh",
        "drawn_grown_wh",
        "va_min",
        "va_max",
        "va_count",
    ):
        assert row[name] == wanted[name], name
    assert row["va_mean"] == pytest.approx(wanted["va_mean"])
    assert row["reasons"] & Reason.MERGED


def test_a_part_that_follows_brings_its_own_energy() -> None:
    base = made([second_row(1, s) for s in range(100)])
    part = as_part(made([second_row(1, s) for s in range(200, 300)]), 1)

    (row,) = resolve(pa.concat_tables([base, part])).to_pylist()
    assert row["drawn_grown_wh"] == 29
    assert row["received"] == 200


def test_buckets_are_half_open() -> None:
    rows = made([second_row(1, 599), second_row(1, 600)])

    assert numbers(rows, "time")[0].tolist() == [T0, T0 + TEN_MIN_US]
