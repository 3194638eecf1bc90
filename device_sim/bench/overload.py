"""`./run bench overload`: twice what the hub can take, and a store that stands still; what becomes of every reading."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Sequence

from device_sim.bench import rig
from device_sim.bench.balance import Balance, balance, of_modules
from device_sim.bench.hardware import hardware_line
from device_sim.bench.histogram import Histogram
from device_sim.bench.measure import last_lag_s
from device_sim.bench.output import CanNotRun, Value, note, show
from device_sim.bench.plan import Ran, Run
from device_sim.bench.process import LoadGroup
from device_sim.bench.sampler import MemorySampler
from device_sim.bench.tools import BenchTools, HubProcess

_CONNECTIONS = 400
# The first seconds find what the hub makes durable; this must be clearly more than that.
_PROBE_RATE = 200_000.0
_PROBE_SECONDS = 3.0
_TIMES_CAPACITY = 2.0
# A module has a small send buffer; a large one would hide an overload of seconds in the kernel.
_SEND_BUFFER = 8192
_STALL_RATE = 20_000.0
# The journal syncs about four times a second under load: the store stands still after about 3 s.
_STALL_AT_SYNC = 12
_BEFORE_STALL_S = 15
_RECOVERY_ALLOWED_S = 5.0
_AFTER_S = 6
# Normal: nothing unsent in a second, and acknowledgements as in normal times (issue: p99 within 600 ms).
_NORMAL_ACK_MS = 600.0
# Memory is bounded when the worst is at most this much above what it was before.
_MEMORY_ALLOWED = 600 << 20
_MEBI = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Second:
    """What one second of the stalled phase brought."""

    unsent: int
    sent: int
    acked: int
    ack_p99_ms: float | None
    shed: float

    @property
    def normal(self) -> bool:
        """Everything was sent, and acknowledged quickly."""
        return self.unsent == 0 and self.ack_p99_ms is not None and self.ack_p99_ms <= _NORMAL_ACK_MS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the bench's flags."""
    add = parser.add_argument
    add("--connections", type=int, default=_CONNECTIONS, help="modules")
    add("--seconds", type=float, default=8.0, help="length of the phase at twice capacity")
    add("--stall", type=float, default=12.0, help="seconds the store stands still; the full figure takes 60")
    add("--rate", type=float, default=_STALL_RATE, help="readings per second while it does")
    add("--json", action="store_true", help="print one JSON object as the last line")


def run(args: argparse.Namespace, tools: BenchTools) -> int:
    """Both phases. 0: memory bounded, books balance, nothing acknowledged missing, normal again in time; 1: not so."""
    note(hardware_line())
    rig.check_machine(args.connections)
    twice = _twice_capacity(args, tools)
    stalled = _stalled(args, tools)
    summary = {**twice, "stall": stalled}
    good = all(bool(row["valid"]) for row in (twice, stalled))
    show([twice, stalled], as_json=args.json, summary=summary)
    return 0 if good else 1


def _twice_capacity(args: argparse.Namespace, tools: BenchTools) -> dict[str, Value]:
    serials = rig.serials(args.connections)
    with rig.data_directory() as data_dir:
        credentials = tools.provision(data_dir, serials)
        with rig.running_hub(tools, data_dir) as hub:
            plan = rig.plan_for(hub.address("mqtt"), credentials, send_buffer=_SEND_BUFFER)
            with LoadGroup(plan) as load, MemorySampler(hub) as memory:
                connected = rig.connect_all(load)
                before = hub.rss_bytes()
                capacity = _capacity(hub, load, min(_PROBE_RATE, 500.0 * args.connections))
                rate = min(_TIMES_CAPACITY * capacity, 1000.0 * args.connections)
                note(f"the hub commits {capacity:,.0f}/s; offering {rate:,.0f}/s for {args.seconds:g} s")
                cpu = hub.cpu_s()
                ran = load.run(Run(rate=rate, seconds=args.seconds, open_loop=True))
                cpu = (hub.cpu_s() - cpu) / ran.seconds
                finished = load.finish()
            shed = _shed(hub)
            code = hub.sigterm()
        stored = tools.read_back(data_dir, serials)
    books = balance(stored, finished)
    peak = memory.peak_bytes()
    return {
        "phase": "twice capacity",
        "engine": "native",
        "connections": args.connections,
        "qos": 0,
        "seconds": round(ran.seconds, 2),
        "capacity_per_s": round(capacity, 1),
        "offered_per_s": round(ran.offered / ran.seconds, 1),
        "achieved_per_s": round(ran.sent / ran.seconds, 1),
        **_books(books, shed),
        "stored_per_s": round(int((stored.seq >= ran.first_seq).sum()) / (ran.seconds + last_lag_s(stored, ran)), 1),
        "ack_p50_ms": None,
        "ack_p99_ms": None,
        "hub_cpu": round(cpu, 3),
        "hub_rss_mb": round(peak / _MEBI, 1),
        "rss_growth_mb": round((peak - before) / _MEBI, 1),
        "connect_s": round(connected.seconds, 2),
        "generator_cpu": round(ran.cpu_s / ran.seconds, 3),
        "valid": _balanced(books, shed)
        and peak - before <= _MEMORY_ALLOWED
        and code == 0
        and ran.unsent + books.lost > 0,
    }


def _capacity(hub: HubProcess, load: LoadGroup, rate: float) -> float:
    """Readings per second that the hub makes durable when it is offered `rate`; what it takes, when it does not say."""
    before = hub.stats().get("commit.committed")
    began = time.monotonic()
    ran = load.run(Run(rate=rate, seconds=_PROBE_SECONDS, open_loop=True))
    after = hub.stats().get("commit.committed")
    took = time.monotonic() - began
    if before is None or after is None:
        return ran.sent / ran.seconds
    if after == before:
        raise CanNotRun(f"the hub committed none of {ran.sent:,} readings sent in {took:.1f} s: its log says why")
    return (after - before) / took


def _stalled(args: argparse.Namespace, tools: BenchTools) -> dict[str, Value]:
    """Half of the modules at QoS 0, half at QoS 1, second by second, while the store stands still and after."""
    serials = rig.serials(args.connections)
    half = len(serials) // 2
    environment = {"WATTDECK_FAIL_POINT": f"journal_sync:stall={args.stall:g}@{_STALL_AT_SYNC}"}
    note(f"{args.rate:,.0f}/s, half of it QoS 1; the store stands still for {args.stall:g} s")
    with rig.data_directory() as data_dir:
        credentials = tools.provision(data_dir, serials)
        with rig.running_hub(tools, data_dir, environment=environment) as hub:
            address = hub.address("mqtt")
            with (
                LoadGroup(rig.plan_for(address, credentials[:half], send_buffer=_SEND_BUFFER)) as plain,
                LoadGroup(rig.plan_for(address, credentials[half:], send_buffer=_SEND_BUFFER)) as guaranteed,
                MemorySampler(hub) as memory,
            ):
                connect_s = max(rig.connect_all(plain).seconds, rig.connect_all(guaranteed).seconds)
                before = hub.rss_bytes()
                seconds = _second_by_second(args, hub, plain, guaranteed)
                peak = memory.peak_bytes()
                books_of = (plain.finish(), guaranteed.finish())
            shed = _shed(hub)
            code = hub.sigterm()
        stored = tools.read_back(data_dir, serials)
    plain_books = balance(of_modules(stored, 0, half), books_of[0])
    guaranteed_books = balance(of_modules(stored, half, len(serials)), books_of[1])
    recovery = recovery_s(seconds)
    withheld = max((second.ack_p99_ms or 0.0 for second in seconds), default=0.0)
    return {
        "phase": "store stalled",
        "engine": "native",
        "connections": args.connections,
        "qos": None,
        "seconds": float(len(seconds)),
        "stall_s": args.stall,
        **_books(plain_books, shed),
        "qos1_sent": guaranteed_books.sent,
        "qos1_unsent": guaranteed_books.unsent,
        "qos1_acked": guaranteed_books.acked,
        "qos1_lost": guaranteed_books.lost,
        "qos1_missing": guaranteed_books.missing,
        "ack_withheld_ms": withheld,
        "recovery_s": recovery,
        "hub_rss_mb": round(peak / _MEBI, 1),
        "rss_growth_mb": round((peak - before) / _MEBI, 1),
        "connect_s": round(connect_s, 2),
        "valid": (
            _balanced(plain_books, shed)
            and guaranteed_books.missing == guaranteed_books.duplicated == guaranteed_books.unexpected == 0
            and peak - before <= _MEMORY_ALLOWED
            and withheld >= 900 * args.stall
            and recovery is not None
            and recovery <= _RECOVERY_ALLOWED_S
            and code == 0
        ),
    }


def _second_by_second(
    args: argparse.Namespace, hub: HubProcess, plain: LoadGroup, guaranteed: LoadGroup
) -> list[Second]:
    """Load in runs of one second until the stall was seen and 6 s have passed since, or it never came."""
    seconds: list[Second] = []
    over: int | None = None
    while len(seconds) < _BEFORE_STALL_S + args.stall and (over is None or len(seconds) < over + _AFTER_S):
        plain.begin(Run(rate=args.rate / 2, seconds=1.0, open_loop=True))
        guaranteed.begin(Run(rate=args.rate / 2, seconds=1.0, qos=1, open_loop=True))
        ran: tuple[Ran, Ran] = (plain.ran(10.0), guaranteed.ran(10.0))
        seconds.append(
            Second(
                unsent=ran[0].unsent + ran[1].unsent,
                sent=ran[0].sent + ran[1].sent,
                acked=ran[1].acked,
                ack_p99_ms=Histogram(ran[1].latency).quantile_ms(0.99),
                shed=_shed(hub) or 0.0,
            )
        )
        if over is None and stall_end(seconds) is not None:
            over = len(seconds)
    return seconds


def stall_end(seconds: Sequence[Second]) -> int | None:
    """Index of the first second with acknowledgements after at least two without; None while that has not been."""
    for index in range(2, len(seconds)):
        if seconds[index].acked and not seconds[index - 1].acked and not seconds[index - 2].acked:
            return index
    return None


def recovery_s(seconds: Sequence[Second]) -> float | None:
    """Seconds from the return of acknowledgements to the first normal second that only normal ones follow."""
    end = stall_end(seconds)
    if end is None:
        return None
    abnormal = [index for index in range(end, len(seconds)) if not seconds[index].normal]
    if abnormal and abnormal[-1] == len(seconds) - 1:
        return None
    return float(abnormal[-1] + 1 - end) if abnormal else 0.0


def _books(books: Balance, shed: float | None) -> dict[str, Value]:
    return {
        "offered": books.offered,
        "sent": books.sent,
        "stored": books.stored,
        "lost": books.lost,
        "shed": None if shed is None else int(shed),
        "unsent": books.unsent,
        "duplicated": books.duplicated,
        "unexpected": books.unexpected,
    }


def _shed(hub: HubProcess) -> float | None:
    """What the hub says it dropped by rule; None when it does not say."""
    return hub.stats().get("ingest.shed")


def _balanced(books: Balance, shed: float | None) -> bool:
    """Whether what is not stored is exactly what the hub says it shed, and nothing is there that was not sent."""
    return shed is not None and books.lost == shed and not books.duplicated and not books.unexpected
