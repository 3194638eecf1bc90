"""When each connection's readings are due: evenly spread, computed, never stored."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """Neighbouring connections whose readings of the same rounds fall due in the same millisecond."""

    first_connection: int
    """Inclusive."""
    last_connection: int
    """Exclusive."""
    first_round: int
    last_round: int
    """Exclusive. More than one round: the generator fell behind, or a connection reports more often than it ticks."""
    offset_ms: int
    """Milliseconds after the beginning of a round at which these connections report."""


@dataclasses.dataclass(frozen=True, slots=True)
class Schedule:
    """Readings in rounds: in every round each connection reports once, one after the other at equal distances.

    Message m belongs to round m // connections and connection m % connections, and is due at m / rate seconds after the
    start. The stamp of a reading is a whole millisecond, at most 2 ms before that, and rises with each round.
    """

    connections: int
    rate: float
    """Readings per second, over all connections."""
    rounds: int

    def __post_init__(self) -> None:
        if self.connections < 1 or self.rounds < 0 or self.rate <= 0:
            raise ValueError(f"no schedule for {self}")
        if self.rate > 1000 * self.connections:
            raise ValueError(f"{self.rate:g}/s over {self.connections} connections: stamps of one module would repeat")

    @classmethod
    def of_seconds(cls, connections: int, rate: float, seconds: float) -> Schedule:
        """As many whole rounds as come nearest to `seconds`, at least one."""
        return cls(connections, rate, max(1, round(rate * seconds / connections)))

    @property
    def total(self) -> int:
        """Readings in all."""
        return self.rounds * self.connections

    @property
    def seconds(self) -> float:
        """From the start to the end of the last round."""
        return self.total / self.rate

    def due(self, elapsed_s: float) -> int:
        """How many readings are due `elapsed_s` after the start."""
        return min(self.total, max(0, math.floor(elapsed_s * self.rate)))

    def round_ms(self, index: int) -> int:
        """Milliseconds from the start to the beginning of a round."""
        return math.floor(index * self.connections * 1000 / self.rate)

    def spans(self, done: int, due: int) -> Iterator[Span]:
        """Cover messages `done` (inclusive) to `due` (exclusive), in the order of their connections from `done` on.

        A connection with several messages appears once, with all its rounds, so that they can leave in one send.
        """
        n = self.connections
        rounds, extra = divmod(due - done, n)
        # Connections in order from `done`: the first `extra` of them have one message more.
        yield from self._stretch(done, done + extra, rounds + 1)
        if rounds:
            yield from self._stretch(done + extra, done + n, rounds)

    def _stretch(self, begin: int, end: int, rounds: int) -> Iterator[Span]:
        """Spans of the connections of messages `begin` to `end` (less than two rounds), each with `rounds` rounds."""
        n = self.connections
        while begin < end:
            first_round, connection = divmod(begin, n)
            offset_ms = math.floor(connection * 1000 / self.rate)
            # The first connection of the next millisecond; one less, by rounding, would only make a span more.
            stop = max(connection + 1, math.ceil((offset_ms + 1) * self.rate / 1000))
            stop = min(stop, n, connection + end - begin)
            yield Span(connection, stop, first_round, first_round + rounds, offset_ms)
            begin += stop - connection
