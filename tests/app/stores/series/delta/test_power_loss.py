"""Whatever the moment of a power cut: nothing acknowledged is lost, nothing comes twice, and work goes on."""

from __future__ import annotations

import pytest

from app.stores.failpoints import FailPoint, FailPoints, parse_fail_points
from app.stores.storage import Storage
from tests.app.stores.journal.power_loss import Kept, PowerCut, RecordingStorage
from tests.app.stores.journal.rows import values_of
from tests.app.stores.series.delta.workload import ELSEWHERE, ROWS, Workload

ROUNDS = 4
EVERYTHING = ROUNDS * 3 * ROWS


def run_until_the_cut(storage, failpoints):
    """How many rows were acknowledged, and whether there was a cut at all."""
    acknowledged = 0

    def acknowledge(begin, count):
        nonlocal acknowledged
        assert begin == acknowledged
        acknowledged += count

    try:
        Workload(storage.root, failpoints, storage).run(0, ROUNDS, acknowledge)
    except PowerCut:
        return acknowledged, True
    return acknowledged, False


def check(directory, acknowledged):
    """Opens what is left and goes on; rows never acknowledged may be there, whole groups of them."""
    again = Workload(directory, FailPoints(), Storage())
    found = values_of(again.table.scan())
    assert found[:acknowledged] == list(range(acknowledged))
    assert len(found) == len(set(found))
    assert set(found) <= set(range(acknowledged + ROWS))
    assert again.journal.counters.damaged_bytes == 0

    again.run(1000, 2, lambda _begin, _count: None)
    again.table.checkpoint()
    last = Workload(directory, FailPoints(), Storage())
    assert values_of(last.table.scan()) == [*found, *range(1000, 1000 + 6 * ROWS)]
    assert last.table.verification.rolled_back_commits == 0


@pytest.mark.parametrize("time", [1, 2, 3, 8])
@pytest.mark.parametrize("point", [point for point in FailPoint if point not in ELSEWHERE])
def test_at_each_fail_point(tmp_path, point, time):
    storage = RecordingStorage(tmp_path / "disk")
    storage.make_directory(storage.root)
    failpoints = FailPoints(parse_fail_points(f"{point}:kill@{time}"), kill=storage.cut)
    acknowledged, cut = run_until_the_cut(storage, failpoints)
    storage.release()
    assert cut or time == 8 or point in {FailPoint.COMPACTION, FailPoint.VACUUM}

    for kept in Kept:
        check(storage.leave(tmp_path / kept.value, kept), acknowledged)


# The whole run is some 190 operations on the disk; a cut before each would take a minute, so each test run takes some of
# them, all of them in eleven ways of counting.
@pytest.mark.parametrize("before", [*range(1, 60, 7), *range(60, 400, 13)])
def test_before_any_operation_on_the_disk(tmp_path, before):
    storage = RecordingStorage(tmp_path / "disk", cut_before=before)
    storage.root.mkdir()
    acknowledged, cut = run_until_the_cut(storage, FailPoints())
    storage.release()
    if not cut:
        assert acknowledged == EVERYTHING

    kept = list(Kept)[before % len(Kept)]
    check(storage.leave(tmp_path / kept.value, kept), acknowledged)


def test_the_simulation_does_lose_what_is_not_synced(tmp_path):
    storage = RecordingStorage(tmp_path / "disk")
    storage.make_directory(storage.root)
    storage.sync_directory(storage.root)
    storage.write_file(storage.root / "a", b"synced")
    storage.sync_directory(storage.root)
    storage.rename(storage.root / "a", storage.root / "b")
    storage.append(storage.create(storage.root / "c"), [b"unsynced"])
    storage.release()

    left = storage.leave(tmp_path / "left", Kept.SYNCED)
    assert {path.name: path.read_bytes() for path in left.iterdir()} == {"a": b"synced"}
    left = storage.leave(tmp_path / "names", Kept.NAMES)
    assert {path.name: path.read_bytes() for path in left.iterdir()} == {"b": b"synced", "c": bytes(8)}
