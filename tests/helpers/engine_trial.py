"""The three engines behind one face, with real clients: what the contract tests run on."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self

import paho.mqtt.client as paho

from broker.amqtt_engine import AmqttEngine
from broker.engine import Access, Batch, ClientInfo, Engine
from broker.external_engine import ExternalEngine
from broker.native.server import NativeBroker
from broker.options import BrokerOptions, Listener, Tls, Upstream
from tests.helpers.mosquitto import Mosquitto
from tests.helpers.tls_files import client_context

WAIT_S = 15
SECRETS = {"m1": b"one", "m2": b"two"}


class Registry:
    """Modules that may publish below their own name."""

    def __init__(self) -> None:
        self.blocked: set[str] = set()

    def authenticate(
        self, _listener: str, _client_id: str, username: str | None, password: bytes | None
    ) -> Access | None:
        if username is None or username in self.blocked or SECRETS.get(username, b"") != password:
            return None
        return Access(username, "module", publish=(f"m/{username}/#",), subscribe=(f"m/{username}/cmd",))


class Sink:
    """Remembers everything; wants topics that do not end in `unwanted`."""

    def __init__(self, *, manual: bool = False) -> None:
        self.manual = manual
        self.messages: list[tuple[object, bytes, bool]] = []
        self.old_news: list[bytes] = []
        self.batches: list[Batch] = []
        self.events: list[tuple[str, ...]] = []
        self.subscribed: list[tuple[str, str]] = []
        self.opened: list[str] = []

    def open_topic(self, _client: ClientInfo, topic: str) -> object | None:
        self.opened.append(topic)
        return None if topic.endswith("unwanted") else topic

    def accept(self, batch: Batch) -> None:
        assert len(batch.handles) == len(batch.payloads) == len(batch.guaranteed) > 0
        assert len(batch.retained) in (0, len(batch.handles))
        self.messages += zip(batch.handles, batch.payloads, batch.guaranteed, strict=True)
        self.old_news += [one for one, old in zip(batch.payloads, batch.retained, strict=False) if old]
        self.batches.append(batch)
        if not self.manual:
            batch.acknowledge()

    def client_connected(self, client: ClientInfo) -> None:
        self.events.append(("connected", client.client_id, client.listener, client.address))

    def client_subscribed(self, client: ClientInfo, pattern: str, _held: object) -> None:
        self.subscribed.append((client.client_id, pattern))

    def client_disconnected(self, client: ClientInfo, cause: str) -> None:
        self.events.append(("disconnected", client.client_id, cause))

    @property
    def payloads(self) -> list[bytes]:
        return [payload for _, payload, _ in self.messages]


class Client:
    """A paho client in its own thread, waited for without blocking the loop."""

    def __init__(
        self,
        port: int,
        name: str,
        password: str | None = None,
        *,
        context: ssl.SSLContext | None = None,
        keep: bool = False,
    ) -> None:
        self.connects: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.received: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.published: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.granted: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
        self.ends: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.paho = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id=name, reconnect_on_failure=keep, clean_session=not keep
        )
        self.paho.reconnect_delay_set(1, 1)
        self.paho.max_inflight_messages_set(100)
        self.paho.username_pw_set(name, password if password is not None else SECRETS[name].decode())
        if context is not None:
            self.paho.tls_set_context(context)
        self.paho.on_connect = lambda _c, _u, _f, reason, _p: self.connects.put(reason.value)
        self.paho.on_message = lambda _c, _u, message: self.received.put(message.payload)
        self.paho.on_publish = lambda _c, _u, mid, _r, _p: self.published.put(mid)
        self.paho.on_subscribe = lambda _c, _u, _m, codes, _p: self.granted.put([code.value for code in codes])
        self.paho.on_disconnect = lambda _c, _u, _f, reason, _p: self.ends.put(reason.value)
        self.port = port

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(self.paho.connect, "127.0.0.1", self.port)
        self.paho.loop_start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.paho.disconnect()
        await asyncio.to_thread(self.paho.loop_stop)

    async def publish(self, topic: str, *payloads: bytes, qos: int = 1) -> None:
        """Publish, and wait until each was taken."""
        for payload in payloads:
            self.paho.publish(topic, payload, qos=qos)
        for _ in payloads:
            await get(self.published)


async def get(source: queue.SimpleQueue[Any]) -> Any:
    return await asyncio.to_thread(source.get, timeout=WAIT_S)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(WAIT_S):
        while not condition():  # noqa: ASYNC110 - an engine gives no event to wait for
            await asyncio.sleep(0.005)


class Trial:
    """One engine under test. `port` is where modules connect."""

    def __init__(self, kind: str, folder: Path, tls: Tls | None) -> None:
        self.kind = kind
        self.registry = Registry()
        self.sink = Sink()
        self.tls = tls
        self.folder = folder
        self.broker = Mosquitto(folder / "mosquitto", tls=tls) if kind == "external" else None
        self.engine: Engine
        self.port = 0

    async def start(self, sink: Sink | None = None) -> None:
        """Start the engine, or another one in its place."""
        self.sink = sink or self.sink
        listener = Listener("mqtt", self.port, ("127.0.0.1",), self.tls)
        if self.kind == "native":
            self.engine = NativeBroker(
                BrokerOptions(), [listener], self.registry, self.sink, data_dir=self.folder / "native"
            )
        elif self.kind == "amqtt":
            self.engine = AmqttEngine([listener], self.registry, self.sink)
        else:
            assert self.broker is not None
            upstream = Upstream(
                "127.0.0.1",
                self.broker.port,
                "hub",
                tls=self.tls is not None,
                ca_file=self.tls.certificate if self.tls else None,
            )
            self.engine = ExternalEngine(upstream, ["m/+/tele", "m/+/state", "m/+/unwanted"], self.sink)
        await self.engine.start()
        self.port = self.broker.port if self.broker is not None else self.engine.addresses()["mqtt"][1]

    def client(self, name: str, password: str | None = None, *, keep: bool = False) -> Client:
        context = client_context(self.tls) if self.tls is not None else None
        return Client(self.port, name, password, context=context, keep=keep)

    @contextlib.asynccontextmanager
    async def connected(self, name: str, *, keep: bool = False) -> AsyncIterator[Client]:
        async with self.client(name, keep=keep) as client:
            assert await get(client.connects) == 0
            yield client


@contextlib.asynccontextmanager
async def running(kind: str, folder: Path, tls: Tls | None = None) -> AsyncIterator[Trial]:
    """A trial whose engine runs."""
    trial = Trial(kind, folder, tls)
    if trial.broker is not None:
        trial.broker.start()
    try:
        await trial.start()
        yield trial
        await trial.engine.stop()
    finally:
        if trial.broker is not None:
            trial.broker.kill()
