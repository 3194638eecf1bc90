"""`./run bench homes`: how many homes one core simulates second by second, and what the population is like."""

from __future__ import annotations

import argparse
import time

import msgspec
import numpy as np

from device_sim.bench.hardware import hardware_line
from device_sim.bench.output import Value, note, show
from device_sim.bench.population import rows_of_population
from device_sim.bench.tools import BenchTools
from device_sim.homes.neighbourhood import Neighbourhood

_US = 1_000_000
# A winter evening in Paris: everything runs. 2026-01-15, 19:00.
_START_S = 1_768_500_000
_WANTED = 50_000
# Asked for in minutes, as a driver of a fleet does.
_BLOCK_S = 60


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the bench's flags."""
    add = parser.add_argument
    add("--homes", type=int, default=0, help="homes side by side; 0: 50,000, and 1,000 with --population")
    add("--seconds", type=int, default=600, help="simulated time, a winter evening's")
    add("--seed", type=int, default=1, help="of the homes")
    add("--population", action="store_true", help="a year of the homes beside published figures instead")
    add("--json", action="store_true", help="print one JSON object as the last line")


def run(args: argparse.Namespace, _tools: BenchTools) -> int:
    """Measure and print. 1 when one core simulates fewer than 50,000 homes at 1 Hz."""
    note(hardware_line())
    if args.population:
        rows = rows_of_population(args.seed, min(args.homes or 1_000, 5_000))
        print(f"{'figure':<48}{'':<12}{'simulated':>10}  {'published':<24}source")
        for row in rows:
            print("{figure:<48}{unit:<12}{simulated:>10,}  {published:<24}{source}".format(**row))
        if args.json:
            print(msgspec.json.encode({row["figure"]: row for row in rows}).decode())
        return 0
    homes = args.homes or 50_000
    began, cpu = time.perf_counter(), time.process_time()
    neighbourhood = Neighbourhood(args.seed, homes, _START_S * _US)
    neighbourhood.block(_START_S * _US, _BLOCK_S)
    prepared_s = time.process_time() - cpu
    cpu, mean_w = time.process_time(), []
    blocks = max(args.seconds // _BLOCK_S, 1)
    for _ in range(blocks):
        block = neighbourhood.block(neighbourhood.now_s * _US, _BLOCK_S)
        mean_w.append(float(block.active_w.mean()))
    cpu_s = time.process_time() - cpu
    rate = homes * _BLOCK_S * blocks / cpu_s
    measured: dict[str, Value] = {
        "homes": homes,
        "simulated_s": _BLOCK_S * blocks,
        "cpu_s": round(cpu_s, 3),
        "wall_s": round(time.perf_counter() - began, 3),
        "homes_per_s": round(rate),
        "new_day_cpu_s": round(prepared_s, 3),
        "mean_w": round(float(np.mean(mean_w)), 1),
    }
    show([measured], as_json=args.json)
    return 0 if rate >= _WANTED else 1
