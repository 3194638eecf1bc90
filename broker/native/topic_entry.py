"""What a connection keeps of a topic, so that its next message there costs one look."""

from __future__ import annotations

from broker.native.subscriptions import NOBODY, Match


class TopicEntry:
    """What one connection knows of a topic it publishes to and may publish to; `handle` is the sink's."""

    __slots__ = ("bucket", "generation", "handle", "match", "topic")

    def __init__(self, topic: str, handle: object | None, bucket: int) -> None:
        self.topic = topic
        self.handle = handle
        self.bucket = bucket
        self.generation = -1
        self.match: Match = NOBODY
