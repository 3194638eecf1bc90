"""Rows of the ingested tables for tests, few words each; and Hypothesis strategies that draw awkward ones."""

from __future__ import annotations

from random import Random
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from app.domain.completeness import SEQUENCE_MODULUS
from app.domain.resolution import SECOND_US, from_us
from app.stores.series.schema import AUX, RAW, REGISTERS

# 2026-03-02 00:00 UTC: an hour's, but not a Paris day's, beginning.
T0 = 1_772_409_600 * SECOND_US
Row = dict[str, Any]


def raw_row(key: int, time_us: int, **values: Any) -> Row:
    """A raw row: nothing known but what is given."""
    row: Row = dict.fromkeys(RAW.names)
    return row | {"key": key, "time": from_us(time_us), "state": 0, "origin": 0} | values


def second_row(key: int, second: int, *, start_us: int = T0, **values: Any) -> Row:
    """What a healthy Linky module says in a second: sequence = second, index one Wh each 10 s."""
    defaults = {"lag_ms": 40, "boot_id": 7, "seq": second, "power": 500.0 + second % 7, "power_kind": 2}
    defaults |= {"drawn_wh": 1_000 + second // 10, "register": 1, "voltage_v": 230.0, "rssi_dbm": -60 - second % 5}
    return raw_row(key, start_us + second * SECOND_US, **(defaults | {"frame_gap_ms": 1000} | values))


def raw_table(rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows, RAW)


def register_row(key: int, time_us: int, register: int, drawn_wh: int, origin: int = 0) -> Row:
    return {"key": key, "time": from_us(time_us), "register": register, "drawn_wh": drawn_wh, "origin": origin}


def register_table(rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows, REGISTERS)


def aux_row(key: int, time_us: int, kind: str, value: float, channel: int = 1, origin: int = 0) -> Row:
    unit = "Wh" if kind == "injected_energy" else "VA"
    return {
        "key": key,
        "time": from_us(time_us),
        "channel": channel,
        "kind": kind,
        "value": value,
        "unit": unit,
        "origin": origin,
    }


def aux_table(rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows, AUX)


def readings(*, keys: int = 3, span_s: int = 2_400, most: int = 40) -> st.SearchStrategy[list[Row]]:
    """Raw rows in order of commit: nulls everywhere, duplicates, re-sent, sequences that wrap, reboots, falling indices.

    Hypothesis draws how many and a seed; a draw for each value would take a hundred times as long.
    """
    return st.builds(lambda count, seed: _readings(count, Random(seed), keys, span_s), st.integers(0, most), _SEEDS)


def anchors(rows: list[Row]) -> st.SearchStrategy[list[Row]]:
    """Register rows at the times of some readings."""
    return _SEEDS.map(lambda seed: _anchors(rows, Random(seed)))


def extras(rows: list[Row]) -> st.SearchStrategy[list[Row]]:
    """Aux rows at the times of some readings."""
    return _SEEDS.map(lambda seed: _extras(rows, Random(seed)))


_SEEDS = st.integers(0, 1 << 32)
_SEQUENCES = (0, 1, 2, 3, 10, SEQUENCE_MODULUS - 1, SEQUENCE_MODULUS - 2, 1 << 30)


def _readings(count: int, random: Random, keys: int, span_s: int) -> list[Row]:
    rows = []
    index_wh = {key: random.randrange(10_000) for key in range(1, keys + 1)}

    def maybe(value: Any) -> Any:
        return value if random.random() < 0.7 else None

    for _ in range(count):
        key = random.randint(1, keys)
        index_wh[key] = max(index_wh[key] + random.choice((0, 0, 1, 2, 50, -20)), 0)
        kind = maybe(random.choice((1, 2)))
        values = {
            "lag_ms": maybe(random.choice((0, 40, 60_000, 60_001, -3))),
            "boot_id": random.choice((1, 1, 1, 2, None)),
            "seq": maybe(random.choice(_SEQUENCES)),
            "power": None if kind is None else random.randint(-3_000, 36_000) / 2,
            "power_kind": kind,
            "drawn_wh": maybe(index_wh[key]),
            "register": maybe(random.choice((1, 2))),
            "voltage_v": maybe(random.randint(2_000, 2_500) / 8),
            "rssi_dbm": maybe(random.randint(-95, -30)),
            "frame_gap_ms": maybe(random.randint(0, 5_000)),
            "state": random.choice((0, 0, 0, 1, 2, 4, 1 << 16)),
            "origin": random.choice((0, 0, 1, 2)),
        }
        rows.append(raw_row(key, T0 + random.randint(0, span_s * 2) * SECOND_US // 2, **values))
    return rows


def _some(rows: list[Row], random: Random) -> list[Row]:
    return random.choices(rows, k=random.randrange(9)) if rows else []


def _anchors(rows: list[Row], random: Random) -> list[Row]:
    return [
        {
            "key": row["key"],
            "time": row["time"],
            "register": random.choice((1, 2, 3)),
            "drawn_wh": random.randrange(500),
            "origin": row["origin"],
        }
        for row in _some(rows, random)
    ]


def _extras(rows: list[Row], random: Random) -> list[Row]:
    return [
        {
            "key": row["key"],
            "time": row["time"],
            "channel": random.choice((1, 1, 2)),
            "kind": random.choice(("injected_energy", "apparent_power", "gas")),
            "value": float(random.randrange(900)),
            "unit": "",
            "origin": row["origin"],
        }
        for row in _some(rows, random)
    ]
