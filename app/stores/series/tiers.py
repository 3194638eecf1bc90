"""The tables that are made from readings: roll-ups of 10 minutes, hours and days, and the fleet's sums."""

from __future__ import annotations

import dataclasses

import pyarrow as pa

from app.domain.resolution import SECOND_US
from app.stores.series.schema import UTC_MICROSECONDS

# The kinds of aux rows that roll-ups take up (what ingest writes; channel 1).
AUX_INJECTED = "injected_energy"
AUX_APPARENT = "apparent_power"

# What one register did in a bucket. first and last: its index, null when no anchor is known; grown: sum of the steps of
# the index while it ran, the step into the bucket not included.
REGISTER = pa.struct(
    [
        pa.field("register", pa.int8()),
        pa.field("first_wh", pa.int64()),
        pa.field("last_wh", pa.int64()),
        pa.field("grown_wh", pa.int64()),
    ]
)


def _power(prefix: str) -> list[pa.Field]:
    return [
        pa.field(f"{prefix}_count", pa.int32(), nullable=False),
        pa.field(f"{prefix}_mean", pa.float32()),
        pa.field(f"{prefix}_mean_square", pa.float32()),
        pa.field(f"{prefix}_min", pa.float32()),
        pa.field(f"{prefix}_max", pa.float32()),
    ]


def _index(prefix: str) -> list[pa.Field]:
    return [
        pa.field(f"{prefix}_first_wh", pa.int64()),
        pa.field(f"{prefix}_last_wh", pa.int64()),
        pa.field(f"{prefix}_grown_wh", pa.int64()),
    ]


# One row per key and bucket. It is made of the bucket's own readings alone (so that it can be made anew without its
# neighbours) and rows of neighbouring buckets join into a longer one: what lies between two buckets (energy, losses) is
# found from `last` of one and `first` of the next, and belongs to the later.
#
# time: start of the bucket; version: of several rows for one (key, time, part) the highest counts, which is also the
# last committed; part: 0 for what was made from raw. Late readings that came after the raw ones of their bucket were
# gone stand in a row of their own for each segment that brought some (part: 1 + its number); readers add them up.
# W and VA are kept apart, each with its own count. Quantiles are nearest-rank (the median is the lower one).
TIER = pa.schema(
    [
        pa.field("key", pa.int64(), nullable=False),
        pa.field("time", UTC_MICROSECONDS, nullable=False),
        pa.field("version", pa.int64(), nullable=False),
        pa.field("part", pa.int64(), nullable=False),
        pa.field("first_time", UTC_MICROSECONDS, nullable=False),
        pa.field("last_time", UTC_MICROSECONDS, nullable=False),
        pa.field("period_ms", pa.int32()),
        pa.field("expected", pa.int32()),
        pa.field("received", pa.int32(), nullable=False),
        pa.field("late", pa.int32(), nullable=False),
        pa.field("duplicate", pa.int32(), nullable=False),
        pa.field("lost", pa.int32()),
        pa.field("reasons", pa.int32(), nullable=False),
        pa.field("states", pa.int32(), nullable=False),
        pa.field("first_boot_id", pa.int64()),
        pa.field("first_seq", pa.int64()),
        pa.field("last_boot_id", pa.int64()),
        pa.field("last_seq", pa.int64()),
        *_power("w"),
        *_power("va"),
        *_index("drawn"),
        *_index("injected"),
        pa.field("registers", pa.list_(REGISTER)),
        pa.field("rssi_count", pa.int32(), nullable=False),
        pa.field("rssi_p10", pa.int16()),
        pa.field("rssi_median", pa.int16()),
        pa.field("gap_count", pa.int32(), nullable=False),
        pa.field("gap_median_ms", pa.int32()),
        pa.field("voltage_count", pa.int32(), nullable=False),
        pa.field("voltage_mean", pa.float32()),
        pa.field("voltage_min", pa.float32()),
        pa.field("voltage_max", pa.float32()),
    ]
)

# How TIER lies on disk: Delta tables of plain columns, so the registers have a table of their own.
TIER_STORED = pa.schema([field for field in TIER if field.name != "registers"])
TIER_REGISTERS = pa.schema(
    [
        pa.field("key", pa.int64(), nullable=False),
        pa.field("time", UTC_MICROSECONDS, nullable=False),
        pa.field("version", pa.int64(), nullable=False),
        pa.field("part", pa.int64(), nullable=False),
        pa.field("register", pa.int8(), nullable=False),
        pa.field("first_wh", pa.int64()),
        pa.field("last_wh", pa.int64()),
        pa.field("grown_wh", pa.int64(), nullable=False),
    ]
)

# What a reader gets: versions and parts resolved; drawn_wh and injected_wh are the bucket's energy, the step into it
# from the last reading before it included (so they add up over any range), as are `lost` and each register's grown_wh.
TIER_READ = pa.schema(
    [
        *(field for field in TIER if field.name not in ("version", "part")),
        pa.field("drawn_wh", pa.int64()),
        pa.field("injected_wh", pa.int64()),
    ]
)

# One row per group and 10 seconds; key is the group: 0 the fleet, else a city's number.
# power_w: sum over modules of index difference over the time it took; counted: modules in that sum; va_sum, w_sum: sums
# of each module's mean measured power, with the modules in them; reporting: modules heard in these 10 s.
FLEET = pa.schema(
    [
        pa.field("key", pa.int64(), nullable=False),
        pa.field("time", UTC_MICROSECONDS, nullable=False),
        pa.field("version", pa.int64(), nullable=False),
        pa.field("reporting", pa.int32(), nullable=False),
        pa.field("counted", pa.int32(), nullable=False),
        pa.field("power_w", pa.float64()),
        pa.field("va_modules", pa.int32(), nullable=False),
        pa.field("va_sum", pa.float64()),
        pa.field("w_modules", pa.int32(), nullable=False),
        pa.field("w_sum", pa.float64()),
    ]
)
FLEET_GROUP = 0
FLEET_BUCKET_US = 10 * SECOND_US


@dataclasses.dataclass(frozen=True, slots=True)
class Retention:
    """How long each tier is kept, in days of the hub's clock; the defaults are the architecture's."""

    raw_days: int = 2
    ten_min_days: int = 31
    hour_days: int = 396
    day_days: int = 761
    fleet_days: int = 396

    def __post_init__(self) -> None:
        if not 1 <= self.raw_days <= self.ten_min_days <= self.hour_days <= self.day_days:
            raise ValueError("each tier is kept at least as long as the one it is made from, raw at least a day")
        if self.fleet_days < 1:
            raise ValueError("the fleet series is kept at least a day")

    def days(self, table: str) -> int:
        """Days kept of a table of the store."""
        if table in ("raw", "registers", "aux"):
            return self.raw_days
        tier = table.removesuffix("_registers")
        return {
            "ten_min": self.ten_min_days,
            "hour": self.hour_days,
            "day": self.day_days,
            "fleet": self.fleet_days,
        }[tier]
