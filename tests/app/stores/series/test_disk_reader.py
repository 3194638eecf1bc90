"""Another process's view of a data folder: everything acknowledged, nothing changed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app.domain.resolution import Resolution
from app.stores.journal.journal import Journal
from app.stores.series.delta_store import DeltaSeriesStore
from app.stores.series.disk_reader import open_reader
from app.stores.series.interface import SegmentLabel, SeriesReader
from app.stores.series.schema import INGESTED
from tests.app.stores.series.contract import ALL, Clock, ContractFacts, upkeep
from tests.helpers import plain_rollup
from tests.helpers.raw_rows import T0, aux_row, aux_table, raw_table, second_row


@pytest.fixture
def clock() -> Clock:
    return Clock(T0 + 20_000 * 1_000_000)


def reader_of(folder: Path, clock: Clock, **others: Any) -> SeriesReader:
    return open_reader(folder / "series", folder / "journal", facts=ContractFacts, now_us=clock, **others)


def tree(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(p): (p.stat().st_size, p.stat().st_mtime_ns) for p in folder.rglob("*")}


def test_sees_what_the_store_sees_and_touches_nothing(tmp_path: Path, clock: Clock) -> None:
    store = DeltaSeriesStore(tmp_path / "series", facts=ContractFacts, now_us=clock)
    journal = Journal.open(tmp_path / "journal", INGESTED)
    for number, seconds in enumerate((range(0, 7_200, 10), range(7_200, 7_300))):
        store.append(SegmentLabel("j", number), {"raw": raw_table([second_row(k, s) for k in (1, 2) for s in seconds])})
        upkeep(store, clock)
    tail = raw_table([second_row(1, s) for s in (5, 7_400, 7_401)])
    for batch in tail.to_batches():
        journal.append("raw", batch)
    journal.append("aux", aux_table([aux_row(1, T0, "injected_energy", 1.0)]).to_batches()[0])
    journal.sync()
    before = tree(tmp_path)

    for keys in (None, [1]):
        reader = reader_of(tmp_path, clock, keys=keys)
        assert reader.read(1, *ALL, Resolution.RAW).num_rows == 823
        assert sum(reader.read(1, *ALL, Resolution.DAY).column("received").to_pylist()) == 823
        assert sum(reader.read(1, *ALL, Resolution.TEN_MIN).column("drawn_wh").to_pylist()) == 740
        assert reader.latest([1]).column("seq").to_pylist() == [7_401]
        assert reader.read_aux(1, *ALL).num_rows == 1
        assert reader.read_group(0, *ALL).num_rows == store.read_group(0, *ALL).num_rows > 700
        assert reader.sizes()["raw"].rows == 1_640
        reader.close()
    other = reader_of(tmp_path, clock)
    for resolution in (Resolution.TEN_MIN, Resolution.HOUR, Resolution.DAY):
        wanted = plain_rollup.plain(store.read(2, *ALL, resolution))
        plain_rollup.assert_same(plain_rollup.plain(other.read(2, *ALL, resolution)), wanted)
    assert tree(tmp_path) == before
    store.close()
    journal.close()


def test_a_folder_without_a_store_is_empty(tmp_path: Path, clock: Clock) -> None:
    reader = reader_of(tmp_path, clock)

    assert all(reader.read(1, *ALL, resolution).num_rows == 0 for resolution in Resolution)
    assert reader.latest([1]).num_rows == 0
    assert list(tmp_path.iterdir()) == []


def test_a_torn_newest_commit_is_passed_over_and_left_alone(tmp_path: Path, clock: Clock) -> None:
    store = DeltaSeriesStore(tmp_path / "series", facts=ContractFacts, now_us=clock)
    for number in range(2):
        store.append(SegmentLabel("j", number), {"raw": raw_table([second_row(1, number)])})
    store.close()
    newest = max((tmp_path / "series" / "raw" / "_delta_log").glob("*.json"))
    newest.write_bytes(newest.read_bytes()[:40])
    before = tree(tmp_path)

    assert reader_of(tmp_path, clock).read(1, *ALL, Resolution.RAW).column("seq").to_pylist() == [0]
    assert tree(tmp_path) == before


_WRITER = """
import sys
from pathlib import Path
from app.stores.series.delta_store import DeltaSeriesStore
from app.stores.series.interface import SegmentLabel
from tests.app.stores.series.contract import Clock, ContractFacts
from tests.helpers.raw_rows import T0, raw_table, second_row
clock = Clock(T0)
store = DeltaSeriesStore(Path(sys.argv[1]), facts=ContractFacts, now_us=clock)
for number in range(60):
    rows = [second_row(1, s) for s in range(number * 60, number * 60 + 60)]
    store.append(SegmentLabel("j", number), {"raw": raw_table(rows)})
    print(number, flush=True)
    clock.pass_seconds(60)
    store.maintain(clock())
store.close()
"""


def test_beside_a_process_that_writes_counts_only_rise(tmp_path: Path, clock: Clock) -> None:
    root = Path(__file__).resolve().parents[4]
    command = [sys.executable, "-c", _WRITER, str(tmp_path / "series")]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        seen = 0
        for line in writer.stdout:
            count = sum(reader_of(tmp_path, clock).read(1, *ALL, Resolution.TEN_MIN).column("received").to_pylist())
            assert count >= max(seen, (int(line) + 1) * 60)
            seen = count
    assert writer.returncode == 0
    assert seen == 3_600
