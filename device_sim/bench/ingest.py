"""`./run bench ingest`: readings per second from the wire to the store."""

from __future__ import annotations

import argparse
import importlib.util

from device_sim.bench import peers
from device_sim.bench.hardware import hardware_line
from device_sim.bench.measure import Load, Measurement, measure
from device_sim.bench.output import CanNotRun, Value, note, show
from device_sim.bench.tools import BenchTools, EngineName

# What the hub must carry, and 2 % more, so that the stored rate of a kept schedule is not just below it.
_HEADROOM = 1.02
_FEW_CONNECTIONS = 2_000
_RATE_FEW = 60_000 * _HEADROOM
_RATE_MANY = 48_000 * _HEADROOM
_RATE_GUARANTEED = 24_000 * _HEADROOM
_RATE_TLS = 12_000 * _HEADROOM
# More than amqtt takes (5,500/s bare, measured): the first run finds its limit, the second keeps a little below.
_RATE_AMQTT_LIMIT = 9_000.0
_AMQTT_LIMIT_SECONDS = 4.0
_BELOW_LIMIT = 0.93
_TLS_WORKERS = (0, 2)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the bench's flags."""
    parser.add_argument("--connections", type=int, default=200, help="modules, a connection each (default: 200)")
    parser.add_argument(
        "--rate", type=float, help="readings per second over all (default: what must be reached, and 2 %% more)"
    )
    parser.add_argument("--qos", type=int, choices=(0, 1), default=0, help="quality of service (default: 0)")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the run (default: 20)")
    parser.add_argument(
        "--engine",
        choices=("native", "amqtt", "both"),
        default="native",
        help="broker engine; amqtt (or both) measures native beside it and prints the ratio (default: native)",
    )
    parser.add_argument("--tls", action="store_true", help="over TLS; measured with broker.tls_workers 0 and 2")
    parser.add_argument("--peers", action="store_true", help="also measure Mosquitto and amqtt by themselves")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")


def run(args: argparse.Namespace, tools: BenchTools) -> int:
    """Measure and print. 0: every run valid and nothing lost; 1: not so; raises CanNotRun."""
    if args.engine != "native" and importlib.util.find_spec("amqtt") is None:
        raise CanNotRun("amqtt is not installed: remove .venv and start ./run again")
    note(hardware_line())
    rate = args.rate or default_rate(args.connections, args.qos, tls=args.tls)
    measured: list[Measurement] = []
    rows: list[dict[str, Value]] = []
    summary: dict[str, object] = {}
    if args.tls:
        for workers in _TLS_WORKERS:
            load = Load(
                "native", args.connections, rate, args.qos, args.seconds, True, {"broker.tls_workers": str(workers)}
            )
            measured.append(_measure(tools, load))
            rows.append({**measured[-1].row(), "tls_workers": workers})
        summary = {**rows[0], "with_workers": rows[1]}
    else:
        measured.append(_measure(tools, Load("native", args.connections, rate, args.qos, args.seconds)))
        rows.append(measured[-1].row())
        summary = dict(rows[0])
    if args.engine != "native":
        measured.append(_amqtt(tools, args.connections, args.qos, args.seconds))
        rows.append(measured[-1].row())
        ratio = round(measured[0].stored_per_s / measured[-1].stored_per_s, 2)
        rows[0]["ratio"] = ratio
        native = summary
        summary = {**rows[-1], "native": native, "ratio": ratio}
    if args.peers:
        rows += (found := peers.measure(args.connections, rate, args.qos, min(args.seconds, 10.0)))
        summary["peers"] = found
    show(rows, as_json=args.json, summary=summary)
    return 0 if all(one.valid and one.balance.lost == 0 for one in measured) else 1


def default_rate(connections: int, qos: int, *, tls: bool) -> float:
    """The rate that must be reached with so many connections, and 2 % more."""
    if tls:
        return _RATE_TLS
    if qos:
        return _RATE_GUARANTEED
    return _RATE_FEW if connections <= _FEW_CONNECTIONS else _RATE_MANY


def _measure(tools: BenchTools, load: Load) -> Measurement:
    workers = load.settings.get("broker.tls_workers")
    note(
        f"{load.engine}: {load.connections} connections, {load.rate:,.0f}/s, QoS {load.qos}, {load.seconds:g} s"
        + (f", TLS with {workers} workers" if workers is not None else "")
    )
    return measure(tools, load)


def _amqtt(tools: BenchTools, connections: int, qos: int, seconds: float) -> Measurement:
    """What amqtt carries by a schedule it can keep: just below the limit that a short run beyond it shows."""
    engine: EngineName = "amqtt"
    limit = _measure(tools, Load(engine, connections, _RATE_AMQTT_LIMIT, qos, _AMQTT_LIMIT_SECONDS))
    return _measure(tools, Load(engine, connections, limit.stored_per_s * _BELOW_LIMIT, qos, seconds))
