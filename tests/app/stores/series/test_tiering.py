"""The roll-ups' memory: nothing marked is forgotten, whatever happens to the file."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.stores.errors import StoreUnavailable
from app.stores.series.tier_memory import read_changes
from app.stores.series.tiering import Level, TierState, marks_of
from app.stores.storage import Storage


def keys(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def log_of(folder: Path) -> Path:
    (path,) = folder.glob("tiers-*.log")
    return path


def test_marks_survive_a_restart(tmp_path: Path) -> None:
    state = TierState(tmp_path)
    state.mark({Level.TEN_MIN: {600: keys(3, 5), 1_200: keys(4)}, Level.FLEET: {600: keys(0)}})
    state.finish(Level.TEN_MIN, {600: keys(5)}, mark={Level.HOUR: {0: keys(5)}}, horizons={Level.TEN_MIN: 1_800})
    state.raise_raw_floor(42)
    state.close()

    again = TierState(tmp_path)
    assert again.marked(Level.TEN_MIN) == [600, 1_200]
    assert again.marked_keys(Level.TEN_MIN, 600).tolist() == [3]
    assert again.marked(Level.TEN_MIN, 4) == [1_200]
    assert again.marked(Level.HOUR) == [0]
    assert (again.horizon(Level.TEN_MIN), again.raw_floor) == (1_800, 42)
    again.close()


def test_a_mark_that_comes_while_its_bucket_is_made_outlives_it(tmp_path: Path) -> None:
    state = TierState(tmp_path)
    state.mark({Level.TEN_MIN: {600: keys(1, 2)}})
    state.begin(Level.TEN_MIN, [600])
    state.mark({Level.TEN_MIN: {600: keys(2)}})
    state.finish(Level.TEN_MIN, {600: keys(1, 2)})

    assert state.marked_keys(Level.TEN_MIN, 600).tolist() == [2]
    state.begin(Level.TEN_MIN, [600])
    state.finish(Level.TEN_MIN, {600: keys(2)})
    assert state.marked(Level.TEN_MIN) == []
    state.close()


def test_versions_rise_over_restarts_and_clocks_set_back(tmp_path: Path) -> None:
    given = []
    for now in (1_000_000_000, 5, 2_000_000_000, 0):
        state = TierState(tmp_path)
        given += [state.next_version(now), state.next_version(now)]
        state.close()

    assert given == sorted(set(given))


def test_erased_keys_lose_their_marks_for_ever(tmp_path: Path) -> None:
    state = TierState(tmp_path)
    state.mark({Level.TEN_MIN: {600: keys(77_777_777_777, 2)}})
    state.erase([77_777_777_777])
    state.close()

    assert state.marked_keys(Level.TEN_MIN, 600).tolist() == [2]
    again = TierState(tmp_path)
    assert again.erased == {77_777_777_777}
    assert again.marked(Level.TEN_MIN, 77_777_777_777) == []
    again.close()


@given(st.integers(0, 400), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_torn_end_counts_as_never_written(cut: int, zeros: bool) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        state = TierState(folder)
        first = log_of(folder).stat().st_size
        for bucket in range(5):
            state.mark({Level.TEN_MIN: {bucket: keys(bucket)}})
        state.close()
        path = log_of(folder)
        data = path.read_bytes()
        kept = max(len(data) - cut, first)
        path.write_bytes(data[:kept] + (b"\0" * 64 if zeros else b""))
        whole = read_changes(data[:kept])

        again = TierState(folder)
        assert again.marked(Level.TEN_MIN) == list(range(len(whole) - 1))
        again.close()


def test_a_new_log_that_was_never_finished_leaves_the_old_one_in_force(tmp_path: Path) -> None:
    state = TierState(tmp_path)
    state.mark({Level.HOUR: {0: keys(9)}})
    state.close()
    (tmp_path / "tiers-00000099.log").write_bytes(b"\x10\0\0\0garbage")

    again = TierState(tmp_path)
    assert again.marked(Level.HOUR, 9) == [0]
    again.close()


class FullDisk(Storage):
    def __init__(self) -> None:
        self.full = False

    def append(self, descriptor: int, buffers: Sequence[bytes | memoryview]) -> int:
        if self.full:
            super().append(descriptor, [bytes(buffers[0])[:5]])
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().append(descriptor, buffers)


def test_a_full_disk_changes_nothing_and_passes(tmp_path: Path) -> None:
    disk = FullDisk()
    state = TierState(tmp_path, disk)
    state.mark({Level.TEN_MIN: {600: keys(1)}})
    disk.full = True
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            state.mark({Level.TEN_MIN: {1_200: keys(2)}})
    assert state.marked(Level.TEN_MIN) == [600]
    disk.full = False
    state.mark({Level.TEN_MIN: {1_200: keys(2)}})
    state.close()

    again = TierState(tmp_path)
    assert again.marked(Level.TEN_MIN) == [600, 1_200]
    again.close()


def test_the_log_does_not_grow_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.stores.series.tiering._REWRITE_BYTES", 2_000)
    state = TierState(tmp_path)
    for round_ in range(200):
        state.mark({Level.TEN_MIN: {600: keys(round_)}})
        state.finish(Level.TEN_MIN, {600: keys(round_)})
    state.close()

    assert log_of(tmp_path).stat().st_size < 3_000


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3))))
def test_marks_by_bucket(pairs: list[tuple[int, int]]) -> None:
    columns = np.array(pairs, np.int64).reshape(-1, 2)
    found = marks_of(columns[:, 0], columns[:, 1]) if pairs else {}

    assert {(int(key), bucket) for bucket, marked in found.items() for key in marked} == set(pairs)
