"""`./run sim history`: fills a new data directory with a neighbourhood's past."""

from __future__ import annotations

import argparse
import datetime as dt
import multiprocessing
import os
import queue
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from app.domain.errors import OperatorInputError
from app.domain.past import PastSpan
from app.domain.resolution import to_us
from device_sim.commands.history_work import Share, begin_process, fill, fill_in_process, work_of
from device_sim.commands.tools import Past, PastTools
from device_sim.homes.neighbourhood import Neighbourhood
from device_sim.homes.past import past_homes
from device_sim.homes.truth import write_truth

_US = 1_000_000
_BUCKET_US = 600 * _US
_HOUR_US = 3_600 * _US
_DAY_US = 24 * _HOUR_US
# As the stores keep them by default.
_RAW_DAYS, _TEN_MIN_DAYS = 2, 31
# Fewer homes than this for a process are not worth its start.
_HOMES_EACH = 40
_MOST_HOMES = 20_000
_MOST_PROCESSES = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    add = parser.add_argument
    add("--data", type=Path, required=True, metavar="DIR", help="new data directory; refused when it holds anything")
    add("--homes", type=int, default=300, metavar="N", help="how many homes, each with a module")
    add("--months", type=int, default=13, metavar="M", help="how far back")
    add("--seed", type=int, default=1, metavar="S", help="the same seed gives the same past")
    add("--until", metavar="T", help="end of the past, such as 2026-11-23T08:00 (UTC); now where it is left out")
    add("--processes", type=int, default=0, metavar="P", help="0: one for each core")
    add("--credentials", type=Path, metavar="FILE", help="write the modules' credentials there, as CSV")
    add("--truth", type=Path, metavar="FILE", help="write what each appliance drew in the days kept by the second")
    add("--truth-homes", default="1,2,3", metavar="N,N", help="of these homes, 1 is that of SIM00001")
    add("--json", action="store_true", help="print one JSON object as the last line")


def run(args: argparse.Namespace, tools: PastTools) -> int:
    """Write it; progress goes to stderr. Interrupted, it leaves nothing."""
    began = time.monotonic()
    if not 1 <= args.homes <= _MOST_HOMES:
        raise OperatorInputError(f"--homes must lie between 1 and {_MOST_HOMES}")
    if not 1 <= args.months <= 25:
        raise OperatorInputError("--months must lie between 1 and 25: nothing is kept for longer")
    span = _span(args.months, _until(args.until), tools)
    neighbourhood = Neighbourhood(args.seed, args.homes, span.start_us)
    chosen = _chosen(args.truth_homes, args.homes) if args.truth else []
    homes = past_homes(neighbourhood.households, neighbourhood.register_counts)
    with tools.new_past(args.data, homes, span) as past:
        rows = _write(args, past)
        if args.credentials:
            past.write_credentials(args.credentials)
        if args.truth:
            write_truth(args.truth, neighbourhood, chosen, span.raw_us, (span.end_us - span.raw_us) // _US)
    seconds = round(time.monotonic() - began, 1)
    print(f"{args.data}: {args.homes} homes, {args.months} months, {rows:,} rows in {seconds:g} s")
    if args.json:
        facts = {"homes": args.homes, "months": args.months, "rows": rows, "seconds": seconds, "seed": args.seed}
        print(msgspec.json.encode(facts).decode())
    return 0


def _write(args: argparse.Namespace, past: Past) -> int:
    processes = args.processes or min(os.cpu_count() or 1, _MOST_PROCESSES)
    processes = max(min(processes, args.homes // _HOMES_EACH), 1)
    shares = [
        Share(args.seed, past, tuple(int(row) for row in part))
        for part in np.array_split(np.array(past.by_key(), np.int64), processes)
    ]
    progress = _Progress(work_of(args.homes, past))
    here = processes == 1
    parts = [fill(share, progress.add) for share in shares] if here else _in_processes(shares, progress)
    progress.say("putting it together")
    return past.commit(parts)


def _in_processes(shares: Sequence[Share], progress: _Progress) -> list[Any]:
    context = multiprocessing.get_context("spawn")
    told: Any = context.Queue()
    with context.Pool(len(shares), begin_process, (told,)) as pool:
        result = pool.map_async(fill_in_process, shares, chunksize=1)
        while not result.ready():
            try:
                progress.add(told.get(timeout=0.2))
            except queue.Empty:
                continue
        return result.get()


class _Progress:
    """One line on a terminal, a line now and then elsewhere."""

    def __init__(self, total: int) -> None:
        self._total, self._done, self._said_at = max(total, 1), 0, time.monotonic()
        self._each_s = 0.2 if sys.stderr.isatty() else 5.0

    def add(self, done: int) -> None:
        self._done += done
        if time.monotonic() - self._said_at > self._each_s:
            self._said_at = time.monotonic()
            self.say(f"{100 * self._done // self._total} %")

    def say(self, text: str) -> None:
        end = "\r" if sys.stderr.isatty() else "\n"
        print(f"history: {text:<30}", end=end, file=sys.stderr, flush=True)


def _span(months: int, end_us: int, tools: PastTools) -> PastSpan:
    end_us -= end_us % _BUCKET_US
    end = dt.datetime.fromtimestamp(end_us // _US, dt.UTC)
    month = end.year * 12 + end.month - 1 - months
    day = min(end.day, 28)
    start_us = tools.civil_midnight(to_us(dt.datetime(month // 12, month % 12 + 1, day, 12, tzinfo=dt.UTC)))
    raw_us = end_us - _RAW_DAYS * _DAY_US
    ten_min_us = end_us - _TEN_MIN_DAYS * _DAY_US
    return PastSpan(start_us, max(start_us, ten_min_us), max(start_us, raw_us - raw_us % _HOUR_US), end_us)


def _until(text: str | None) -> int:
    if text is None:
        return time.time_ns() // 1000
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise OperatorInputError(f"{text!r} is no moment; write 2026-11-23T08:00") from None
    found = to_us(moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC))
    if not 0 < found <= time.time_ns() // 1000:
        raise OperatorInputError("--until must not lie in the future: a past ends by now")
    return found


def _chosen(text: str, homes: int) -> list[int]:
    try:
        chosen = [int(word) - 1 for word in text.split(",")]
    except ValueError:
        raise OperatorInputError("--truth-homes takes numbers, such as 1,2,3") from None
    if not all(0 <= number < homes for number in chosen):
        raise OperatorInputError(f"--truth-homes must lie between 1 and {homes}")
    return chosen
