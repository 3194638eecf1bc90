"""`./run modules`: which modules are registered, and what of them is stored."""

from __future__ import annotations

import argparse
from pathlib import Path

from app.hub.configuration import load_settings
from app.hub.data_directory import DataDirectory, default_directory
from app.hub.opening import read_only_registry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `./run modules`."""
    add = parser.add_argument
    add("--data", type=Path, default=default_directory(), metavar="DIR", help="data directory")


def run(args: argparse.Namespace) -> int:
    """One line per module: serial, kind, period, firmware, when it was registered."""
    directory = DataDirectory(args.data.resolve())
    settings = load_settings(directory.root)
    with read_only_registry(directory, settings) as registry:
        records = registry.modules()
    if not records:
        print("no module is registered; `./run provision SERIAL` registers one")
        return 0
    width = max(len(record.serial) for record in records)
    print(f"{'serial':<{width}}  {'kind':<8}  {'dialect':<10}  {'period':>8}  firmware")
    for record in records:
        period = f"{record.period_ms / 1000:g} s" if record.period_ms else "-"
        what = f"{record.kind.value:<8}  {record.dialect:<10}"
        print(f"{record.serial:<{width}}  {what}  {period:>8}  {record.firmware or '-'}")
    return 0
