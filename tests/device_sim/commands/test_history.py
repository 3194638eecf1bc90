"""`./run sim history`: the past it writes is the one the store would have made of the readings."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import main
from app.client.api_call import call
from app.domain.errors import OperatorInputError
from app.domain.past import PastSpan
from app.domain.resolution import DAY_US, HOUR_US, TEN_MIN_US, Resolution, to_us
from app.domain.settings import Settings
from app.hub.data_directory import DataDirectory
from app.hub.opening import registry_facts, stored_series
from app.hub.simulation_tools import SimulationTools
from app.stores.registry.registry import Registry
from app.stores.series.delta_store import DeltaSeriesStore
from app.stores.series.grouping import numbers
from app.stores.series.overlay import source_of
from app.stores.series.past import _anchors, _aux, _raw, _ten_min
from app.stores.series.rollup import roll_up
from device_sim.homes.delivery import Delivery
from device_sim.homes.neighbourhood import Neighbourhood
from device_sim.homes.past import buckets_of, past_homes, seconds_of

US = 1_000_000
HOMES, SEED = 6, 4
UNTIL = dt.datetime(2026, 2, 3, 14, 20, tzinfo=dt.UTC)
END = to_us(UNTIL)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("history")
    words = [
        "sim",
        "history",
        "--homes",
        str(HOMES),
        "--months",
        "2",
        "--seed",
        str(SEED),
        "--until",
        UNTIL.isoformat(),
    ]
    words += ["--data", str(folder / "data"), "--truth", str(folder / "truth.parquet"), "--truth-homes", "2"]
    words += ["--credentials", str(folder / "credentials.csv"), "--processes", "1"]
    assert main.main(words) == 0
    return folder


def _store(directory: Path, registry: Registry, tmp: Path | None = None) -> DeltaSeriesStore:
    facts = registry_facts(registry, None, "Europe/Paris")
    return DeltaSeriesStore(DataDirectory(directory / "data").series, facts=facts, now_us=lambda: END)


def test_days_add_up_to_the_index_of_the_readings(directory: Path) -> None:
    """Raw, ten minutes, hours and days say the same of the days that are kept by the second."""
    where = DataDirectory(directory / "data")
    with Registry.open_to_read(where.registry) as registry, stored_series(where, Settings(), registry) as reader:
        for found in registry.all_periods().values():
            key = found.periods[-1].key
            raw = reader.read(key, END - 2 * DAY_US, END, Resolution.RAW)
            index = numbers(raw, "drawn_wh")[0]
            for resolution in (Resolution.TEN_MIN, Resolution.HOUR):
                rows = reader.read(key, END - 2 * DAY_US, END, resolution)
                within = numbers(rows, "drawn_wh")[0]
                begin = numbers(rows, "time")[0][0]
                from_raw = numbers(raw, "time")[0] >= begin
                # The first bucket's step in comes from before the range.
                assert within[1:].sum() == index[-1] - numbers(rows, "drawn_last_wh")[0][0], resolution
                assert numbers(rows, "received")[0].sum() == from_raw.sum()
            midnight = to_us(dt.datetime(2026, 2, 1, 23, tzinfo=dt.UTC))
            day = reader.read(key, midnight, midnight + 1, Resolution.DAY)
            hours = reader.read(key, midnight, midnight + DAY_US, Resolution.HOUR)
            assert numbers(day, "drawn_wh")[0].sum() == numbers(hours, "drawn_wh")[0].sum()
            assert hours.num_rows == 24


def test_tiers_reach_as_far_as_they_are_kept(directory: Path) -> None:
    where = DataDirectory(directory / "data")
    start = to_us(dt.datetime(2025, 12, 2, 23, tzinfo=dt.UTC))
    with Registry.open_to_read(where.registry) as registry, stored_series(where, Settings(), registry) as reader:
        key = registry.periods("SIM00001").periods[-1].key
        hours = reader.read(key, 0, END, Resolution.HOUR)
        tens = reader.read(key, 0, END, Resolution.TEN_MIN)
        days = reader.read(key, 0, END, Resolution.DAY)
        assert numbers(hours, "time")[0][0] == start
        assert numbers(days, "time")[0][0] == start
        assert numbers(tens, "time")[0][0] == END - 31 * DAY_US
        assert days.num_rows == 63  # 62 that are over, and today
        assert 0.95 < numbers(hours, "received")[0].sum() / ((END - start) // US) <= 1.0
        assert reader.read_group(0, END - HOUR_US, END).num_rows == 360


def test_recomputing_changes_nothing(directory: Path) -> None:
    with Registry.open_to_read(DataDirectory(directory / "data").registry) as registry:
        store = _store(directory, registry)
        keys = [found.periods[-1].key for found in registry.all_periods().values()]
        begin = END - 2 * DAY_US
        begin -= begin % HOUR_US
        try:
            for resolution in (Resolution.TEN_MIN, Resolution.HOUR, Resolution.DAY):
                before = [_without_versions(store.read(key, 0, END, resolution)) for key in keys]
                start = begin if resolution is Resolution.TEN_MIN else 0
                done = store.recompute(resolution, keys, start, END)
                assert done.made > 0
                assert done.kept == 0 or resolution is not Resolution.TEN_MIN
                after = [_without_versions(store.read(key, 0, END, resolution)) for key in keys]
                assert before == after, resolution
            assert store.unmade == 0 or not store.maintain(END)
        finally:
            store.close()


def test_what_minutes_say_is_what_the_roll_up_says_of_the_seconds() -> None:
    """Everything but extremes and means of power and voltage, which minutes can only be near to."""
    start = to_us(dt.datetime(2026, 1, 13, 16, tzinfo=dt.UTC))
    seconds, homes = 6 * 3600, 40
    one, other = (Neighbourhood(SEED, homes, start) for _ in range(2))
    delivery = Delivery(SEED, one.households.number, start // US, start // US + 86_400)
    injects = one.households.pv_kwp > 0
    keys = 1_000 + np.arange(homes, dtype=np.int64)
    rows, counts = np.arange(homes), one.register_counts
    facts = _EverySecond()
    before = one.counted_wh
    by_second = seconds_of(one.block(start, seconds), delivery, before, injects)
    tables = {
        "raw": _raw(by_second, rows, keys),
        "registers": _anchors(by_second, rows, keys, counts),
        "aux": _aux(by_second, rows, keys),
    }
    rolled = roll_up(source_of(tables), facts, 1)
    made = _ten_min(
        buckets_of(other.block(start, seconds, step_s=60), delivery, before, injects), rows, keys, counts, facts
    )

    assert rolled.num_rows == made.num_rows
    assert (numbers(rolled, "received")[0] < 600).any()
    for name in (
        "key", "time", "first_time", "last_time", "period_ms", "expected", "received", "late", "duplicate", "lost",
        "reasons", "states", "first_boot_id", "first_seq", "last_boot_id", "last_seq", "w_count", "va_count",
        "rssi_count", "gap_count", "voltage_count",
    ):  # fmt: skip
        assert rolled[name].combine_chunks() == made[name].combine_chunks(), name
    for name, near in (("drawn_last_wh", 1), ("rssi_median", 1), ("rssi_p10", 1), ("gap_median_ms", 4)):
        assert np.abs(numbers(rolled, name)[0] - numbers(made, name)[0]).max() <= near, name
    for name, share in (("va_mean", 0.03), ("voltage_mean", 0.003)):
        one_mean, other_mean = (table[name].to_numpy() for table in (rolled, made))
        whole = numbers(rolled, "received")[0] == 600
        assert np.median(np.abs(one_mean - other_mean)[whole] / one_mean[whole]) < share
    registers = [[len(row) for row in table["registers"].to_pylist()] for table in (rolled, made)]
    assert registers[0] == registers[1]
    grown = [
        sum(item["grown_wh"] for row in table["registers"].to_pylist() for item in row) for table in (rolled, made)
    ]
    assert abs(grown[0] - grown[1]) <= rolled.num_rows


class _EverySecond:
    def periods_ms(self, keys: np.ndarray) -> np.ndarray:
        return np.full(len(keys), 1_000)

    def paired_us(self, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.zeros(len(keys), np.int64), np.full(len(keys), 2**62)

    def groups(self, keys: np.ndarray) -> np.ndarray:
        return np.zeros(len(keys), np.int64)

    def zone(self, key: int) -> str:
        return "Europe/Paris"


def test_it_is_read_by_command_and_truth_sums_up(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["read", "--data", str(directory / "data"), "--module", "SIM00002", "--every", "1h", "--csv"]
    assert main.main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 1_400

    truth = pq.read_table(directory / "truth.parquet")
    parts = [name for name in truth.column_names if name.endswith("_w") and name != "total_w"]
    assert np.allclose(sum(truth[name].to_numpy() for name in parts), truth["total_w"].to_numpy(), atol=0.01)
    begin = truth["time"].cast("int64").to_numpy()[0]
    homes = Neighbourhood(SEED, HOMES, int(begin))
    assert np.array_equal(homes.power(int(begin), 3_600)[1], truth["total_w"].to_numpy()[:3_600])
    assert len((directory / "credentials.csv").read_text().splitlines()) == HOMES + 1


def test_what_is_there_already_is_refused(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["sim", "history", "--homes", "2", "--months", "1", "--data", str(directory / "data")]) == 2
    assert "not empty" in capsys.readouterr().err


def test_interrupted_it_leaves_nothing(tmp_path: Path) -> None:
    tools = SimulationTools()
    homes = Neighbourhood(1, 2, 0)
    midnight = tools.civil_midnight(END)
    span = PastSpan(midnight, midnight, midnight, midnight + TEN_MIN_US)
    with (
        pytest.raises(KeyboardInterrupt),
        tools.new_past(tmp_path / "data", past_homes(homes.households, homes.register_counts), span),
    ):
        raise KeyboardInterrupt

    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with (
        pytest.raises(OperatorInputError),
        tools.new_past(tmp_path / "file", past_homes(homes.households, homes.register_counts), span),
    ):
        pass


@pytest.mark.slow
def test_a_hub_opens_it(directory: Path) -> None:
    tools = SimulationTools()
    hub = tools.start_hub(directory / "data")
    try:
        found = call(hub.api, "GET", "/v1/modules?limit=50", token=hub.token)
        assert "SIM00003" in json.dumps(found)
    finally:
        hub.sigterm()


def _without_versions(rows: object) -> object:
    return rows.to_pylist()  # type: ignore[attr-defined]
