"""What a bench needs of the platform; injected, so that benches import neither hub nor stores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

EngineName = Literal["native", "amqtt"]
Listener = Literal["mqtt", "mqtts", "api"]


class Credential(Protocol):
    """A provisioned module: it connects with its serial as client id and user name, and the secret as password."""

    @property
    def serial(self) -> str:
        """Unique name of the module."""
        ...

    @property
    def secret(self) -> str:
        """In clear, as it was made."""
        ...


class FleetMember(Protocol):
    """A module of a provisioned fleet."""

    @property
    def credential(self) -> Credential:
        """How it connects."""
        ...

    @property
    def identifiers(self) -> Sequence[str]:
        """What a person may search it by, each fit for a URL: serial, meter's number, delivery point."""
        ...


class StoredReadings(Protocol):
    """Readings as the series store's read interface returns them; one element of each array per reading, any order."""

    @property
    def module(self) -> NDArray[np.int32]:
        """Index into the serials that were asked for."""
        ...

    @property
    def seq(self) -> NDArray[np.int64]:
        """Sequence number by the module."""
        ...

    @property
    def lag_ms(self) -> NDArray[np.int64]:
        """Arrival at the hub minus module time, milliseconds."""
        ...


class HubProcess(Protocol):
    """A hub running as a process of its own, with everything under it (TLS acceptors, workers)."""

    @property
    def pid(self) -> int:
        """Process id of the hub itself."""
        ...

    @property
    def start_s(self) -> float:
        """Seconds from spawning the process to its `ready` line."""
        ...

    def address(self, listener: Listener) -> tuple[str, int]:
        """Where a listener really listens. Raises KeyError when the hub has no such listener."""
        ...

    def rss_bytes(self) -> int:
        """Resident memory now, children included."""
        ...

    def cpu_s(self) -> float:
        """CPU seconds (user and system) used so far, children included, ended children too."""
        ...

    def running(self) -> bool:
        """Whether the process still runs."""
        ...

    def wait(self, timeout_s: float) -> int:
        """Wait for the process to end by itself (a fail point). The exit code. Raises TimeoutError."""
        ...

    def sigterm(self, timeout_s: float = 60.0) -> int:
        """Ask it to end, wait; the exit code. Raises TimeoutError (the process is then killed)."""
        ...

    def kill(self) -> None:
        """Kill (-9), children included, and wait until it is gone. No error when it is gone already."""
        ...

    def stats(self) -> Mapping[str, float]:
        """The hub's counters now, by the names of `docs/operating.md`. Benches treat a missing name as unknown."""
        ...


class BenchTools(Protocol):
    """Builds and inspects data directories and hubs for a bench."""

    fail_points: Sequence[str]
    """Every point at which the hub can be made to die (`WATTDECK_FAIL_POINT`), in the order of the data path."""

    maintenance_settings: Mapping[str, str]
    """Settings that make commits, compaction, roll-ups and vacuum happen within seconds: every fail point is met."""

    def provision(self, data_dir: Path, serials: Sequence[str]) -> Sequence[Credential]:
        """Make a data directory with module, channel, site, pairing and credential for each serial; no hub runs yet."""
        ...

    def provision_fleet(self, data_dir: Path, modules: int, *, days: int) -> Sequence[FleetMember]:
        """`provision` with a site, a meter and a delivery point for each module; the last `days` of them have 24 h of
        readings of one second behind them.
        """
        ...

    def ask_as(self, hub: HubProcess) -> tuple[str, int, dict[str, str]]:
        """Host, port and headers with which the hub's API lets a bench ask everything."""
        ...

    def start_hub(
        self,
        data_dir: Path,
        *,
        engine: EngineName = "native",
        mqtt_port: int = 0,
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> HubProcess:
        """Start `./run hub` on a provisioned directory and wait for its `ready` line.

        `settings` become `--set KEY=VALUE`, `environment` is added to ours. Raises RuntimeError, with the hub's last
        words, when it ends before it is ready, and TimeoutError.
        """
        ...

    def ca_file(self, data_dir: Path) -> Path:
        """Certificate of the hub's own CA (PEM), to verify its TLS listener with. Exists once the hub has run."""
        ...

    def read_back(self, data_dir: Path, serials: Sequence[str]) -> StoredReadings:
        """Everything stored for these modules, through the read interface. The hub has stopped."""
        ...
