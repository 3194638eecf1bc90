"""Runs a native broker by itself, for the public test-suites and for trials by hand.

`python tests/helpers/broker_trial.py [--port N] [--data DIR] [--set NAME=VALUE]... [--ack-ms N] [--route]` prints
`ready PORT PID` and runs until it is stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import gc
import json
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from broker.engine import Batch, ClientInfo
from broker.native.server import NativeBroker
from broker.options import BrokerOptions, Listener, Tls

try:
    import uvloop
except ImportError:
    uvloop = None


class CountingSink:
    """Counts messages below `bench/` and acknowledges them after a while, as a journal would."""

    def __init__(self, ack_s: float) -> None:
        self.ack_s = ack_s
        self.count = 0
        self.waiting: list[Batch] = []

    def open_topic(self, client: ClientInfo, topic: str) -> object | None:
        return topic if topic.startswith("bench/") else None

    def accept(self, batch: Batch) -> None:
        self.count += len(batch.handles)
        if any(batch.guaranteed):
            if not self.waiting:
                asyncio.get_running_loop().call_later(self.ack_s, self._commit)
            self.waiting.append(batch)

    def _commit(self) -> None:
        waiting, self.waiting = self.waiting, []
        for batch in waiting:
            batch.acknowledge()

    def client_connected(self, client: ClientInfo) -> None: ...

    def client_subscribed(self, client: ClientInfo, pattern: str, held: Sequence[bytes]) -> None: ...

    def client_disconnected(self, client: ClientInfo, cause: str) -> None: ...


async def run(options: BrokerOptions, listeners: list[Listener], data: Path | None, ack_s: float) -> None:
    sink = CountingSink(ack_s)
    broker = NativeBroker(options, listeners, None, sink, data_dir=data)
    await broker.start()
    gc.collect()
    gc.freeze()
    print("ready", json.dumps({name: port for name, (_, port) in broker.addresses().items()}), flush=True)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(
        signal.SIGUSR1, lambda: print(json.dumps({"count": sink.count, **broker.counters()}), flush=True)
    )
    await stop.wait()
    await broker.stop()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--tls-port", type=int, default=None)
    parser.add_argument("--certificates", type=Path, default=None)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--ack-ms", type=float, default=0.0)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--plain-asyncio", action="store_true")
    parser.add_argument("--verbose", action="store_true")
    words = parser.parse_args()
    logging.basicConfig(level=logging.DEBUG if words.verbose else logging.WARNING)
    values = {name: json.loads(text) for name, _, text in (item.partition("=") for item in words.set)}
    for name, value in values.items():
        if isinstance(value, list):
            values[name] = tuple(value)
    options = dataclasses.replace(BrokerOptions(allow_anonymous=True), **values)
    listeners = [Listener("plain", words.port)]
    if words.certificates is not None:
        files = Tls(words.certificates / "server.pem", words.certificates / "server.key")
        listeners.append(Listener("tls", words.tls_port or 0, tls=files))
    factory = None if words.plain_asyncio or uvloop is None else uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(run(options, listeners, words.data, words.ack_ms / 1000))


if __name__ == "__main__":
    main()
