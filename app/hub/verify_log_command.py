"""`./run verify-log`: whether the access log is whole, beside a running hub or without one."""

from __future__ import annotations

import argparse
import datetime as dt
from pathlib import Path

import msgspec

from app.api.routes.access_log import verification_info
from app.hub.configuration import load_settings
from app.hub.data_directory import DataDirectory, default_directory
from app.hub.opening import read_only_registry
from app.services.access_verification import verify
from app.stores.access_head import AccessHead
from app.stores.registry.access_entries import AccessEntries


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `./run verify-log`."""
    add = parser.add_argument
    add("--data", type=Path, default=default_directory(), metavar="DIR", help="data directory")
    add("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace) -> int:
    """0 for a log that is whole; 1 for one that was changed, with each place named."""
    directory = DataDirectory(args.data.resolve())
    settings = load_settings(directory.root)
    with read_only_registry(directory, settings) as registry:
        found = verify(AccessHead(directory.access_head).read, AccessEntries(registry).each())
    if args.json:
        print(msgspec.json.encode(verification_info(found)).decode())
        return 0 if found.is_sound else 1
    print(f"entries {found.entries}")
    if found.first_us is not None and found.last_us is not None:
        print(f"first   {_time(found.first_us)}")
        print(f"last    {_time(found.last_us)}")
    print(f"head    {found.end.number} {found.end.sha256.hex()}")
    if found.erased:
        print(
            f"erased  {found.erased} entries name erased persons (restored from a backup): their subject can not be "
            "checked, all else of them can"
        )
    for note in found.notes:
        print(f"note: {note}")
    for fault in found.faults:
        print(f"FAULT: {fault}")
    print("the access log is whole" if found.is_sound else "the access log was tampered with")
    return 0 if found.is_sound else 1


def _time(time_us: int) -> str:
    try:
        return dt.datetime.fromtimestamp(time_us / 1e6, dt.UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        # Somebody has changed it to what is no time.
        return str(time_us)
