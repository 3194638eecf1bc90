"""A console's hub: started, used, left behind by a crash, found again, ended."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import paho.mqtt.client as mqtt
import pytest

from app.client.api_call import ApiPlace, call
from app.client.errors import HubDidNotStart, HubNotTrusted, HubRefused, HubUnreachable
from app.client.hub_process import exchange, find_hub, start_hub, stop_hub
from app.hub.bench_tools import HubTools
from app.hub.data_directory import DataDirectory, HubLock
from tests.e2e.clients import connected, publish, readings, stored

ROOT = Path(__file__).parents[3]
WAIT_S = 60
PARENT = """
import json, pathlib, sys, time
from app.client.hub_process import start_hub
started = start_hub(json.loads(sys.argv[1]), pathlib.Path(sys.argv[2]))
print(started.token, flush=True)
time.sleep(600)
"""


@pytest.fixture
def data(tmp_path):
    yield tmp_path / "data"
    with contextlib.suppress(HubDidNotStart):
        if (hub := find_hub(tmp_path / "data")) is not None:
            os.kill(hub.pid, signal.SIGKILL)


def words(data, **settings):
    found = [sys.executable, str(ROOT / "main.py"), "hub", "--data", str(data), "--mqtt-port", "0", "--api-port", "0"]
    for key, value in {"listen.mqtt_hosts": "127.0.0.1", **settings}.items():
        found += ["--set", f"{key}={value}"]
    return found


def eventually(true):
    give_up = time.monotonic() + WAIT_S
    while not (found := true()):
        assert time.monotonic() < give_up
        time.sleep(0.02)
    return found


def be_refused(hub):
    """A log-in that the hub writes a line about."""
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="WD1")
    client.username_pw_set("WD1", "wrong")
    answers = []
    client.on_connect = lambda _client, _data, _flags, reason, _properties: answers.append(reason)
    client.connect(*hub.address("mqtt"))
    client.loop_start()
    eventually(lambda: answers)
    client.disconnect()
    client.loop_stop()
    assert answers[0].is_failure


class Listening:
    """What tests/e2e/clients asks of a hub."""

    def __init__(self, file):
        self.address = file.address


def test_a_hub_outlives_the_console_that_was_killed_and_the_next_one_finds_it(data, tmp_path):
    (module,) = HubTools().provision(data, ["WD1"])
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, json.dumps(words(data)), str(data)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    token = parent.stdout.readline().strip()
    first = find_hub(data)
    assert call(ApiPlace.of(first), "GET", "/v1/statistics", token=token)["ingest.received"] == 0

    os.killpg(parent.pid, signal.SIGKILL) if os.getpgid(parent.pid) == parent.pid else parent.kill()
    parent.wait()
    parent.stdout.close()
    hub = Listening(first)
    # What it logs now has no reader any more.
    be_refused(hub)
    with connected(hub, serial="WD1", secret=module.secret) as client:
        publish(client, "WD1", *readings(20))
    assert [int(row["seq"]) for row in stored(tmp_path, "WD1")] == list(range(20))

    again = find_hub(data)
    assert again == first
    place = ApiPlace.of(again)
    assert call(place, "GET", "/v1/health")["ready"] is True
    with pytest.raises(HubRefused) as refused:
        call(place, "GET", "/v1/statistics")
    assert refused.value.status == 401, "the next console logs in, as anybody does"
    assert call(place, "GET", "/v1/statistics", token=token)["commit.failing"] == 0
    assert "WD1" in (data / "logs" / "hub.log").read_text()

    stop_hub(data)
    assert find_hub(data) is None
    assert [int(row["seq"]) for row in stored(tmp_path, "WD1")] == list(range(20))


def test_the_one_time_token_is_for_one_time_and_the_end_over_the_api_is_noted(data):
    started = start_hub(words(data, **{"listen.api_tls": "always", "tls.enabled": "false"}), data)
    place = ApiPlace.of(started.file)
    assert place.facts.scheme == "https"
    assert "mqtts" not in started.file.listen
    authority = ssl.PEM_cert_to_DER_cert((data / "tls" / "ca.crt").read_text())
    assert place.facts.ca_sha256 == hashlib.sha256(authority).hexdigest()
    with pytest.raises(HubRefused):
        exchange(started.file, started.token)
    with pytest.raises(HubNotTrusted):
        call(
            ApiPlace(place.host, place.port, msgspec.structs.replace(place.facts, certificate_sha256="0" * 64)),
            "GET",
            "/v1/health",
        )
    with pytest.raises(HubUnreachable):
        call(ApiPlace(place.host, place.port, msgspec.structs.replace(place.facts, scheme="http")), "GET", "/v1/health")

    # One that never begins its handshake, and one that is kept without a request.
    half = socket.create_connection((place.host, place.port))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    idle = context.wrap_socket(socket.create_connection((place.host, place.port)))
    began = time.monotonic()
    stop_hub(data, started.token)
    assert time.monotonic() - began < 10, "two seconds for the API, and what else there is"
    half.close()
    idle.close()
    log = (data / "logs" / "hub.log").read_text()
    assert "embedded has asked for the end" in log
    assert started.token not in log
    with pytest.raises(HubUnreachable):
        call(place, "GET", "/v1/health")
    stop_hub(data), "none runs: nothing to do"


def test_a_hub_that_can_not_start_says_why(data):
    with pytest.raises(HubDidNotStart, match=r"listen.api_tls.*'never' is not allowed"):
        start_hub(words(data, **{"listen.api_tls": "never"}), data)
    with pytest.raises(HubDidNotStart, match="No such file"):
        start_hub(
            words(data, **{"listen.api_host": "0.0.0.0", "tls.certificate": "/no.pem", "tls.key": "/no.key"}), data
        )


def test_a_hub_that_is_not_ready_in_time_is_killed(data):
    with pytest.raises(HubDidNotStart, match="not ready within"):
        start_hub([sys.executable, "-c", "import time; time.sleep(600)"], data, timeout_s=0.3)


def test_a_second_hub_on_the_directory_is_refused_with_the_first_one_named(data):
    first = start_hub(words(data), data)
    with pytest.raises(HubDidNotStart, match=f"process {first.file.pid}"):
        start_hub(words(data), data)
    assert find_hub(data) == first.file
    stop_hub(data, first.token)


def test_what_a_killed_hub_said_is_not_believed(data):
    directory = DataDirectory(data)
    directory.make()
    directory.lock.touch()
    directory.status.write_text(json.dumps({"pid": os.getpid(), "listen": {"api": ["127.0.0.1", 1]}}))

    assert find_hub(data) is None


def test_a_hub_that_is_starting_is_waited_for_and_not_for_ever(data):
    directory = DataDirectory(data)
    directory.make()
    lock = HubLock(directory)
    lock.take()
    try:
        with pytest.raises(HubDidNotStart, match="has not said"):
            find_hub(data, wait_s=0.1)
        lock.say({"api": ("0.0.0.0", 8443)})
        assert find_hub(data).address("api") == ("127.0.0.1", 8443)
        directory.status.write_text("{")
        with pytest.raises(HubDidNotStart):
            find_hub(data, wait_s=0.1)
    finally:
        lock.release()
