"""A hub for the benches' tests: speaks the real wire in a thread, keeps every reading in memory, answers the tools."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from device_sim.bench import wire
from device_sim.bench.tools import EngineName, Listener


class Provisioned(NamedTuple):
    serial: str
    secret: str


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    module: np.ndarray
    seq: np.ndarray
    lag_ms: np.ndarray


class RecordingHub:
    """An MQTT server that stores (serial, seq) of each reading; the shape of a hub process."""

    def __init__(
        self,
        secrets: Mapping[str, str],
        rows: list[tuple[str, int, int]],
        *,
        port: int = 0,
        tls: ssl.SSLContext | None = None,
        lose: int = 0,
        stall_after: float = 0.0,
        stall_s: float = 0.0,
    ) -> None:
        self.pid = os.getpid()
        self.start_s = 0.0
        self.connects = 0
        self.largest_inflight = 0
        self.times: dict[str, list[int]] = {}
        self._secrets = secrets
        self._rows = rows
        self._tls = tls
        self._lose = lose
        self._stall = (stall_after, stall_s)
        self._running = True
        self._ready = threading.Event()
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)

    def address(self, listener: Listener) -> tuple[str, int]:
        return ("127.0.0.1", self._port)

    def rss_bytes(self) -> int:
        return 100 << 20

    def cpu_s(self) -> float:
        return time.process_time()

    def running(self) -> bool:
        return self._running

    def wait(self, timeout_s: float) -> int:
        raise TimeoutError("a recording hub meets no fail point")

    def sigterm(self, timeout_s: float = 60.0) -> int:
        self.kill()
        return 0

    def kill(self) -> None:
        if self._running:
            self._running = False
            self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join(10)
            self._loop.close()

    def stats(self) -> Mapping[str, float]:
        return {"ingest.shed": 0.0, "commit.committed": float(len(self._rows))}

    async def _serve(self) -> None:
        self._end = asyncio.Event()
        server = await asyncio.start_server(self._client, "127.0.0.1", self._port, ssl=self._tls)
        self._port = server.sockets[0].getsockname()[1]
        self._began = time.monotonic()
        self._ready.set()
        await self._end.wait()
        server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            await self._talk(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serial = ""
        buffer = b""
        while data := await reader.read(65536):
            packets, buffer = wire.split(buffer + data)
            acks = b""
            for first, body in packets:
                if first == 0x10:
                    serial, secret = _credential(body)
                    good = self._secrets.get(serial) == secret
                    self.connects += good
                    writer.write(b"\x20\x02\x00" + (b"\x00" if good else b"\x05"))
                elif first & 0xF0 == 0x30:
                    acks += self._publish(serial, first, body)
                elif first == 0xC0:
                    writer.write(b"\xd0\x00")
                elif first == 0xE0:
                    return
            if acks:
                self.largest_inflight = max(self.largest_inflight, len(acks) // 4)
                await self._stalled()
                writer.write(acks)

    async def _stalled(self) -> None:
        after, stall_s = self._stall
        left = self._began + after + stall_s - time.monotonic()
        if stall_s and left > 0 and time.monotonic() - self._began > after:
            await asyncio.sleep(left)

    def _publish(self, serial: str, first: int, body: bytes) -> bytes:
        length = int.from_bytes(body[:2], "big")
        assert body[2 : 2 + length].decode() == f"wd/v1/m/{serial}/tele"
        rest = body[2 + length :]
        packet_id, payload = (rest[:2], rest[2:]) if first & 0x06 else (b"", rest)
        reading = json.loads(payload)
        if self._lose:
            self._lose -= 1
        else:
            self.times.setdefault(serial, []).append(reading["time_ms"])
            self._rows.append((serial, reading["seq"], round(time.time() * 1000) - reading["time_ms"]))
        return b"\x40\x02" + packet_id if packet_id else b""


class RecordingTools:
    """Bench tools over recording hubs."""

    fail_points: Sequence[str] = ()
    maintenance_settings: Mapping[str, str] = {}

    def __init__(self, **hub: object) -> None:
        self.hubs: list[RecordingHub] = []
        self.settings: list[Mapping[str, str]] = []
        self._hub = hub
        self._secrets: dict[Path, dict[str, str]] = {}
        self._rows: dict[Path, list[tuple[str, int, int]]] = {}

    def provision(self, data_dir: Path, serials: Sequence[str]) -> list[Provisioned]:
        data_dir.mkdir()
        self._secrets[data_dir] = {serial: f"secret of {serial}" for serial in serials}
        return [Provisioned(serial, secret) for serial, secret in self._secrets[data_dir].items()]

    def start_hub(
        self,
        data_dir: Path,
        *,
        engine: EngineName = "native",
        mqtt_port: int = 0,
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 60.0,
    ) -> RecordingHub:
        rows = self._rows.setdefault(data_dir, [])
        self.settings.append(dict(settings or {}))
        self.hubs.append(RecordingHub(self._secrets[data_dir], rows, port=mqtt_port, **self._hub))
        return self.hubs[-1]

    def ca_file(self, data_dir: Path) -> Path:
        raise AssertionError("no TLS here")

    def read_back(self, data_dir: Path, serials: Sequence[str]) -> Stored:
        numbers = {serial: number for number, serial in enumerate(serials)}
        # As the read interface does: one reading per module and instant.
        rows = {(numbers[serial], seq): lag for serial, seq, lag in self._rows[data_dir] if serial in numbers}
        return Stored(
            np.array([module for module, _ in rows], dtype=np.int32),
            np.array([seq for _, seq in rows], dtype=np.int64),
            np.array(list(rows.values()), dtype=np.int64),
        )


def _credential(body: bytes) -> tuple[str, str]:
    fields = []
    at = 10
    while at < len(body):
        length = int.from_bytes(body[at : at + 2], "big")
        fields.append(body[at + 2 : at + 2 + length].decode())
        at += 2 + length
    client_id, username, password = ([*fields, "", ""])[:3]
    assert client_id.removesuffix("-probe") == username
    return username, password
