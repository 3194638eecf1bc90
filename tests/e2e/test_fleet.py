"""`./run sim fleet` at a real hub: what it says it sent is what the hub has stored."""

from __future__ import annotations

import json

from app.hub.bench_tools import HubTools
from tests.e2e.conftest import run_command


def test_a_provisioned_fleet_is_stored_as_it_was_sent(hubs, tmp_path):
    provisioned = run_command("provision", "--data", tmp_path / "data", "--count", 20)
    credentials = tmp_path / "fleet.csv"
    credentials.write_text(provisioned.stdout)
    hub = hubs()
    host, port = hub.address("mqtt")
    words = ("--modules", 20, "--rate", 400, "--seconds", 2, "--qos", 1, "--credentials", credentials, "--json")
    answer = run_command("sim", "fleet", "--hub", f"{host}:{port}", *words)
    assert answer.returncode == 0, answer.stderr
    found = json.loads(answer.stdout.splitlines()[-1])
    assert hub.sigterm() == 0
    stored = HubTools().read_back(tmp_path / "data", [f"WD{number:05d}" for number in range(1, 21)])

    assert (found["connected"], found["sent"], found["acked"]) == (20, 800, 800)
    assert len(stored.seq) == 800
