from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.stores.series.delta.rows import one_per_key_and_time, sorted_by_key_and_time
from app.stores.series.schema import AUX
from tests.app.stores.journal.rows import SMALL, small_rows

# Few keys and times, so that many are equal; keys over the whole range of int64.
KEYS = st.sampled_from([1, 2, 5, 2**62 + 1, 2**63 - 1])
ROWS = st.lists(st.tuples(KEYS, st.integers(-3, 3), st.integers(0, 2)), max_size=40)


def table_of(rows):
    """Each row's value is its position."""
    if not rows:
        return SMALL.empty_table()
    keys, times, origins = zip(*rows, strict=True)
    table = small_rows(list(keys), list(times), list(range(len(rows))))
    return table.set_column(3, SMALL.field("origin"), pa.array(origins, pa.int8()))


@given(ROWS)
def test_sorting_is_stable(rows):
    expected = [index for _row, index in sorted(((row[0], row[1]), index) for index, row in enumerate(rows))]

    assert sorted_by_key_and_time(table_of(rows))["value"].to_pylist() == expected


@given(ROWS)
def test_lowest_origin_wins_then_the_last_given(rows):
    best = {}
    for index, (key, time, origin) in enumerate(rows):
        held = best.get((key, time))
        if held is None or origin <= held[0]:
            best[key, time] = (origin, index)
    expected = [index for _key, (_origin, index) in sorted(best.items())]

    assert one_per_key_and_time(table_of(rows))["value"].to_pylist() == expected


@given(ROWS)
def test_without_an_origin_the_last_given_wins(rows):
    best = {(key, time): index for index, (key, time, _origin) in enumerate(rows)}
    table = table_of(rows).drop_columns(["origin"])

    assert one_per_key_and_time(table)["value"].to_pylist() == [index for _key, index in sorted(best.items())]


@given(st.lists(st.tuples(KEYS, st.integers(0, 2), st.integers(1, 2), st.sampled_from(["gas", "heat"])), max_size=30))
def test_further_columns_tell_rows_apart(rows):
    table = pa.Table.from_pylist(
        [
            {
                "key": key,
                "time": time,
                "channel": channel,
                "kind": kind,
                "value": float(index),
                "unit": "Wh",
                "origin": 0,
            }
            for index, (key, time, channel, kind) in enumerate(rows)
        ],
        schema=AUX,
    )
    best = {row: float(index) for index, row in enumerate(rows)}

    found = one_per_key_and_time(table, ("channel", "kind"))["value"].to_pylist()
    assert found == [value for _row, value in sorted(best.items())]


@pytest.mark.parametrize("chunks", [1, 3])
def test_sorted_rows_are_not_moved(chunks):
    table = pa.concat_tables([small_rows([1, 1, 2], [chunk, chunk + 0.5, 9 + chunk]) for chunk in range(chunks)])
    found = sorted_by_key_and_time(table)

    assert found["key"].num_chunks == 1
    assert found.num_rows == 3 * chunks
