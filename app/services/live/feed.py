"""Sends the live feed once a second: what nobody listens to is not made."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from app.domain.events import Event
from app.ingest.directory import ModuleDirectory
from app.ingest.live import LiveState
from app.protocol.live import EVENTS_TOPIC, FLEET_TOPIC, STATES_TOPIC, STATS_TOPIC, LiveStats
from app.services.live.event_buffer import EventBuffer, encode_events
from app.services.live.grants import LiveGrants
from app.services.live.module_readings import ModuleReadings
from app.services.live.picture import Picture, encode_picture, take_picture
from app.services.live.roster import LiveRoster
from app.services.live.totals import FleetTotals
from app.sources.sessions import Sessions

EACH_S = 1.0
_TOPICS = (STATS_TOPIC, EVENTS_TOPIC, FLEET_TOPIC, STATES_TOPIC)
_encode = msgspec.json.Encoder().encode


class LivePort(Protocol):
    """The broker of the operators' listener."""

    def publish_private(self, topic: str, payload: bytes) -> int:
        """Send to those who may receive a topic of the live feed; how many there were."""
        ...

    def has_private_receiver(self, topic: str) -> bool:
        """Whether anybody would receive it."""
        ...


@dataclasses.dataclass(slots=True)
class LiveCounters:
    """Since the start. CPU of making and sending; `loop_ms` is the part of it on the hub's loop, in pieces of which
    the longest took `loop_longest_ms`.
    """

    messages: int = 0
    bytes: int = 0
    cpu_ms: float = 0.0
    loop_ms: float = 0.0
    loop_longest_ms: float = 0.0


@dataclasses.dataclass(frozen=True, slots=True)
class _Work:
    """What one second's messages are made of."""

    topics: Sequence[str]
    picture: Picture | None
    statistics: Mapping[str, float]
    events: Sequence[Event]


class LiveFeed:
    """Owns the second's beat; on the loop, with the making of messages in a thread."""

    def __init__(
        self,
        port: LivePort,
        grants: LiveGrants,
        live: LiveState,
        modules: ModuleDirectory,
        sessions: Sessions,
        roster: LiveRoster,
        events: EventBuffer,
        readings: ModuleReadings,
        *,
        statistics: Callable[[], Mapping[str, float]],
        now_us: Callable[[], int],
    ) -> None:
        self.counters = LiveCounters()
        self._port = port
        self._grants = grants
        self._live = live
        self._modules = modules
        self._sessions = sessions
        self._roster = roster
        self._events = events
        self._readings = readings
        self._statistics = statistics
        self._now_us = now_us
        self._totals = FleetTotals()
        readings.publish = self._send

    def picture(self) -> Picture:
        """The fleet as it is now."""
        return take_picture(self._live, self._modules, self._sessions, self._roster.version(), self._now_us())

    async def run(self) -> None:
        """Send each second until cancelled."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            # A second that could not be kept is left out, not made up for.
            due = max(due + EACH_S, loop.time())
            await asyncio.sleep(due - loop.time())
            await self.tick()

    async def tick(self) -> None:
        """One second's work."""
        began = time.thread_time()
        self._grants.end_due()
        work = self._gather()
        self._count_loop(began)
        if work is None:
            return
        messages, cpu_s = await asyncio.to_thread(self._make, work)
        self.counters.cpu_ms += cpu_s * 1000
        for topic, payload in messages:
            began = time.thread_time()
            self._send(topic, payload)
            self._count_loop(began)
            # The bytes go to the sockets at the end of this turn of the loop: one large message a turn.
            await asyncio.sleep(0)

    def _gather(self) -> _Work | None:
        topics = [topic for topic in _TOPICS if self._port.has_private_receiver(topic)]
        self._events.want(wanted=EVENTS_TOPIC in topics)
        self._readings.want(self._grants.modules())
        if STATS_TOPIC not in topics:
            self._totals.forget()
        if not topics:
            return None
        return _Work(
            topics,
            None if topics == [EVENTS_TOPIC] else self.picture(),
            self._statistics() if STATS_TOPIC in topics else {},
            self._events.take(),
        )

    def _make(self, work: _Work) -> tuple[list[tuple[str, bytes]], float]:
        """The messages, and the CPU time they took; in a thread."""
        began = time.thread_time()
        messages: list[tuple[str, bytes]] = []
        picture = work.picture
        if picture is not None and FLEET_TOPIC in work.topics:
            messages.append((FLEET_TOPIC, encode_picture(picture, with_power=True)))
        if picture is not None and STATES_TOPIC in work.topics:
            messages.append((STATES_TOPIC, encode_picture(picture, with_power=False)))
        if picture is not None and STATS_TOPIC in work.topics:
            messages.append((STATS_TOPIC, self._stats(picture, work.statistics)))
        if work.events:
            messages.append((EVENTS_TOPIC, encode_events(work.events)))
        return messages, time.thread_time() - began

    def _stats(self, picture: Picture, statistics: Mapping[str, float]) -> bytes:
        totals = self._totals.of(picture)
        return _encode(
            LiveStats(
                picture.at_us,
                dict(statistics),
                totals.power_w,
                totals.homes,
                len(picture.power),
                totals.connected,
                totals.fresh,
            )
        )

    def _send(self, topic: str, payload: bytes) -> None:
        receivers = self._port.publish_private(topic, payload)
        self.counters.messages += receivers
        self.counters.bytes += receivers * len(payload)

    def _count_loop(self, began: float) -> None:
        spent_ms = (time.thread_time() - began) * 1000
        self.counters.cpu_ms += spent_ms
        self.counters.loop_ms += spent_ms
        self.counters.loop_longest_ms = max(self.counters.loop_longest_ms, spent_ms)
