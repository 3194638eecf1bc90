"""`./run bench capacity`: how many modules at 1 Hz this machine carries with nothing lost and at most 1 s of lag."""

from __future__ import annotations

import argparse
import dataclasses
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from device_sim.bench import rig
from device_sim.bench.balance import balance
from device_sim.bench.hardware import hardware_line
from device_sim.bench.measure import last_lag_s, on_schedule
from device_sim.bench.output import Value, note, show
from device_sim.bench.plan import Run
from device_sim.bench.process import LoadGroup
from device_sim.bench.tools import BenchTools, Credential

_LAG_ALLOWED_MS = 1000.0
# Where modules outnumber the connections a process may open, each connection carries several readings a second.
_CONNECTIONS = 16_000
_FIRST = 40_000
_GROWTH = 1.5
# The answer is known to 10 %; finer would be noise at this length of step.
_PRECISION = 1.1
_LARGEST = 400_000


@dataclasses.dataclass(frozen=True, slots=True)
class _Step:
    modules: int
    carried: bool
    row: dict[str, Value]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the bench's flags."""
    parser.add_argument(
        "--connections",
        type=int,
        default=_CONNECTIONS,
        help="connections that carry the modules' readings",
    )
    parser.add_argument("--seconds", type=float, default=4.0, help="length of each step")
    parser.add_argument("--qos", type=int, choices=(0, 1), default=0, help="quality of service")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")


def run(args: argparse.Namespace, tools: BenchTools) -> int:
    """Search upward, then bisect; print each step and the answer with the hardware line. 0 when there is an answer."""
    hardware = hardware_line()
    note(hardware)
    rig.check_machine(args.connections)
    with rig.data_directory() as template:
        credentials = tools.provision(template, rig.serials(args.connections))
        return _search(args, tools, template, credentials, hardware)


def _search(
    args: argparse.Namespace, tools: BenchTools, template: Path, credentials: Sequence[Credential], hardware: str
) -> int:
    steps: list[_Step] = []

    def carries(modules: int) -> bool:
        step = _measure(args, tools, template, credentials, modules)
        steps.append(step)
        note(
            f"{modules:,} modules: {'carried' if step.carried else 'too many'} "
            f"(lost {step.row['lost']:,}, lag p99 {step.row['lag_p99_ms']:,.0f} ms)"
        )
        return step.carried

    best = search(carries)
    carried = [step for step in steps if step.modules == best and step.carried]
    summary: dict[str, object] = {
        **(carried[-1].row if carried else steps[-1].row),
        "modules_1hz": best,
        "steps": len(steps),
        "hardware": hardware,
    }
    show([step.row for step in sorted(steps, key=lambda step: step.modules)], as_json=False)
    print(f"{best:,} modules at 1 Hz on {hardware}")
    if args.json:
        show([], as_json=True, summary=summary)
    return 0 if best else 1


def search(carries: Callable[[int], bool]) -> int:
    """The largest number of modules found to be carried, to 10 %: upward from 40,000, then bisecting; 0 if none is."""
    low, high = 0, _FIRST
    while carries(high):
        low = high
        if high >= _LARGEST:
            return low
        high = round(high * _GROWTH)
    if not low:
        # Not even the first: downward by halves.
        while high > 1 and not carries(high := high // 2):
            pass
        low, high = high, high * 2
        if low <= 1:
            return 0
    while high > low * _PRECISION:
        middle = (low + high) // 2
        if carries(middle):
            low = middle
        else:
            high = middle
    return low


def _measure(
    args: argparse.Namespace, tools: BenchTools, template: Path, credentials: Sequence[Credential], modules: int
) -> _Step:
    """One step, on a fresh copy of the provisioned directory."""
    serials = [credential.serial for credential in credentials]
    with rig.data_directory() as data_dir:
        shutil.copytree(template, data_dir)
        with rig.running_hub(tools, data_dir) as hub:
            with LoadGroup(rig.plan_for(hub.address("mqtt"), credentials)) as load:
                connected = rig.connect_all(load)
                cpu = hub.cpu_s()
                ran = load.run(Run(rate=float(modules), seconds=args.seconds, qos=1 if args.qos else 0))
                cpu = (hub.cpu_s() - cpu) / ran.seconds
                rss = hub.rss_bytes()
                finished = load.finish()
            hub.sigterm()
        stored = tools.read_back(data_dir, serials)
    books = balance(stored, finished)
    lag_ms = float(np.percentile(stored.lag_ms, 99)) if len(stored.lag_ms) else float("inf")
    valid = on_schedule(ran, args.seconds)
    row: dict[str, Value] = {
        "engine": "native",
        "modules_1hz": modules,
        "connections": args.connections,
        "qos": args.qos,
        "seconds": round(ran.seconds, 2),
        "sent": books.sent,
        "stored": books.stored,
        "lost": books.lost,
        "stored_per_s": round(books.stored / (ran.seconds + last_lag_s(stored, ran)), 1),
        "lag_p99_ms": round(lag_ms, 1),
        "ack_p50_ms": None,
        "ack_p99_ms": None,
        "hub_cpu": round(cpu, 3),
        "hub_rss_mb": round(rss / (1 << 20), 1),
        "connect_s": round(connected.seconds, 2),
        "generator_cpu": round(ran.cpu_s / ran.seconds, 3),
        "valid": valid,
    }
    return _Step(modules, valid and books.lost == 0 and lag_ms <= _LAG_ALLOWED_MS, row)
