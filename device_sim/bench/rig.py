"""A hub with a fleet of modules for one measurement: built, loaded, stopped, read back."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from app.protocol import topics
from app.protocol.golden import golden
from device_sim.bench.output import CanNotRun
from device_sim.bench.plan import Connected, Plan
from device_sim.bench.process import LoadGroup, files_allowed
from device_sim.bench.tools import BenchTools, Credential, EngineName, HubProcess, Listener

# A measured minute of 16,000 connections leaves about a gigabyte of journal and tables.
_LEAST_FREE_BYTES = 4 << 30


def serials(count: int) -> list[str]:
    """Serials of a bench's modules."""
    return [f"BENCH{number:06d}" for number in range(count)]


def check_machine(connections: int) -> None:
    """Raise CanNotRun when the hub could not hold so many connections here. (Load processes are split instead.)"""
    allowed = files_allowed()
    if connections > allowed:
        raise CanNotRun(
            f"{connections} connections need {connections} open files in the hub, {allowed} are allowed: "
            f"raise the hard limit (ulimit -Hn, or LimitNOFILE=) above {connections + 1000}"
        )
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if free < _LEAST_FREE_BYTES:
        raise CanNotRun(f"{free >> 20} MB are free in {tempfile.gettempdir()}, 4096 are needed: set TMPDIR")


@contextlib.contextmanager
def data_directory() -> Iterator[Path]:
    """A new data directory's place, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="wattdeck-bench-") as folder:
        yield Path(folder) / "data"


@contextlib.contextmanager
def running_hub(
    tools: BenchTools,
    data_dir: Path,
    *,
    engine: EngineName = "native",
    mqtt_port: int = 0,
    settings: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[HubProcess]:
    """A hub that is surely gone afterwards; end it with `sigterm` inside when its end matters."""
    hub = tools.start_hub(
        data_dir, engine=engine, mqtt_port=mqtt_port, settings=settings, environment=environment, timeout_s=60.0
    )
    try:
        yield hub
    finally:
        if hub.running():
            hub.kill()


def plan_for(
    address: tuple[str, int],
    credentials: Sequence[Credential],
    *,
    ca_file: Path | None = None,
    send_buffer: int = 0,
    reconnect: bool = False,
    window: int = 100,
    age_s: float = 0.0,
) -> Plan:
    """A plan in which each module has a connection and sends the golden reading."""
    host, port = address
    return Plan(
        host={"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host),  # noqa: S104 - compared with, not bound to
        port=port,
        credentials=[(credential.serial, credential.secret) for credential in credentials],
        payload=golden("tele").decode(),
        topic=topics.build("SERIAL", topics.Kind.TELE).replace("SERIAL", "{serial}"),
        ca_file=str(ca_file) if ca_file else None,
        send_buffer=send_buffer,
        reconnect=reconnect,
        window=window,
        age_s=age_s,
    )


def listener(*, tls: bool) -> Listener:
    """The hub's listener for modules."""
    return "mqtts" if tls else "mqtt"


def connect_all(load: LoadGroup) -> Connected:
    """Connect every module. Raises CanNotRun, with the counts, when one stays out."""
    connected = load.connect()
    if connected.connected != load.connections:
        refused = ", ".join(f"code {code}: {count}" for code, count in sorted(connected.refused.items())) or "none"
        raise CanNotRun(
            f"only {connected.connected} of {load.connections} connected in {connected.seconds:.1f} s "
            f"(refused: {refused}): look at the hub's limits on connections"
        )
    return connected
