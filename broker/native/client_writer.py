"""The sending side of a connection: writes gathered, limits of the client, topic aliases towards it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from broker.native.core import Core
    from broker.native.session import Session

# What a client without a maximum takes: the largest packet there can be.
_LARGEST_PACKET: Final = 268_435_460


class ClientWriter:
    """What `Connection` inherits for sending.

    `choked`: the client does not take what it is sent. The client's own limits are `send_window` (QoS 1 and 2 messages
    on their way), `send_maximum` (bytes of a packet) and `alias_maximum`.
    """

    __slots__ = (
        "_blocked",
        "_core",
        "_out",
        "_out_bytes",
        "_transport",
        "alias_maximum",
        "aliases_out",
        "choked",
        "send_maximum",
        "send_window",
        "session",
    )

    def __init__(self, core: Core) -> None:
        self._core = core
        self._transport: asyncio.Transport | None = None
        self.session: Session | None = None
        self._out: list[bytes] | None = None
        self._out_bytes = 0
        self._blocked = False
        self.choked = False
        self.aliases_out: dict[str, int] | None = None
        self.alias_maximum = 0
        self.send_window = core.options.max_inflight
        self.send_maximum = _LARGEST_PACKET

    def pause_writing(self) -> None:
        """The client does not take what it was sent."""
        self._blocked = self.choked = True

    def resume_writing(self) -> None:
        """It does again."""
        self._blocked = self.choked = False
        if self.session is not None:
            self._core.outbound.pump(self.session)

    def send(self, data: bytes) -> None:
        """Write at the end of the loop iteration, together with whatever else is sent until then."""
        out = self._out
        if out is None:
            self._out = [data]
            self._core.flush_later(self)
        else:
            out.append(data)
        self._out_bytes += len(data)
        if self._out_bytes > self._core.options.max_unsent_bytes:
            self.choked = True

    def flush(self) -> None:
        """Write what was sent."""
        out, self._out = self._out, None
        was_choked = self.choked
        self._out_bytes = 0
        self.choked = self._blocked
        if out is None or self._transport is None:
            return
        self._transport.write(out[0] if len(out) == 1 else b"".join(out))
        if was_choked and not self.choked and self.session is not None:
            self._core.outbound.pump(self.session)

    def alias_for(self, topic: str) -> tuple[int, bool]:
        """The alias to send with this topic (0: none) and whether the client knows it already."""
        aliases = self.aliases_out
        if aliases is None:
            aliases = self.aliases_out = {}
        alias = aliases.get(topic)
        if alias is not None:
            return alias, True
        if len(aliases) >= self.alias_maximum:
            return 0, False
        alias = aliases[topic] = len(aliases) + 1
        return alias, False

    def alias_lost(self, topic: str) -> None:
        """The newest alias was not sent after all."""
        if self.aliases_out is not None:
            self.aliases_out.pop(topic, None)

    def limit_unsent(self, size: int) -> None:
        """From how many unsent bytes on the client counts as choked."""
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high=size)
