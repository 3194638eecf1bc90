"""`./run sim fleet`: many modules, a real connection each, in as many processes as the limit of open files asks for."""

from __future__ import annotations

import argparse
import csv
import random
import sys
from pathlib import Path
from typing import NamedTuple

import msgspec

from app.domain.errors import EnvironmentFault, OperatorInputError
from app.protocol.golden import golden
from app.protocol.topics import is_serial
from device_sim.bench import rig
from device_sim.bench.histogram import Histogram
from device_sim.bench.output import note
from device_sim.bench.plan import Connected, Finished, Progress, Ran, Run
from device_sim.bench.process import LoadGroup
from device_sim.bench.tools import BenchTools

_SECOND = 1.0
# To connect, when no rate is given: a fleet of 48,000 on one core takes half a minute.
_CONNECT_S = 300.0
_MOST_PER_MODULE = 1000.0


class _Login(NamedTuple):
    serial: str
    secret: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `./run sim fleet`."""
    add = parser.add_argument
    add("--hub", default="127.0.0.1:1883", metavar="HOST:PORT", help="where to connect: a hub, or any MQTT broker")
    add("--modules", type=int, default=100, metavar="N", help="how many, a connection each")
    add("--rate", type=float, metavar="R", help="readings per second over all (default: one of each module)")
    add("--seconds", type=float, default=60.0, metavar="S", help="how long to send once all are connected")
    add("--credentials", type=Path, metavar="FILE", help="what `./run provision` printed; without it, anonymous")
    add("--prefix", default="WD", help="anonymous modules are PREFIX00001 and on, as `./run provision` names them")
    add("--qos", type=int, choices=(0, 1), default=0, help="quality of service")
    add("--tls", action="store_true", help="connect with TLS; --hub then names the TLS port")
    add("--ca", type=Path, metavar="FILE", help="authority that the hub's certificate is checked with (PEM)")
    add(
        "--connect-rate", type=float, default=0.0, metavar="C", help="new connections per second; 0: as fast as it goes"
    )
    add("--ramp", type=float, default=0.0, metavar="S", help="or: spread the connecting over so many seconds")
    add("--processes", type=int, default=0, metavar="P", help="processes; 0: as few as the limit of open files allows")
    add("--json", action="store_true", help="print one JSON object as the last line")


def run(args: argparse.Namespace, _tools: BenchTools) -> int:
    """Connect, send, disconnect. 0: all were connected and all was sent (and acknowledged); 1: not so."""
    logins = _logins(args)
    rate = args.rate or float(len(logins))
    _check(args, rate)
    if args.tls and args.ca is None:
        raise OperatorInputError("--tls needs --ca FILE; a hub's own authority is DATA/tls/ca.crt")
    plan = msgspec.structs.replace(
        rig.plan_for(_address(args.hub), logins, ca_file=args.ca if args.tls else None, reconnect=True),
        payload=_payload(),
        connect_rate=args.connect_rate or (len(logins) / args.ramp if args.ramp else 0.0),
    )
    with LoadGroup(plan, args.processes or None) as group:
        group.on_progress = _Lines(group.processes).show
        connected = group.connect(_CONNECT_S + args.ramp, progress_s=_SECOND)
        _tell_connected(connected, len(logins))
        if not connected.connected:
            raise EnvironmentFault(
                f"nobody could connect to {args.hub}; is it a broker, and are the credentials its own?"
            )
        group.begin(Run(rate=rate, seconds=args.seconds, qos=args.qos, progress_s=_SECOND))
        ran = group.ran(args.seconds * 2 + 60.0)
        finished = group.finish()
        result = _result(args, connected, ran, finished, group.processes)
    note(
        f"sent {result['sent']:,} in {ran.seconds:.1f} s: {result['per_s']:,.0f}/s with {result['cpu']:.2f} of a core; "
        f"acknowledged {result['acked']:,}"
    )
    if args.json:
        print(msgspec.json.encode(result).decode(), flush=True)
    complete = connected.connected == len(logins) and not result["unsent"] and not finished.unacked
    return 0 if complete else 1


class _Lines:
    """A line of statistics each second, once all processes have told of it."""

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._told = 0
        self._before = Progress(0, 0, 0, 0, 0, 0.0)

    def show(self, now: Progress) -> None:
        """The newest sum."""
        self._told += 1
        if self._told % self._processes:
            return
        before, self._before = self._before, now
        note(
            f"connected {now.connected:,}  sent {now.sent - before.sent:,}/s  acked {now.acked - before.acked:,}/s  "
            f"late {now.late:,}  reconnects {now.reconnects:,}  cpu {now.cpu_s - before.cpu_s:.2f}"
        )


def _tell_connected(connected: Connected, wanted: int) -> None:
    refused = "".join(f", refused with code {code}: {count:,}" for code, count in sorted(connected.refused.items()))
    note(f"{connected.connected:,} of {wanted:,} connected in {connected.seconds:.1f} s{refused}")


def _result(
    args: argparse.Namespace, connected: Connected, ran: Ran, finished: Finished, processes: int
) -> dict[str, int | float | None]:
    latency = Histogram(ran.latency)
    sent = sum(finished.sent)
    return {
        "modules": args.modules,
        "connected": connected.connected,
        "connect_s": round(connected.seconds, 2),
        "qos": args.qos,
        "seconds": round(ran.seconds, 2),
        "sent": sent,
        "acked": sum(last - first + 1 for parts in finished.acked.values() for first, last in parts),
        "unsent": sum(last - first + 1 for parts in finished.unsent.values() for first, last in parts),
        "unacked": finished.unacked,
        "resent": finished.resent,
        "per_s": round(ran.sent / ran.seconds, 1),
        "ack_p50_ms": latency.quantile_ms(0.50),
        "ack_p99_ms": latency.quantile_ms(0.99),
        "reconnects": ran.reconnects,
        "cpu": round(ran.cpu_s / ran.seconds, 3),
        "per_s_of_a_core": round(ran.sent / ran.cpu_s, 1) if ran.cpu_s else None,
        "processes": processes,
    }


def _payload() -> str:
    """The golden reading of a module that has just started: numbers begin anew with each start."""
    reading = msgspec.json.decode(golden("tele"))
    reading["boot_id"] = random.getrandbits(31)  # no secret, only another one than before
    return msgspec.json.encode(reading).decode()


def _check(args: argparse.Namespace, rate: float) -> None:
    for name, value in (("--rate", rate), ("--seconds", args.seconds)):
        if not 0 < value < float("inf"):
            raise OperatorInputError(f"{name} must be above 0")
    if args.connect_rate < 0 or args.ramp < 0 or args.processes < 0:
        raise OperatorInputError("--connect-rate, --ramp and --processes can not be below 0")
    if rate > _MOST_PER_MODULE * args.modules:
        raise OperatorInputError(
            "a module sends at most 1,000 readings per second; say more --modules or a lower --rate"
        )


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise OperatorInputError(f"--hub {text!r} is no HOST:PORT, such as 127.0.0.1:1883")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _logins(args: argparse.Namespace) -> list[_Login]:
    if args.modules < 1:
        raise OperatorInputError("--modules must be at least 1")
    if args.credentials is None:
        logins = [_Login(f"{args.prefix}{number:05d}", "") for number in range(1, args.modules + 1)]
        if not is_serial(logins[-1].serial):
            raise OperatorInputError(f"--prefix {args.prefix!r} makes no serials: letters, digits, '_', '.' and '-'")
        return logins
    logins = _read_credentials(args.credentials)
    if len(logins) < args.modules:
        raise OperatorInputError(f"{args.credentials} has {len(logins)} credentials, --modules asks for {args.modules}")
    return logins[: args.modules]


def _read_credentials(path: Path) -> list[_Login]:
    try:
        with sys.stdin if str(path) == "-" else path.open(encoding="utf-8", newline="") as lines:
            rows = list(csv.DictReader(lines))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OperatorInputError(f"{path} can not be read: {error}") from error
    logins = []
    for number, row in enumerate(rows, 2):
        serial, secret = row.get("serial"), row.get("secret")
        if not serial or not secret or row.get("username") not in (serial, None):
            raise OperatorInputError(f"{path}, line {number}: not a line of `./run provision` (serial,username,secret)")
        logins.append(_Login(serial, secret))
    return logins
