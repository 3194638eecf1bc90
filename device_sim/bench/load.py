"""A load process: `python -m device_sim.bench.load --plan JSON`, or the plan as first line of standard input.

Then one command a line on standard input, one report a line on standard output (`plan.py`); ends with standard input.
"""

from __future__ import annotations

import argparse
import collections
import gc
import os
import resource
import selectors
import sys

import msgspec

from device_sim.bench.generator import Generator
from device_sim.bench.phases import Phases
from device_sim.bench.plan import Command, Connect, Failed, Finish, Idle, Plan, Report, Run, Stop

_STDIN = 0
_DECODE_COMMAND = msgspec.json.Decoder(Command)


class CommandLine:
    """Lines from standard input, read without blocking between looks at the sockets."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._buffer = b""
        self._lines: collections.deque[bytes] = collections.deque()
        self.ended = False

    def watch(self) -> None:
        """From now on, notice lines as they come."""
        self._selector.register(_STDIN, selectors.EVENT_READ, self._take)

    def waiting(self) -> bool:
        """Whether a command (or the end of input) is here."""
        return bool(self._lines) or self.ended

    def next_blocking(self) -> bytes | None:
        """The next line, waiting for it; None at the end of input."""
        while not self._lines and not self.ended:
            self._take()
        return self._lines.popleft() if self._lines else None

    def next(self) -> bytes | None:
        """The next line if one is here."""
        return self._lines.popleft() if self._lines else None

    def _take(self) -> None:
        data = os.read(_STDIN, 1 << 20)
        if not data:
            self.ended = True
            return
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        self._lines.extend(line for line in lines if line.strip())


def main() -> int:
    """Serve commands until standard input ends. Exit code 2 when this machine can not run the plan."""
    parser = argparse.ArgumentParser(prog="python -m device_sim.bench.load", description=__doc__)
    parser.add_argument("--plan", help="the plan as JSON; without it the first line of standard input")
    args = parser.parse_args()
    selector = selectors.DefaultSelector()
    commands = CommandLine(selector)
    line = args.plan.encode() if args.plan else commands.next_blocking()
    if line is None:
        return 2
    plan = msgspec.json.decode(line, type=Plan)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    generator = Generator(plan, selector)
    phases = Phases(generator, commands.waiting, _say)
    # Tens of thousands of lasting objects and no cycles: a collection would only be a pause.
    gc.freeze()
    gc.disable()
    commands.watch()
    while not commands.ended or commands.waiting():
        line = commands.next()
        if line is None:
            if commands.ended:
                return 0
            phases.idle()
            continue
        try:
            report = _obey(phases, _DECODE_COMMAND.decode(line))
        except (OSError, ValueError) as error:
            _say(Failed(f"{type(error).__name__}: {error}"))
            return 1
        if report is not None:
            _say(report)
    return 0


def _obey(phases: Phases, command: Command) -> Report | None:
    match command:
        case Connect():
            return phases.connect(command)
        case Run():
            return phases.run(command)
        case Finish(timeout_s=timeout_s):
            return phases.finish(timeout_s)
        case Idle() | Stop():
            return None


def _say(report: Report) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main())
