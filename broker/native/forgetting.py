"""Forgets what the broker keeps of some topics: retained messages, and those that wait for clients that are away."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from broker.native.message import Message

if TYPE_CHECKING:
    from broker.native.core import Core
    from broker.native.session import Session

# Sessions looked at in one go on the loop, a millisecond or so.
_SLICE = 2000


class KeptOf(NamedTuple):
    """Messages and bytes that are kept of some topics."""

    retained: int
    retained_bytes: int
    queued: int
    queued_bytes: int


async def kept_below(core: Core, prefix: str) -> KeptOf:
    """What is kept of topics that begin with a prefix (which ends in a /)."""
    retained = [message.size for message in core.retainer.match(f"{prefix}#")]
    queued: list[int] = []
    sessions = list(core.sessions.by_id.values())
    for begin in range(0, len(sessions), _SLICE):
        for session in sessions[begin : begin + _SLICE]:
            waiting = [*(session.queue or ()), *(session.inflight or {}).values()]
            queued += [out.message.size for out in waiting if out.message.topic.startswith(prefix)]
        await asyncio.sleep(0)
    return KeptOf(len(retained), sum(retained), len(queued), sum(queued))


async def forget_below(core: Core, prefix: str) -> KeptOf:
    """Forget it; what is on its way to a connected client is not taken back. What there was."""
    retained = list(core.retainer.match(f"{prefix}#"))
    for message in retained:
        core.retainer.keep(Message(message.topic, b"", retain=True), "")
    queued: list[int] = []
    sessions = list(core.sessions.by_id.values())
    for begin in range(0, len(sessions), _SLICE):
        for session in sessions[begin : begin + _SLICE]:
            queued += _forget_waiting(core, session, prefix)
        await asyncio.sleep(0)
    return KeptOf(len(retained), sum(message.size for message in retained), len(queued), sum(queued))


def _forget_waiting(core: Core, session: Session, prefix: str) -> list[int]:
    sizes: list[int] = []
    if session.queue and any(out.message.topic.startswith(prefix) for out in session.queue):
        kept = deque(out for out in session.queue if not out.message.topic.startswith(prefix))
        for out in session.queue:
            if out.message.topic.startswith(prefix):
                sizes.append(out.message.size)
                session.queued_bytes -= out.message.size
                if session.persistent:
                    core.store.outgoing_gone(session, out)
        session.queue = kept or None
    if session.connection is None and session.inflight:
        for number, out in list(session.inflight.items()):
            if out.message.topic.startswith(prefix):
                sizes.append(out.message.size)
                del session.inflight[number]
                if session.persistent:
                    core.store.outgoing_gone(session, out)
    return sizes
