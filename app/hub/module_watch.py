"""What watches modules from the first client on: events, and readings for the live feed."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Mapping

from app.hub.data_directory import DataDirectory
from app.ingest.directory import ModuleDirectory
from app.services.events.fan import EventFan
from app.services.events.recorder import EventRecorder
from app.services.live.event_buffer import EventBuffer
from app.services.live.module_readings import ModuleReadings
from app.services.runtime_settings import RuntimeSettings
from app.sources.mqtt import MqttSource
from app.stores.events.store import EventStore
from app.stores.registry.registry import Registry


class ModuleWatch:
    """Built before the engine listens, so that nothing that happens is missed; closes its store with `stack`.

    `events` is the sink for whoever has something to note.
    """

    def __init__(
        self,
        directory: DataDirectory,
        settings: RuntimeSettings,
        registry: Registry,
        modules: ModuleDirectory,
        stack: contextlib.AsyncExitStack,
        now_us: Callable[[], int],
    ) -> None:
        """Blocks. Raises EventsTooNew."""
        self.store = EventStore.open(
            directory.events, days=lambda: settings.now.events.days, zone=settings.now.store.time_zone, now_us=now_us
        )
        stack.callback(self.store.close)
        settings.on_change(["events.days"], lambda _settings: self.store.look_for_old())
        self.buffer = EventBuffer()
        self.events = EventFan([self.store, self.buffer])
        self.readings = ModuleReadings(modules)
        self.recorder = EventRecorder(
            self.events,
            born=self.store.born(),
            alias_key=self.store.alias_key,
            is_known=lambda serial: modules.slot(serial) is not None,
            now_us=now_us,
        )
        registry.subscribe(self.recorder.registry_changed)

    def follow(self, source: MqttSource) -> None:
        """Hear of clients."""
        source.on_connected.append(self.recorder.connected)
        source.on_disconnected.append(self.recorder.disconnected)

    def counted(self) -> Mapping[str, float]:
        """Counters of the events."""
        return {
            **dataclasses.asdict(self.store.counters),
            "waiting": self.store.waiting,
            "failing": float(self.store.failing),
            "dropped_lines": self.recorder.dropped_lines,
        }
