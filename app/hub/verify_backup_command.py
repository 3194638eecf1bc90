"""`./run verify-backup`: looks through backups and names what is wrong."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from app.hub.backup_progress import step_back, told_on_stderr
from app.stores.backup.directory import BackupDirectory
from app.stores.backup.verifying import verify_backup
from app.stores.registry.registry import wall_clock_us


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `./run verify-backup`."""
    add = parser.add_argument
    add("directory", type=Path, metavar="DIR", help="folder of the backups")
    add("--snapshot", metavar="ID", help="look through this one only; without it all of them")
    add("--background", action="store_true", help="at a low priority, for machines that do something else")
    add("--json", action="store_true", help="the result as one line of JSON")


def run(args: argparse.Namespace) -> int:
    """0 when nothing is wrong, else 1 and a line for each problem."""
    began = time.monotonic()
    if args.background:
        step_back()
    names = None if args.snapshot is None else [args.snapshot]
    looked = verify_backup(
        BackupDirectory(args.directory.resolve()), names, now_us=wall_clock_us, report=told_on_stderr()
    )
    seconds = time.monotonic() - began
    if args.json:
        print(
            json.dumps(
                {
                    "sound": looked.sound,
                    "snapshots": list(looked.snapshots),
                    "objects": looked.objects,
                    "size_bytes": looked.size_bytes,
                    "seconds": round(seconds, 3),
                    "problems": {name: found for name, found in looked.problems.items() if found},
                }
            )
        )
    else:
        for name, found in looked.problems.items():
            for problem in found:
                print(f"{name or 'all snapshots'}: {problem}")
        state = "nothing is wrong" if looked.sound else "NOT SOUND"
        print(
            f"{len(looked.snapshots)} snapshots, {looked.objects} files, {looked.size_bytes / 1e6:.1f} MB: "
            f"{state}; {seconds:.1f} s"
        )
    return 0 if looked.sound else 1
