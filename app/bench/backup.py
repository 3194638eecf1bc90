"""`./run bench backup`: megabytes a second of backup, verification and restore, beside a plain copy."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from app.bench.realistic import RealisticFleet
from app.bench.store_history import UnsyncedStorage
from app.domain.keys import CollectionLevel
from app.hub.restore_command import facts_of
from app.hub.version import VERSION
from app.stores.backup.directory import BackupDirectory
from app.stores.backup.making import Source, make_backup
from app.stores.backup.restoring import Target, restore_backup
from app.stores.backup.verifying import verify_backup
from app.stores.registry.provisioning import Template
from app.stores.registry.records import NewSite, PairedAs
from app.stores.registry.registry import Registry, wall_clock_us
from app.stores.series.delta.files import CommitLabel
from app.stores.series.delta.table import SeriesTable
from app.stores.series.schema import RAW, UTC_MICROSECONDS

# A file has some 8 MB, as merged files of a small fleet do; three of them are made and sent again with later times.
_MODULES_A_FILE = 2_000
_SECONDS_A_FILE = 600
_MADE = 3
_LABEL = "bench"
_LATER = 100_000
_START_US = 1_780_000_200_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the bench."""
    parser.add_argument(
        "--size-gb", type=float, default=1.0, metavar="N", help="Parquet files of about so many gigabytes"
    )
    parser.add_argument(
        "--modules", type=int, default=2_000, metavar="N", help="modules in the registry, each in a home"
    )
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where to; without it the system's temporary folder")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")


def run(args: argparse.Namespace, _tools: object) -> int:
    """Measure and print; 0, or 1 when what came back is not what was backed up."""
    with tempfile.TemporaryDirectory(prefix="wattdeck-bench-", dir=args.folder) as folder:
        found = _measure(Path(folder), args.size_gb, args.modules)
    for name, value in found.items():
        print(f"{name:<26} {value}")
    if args.json:
        print(json.dumps(found))
    return 0 if found["sound"] else 1


def _measure(root: Path, size_gb: float, modules: int) -> dict[str, object]:
    data = root / "data"
    data.mkdir()
    _say(f"making {size_gb:g} GB of readings")
    blocks = _Blocks()
    # One has about 6.6 bytes a reading.
    for number in range(max(1, round(size_gb * 1e9 / (_MODULES_A_FILE * _SECONDS_A_FILE * 6.6)))):
        _fill(data, blocks, number)
    with Registry.open(data / "registry.sqlite") as registry:
        _people(registry, modules)
        os.sync()
        size = _size(data)
        _say("a plain copy")
        plain = [_timed(lambda: _plain_copy(data, root / "plain"))]
        shutil.rmtree(root / "plain")
        directory = BackupDirectory(root / "backups")
        source = Source(data, registry, VERSION, data / "registry.sqlite")

        def back_up() -> None:
            make_backup(source, directory, now_us=wall_clock_us)

        _say("a backup, and one more after a commit")
        first = _timed(back_up)
        _fill(data, blocks, _LATER)
        second = _timed(back_up)
    _say("a plain copy once more")
    plain.append(_timed(lambda: _plain_copy(data, root / "plain")))
    shutil.rmtree(root / "plain")
    _say("verification")
    began = time.monotonic()
    looked = verify_backup(directory, now_us=wall_clock_us)
    verify_s = time.monotonic() - began
    _say("restore")
    target = Target(root / "restored", root / "restored" / "registry.sqlite", facts_of)
    restored = restore_backup(directory, None, target, now_us=wall_clock_us)
    megabytes = size / 1e6
    return {
        "size_mb": round(megabytes),
        "backup_mb_per_s": round(megabytes / first),
        "plain_copy_mb_per_s": round(megabytes / min(plain)),
        "backup_to_plain_copy": round(min(plain) / first, 2),
        "second_backup_s": round(second, 2),
        "verify_mb_per_s": round(looked.size_bytes / 1e6 / verify_s),
        "restore_mb_per_s": round(restored.manifest.size_bytes / 1e6 / restored.seconds),
        "restore_s": round(restored.seconds, 2),
        "store_verification_s": round(restored.verify_seconds, 2),
        "modules": modules,
        "sound": looked.sound and _rows(root / "restored") == _rows(data),
    }


class _Blocks:
    """Readings by number; making them costs more than anything else here."""

    def __init__(self) -> None:
        self._made: dict[int, pa.Table] = {}

    def __getitem__(self, number: int) -> pa.Table:
        at = number % _MADE
        if at not in self._made:
            fleet = RealisticFleet(_MODULES_A_FILE, seed=at + 1, start_us=_START_US)
            self._made[at] = fleet.in_order_of_keys(_SECONDS_A_FILE)
        later_us = np.int64(number * _SECONDS_A_FILE * 1_000_000)
        times = pc.add(self._made[at]["time"].cast(pa.int64()), later_us).cast(UTC_MICROSECONDS)
        return self._made[at].set_column(RAW.get_field_index("time"), RAW.field("time"), times)


def _fill(data: Path, blocks: _Blocks, number: int) -> None:
    """One more file, through a real commit of the raw table."""
    table = SeriesTable.open(data / "series" / "raw", RAW, storage=UnsyncedStorage())
    table.append(blocks[number], label=CommitLabel(_LABEL, number))
    table.close()


def _people(registry: Registry, modules: int) -> None:
    sites = registry.add_sites(
        [
            NewSite("Lyon", street=f"{n} rue d'Exemple", postcode="69001", delivery_point=f"{n:014}")
            for n in range(modules)
        ]
    )
    serials = [f"WD{n:06}" for n in range(modules)]
    registry.provision_many(serials, Template(meter_serial="M"))
    for serial, site in zip(serials, sites, strict=True):
        holder = registry.add_holder()
        registry.pair(serial, 1, _START_US, PairedAs(site, CollectionLevel.SECOND, f"M{serial}", holder))


def _plain_copy(data: Path, target: Path) -> None:
    shutil.copytree(data, target)
    # As durable as the backup is on return.
    os.sync()


def _rows(data: Path) -> int:
    table = SeriesTable.open(data / "series" / "raw", RAW)
    try:
        return sum(file.rows for file in table.files())
    finally:
        table.close()


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _timed(work: Callable[[], None]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
