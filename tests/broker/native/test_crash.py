"""A broker in its own process that is killed: what was said to be kept is kept."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sqlite3
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest

from broker.native.sqlite_store import FILE_NAME
from broker.packets import V5, Properties
from tests.helpers.mqtt_peer import RawClient, until
from tests.helpers.tls_files import make_tls_files

TRIAL = Path(__file__).resolve().parents[2] / "helpers" / "broker_trial.py"


@contextlib.asynccontextmanager
async def trial(data: Path, *words: str) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(TRIAL), "--data", str(data), *words, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        line = await process.stdout.readline()
        yield process, json.loads(line.split(b" ", 1)[1])["plain"]
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def stored(data: Path) -> tuple[int, int, int]:
    with contextlib.closing(sqlite3.connect(data / FILE_NAME)) as connection:
        return tuple(  # type: ignore[return-value]
            connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]
            for table in ("retained", "session", "outgoing")
        )


async def test_a_killed_broker_comes_back_with_sessions_and_retained_messages(tmp_path):
    async with trial(tmp_path) as (process, port):
        client = await RawClient.connected(port, "c", V5, properties=Properties(session_expiry_s=1000))
        await client.subscribe(("a/#", 1))
        client.drop()
        writer = await RawClient.connected(port, "w", V5)
        for number in range(20):
            writer.publish(f"a/{number}", str(number).encode(), 1, number + 1, retain=True)
        for _ in range(20):
            await writer.acknowledged()
        await until(lambda: stored(tmp_path) == (20, 1, 20))
        process.kill()
        await process.wait()
    async with trial(tmp_path) as (process, port):
        back = await RawClient.open(port, V5)
        assert (
            await back.connect("c", clean_start=False, properties=Properties(session_expiry_s=1000))
        ).session_present
        got = [await back.message() for _ in range(20)]
        assert [item.payload for item in got] == [str(number).encode() for number in range(20)]
        for item in got:
            back.ack(item.packet_id)
        await back.subscribe(("a/#", 0))
        assert len([await back.message() for _ in range(20)]) == 20
        await until(lambda: stored(tmp_path) == (20, 1, 0))
        process.terminate()
        assert await process.wait() == 0


async def test_tls_workers_do_not_outlive_a_killed_broker(tmp_path):
    if not hasattr(socket, "SO_REUSEPORT") or sys.platform == "darwin":
        pytest.skip("no port can be shared here")
    make_tls_files(tmp_path)
    words = ("--certificates", str(tmp_path), "--tls-port", "0", "--set", "tls_workers=2")
    async with trial(tmp_path, *words) as (process, _port):
        workers = psutil.Process(process.pid).children()
        assert len(workers) == 2
        process.kill()
        await process.wait()

        # A worker nobody has waited for yet counts as gone.
        await until(lambda: not [one for one in workers if one.is_running() and one.status() != psutil.STATUS_ZOMBIE])
