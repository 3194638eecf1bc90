"""`./run bench live`: what the live feed of a fleet costs the hub while readings flow in."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import gc
import json
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from app.bench.fleet_sender import serial_of
from app.domain.credentials import CredentialKind, hash_secret
from app.domain.people import ROLE_SCOPES, Principal, Role
from app.domain.settings import ListenSettings, Settings, TlsSettings
from app.hub.data_directory import DataDirectory
from app.hub.event_loop import new_event_loop
from app.hub.hub import RunningHub, running_hub
from app.hub.loop_lag import LoopLag
from app.stores.registry.registry import Registry

_ROOT = Path(__file__).resolve().parents[2]
_USER = "bench"
_CONNECTIONS = 48
_WARM_UP_S = 90.0
_LIVE_CPU = "live.cpu_ms"


@dataclasses.dataclass(frozen=True, slots=True)
class Phase:
    """What the hub's process did for a while; `live_*` is the feed's own."""

    seconds: float
    readings_per_s: float
    cpu_share: float
    live_cpu_share: float
    live_loop_share: float
    live_loop_longest_ms: float
    lag_p50_ms: float
    lag_p99_ms: float
    lag_max_ms: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of the bench."""
    parser.add_argument("--modules", type=int, default=48_000, help="modules, each with a reading a second")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long without, and how long with a subscriber")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")


def run(args: argparse.Namespace, _tools: object) -> int:
    """Measure and print; 1 when nothing came, or not of all modules."""
    with (
        tempfile.TemporaryDirectory(prefix="wattdeck-bench-") as folder,
        asyncio.Runner(loop_factory=new_event_loop) as runner,
    ):
        found = runner.run(_measure(Path(folder), args.modules, args.seconds))
    for key, value in found.items():
        print(f"{key:24} {json.dumps(value)}")
    if args.json:
        print(json.dumps(found))
    return 0 if found["valid"] else 1


async def _measure(folder: Path, modules: int, seconds: float) -> dict[str, Any]:
    directory = DataDirectory(folder)
    directory.make()
    with Registry.open(directory.registry) as registry:
        registry.ensure_modules([serial_of(number) for number in range(modules)])
        secret = registry.add_credential(_USER, CredentialKind.SERVICE, publish=("wd/v1/m/+/tele",))
    listen = ListenSettings(mqtt_hosts=("127.0.0.1",), mqtt_port=0, operators_hosts=("127.0.0.1",), api_port=0)
    async with running_hub(directory, Settings(listen=listen, tls=TlsSettings(enabled=False))) as hub:
        # As the hub's own command does.
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 1000)
        with _fleet(hub, secret, modules):
            await _warm(hub, modules)
            without = await _phase(hub, seconds)
            grant = await asyncio.to_thread(_granted, hub)
            subscriber = _child("app.bench.live_subscriber")
            try:
                assert subscriber.stdin is not None
                subscriber.stdin.write(json.dumps(grant) + "\n")
                subscriber.stdin.flush()
                await asyncio.to_thread(_wait_listening, subscriber)
                with_one = await _phase(hub, seconds)
                came = json.loads((await asyncio.to_thread(subscriber.communicate))[0])
            finally:
                subscriber.kill()
    return _told(modules, without, with_one, came)


def _told(modules: int, without: Phase, with_one: Phase, came: dict[str, Any]) -> dict[str, Any]:
    ages = sorted(came["ages_ms"])
    messages = len(ages)
    valid = messages >= with_one.seconds - 3 and set(came["rows"]) == {modules} and came["fresh"][-1] > 0.99 * modules
    return {
        "modules": modules,
        "valid": valid,
        "without": dataclasses.asdict(without),
        "with_subscriber": dataclasses.asdict(with_one),
        "messages": messages,
        "bytes_per_message": round(statistics.mean(came["sizes"])) if messages else 0,
        "age_ms_p50": round(statistics.median(ages), 1) if messages else None,
        "age_ms_max": round(ages[-1], 1) if messages else None,
        "modules_fresh": came["fresh"][-1] if messages else 0,
        "decode_ms": round(came["decode_s"] / messages * 1000, 2) if messages else None,
    }


async def _warm(hub: RunningHub, modules: int) -> None:
    """Until each module has had its say, and the first commits are done."""
    deadline = time.monotonic() + _WARM_UP_S
    while hub.statistics()["ingest.kept"] < 12 * modules and time.monotonic() < deadline:  # noqa: ASYNC110 - counters
        await asyncio.sleep(0.25)


async def _phase(hub: RunningHub, seconds: float) -> Phase:
    lag = LoopLag()
    watching = asyncio.create_task(lag.run())
    before, began, cpu = hub.statistics(), time.monotonic(), time.process_time()
    await asyncio.sleep(seconds)
    after, cpu, passed = hub.statistics(), time.process_time() - cpu, time.monotonic() - began
    watching.cancel()

    def share(name: str) -> float:
        return round((after[name] - before[name]) / 1000 / passed, 4)

    return Phase(
        round(passed, 1),
        round((after["ingest.received"] - before["ingest.received"]) / passed),
        round(cpu / passed, 3),
        share(_LIVE_CPU),
        share("live.loop_ms"),
        round(after["live.loop_longest_ms"], 2),
        round(lag.percentile_ms(50), 2),
        round(lag.percentile_ms(99), 2),
        round(lag.percentile_ms(100), 2),
    )


@contextlib.contextmanager
def _fleet(hub: RunningHub, secret: str, modules: int) -> Iterator[None]:
    host, port = hub.addresses["mqtt"]
    sender = _child("app.bench.fleet_sender", host, str(port), _USER, str(modules), str(_CONNECTIONS))
    try:
        assert sender.stdin is not None
        sender.stdin.write(secret + "\n")
        sender.stdin.flush()
        yield
    finally:
        sender.kill()
        sender.wait()


def _child(module: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=_ROOT
    )


def _wait_listening(subscriber: subprocess.Popen[str]) -> None:
    assert subscriber.stdout is not None
    subscriber.stdout.readline()


def _granted(hub: RunningHub) -> dict[str, Any]:
    token = secrets.token_urlsafe(32)
    hub.platform.tokens.put(hash_secret(token), Principal("bench", ROLE_SCOPES[Role.ADMIN]), None)
    host, port = hub.addresses["api"]
    request = urllib.request.Request(
        f"http://{host}:{port}/v1/live-grants",
        json.dumps({"scope": "fleet"}).encode(),
        {"Authorization": f"Bearer {token}", "Content-Type": "application/json", "Wattdeck-Purpose": "bench"},
        method="POST",
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - our own API
        found: dict[str, Any] = json.load(answer)
    return found
