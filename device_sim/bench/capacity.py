"""`./run bench capacity`: how many modules at 1 Hz this machine carries with nothing lost and at most 1 s of lag."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Mapping

import numpy as np

from device_sim.bench import rig
from device_sim.bench.balance import balance
from device_sim.bench.hardware import hardware_line
from device_sim.bench.measure import last_lag_s, on_schedule
from device_sim.bench.output import CanNotRun, Value, note, show
from device_sim.bench.plan import Ran, Run
from device_sim.bench.process import LoadGroup
from device_sim.bench.tools import BenchTools, HubProcess, StoredReadings

_LAG_ALLOWED_MS = 1000.0
# Where modules outnumber the connections a process may open, each connection carries several readings a second.
_CONNECTIONS = 16_000
_FIRST = 60_000
_GROWTH = 1.6
# The answer is known to 15 %; finer would be noise at this length of step.
_PRECISION = 1.15
_LARGEST = 500_000
# A step's readings are committed when the next commit is through: lag allowed, and the commit interval.
_COMMIT_S = 1.25
# A journal segment is archived each 10 s; a hub that falls behind with that carries the load for a while only.
_SEGMENTS_ALLOWED = 3
# After a step that was too much, the hub gets this long to work off what it holds.
_DRAIN_S = 15.0
_POLL_S = 0.05


@dataclasses.dataclass(frozen=True, slots=True)
class _Step:
    modules: int
    ran: Ran
    committed_in_time: bool
    hub_cpu: float
    hub_rss_bytes: int


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the bench's flags."""
    parser.add_argument(
        "--connections", type=int, default=_CONNECTIONS, help="connections that carry the modules' readings"
    )
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each step; steps follow without pause")
    parser.add_argument("--qos", type=int, choices=(0, 1), default=0, help="quality of service")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")


def run(args: argparse.Namespace, tools: BenchTools) -> int:
    """Search upward, then bisect, on one hub; print each step and the answer with the hardware line.

    A step is carried when the hub had committed it in time, and what is read back afterwards confirms it.
    """
    hardware = hardware_line()
    note(hardware)
    rig.check_machine(args.connections)
    serials = rig.serials(args.connections)
    steps: list[_Step] = []
    with rig.data_directory() as data_dir:
        credentials = tools.provision(data_dir, serials)
        with rig.running_hub(tools, data_dir) as hub:
            with LoadGroup(rig.plan_for(hub.address("mqtt"), credentials)) as load:
                connected = rig.connect_all(load)

                def carries(modules: int) -> bool:
                    steps.append(_step(args, hub, load, modules))
                    note(f"{modules:,} modules: {'carried' if steps[-1].committed_in_time else 'too many'}")
                    return steps[-1].committed_in_time

                search(carries)
                finished = load.finish()
            hub.sigterm()
        stored = tools.read_back(data_dir, serials)
    books = balance(stored, finished)
    rows = [_row(args, step, stored, connected.seconds) for step in sorted(steps, key=lambda step: step.modules)]
    best = max((row for row in rows if row["valid"]), key=lambda row: float(row["modules_1hz"] or 0), default=None)
    show(rows, as_json=False)
    if books.duplicated or books.unexpected:
        note(f"{books.duplicated:,} readings are there twice, {books.unexpected:,} were never sent")
    modules = int(best["modules_1hz"] or 0) if best else 0
    print(f"{modules:,} modules at 1 Hz on {hardware}")
    if args.json:
        summary = {**(best or rows[0]), "modules_1hz": modules, "steps": len(rows), "hardware": hardware}
        show([], as_json=True, summary=summary)
    return 0 if best else 1


def search(carries: Callable[[int], bool]) -> int:
    """The largest number of modules found to be carried, to 15 %: upward from 60,000, then bisecting; 0 if none is."""
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


def _step(args: argparse.Namespace, hub: HubProcess, load: LoadGroup, modules: int) -> _Step:
    """Offer so many readings a second; whether the hub had committed all of them soon after the end."""
    before = hub.stats()
    cpu = hub.cpu_s()
    ran = load.run(Run(rate=float(modules), seconds=args.seconds, qos=1 if args.qos else 0))
    ended = time.monotonic()
    cpu = (hub.cpu_s() - cpu) / ran.seconds
    wanted = _committed(before) + ran.offered
    in_time: bool | None = None
    while time.monotonic() - ended < _DRAIN_S:
        now = hub.stats()
        late = time.monotonic() - ended > _COMMIT_S
        shed = now.get("ingest.shed", 0.0) - before.get("ingest.shed", 0.0)
        segments = now.get("archive.waiting_segments", 0.0)
        if _committed(now) + shed >= wanted and segments <= _SEGMENTS_ALLOWED:
            in_time = in_time is None and not late and not shed
            break
        if late:
            in_time = False
        time.sleep(_POLL_S)
    carried = bool(in_time) and on_schedule(ran, float(modules))
    return _Step(modules, ran, carried, cpu, hub.rss_bytes())


def _committed(stats: Mapping[str, float]) -> float:
    if "commit.committed" not in stats:
        raise CanNotRun("the hub does not say how many readings it has committed")
    return stats["commit.committed"]


def _row(args: argparse.Namespace, step: _Step, stored: StoredReadings, connect_s: float) -> dict[str, Value]:
    """A step's figures, counted by its sequence numbers in what was read back."""
    own = (stored.seq >= step.ran.first_seq) & (stored.seq <= step.ran.last_seq)
    count = len(np.unique(stored.module[own].astype(np.int64) << 32 | stored.seq[own]))
    lags = stored.lag_ms[own]
    lag_ms = float(np.percentile(lags, 99)) if len(lags) else None
    valid = step.committed_in_time and count == step.ran.offered and lag_ms is not None and lag_ms <= _LAG_ALLOWED_MS
    return {
        "engine": "native",
        "modules_1hz": step.modules,
        "connections": args.connections,
        "qos": args.qos,
        "seconds": round(step.ran.seconds, 2),
        "sent": step.ran.offered,
        "stored": count,
        "lost": step.ran.offered - count,
        "stored_per_s": round(count / (step.ran.seconds + last_lag_s(stored, step.ran)), 1),
        "lag_p99_ms": lag_ms,
        "ack_p50_ms": None,
        "ack_p99_ms": None,
        "hub_cpu": round(step.hub_cpu, 3),
        "hub_rss_mb": round(step.hub_rss_bytes / (1 << 20), 1),
        "connect_s": round(connect_s, 2),
        "generator_cpu": round(step.ran.cpu_s / step.ran.seconds, 3),
        "valid": valid,
    }
