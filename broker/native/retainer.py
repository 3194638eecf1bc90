"""Keeps retained messages within their limits and their expiry."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from broker.native.counters import Counters
from broker.native.message import Message
from broker.native.persistence import Store
from broker.native.retained import RetainedMessages
from broker.options import BrokerOptions


class Retainer:
    """The retained messages as the broker uses them."""

    def __init__(self, options: BrokerOptions, counters: Counters, store: Store, now: Callable[[], float]) -> None:
        self._options = options
        self._counters = counters
        self._store = store
        self._now = now
        self._tree = RetainedMessages()

    def keep(self, message: Message, client: str) -> None:
        """Retain a message; an empty payload forgets the topic's. Over a limit a new topic is not retained."""
        tree = self._tree
        if not message.payload:
            if tree.remove(message.topic):
                self._store.retained_changed(message.topic, None)
        else:
            old = tree.get(message.topic)
            grown = tree.size + message.size - (old.size if old is not None else 0)
            if grown > self._options.max_retained_bytes or (
                old is None and tree.count >= self._options.max_retained_messages
            ):
                self._counters.hit("limit_retained", client, "the broker retains no further message")
                return
            tree.put(message)
            self._store.retained_changed(message.topic, message)
        self._count()

    def restore(self, message: Message) -> None:
        """Put back what a store held."""
        self._tree.put(message)
        self._count()

    def match(self, pattern: str) -> Iterator[Message]:
        """Messages a filter matches, without those that expired; the tree may change between two of them."""
        now = self._now()
        for message in self._tree.match(pattern):
            if not message.expired(now):
                yield message
            elif self._tree.remove(message.topic):
                self._counters.add("dropped_expired")
                self._store.retained_changed(message.topic, None)
                self._count()

    def _count(self) -> None:
        self._counters.values["retained_messages"] = self._tree.count
        self._counters.values["retained_bytes"] = self._tree.size
