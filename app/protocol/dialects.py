"""Every dialect of other people's modules as one: who speaks on a topic, and what they said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from app.protocol.foreign import Dialect, What


class Said(NamedTuple):
    """Something that a device said, and in which dialect."""

    dialect: str
    device: str
    what: What


class Dialects:
    """Dialects in the order in which they are asked: those with topics of their own first, the generic one last."""

    def __init__(self, dialects: Sequence[Dialect]) -> None:
        self._dialects = tuple(dialects)
        self._by_name = {dialect.name: dialect for dialect in dialects}

    @property
    def filters(self) -> tuple[str, ...]:
        """MQTT filters that bring a listener everything that any of them may say."""
        return tuple(dict.fromkeys(filter_ for dialect in self._dialects for filter_ in dialect.filters))

    def named(self, name: str) -> Dialect | None:
        """One of them."""
        return self._by_name.get(name)

    def of_topic(self, topic: str) -> Dialect | None:
        """The first that claims a topic, or None."""
        return next((dialect for dialect in self._dialects if dialect.claims(topic)), None)

    def take(self, topic: str, payload: bytes, *, retained: bool, arrival_us: int) -> Sequence[Said]:
        """What a message says; nothing when no dialect claims its topic. Never raises."""
        dialect = self.of_topic(topic)
        if dialect is None:
            return ()
        heard = dialect.take(topic, payload, retained=retained, arrival_us=arrival_us)
        return [Said(dialect.name, one.device, one.what) for one in heard]

    def due(self, arrival_us: int) -> Sequence[Said]:
        """What waited for its time; see Dialect.due."""
        return [
            Said(dialect.name, one.device, one.what) for dialect in self._dialects for one in dialect.due(arrival_us)
        ]
