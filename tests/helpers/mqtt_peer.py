"""The other side of a broker in tests: a raw MQTT client, a sink that records, a clock that is set by hand."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from broker.engine import Access, Batch, ClientInfo
from broker.native.core import Core
from broker.native.server import NativeBroker
from broker.options import BrokerOptions, Listener
from broker.packets import (
    V5,
    V311,
    Ack,
    Connack,
    Connect,
    Packet,
    PacketReader,
    Ping,
    Properties,
    Publish,
    Suback,
    Subscribe,
    Subscription,
    encode,
    kinds,
)

P = TypeVar("P")
TIMEOUT_S = 10


async def until(condition: Callable[[], object]) -> None:
    """Let the loop run until the condition holds."""
    async with asyncio.timeout(TIMEOUT_S):
        while not condition():  # noqa: ASYNC110 - nobody signals the inside of a broker
            await asyncio.sleep(0.001)


class RawClient:
    """A client that does only what it is told; nothing is acknowledged by itself."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, version: int) -> None:
        self.version = version
        self.stream = reader
        self.writer = writer
        self._packets = PacketReader(version=version)
        self._ready: list[Packet] = []

    @classmethod
    async def open(cls, port: int, version: int = V311, context: ssl.SSLContext | None = None) -> RawClient:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=context, server_hostname="localhost" if context else None
        )
        return cls(reader, writer, version)

    @classmethod
    async def connected(
        cls,
        port: int,
        client_id: str,
        version: int = V311,
        context: ssl.SSLContext | None = None,
        **fields: Any,
    ) -> RawClient:
        client = await cls.open(port, version, context)
        connack = await client.connect(client_id, **fields)
        assert connack.reason == 0, connack
        return client

    async def connect(self, client_id: str, **fields: Any) -> Connack:
        self.send(Connect(client_id=client_id, version=self.version, **fields))
        return await self.expect(Connack)

    def send(self, packet: Packet) -> None:
        self.writer.write(encode(packet, self.version))

    def publish(self, topic: str, payload: bytes = b"x", qos: int = 0, packet_id: int = 1, **fields: Any) -> None:
        self.send(Publish(topic=topic, payload=payload, qos=qos, packet_id=packet_id if qos else 0, **fields))

    async def subscribe(self, *wanted: Subscription | tuple[str, int], number: int = 0) -> bytes:
        items = tuple(item if isinstance(item, Subscription) else Subscription(*item) for item in wanted)
        properties = Properties(subscription_ids=(number,)) if number else Properties()
        self.send(Subscribe(packet_id=7, subscriptions=items, properties=properties))
        return (await self.expect(Suback)).reasons

    async def receive(self) -> Packet:
        while not self._ready:
            data = await asyncio.wait_for(self.stream.read(65536), TIMEOUT_S)
            if not data:
                raise ConnectionResetError("the broker closed the connection")
            self._ready += self._packets.feed(data)
        return self._ready.pop(0)

    async def expect(self, kind: type[P]) -> P:
        packet = await self.receive()
        assert isinstance(packet, kind), packet
        return packet

    async def message(self) -> Publish:
        return await self.expect(Publish)

    async def nothing(self) -> None:
        """Nothing is on its way: a ping's answer comes first."""
        self.send(Ping())
        assert await self.receive() == Ping(answer=True)

    async def acknowledged(self, kind: int = kinds.PUBACK) -> Ack:
        ack = await self.expect(Ack)
        assert ack.kind == kind, ack
        return ack

    def ack(self, packet_id: int, kind: int = kinds.PUBACK) -> None:
        self.send(Ack(kind=kind, packet_id=packet_id))

    async def ended(self) -> list[Packet]:
        """Everything until the broker closes."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                data = await asyncio.wait_for(self.stream.read(65536), TIMEOUT_S)
                if not data:
                    break
                self._ready += self._packets.feed(data)
        rest, self._ready = self._ready, []
        return rest

    def drop(self) -> None:
        """Cut the connection without a goodbye."""
        self.writer.transport.abort()


class RecordingSink:
    """Takes topics below `keep/`; acknowledges at once unless `manual`."""

    def __init__(self, *, manual: bool = False) -> None:
        self.manual = manual
        self.batches: list[Batch] = []
        self.events: list[tuple[str, str]] = []
        self.opened: list[str] = []
        self.subscribed: list[tuple[str | bytes, ...]] = []
        self.changed = asyncio.Event()

    def open_topic(self, client: ClientInfo, topic: str) -> object | None:
        self.opened.append(topic)
        return (client.client_id, topic) if topic.startswith("keep/") else None

    def accept(self, batch: Batch) -> None:
        assert len(batch.handles) == len(batch.payloads) == len(batch.guaranteed)
        self.batches.append(batch)
        if not self.manual and any(batch.guaranteed):
            batch.acknowledge()
        self.changed.set()

    def client_connected(self, client: ClientInfo) -> None:
        self.events.append(("connected", client.client_id))
        self.changed.set()

    def client_subscribed(self, client: ClientInfo, pattern: str, held: Sequence[bytes]) -> None:
        self.subscribed.append((client.client_id, pattern, *held))

    def client_disconnected(self, client: ClientInfo, cause: str) -> None:
        self.events.append((cause, client.client_id))
        self.changed.set()

    @property
    def payloads(self) -> list[bytes]:
        return [payload for batch in self.batches for payload in batch.payloads]

    async def until(self, count: int) -> None:
        """Wait for so many messages."""
        while len(self.payloads) < count:
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), TIMEOUT_S)

    async def until_event(self, cause: str, client_id: str) -> None:
        while (cause, client_id) not in self.events:
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), TIMEOUT_S)


class HandClock:
    """Both clocks of a broker, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1_800_000_000.0

    def __call__(self) -> float:
        return self.seconds

    def advance(self, core: Core, seconds: float) -> None:
        """Let time pass in steps that are no stall of the loop."""
        while seconds > 0:
            step = min(1.0, seconds)
            self.seconds += step
            seconds -= step
            core.on_time()


class TableAuthenticator:
    """Accounts by user name: password and access."""

    def __init__(self, **accounts: tuple[bytes, Access]) -> None:
        self.accounts = accounts

    def authenticate(
        self, listener: str, client_id: str, username: str | None, password: bytes | None
    ) -> Access | None:
        account = self.accounts.get(username or "")
        return account[1] if account is not None and account[0] == password else None


class Running:
    """A broker under test and what surrounds it."""

    def __init__(self, broker: NativeBroker, sink: RecordingSink, clock: HandClock) -> None:
        self.broker = broker
        self.sink = sink
        self.clock = clock

    @property
    def port(self) -> int:
        return self.broker.addresses()["test"][1]

    @property
    def core(self) -> Core:
        core = self.broker._core
        assert core is not None
        return core

    def count(self, name: str) -> int:
        return self.broker.counters()[name]

    def advance(self, seconds: float) -> None:
        self.clock.advance(self.core, seconds)

    async def client(self, client_id: str, version: int = V311, **fields: Any) -> RawClient:
        return await RawClient.connected(self.port, client_id, version, **fields)

    async def five(self, client_id: str, **fields: Any) -> RawClient:
        properties = {name: fields.pop(name) for name in list(fields) if name in Properties.__struct_fields__}
        return await self.client(client_id, V5, properties=Properties(**properties), **fields)


@contextlib.asynccontextmanager
async def running_broker(
    *,
    sink: RecordingSink | None = None,
    authenticator: TableAuthenticator | None = None,
    data_dir: Path | None = None,
    listeners: Sequence[Listener] = (Listener("test", 0, ("127.0.0.1",)),),
    clock: HandClock | None = None,
    **options: Any,
) -> AsyncIterator[Running]:
    """A broker on a free port; anonymous unless an authenticator is given."""
    sink = sink or RecordingSink()
    clock = clock or HandClock()
    broker = NativeBroker(
        BrokerOptions(**{"allow_anonymous": authenticator is None, **options}),
        listeners,
        authenticator,
        sink,
        data_dir=data_dir,
        now=clock,
        monotonic=clock,
    )
    await broker.start()
    try:
        yield Running(broker, sink, clock)
    finally:
        await broker.stop()
