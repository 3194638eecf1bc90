"""What the benches need of the platform: provisioned directories, real hub processes, and what the store holds.

Shaped after `device_sim.bench.tools`, which this package must not import; main.py hands it over.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import pyarrow as pa

from app.client.api_call import ApiPlace, call
from app.client.hub_process import exchange
from app.domain.errors import EnvironmentFault
from app.domain.keys import CollectionLevel
from app.domain.settings import Settings
from app.hub.data_directory import DataDirectory, read_status
from app.hub.opening import stored_series
from app.stores.failpoints import ENVIRONMENT_VARIABLE, FailPoint
from app.stores.registry.provisioning import Template
from app.stores.registry.records import ModuleFacts, NewSite, Provisioned
from app.stores.registry.registry import Registry

_ROOT = Path(__file__).resolve().parents[2]
_WORDS_KEPT = 60
_FOREVER_US = 2**62
_CITIES = 40
# Of a table that has been in use for a day and was merged.
_COMMITS = 100
# Every point of the data path at which a crash round dies; the others only say that something is about to be done.
_NOT_FOR_KILLING = frozenset(
    {
        FailPoint.JOURNAL_WRITE,
        FailPoint.JOURNAL_SYNC,
        FailPoint.DELTA_COMMIT,
        FailPoint.JOB_STEP,
        FailPoint.COMMANDS_MARKED,
        FailPoint.COMMANDS_TAKEN,
    }
)


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """Readings as the read interface returns them; arrays are parallel. `module` indexes the serials asked for."""

    module: npt.NDArray[np.int32]
    seq: npt.NDArray[np.int64]
    lag_ms: npt.NDArray[np.int64]


@dataclasses.dataclass(frozen=True, slots=True)
class FleetModule:
    """A module of a bench's fleet, and what it can be searched by."""

    credential: Provisioned
    identifiers: tuple[str, ...]


class HubEndedError(EnvironmentFault, RuntimeError):
    """The hub ended before it was ready."""


class HubTooSlowError(EnvironmentFault, TimeoutError):
    """The hub was not ready in time."""


class HubTools:
    """Builds and inspects data directories and hubs."""

    fail_points: Sequence[str] = tuple(point.value for point in FailPoint if point not in _NOT_FOR_KILLING)
    # Commits, compaction, roll-ups and vacuum within seconds, so that a short round meets every fail point.
    maintenance_settings: Mapping[str, str] = {
        "ingest.segment_seconds": "1",
        "store.merge_files": "3",
        "store.lease_minutes": "0",
        "store.clean_minutes": "0.02",
        "store.upkeep_seconds": "0.2",
    }

    def provision(self, data_dir: Path, serials: Sequence[str]) -> list[Provisioned]:
        """Make a data directory with these modules and their credentials; no hub runs on it."""
        directory = DataDirectory(data_dir)
        directory.make()
        with Registry.open(directory.registry) as registry:
            return registry.provision_many(serials)

    def provision_fleet(self, data_dir: Path, modules: int, *, days: int) -> list[FleetModule]:
        """Modules with sites in 40 cities; the last `days` of them have a day of readings."""
        from app.bench.store_history import make_day  # noqa: PLC0415 - a second of imports, for one bench

        directory = DataDirectory(data_dir)
        directory.make()
        numbers = range(modules)
        serials = [f"BENCH{number:06d}" for number in numbers]
        with Registry.open(directory.registry) as registry:
            sites = registry.add_sites(
                [
                    NewSite(
                        f"City {number % _CITIES:02d}",
                        street=f"{number % 200} rue {number // 200:03d}",
                        postcode=f"{10_000 + number % 80_000}",
                        delivery_point=_delivery_point(number),
                    )
                    for number in numbers
                ]
            )
            made = registry.provision_many(serials, Template(sites=tuple(sites), level=CollectionLevel.SECOND))
            registry.set_facts_of_many(
                {
                    serial: ModuleFacts(1000, f"1.{number % 7}.0", "wd-2", _meter(number))
                    for number, serial in enumerate(serials)
                }
            )
            if days:
                newest = [registry.periods(serial).periods[-1].key for serial in serials[-days:]]
                make_day(directory.series / "raw", days, _COMMITS, time.time_ns() // 1000, keys=newest)
        return [
            FleetModule(credential, (credential.serial, _meter(number), _delivery_point(number)))
            for number, credential in enumerate(made)
        ]

    def ask_as(self, hub: HubChild) -> tuple[str, int, dict[str, str]]:
        """Where and how a bench asks the API."""
        host, port = hub.address("api")
        return host, port, {"Authorization": f"Bearer {hub.token}", "Wattdeck-Purpose": "bench"}

    def start_hub(
        self,
        data_dir: Path,
        *,
        engine: str = "native",
        mqtt_port: int = 0,
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
        flags: Sequence[str] = (),
    ) -> HubChild:
        """Start a hub's process and wait until it is ready. Raises RuntimeError with its last words, TimeoutError."""
        words = [sys.executable, str(_ROOT / "main.py"), "hub", "--data", str(data_dir), "--broker", engine]
        words += ["--mqtt-port", str(mqtt_port), "--api-port", "0", "--set", "listen.mqtt_hosts=127.0.0.1", *flags]
        for key, value in (settings or {}).items():
            words += ["--set", f"{key}={value}"]
        inherited = {name: value for name, value in os.environ.items() if name != ENVIRONMENT_VARIABLE}
        return HubChild(words, inherited | dict(environment or {}), DataDirectory(data_dir), timeout_s)

    def ca_file(self, data_dir: Path) -> Path:
        """Certificate of the hub's own CA."""
        return DataDirectory(data_dir).tls / "ca.crt"

    def read_back(self, data_dir: Path, serials: Sequence[str]) -> Stored:
        """Every raw reading of these modules, through the read interface."""
        directory = DataDirectory(data_dir)
        with Registry.open_to_read(directory.registry) as registry:
            periods = registry.all_periods()
            with stored_series(directory, Settings(), registry) as reader:
                table = reader.read_many(None, 0, _FOREVER_US).select(["key", "seq", "lag_ms"])
        # Keys to modules: a key belongs to one module, a module has a key or several.
        owners = sorted(
            (period.key, number) for number, serial in enumerate(serials) for period in periods[serial, 1].periods
        )
        keys = np.array([key for key, _number in owners], np.int64)
        numbers = np.array([number for _key, number in owners], np.int32)
        found = _numbers(table, "key")
        at = np.minimum(np.searchsorted(keys, found), len(keys) - 1)
        asked = keys[at] == found
        return Stored(numbers[at[asked]], _numbers(table, "seq")[asked], _numbers(table, "lag_ms")[asked])


class HubChild:
    """A hub in a process of its own, with everything under it."""

    def __init__(
        self, words: list[str], environment: Mapping[str, str], directory: DataDirectory, timeout_s: float
    ) -> None:
        began = time.monotonic()
        # What starts a hub is let in by a token of its own, told through a pipe that nobody else can read.
        one_time_token = secrets.token_urlsafe(32)
        told, tell = os.pipe()
        os.write(tell, f"{one_time_token}\n".encode())
        os.close(tell)
        self._process = subprocess.Popen(
            [*words, "--token-fd", str(told)],
            env=dict(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=_ROOT,
            pass_fds=(told,),
        )
        os.close(told)
        self._listen: dict[str, tuple[str, int]] = {}
        self._last_words: deque[str] = deque(maxlen=_WORDS_KEPT)
        self._is_ready = threading.Event()
        # Reads on after `ready`, too: a full pipe would stop the hub.
        self._reader = threading.Thread(target=self._read, name="hub output", daemon=True)
        self._reader.start()
        self._ps = psutil.Process(self._process.pid)
        self._cpu_of_children: dict[int, float] = {}
        while not self._is_ready.wait(0.02):
            if self._process.poll() is not None:
                self._reader.join(2)
                raise HubEndedError("the hub ended before it was ready:\n" + self.last_words())
            if time.monotonic() - began > timeout_s:
                self.kill()
                raise HubTooSlowError(f"the hub was not ready within {timeout_s:g} s:\n" + self.last_words())
        self.start_s = time.monotonic() - began
        status = read_status(directory)
        if status is None:
            self.kill()
            raise HubEndedError("the hub has not said where it listens:\n" + self.last_words())
        self.api = ApiPlace.of(status)
        # Of a session as administrator; the one-time token is exchanged at once, before its minute is over.
        self.token = exchange(status, one_time_token)

    @property
    def pid(self) -> int:
        """Process id of the hub itself."""
        return self._process.pid

    def address(self, listener: str) -> tuple[str, int]:
        """Where a listener listens. Raises KeyError."""
        return self._listen[listener]

    def rss_bytes(self) -> int:
        """Resident memory now, children included."""
        total = 0
        for process in self._family():
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
        return total

    def cpu_s(self) -> float:
        """CPU seconds so far, children included, ended ones too as far as they were seen."""
        for process in self._family():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                self._cpu_of_children[process.pid] = times.user + times.system
        return sum(self._cpu_of_children.values())

    def running(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    def wait(self, timeout_s: float) -> int:
        """Wait for it to end by itself; the exit code. Raises TimeoutError."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"the hub still runs after {timeout_s:g} s:\n" + self.last_words()) from None

    def sigterm(self, timeout_s: float = 60.0) -> int:
        """Ask it to end, wait; the exit code. Raises TimeoutError, the process is killed then."""
        self._process.terminate()
        try:
            return self.wait(timeout_s)
        except TimeoutError:
            self.kill()
            raise

    def kill(self) -> None:
        """Kill -9, children included."""
        family = list(self._family())
        for process in family:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(family, timeout=10)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(10)

    def stats(self) -> Mapping[str, float]:
        """The hub's counters now."""
        found: dict[str, float] = call(self.api, "GET", "/v1/statistics", token=self.token)
        return found

    def last_words(self) -> str:
        """The end of what it printed."""
        return "\n".join(self._last_words)

    def _family(self) -> Iterator[psutil.Process]:
        with contextlib.suppress(psutil.Error):
            yield self._ps
            yield from self._ps.children(recursive=True)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            words = line.split()
            if words[:1] == ["listening"] and len(words) == 4:
                self._listen[words[1]] = (words[2], int(words[3]))
            elif line.strip() == "ready":
                self._is_ready.set()
            else:
                self._last_words.append(line.rstrip())


def _delivery_point(number: int) -> str:
    return f"{24_000_000_000_000 + 7919 * number:014d}"


def _meter(number: int) -> str:
    return f"{41_876_000_000 + 31 * number:012d}"


def _numbers(table: pa.Table, name: str) -> npt.NDArray[np.int64]:
    numbers: npt.NDArray[np.int64] = table.column(name).fill_null(-1).to_numpy()
    return numbers
