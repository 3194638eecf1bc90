"""The Delta store keeps the contract, and answers what the plain reference answers whatever happens to it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from app.domain.completeness import Reason
from app.domain.resolution import DAY_US, HOUR_US, Resolution
from app.stores.series.delta_store import DeltaSeriesStore
from app.stores.series.interface import SegmentLabel, SeriesReader
from tests.app.stores.series.contract import ALL, Clock, ContractFacts, SeriesStoreContract, upkeep
from tests.helpers import plain_rollup
from tests.helpers.memory_series import MemorySeriesStore
from tests.helpers.raw_rows import T0, anchors, aux_table, extras, raw_table, readings, register_table


def open_store(folder: Path, clock: Clock, **others: object) -> DeltaSeriesStore:
    return DeltaSeriesStore(folder, facts=ContractFacts, now_us=clock, monotonic_s=clock.seconds, **others)  # type: ignore[arg-type]


class TestDeltaSeriesStore(SeriesStoreContract):
    @pytest.fixture
    def store(self, clock: Clock, tmp_path: Path) -> Iterator[DeltaSeriesStore]:
        store = open_store(tmp_path / "series", clock)
        yield store
        store.close()

    def another(self, clock: Clock, folder: Path) -> DeltaSeriesStore:
        return open_store(folder, clock)


@given(st.data())
@settings(max_examples=10, deadline=None, phases=[Phase.explicit, Phase.generate])
def test_it_answers_what_the_reference_answers(data: st.DataObject) -> None:
    """Segments, upkeep, restarts and the passing of time in any order."""
    clock = Clock(T0 + HOUR_US)
    reference = MemorySeriesStore(ContractFacts(), clock)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(Path(folder), clock)
        for number in range(data.draw(st.integers(1, 5))):
            raw = data.draw(readings(keys=2, span_s=9_000, most=30))
            tables = {
                "raw": raw_table(raw),
                "registers": register_table(data.draw(anchors(raw))),
                "aux": aux_table(data.draw(extras(raw))),
            }
            label = SegmentLabel("journal", number)
            store.append(label, tables)
            reference.append(label, tables)
            clock.pass_seconds(data.draw(st.sampled_from((0, 30, 1_800, 20_000))))
            match data.draw(st.sampled_from(("nothing", "step", "upkeep", "restart", "replay"))):
                case "step":
                    store.maintain(clock())
                case "upkeep":
                    upkeep(store, clock)
                case "restart":
                    store.close()
                    store = open_store(Path(folder), clock)
                case "replay":
                    store.append(label, tables)
            compare(store, reference, *data.draw(st.sampled_from(RANGES)))
        upkeep(store, clock)
        for start, end in RANGES:
            compare(store, reference, start, end)
        store.close()


RANGES = (ALL, (T0 + HOUR_US, T0 + 2 * HOUR_US), (T0 - DAY_US, T0 + HOUR_US))


def compare(store: SeriesReader, reference: MemorySeriesStore, start: int, end: int) -> None:
    for key in (1, 2):
        raw = store.read(key, start, end, Resolution.RAW)
        assert raw.to_pylist() == reference.read(key, start, end, Resolution.RAW).to_pylist()
        for resolution in (Resolution.TEN_MIN, Resolution.HOUR, Resolution.DAY):
            got = plain_rollup.plain(store.read(key, start, end, resolution))
            wanted = plain_rollup.plain(reference.read(key, start, end, resolution))
            # How often a reading came more than once is known only until its copies are merged away.
            for row in got + wanted:
                del row["duplicate"]
                row["reasons"] &= ~Reason.DUPLICATED
            plain_rollup.assert_same(got, wanted)
