"""`./run sim tic`: a Linky on a pseudo terminal or a TCP port."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime as dt
import signal
import time

from app.domain.errors import OperatorInputError
from app.domain.linky import TicMode
from device_sim.tic.contracts import CONTRACTS
from device_sim.tic.faults import FAULT_TEXTS, Fault
from device_sim.tic.line import Outlet, PtyOutlet, TcpOutlet, play
from device_sim.tic.meter import MeterPlan
from device_sim.tic.power import ConstantPower, HouseholdProfile, PowerSource
from device_sim.tic.stream import MeterStream

SUBSCRIPTIONS_KVA = range(3, 37)
_SOLAR_W = 3000.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's flags."""
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--pty", action="store_true", default=None, help="a pseudo terminal, printed as /dev/pts/N")
    where.add_argument("--tcp", type=int, metavar="PORT", help="a TCP port of this machine; 0 takes a free one")
    parser.add_argument("--mode", choices=[mode.value for mode in TicMode], default="standard", help="how it speaks")
    parser.add_argument("--contract", choices=list(CONTRACTS), default="base", help="the supplier's contract")
    parser.add_argument("--phases", type=int, choices=(1, 3), default=1, help="single phase or three phases")
    parser.add_argument("--producer", action="store_true", help="it injects too: 3 kW of sun on the roof")
    parser.add_argument(
        "--kva", type=int, metavar="KVA", help="subscribed power; 6, or 12 with three phases, if not given"
    )
    parser.add_argument("--power", type=float, metavar="W", help="always this power; a household's if not given")
    parser.add_argument(
        "--start", metavar="TIME", help="where its clock begins, ISO 8601 with a zone; now if not given"
    )
    parser.add_argument("--seconds", type=float, metavar="N", help="end after so many; without it, at Ctrl-C")
    parser.add_argument("--seed", type=int, default=1, help="the same seed is the same meter and household")
    parser.add_argument("--fast", action="store_true", help="as fast as it is read; its clock runs ahead then")
    parser.add_argument(
        "--fault",
        action="append",
        choices=[fault.value for fault in Fault],
        metavar="FAULT",
        help="repeatable: " + "; ".join(f"{fault.value} ({text})" for fault, text in FAULT_TEXTS.items()),
    )


def run(args: argparse.Namespace, _tools: object = None) -> int:
    """Serve a meter until it is told to end. Raises OperatorInputError."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(_stream(args), args))
    return 0


def _stream(args: argparse.Namespace) -> MeterStream:
    kva = args.kva if args.kva is not None else 12 if args.phases == 3 else 6
    if kva not in SUBSCRIPTIONS_KVA:
        raise OperatorInputError(f"--kva is from {SUBSCRIPTIONS_KVA[0]} to {SUBSCRIPTIONS_KVA[-1]}")
    if args.seed < 0:
        raise OperatorInputError("--seed is not negative")
    if args.power is not None and not -100_000 <= args.power <= 100_000:
        raise OperatorInputError("--power is from -100000 to 100000")
    if args.seconds is not None and not 0 < args.seconds < float("inf"):
        raise OperatorInputError("--seconds is a number above 0")
    plan = MeterPlan(CONTRACTS[args.contract], args.phases, args.producer, kva, args.seed)
    source: PowerSource = (
        HouseholdProfile(args.seed, args.phases, solar_w=_SOLAR_W if args.producer else 0.0)
        if args.power is None
        else ConstantPower(args.power, args.phases)
    )
    faults = [Fault(name) for name in args.fault or ()]
    return MeterStream(plan, TicMode(args.mode), source, _start_s(args.start), faults)


def _start_s(text: str | None) -> float:
    if text is None:
        return time.time()
    try:
        start = dt.datetime.fromisoformat(text)
    except ValueError:
        start = None
    if start is None or start.tzinfo is None or not 2000 <= start.year < 2099:
        raise OperatorInputError("--start is a time with its zone, as 2026-01-15T06:35:00+01:00, between 2000 and 2099")
    return start.timestamp()


async def _serve(stream: MeterStream, args: argparse.Namespace) -> None:
    outlet: Outlet
    if args.pty:
        outlet = terminal = PtyOutlet()
        where = terminal.path
    else:
        outlet = server = TcpOutlet()
        if not 0 <= args.tcp <= 65_535:
            raise OperatorInputError("--tcp is from 0 to 65535")
        await server.open(args.tcp)
        where = f"127.0.0.1 {server.port}"
    playing = asyncio.ensure_future(play(stream, outlet, fast=args.fast, seconds=args.seconds))
    with contextlib.suppress(NotImplementedError):
        # Not on every system; there Ctrl-C is a KeyboardInterrupt.
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, playing.cancel)
    print(f"listening {where}", flush=True)
    try:
        await playing
    except asyncio.CancelledError:
        pass
    finally:
        await outlet.close()
