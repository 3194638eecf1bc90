"""One measured load on one hub, counted from what is read back."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from device_sim.bench import rig
from device_sim.bench.balance import Balance, balance
from device_sim.bench.histogram import Histogram
from device_sim.bench.output import Value
from device_sim.bench.plan import Connected, Finished, Ran, Run
from device_sim.bench.process import LoadGroup
from device_sim.bench.sampler import MemorySampler
from device_sim.bench.tools import BenchTools, EngineName, StoredReadings

# A run further behind its schedule did not measure the hub at this rate.
BEHIND_ALLOWED = 0.01
_MEBI = 1 << 20


@dataclasses.dataclass(frozen=True, slots=True)
class Load:
    """What to measure."""

    engine: EngineName
    connections: int
    rate: float
    qos: int
    seconds: float
    tls: bool = False
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, slots=True)
class Measurement:
    """What came of it."""

    load: Load
    connected: Connected
    ran: Ran
    finished: Finished
    stored: StoredReadings
    balance: Balance
    processes: int
    hub_cpu: float
    """Cores the hub used during the run."""
    hub_rss_bytes: int
    """The most it had."""
    bytes_per_connection: float

    @property
    def valid(self) -> bool:
        """Whether the generator kept its schedule."""
        return on_schedule(self.ran, self.load.rate)

    @property
    def arrival_s(self) -> float:
        """From the start of the run to the arrival of its last stored reading: longer where the hub fell behind."""
        return self.ran.seconds + last_lag_s(self.stored, self.ran)

    @property
    def stored_per_s(self) -> float:
        """Readings stored per second until the last one arrived."""
        return self.balance.stored / self.arrival_s

    @property
    def lag_p99_ms(self) -> float | None:
        """Arrival at the hub minus module time."""
        return float(np.percentile(self.stored.lag_ms, 99)) if len(self.stored.lag_ms) else None

    def row(self) -> dict[str, Value]:
        """The figures by the names that the documentation of `./run bench` gives."""
        latency = Histogram(self.ran.latency)
        return {
            "engine": self.load.engine,
            "connections": self.load.connections,
            "qos": self.load.qos,
            "tls": self.load.tls,
            "seconds": round(self.ran.seconds, 2),
            "offered_per_s": round(self.ran.offered / self.ran.seconds, 1),
            "achieved_per_s": round(self.ran.sent / self.ran.seconds, 1),
            "sent": self.balance.sent,
            "stored": self.balance.stored,
            "lost": self.balance.lost,
            "duplicated": self.balance.duplicated,
            "unexpected": self.balance.unexpected,
            "stored_per_s": round(self.stored_per_s, 1),
            "lag_p99_ms": self.lag_p99_ms,
            "ack_p50_ms": latency.quantile_ms(0.50),
            "ack_p99_ms": latency.quantile_ms(0.99),
            "hub_cpu": round(self.hub_cpu, 3),
            "hub_rss_mb": round(self.hub_rss_bytes / _MEBI, 1),
            "bytes_per_connection": round(self.bytes_per_connection),
            "connect_s": round(self.connected.seconds, 2),
            "generator_cpu": round(self.ran.cpu_s / self.ran.seconds, 3),
            "generator_processes": self.processes,
            "valid": self.valid,
        }


def on_schedule(ran: Ran, rate: float) -> bool:
    """Whether a run at `rate` is at most 1 % behind: in readings sent, and in the time they took."""
    return (
        ran.offered > 0
        and ran.late + ran.unsent <= BEHIND_ALLOWED * ran.offered
        and ran.seconds <= (1 + BEHIND_ALLOWED) * ran.offered / rate + 0.1
    )


def last_lag_s(stored: StoredReadings, ran: Ran) -> float:
    """How late the readings of a run's last round arrived; 0 when none is stored."""
    lags = stored.lag_ms[stored.seq == ran.last_seq]
    return max(0.0, float(lags.max()) / 1000) if len(lags) else 0.0


def measure(tools: BenchTools, load: Load) -> Measurement:
    """Provision a fleet, start a hub, connect, publish, stop everything in good order, read back."""
    rig.check_machine(load.connections)
    serials = rig.serials(load.connections)
    with rig.data_directory() as data_dir:
        credentials = tools.provision(data_dir, serials)
        with rig.running_hub(tools, data_dir, engine=load.engine, settings=load.settings) as hub:
            ca_file = tools.ca_file(data_dir) if load.tls else None
            plan = rig.plan_for(hub.address(rig.listener(tls=load.tls)), credentials, ca_file=ca_file)
            with LoadGroup(plan) as group, MemorySampler(hub) as memory:
                rss_before = hub.rss_bytes()
                connected = rig.connect_all(group)
                per_connection = (hub.rss_bytes() - rss_before) / load.connections
                cpu = hub.cpu_s()
                ran = group.run(Run(rate=load.rate, seconds=load.seconds, qos=1 if load.qos else 0))
                cpu = (hub.cpu_s() - cpu) / ran.seconds
                finished = group.finish()
                processes = group.processes
            hub.sigterm()
        stored = tools.read_back(data_dir, serials)
    return Measurement(
        load=load,
        connected=connected,
        ran=ran,
        finished=finished,
        stored=stored,
        balance=balance(stored, finished),
        processes=processes,
        hub_cpu=cpu,
        hub_rss_bytes=memory.peak_bytes(),
        bytes_per_connection=per_connection,
    )
