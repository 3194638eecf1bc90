"""The composition root and command line: builds what each command needs, and nothing else."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Command:
    """One word of the command line; its module has add_arguments(parser) and run(args) -> exit code.

    A module is imported only when its command is used: `./run --help` must not wait for Arrow or Qt.
    """

    name: str
    module: str
    help: str


COMMANDS = (
    Command("hub", "app.hub.hub_command", "run the hub: broker, ingest and stores, without the console"),
    Command("read", "app.hub.read_command", "print a module's stored readings"),
    Command("provision", "app.hub.provision_command", "register modules and print their credentials once"),
    Command("modules", "app.hub.modules_command", "list the registered modules"),
    Command("operator", "app.hub.operator_command", "give an operator who lost their password a new one"),
    Command("verify-log", "app.hub.verify_log_command", "check that nobody has changed the access log"),
    Command("quarantine", "app.hub.quarantine_command", "print refused messages and why they were refused"),
    Command("doctor", "app.hub.doctor_command", "examine this machine and a data directory, and say what to do"),
    Command("backup", "app.hub.backup_command", "back a data directory up, also while its hub runs"),
    Command("verify-backup", "app.hub.verify_backup_command", "look through backups: every hash, and what they hold"),
    Command("restore", "app.hub.restore_command", "restore a backup into a fresh data directory"),
    Command("decode", "app.hub.decode_command", "read a capture of a meter's serial line without a hub"),
    Command("sim", "", "simulated meters, modules and homes on the real wire"),
    Command("bench", "", "measure this machine; each figure is read back from the store"),
    Command("test", "", "run every test and check; words after it go to pytest"),
)
BENCHES = (
    Command("ingest", "device_sim.bench.ingest", "readings per second from MQTT to the store"),
    Command("idle", "device_sim.bench.idle", "memory of idle connections, and its flatness under load"),
    Command("store", "app.bench.store", "cost and speed of journal, series store and roll-ups"),
    Command("live", "app.bench.live", "what the live feed of a fleet costs the hub while readings flow in"),
    Command("api", "device_sim.bench.api", "how fast the API answers while a fleet's readings flow in"),
    Command("backup", "app.bench.backup", "megabytes a second of backup, verification and restore"),
    Command("overload", "device_sim.bench.overload", "twice what the machine carries, and a store that stalls"),
    Command("crash", "device_sim.bench.crash", "kill -9 at random and at every fail point"),
    Command("capacity", "device_sim.bench.capacity", "how many modules this machine carries"),
)
SIMULATIONS = (
    Command("tic", "device_sim.commands.tic", "a Linky on a serial line or a TCP port"),
    Command("fleet", "device_sim.commands.fleet", "many modules, a real connection each"),
    Command("story", "device_sim.commands.story", "play a story, and check what the platform must show"),
    Command("history", "device_sim.commands.history", "fill a new data directory with a neighbourhood's past"),
)
# Commands of a group get what they need of the platform handed in: device_sim imports neither hub nor stores.
GROUPS = {"bench": BENCHES, "sim": SIMULATIONS}


def main(words: list[str]) -> int:
    """Run one command; the exit code is 2 for a mistake in the command line and for what can not run here, 1 for a
    fault of ours.
    """
    later = "the simulated neighbourhood" if words[:1] == ["demo"] else "the console" if not words else None
    if later:
        print(f"wattdeck: {later} is not built yet; `./run hub` starts the hub, `./run --help` lists all")
        return 2
    parser = _Parser(prog="./run", description="Wattdeck, an operations console for smart-meter modules")
    _add_commands(parser, COMMANDS, words, 0)
    args = parser.parse_args(words)
    if "run" not in args:
        print("wattdeck: the tests are run by `./run test`, which sets up what they need", file=sys.stderr)
        return 2
    run: Callable[[argparse.Namespace], int] = args.run
    return _guarded(run, args)


class _Parser(argparse.ArgumentParser):
    """Shows defaults, and command names and help on one line."""

    def __init__(self, **options: object) -> None:
        super().__init__(formatter_class=_Formatter, **options)  # type: ignore[arg-type]


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        # A flag without a default of its own says in words what holds without it.
        return action.help if action.default is None else super()._get_help_string(action)


def _add_commands(parser: argparse.ArgumentParser, commands: tuple[Command, ...], words: list[str], at: int) -> None:
    chosen = words[at] if len(words) > at else None
    subparsers = parser.add_subparsers(metavar="COMMAND" if at == 0 else "NAME", required=True)
    for command in commands:
        subparser = subparsers.add_parser(command.name, help=command.help, description=command.help)
        if command.name != chosen:
            continue
        if command.name in GROUPS:
            _add_commands(subparser, GROUPS[command.name], words, at + 1)
        elif command.module:
            module = importlib.import_module(command.module)
            module.add_arguments(subparser)
            subparser.set_defaults(run=_with_tools(module.run) if commands in GROUPS.values() else module.run)


def _with_tools(run: Callable[..., int]) -> Callable[[argparse.Namespace], int]:
    """Hand a bench or a simulation what it needs of the platform."""

    def with_tools(args: argparse.Namespace) -> int:
        from app.hub.story_tools import SimulationTools  # noqa: PLC0415 - for these only

        return run(args, SimulationTools())

    return with_tools


def _guarded(run: Callable[[argparse.Namespace], int], args: argparse.Namespace) -> int:
    """An error that has a sentence for its reader is printed as that sentence, not as a traceback."""
    from app.domain.errors import BugError, WattdeckError  # noqa: PLC0415 - needed once a command runs

    try:
        return run(args)
    except WattdeckError as error:
        print(f"wattdeck: {error.text()}", file=sys.stderr)
        return 1 if isinstance(error, BugError) else 2
    except BrokenPipeError:
        # The reader of our output (head, less) has left; nothing is wrong, and what is buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
