"""`./run bench store`: what journal, series store and roll-ups cost, and how fast they answer while data flow in."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from app.bench.flow import Flow, flowing
from app.bench.store_cost import Cost, measure_cost
from app.bench.store_history import make_day, make_tail
from app.domain.resolution import DAY_US, Resolution
from app.hub.event_loop import new_event_loop
from app.stores.series.delta.files import ScanCount
from app.stores.series.delta.table import SeriesTable
from app.stores.series.schema import RAW

_QUERIES = 25
_TAIL_S = 600
# The flow runs this long before the first query, so that commits are in progress, and at least so long in all.
_WARM_UP_S = 2.0
_LEAST_FLOW_S = 6.0


@dataclasses.dataclass(frozen=True, slots=True)
class Answers:
    """How queries of one key went."""

    median_ms: float
    p95_ms: float
    rows_returned: int
    rows_decoded_per_row: float
    open_s: float
    loop_lag_p99_ms: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the bench."""
    parser.add_argument("--modules", type=int, nargs="+", default=[200], help="24 h of one key, among so many modules")
    parser.add_argument("--tail-modules", type=int, default=48_000, help="modules in the 10 min that are not merged")
    parser.add_argument("--cost-rows", type=int, default=9_000_000, help="readings to measure CPU and bytes with")
    parser.add_argument("--commits", type=int, default=8640, help="earlier commits of the table")
    parser.add_argument("--rate", type=int, default=20_000, help="readings per second that flow in meanwhile")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")


def run(args: argparse.Namespace, _tools: object) -> int:
    """Measure and print; 0."""
    with tempfile.TemporaryDirectory(prefix="wattdeck-bench-") as folder:
        root = Path(folder)
        _say(f"what {args.cost_rows:,} readings cost: journal, commits, merging, roll-ups")
        cost = measure_cost(root / "cost", args.cost_rows)
        days = {}
        for modules in args.modules:
            _say(f"24 h of {modules:,} modules, {args.commits:,} earlier commits; {args.rate:,} readings/s flow in")
            now_us = time.time_ns() // 1000
            keys = make_day(root / f"day{modules}" / "series" / "raw", modules, args.commits, now_us)
            days[modules] = _query(root / f"day{modules}", keys, args.rate, DAY_US)
        _say(f"10 min of {args.tail_modules:,} modules, not merged; {args.rate:,} readings/s flow in")
        now_us = time.time_ns() // 1000
        keys = make_tail(root / "tail" / "series" / "raw", args.tail_modules, _TAIL_S, now_us)
        tail = _query(root / "tail", keys, args.rate, _TAIL_S * 1_000_000)
    summary = _summary(cost, days, tail)
    for name, value in summary.items():
        print(f"{name:<26} {value}")
    if args.json:
        print(json.dumps(summary))
    return 0


def _query(folder: Path, keys: Sequence[int], rate: int, span_us: int) -> Answers:
    """The newest `span_us` of single keys, read while others flow in."""
    began = time.monotonic()
    table = SeriesTable.open(folder / "series" / "raw", RAW)
    open_s = time.monotonic() - began
    newest_us = max(file.max_us for file in table.files()) + 1
    chosen = [keys[int(at)] for at in np.random.default_rng(7).integers(0, len(keys), _QUERIES)]
    count = ScanCount()
    for key in chosen:
        table.scan(keys=[key], start_us=newest_us - span_us, end_us=newest_us, count=count)
    table.close()

    async def measured() -> tuple[list[float], int, float]:
        async with flowing(folder, keys, rate) as flow:
            await asyncio.sleep(_WARM_UP_S)
            flow.lag.clear()
            began = time.monotonic()
            times, rows = await asyncio.to_thread(_read_all, flow, chosen, newest_us - span_us, newest_us)
            await asyncio.sleep(max(0.0, _LEAST_FLOW_S - (time.monotonic() - began)))
            return times, rows, flow.lag.percentile_ms(99)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        times, rows, lag_ms = runner.run(measured())
    return Answers(
        median_ms=round(statistics.median(times), 1),
        p95_ms=round(float(np.percentile(times, 95)), 1),
        rows_returned=rows,
        rows_decoded_per_row=round(count.rows_decoded / count.rows_returned, 1),
        open_s=round(open_s, 2),
        loop_lag_p99_ms=round(lag_ms, 1),
    )


def _read_all(flow: Flow, keys: Sequence[int], start_us: int, end_us: int) -> tuple[list[float], int]:
    times = []
    rows = 0
    for key in keys:
        began = time.perf_counter()
        rows = flow.store.read(key, start_us, end_us, Resolution.RAW).num_rows
        times.append((time.perf_counter() - began) * 1000)
    return times, rows


def _summary(cost: Cost, days: dict[int, Answers], tail: Answers) -> dict[str, object]:
    every = [*days.values(), tail]
    # Of several fleets the worst counts.
    return {
        "cpu_s_per_m": round(cost.total, 2),
        "query_24h_ms": max(day.median_ms for day in days.values()),
        "rows_decoded_per_row": max(day.rows_decoded_per_row for day in days.values()),
        "tail_ms": tail.median_ms,
        "loop_lag_p99_ms": max(answers.loop_lag_p99_ms for answers in every),
        "bytes_per_reading": round(cost.bytes_per_reading, 2),
        "cpu_s_per_m_parts": {
            "journal": round(cost.journal, 2),
            "archive": round(cost.archive, 2),
            "upkeep": round(cost.upkeep, 2),
        },
        "query_24h_p95_ms": max(day.p95_ms for day in days.values()),
        "rows_24h": [day.rows_returned for day in days.values()],
        "tail_p95_ms": tail.p95_ms,
        "rows_tail": tail.rows_returned,
        "open_s": max(answers.open_s for answers in every),
        "modules": list(days),
        "cost_rows": cost.rows,
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
