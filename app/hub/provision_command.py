"""`./run provision`: registers modules and prints their credentials once."""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

from app.client.directory_lock import is_held
from app.domain.errors import OperatorInputError
from app.domain.events import Event, EventKind
from app.domain.settings import Settings
from app.hub.configuration import load_settings
from app.hub.data_directory import DataDirectory, default_directory, tell_running_hub
from app.stores.events.store import EventStore
from app.stores.registry.faults import NameTakenError
from app.stores.registry.records import Change, CredentialsChanged, Provisioned
from app.stores.registry.registry import Registry, wall_clock_us


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
    changes: list[Change] = []
    with Registry.open(settings.registry.url or directory.registry) as registry:
        registry.subscribe(changes.append)
        given = _given(registry, serials, renew=args.renew)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(("serial", "username", "secret"))
    writer.writerows(given)
    if not is_held(directory.lock):
        # A hub that runs finds out by itself.
        _note(directory, settings, changes)
    if not tell_running_hub(directory):
        print("wattdeck: the hub that runs here could not be told; it knows them after its next start", file=sys.stderr)
    return 0


def _note(directory: DataDirectory, settings: Settings, changes: list[Change]) -> None:
    """Put the changes on the time lines of their modules, as a hub would."""
    store = EventStore.open(
        directory.events, days=lambda: settings.events.days, zone=settings.store.time_zone, now_us=wall_clock_us
    )
    for change in changes:
        if isinstance(change, CredentialsChanged) and change.by is not None:
            for serial in change.usernames:
                store.note(Event(serial, wall_clock_us(), EventKind.CREDENTIAL, {"by": change.by}))
    store.close()


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
