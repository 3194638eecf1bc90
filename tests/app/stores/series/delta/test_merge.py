from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.stores.series.delta import merge
from app.stores.series.delta.compaction import job_of
from app.stores.series.delta.plan import CompactionPlan
from app.stores.series.delta.rows import one_per_key_and_time
from app.stores.series.delta.table import SeriesTable, TableOptions
from app.stores.series.delta.worker import run_job
from app.stores.storage import Storage
from tests.app.stores.journal.rows import SMALL, START_US, small_rows

FILES = st.lists(
    st.lists(st.tuples(st.integers(1, 6), st.integers(0, 12), st.integers(0, 1)), min_size=1, max_size=30),
    min_size=1,
    max_size=6,
)


def table_with(directory, files, group_rows=4):
    table = SeriesTable.open(directory, SMALL, TableOptions(append_group_rows=group_rows, merge_group_rows=group_rows))
    given_rows = []
    for number, rows in enumerate(files):
        keys, times, origins = zip(*rows, strict=True)
        part = small_rows(list(keys), list(times), [number * 100.0 + place for place in range(len(rows))])
        part = part.set_column(3, SMALL.field("origin"), pa.array(origins, pa.int8()))
        given_rows.append(part)
        table.append(part)
    return table, pa.concat_tables(given_rows)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(files=FILES, held=st.sampled_from([0, 3, 1000]), batch=st.sampled_from([5, 1000]))
def test_merging_is_sorting_and_taking_one_of_each(tmp_path_factory, monkeypatch, files, held, batch):
    monkeypatch.setattr(merge, "_MAX_BATCH_ROWS", batch)
    monkeypatch.setattr(merge, "MAX_HELD_ROWS", held)
    table, rows = table_with(tmp_path_factory.mktemp("table"), files)
    batches = list(merge.merged(table.directory, table.files(), SMALL))

    assert pa.concat_tables(batches).equals(one_per_key_and_time(rows))
    if held == 1000:
        keys = [set(batch["key"].to_pylist()) for batch in batches]
        assert sum(len(each) for each in keys) == len(set().union(*keys))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    files=FILES, edges=st.lists(st.integers(0, 12), max_size=3, unique=True).map(sorted), group_rows=st.integers(1, 9)
)
def test_a_job_writes_the_merged_rows_parted_by_time(tmp_path_factory, files, edges, group_rows):
    table, rows = table_with(tmp_path_factory.mktemp("table"), files, group_rows)
    edges_us = tuple(START_US + edge * 1_000_000 for edge in edges)
    result = run_job(job_of(table, CompactionPlan(table.files(), 1, edges_us), None), Storage())
    table.replace(table.files(), result.added)

    assert one_per_key_and_time(table.scan()).equals(one_per_key_and_time(rows))
    assert table.scan().num_rows == result.rows_out
    for file in table.files():
        assert file.level == 1
        assert file.order == len(files)
        parts = {sum(time >= edge for edge in edges_us) for time in (file.min_us, file.max_us)}
        assert len(parts) == 1
        assert (table.directory / file.name).stat().st_size == file.size_bytes
        index = table.row_groups(file)
        assert int(index.rows.sum()) == file.rows
        assert (int(index.min_us.min()), int(index.max_us.max())) == (file.min_us, file.max_us)


def test_memory_is_bounded_by_groups_not_files(tmp_path, monkeypatch):
    """Of each file no more than two row groups are decoded and not yet passed on."""
    table, rows = table_with(
        tmp_path, [[(key, time, 0) for key in range(50) for time in range(n, 60, 6)] for n in range(6)]
    )
    largest = max(batch.num_rows for batch in merge.merged(tmp_path, table.files(), SMALL))

    assert rows.num_rows == 3000
    assert largest <= 6 * 2 * 4 + 60  # files x groups x rows, and one key held back


def test_row_groups_end_where_a_key_ends(tmp_path):
    table, _rows = table_with(tmp_path, [[(key, time, 0) for key in range(40) for time in range(9)]], group_rows=100)
    result = run_job(job_of(table, CompactionPlan(table.files(), 1, ()), None), Storage())
    (file,) = result.added
    index = table.row_groups(file)

    assert (index.min_key[1:] > index.max_key[:-1]).all()
    assert all(80 <= rows <= 120 for rows in index.rows[:-1].tolist())


class Breaks:
    def consume(self, batch):
        raise ValueError("enough")

    def result(self):
        return None


def test_a_job_that_fails_leaves_no_files(tmp_path):
    table, _rows = table_with(tmp_path, [[(1, 1, 0)], [(1, 2, 0)]])
    before = set(tmp_path.iterdir())
    with pytest.raises(ValueError, match="enough"):
        run_job(job_of(table, CompactionPlan(table.files(), 1, ()), Breaks()), Storage())

    assert set(tmp_path.iterdir()) == before


def test_files_are_split_when_they_grow_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr("app.stores.series.delta.output._MAX_FILE_ROWS", 100)
    table, rows = table_with(tmp_path, [[(key, time, 0) for key in range(30) for time in range(10)]], group_rows=20)
    result = run_job(job_of(table, CompactionPlan(table.files(), 1, ()), None), Storage())
    table.replace(table.files(), result.added)

    assert len(result.added) == 3
    assert table.scan().equals(one_per_key_and_time(rows))
