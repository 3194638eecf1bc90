"""What operators do with refused messages: look, send them through the border again, drop them."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence

from app.domain.errors import OperatorInputError
from app.domain.listing import Found, Listing
from app.domain.people import Principal
from app.ingest.quarantine_shelf import QuarantineShelf, Refused, RefusedFacts
from app.ingest.replay import Replay, Replayed, ReplayState
from app.stores.registry.actions import Deed, record
from app.stores.registry.faults import RefusedChangeError, UnknownNameError
from app.stores.registry.registry import Registry

# One request replays so many at most; the answer says when there are more.
MOST_REPLAYED = 10_000
# Made durable together: each time costs one commit's pace.
_MESSAGES_AT_ONCE = 2000


@dataclasses.dataclass(frozen=True, slots=True)
class ReplayReport:
    """What became of the messages of one request. `refused` counts by new reason; `more` were left for another."""

    counts: Mapping[ReplayState, int]
    refused: Mapping[str, int]
    more: bool


class QuarantineDesk:
    """Methods that are no coroutines block on files: not on the loop."""

    def __init__(self, shelf: QuarantineShelf, replay: Replay, registry: Registry, now_us: Callable[[], int]) -> None:
        self._shelf = shelf
        self._replay = replay
        self._registry = registry
        self._now_us = now_us
        # Two that replay the same message would take it twice; the store keeps one, but the counts would not be true.
        self._turn = asyncio.Lock()

    def listed(self, listing: Listing) -> Found[RefusedFacts]:
        """Messages without their payload."""
        return self._shelf.listed(listing)

    def counts(self) -> dict[str, int]:
        """How many messages are kept of each reason."""
        return self._shelf.counts()

    def message(self, number: int) -> Refused:
        """One message. Raises UnknownNameError."""
        found = self._shelf.message(number)
        if found is None:
            raise UnknownNameError("refused message", number)
        return found

    async def replay_one(self, actor: Principal, number: int) -> Replayed:
        """Send one through the border again. Raises UnknownNameError, EnvironmentFault."""
        async with self._turn:
            message = await asyncio.to_thread(self.message, number)
            await self._deed(actor, "quarantine.replay", str(number), {"messages": 1})
            (result,) = await self._replayed([message])
        return result

    async def replay_many(self, actor: Principal, numbers: Sequence[int]) -> ReplayReport:
        """Send some through the border again; those that are not there any more are passed over."""
        if len(numbers) > MOST_REPLAYED:
            raise OperatorInputError(f"at most {MOST_REPLAYED} messages at once")
        async with self._turn:
            await self._deed(actor, "quarantine.replay", "several", {"messages": len(numbers)})
            results: list[Replayed] = []
            for begin in range(0, len(numbers), _MESSAGES_AT_ONCE):
                messages = await asyncio.to_thread(self._shelf.messages, numbers[begin : begin + _MESSAGES_AT_ONCE])
                results += await self._replayed(messages)
        return _report(results, more=False)

    async def replay_matching(self, actor: Principal, listing: Listing, up_to: int) -> ReplayReport:
        """Send those that meet a listing's conditions through the border again, the oldest first."""
        async with self._turn:
            await self._deed(actor, "quarantine.replay", "several", {"conditions": _words(listing), "up_to": up_to})
            results: list[Replayed] = []
            after = 0
            while len(results) < MOST_REPLAYED:
                messages = await asyncio.to_thread(
                    self._shelf.matching, listing, after=after, up_to=up_to, most=_MESSAGES_AT_ONCE
                )
                results += await self._replayed(messages)
                if len(messages) < _MESSAGES_AT_ONCE:
                    return _report(results, more=False)
                after = messages[-1].facts.id
        return _report(results, more=True)

    def drop_one(self, actor: Principal, number: int) -> None:
        """Forget one. Raises UnknownNameError."""
        self.message(number)
        self._record(actor, "quarantine.drop", str(number), {"messages": 1})
        self._shelf.remove([number])

    def drop_matching(self, actor: Principal, listing: Listing, up_to: int, expected: int) -> int:
        """Forget those that meet a listing's conditions. Raises RefusedChangeError when not `expected` many do."""
        found = self._shelf.count(listing, up_to=up_to)
        if found != expected:
            raise RefusedChangeError(f"{found} messages meet this, not {expected}; look again, nothing was dropped")
        facts = {"messages": found, "conditions": _words(listing), "up_to": up_to}
        self._record(actor, "quarantine.drop", "several", facts)
        return self._shelf.remove_matching(listing, up_to=up_to)

    async def _replayed(self, messages: Sequence[Refused]) -> list[Replayed]:
        """Replay, then bring the shelf in line with what became of them."""
        results = await self._replay.run(messages)
        await asyncio.to_thread(self._settle, results)
        return results

    def _settle(self, results: Sequence[Replayed]) -> None:
        # Removed only now that they are durable: after a crash in between they are replayed again, and stored once.
        self._shelf.remove([result.id for result in results if result.state is ReplayState.TAKEN])
        for result in results:
            if result.payload is not None:
                self._shelf.change(result.id, result.reason, result.detail, result.payload, len(result.payload))

    async def _deed(self, actor: Principal, what: str, subject: str, facts: Mapping[str, object]) -> None:
        await asyncio.to_thread(self._record, actor, what, subject, facts)

    def _record(self, actor: Principal, what: str, subject: str, facts: Mapping[str, object]) -> None:
        # Before the deed itself: two files have no transaction in common, and a deed without its record is worse.
        with self._registry.writing() as connection:
            record(connection, Deed(actor.name, what, f"quarantine:{subject}", None, facts), self._now_us())


def _report(results: Sequence[Replayed], *, more: bool) -> ReplayReport:
    refused = collections.Counter(
        result.reason for result in results if result.state in {ReplayState.REFUSED, ReplayState.PARTLY}
    )
    return ReplayReport(collections.Counter(result.state for result in results), refused, more)


def _words(listing: Listing) -> list[str]:
    return [f"{one.column} {one.comparison} {one.value}" for one in listing.conditions]
