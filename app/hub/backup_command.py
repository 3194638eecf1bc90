"""`./run backup`: one more snapshot of a data directory, beside a running hub or without one."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from app.domain.errors import OperatorInputError
from app.domain.settings import Settings
from app.hub.backup_progress import step_back, told_on_stderr
from app.hub.configuration import load_settings
from app.hub.data_directory import DataDirectory, default_directory
from app.hub.opening import read_only_registry
from app.hub.version import VERSION
from app.stores.backup.directory import BackupDirectory
from app.stores.backup.errors import BackupRefused
from app.stores.backup.latest import tell_erasures
from app.stores.backup.making import Made, Source, make_backup
from app.stores.registry.registry import Registry, wall_clock_us


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `./run backup`."""
    add = parser.add_argument
    add(
        "directory",
        nargs="?",
        type=Path,
        metavar="DIR",
        help="folder of the backups: new, or one with earlier ones, of which only what is new is copied "
        "(setting backup.directory)",
    )
    add("--data", type=Path, default=default_directory(), metavar="DATA", help="data directory")
    add("--keep", type=int, default=0, metavar="N", help="remove all but the N newest snapshots; 0 keeps all")
    add(
        "--erasures-only",
        action="store_true",
        help="make no snapshot: have those that are there forget whom the registry says was erased",
    )
    add("--background", action="store_true", help="at a low priority, for machines that do something else")
    add("--json", action="store_true", help="the result as one line of JSON")


def run(args: argparse.Namespace) -> int:
    """Print what was made; 0."""
    if args.keep < 0:
        raise OperatorInputError("--keep takes 0 or more")
    data = DataDirectory(args.data.resolve())
    settings = load_settings(data.root)
    target = _target(args.directory, settings, data)
    os.umask(0o077)
    if args.background:
        step_back()
    if args.erasures_only:
        with read_only_registry(data, settings) as registry:
            tell_erasures(BackupDirectory(target), registry)
        return 0
    # Looked at before it is opened to be written: a newer program's command must not migrate it.
    read_only_registry(data, settings).close()
    with Registry.open(settings.registry.url or data.registry) as registry:
        file = None if settings.registry.url else data.registry
        source = Source(data.root, registry, VERSION, file)
        made = make_backup(
            source, BackupDirectory(target), now_us=wall_clock_us, keep=args.keep, report=told_on_stderr()
        )
    if args.json:
        print(json.dumps(summary(made)))
    else:
        _print(made, target)
    return 0


def summary(made: Made) -> dict[str, object]:
    """What a machine wants to know of a backup."""
    manifest = made.manifest
    return {
        "snapshot": manifest.snapshot,
        "size_bytes": manifest.size_bytes,
        "added_bytes": manifest.added_bytes,
        "files": len(manifest.files),
        "copied_files": made.copied_files,
        "seconds": round(made.seconds, 3),
        "removed": list(made.removed_snapshots),
        "freed_bytes": made.freed_bytes,
        "left_out": manifest.left_out,
    }


def _target(named: Path | None, settings: Settings, data: DataDirectory) -> Path:
    if named is None and not settings.backup.directory:
        raise OperatorInputError("name the folder of the backups, or set backup.directory")
    target = (named or data.root / settings.backup.directory).resolve()
    if target == data.root or data.root in target.parents:
        raise BackupRefused(f"{target} lies in the data directory; a backup belongs on another disk")
    return target


def _print(made: Made, target: Path) -> None:
    manifest = made.manifest
    print(
        f"snapshot {manifest.snapshot} in {target}: {len(manifest.files)} files, {manifest.size_bytes / 1e6:.1f} MB, "
        f"of which {manifest.added_bytes / 1e6:.1f} MB are new; {made.seconds:.1f} s"
    )
    for name, why in manifest.left_out.items():
        print(f"left out: {name}: {why}")
    if made.removed_snapshots:
        print(f"removed {len(made.removed_snapshots)} older snapshots, {made.freed_bytes / 1e6:.1f} MB freed")
    print(
        f"keep {target} as safe as the data: the hub's certificate authority and the keys of persons are in it",
        file=sys.stderr,
    )
