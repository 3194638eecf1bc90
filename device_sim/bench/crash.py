"""`./run bench crash`: kill -9 at random and at every fail point; every acknowledged reading must be there, once."""

from __future__ import annotations

import argparse
import math
import random
import socket
import time
from pathlib import Path

from device_sim.bench import rig, wire
from device_sim.bench.balance import balance
from device_sim.bench.hardware import hardware_line
from device_sim.bench.output import note, show
from device_sim.bench.peers import free_port
from device_sim.bench.plan import Ran, Run
from device_sim.bench.process import LoadGroup
from device_sim.bench.tools import BenchTools, Credential, HubProcess

_CONNECTIONS = 100
_RATE = 5_000.0
# A round's load runs until the hub is dead; it is interrupted then, this is only its bound.
_LONGEST_ROUND_S = 30.0
# A random kill comes within this time after the load begins; a fail point must be met within the longer one.
_RANDOM_KILL_S = (0.3, 2.5)
_FAIL_POINT_S = 12.0
# Points of the journal are passed several times a second: die at one of the first; the rest at the first or second.
# Readings of a window that is over: a hub rolls them up as they come, instead of once in ten minutes.
_AGE_S = 1500.0
_JOURNAL_PASSINGS = 6
_OTHER_PASSINGS = 2
_ACCEPT_S = 30.0
_PROBE_S = 0.02


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the bench's flags."""
    parser.add_argument("--rounds", type=int, default=3, help="random kills, beside one per fail point")
    parser.add_argument("--connections", type=int, default=_CONNECTIONS, help="modules")
    parser.add_argument("--rate", type=float, default=_RATE, help="readings per second, QoS 1")
    parser.add_argument("--seed", type=int, default=1, help="of the random times")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")


def run(args: argparse.Namespace, tools: BenchTools) -> int:
    """Crash, restart, count. 0: nothing acknowledged is missing or there twice; 1: not so."""
    note(hardware_line())
    rig.check_machine(args.connections)
    chance = random.Random(args.seed)
    serials = rig.serials(args.connections)
    points: list[str | None] = [None] * args.rounds + [*tools.fail_points]
    not_reached: list[str] = []
    starts: list[float] = []
    began = time.monotonic()
    port = free_port()
    with rig.data_directory() as data_dir:
        credentials = tools.provision(data_dir, serials)
        crasher = _Crasher(args, tools, data_dir, credentials[0], port, chance)
        with LoadGroup(rig.plan_for(("127.0.0.1", port), credentials, reconnect=True, age_s=_AGE_S)) as load:
            for number, point in enumerate(points, 1):
                hub, start_s, met = crasher.start(point)
                starts.append(start_s)
                if number == 1:
                    rig.connect_all(load)
                ran, reached = crasher.crash(hub, load, None if met else point)
                if point is not None and not reached:
                    not_reached.append(point)
                note(
                    f"round {number} of {len(points)}: {point or 'random kill'}"
                    f"{'' if reached else ' (never came, killed)'}, up in {start_s:.2f} s, {ran.acked:,} acknowledged"
                )
            hub, start_s, _ = crasher.start(None)
            starts.append(start_s)
            finished = load.finish()
            hub.sigterm()
        stored = tools.read_back(data_dir, serials)
    books = balance(stored, finished)
    summary = {
        "engine": "native",
        "connections": args.connections,
        "qos": 1,
        "rounds": len(points),
        "acked": books.acked,
        "missing": books.missing,
        "duplicated": books.duplicated,
        "unexpected": books.unexpected,
        "start_p95_s": round(sorted(starts)[math.ceil(0.95 * len(starts)) - 1], 2),
        "start_max_s": round(max(starts), 2),
        "sent": books.sent,
        "stored": books.stored,
        "unacked": finished.unacked,
        "resent": finished.resent,
        "not_reached": not_reached,
        "seconds": round(time.monotonic() - began, 1),
        "valid": not not_reached and books.acked > 0 and finished.unacked == 0,
    }
    show([{**summary, "not_reached": ", ".join(not_reached) or "none"}], as_json=args.json, summary=summary)
    return 0 if summary["valid"] and not (books.missing or books.duplicated or books.unexpected) else 1


class _Crasher:
    """Starts a hub that will die, and lets it."""

    def __init__(
        self,
        args: argparse.Namespace,
        tools: BenchTools,
        data_dir: Path,
        probe: Credential,
        port: int,
        chance: random.Random,
    ) -> None:
        self._rate: float = args.rate
        self._tools = tools
        self._data_dir = data_dir
        self._port = port
        self._chance = chance
        self._probe = probe

    def start(self, point: str | None) -> tuple[HubProcess, float, bool]:
        """A hub, the seconds from its start until it accepted a CONNECT, and whether it has met its fail point already.

        It may while it replays the journal, before it is ready: then another is started, which will not.
        """
        environment = {}
        if point is not None:
            passings = _JOURNAL_PASSINGS if point.startswith("journal") else _OTHER_PASSINGS
            environment["WATTDECK_FAIL_POINT"] = f"{point}:kill@{self._chance.randint(1, passings)}"
        met = False
        began = time.monotonic()
        try:
            hub = self._start(environment)
        except RuntimeError:
            if point is None:
                raise
            met = True
            note(f"{point}: met while starting")
            began = time.monotonic()
            hub = self._start({})
        self._await_accept(hub)
        return hub, time.monotonic() - began, met

    def crash(self, hub: HubProcess, load: LoadGroup, point: str | None) -> tuple[Ran, bool]:
        """Load the hub until it is dead; what became of the run, and whether the hub died by itself as asked."""
        load.begin(Run(rate=self._rate, seconds=_LONGEST_ROUND_S, qos=1))
        reached = point is None
        if point is None:
            time.sleep(self._chance.uniform(*_RANDOM_KILL_S))
        else:
            try:
                hub.wait(_FAIL_POINT_S)
                reached = True
            except TimeoutError:
                reached = False
        hub.kill()
        load.interrupt()
        return load.ran(_LONGEST_ROUND_S), reached

    def _start(self, environment: dict[str, str]) -> HubProcess:
        return self._tools.start_hub(
            self._data_dir, mqtt_port=self._port, settings=self._tools.maintenance_settings, environment=environment
        )

    def _await_accept(self, hub: HubProcess) -> None:
        """Until a CONNECT is answered; a hub that dies at its fail point meanwhile has accepted before."""
        deadline = time.monotonic() + _ACCEPT_S
        serial, secret = self._probe.serial, self._probe.secret
        # Another client id than the module's own, so that it does not take over its session.
        packet = wire.connect(f"{serial}-probe", serial, secret, 60)
        while hub.running() and time.monotonic() < deadline:
            try:
                with socket.create_connection(("127.0.0.1", self._port), timeout=1) as probe:
                    probe.sendall(packet)
                    if probe.recv(4)[:1] == bytes([wire.CONNACK_TYPE]):
                        probe.sendall(wire.DISCONNECT)
                        return
            except OSError:
                time.sleep(_PROBE_S)
