"""`./run provision`: registers modules and prints their credentials once."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from app.domain.errors import OperatorInputError
from app.hub.configuration import load_settings
from app.hub.data_directory import DataDirectory, default_directory, tell_running_hub
from app.stores.registry.faults import NameTakenError
from app.stores.registry.records import Provisioned
from app.stores.registry.registry import Registry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `./run provision`."""
    add = parser.add_argument
    add("serials", nargs="*", metavar="SERIAL", help="serials of new modules")
    add("--count", type=int, default=0, metavar="N", help="make N serials of our own instead, PREFIX00001 and on")
    add("--prefix", default="WD", help="what those begin with")
    add("--renew", action="store_true", help="new secrets for modules that are registered; the old ones end")
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
        given = _given(registry, serials, renew=args.renew)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("serial", "username", "secret"))
    writer.writerows(given)
    if not tell_running_hub(directory):
        print("wattdeck: the hub that runs here could not be told; it knows them after its next start", file=sys.stderr)
    return 0


def _given(registry: Registry, serials: list[str], *, renew: bool) -> list[Provisioned]:
    """New modules with their credentials; with `renew`, new secrets of registered ones."""
    if not renew:
        try:
            return registry.provision_many(serials)
        except NameTakenError as error:
            raise OperatorInputError(f"{error.text()}; --renew gives registered modules new secrets") from error
    known = {record.serial for record in registry.modules(serials)}
    if missing := [serial for serial in serials if serial not in known]:
        raise OperatorInputError(f"not registered: {', '.join(missing[:5])}; leave out --renew to register")
    with_credential = {row.username for row in registry.credential_rows(serials)}
    fresh = {
        given.serial: given for given in registry.give_credentials([s for s in serials if s not in with_credential])
    }
    return [fresh.get(serial) or Provisioned(serial, serial, registry.rotate_secret(serial)) for serial in serials]
