"""Mosquitto and amqtt by themselves under the same load: one subscriber counts what they deliver, nothing is stored."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

from device_sim.bench import rig, wire
from device_sim.bench.histogram import Histogram
from device_sim.bench.measure import on_schedule
from device_sim.bench.output import CanNotRun, Value, note
from device_sim.bench.payload import Template
from device_sim.bench.plan import Plan, Run
from device_sim.bench.process import LoadGroup

# Debian puts it where an ordinary user's PATH does not look.
_MOSQUITTO_PATHS = "/usr/sbin:/usr/local/sbin:/opt/homebrew/sbin"
_MOSQUITTO_CONFIGURATION = """\
listener {port} 127.0.0.1
allow_anonymous true
persistence false
max_connections -1
max_queued_messages 0
max_inflight_messages 0
set_tcp_nodelay true
log_type error
"""
# amqtt is offered no more than it may take in a few seconds: it queues without bound.
_AMQTT_RATE = 5_000.0
# It took 57 s for 7,904 of 8,000 connections, and refused the rest (measured).
_AMQTT_CONNECTIONS = 2_000
_START_S = 20.0
_QUIET_S = 2.0
_MEBI = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class _Peer:
    name: str
    command: list[str]
    port: int
    rate: float
    connections: int


class _Anonymous(NamedTuple):
    """A module without a credential."""

    serial: str
    secret: str = ""


class CountingSubscriber:
    """Subscribes to every module's readings and counts them, by bytes: all are of one size."""

    def __init__(self, port: int, topic_filter: str, frame_size: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=5)
        self._socket.sendall(wire.connect("bench-counter", "", "", 0) + wire.subscribe(1, topic_filter))
        head = b""
        # CONNACK has 4 bytes, SUBACK 5.
        while len(head) < 9:
            head += self._socket.recv(9 - len(head))
        self._frame_size = frame_size
        self._bytes = 0
        self.last_at = time.perf_counter()
        self._thread = threading.Thread(target=self._count, name="counting subscriber", daemon=True)
        self._thread.start()

    @property
    def count(self) -> int:
        """Readings received so far."""
        return self._bytes // self._frame_size

    def wait_for(self, count: int) -> None:
        """Wait until so many are here, or nothing more comes."""
        while self.count < count and time.perf_counter() - self.last_at < _QUIET_S:
            time.sleep(0.05)

    def close(self) -> None:
        """Leave."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _count(self) -> None:
        self._socket.settimeout(None)
        buffer = bytearray(1 << 20)
        while taken := self._socket.recv_into(buffer):
            self._bytes += taken
            self.last_at = time.perf_counter()


def mosquitto_binary() -> str | None:
    """Mosquitto's path, if it is installed."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path=_MOSQUITTO_PATHS)


def free_port() -> int:
    """A port below the ephemeral range that nobody listens on: a client that waits for it can not connect to itself."""
    for port in range(20_000 + time.time_ns() // 1_000_000 % 10_000, 32_000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise CanNotRun("no free port between 20000 and 32000")


def measure(
    connections: int, rate: float, qos: int, seconds: float, only: Sequence[str] = ("mosquitto", "amqtt bare")
) -> list[dict[str, Value]]:
    """A row for each of these peers that is installed; says which one is not."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="wattdeck-peer-") as folder:
        for peer in _peers(Path(folder), connections, rate):
            if peer.name not in only:
                continue
            note(f"{peer.name} by itself: {peer.connections} connections, {peer.rate:,.0f}/s, QoS {qos}, {seconds:g} s")
            try:
                rows.append(_measure(peer, qos, seconds))
            except (OSError, CanNotRun) as error:
                note(f"{peer.name}: {error}")
    return rows


def _peers(folder: Path, connections: int, rate: float) -> Iterator[_Peer]:
    binary = mosquitto_binary()
    if binary is None:
        note("Mosquitto is not installed (apt-get install mosquitto): no figure for it")
    else:
        port = free_port()
        configuration = folder / "mosquitto.conf"
        configuration.write_text(_MOSQUITTO_CONFIGURATION.format(port=port), encoding="utf-8")
        yield _Peer("mosquitto", [binary, "-c", str(configuration)], port, rate, connections)
    if importlib.util.find_spec("amqtt") is None:
        note("amqtt is not installed: no figure for it")
    else:
        port = free_port()
        command = [sys.executable, "-m", "device_sim.bench.bare_amqtt", str(port)]
        yield _Peer("amqtt bare", command, port, _AMQTT_RATE, min(connections, _AMQTT_CONNECTIONS))


@contextlib.contextmanager
def _running(peer: _Peer) -> Iterator[psutil.Process]:
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(peer.command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + _START_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", peer.port), timeout=1).close()
                break
            except OSError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise
                time.sleep(0.05)
        yield psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


def _measure(peer: _Peer, qos: int, seconds: float) -> dict[str, Value]:
    plan = rig.plan_for(("127.0.0.1", peer.port), [_Anonymous(serial) for serial in rig.serials(peer.connections)])
    with _running(peer) as process, LoadGroup(plan) as load:
        counter = CountingSubscriber(peer.port, plan.topic.format(serial="+"), _frame_size(plan))
        connected = rig.connect_all(load)
        cpu = _cpu_s(process)
        began = time.perf_counter()
        ran = load.run(Run(rate=peer.rate, seconds=seconds, qos=1 if qos else 0))
        cpu = (_cpu_s(process) - cpu) / ran.seconds
        rss = process.memory_info().rss
        finished = load.finish()
        sent = sum(finished.sent)
        counter.wait_for(sent)
        took = max(ran.seconds, counter.last_at - began)
        delivered = counter.count
        counter.close()
    latency = Histogram(ran.latency)
    return {
        "engine": peer.name,
        "connections": peer.connections,
        "qos": qos,
        "seconds": round(ran.seconds, 2),
        "offered_per_s": round(ran.offered / ran.seconds, 1),
        "achieved_per_s": round(ran.sent / ran.seconds, 1),
        "sent": sent,
        "delivered": delivered,
        "lost": sent - delivered,
        "delivered_per_s": round(delivered / took, 1),
        "ack_p50_ms": latency.quantile_ms(0.50),
        "ack_p99_ms": latency.quantile_ms(0.99),
        "hub_cpu": round(cpu, 3),
        "hub_rss_mb": round(rss / _MEBI, 1),
        "connect_s": round(connected.seconds, 2),
        "generator_cpu": round(ran.cpu_s / ran.seconds, 3),
        "valid": on_schedule(ran, peer.rate),
    }


def _frame_size(plan: Plan) -> int:
    """Bytes of one delivered PUBLISH (QoS 0)."""
    size = Template.of_json(plan.payload.encode()).size
    return len(wire.publish_head(plan.topic.format(serial=plan.credentials[0][0]), size, 0)) + size


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)
