"""The interface of a broker engine: what the hub gives it, and what it gives the hub."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol

Decision = Literal["allowed", "denied"]


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """What one credential may do, as topic patterns (MQTT filters; `$` topics only where a pattern starts with `$`).

    `subject` names the credential in logs and counters; it is never a secret.
    """

    subject: str
    kind: str
    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()


class Authenticator(Protocol):
    """Looks a credential up in memory. Called on the loop for every CONNECT: no I/O, no slow hash."""

    def authenticate(
        self, listener: str, client_id: str, username: str | None, password: bytes | None
    ) -> Access | None:
        """The access of this credential, or None when it is unknown, wrong or blocked.

        The client is not told which of these; the authenticator logs it, the engine only counts.
        """
        ...


@dataclasses.dataclass(frozen=True, slots=True)
class ClientInfo:
    """A connected client, as the sink sees it."""

    client_id: str
    access: Access
    address: str
    listener: str
    protocol_version: int


class Batch(Protocol):
    """Messages received together, in order, each list parallel to the others.

    `handles[i]` is what `Sink.open_topic` returned for the message's topic, `arrival_us` the UTC time of arrival of the
    batch in microseconds. `guaranteed[i]` is true for QoS 1 and 2. The engine may merge batches; a sink keeps the batch
    until it has called `acknowledge` once (only needed when a message in it is guaranteed).
    """

    @property
    def arrival_us(self) -> int:
        """UTC microseconds."""
        ...

    @property
    def handles(self) -> Sequence[object]:
        """What `Sink.open_topic` returned for each message's topic."""
        ...

    @property
    def payloads(self) -> Sequence[bytes]:
        """The payloads."""
        ...

    @property
    def guaranteed(self) -> Sequence[bool]:
        """Whether each message came with QoS 1 or 2."""
        ...

    @property
    def retained(self) -> Sequence[bool]:
        """Whether each message is old news, which a broker had kept for whoever subscribes; empty when none is."""
        ...

    def acknowledge(self) -> None:
        """Let the engine answer every guaranteed message (PUBACK, PUBREC). Call on the loop, after the commit."""
        ...


class Sink(Protocol):
    """What takes the messages. All calls come on the loop and return quickly."""

    def open_topic(self, client: ClientInfo, topic: str) -> object | None:
        """A handle for messages of this client on this topic, or None if the sink does not want them.

        Asked once per connection and topic; the engine remembers the answer until `Engine.forget_topics`.
        """
        ...

    def accept(self, batch: Batch) -> None:
        """Take a batch. Never raises for what is in it."""
        ...

    def client_connected(self, client: ClientInfo) -> None:
        """A client was accepted."""
        ...

    def client_subscribed(self, client: ClientInfo, pattern: str, held: Sequence[bytes]) -> None:
        """A client gets messages of this filter (without `$share`) from now on: it has subscribed, or its session came
        back with the subscription. Told again when it subscribes again.

        `held` are the payloads of QoS 1 and 2 messages of the topic of that name which its session holds without an
        answer: the engine sends them itself.
        """
        ...

    def client_disconnected(self, client: ClientInfo, cause: str) -> None:
        """A client's connection ended; `cause` is one word of the engine's documented list."""
        ...


class Engine(Protocol):
    """A running MQTT broker, or a connection to one."""

    async def start(self) -> None:
        """Listen. Raises OSError when a port is taken."""
        ...

    async def stop(self) -> None:
        """Stop listening, answer what can be answered, save sessions, close every connection."""
        ...

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        on_taken: Callable[[], None] | None = None,
    ) -> None:
        """Publish from inside the hub; access rules do not apply.

        `on_taken` is called for each receiver that answers it (QoS 1 and 2), or to which it was written (QoS 0).
        """
        ...

    def receivers(self, topic: str) -> int:
        """How many connected clients would get a message of this topic name now."""
        ...

    def hold_guaranteed(self, hold: bool) -> None:
        """While held, connections that send QoS 1 or 2 are not read any further (the sink has no room for promises)."""
        ...

    def forget_topics(self) -> None:
        """Ask `open_topic` and the access rules again for every connection (pairings or credentials changed)."""
        ...

    def disconnect(self, subject: str, cause: str) -> int:
        """Close the connections of one credential; how many there were."""
        ...

    def addresses(self) -> Mapping[str, tuple[str, int]]:
        """Where each listener really listens: listener name -> (host, port)."""
        ...

    def counters(self) -> Mapping[str, int]:
        """Counters since the start, by name."""
        ...
