"""Readings become columns without losing or inventing a value."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from app.domain.reading import PowerKind, Reading, StateBit
from app.ingest.columns import aux_batch, raw_batch, register_batch
from app.protocol.codec import decode_tele
from app.protocol.golden import golden
from app.stores.series.schema import RAW
from tests.app.ingest.readings import NOW_MS, NOW_US, columns_of

floats = st.one_of(st.none(), st.floats(-1e6, 1e6, width=32))
optional = st.one_of(st.none(), st.integers(0, 2**40))
indexes = st.one_of(st.none(), st.floats(0, 1e9))
readings = st.builds(
    Reading,
    time_ms=st.one_of(st.none(), st.integers(NOW_MS - 10**6, NOW_MS + 10**6)),
    seq=optional,
    boot_id=optional,
    active_w=floats,
    apparent_va=floats,
    drawn_wh=optional,
    register=st.one_of(st.none(), st.integers(1, 10)),
    voltage_v=floats,
    current_a=floats,
    rssi_dbm=st.one_of(st.none(), st.integers(-127, 0)),
    frame_gap_ms=st.one_of(st.none(), st.integers(0, 10**6)),
    state=st.one_of(st.none(), st.integers(0, 255)),
    injected_wh=optional,
    gas_m3=indexes,
    water_m3=indexes,
    heat_gj=indexes,
)


def raw_rows(columns):
    count = len(columns)
    return raw_batch(columns, np.arange(1, count + 1), np.zeros(count, np.int8), None).to_pylist()


@given(st.lists(readings, min_size=1, max_size=20))
def test_every_value_arrives(given_readings):
    columns = columns_of(*given_readings)
    rows = raw_rows(columns)

    for reading, row in zip(given_readings, rows, strict=True):
        for name in ("seq", "boot_id", "drawn_wh", "register", "voltage_v", "current_a", "rssi_dbm", "frame_gap_ms"):
            assert row[name] == getattr(reading, name), name
        if reading.active_w is not None:
            assert (row["power"], row["power_kind"]) == (reading.active_w, PowerKind.ACTIVE_W)
        elif reading.apparent_va is not None:
            assert (row["power"], row["power_kind"]) == (reading.apparent_va, PowerKind.APPARENT_VA)
        else:
            assert (row["power"], row["power_kind"]) == (None, None)
        stamped = bool(row["state"] & StateBit.STAMPED_ON_ARRIVAL)
        assert stamped == (reading.time_ms is None)
        time_us = NOW_US if reading.time_ms is None else reading.time_ms * 1000
        assert int(row["time"].timestamp() * 1e6 + 0.5) == time_us
        assert row["lag_ms"] == (NOW_US - time_us) // 1000


@given(st.lists(readings, min_size=1, max_size=20))
def test_the_second_kind_of_power_and_injected_energy_go_to_aux(given_readings):
    columns = columns_of(*given_readings)
    count = len(columns)
    batch = aux_batch(columns, np.arange(count), np.zeros(count, np.int8), np.ones(count, np.bool_))
    found = {(row["key"], row["kind"]): row["value"] for row in (batch.to_pylist() if batch else [])}

    expected = {}
    for number, reading in enumerate(given_readings):
        if reading.injected_wh is not None:
            expected[number, "injected_energy"] = reading.injected_wh
        for kind, value in (("gas", reading.gas_m3), ("water", reading.water_m3), ("heat", reading.heat_gj)):
            if value is not None:
                expected[number, kind] = value
        if reading.active_w is not None and reading.apparent_va is not None:
            expected[number, "apparent_power"] = reading.apparent_va
    assert found == expected


def test_the_golden_example_fills_a_lean_row():
    row = raw_rows(columns_of(decode_tele(golden("tele"))))[0]

    assert pa.RecordBatch.from_pylist([row], RAW).schema == RAW
    assert row["power_kind"] == PowerKind.APPARENT_VA
    assert all(row[name] is not None for name in ("seq", "drawn_wh", "voltage_v", "rssi_dbm", "frame_gap_ms"))


def test_registers_of_chosen_rows():
    columns = columns_of(Reading(registers_wh={1: 100, 2: 200}), Reading(), Reading(registers_wh={1: 101}))
    batch = register_batch(columns, np.array([7, 8, 9]), np.zeros(3, np.int8), np.array([0, 1, 2]))

    assert [(row["key"], row["register"], row["drawn_wh"]) for row in batch.to_pylist()] == [
        (7, 1, 100),
        (7, 2, 200),
        (9, 1, 101),
    ]


def test_withheld_instants_keep_the_index():
    columns = columns_of(Reading(apparent_va=10, voltage_v=230, drawn_wh=5), Reading(apparent_va=20, drawn_wh=6))
    columns.withhold_instants(np.array([True, False]))
    rows = raw_rows(columns)

    assert (rows[0]["power"], rows[0]["voltage_v"], rows[0]["drawn_wh"]) == (None, None, 5)
    assert (rows[1]["power"], rows[1]["drawn_wh"]) == (20, 6)
