"""Every counter and gauge of the hub by name, for the API, the benches and the operator."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from app.hub.loop_lag import LoopLag
from app.hub.serial_meters import SerialMeters
from app.hub.supervisor import Supervisor
from app.ingest.archiver import Archiver
from app.ingest.committer import Committer
from app.ingest.directory import ModuleDirectory
from app.ingest.ingest import Ingest
from app.ingest.quarantine import Quarantine
from app.sources.mqtt import MqttSource
from app.stores.journal.journal import Journal
from broker.engine import Engine


class Statistics:
    """Names have the part first: `ingest.shed`, `broker.connections`, `loop.lag_p99_ms`."""

    def __init__(
        self,
        ingest: Ingest,
        committer: Committer,
        archiver: Archiver,
        journal: Journal,
        quarantine: Quarantine,
        engine: Engine,
        source: MqttSource,
        modules: ModuleDirectory,
        meters: SerialMeters,
        lag: LoopLag,
        supervisor: Supervisor,
    ) -> None:
        self._ingest = ingest
        self._committer = committer
        self._archiver = archiver
        self._journal = journal
        self._quarantine = quarantine
        self._engine = engine
        self._source = source
        self._modules = modules
        self._meters = meters
        self._lag = lag
        self._supervisor = supervisor
        self._others: dict[str, Callable[[], Mapping[str, float]]] = {}

    def include(self, part: str, values: Callable[[], Mapping[str, float]]) -> None:
        """From now on also what another part counts; `values` is asked on the loop."""
        self._others[part] = values

    def now(self) -> dict[str, float]:
        """All of them; counters since the start, gauges now."""
        return {
            **_prefixed("ingest", dataclasses.asdict(self._ingest.counters)),
            "ingest.waiting": self._ingest.waiting,
            **_prefixed("commit", dataclasses.asdict(self._committer.counters)),
            "commit.failing": float(self._committer.failing_since is not None),
            **_prefixed("archive", dataclasses.asdict(self._archiver.counters)),
            "archive.failing": float(self._archiver.failing),
            "archive.waiting_segments": self._archiver.waiting,
            **_prefixed("journal", dataclasses.asdict(self._journal.counters)),
            "journal.bytes": self._journal.size_bytes,
            **_prefixed("broker", self._engine.counters()),
            **_prefixed("messages", self._source.counts),
            "messages.waiting_for_adoption": self._source.postponed,
            **_prefixed("refused", self._quarantine.counts),
            **_prefixed("serial", self._meters.counters()),
            "modules.known": len(self._modules),
            "hub.task_faults": self._supervisor.faults,
            "loop.lag_p50_ms": self._lag.percentile_ms(50),
            "loop.lag_p99_ms": self._lag.percentile_ms(99),
            **{
                name: value
                for part, values in self._others.items()
                for name, value in _prefixed(part, values()).items()
            },
        }


def _prefixed(part: str, values: Mapping[str, float]) -> dict[str, float]:
    return {f"{part}.{name}": value for name, value in values.items()}
