"""`./run bench api`: how fast the API answers while a fleet's readings flow in."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from device_sim.bench import rig
from device_sim.bench.balance import balance
from device_sim.bench.hardware import hardware_line
from device_sim.bench.http_load import Answers, Job
from device_sim.bench.measure import on_schedule
from device_sim.bench.output import CanNotRun, note, show
from device_sim.bench.plan import Run
from device_sim.bench.process import LoadGroup
from device_sim.bench.tools import BenchTools, FleetMember

_ROOT = Path(__file__).resolve().parents[2]
_DAY_US = 24 * 3600 * 1_000_000
# Out of ten requests: what a support desk does most is to search and to look; a day of seconds is asked now and then.
_MIX = ("list", "module", "search", "list", "module", "search", "list", "module", "raw24h", "module")
_LISTS = (
    "?limit=100",
    "?limit=100&sort=-last_us",
    "?limit=100&sort=city,serial&offset=20000",
    "?limit=100&filter=state:eq:offline&sort=serial",
    "?limit=100&filter=rssi_dbm:lt:-70&sort=rssi_dbm",
    "?limit=100&filter=serial:has:0042",
)
_SEED = 11


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the bench's flags."""
    add = parser.add_argument
    add("--modules", type=int, default=48_000, help="registered modules, each with a site")
    add("--connections", type=int, default=4_000, help="modules that are connected and send")
    add("--rate", type=float, default=20_000.0, help="readings per second that flow in")
    add("--requests", type=float, default=50.0, help="requests of the API per second")
    add("--days", type=int, default=100, help="modules with a day of one second behind them")
    add("--seconds", type=float, default=20.0, help="length of the run")
    add("--json", action="store_true", help="print one JSON object as the last line")


def run(args: argparse.Namespace, tools: BenchTools) -> int:
    """Measure and print. 0: valid, nothing lost, no request failed; 1: not so; raises CanNotRun."""
    if args.connections + args.days > args.modules:
        raise CanNotRun("--modules must be more than --connections and --days together")
    rig.check_machine(args.connections)
    note(hardware_line())
    note(f"{args.modules:,} modules with sites, {args.days} of them with 24 h of one second")
    with rig.data_directory() as data_dir:
        fleet = tools.provision_fleet(data_dir, args.modules, days=args.days)
        senders = [member.credential for member in fleet[: args.connections]]
        serials = [credential.serial for credential in senders]
        with rig.running_hub(tools, data_dir, settings={"store.lease_minutes": "1"}) as hub:
            plan = rig.plan_for(hub.address("mqtt"), senders)
            with LoadGroup(plan) as group:
                rig.connect_all(group)
                # The registry's table of the fleet, caches and connections are there before anything is measured.
                _ask(tools.ask_as(hub), _requests(fleet, args.days, 50), 25.0)
                note(f"{args.rate:,.0f} readings/s and {args.requests:g} requests/s for {args.seconds:g} s")
                asking = _start(
                    tools.ask_as(hub), _requests(fleet, args.days, int(args.seconds * args.requests)), args.requests
                )
                cpu = hub.cpu_s()
                ran = group.run(Run(rate=args.rate, seconds=args.seconds))
                answers = _finish(asking)
                hub_cpu = (hub.cpu_s() - cpu) / ran.seconds
                stats = hub.stats()
                finished = group.finish()
            hub.sigterm()
        found = balance(tools.read_back(data_dir, serials), finished)
    valid = on_schedule(ran, args.rate) and answers.seconds < args.seconds * 1.02 + 1
    row = {
        **{f"{kind}_p95_ms": _percentile(answers, kind, 95) for kind in sorted(set(_MIX))},
        **{f"{kind}_p50_ms": _percentile(answers, kind, 50) for kind in sorted(set(_MIX))},
        "loop_lag_p99_ms": stats.get("loop.lag_p99_ms"),
        "lost": found.lost,
        "stored": found.stored,
        "failed": sum(answers.failed.values()),
        "requests_per_s": round(sum(map(len, answers.latency_ms.values())) / answers.seconds, 1),
        "readings_per_s": round(ran.sent / ran.seconds, 1),
        "raw24h_bytes": answers.answered_bytes.get("raw24h", 0) // max(1, len(answers.latency_ms.get("raw24h", ()))),
        "modules": args.modules,
        "hub_cpu": round(hub_cpu, 2),
        "valid": valid,
    }
    if answers.failed:
        note(f"failed: {answers.failed}")
    show([row], as_json=args.json)
    return 0 if valid and not found.lost and not answers.failed else 1


def _requests(fleet: Sequence[FleetMember], days: int, count: int) -> list[tuple[str, str]]:
    random = np.random.default_rng(_SEED)
    with_day = fleet[-days:]
    now_us = time.time_ns() // 1000
    asked = []
    for number in range(count):
        kind = _MIX[number % len(_MIX)]
        member = fleet[int(random.integers(len(fleet)))]
        if kind == "list":
            path = f"/v1/modules{_LISTS[number % len(_LISTS)]}"
        elif kind == "module":
            path = f"/v1/modules/{member.credential.serial}"
        elif kind == "search":
            path = f"/v1/search?q={member.identifiers[number % len(member.identifiers)]}"
        else:
            serial = with_day[int(random.integers(len(with_day)))].credential.serial
            path = f"/v1/modules/{serial}/readings.arrow?from_us={now_us - _DAY_US - 10**9}&to_us={now_us}"
        asked.append((kind, path))
    return asked


def _ask(as_whom: tuple[str, int, dict[str, str]], requests: list[tuple[str, str]], rate: float) -> Answers:
    return _finish(_start(as_whom, requests, rate))


def _start(
    as_whom: tuple[str, int, dict[str, str]], requests: list[tuple[str, str]], rate: float
) -> subprocess.Popen[bytes]:
    host, port, headers = as_whom
    process = subprocess.Popen(
        [sys.executable, "-m", "device_sim.bench.http_load"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=_ROOT,
    )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(Job(host, port, headers, rate, requests)) + b"\n")
    process.stdin.close()
    return process


def _finish(process: subprocess.Popen[bytes]) -> Answers:
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
    finally:
        process.stdout.close()
        process.wait(60)
    if not line:
        raise CanNotRun("the process that asks the API ended early; its error stands above")
    return msgspec.json.decode(line, type=Answers)


def _percentile(answers: Answers, kind: str, percent: int) -> float | None:
    found = answers.latency_ms.get(kind)
    return round(float(np.percentile(found, percent)), 1) if found else None
