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
# More than either engine takes: engines are compared at what each can carry. A short run beyond the limit finds it, the
# measured one stays a little below. (amqtt takes 5,000 to 10,000/s bare.)
_BEYOND_LIMIT: dict[EngineName, float] = {"native": 150_000.0, "amqtt": 15_000.0}
_LIMIT_SECONDS = 4.0
_BELOW_LIMIT = 0.93
_TLS_WORKERS = (0, 2)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the bench's flags."""
    parser.add_argument("--connections", type=int, default=200, help="modules, a connection each")
    parser.add_argument(
        "--rate",
        type=float,
        default=argparse.SUPPRESS,
        help="readings per second over all (default: what must be reached, and 2 %% more)",
    )
    parser.add_argument("--qos", type=int, choices=(0, 1), default=0, help="quality of service")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the run")
    parser.add_argument(
        "--engine",
        choices=("native", "amqtt", "both"),
        default="native",
        help="broker engine; amqtt (or both) measures native beside it, each just below its limit",
    )
    parser.add_argument("--tls", action="store_true", help="over TLS; measured with broker.tls_workers 0 and 2")
    parser.add_argument("--peers", action="store_true", help="also measure Mosquitto and amqtt by themselves")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")


def run(args: argparse.Namespace, tools: BenchTools) -> int:
    """Measure and print. 0: every run valid and nothing lost; 1: not so; raises CanNotRun."""
    if args.engine != "native" and importlib.util.find_spec("amqtt") is None:
        raise CanNotRun("amqtt is not installed: remove .venv and start ./run again")
    note(hardware_line())
    rate = _chosen_rate(args) or default_rate(args.connections, args.qos, tls=args.tls)
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
    elif args.engine == "native":
        measured.append(_measure(tools, Load("native", args.connections, rate, args.qos, args.seconds)))
        rows.append(measured[-1].row())
        summary = dict(rows[0])
    else:
        measured += [_at_limit(args, tools, engine) for engine in ("native", "amqtt")]
        rows += [one.row() for one in measured]
        ratio = round(measured[0].stored_per_s / measured[1].stored_per_s, 2)
        rows[0]["times_amqtt"] = ratio
        summary = {**measured[1].row(), "native": measured[0].row(), "ratio": ratio}
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


def _chosen_rate(args: argparse.Namespace) -> float | None:
    return getattr(args, "rate", None)


def _measure(tools: BenchTools, load: Load) -> Measurement:
    workers = load.settings.get("broker.tls_workers")
    note(
        f"{load.engine}: {load.connections} connections, {load.rate:,.0f}/s, QoS {load.qos}, {load.seconds:g} s"
        + (f", TLS with {workers} workers" if workers is not None else "")
    )
    return measure(tools, load)


def _at_limit(args: argparse.Namespace, tools: BenchTools, engine: EngineName) -> Measurement:
    """What an engine carries by a schedule it can keep: just below the limit that a short run beyond it shows."""
    connections, qos = args.connections, args.qos
    rate = _chosen_rate(args)
    if rate is None:
        beyond = min(_BEYOND_LIMIT[engine], 1000.0 * connections)
        rate = _BELOW_LIMIT * _measure(tools, Load(engine, connections, beyond, qos, _LIMIT_SECONDS)).stored_per_s
    return _measure(tools, Load(engine, connections, rate, qos, args.seconds))
