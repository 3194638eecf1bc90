"""A real broker that writes down what modules put on the wire, and modules that talk to it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from broker.engine import Batch, ClientInfo
from broker.native.server import NativeBroker
from broker.options import BrokerOptions, Listener
from device_sim.modules.clock import WorldClock
from device_sim.modules.meter import Meter
from device_sim.modules.module import Module
from device_sim.modules.mqtt import Address
from device_sim.modules.power import SimpleHome
from device_sim.modules.spec import ModuleSpec
from device_sim.radio import AccessPoint, Radio, Spot

PATIENCE_S = 30.0


class Witness:
    """A sink: every message as (serial, kind, payload), every connection and its end."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str, bytes]] = []
        self.connected: list[str] = []
        self.ended: list[tuple[str, str]] = []
        self.subscribed: list[str] = []
        # While set, nothing is acknowledged.
        self.stalled = False
        self._owed: list[Batch] = []
        self._news = asyncio.Event()
        self.broker: NativeBroker | None = None

    def open_topic(self, client: ClientInfo, topic: str) -> object | None:
        return tuple(topic.split("/")[3:5])

    def accept(self, batch: Batch) -> None:
        for handle, payload in zip(batch.handles, batch.payloads, strict=True):
            self.messages.append((*handle, bytes(payload)))
        if any(batch.guaranteed):
            self._owed.append(batch)
        self.settle()
        self._news.set()

    def settle(self) -> None:
        if not self.stalled:
            owed, self._owed = self._owed, []
            for batch in owed:
                asyncio.get_running_loop().call_soon(batch.acknowledge)

    def client_connected(self, client: ClientInfo) -> None:
        self.connected.append(client.client_id)
        self._news.set()

    def client_subscribed(self, client: ClientInfo, pattern: str, held: Sequence[bytes]) -> None:
        self.subscribed.append(client.client_id)
        self._news.set()

    def client_disconnected(self, client: ClientInfo, cause: str) -> None:
        self.ended.append((client.client_id, cause))
        self._news.set()

    async def until(self, what: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
        """Wait until something holds, looking at each message; what it gave."""
        async with asyncio.timeout(patience_s):
            while not (found := what()):
                self._news.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), 0.05)
        return found

    def told(self, kind: str, serial: str | None = None) -> list[dict[str, Any]]:
        """What was said of one kind, arrays taken apart; what is no JSON is left out."""
        found: list[dict[str, Any]] = []
        for sender, sort, payload in self.messages:
            if sort != kind or serial not in {None, sender}:
                continue
            with contextlib.suppress(ValueError):
                value = json.loads(payload)
                found += value if isinstance(value, list) else [value]
        return found

    def command(self, serial: str, command_id: str, name: str, **args: Any) -> None:
        """Send a command as the hub does."""
        expires_ms = args.pop("expires_ms", None)
        message = {"id": command_id, "name": name, "args": args} | ({"expires_ms": expires_ms} if expires_ms else {})
        assert self.broker is not None
        self.broker.publish(f"wd/v1/m/{serial}/cmd", json.dumps(message).encode(), qos=1)


class Stage:
    """Modules on one broker."""

    def __init__(self, witness: Witness, address: Address, world: WorldClock) -> None:
        self.witness = witness
        self.address = address
        self.world = world
        self.tasks: list[asyncio.Task[None]] = []

    def module(
        self, serial: str = "SIM1", *, start: bool = True, point: AccessPoint | None = None, **options
    ) -> Module:
        spec = ModuleSpec(serial, "secret", **{"period_ms": 1000, "keep_alive_s": 2} | options)
        point = point or AccessPoint("one")
        radio = Radio(serial, [(point, Spot(4.0, 1))])
        now_us = self.world.now_us()
        module = Module(spec, self.world, radio, Meter(serial, SimpleHome(serial), now_us), lambda: self.address)
        module.tally.ledger = set()
        if start:
            self.start(module)
        return module

    def start(self, module: Module) -> None:
        self.tasks.append(asyncio.create_task(module.run()))

    async def online(self, *modules: Module) -> None:
        await self.witness.until(lambda: all(module.online for module in modules))


@contextlib.asynccontextmanager
async def stage(scale: float = 10.0) -> AsyncIterator[Stage]:
    """A broker and a world that runs so fast; at the end a module that died of a fault fails the test."""
    witness = Witness()
    options = BrokerOptions(allow_anonymous=True)
    broker = NativeBroker(options, [Listener("mqtt", 0, ("127.0.0.1",))], None, witness)
    witness.broker = broker
    await broker.start()
    host, port = broker.addresses()["mqtt"]
    found = Stage(witness, Address(host, port), WorldClock(scale))
    try:
        yield found
        for task in found.tasks:
            if task.done():
                task.result()
    finally:
        for task in found.tasks:
            task.cancel()
        await asyncio.gather(*found.tasks, return_exceptions=True)
        await broker.stop()
