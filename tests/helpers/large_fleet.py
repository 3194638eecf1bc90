"""A fleet of any size in a registry within seconds: sites, pairings, tags, firmware; and how fast lists of it are.

By hand: `python -m tests.helpers.large_fleet 48000` starts a hub on such a fleet, lets readings flow through its live
state, and prints how long the list, one module and searches take over HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import secrets
import statistics
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
import sqlalchemy as sa

from app.domain.credentials import hash_secret
from app.domain.people import ROLE_SCOPES, Principal, Role
from app.domain.settings import ListenSettings, Settings, TlsSettings
from app.hub.data_directory import DataDirectory
from app.hub.event_loop import new_event_loop
from app.hub.hub import running_hub
from app.stores.registry.models import Module, ModuleTag, table
from app.stores.registry.provisioning import Template, module_ids
from app.stores.registry.records import ModuleFacts, NewSite
from app.stores.registry.registry import Registry

CITIES = ("Lyon", "Paris", "Saint-Étienne", "Besançon", "Nîmes", "Évreux", "Angers", "Brest", "Le Mans", "Orléans")
STREETS = (
    "rue des Lilas",
    "avenue Jean Jaurès",
    "allée de l'Église",
    "place Bellecour",
    "chemin du Bois",
    "quai Perrache",
)
TAGS = ("pilot", "north", "south", "recall-7", "school")
FIRMWARE = ("2.4.1", "2.4.2", "2.5.0", None)
SETTINGS = Settings(
    listen=ListenSettings(mqtt_hosts=("127.0.0.1",), mqtt_port=0, mqtts_port=0, operators_port=0, api_port=0),
    tls=TlsSettings(enabled=False),
)


def fill(registry: Registry, count: int, *, seed: int = 1) -> list[str]:
    """Register so many modules, each with a site of its own; their serials."""
    draw = random.Random(seed)
    serials = [f"WD{number:06d}" for number in range(1, count + 1)]
    sites = registry.add_sites(
        [
            NewSite(
                city=draw.choice(CITIES),
                street=f"{draw.randint(1, 200)} {draw.choice(STREETS)}",
                postcode=f"{draw.randint(1000, 95999):05d}",
                delivery_point=f"{draw.randrange(10**14):014d}",
            )
            for _ in serials
        ]
    )
    registry.provision_many(serials, Template(sites=tuple(sites), hardware="HW2"))
    registry.set_facts_of_many(
        {
            serial: ModuleFacts(firmware=draw.choice(FIRMWARE), meter_serial=f"02{draw.randrange(10**10):010d}")
            for serial in serials
        }
    )
    with registry.writing() as connection:
        ids = module_ids(connection, serials)
        tagged = [{"module_id": ids[serial], "tag": draw.choice(TAGS)} for serial in serials if draw.random() < 0.3]
        if tagged:
            connection.execute(sa.insert(table(ModuleTag)), tagged)
        connection.execute(sa.update(Module).values(note="from the factory"))
    return serials


async def measure(count: int, folder: Path) -> None:
    """Print the times of one run."""
    directory = DataDirectory(folder / "data")
    directory.make()
    begin = time.perf_counter()
    with contextlib.closing(Registry.open(directory.registry)) as registry:
        fill(registry, count)
    print(f"registered {count} modules in {time.perf_counter() - begin:.1f} s")
    begin = time.perf_counter()
    async with running_hub(directory, SETTINGS) as hub:
        print(f"hub started in {time.perf_counter() - begin:.1f} s")
        begin = time.perf_counter()
        await asyncio.to_thread(hub.platform.fleet.load)
        print(f"fleet read anew in {time.perf_counter() - begin:.1f} s")
        token = secrets.token_urlsafe(32)
        principal = Principal("bench", ROLE_SCOPES[Role.ADMIN], role=Role.ADMIN)
        hub.platform.tokens.put(hash_secret(token), principal, None)
        live = hub.platform.fleet._live
        size = len(live.received[:count])
        now_us = time.time_ns() // 1000
        live.arrival_us[:size] = now_us - np.random.default_rng(1).integers(0, 60_000_000, size)
        live.time_us[:size] = live.arrival_us[:size]
        live.received[:size] = 1000
        live.rssi_dbm[:size] = -60
        host, port = hub.addresses["api"]
        questions = (
            "/v1/modules",
            "/v1/modules?limit=1000",
            "/v1/modules?sort=-age_s,city&filter=state:eq:offline",
            "/v1/modules?sort=city,-serial&filter=serial:has:99&limit=200",
            "/v1/modules?filter=tags:eq:pilot&filter=firmware:in:2.4.1|2.5.0&sort=-created_us",
            f"/v1/modules/WD{count // 2:06d}",
            f"/v1/modules/WD{count // 2:06d}/personal",
            f"/v1/search?q=WD{count // 2:06d}",
            "/v1/search?q=12 rue des lil",
            "/v1/search?q=saint-etienne",
            "/v1/search?q=e",
            "/v1/search?q=0234567",
            "/v1/sites?limit=100&filter=city:eq:Lyon&sort=street",
            "/v1/tags",
            "/v1/cities",
        )
        worst_lag = 0.0

        async def watch_lag() -> None:
            nonlocal worst_lag
            while True:
                asked = time.perf_counter()
                await asyncio.sleep(0.001)
                worst_lag = max(worst_lag, time.perf_counter() - asked - 0.001)

        # As hub_command does.
        gc.collect()
        gc.freeze()
        gc.set_threshold(100_000, 50, 1000)
        watching = asyncio.create_task(watch_lag())
        headers = {"Authorization": f"Bearer {token}", "Wattdeck-Purpose": "test"}

        def ask(question: str, times: int) -> list[float]:
            took = []
            with httpx.Client(base_url=f"http://{host}:{port}", headers=headers, timeout=60) as client:
                for _ in range(times):
                    asked = time.perf_counter()
                    client.get(question).raise_for_status()
                    took.append((time.perf_counter() - asked) * 1000)
            return took

        for question in questions:
            await asyncio.to_thread(ask, question, 2)
            worst_lag = 0.0
            took = await asyncio.to_thread(ask, question, 30)
            worst = sorted(took)[int(len(took) * 0.95)]
            print(
                f"{statistics.median(took):7.1f} ms p50 {worst:7.1f} ms p95 {worst_lag * 1000:5.1f} ms lag  {question}"
            )
        watching.cancel()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made, asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(measure(int(sys.argv[1]), Path(made)))
