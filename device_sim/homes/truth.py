"""What each appliance of some homes drew, as a Parquet file: it judges whoever tells appliances from the total."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from device_sim.homes.appliances import Appliance
from device_sim.homes.neighbourhood import Neighbourhood
from device_sim.homes.past import serial_of

_US = 1_000_000
_HOUR_S = 3_600
_SCHEMA = pa.schema(
    [
        pa.field("serial", pa.dictionary(pa.int32(), pa.string())),
        pa.field("time", pa.timestamp("us", tz="UTC")),
        *(pa.field(f"{appliance.name.lower()}_w", pa.float32()) for appliance in Appliance),
        pa.field("total_w", pa.float32()),
    ]
)


def write_truth(path: Path, homes: Neighbourhood, rows: Sequence[int], start_us: int, seconds: int) -> None:
    """One row for each home and second, active watts; photovoltaic power is negative, and so may the total be."""
    serials = [serial_of(int(homes.households.number[row])) for row in rows]
    with pq.ParquetWriter(path, _SCHEMA, compression="zstd") as writer:
        for begin_s in range(0, seconds, _HOUR_S):
            count = min(_HOUR_S, seconds - begin_s)
            begin_us = start_us + begin_s * _US
            parts = homes.truth(rows, begin_us, count)
            times = np.tile(begin_us + _US * np.arange(count), len(rows))
            columns = [
                pa.array(np.repeat(serials, count)).dictionary_encode(),
                pa.array(times).cast(_SCHEMA.field("time").type),
                *(pa.array(parts[appliance].ravel()) for appliance in Appliance),
                pa.array(np.sum([parts[appliance] for appliance in Appliance], axis=0, dtype=np.float32).ravel()),
            ]
            writer.write_table(pa.Table.from_arrays(columns, schema=_SCHEMA))
