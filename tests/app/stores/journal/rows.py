"""Small rows for tests of the stores."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from app.stores.series.schema import RAW

START_US = 1_780_000_200_000_000

SMALL = pa.schema(
    [
        pa.field("key", pa.int64(), nullable=False),
        pa.field("time", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("value", pa.float32()),
        pa.field("origin", pa.int8(), nullable=False),
    ]
)


def small_rows(keys: list[int], seconds: list[float], values: list[float] | None = None, origin: int = 0) -> pa.Table:
    """Rows of SMALL; `seconds` after START_US."""
    times = START_US + np.rint(np.array(seconds, np.float64) * 1e6).astype(np.int64)
    return pa.table(
        {
            "key": pa.array(keys, pa.int64()),
            "time": pa.array(times).cast(SMALL.field("time").type),
            "value": pa.array(values if values is not None else np.zeros(len(keys)), pa.float32()),
            "origin": pa.array(np.full(len(keys), origin), pa.int8()),
        },
        schema=SMALL,
    )


def small_batch(first: int, count: int) -> pa.RecordBatch:
    """Rows numbered from `first`: the number is in time and value, so each is unique."""
    numbers = list(range(first, first + count))
    table = small_rows([1 + number % 7 for number in numbers], numbers, numbers)
    return table.combine_chunks().to_batches()[0]


def values_of(rows: pa.Table) -> list[float]:
    return sorted(rows["value"].to_pylist())


def raw_rows(count: int, seed: int = 0) -> pa.Table:
    """Random rows of the raw schema, every nullable column with nulls."""
    random = np.random.default_rng(seed)
    columns = []
    for field in RAW:
        numbers = random.integers(0, 100, count)
        mask = random.random(count) < 0.2 if field.nullable else None
        columns.append(pa.array(numbers, mask=mask).cast(field.type))
    return pa.Table.from_arrays(columns, schema=RAW)
