"""The storm queue: when a whole fleet comes back at once, CONNECTs wait their turn; nobody is refused."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from broker.native.counters import Counters
from broker.options import BrokerOptions
from broker.packets.connect import Connect

if TYPE_CHECKING:
    from broker.native.connection import Connection

# How often the queue moves. Short beside a human's patience, long beside the cost of a look.
_STEP_S = 0.01
# The rate may be used in bursts of this length, so that a few connects after a pause never wait.
_BURST_S = 0.1


class _Bucket:
    """A token bucket. A rate of 0 is no limit."""

    __slots__ = ("_burst", "_rate", "_stamp", "_tokens")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._burst = max(1.0, rate * _BURST_S)
        self._tokens = self._burst
        self._stamp = now

    def take(self, now: float) -> bool:
        if not self._rate:
            return True
        if now > self._stamp:
            self._tokens = min(self._burst, self._tokens + (now - self._stamp) * self._rate)
            self._stamp = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def give_back(self) -> None:
        self._tokens += 1.0

    def full(self, now: float) -> bool:
        return self._tokens + (now - self._stamp) * self._rate >= self._burst


class Admission:
    """Lets CONNECTs through at the rates of the options; addresses take turns, so that one can not block the others."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        options: BrokerOptions,
        counters: Counters,
        monotonic: Callable[[], float],
        admit: Callable[[Connection, Connect], None],
    ) -> None:
        self._loop = loop
        self._counters = counters
        self._monotonic = monotonic
        self._admit = admit
        self._all = _Bucket(options.connects_per_second, monotonic())
        self._address_rate = options.connects_per_second_per_address
        self._addresses: dict[str, _Bucket] = {}
        self._waiting: dict[str, deque[tuple[Connection, Connect]]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def offer(self, connection: Connection, packet: Connect) -> bool:
        """Whether this CONNECT may go on at once; otherwise it waits here and `admit` is called later."""
        now = self._monotonic()
        address = connection.address
        if address not in self._waiting and self._take(address, now):
            return True
        self._waiting.setdefault(address, deque()).append((connection, packet))
        self._counters.hit("connects_queued", connection.name, "connects faster than allowed wait in the queue")
        self._counters.values["connects_waiting"] += 1
        if self._timer is None:
            self._timer = self._loop.call_later(_STEP_S, self._on_step)
        return False

    def close(self) -> None:
        """Stop the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _take(self, address: str, now: float) -> bool:
        if self._address_rate:
            bucket = self._addresses.get(address)
            if bucket is None:
                bucket = self._addresses[address] = _Bucket(self._address_rate, now)
            if not bucket.take(now):
                return False
            if not self._all.take(now):
                bucket.give_back()
                return False
            return True
        return self._all.take(now)

    def _on_step(self) -> None:
        self._timer = None
        now = self._monotonic()
        moved = True
        while moved and self._waiting:
            moved = False
            for address in list(self._waiting):
                queue = self._waiting[address]
                while queue and queue[0][0].closed:
                    queue.popleft()
                    self._counters.values["connects_waiting"] -= 1
                if queue and self._take(address, now):
                    connection, packet = queue.popleft()
                    self._counters.values["connects_waiting"] -= 1
                    moved = True
                    self._admit(connection, packet)
                if not queue:
                    del self._waiting[address]
        if self._waiting:
            self._timer = self._loop.call_later(_STEP_S, self._on_step)

    def forget_idle(self) -> None:
        """Drop what is known of addresses whose rate has recovered. Called now and then."""
        now = self._monotonic()
        for address in [name for name, bucket in self._addresses.items() if bucket.full(now)]:
            del self._addresses[address]
