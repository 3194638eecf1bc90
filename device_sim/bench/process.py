"""Load processes as a bench sees them: started, commanded together, their reports added up."""

from __future__ import annotations

import dataclasses
import os
import resource
import select
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from app.domain.errors import EnvironmentFault
from device_sim.bench.histogram import Histogram
from device_sim.bench.plan import (
    Command,
    Connect,
    Connected,
    Failed,
    Finish,
    Finished,
    Idle,
    Plan,
    Progress,
    Ran,
    Report,
    Run,
)

_ROOT = Path(__file__).resolve().parents[2]
# Files a load process needs besides its connections: its own streams, the selector, Python's.
_SPARE_FILES = 200
# Time for a report to travel, and for a machine that is busy with the hub.
_GRACE_S = 30.0
# Between the command and the common start of several processes.
_START_DELAY_S = 0.2
_DECODE = msgspec.json.Decoder(Report)
_R = TypeVar("_R", Connected, Ran, Finished)


class LoadError(EnvironmentFault):
    """A load process ended, or could not do what it was told."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Process:
    process: subprocess.Popen[bytes]
    buffer: bytearray
    share: float
    first: int
    progress: list[Progress] = dataclasses.field(default_factory=list)
    """The newest it has told, if any."""


def files_allowed() -> int:
    """How many connections one process may open here (the hard limit of open files, less what it needs itself)."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 1_000_000 if hard == resource.RLIM_INFINITY else hard - _SPARE_FILES


class LoadGroup:
    """One or more load processes that share the plan's connections; a context manager that ends them."""

    def __init__(self, plan: Plan, processes: int | None = None) -> None:
        """Start them; by default as few as the limit of open files allows."""
        total = len(plan.credentials)
        count = processes or -(-total // files_allowed())
        self.connections = total
        # Told the sum of all processes' newest progress, after each that tells one.
        self.on_progress: Callable[[Progress], None] = lambda _progress: None
        self._processes: list[_Process] = []
        for number in range(count):
            first, last = total * number // count, total * (number + 1) // count
            process = subprocess.Popen(
                [sys.executable, "-m", "device_sim.bench.load"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=_ROOT,
            )
            self._processes.append(_Process(process, bytearray(), (last - first) / total, first))
            part = msgspec.structs.replace(
                plan, credentials=plan.credentials[first:last], connect_rate=plan.connect_rate * (last - first) / total
            )
            self._write(self._processes[-1], msgspec.json.encode(part))

    @property
    def processes(self) -> int:
        """How many there are."""
        return len(self._processes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the processes at once; what they had not sent is gone."""
        for part in self._processes:
            part.process.kill()
            part.process.wait()
            for stream in (part.process.stdin, part.process.stdout):
                if stream is not None:
                    stream.close()

    def connect(self, timeout_s: float = 120.0, *, progress_s: float = 0.0) -> Connected:
        """Connect all; waits for it."""
        self._tell(Connect(timeout_s, progress_s))
        parts = self._collect(Connected, timeout_s)
        refused: dict[int, int] = {}
        for part in parts:
            for code, count in part.refused.items():
                refused[code] = refused.get(code, 0) + count
        return Connected(
            connected=sum(part.connected for part in parts),
            seconds=max(part.seconds for part in parts),
            refused=refused,
            retries=sum(part.retries for part in parts),
            cpu_s=sum(part.cpu_s for part in parts),
        )

    def begin(self, run: Run) -> None:
        """Start publishing; `ran` waits for the end."""
        start_at = time.time() + _START_DELAY_S if self.processes > 1 else 0.0
        for part in self._processes:
            share = msgspec.structs.replace(
                run, rate=run.rate * part.share, reconnects_per_s=run.reconnects_per_s * part.share, start_at=start_at
            )
            self._write(part, msgspec.json.encode(share))

    def interrupt(self) -> None:
        """End the present run early; `ran` then gets its report. The connections idle on."""
        self._tell(Idle())

    def ran(self, timeout_s: float) -> Ran:
        """What became of the run, which ends within `timeout_s`."""
        parts = self._collect(Ran, timeout_s)
        latency = Histogram()
        for part in parts:
            latency.merge(Histogram(part.latency))
        return Ran(
            first_seq=min(part.first_seq for part in parts),
            last_seq=max(part.last_seq for part in parts),
            offered=sum(part.offered for part in parts),
            sent=sum(part.sent for part in parts),
            unsent=sum(part.unsent for part in parts),
            late=sum(part.late for part in parts),
            seconds=max(part.seconds for part in parts),
            cpu_s=sum(part.cpu_s for part in parts),
            acked=sum(part.acked for part in parts),
            latency=latency.buckets(),
            reconnects=sum(part.reconnects for part in parts),
            disconnected=sum(part.disconnected for part in parts),
            worst_tick_ms=max(part.worst_tick_ms for part in parts),
        )

    def run(self, run: Run) -> Ran:
        """Publish and wait for the end of the schedule."""
        self.begin(run)
        return self.ran(run.seconds * 2)

    def finish(self, timeout_s: float = 60.0) -> Finished:
        """Send what is left, disconnect, and say what became of every reading."""
        self._tell(Finish(timeout_s))
        parts = self._collect(Finished, timeout_s * 2)
        firsts = [part.first for part in self._processes]
        return Finished(
            sent=[count for part in parts for count in part.sent],
            unsent=_renumbered(firsts, [part.unsent for part in parts]),
            acked=_renumbered(firsts, [part.acked for part in parts]),
            unacked=sum(part.unacked for part in parts),
            unclosed=sum(part.unclosed for part in parts),
            resent=sum(part.resent for part in parts),
            cpu_s=sum(part.cpu_s for part in parts),
            seconds=max(part.seconds for part in parts),
            acks_out_of_order=sum(part.acks_out_of_order for part in parts),
        )

    def _tell(self, command: Command) -> None:
        for part in self._processes:
            self._write(part, msgspec.json.encode(command))

    def _write(self, part: _Process, line: bytes) -> None:
        assert part.process.stdin is not None
        try:
            part.process.stdin.write(line + b"\n")
            part.process.stdin.flush()
        except BrokenPipeError as error:
            raise LoadError(f"a load process ended with code {part.process.wait()}") from error

    def _collect(self, kind: type[_R], timeout_s: float) -> list[_R]:
        deadline = time.monotonic() + timeout_s + _GRACE_S
        reports: dict[int, _R] = {}
        while len(reports) < len(self._processes):
            for number, part in enumerate(self._processes):
                while number not in reports and (line := _line_of(part)) is not None:
                    report = _DECODE.decode(line)
                    if isinstance(report, Progress):
                        part.progress[:] = [report]
                        self.on_progress(_sum_of([one for each in self._processes for one in each.progress]))
                    elif isinstance(report, Failed):
                        raise LoadError(report.reason)
                    elif isinstance(report, kind):
                        reports[number] = report
                    else:
                        raise LoadError(f"expected {kind.__name__}, got {type(report).__name__}")
            waiting = [part for number, part in enumerate(self._processes) if number not in reports]
            if waiting:
                self._receive(waiting, kind, deadline)
        return [reports[number] for number in range(len(self._processes))]

    def _receive(self, parts: Sequence[_Process], kind: type[_R], deadline: float) -> None:
        """Wait until one of them says something."""
        streams = {part.process.stdout.fileno(): part for part in parts if part.process.stdout is not None}
        readable, _, _ = select.select(list(streams), [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            raise LoadError(f"a load process did not report {kind.__name__} in time")
        for stream in readable:
            data = os.read(stream, 1 << 20)
            if not data:
                raise LoadError(f"a load process ended with code {streams[stream].process.wait()}")
            streams[stream].buffer.extend(data)


def _line_of(part: _Process) -> bytes | None:
    """The next whole line of a process, if it is here."""
    line, end, rest = bytes(part.buffer).partition(b"\n")
    if not end:
        return None
    part.buffer[:] = rest
    return line


def _sum_of(parts: Sequence[Progress]) -> Progress:
    return Progress(**{name: sum(getattr(part, name) for part in parts) for name in Progress.__struct_fields__})


def _renumbered(
    firsts: Sequence[int], parts: Sequence[dict[int, list[tuple[int, int]]]]
) -> dict[int, list[tuple[int, int]]]:
    return {
        first + number: ranges for first, part in zip(firsts, parts, strict=True) for number, ranges in part.items()
    }
