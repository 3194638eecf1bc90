"""`./run read`: a module's stored readings, beside a running hub or without one."""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import difflib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from app.domain.errors import OperatorInputError
from app.domain.keys import SupplyPeriod, SupplyPeriods
from app.domain.reading import PowerKind
from app.domain.resolution import Resolution, to_us
from app.hub.configuration import load_settings
from app.hub.data_directory import DataDirectory, default_directory
from app.hub.opening import read_only_registry, stored_series
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
READINGS, REGISTERS, AUX = "readings", "registers", "aux"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `./run read`."""
    add = parser.add_argument
    add("--data", type=Path, default=default_directory(), metavar="DIR", help="data directory")
    add("--module", required=True, metavar="SERIAL", help="the module's serial")
    add("--from", dest="start", metavar="T", help="first moment, such as 2026-11-23T08:00 (UTC) or with +01:00")
    add("--to", dest="end", metavar="T", help="moment after the last")
    add("--every", choices=[every.value for every in Resolution], default="raw", help="readings or buckets")
    add(
        "--table",
        choices=(READINGS, REGISTERS, AUX),
        default=READINGS,
        help="readings; the index of each supplier register; the rest: phases 2 and 3, injected energy, second power, "
        "gas, water and heat",
    )
    add("--csv", action="store_true", help="every column as CSV, times in UTC; unknown is empty")


def run(args: argparse.Namespace) -> int:
    """Print the readings, oldest first; a module without any prints only its header and says so on stderr."""
    start_us, end_us = _moment(args.start, 0), _moment(args.end, _LATEST_US)
    if start_us >= end_us:
        raise OperatorInputError("--from must lie before --to")
    directory = DataDirectory(args.data.resolve())
    settings = load_settings(directory.root)
    resolution = Resolution(args.every)
    if args.table != READINGS and resolution is not Resolution.RAW:
        raise OperatorInputError(f"--table {args.table} has no buckets; leave --every out")
    with read_only_registry(directory, settings) as registry:
        serial = args.module
        _check_known(registry, serial, directory)
        with stored_series(directory, settings, registry, [serial]) as reader:

            def read(key: int, start: int, end: int) -> pa.Table:
                if args.table == REGISTERS:
                    return reader.read_registers(key, start, end)
                if args.table == AUX:
                    return reader.read_aux(key, start, end)
                return reader.read(key, start, end, resolution)

            tables = (
                read(period.key, max(start_us, period.from_us), min(end_us, period.to_us or end_us))
                for period in _within(registry.periods(serial), start_us, end_us)
            )
            rows = _write_csv(tables) if args.csv else _write_text(tables, _shown_columns(args.table, resolution))
    if not rows:
        limited = args.start is not None or args.end is not None
        print(f"no readings of {serial} are stored{' in this range' if limited else ' yet'}", file=sys.stderr)
    return 0


def _check_known(registry: Registry, serial: str, directory: DataDirectory) -> None:
    if registry.module(serial) is not None:
        return
    known = [record.serial for record in registry.modules()]
    folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(serial.casefold(), folded, n=1)
    hint = f"did you mean {folded[near[0]]}?" if near else "`./run modules` lists those that are"
    raise OperatorInputError(f"no module {serial} is registered in {directory.root}; {hint}")


def _shown_columns(table: str, resolution: Resolution) -> tuple[str, ...]:
    if table == READINGS:
        return _SHOWN[resolution]
    return ("time", "register", "drawn_wh") if table == REGISTERS else ("time", "channel", "kind", "value", "unit")


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


def _write_csv(tables: Iterable[pa.Table]) -> int:
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


def _write_text(tables: Iterable[pa.Table], names: Sequence[str]) -> int:
    rows = 0
    for table in tables:
        if table.num_rows and not rows:
            print("  ".join(_padded(name, name) for name in names))
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
    if isinstance(value, list):
        return json.dumps(value)
    if isinstance(value, float):
        # Raw floats are 32 bits wide: seven digits say all there is.
        return f"{value:.7g}"
    return str(value)
