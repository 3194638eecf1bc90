"""A simulated Linky on a line, read by a real hub: over TCP as over a pseudo terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.e2e.clients import WAIT_S, stored
from tests.e2e.conftest import ROOT


@contextlib.contextmanager
def meter(*words):
    """`./run sim tic` until the end of the block; gives the process and where it listens."""
    command = [sys.executable, str(ROOT / "main.py"), "sim", "tic", *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        said, _, where = process.stdout.readline().strip().partition(" ")
        assert said == "listening"
        yield process, where
    finally:
        process.kill()
        process.wait(WAIT_S)
        process.stdout.close()


def wait_for(hub, count):
    deadline = time.monotonic() + WAIT_S
    while hub.stats()["commit.committed"] < count:
        assert time.monotonic() < deadline, hub.stats()
        time.sleep(0.1)


def test_a_hub_stores_the_readings_of_a_standard_meter_on_tcp(hubs, tmp_path):
    words = ("--mode", "standard", "--contract", "tempo", "--phases", 3, "--producer", "--power", -3000, "--seed", 7)
    with meter("--tcp", 0, *words) as (process, where):
        host, port = where.split()
        hub = hubs(settings={"serial.url": f"socket://{host}:{port}"})
        wait_for(hub, 4)
        assert hub.stats()["ingest.quarantined"] == 0
        assert hub.sigterm() == 0
        assert process.poll() is None, "a meter does not end with its reader"
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
    rows = stored(tmp_path, "041976000007")
    assert len(rows) >= 4
    assert {(row["power"], row["power_kind"]) for row in rows} == {("-3093", "2")}
    assert len({row["drawn_wh"] for row in rows}) == 1


@pytest.mark.skipif(os.name == "nt", reason="this system has no pseudo terminals")
def test_a_hub_stores_the_readings_of_a_historique_meter_on_a_pseudo_terminal(hubs, tmp_path):
    with meter("--pty", "--mode", "historique", "--contract", "hchp", "--power", 1843, "--seed", 8) as (process, path):
        hub = hubs(settings={"serial.url": path})
        wait_for(hub, 2)
        assert hub.sigterm() == 0
        process.send_signal(signal.SIGINT)
        assert process.wait(WAIT_S) == 0
    rows = stored(tmp_path, "041961000008")
    assert len(rows) >= 2
    assert {row["power"] for row in rows} == {"1900"}
