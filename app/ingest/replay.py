"""Refused messages once more through the border: decoded, judged by their original arrival, routed, made durable."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import msgspec

from app.domain.errors import EnvironmentFault
from app.domain.reading import Reading
from app.ingest.directory import ModuleDirectory
from app.ingest.ingest import Ingest
from app.ingest.quarantine import LONGEST_PAYLOAD
from app.ingest.quarantine_shelf import Refused as RefusedMessage
from app.protocol.codec import DECODERS, Refused
from app.protocol.messages import Message
from app.protocol.topics import Kind

UNKNOWN_MODULE = "unknown_module"
# Readings judged in one turn of the loop: one or two milliseconds.
_READINGS_AT_ONCE = 500
# A commit takes a quarter of a second; a disk that stalls must not keep an operator waiting for ever.
LONGEST_COMMIT_S = 30.0
# Kinds that are not replayed, and why.
NOT_REPLAYED: Mapping[str, str] = MappingProxyType(
    {Kind.STATE.value: "a birth of the past would overwrite what the module says of itself now"}
)
CUT = f"only its first {LONGEST_PAYLOAD} bytes were kept"


class ReplayState(enum.StrEnum):
    """What became of a message."""

    # All of it went through; it is out of quarantine.
    TAKEN = "taken"
    # Some of its readings went through; the others stay with their reason.
    PARTLY = "partly"
    # Refused again; it stays with its new reason.
    REFUSED = "refused"
    # It can not be replayed at all; it stays as it is.
    NOT_REPLAYABLE = "not_replayable"


@dataclasses.dataclass(frozen=True, slots=True)
class Replayed:
    """What became of a message, and what is to be kept of it where anything is."""

    id: int
    state: ReplayState
    reason: str = ""
    detail: str = ""
    payload: bytes | None = None


def why_not_replayable(kind: str, *, cut: bool) -> str | None:
    """Why a message of this kind can not be replayed; None when it can."""
    if cut:
        return CUT
    if kind not in DECODERS:
        return f"{kind[:20]} is no kind of message"
    return NOT_REPLAYED.get(kind)


class Replay:
    """On the loop. Readings become `re-sent`: they never displace one that was measured and stored at its time."""

    def __init__(
        self,
        modules: ModuleDirectory,
        ingest: Ingest,
        pass_on: Callable[[str, int, Kind, Message, int], None],
        now_us: Callable[[], int],
    ) -> None:
        """`pass_on` takes messages that are no readings."""
        self._modules = modules
        self._ingest = ingest
        self._pass_on = pass_on
        self._now_us = now_us

    async def run(self, messages: Sequence[RefusedMessage]) -> list[Replayed]:
        """What became of each message, in order; what was taken is durable on return.

        Raises EnvironmentFault when the journal can not be written now: what was taken may still become durable, and
        replaying it again stores nothing twice.
        """
        promise = _Promise()
        results = []
        weight = 0
        for message in messages:
            result, readings = self._one(message, promise)
            results.append(result)
            weight += 1 + readings
            if weight >= _READINGS_AT_ONCE:
                weight = 0
                await asyncio.sleep(0)
        if promise.open:
            try:
                await asyncio.wait_for(promise.kept.wait(), LONGEST_COMMIT_S)
            except TimeoutError:
                raise EnvironmentFault(
                    "the journal can not be written now, so nothing was taken out of quarantine; try again later"
                ) from None
        return results

    def _one(self, message: RefusedMessage, promise: _Promise) -> tuple[Replayed, int]:
        """What becomes of a message, and of how many readings it is."""
        facts = message.facts
        why_not = why_not_replayable(facts.kind, cut=facts.cut)
        if why_not is not None:
            return Replayed(facts.id, ReplayState.NOT_REPLAYABLE, facts.reason, why_not), 0
        slot = self._modules.slot(facts.module)
        if slot is None:
            return _refused(message, UNKNOWN_MODULE, ""), 0
        kind = Kind(facts.kind)
        try:
            decoded = DECODERS[kind](message.payload)
        except Refused as refusal:
            return _refused(message, refusal.reason.value, refusal.detail), 0
        many = decoded if isinstance(decoded, list) else [decoded]
        if kind is Kind.TELE:
            return self._readings(message, slot, many, promise), len(many)
        for one in many:
            self._pass_on(facts.module, slot, kind, one, facts.arrival_us)
        return Replayed(facts.id, ReplayState.TAKEN), len(many)

    def _readings(self, message: RefusedMessage, slot: int, readings: Sequence[Reading], promise: _Promise) -> Replayed:
        facts = message.facts
        verdicts = self._ingest.judge(slot, readings, facts.arrival_us, self._now_us())
        good = [reading for reading, verdict in zip(readings, verdicts, strict=True) if verdict is None]
        bad = [(reading, verdict) for reading, verdict in zip(readings, verdicts, strict=True) if verdict is not None]
        if not good:
            return _refused(message, *bad[0][1])
        resent = [msgspec.structs.replace(reading, resent=True) for reading in good]
        self._ingest.take([slot] * len(resent), resent, facts.arrival_us, guaranteed=promise.part(facts.arrival_us))
        if not bad:
            return Replayed(facts.id, ReplayState.TAKEN)
        rest = msgspec.json.encode([reading for reading, _verdict in bad])
        return Replayed(facts.id, ReplayState.PARTLY, *bad[0][1], rest)


def _refused(message: RefusedMessage, reason: str, detail: str) -> Replayed:
    return Replayed(message.facts.id, ReplayState.REFUSED, reason, detail, message.payload)


class _Promise:
    """Kept when every part was committed."""

    def __init__(self) -> None:
        self.open = 0
        self.kept = asyncio.Event()

    def part(self, arrival_us: int) -> _Part:
        """A further part."""
        self.open += 1
        return _Part(self, arrival_us)

    def done(self) -> None:
        """One part was committed."""
        self.open -= 1
        if self.open == 0:
            self.kept.set()


class _Part:
    """Looks to ingest like a guaranteed batch of the broker: acknowledged after its commit."""

    def __init__(self, promise: _Promise, arrival_us: int) -> None:
        self.arrival_us = arrival_us
        self.handles: Sequence[object] = (None,)
        self.payloads: Sequence[bytes] = (b"",)
        self.guaranteed: Sequence[bool] = (True,)
        self.retained: Sequence[bool] = ()
        self._promise = promise

    def acknowledge(self) -> None:
        """Its readings are durable."""
        self._promise.done()
