"""Builds what hears modules of others: their dialects, the source behind the broker's sink, the register of devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from app.hub.device_register import DeviceRegister
from app.hub.supervisor import Supervisor
from app.ingest.directory import ModuleDirectory
from app.ingest.ingest import Ingest
from app.ingest.live import LiveState
from app.ingest.quarantine import Quarantine
from app.protocol.all_dialects import all_dialects
from app.protocol.dialects import Dialects
from app.services.events.recorder import EventRecorder
from app.sources.foreign import ForeignSource
from app.sources.presence import ForeignPresence
from app.stores.registry.registry import Registry


class ForeignModules:
    """What of the hub is about modules of others; `source` and `presence` are for the parts that stand on them."""

    def __init__(
        self,
        registry: Registry,
        modules: ModuleDirectory,
        ingest: Ingest,
        quarantine: Quarantine,
        live: LiveState,
        recorder: EventRecorder,
        now_us: Callable[[], int],
        dialects: Dialects | None = None,
    ) -> None:
        """Blocks: it reads the devices that are known. `dialects` None: every one there is."""
        self.presence = ForeignPresence()
        self.source = ForeignSource(
            all_dialects() if dialects is None else dialects,
            modules.slot,
            ingest,
            quarantine,
            presence=self.presence,
            show_rssi=live.put_rssi,
        )
        self.source.on_presence.append(recorder.presence)
        self.register = DeviceRegister(registry, self.source, now_us)
        self.register.load()
        self.register.follow()

    def run(self, supervisor: Supervisor) -> None:
        """Begin what goes on for as long as the hub runs."""
        supervisor.lasting("foreign devices", self.register.run)
        supervisor.lasting("register of foreign devices", self.register.run_writing)

    def statistics(self) -> Mapping[str, float]:
        """Counters and gauges."""
        return {**self.source.statistics(), "write_failures": self.register.write_failures}
