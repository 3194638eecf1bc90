"""`./run read`: a module's stored readings, beside a running hub or without one."""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from app.domain.errors import OperatorInputError
from app.domain.keys import SupplyPeriod, SupplyPeriods
from app.domain.reading import PowerKind
from app.domain.resolution import Resolution, to_us
from app.hub.configuration import load_settings
from app.hub.data_directory import DataDirectory, default_directory
from app.hub.opening import stored_series
from app.stores.registry.registry import Registry

# A day more than any tier keeps; a range without an end reads to here.
_LATEST_US = to_us(dt.datetime(9999, 1, 1, tzinfo=dt.UTC))

# What a person sees, in this order; --csv has every column.
_SHOWN = {
    Resolution.RAW: (
        "time",
        "power",
        "power_kind",
        "drawn_wh",
        "register",
        "voltage_v",
        "current_a",
        "rssi_dbm",
        "frame_gap_ms",
        "seq",
        "lag_ms",
        "state",
    ),
    **dict.fromkeys(
        (Resolution.TEN_MIN, Resolution.HOUR, Resolution.DAY),
        (
            "time",
            "drawn_wh",
            "injected_wh",
            "va_mean",
            "va_max",
            "w_mean",
            "w_max",
            "expected",
            "received",
            "late",
            "duplicate",
            "lost",
            "rssi_median",
            "gap_median_ms",
        ),
    ),
}
_ROWS_AT_ONCE = 10_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `./run read`."""
    add = parser.add_argument
    add("--data", type=Path, default=default_directory(), metavar="DIR", help="data directory")
    add("--module", required=True, metavar="SERIAL", help="the module's serial")
    add("--from", dest="start", metavar="T", help="first moment, such as 2026-11-23T08:00 (UTC) or with +01:00")
    add("--to", dest="end", metavar="T", help="moment after the last")
    add("--every", choices=[every.value for every in Resolution], default="raw", help="readings or buckets")
    add("--csv", action="store_true", help="every column as CSV, times in UTC; unknown is empty")


def run(args: argparse.Namespace) -> int:
    """Print the readings, oldest first; a module without any prints only its header and says so on stderr."""
    start_us, end_us = _moment(args.start, 0), _moment(args.end, _LATEST_US)
    if start_us >= end_us:
        raise OperatorInputError("--from must lie before --to")
    directory = DataDirectory(args.data.resolve())
    resolution = Resolution(args.every)
    tables = _tables(directory, args.module, start_us, end_us, resolution)
    rows = _write_csv(tables) if args.csv else _write_text(tables, resolution)
    if not rows:
        print(f"no readings of {args.module} are stored in this range", file=sys.stderr)
    return 0


def _tables(
    directory: DataDirectory, serial: str, start_us: int, end_us: int, resolution: Resolution
) -> Iterator[pa.Table]:
    """One table per supply period, oldest first."""
    settings = load_settings(directory.root)
    if not settings.registry.url and not directory.registry.exists():
        raise OperatorInputError(f"{directory.root} is no data directory: it has no registry; name another with --data")
    with Registry.open_to_read(settings.registry.url or directory.registry) as registry:
        if registry.module(serial) is None:
            raise OperatorInputError(f"no module {serial} is registered in {directory.root}")
        periods = registry.periods(serial)
        with stored_series(directory, settings, registry, [serial]) as reader:
            for period in _within(periods, start_us, end_us):
                to_us = end_us if period.to_us is None else min(end_us, period.to_us)
                yield reader.read(period.key, max(start_us, period.from_us), to_us, resolution)


def _within(periods: SupplyPeriods, start_us: int, end_us: int) -> Iterator[SupplyPeriod]:
    for period in periods.periods:
        if period.from_us < end_us and (period.to_us is None or period.to_us > start_us):
            yield period


def _moment(text: str | None, default: int) -> int:
    if text is None:
        return default
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise OperatorInputError(f"{text!r} is no moment; write 2026-11-23T08:00 or 2026-11-23T09:00+01:00") from None
    return to_us(moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC))


def _write_csv(tables: Iterator[pa.Table]) -> int:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    rows = 0
    header: Sequence[str] | None = None
    for found in tables:
        # Keys are inside knowledge: whose a key is, only the registry tells.
        table = found.drop_columns("key")
        if header is None:
            header = table.column_names
            writer.writerow(header)
        for batch in table.to_batches(_ROWS_AT_ONCE):
            writer.writerows(zip(*(map(_cell, column.to_pylist()) for column in batch.columns), strict=True))
        rows += table.num_rows
    return rows


def _write_text(tables: Iterator[pa.Table], resolution: Resolution) -> int:
    names = _SHOWN[resolution]
    print("  ".join(_padded(name, name) for name in names))
    rows = 0
    for table in tables:
        for batch in table.select(names).to_batches(_ROWS_AT_ONCE):
            for row in batch.to_pylist():
                print("  ".join(_padded(_shown(name, row[name]), name) for name in names))
        rows += table.num_rows
    return rows


def _padded(text: str, name: str) -> str:
    return text.ljust(23) if name == "time" else text.rjust(max(len(name), 8))


def _shown(name: str, value: object) -> str:
    if value is None:
        return "-"
    if name == "power_kind":
        return {PowerKind.ACTIVE_W: "W", PowerKind.APPARENT_VA: "VA"}.get(PowerKind(int(str(value))), "-")
    if isinstance(value, float):
        return f"{value:.1f}"
    return _cell(value)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dt.datetime):
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, float):
        # Raw floats are 32 bits wide: seven digits say all there is.
        return f"{value:.7g}"
    return str(value)
