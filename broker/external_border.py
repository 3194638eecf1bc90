"""What crosses the border between the thread of a connection and the loop: lists, never one message."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from broker.external_link import Link


class Received(NamedTuple):
    """Messages of one connection, in order; the lists are parallel. A message of QoS 0 has the packet id 0."""

    link: Link
    generation: int
    arrival_us: int
    topics: list[str]
    payloads: list[bytes]
    packet_ids: list[int]
    retained: list[bool]


class Publication(NamedTuple):
    """A message of the hub."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    on_taken: Callable[[], None] | None


class Border:
    """What a link tells; every method is called in its thread."""

    def received(self, received: Received) -> None:
        """Messages came."""

    def taken(self, on_taken: list[Callable[[], None]]) -> None:
        """The broker has taken publications for those who subscribed."""

    def unrouted(self, topics: list[str]) -> None:
        """Nobody had subscribed to what was published (told by MQTT 5 only)."""

    def changed(self) -> None:
        """The link is up, or has failed."""


@dataclasses.dataclass(slots=True)
class LinkCounters:
    """Each written by one thread alone: the link's, and `reads_held` by the loop."""

    connects: int = 0
    failures: int = 0
    sessions_lost: int = 0
    received: int = 0
    batches: int = 0
    acknowledged: int = 0
    acks_void: int = 0
    unacknowledged: int = 0
    reads_held: int = 0
    malformed: int = 0
    published: int = 0
    publish_unrouted: int = 0
    publish_refused: int = 0
    subscribe_denied: int = 0
