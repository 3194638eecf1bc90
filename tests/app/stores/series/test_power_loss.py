"""A loss of power at any moment of appends, roll-ups, retention and deletion: nothing acknowledged is lost or doubled."""

from __future__ import annotations

import contextlib
from pathlib import Path
from random import Random
from typing import Any

import pytest

from app.domain.resolution import DAY_US, HOUR_US
from app.stores.series.delta_store import DeltaSeriesStore
from app.stores.series.interface import SegmentLabel
from app.stores.storage import Storage
from tests.app.stores.journal.power_loss import Kept, PowerCut, RecordingStorage
from tests.app.stores.series.contract import ALL, TIERS, Clock, ContractFacts, upkeep
from tests.helpers import plain_rollup
from tests.helpers.memory_series import MemorySeriesStore
from tests.helpers.raw_rows import T0, raw_table, second_row

_CUTS = 16


def segments() -> list[Any]:
    """Two keys over 26 hours, then late readings into made buckets, then a few after their raw ones went."""
    on_time = [second_row(k, s + more) for k in (1, 2) for s in (0, 7_000, 80_000) for more in range(0, 900, 50)]
    late = [second_row(1, s, origin=1) for s in range(25, 600, 50)]
    very_late = [second_row(1, s, origin=1) for s in range(7_010, 7_600, 50)]
    return [raw_table(rows) for rows in (on_time[::2], on_time[1::2], late, very_late)]


def times(clock: Clock) -> list[int]:
    return [T0 + 25 * HOUR_US, T0 + 26 * HOUR_US, T0 + 27 * HOUR_US, T0 + 4 * DAY_US]


def run(folder: Path, storage: Storage, acknowledged: list[int]) -> None:
    """Appends each segment, then does what is due; notes what was acknowledged."""
    clock = Clock(T0)
    store = open_store(folder, clock, storage)
    for number, (segment, now) in enumerate(zip(segments(), times(clock), strict=True)):
        clock.now_us = now
        if number == 3:
            upkeep(store, clock)
        store.append(SegmentLabel("journal", number), {"raw": segment})
        acknowledged.append(number)
        upkeep(store, clock)
        clock.pass_seconds(1_000)
        upkeep(store, clock)
    store.close()


def open_store(folder: Path, clock: Clock, storage: Storage | None = None) -> DeltaSeriesStore:
    return DeltaSeriesStore(folder, facts=ContractFacts, now_us=clock, monotonic_s=clock.seconds, storage=storage)


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> int:
    """How often the whole story changes the disk."""
    folder = tmp_path_factory.mktemp("whole")
    storage = RecordingStorage(folder)
    run(folder / "series", storage, [])
    storage.release()
    return storage.operations


@pytest.mark.slow
@pytest.mark.parametrize("kept", [Kept.SYNCED, Kept.NAMES])
@pytest.mark.parametrize("share", range(_CUTS))
def test_after_a_power_cut(tmp_path: Path, operations: int, share: int, kept: Kept) -> None:
    cut = Random(f"{share} {kept}").randrange(operations * share // _CUTS, operations * (share + 1) // _CUTS) + 1
    (tmp_path / "disk").mkdir()
    storage = RecordingStorage(tmp_path / "disk", cut_before=cut)
    acknowledged: list[int] = []
    with contextlib.suppress(PowerCut):
        run(tmp_path / "disk" / "series", storage, acknowledged)
    left = storage.leave(tmp_path / "left", kept)
    storage.release()

    clock = Clock(times(Clock(T0))[min(len(acknowledged), 3)])
    reference = MemorySeriesStore(ContractFacts(), clock)
    store = open_store(left / "series", clock)
    everything = segments()
    # The journal has what was not acknowledged by the store, and replays it in order.
    for number, segment in enumerate(everything[: len(acknowledged) + 1]):
        reference.append(SegmentLabel("journal", number), {"raw": segment})
        if number == len(acknowledged):
            store.append(SegmentLabel("journal", number), {"raw": segment})
    for wait in (0, 2_000):
        clock.pass_seconds(wait)
        compare(store, reference)
        upkeep(store, clock)
    compare(store, reference)
    assert store.unmade == 0
    store.close()


def compare(store: DeltaSeriesStore, reference: MemorySeriesStore) -> None:
    for key in (1, 2):
        for resolution in TIERS:
            got = plain_rollup.plain(store.read(key, *ALL, resolution))
            wanted = plain_rollup.plain(reference.read(key, *ALL, resolution))
            for mine, theirs in zip(got, wanted, strict=True):
                for name in ("key", "time", "received", "late", "drawn_wh", "va_count", "drawn_last_wh"):
                    assert mine[name] == theirs[name], (name, resolution, mine, theirs)
