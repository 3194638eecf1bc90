"""Bulk work and delivery in a hub process that is killed: each thing is done once, and nothing is lost."""

from __future__ import annotations

import collections
import contextlib
import csv
import io

import httpx
import pytest

from app.hub.bench_tools import HubTools
from app.hub.data_directory import DataDirectory
from app.stores.failpoints import ENVIRONMENT_VARIABLE
from app.stores.registry.registry import Registry
from tests.e2e.clients import WAIT_S, eventually
from tests.e2e.conftest import run_command
from tests.e2e.test_jobs import client_of
from tests.e2e.test_operations import asked, listening, send

SERIALS = [f"WD{number:04}" for number in range(1, 1001)]


def result_of(client, job_id):
    eventually(lambda: client.get(f"/v1/jobs/{job_id}").json()["state"] not in ("queued", "running"))
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert job["state"] == "done", job
    return list(csv.DictReader(io.StringIO(client.get(f"/v1/jobs/{job_id}/result").text)))


# Steps of 250: the third is killed after its transaction and its row of the file, before it is saved; what is saved
# each half second is the first at most.
@pytest.mark.slow
@pytest.mark.parametrize("action", ["command", "block", "rekey"])
def test_a_bulk_that_is_killed_goes_on_and_does_each_module_once(hubs, tmp_path, action):
    HubTools().provision(tmp_path / "data", SERIALS)
    hub = hubs(environment={ENVIRONMENT_VARIABLE: "job_step:kill@3"})
    parameters = {"action": action, "modules": [*SERIALS, "NOBODY"]}
    if action == "command":
        parameters["name"] = "diagnose"
    with client_of(hub) as client:
        # It may be dead before it has answered.
        with contextlib.suppress(httpx.TransportError):
            client.post("/v1/jobs", json={"kind": "bulk", "parameters": parameters})
        hub.wait(WAIT_S)

    hub = hubs()
    with client_of(hub) as client:
        (job,) = client.get("/v1/jobs").json()["items"]
        rows = result_of(client, job["id"])
        assert [row["serial"] for row in rows] == [*SERIALS, "NOBODY"]
        assert collections.Counter(row["outcome"] for row in rows) == {
            "queued" if action == "command" else "done": 1000,
            "left_out": 1,
        }
        if action == "command":
            assert client.get(f"/v1/commands/bulk/{job['id']}").json()["counts"] == {"queued": 1000}
            assert client.get("/v1/commands?limit=1").json()["total"] == 1000
            assert len({row["command_id"] for row in rows}) == 1001
        else:
            deeds = client.get(f"/v1/actions?filter=what:eq:module.{action}&limit=1").json()
            assert deeds["total"] == 1000
        if action == "rekey":
            with listening(hub, next(row["secret"] for row in rows if row["serial"] == "WD0001"), serial="WD0001"):
                eventually(lambda: asked(hub, "GET", "/v1/statistics")["broker.subscriptions"] == 1)
    if action == "block":
        with Registry.open_to_read(DataDirectory(tmp_path / "data").registry) as registry:
            assert sum(row.blocked for row in registry.credential_rows()) == 1000


@pytest.mark.parametrize("point", ["commands_marked", "commands_taken"])
def test_a_reboot_in_whose_moment_the_hub_is_killed_comes_when_the_module_is_back(hubs, tmp_path, point):
    (provisioned,) = HubTools().provision(tmp_path / "data", ["WD1"])
    hub = hubs(environment={ENVIRONMENT_VARIABLE: f"{point}:kill"})
    first = send(hub, "reboot")
    with listening(hub, provisioned.secret) as module:
        hub.wait(WAIT_S)
        if point == "commands_taken":
            assert module.next() == first
        assert module.got.empty()

    hub = hubs()
    assert asked(hub, "GET", f"/v1/commands/{first}")["state"] == "sent"
    with listening(hub, provisioned.secret) as module:
        assert module.next() == first, "with the same id, by which the module knows it"
        eventually(lambda: asked(hub, "GET", f"/v1/commands/{first}")["sent_us"] is not None)
    hub.kill()

    hub = hubs()
    with listening(hub, provisioned.secret) as module:
        marker = send(hub, "identify")
        assert module.next() == marker, "it was taken"
        module.answer(marker)
        eventually(lambda: asked(hub, "GET", f"/v1/commands/{marker}")["state"] == "acknowledged")
        assert module.got.empty()


def events_of(hub, serial):
    """None of a module that the hub does not know yet."""
    with client_of(hub) as client:
        answer = client.get(f"/v1/modules/{serial}/events")
    return answer.json()["items"] if answer.status_code == 200 else []


def credential_events(hub, serial):
    return sorted(event["details"]["by"] for event in events_of(hub, serial) if event["kind"] == "credential")


def kinds_of(hub, serial):
    return sorted(event["kind"] for event in events_of(hub, serial) if event["kind"] != "log")


def test_what_the_command_line_does_to_credentials_is_on_the_time_line_once(hubs, tmp_path):
    data = tmp_path / "data"
    assert run_command("provision", "--data", data, "WD1", "WD2").returncode == 0
    hub = hubs()
    assert credential_events(hub, "WD1") == ["given"]
    assert run_command("provision", "--data", data, "--renew", "WD1").returncode == 0
    assert run_command("provision", "--data", data, "WD3").returncode == 0
    eventually(lambda: credential_events(hub, "WD1") == ["given", "re-keyed"])
    eventually(lambda: credential_events(hub, "WD3") == ["given"])
    assert credential_events(hub, "WD2") == ["given"]
    csv_file = "serial,city\nWD4,Lyon\n"
    host, port = hub.address("api")
    answer = httpx.post(
        f"http://{host}:{port}/v1/modules/import",
        content=csv_file,
        headers={"Authorization": f"Bearer {hub.token}", "Wattdeck-Purpose": "test", "Content-Type": "text/csv"},
    )
    (credential,) = answer.json()["credentials"]
    # It connects at once, whether the hub's table of modules knows it already or not.
    with listening(hub, credential["secret"], serial="WD4", reconnects=True):
        eventually(lambda: credential_events(hub, "WD4") == ["given"])
        eventually(lambda: kinds_of(hub, "WD4").count("connected") == 1)
    assert hub.sigterm() == 0

    hub = hubs(settings={"registry.adopt_unknown": "yes", "broker.allow_anonymous": "yes"})
    with listening(hub, None, serial="STRANGER") as module:
        module.say({"online": True})
        eventually(lambda: asked(hub, "GET", "/v1/statistics")["modules.known"] == 5)
        eventually(lambda: kinds_of(hub, "STRANGER") == ["born", "connected"])
