"""People and the access log of a real hub process, as somebody at its terminal meets them."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from tests.e2e.conftest import ROOT, run_command

GOOD = "three quiet geese"


class Hub:
    """A hub whose output is read up to `ready`."""

    def __init__(self, data) -> None:
        words = ["--data", str(data), "--mqtt-port", "0", "--api-port", "0", "--set", "tls.enabled=false"]
        self._log = (data.parent / "log").open("a+")
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "main.py"), "hub", *words],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=ROOT,
        )
        self.said = []
        for line in self.process.stdout:
            self.said.append(line.rstrip("\n"))
            if line == "ready\n":
                break

    def said_after(self, word: str) -> str | None:
        return next((line.removeprefix(word) for line in self.said if line.startswith(word)), None)

    def ask(self, method: str, path: str, body=None, token: str = "") -> tuple[int, dict]:
        host, port = self.said_after("listening api ").split()
        request = urllib.request.Request(f"http://{host}:{port}{path}", method=method)
        request.add_header("Content-Type", "application/json")
        if token:
            request.add_header("Authorization", f"Bearer {token}")
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(request, data, timeout=20) as answer:
                return answer.status, json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"{}")

    def log_in(self, password: str) -> tuple[int, dict]:
        return self.ask("POST", "/v1/session", {"name": "admin", "password": password})

    def log(self) -> str:
        self._log.flush()
        self._log.seek(0)
        return self._log.read()

    def stop(self) -> str:
        """What it said after `ready`."""
        self.process.terminate()
        rest, _ = self.process.communicate(timeout=30)
        assert self.process.returncode == 0
        return rest


@pytest.fixture
def start(tmp_path):
    started = []

    def begin() -> Hub:
        started.append(Hub(tmp_path / "data"))
        return started[-1]

    yield begin
    for hub in started:
        if hub.process.poll() is None:
            hub.process.kill()
            hub.process.wait()


def test_the_first_start_tells_a_password_once_and_a_lost_one_is_reset(start, tmp_path):
    hub = start()
    password = hub.said_after("admin-password ")
    assert password is not None
    assert any("one-time password" in line for line in hub.said)
    status, session = hub.log_in(password)
    assert (status, session["must_change_password"]) == (201, True)
    assert hub.ask("PUT", "/v1/me/password", {"old": password, "new": GOOD}, session["token"])[0] == 204
    assert hub.stop() == ""
    assert password not in hub.log()

    hub = start()
    assert hub.said_after("admin-password ") is None
    assert hub.ask("GET", "/v1/me", token=session["token"])[0] == 200
    answer = run_command("operator", "reset", "ADMIN", "--data", tmp_path / "data")
    assert answer.returncode == 0, answer.stderr
    fresh = next(line for line in answer.stdout.splitlines() if line.startswith("one-time-password ")).split()[1]
    # The hub is told by a signal, and takes it over in its own time.
    while hub.ask("GET", "/v1/me", token=session["token"])[0] != 401:
        pass
    assert hub.log_in(GOOD)[0] == 401
    assert hub.log_in(fresh)[1]["must_change_password"] is True
    hub.stop()
    assert fresh not in hub.log()


def test_a_reset_of_somebody_who_is_not_there_changes_nothing(start, tmp_path):
    assert run_command("operator", "reset", "admin", "--data", tmp_path / "none").returncode == 2
    assert not (tmp_path / "none").exists()
    start().stop()
    answer = run_command("operator", "reset", "nobody", "--data", tmp_path / "data")

    assert answer.returncode == 2
    assert "no operator nobody" in answer.stderr


def test_verify_log_beside_a_hub_and_without_one_finds_what_was_changed(start, tmp_path):
    data = tmp_path / "data"
    hub = start()
    beside = run_command("verify-log", "--data", data)
    assert (beside.returncode, beside.stdout.splitlines()[0]) == (0, "entries 0")
    hub.stop()
    _add_entries(data, 5)
    whole = run_command("verify-log", "--data", data)
    assert whole.returncode == 0, whole.stdout
    assert "entries 5" in whole.stdout
    assert "head    5 " in whole.stdout

    with sqlite3.connect(data / "registry.sqlite") as connection:
        connection.execute("UPDATE access_log SET subject = 'site:99' WHERE number = 2")
        connection.execute("DELETE FROM access_log WHERE number = 5")
    connection.close()
    told = run_command("verify-log", "--data", data)
    assert told.returncode == 1
    assert "FAULT: entry 2 was changed" in told.stdout
    assert "FAULT: the end was cut off: entry 5 is missing" in told.stdout
    as_json = json.loads(run_command("verify-log", "--data", data, "--json").stdout)
    assert (as_json["sound"], as_json["entries"], len(as_json["faults"])) == (False, 4, 2)


def _add_entries(data, count: int) -> None:
    from app.domain.people import Principal, Purpose
    from app.hub.data_directory import DataDirectory
    from app.services.access_log import AccessLog
    from app.stores.access_head import AccessHead
    from app.stores.registry.access_entries import AccessEntries
    from app.stores.registry.registry import Registry

    directory = DataDirectory(data)
    with Registry.open(directory.registry) as registry:
        access_log = AccessLog(AccessEntries(registry), AccessHead(directory.access_head), lambda: 10**15)
        access_log.start()
        for number in range(count):
            access_log.note(Principal("claire", frozenset()), Purpose("call"), [f"site:{number}"], ["street"])
        access_log.stop()
