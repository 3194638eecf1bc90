from __future__ import annotations

import threading
from dataclasses import dataclass, field

import pyarrow.compute as pc
import pytest

from app.stores.errors import CompactionFailed, TableConflict
from app.stores.series.delta.compaction import Compactor, plan
from app.stores.series.delta.rows import one_per_key_and_time
from tests.app.stores.journal.rows import small_rows
from tests.app.stores.series.delta.test_table import opened


def grown(directory, files=3):
    table = opened(directory)
    for number in range(files):
        table.append(small_rows([1, 2], [number, number], [number, number]))
    return table


@dataclass
class Sums:
    """What a roll-up would do: something of each key."""

    sums: dict[int, float] = field(default_factory=dict)
    keys_seen: list[int] = field(default_factory=list)

    def consume(self, batch):
        for row in batch.group_by("key").aggregate([("value", "sum")]).to_pylist():
            self.sums[row["key"]] = row["value_sum"]
            self.keys_seen.append(row["key"])

    def result(self):
        return self.sums


@dataclass
class Fails:
    def consume(self, batch):
        raise ValueError("no such thing")

    def result(self):
        return None


@dataclass
class Waits:
    """Never ends: a test kills it."""

    def consume(self, batch):
        threading.Event().wait()

    def result(self):
        return None


def test_a_worker_merges_and_a_consumer_sees_the_rows(tmp_path):
    table = grown(tmp_path)
    expected = one_per_key_and_time(table.scan())
    result = Compactor().run(table, plan(table.files(), force=True), Sums())

    assert (result.rows_in, result.rows_out, result.consumed) == (6, 6, {1: 3.0, 2: 3.0})
    assert result.cpu_s > 0
    assert [file.level for file in table.files()] == [1]
    assert table.scan().equals(expected)
    assert pc.sum(table.scan()["value"]).as_py() == 6


def test_a_failing_merge_leaves_the_table_as_it_was(tmp_path):
    table = grown(tmp_path)
    before = (table.files(), set(tmp_path.iterdir()))
    with pytest.raises(CompactionFailed, match="no such thing"):
        Compactor().run(table, plan(table.files(), force=True), Fails())

    assert (table.files(), set(tmp_path.iterdir())) == before


def test_a_running_merge_can_be_cancelled(tmp_path):
    table = grown(tmp_path)
    compactor = Compactor()
    problems = []

    def run():
        try:
            compactor.run(table, plan(table.files(), force=True), Waits())
        except CompactionFailed as problem:
            problems.append(problem)

    thread = threading.Thread(target=run)
    thread.start()
    while not problems and thread.is_alive():
        compactor.cancel()
    thread.join()

    assert len(problems) == 1
    assert len(table.files()) == 3


def test_a_rotten_file_stops_merging_once(tmp_path):
    table = grown(tmp_path)
    path = tmp_path / table.files()[0].name
    data = bytearray(path.read_bytes())
    data[4:100] = bytes(96)
    path.write_bytes(data)
    with pytest.raises(CompactionFailed):
        Compactor().run(table, plan(table.files(), force=True))
    Compactor().run(table, plan(table.files(), force=True))

    assert table.rows_lost == 2
    assert table.scan().num_rows == 4


def test_a_plan_of_the_past_is_refused(tmp_path):
    table = grown(tmp_path)
    planned = plan(table.files(), force=True)
    table.delete_rows([1])
    with pytest.raises(TableConflict):
        Compactor().run(table, planned)
