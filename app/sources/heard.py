"""Which modules are there, as far as a broker that does not tell lets one know: by what is heard of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from app.domain.credentials import CredentialKind
from app.protocol.messages import Message, State
from app.protocol.topics import Kind, build, parse
from app.sources.mqtt import ModuleHandle, MqttSource
from broker.engine import Access, Batch, ClientInfo

EACH_S = 1.0
# A module is gone when nothing was heard of it for three of its periods, and never sooner than this.
LEAST_SILENCE_S = 30.0
_PERIODS = 3.0
_LONGEST_SILENCE_S = 3 * 86_400.0
# A command found nobody: its module may subscribe only now.
AGAIN_S = 10.0
LISTENER = "external"


class HeardModules:
    """Tells the source of modules that come and go as a broker would: so sessions, events and commands work alike.

    A module comes with its first reading or its birth, and goes with its last will or with silence. What a broker had
    kept says nothing of now. On the loop.
    """

    def __init__(
        self, source: MqttSource, serial_of: Callable[[int], str], now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._source = source
        self._serial_of = serial_of
        self._now_s = now_s
        self._fresh: set[object] = set()
        self._born: set[int] = set()
        # By slot: when it was heard last, and how long it may be silent (only where that is more than the least).
        self._heard_at: dict[int, float] = {}
        self._silence_s: dict[int, float] = {}
        self._open: set[int] = set()
        self._gone: set[int] = set()
        self._again: dict[str, float] = {}

    def observe(self, batch: Batch) -> None:
        """A batch came."""
        if batch.retained:
            self._fresh.update(handle for handle, old in zip(batch.handles, batch.retained, strict=True) if not old)
        else:
            self._fresh.update(batch.handles)

    def on_message(self, _serial: str, slot: int, kind: Kind, message: Message, _arrival_us: int) -> None:
        """A message of a module that is no reading, and that is news."""
        if kind is not Kind.STATE or not isinstance(message, State):
            return
        if message.online is False:
            # What came before it in the same second is no sign of life any more.
            self._gone.add(slot)
            self._born.discard(slot)
            self._close(slot, "will")
            return
        if message.period_ms is not None:
            self._silence_s[slot] = min(_LONGEST_SILENCE_S, message.period_ms / 1000 * _PERIODS)
        self._gone.discard(slot)
        self._born.add(slot)

    def unrouted(self, topics: Sequence[str]) -> None:
        """Commands found nobody who listens."""
        due = self._now_s() + AGAIN_S
        for topic in topics:
            parsed = parse(topic)
            if parsed is not None and parsed.kind is Kind.CMD:
                self._again.setdefault(parsed.serial, due)

    async def run(self) -> None:
        """Look each second, until cancelled."""
        while True:
            await asyncio.sleep(EACH_S)
            self.look()

    def look(self) -> None:
        """Open what was heard, close what was silent."""
        now = self._now_s()
        fresh, self._fresh = self._fresh, set()
        born, self._born = self._born, set()
        for slot in born:
            # A birth is a new connection: what its module had before is due again.
            self._close(slot, "taken over")
        heard = {slot for slot in map(_slot_of, fresh) if slot is not None} - self._gone | born
        self._gone.clear()
        for slot in heard:
            if slot not in self._open:
                self._note_gap(slot, now)
                self._begin(slot)
            self._heard_at[slot] = now
        for slot in [slot for slot in self._open if now - self._heard_at[slot] > self._allowed_s(slot)]:
            self._close(slot, "silent")
        self._offer_again(now)

    def _note_gap(self, slot: int, now: float) -> None:
        """One that was silent and is back: its period may be longer than it said."""
        before = self._heard_at.get(slot)
        if before is not None:
            gap = (now - before) * _PERIODS
            self._silence_s[slot] = min(_LONGEST_SILENCE_S, max(gap, self._silence_s.get(slot, 0.0)))

    def _allowed_s(self, slot: int) -> float:
        return max(LEAST_SILENCE_S, self._silence_s.get(slot, 0.0))

    def _begin(self, slot: int) -> None:
        self._open.add(slot)
        serial = self._serial_of(slot)
        client = _client(serial)
        self._source.client_connected(client)
        self._source.client_subscribed(client, build(serial, Kind.CMD), ())

    def _close(self, slot: int, cause: str) -> None:
        if slot in self._open:
            self._open.discard(slot)
            self._source.client_disconnected(_client(self._serial_of(slot)), cause)

    def _offer_again(self, now: float) -> None:
        for serial in [serial for serial, due in self._again.items() if due <= now]:
            del self._again[serial]
            line = self._source.commands
            if serial in line:
                client = _client(serial)
                line.gone(client)
                line.subscribed(client, build(serial, Kind.CMD), ())


def _client(serial: str) -> ClientInfo:
    """What is known of a module's client: not much."""
    return ClientInfo(f"heard/{serial}", Access(serial, CredentialKind.MODULE), "", LISTENER, 0)


def _slot_of(handle: object) -> int | None:
    if isinstance(handle, int):
        return handle
    return handle.slot if isinstance(handle, ModuleHandle) else None
