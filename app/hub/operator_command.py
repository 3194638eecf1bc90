"""`./run operator reset NAME`: a way back in on the machine itself, for who lost the password."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from app.domain.errors import OperatorInputError
from app.domain.passwords import new_one_time_password
from app.hub.configuration import load_settings
from app.hub.data_directory import DataDirectory, default_directory, tell_running_hub
from app.services.people.passwords import Passwords
from app.stores.registry.operators import Operators
from app.stores.registry.registry import Registry

# Who stands beside the change among the actions: whoever may write the data directory.
_ACTOR = "command line"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `./run operator`."""
    add = parser.add_argument
    add("what", choices=["reset"], help="reset: a new one-time password; the old one, a lock and open sessions end")
    add("name", metavar="NAME", help="the operator's name; the first one is admin")
    add("--data", type=Path, default=default_directory(), metavar="DIR", help="data directory")


def run(args: argparse.Namespace) -> int:
    """Print `one-time-password PASSWORD`; it is shown this once."""
    directory = DataDirectory(args.data.resolve())
    settings = load_settings(directory.root)
    if not settings.registry.url and not directory.registry.exists():
        raise OperatorInputError(f"{directory.root} is no data directory: it has no registry; name another with --data")
    directory.make()
    password = new_one_time_password()
    passwords = Passwords()
    with Registry.open(settings.registry.url or directory.registry) as registry:
        changed = Operators(registry).set_password(
            args.name, passwords.hashed(password), one_time=True, actor=_ACTOR, at_us=time.time_ns() // 1000
        )
    print(f"{changed.name} logs in with this one-time password and must choose a new one then; it is shown this once.")
    print(f"one-time-password {password}")
    if changed.disabled_us is not None:
        print(f"wattdeck: {changed.name} is disabled; another administrator has to enable them", file=sys.stderr)
    if not tell_running_hub(directory):
        print("wattdeck: the hub that runs here could not be told; restart it to end old sessions", file=sys.stderr)
    return 0
