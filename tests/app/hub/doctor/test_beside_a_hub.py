"""The doctor beside a running hub, beside one that stands still, and after a crash; and over the API."""

from __future__ import annotations

import hashlib
import json
import os
import signal

from app.domain.people import Role
from app.hub.bench_tools import HubTools
from tests.app.api.conftest import trial
from tests.e2e.clients import connected, publish, readings
from tests.e2e.conftest import hubs, run_command

__all__ = ["hubs", "trial"]


def doctor(tmp_path):
    done = run_command("doctor", "--data", tmp_path / "data", "--json")
    assert "Traceback" not in done.stderr
    report = json.loads(done.stdout)
    return done.returncode, {one["check"]: one for one in report["findings"]}


def failures(found):
    return {check: one["measured"] for check, one in found.items() if one["state"] == "failed"}


def test_beside_a_hub_a_silent_one_and_after_its_crash(hubs, tmp_path):
    (module,) = HubTools().provision(tmp_path / "data", ["WD1"])
    hub = hubs()
    with connected(hub, serial="WD1", secret=module.secret) as client:
        publish(client, "WD1", *readings(50))
        code, found = doctor(tmp_path)
    assert (code, failures(found)) == (0, {})
    assert f"process {hub.pid}" in found["hub"]["measured"]
    assert f"our own hub (process {hub.pid})" in found["ports.mqtt"]["measured"]
    assert found["hub.commit"]["state"] == "ok"
    assert found["registry"]["measured"].endswith("1 modules")

    os.kill(hub.pid, signal.SIGSTOP)
    code, found = doctor(tmp_path)
    os.kill(hub.pid, signal.SIGCONT)
    assert code == 1
    assert list(failures(found)) == ["hub"]

    hub.kill()
    stored = [
        path
        for pattern in ("registry.sqlite", "registry.sqlite-wal", "*/*.wal")
        for path in (tmp_path / "data").glob(pattern)
    ]
    before = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in stored}
    assert any(path.name.endswith("-wal") for path in before), "the crash left a write-ahead log"
    code, found = doctor(tmp_path)
    assert (code, failures(found)) == (0, {})
    assert found["registry"]["measured"].endswith("1 modules")
    assert {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in stored} == before


async def test_over_the_api(trial):
    answer = await (await trial.client(Role.ADMIN)).get("/v1/doctor")

    assert answer.status_code == 200
    report = answer.json()
    found = {one["check"]: one for one in report["findings"]}
    assert failures(found) == {}
    assert found["hub.commit"]["state"] == "ok"
    assert found["registry"]["state"] == "ok"
    assert (await (await trial.client(Role.SUPPORT)).get("/v1/doctor")).status_code == 403
