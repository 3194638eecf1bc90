"""The external engine: the hub as a client of a broker that somebody else runs.

What this can not do for us is `LIMITS`; the engine says it when it starts. Decision 0009 tells why it is as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from broker.engine import Access, ClientInfo, Engine, Sink
from broker.external_border import Border, LinkCounters, Publication, Received
from broker.external_link import MOST_AHEAD, Link
from broker.options import Upstream

log = logging.getLogger(__name__)

LIMITS = (
    "who may connect, publish and read is the broker's to say: the hub's credentials and access rules do not count",
    "it does not tell who is connected: a module is there while it is heard, and gone by its last will or its silence",
    "connections can not be ended from here, and a blocked module goes on publishing",
    "what the broker drops from its queue for the hub is not seen here: it must keep sessions and have no low limits",
    "messages of QoS 0 are lost while the hub or the connection is down",
    "a command counts as taken when the broker has it for a subscriber (MQTT 5), or has it at all (3.1.1)",
    "kept messages and queues at the broker are outside of backups and of erasure",
)

# What every message that came by the broker looks like to the sink: who sent it is not told.
KIND = "external"
# Time for the first connection, so that a hub that is ready is one that hears; it comes up without it as well.
_START_S = 5.0
_STOP_S = 5.0
# Topics whose handles are remembered: strangers may publish to any number of them.
_MOST_TOPICS = 500_000


class _Batch:
    """Messages of one connection; the broker hears of the guaranteed ones once they are acknowledged."""

    __slots__ = ("_link", "_packet_ids", "arrival_us", "generation", "guaranteed", "handles", "payloads", "retained")

    def __init__(
        self, received: Received, handles: list[object], payloads: list[bytes], ids: list[int], retained: list[bool]
    ) -> None:
        self.arrival_us = received.arrival_us
        self.handles: Sequence[object] = handles
        self.payloads: Sequence[bytes] = payloads
        self.guaranteed: Sequence[bool] = [packet_id > 0 for packet_id in ids]
        self.retained: Sequence[bool] = retained if True in retained else ()
        self.generation = received.generation
        self._link = received.link
        self._packet_ids = [packet_id for packet_id in ids if packet_id]

    def acknowledge(self) -> None:
        """Answer every guaranteed message. A second call does nothing."""
        packet_ids, self._packet_ids = self._packet_ids, []
        if packet_ids:
            self._link.acknowledge(self.generation, packet_ids)


class _LoopBorder(Border):
    """Carries what the links' threads tell into the loop; a loop that has ended hears nothing any more."""

    def __init__(self, engine: ExternalEngine, loop: asyncio.AbstractEventLoop) -> None:
        self._engine = engine
        self._loop = loop

    def received(self, received: Received) -> None:
        self._tell(self._engine.take, received)

    def taken(self, on_taken: list[Callable[[], None]]) -> None:
        self._tell(_call_all, on_taken)

    def unrouted(self, topics: list[str]) -> None:
        self._tell(self._engine.note_unrouted, topics)

    def changed(self) -> None:
        self._tell(self._engine.note_changed)

    def _tell(self, call: Callable[..., None], *what: object) -> None:
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(call, *what)


class ExternalEngine:
    """`broker.engine.Engine` on somebody else's broker.

    `filters` are dealt out to `Upstream.consumers` connections, each to one: so a topic's messages stay in order.
    `beside` and `private` are as in the amqtt engine: the operators' own broker, and topics that only it may fill.
    """

    def __init__(
        self,
        upstream: Upstream,
        filters: Sequence[str],
        sink: Sink,
        *,
        beside: Engine | None = None,
        private: str = "",
    ) -> None:
        # Called on the loop with the topics of publications that nobody had subscribed to.
        self.on_unrouted: Callable[[Sequence[str]], None] = lambda _topics: None
        self._upstream = upstream
        self._filters = list(dict.fromkeys(filters))
        self._sink = sink
        self._beside = beside
        self._private = private
        self._consumers: list[Link] = []
        self._publisher: Link | None = None
        self._handles: dict[str, object | None] = {}
        self._waiting_for_links: asyncio.Event | None = None
        self._messages_to_sink = 0
        self._publish_dropped = 0
        self._client = ClientInfo(
            upstream.client_id, Access(KIND, KIND, publish=("#",)), upstream.address, KIND, protocol_version=5
        )

    @property
    def beside(self) -> Engine | None:
        """The engine of the other listeners."""
        return self._beside

    # -- broker.engine.Engine

    async def start(self) -> None:
        """Start the engine beside it and connect; a broker that is away is waited for behind the hub's back.

        Raises OSError when a port is taken.
        """
        if self._beside is not None:
            await self._beside.start()
        border = _LoopBorder(self, asyncio.get_running_loop())
        count = max(1, min(self._upstream.consumers, len(self._filters)))
        self._consumers = [
            Link(self._upstream, f"{number + 1}", self._filters[number::count], border) for number in range(count)
        ]
        self._publisher = Link(self._upstream, "hub", (), border)
        log.warning("external engine: %s", "; ".join(LIMITS))
        self._waiting_for_links = asyncio.Event()
        for link in self._links():
            link.start()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._waiting_for_links.wait(), _START_S)
        self._waiting_for_links = None

    async def stop(self) -> None:
        """Tell the broker what was acknowledged, disconnect; the sessions stay there and gather what comes."""
        if self._beside is not None:
            await self._beside.stop()
        links = self._links()
        for link in links:
            link.stop()
        for link in links:
            await asyncio.to_thread(link.join, _STOP_S)
        self._consumers, self._publisher = [], None

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        on_taken: Callable[[], None] | None = None,
    ) -> None:
        """Publish there and beside. `on_taken` is called when the broker has taken it for somebody."""
        if "+" in topic or "#" in topic or not topic:
            raise ValueError("a message can not be published to a filter")
        if self._beside is not None:
            self._beside.publish(topic, payload, qos=qos, retain=retain, on_taken=on_taken)
        if self._publisher is not None and not self._publisher.publish(
            Publication(topic, payload, qos, retain, on_taken)
        ):
            self._publish_dropped += 1

    def receivers(self, topic: str) -> int:
        """Unknown, so one (a module may be there) while the broker is, and those of the engine beside."""
        one = int(self._publisher is not None and self._publisher.up)
        return one + (self._beside.receivers(topic) if self._beside is not None else 0)

    def hold_guaranteed(self, hold: bool) -> None:
        """Stop reading: one connection brings both kinds. The broker keeps what is guaranteed, and drops the rest."""
        if self._beside is not None:
            self._beside.hold_guaranteed(hold)
        for link in self._consumers:
            link.hold(hold)

    def forget_topics(self) -> None:
        """Ask `open_topic` again for every topic."""
        if self._beside is not None:
            self._beside.forget_topics()
        self._handles.clear()

    def disconnect(self, subject: str, cause: str) -> int:
        """Close connections of the engine beside; the broker's own can not be closed from here."""
        return self._beside.disconnect(subject, cause) if self._beside is not None else 0

    def addresses(self) -> Mapping[str, tuple[str, int]]:
        """Of the engine beside: the hub listens to no module here."""
        return self._beside.addresses() if self._beside is not None else {}

    def counters(self) -> Mapping[str, int]:
        """Counters since the start, by the names that the native engine uses for the same; both engines' together."""
        consumers = self._consumers
        added = LinkCounters()
        for link in self._links():
            for field in dataclasses.fields(LinkCounters):
                name = field.name
                setattr(added, name, getattr(added, name) + getattr(link.counters, name))
        total = {
            "upstream_connected": sum(link.up for link in self._links()),
            "upstream_connects": added.connects,
            "upstream_failures": added.failures,
            "upstream_reconnects": sum(max(0, link.counters.connects - 1) for link in self._links()),
            "upstream_sessions_lost": added.sessions_lost,
            "upstream_acks_void": added.acks_void,
            "upstream_unacknowledged": max(0, added.unacknowledged),
            "upstream_handed_over": sum(link.ahead for link in consumers),
            "upstream_publish_unrouted": added.publish_unrouted,
            "upstream_publish_refused": added.publish_refused,
            "dropped_publish_queue": self._publish_dropped,
            "messages_received": added.received,
            "messages_to_sink": self._messages_to_sink,
            "messages_malformed": added.malformed,
            "batches": added.batches,
            "acknowledged": added.acknowledged,
            "reads_held": added.reads_held,
            "subscribe_denied": added.subscribe_denied,
        }
        newest = max((link.last_message_at for link in consumers), default=0.0)
        if newest:
            total["upstream_last_message_s"] = int(time.monotonic() - newest)
        for name, value in (self._beside.counters() if self._beside is not None else {}).items():
            total[name] = total.get(name, 0) + value
        return total

    # -- what the links tell, on the loop

    def take(self, received: Received) -> None:
        """Messages came: to the sink with them."""
        link, topics = received.link, received.topics
        full = link.ahead >= MOST_AHEAD
        link.taken += len(topics)
        if full:
            link.wake()
        found = [self._handle(topic) for topic in topics]
        payloads, ids, retained = received.payloads, received.packet_ids, received.retained
        if None in found:
            unwanted = [one for handle, one in zip(found, ids, strict=True) if handle is None and one]
            if unwanted:
                link.acknowledge(received.generation, unwanted)
            wanted = [place for place, handle in enumerate(found) if handle is not None]
            if not wanted:
                return
            found = [found[place] for place in wanted]
            payloads = [payloads[place] for place in wanted]
            ids = [ids[place] for place in wanted]
            retained = [retained[place] for place in wanted]
        self._messages_to_sink += len(found)
        try:
            self._sink.accept(_Batch(received, found, payloads, ids, retained))
        except Exception:
            # The sink promised not to raise. Unacknowledged, they come again with the next connection.
            log.exception("the sink raised; %d messages were not taken", len(found))

    def note_unrouted(self, topics: Sequence[str]) -> None:
        """Publications found nobody."""
        self.on_unrouted(topics)

    def note_changed(self) -> None:
        """A link is up, or has failed."""
        waiting = self._waiting_for_links
        if waiting is not None and all(link.up or link.failed for link in self._links()):
            waiting.set()

    # -- helpers

    def _links(self) -> list[Link]:
        return [*self._consumers, *([self._publisher] if self._publisher is not None else [])]

    def _handle(self, topic: str) -> object | None:
        handles = self._handles
        try:
            return handles[topic]
        except KeyError:
            pass
        if len(handles) >= _MOST_TOPICS:
            handles.clear()
        private = bool(self._private) and topic.startswith(self._private)
        handle = handles[topic] = None if private else self._sink.open_topic(self._client, topic)
        return handle


def _call_all(calls: Sequence[Callable[[], None]]) -> None:
    for call in calls:
        call()
