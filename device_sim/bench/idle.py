"""`./run bench idle`: memory of idle connections, and whether memory stays flat under a steady load with reconnects."""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence

from device_sim.bench import rig
from device_sim.bench.balance import balance
from device_sim.bench.hardware import hardware_line
from device_sim.bench.measure import on_schedule
from device_sim.bench.output import Value, note, show
from device_sim.bench.plan import Run
from device_sim.bench.process import LoadGroup
from device_sim.bench.sampler import MemorySampler, Sample
from device_sim.bench.tools import BenchTools

# What must be shown: memory flat over 10 minutes after 2 of warm-up.
_FULL_SECONDS = 600.0
_FULL_WARMUP = 120.0
# Memory is compared by its median over a tenth of the measured time: single samples catch a commit under way.
_WINDOWS = 10
_SETTLE_S = 1.5
_MEBI = 1 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the bench's flags."""
    parser.add_argument("--connections", type=int, default=16_000, help="idle connections")
    parser.add_argument("--rate", type=float, default=10_000.0, help="readings per second afterwards")
    parser.add_argument("--qos", type=int, choices=(0, 1), default=0, help="quality of service")
    parser.add_argument("--reconnects", type=float, default=50.0, help="reconnects per second")
    parser.add_argument(
        "--seconds", type=float, default=20.0, help="measured time under load; the full figure takes 600"
    )
    parser.add_argument(
        "--warmup",
        type=float,
        default=10.0,
        help="seconds of load before the measured time; the full figure takes 120",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")


def run(args: argparse.Namespace, tools: BenchTools) -> int:
    """Measure and print. 0: valid and nothing lost; 1: not so."""
    note(hardware_line())
    full = args.seconds >= _FULL_SECONDS and args.warmup >= _FULL_WARMUP
    note(f"{'full' if full else 'short'} run: {args.warmup:g} s of warm-up, {args.seconds:g} s measured")
    rig.check_machine(args.connections)
    serials = rig.serials(args.connections)
    with rig.data_directory() as data_dir:
        credentials = tools.provision(data_dir, serials)
        with rig.running_hub(tools, data_dir) as hub:
            with LoadGroup(rig.plan_for(hub.address("mqtt"), credentials)) as load:
                time.sleep(_SETTLE_S)
                before = hub.rss_bytes()
                connected = rig.connect_all(load)
                time.sleep(_SETTLE_S)
                per_connection = (hub.rss_bytes() - before) / args.connections
                note(f"{per_connection:,.0f} bytes per idle connection")
                cpu = hub.cpu_s()
                with MemorySampler(hub) as memory:
                    ran = load.run(
                        Run(
                            rate=args.rate,
                            seconds=args.warmup + args.seconds,
                            qos=1 if args.qos else 0,
                            reconnects_per_s=args.reconnects,
                        )
                    )
                cpu = (hub.cpu_s() - cpu) / ran.seconds
                finished = load.finish()
                processes = load.processes
            hub.sigterm()
        books = balance(tools.read_back(data_dir, serials), finished)
    first, last, spread = flatness([sample for sample in memory.samples() if sample.at_s >= args.warmup])
    row: dict[str, Value] = {
        "engine": "native",
        "connections": args.connections,
        "qos": args.qos,
        "seconds": round(ran.seconds, 2),
        "warmup_s": args.warmup,
        "full": full,
        "bytes_per_connection": round(per_connection),
        "rss_first_mb": round(first / _MEBI, 1),
        "rss_last_mb": round(last / _MEBI, 1),
        "rss_growth_percent": round(100 * (last / first - 1), 2) if first else None,
        "rss_spread_percent": round(100 * spread, 2),
        "reconnects": ran.reconnects,
        "sent": books.sent,
        "stored": books.stored,
        "lost": books.lost,
        "stored_per_s": round(books.stored / ran.seconds, 1),
        "ack_p50_ms": None,
        "ack_p99_ms": None,
        "hub_cpu": round(cpu, 3),
        "hub_rss_mb": round(memory.peak_bytes() / _MEBI, 1),
        "connect_s": round(connected.seconds, 2),
        "generator_cpu": round(ran.cpu_s / ran.seconds, 3),
        "generator_processes": processes,
        "valid": on_schedule(ran, args.rate),
    }
    show([row], as_json=args.json)
    return 0 if row["valid"] and books.lost == 0 else 1


def flatness(samples: Sequence[Sample]) -> tuple[float, float, float]:
    """Median memory of the first and the last tenth, and the largest distance of any tenth from the first, as a share.

    Zeros when there are no samples.
    """
    if not samples:
        return 0.0, 0.0, 0.0
    count = min(_WINDOWS, len(samples))
    medians = [
        statistics.median(
            sample.rss_bytes for sample in samples[len(samples) * i // count : len(samples) * (i + 1) // count]
        )
        for i in range(count)
    ]
    return medians[0], medians[-1], max(abs(median / medians[0] - 1) for median in medians) if medians[0] else 0.0
