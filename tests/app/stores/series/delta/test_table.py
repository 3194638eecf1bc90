from __future__ import annotations

import errno
import shutil
import threading

import deltalake
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.stores.errors import StoreDamaged, TableConflict, TableUnavailable
from app.stores.failpoints import FailPoint, FailPoints, parse_fail_points
from app.stores.series.delta import rewrite
from app.stores.series.delta.compaction import job_of
from app.stores.series.delta.files import CommitLabel, ScanCount
from app.stores.series.delta.plan import plan
from app.stores.series.delta.rows import one_per_key_and_time
from app.stores.series.delta.table import SeriesTable, TableOptions
from app.stores.series.delta.worker import run_job
from app.stores.series.schema import RAW
from app.stores.storage import Storage
from tests.app.stores.journal.rows import SMALL, START_US, raw_rows, small_rows, values_of

OPTIONS = TableOptions(append_group_rows=16, merge_group_rows=8)


def opened(directory, rules="", **kwargs):
    return SeriesTable.open(directory, SMALL, OPTIONS, FailPoints(parse_fail_points(rules)), **kwargs)


def compact(table):
    """In this process; a test of the worker process is elsewhere."""
    planned = plan(table.files(), force=True)
    if planned is not None:
        result = run_job(job_of(table, planned, None), Storage())
        table.replace(planned.inputs, result.added, point=FailPoint.COMPACTION)


def by_another_reader(directory):
    """The rows as the deltalake library sees them."""
    return deltalake.DeltaTable(directory).to_pyarrow_table()


def test_rows_of_all_columns_come_back(tmp_path):
    table = SeriesTable.open(tmp_path, RAW)
    rows = one_per_key_and_time(raw_rows(1000))
    table.append(raw_rows(1000))

    assert table.scan().equals(rows)
    compact(table)
    assert table.scan().equals(rows)
    assert one_per_key_and_time(by_another_reader(tmp_path).cast(RAW)).equals(rows)


def test_a_scan_has_the_columns_asked_for(tmp_path):
    table = opened(tmp_path)
    table.append(small_rows([1, 2], [0, 1], [5, 6]))

    assert table.scan(["value"], keys=[2]).to_pydict() == {"value": [6.0]}
    assert table.scan(["value"], keys=[3]).schema.names == ["value"]
    assert table.scan(["value"], keys=[]).num_rows == 0


def test_a_label_is_committed_once(tmp_path):
    table = opened(tmp_path)
    assert table.last_label("a") is None
    assert table.append(small_rows([1], [0]), label=CommitLabel("a", 5)) is not None
    assert table.append(small_rows([2], [0]), label=CommitLabel("a", 5)) is None
    assert table.append(small_rows([2], [0]), label=CommitLabel("a", 4)) is None
    assert table.append(small_rows([3], [0]), label=CommitLabel("b", 1)) is not None
    assert table.append(SMALL.empty_table(), label=CommitLabel("a", 6)) is not None
    assert table.append(SMALL.empty_table()) is None

    for again in (table, opened(tmp_path)):
        assert again.scan()["key"].to_pylist() == [1, 3]
        assert (again.last_label("a"), again.last_label("b")) == (6, 1)
    assert deltalake.DeltaTable(tmp_path).transaction_version("a") == 6


def test_labels_survive_a_checkpoint(tmp_path):
    table = opened(tmp_path)
    for number in range(5):
        table.append(small_rows([number], [0]), label=CommitLabel("a", number))
    compact(table)
    table.checkpoint()
    table.append(small_rows([9], [0]), label=CommitLabel("a", 9))
    for version in range(6):
        (tmp_path / "_delta_log" / f"{version:020d}.json").unlink()

    again = opened(tmp_path)
    assert again.last_label("a") == 9
    assert again.scan()["key"].to_pylist() == [0, 1, 2, 3, 4, 9]
    assert again.files() == table.files()


ACTIONS = st.lists(
    st.one_of(
        st.lists(st.tuples(st.integers(1, 4), st.integers(0, 40), st.integers(0, 2)), min_size=1, max_size=25),
        st.sampled_from(["compact", "vacuum", "checkpoint", "reopen", "maintain"]),
        st.tuples(st.just("delete"), st.integers(1, 4)),
        st.tuples(st.just("drop"), st.integers(0, 40)),
    ),
    max_size=8,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    actions=ACTIONS,
    keys=st.none() | st.sets(st.integers(0, 5)),
    start=st.none() | st.integers(0, 40),
    length=st.integers(0, 40),
)
def test_whatever_was_done_a_scan_is_a_filter(tmp_path_factory, actions, keys, start, length):
    directory = tmp_path_factory.mktemp("table")
    table = opened(directory)
    model = SMALL.empty_table()
    for number, action in enumerate(actions):
        seconds = (model["time"].cast(pa.int64()).to_numpy() - START_US) // 1_000_000
        match action:
            case "compact":
                compact(table)
            case "vacuum":
                table.vacuum(0)
            case "checkpoint":
                table.checkpoint()
            case "maintain":
                table.maintain()
            case "reopen":
                table = opened(directory)
            case ("delete", key):
                chosen = model["key"].to_numpy() == key
                one = one_per_key_and_time(model)
                deleted = table.delete_rows([key])
                assert deleted >= int((one["key"].to_numpy() == key).sum())
                model = model.filter(pa.array(~chosen))
            case ("drop", second):
                while table.drop_before(START_US + second * 1_000_000):
                    pass
                model = model.filter(pa.array(seconds >= second))
            case rows:
                row_keys, times, origins = zip(*rows, strict=True)
                part = small_rows(list(row_keys), list(times), [number * 100.0 + n for n in range(len(rows))])
                part = part.set_column(3, SMALL.field("origin"), pa.array(origins, pa.int8()))
                model = pa.concat_tables([model, part])
                table.append(part)
    expected = one_per_key_and_time(model)
    seconds = (expected["time"].cast(pa.int64()).to_numpy() - START_US) // 1_000_000
    chosen = np.ones(expected.num_rows, np.bool_)
    if keys is not None:
        chosen &= np.isin(expected["key"].to_numpy(), list(keys))
    if start is not None:
        chosen &= (seconds >= start) & (seconds < start + length)
    count = ScanCount()
    bounds = (None, None) if start is None else tuple(START_US + each * 1_000_000 for each in (start, start + length))
    found = one_per_key_and_time(table.scan(keys=keys, start_us=bounds[0], end_us=bounds[1], count=count))

    assert found.equals(expected.filter(pa.array(chosen)).combine_chunks())
    assert count.rows_returned <= count.rows_decoded
    everything = [("value", "ascending"), ("key", "ascending")]
    assert by_another_reader(directory).cast(SMALL).sort_by(everything).equals(table.scan().sort_by(everything))


def test_many_keys_are_matched_in_one_pass(tmp_path):
    table = opened(tmp_path)
    table.append(small_rows(list(range(500)), [0] * 500))
    wanted = range(0, 1000, 3)

    assert table.scan(keys=wanted)["key"].to_pylist() == list(range(0, 500, 3))


def test_only_row_groups_that_can_match_are_decoded(tmp_path):
    table = opened(tmp_path)
    table.append(small_rows([key for key in range(100) for _ in range(16)], list(range(1600))))
    count = ScanCount()
    table.scan(keys=[50], count=count)
    assert (count.files, count.row_groups, count.rows_decoded, count.rows_returned) == (1, 1, 16, 16)

    table.scan(keys=[200], start_us=0, end_us=10, count=count)
    assert count.row_groups == 1


def test_deleted_rows_are_gone_from_the_disk(tmp_path):
    table = opened(tmp_path)
    for second in range(3):
        table.append(small_rows([7, 8], [second, second]))
    compact(table)
    table.append(small_rows([7], [9]))

    assert table.delete_rows([7]) == 4
    table.vacuum(0)
    left = [pa.parquet.read_table(path)["key"].to_pylist() for path in tmp_path.glob("*.parquet")]
    assert left == [[8, 8, 8]]
    assert table.delete_rows([7]) == 0
    assert table.scan()["key"].to_pylist() == [8, 8, 8]


def test_deletion_follows_rows_that_a_merge_moves_meanwhile(tmp_path, monkeypatch):
    table = opened(tmp_path)
    for second in range(3):
        table.append(small_rows([7, 8], [second, second]))
    rewrite_once = rewrite.without

    def merged_meanwhile(*args):
        monkeypatch.setattr(rewrite, "without", rewrite_once)
        compact(table)
        return rewrite_once(*args)

    monkeypatch.setattr(rewrite, "without", merged_meanwhile)

    assert table.delete_rows([7]) == 3
    table.vacuum(0)
    assert [pa.parquet.read_table(path)["key"].to_pylist() for path in tmp_path.glob("*.parquet")] == [[8, 8, 8]]


@pytest.mark.parametrize("rot", ["zeros", "a bit", "footer"])
def test_of_a_file_that_rotted_what_can_be_read_stays(tmp_path, rot, caplog):
    table = opened(tmp_path)
    table.append(small_rows([1] * 50, list(range(50)), list(range(50))))
    table.append(small_rows([1], [60], [60]))
    path = tmp_path / table.files()[0].name
    data = bytearray(path.read_bytes())
    if rot == "zeros":
        data[4:200] = bytes(196)
    elif rot == "a bit":
        data[100] ^= 1
    else:
        data[-500:-200] = bytes(300)
    path.write_bytes(data)
    table = opened(tmp_path)
    expected = [60] if rot == "footer" else [*range(16, 50), 60]

    assert values_of(table.scan()) == expected
    assert table.rows_lost == 51 - len(expected)
    assert (tmp_path / "_damaged" / path.name).read_bytes() == data
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert values_of(opened(tmp_path).scan()) == expected
    table.vacuum(0)
    assert values_of(by_another_reader(tmp_path)) == expected


def test_retention_drops_whole_files_and_rewrites_one_border_file_a_call(tmp_path):
    table = opened(tmp_path)
    table.append(small_rows([1, 2], [0, 1]))
    table.append(small_rows([1, 2], [5, 15]))
    table.append(small_rows([1, 2], [8, 18]))
    border_us = START_US + 10_000_000

    assert table.drop_before(border_us, slack_us=5_000_000) == 2
    assert table.drop_before(border_us) == 1
    assert table.drop_before(border_us) == 1
    assert table.drop_before(border_us) == 0
    assert table.scan()["key"].to_pylist() == [2, 2]


def test_removed_files_stay_for_readers_and_scans_in_progress(tmp_path):
    table = opened(tmp_path)
    table.append(small_rows([1], [0]))
    table.append(small_rows([1], [1]))
    (first, second) = table.files()
    compact(table)
    assert table.vacuum() == 0
    assert (tmp_path / first.name).exists()
    with table.lease():
        compact(table)
    with opened(tmp_path).lease():
        assert table.sizes().kept_bytes == first.size_bytes + second.size_bytes
    assert table.vacuum(0) == 2
    assert not (tmp_path / first.name).exists()

    table.append(small_rows([1], [3]))
    with table.lease() as files:
        table.append(small_rows([1], [4]))
        compact(table)
        assert table.vacuum(0) == 1
        assert all((tmp_path / file.name).exists() for file in files)
    assert table.vacuum(0) == 1


def test_a_scan_survives_compaction_and_vacuum_meanwhile(tmp_path):
    table = opened(tmp_path)
    stop = threading.Event()
    problems = []

    def read():
        while not stop.is_set():
            rows = table.scan()
            values = one_per_key_and_time(rows)["value"].to_pylist()
            if values != list(range(len(values))):
                problems.append(values)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(25):
        table.append(small_rows([1], [number], [number]))
        if number % 5 == 4:
            compact(table)
            table.vacuum(0)
    stop.set()
    reader.join()

    assert problems == []


def test_a_merge_of_files_that_changed_meanwhile_is_refused(tmp_path):
    table = opened(tmp_path)
    table.append(small_rows([1, 2], [0, 1]))
    table.append(small_rows([1, 2], [3, 4]))
    planned = plan(table.files(), force=True)
    result = run_job(job_of(table, planned, None), Storage())
    table.delete_rows([1])
    with pytest.raises(TableConflict):
        table.replace(planned.inputs, result.added)

    assert table.scan()["key"].to_pylist() == [2, 2]
    assert not any((tmp_path / file.name).exists() for file in result.added)


def test_a_second_writer_is_noticed(tmp_path):
    table, other = opened(tmp_path), opened(tmp_path)
    other.append(small_rows([1], [0]))
    with pytest.raises(TableConflict):
        table.append(small_rows([2], [0]))

    assert opened(tmp_path).scan()["key"].to_pylist() == [1]


@pytest.mark.parametrize("point", ["delta_written", "delta_commit"])
def test_a_refusing_disk_makes_nothing_visible_and_can_be_tried_again(tmp_path, point):
    table = opened(tmp_path, f"{point}:error=ENOSPC@1-2")
    for _ in range(2):
        with pytest.raises(TableUnavailable) as problem:
            table.append(small_rows([1], [0]), label=CommitLabel("a", 1))
        assert problem.value.errno == errno.ENOSPC
        assert table.scan().num_rows == 0
        assert list(tmp_path.glob("*.parquet")) == []
    assert table.append(small_rows([1], [0]), label=CommitLabel("a", 1)) is not None

    assert opened(tmp_path).scan().num_rows == 1


class LogFolderCanNotBeSynced(Storage):
    failing = False

    def sync_directory(self, path):
        if self.failing and path.name == "_delta_log":
            raise OSError(errno.EIO, "input/output error")
        super().sync_directory(path)


def test_a_named_commit_is_promised_only_after_its_folder_is_synced(tmp_path):
    storage = LogFolderCanNotBeSynced()
    table = opened(tmp_path, storage=storage)
    storage.failing = True
    for _ in range(2):
        with pytest.raises(TableUnavailable):
            table.append(small_rows([1], [0]), label=CommitLabel("a", 1))
    storage.failing = False
    assert table.append(small_rows([1], [0]), label=CommitLabel("a", 1)) is None

    assert table.scan().num_rows == 1
    assert opened(tmp_path).scan().num_rows == 1


def test_new_nullable_columns_read_as_null_from_old_files(tmp_path):
    opened(tmp_path).append(small_rows([1], [0]))
    wider = pa.schema([*SMALL, pa.field("more", pa.int16())])
    table = SeriesTable.open(tmp_path, wider, OPTIONS)
    table.append(pa.table([*small_rows([2], [0]).columns, pa.array([5], pa.int16())], schema=wider))

    assert table.scan(["more"])["more"].to_pylist() == [None, 5]
    compact(table)
    assert table.scan()["more"].to_pylist() == [None, 5]
    assert by_another_reader(tmp_path)["more"].to_pylist() == [None, 5]


def test_a_table_of_other_columns_is_refused(tmp_path):
    SeriesTable.open(tmp_path, RAW)
    with pytest.raises(StoreDamaged, match="columns"):
        opened(tmp_path)


def test_rows_of_another_column_order_are_taken(tmp_path):
    table = opened(tmp_path)
    table.append(small_rows([1], [0], [4]).select(["origin", "value", "time", "key"]))
    table.append(small_rows([2], [0]).drop_columns(["value"]))
    assert table.scan()["value"].to_pylist() == [4.0, None]
    with pytest.raises(ValueError, match="key"):
        table.append(small_rows([2], [0]).drop_columns(["key"]))


def test_history_and_schema_are_what_other_readers_expect(tmp_path):
    table = SeriesTable.open(tmp_path, RAW)
    table.append(raw_rows(10), label=CommitLabel("a", 1))
    compact(table)
    table.checkpoint()
    other = deltalake.DeltaTable(tmp_path)

    assert [entry["operation"] for entry in other.history()] == ["OPTIMIZE", "WRITE", "CREATE TABLE"]
    assert [field.name for field in other.schema().fields] == RAW.names
    assert pa.schema(other.schema().to_arrow()).field("time").type == pa.timestamp("us", tz="UTC")


def test_old_log_entries_go_after_a_checkpoint(tmp_path):
    table = SeriesTable.open(tmp_path, SMALL, TableOptions(keep_s=-1, checkpoint_each=10))
    for number in range(35):
        table.append(small_rows([1], [number], [number]))
        table.maintain()
    names = sorted(path.name for path in (tmp_path / "_delta_log").glob("*"))

    assert len([name for name in names if name.endswith(".json")]) <= 11
    assert len([name for name in names if "checkpoint.parquet" in name]) == 1
    assert values_of(opened(tmp_path).scan()) == list(range(35))
    assert by_another_reader(tmp_path).num_rows == 35


def test_a_copy_of_the_folder_is_the_table(tmp_path):
    opened(tmp_path / "a").append(small_rows([1], [0]))
    shutil.copytree(tmp_path / "a", tmp_path / "b")

    assert opened(tmp_path / "b").scan().num_rows == 1
