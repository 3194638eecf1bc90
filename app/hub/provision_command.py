"""`./run provision`: registers modules and prints their credentials once."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from app.domain.errors import OperatorInputError
from app.hub.configuration import load_settings
from app.hub.data_directory import DataDirectory, default_directory, tell_running_hub
from app.stores.registry.registry import Registry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `./run provision`."""
    add = parser.add_argument
    add("serials", nargs="*", metavar="SERIAL", help="serials of new modules")
    add("--count", type=int, default=0, metavar="N", help="make N serials of our own instead, PREFIX00001 and on")
    add("--prefix", default="WD", help="what those begin with")
    add("--data", type=Path, default=default_directory(), metavar="DIR", help="data directory")


def run(args: argparse.Namespace) -> int:
    """Print `serial,username,secret` as CSV; secrets are shown this once."""
    if args.serials and args.count:
        raise OperatorInputError("name serials or say --count N, not both")
    serials = args.serials or [f"{args.prefix}{number:05d}" for number in range(1, args.count + 1)]
    if not serials:
        raise OperatorInputError("name the serials of the modules to register, or say --count N")
    directory = DataDirectory(args.data.resolve())
    directory.make()
    settings = load_settings(directory.root)
    with Registry.open(settings.registry.url or directory.registry) as registry:
        given = registry.provision_many(serials)
    writer = csv.writer(sys.stdout)
    writer.writerow(("serial", "username", "secret"))
    writer.writerows(given)
    if not tell_running_hub(directory):
        print("wattdeck: the hub that runs here could not be told; it knows them after its next start", file=sys.stderr)
    return 0
