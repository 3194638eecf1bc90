"""The composition root and command line: builds what each command needs, and nothing else."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass


# A command's module is imported only when it is used: `./run --help` must not wait for Arrow or Qt.
@dataclass(frozen=True)
class Command:
    """One word of the command line; its module has add_arguments(parser) and run(args) -> exit code."""

    name: str
    module: str
    help: str


COMMANDS = (
    Command("hub", "app.hub.hub_command", "run the hub: broker, ingest and stores, without the console"),
    Command("read", "app.hub.read_command", "print a module's stored readings"),
    Command("provision", "app.hub.provision_command", "register modules and print their credentials once"),
    Command("decode", "app.hub.decode_command", "read a capture of a meter's serial line without a hub"),
    Command("bench", "", "measure this machine; each figure is read back from the store"),
)


def main(words: list[str]) -> int:
    """Run one command; the exit code is 2 for a mistake in the command line and for what can not run here."""
    if not words:
        print(
            "wattdeck: the console is not built yet; start the hub with `./run hub`, see `./run --help`",
            file=sys.stderr,
        )
        return 2
    chosen = next((command for command in COMMANDS if command.name == words[0]), None)
    parser = argparse.ArgumentParser(
        prog="./run", description="Wattdeck, an operations console for smart-meter modules"
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        subparser = subparsers.add_parser(
            command.name,
            help=command.help,
            description=command.help,
            formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        )
        if command is chosen:
            module = importlib.import_module(command.module)
            module.add_arguments(subparser)
            subparser.set_defaults(run=module.run)
    args = parser.parse_args(words)
    run: Callable[[argparse.Namespace], int] = args.run
    return _guarded(run, args)


def _guarded(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """An error that has a sentence for its reader is printed as that sentence, not as a traceback."""
    from app.domain.errors import WattdeckError  # noqa: PLC0415 - errors are needed only once a command runs

    try:
        return run(args)
    except WattdeckError as error:
        print(f"wattdeck: {error.text()}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of our output (head, less) has left; nothing is wrong.
        sys.stderr.close()
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
