"""`./run replay`: what was recorded arrives in a hub and can be read back."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from app.hub.bench_tools import HubTools
from tests.app.protocol.dsmr import synthetic as dsmr
from tests.app.protocol.tic import synthetic as tic
from tests.e2e.clients import WAIT_S, eventually, stored
from tests.e2e.conftest import ROOT, run_command


@pytest.fixture
def started():
    """Starts `./run WORDS` beside the test; what still runs at the end is killed."""
    processes = []

    def start(*words):
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "main.py"), *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if not name.startswith("WATTDECK_")},
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def log_of(serial, count):
    # With times of their own: readings that arrive together without any are one.
    now_ms = time.time_ns() // 1_000_000
    lines = [f'wd/v1/m/{serial}/state {{"online": true, "firmware": "1.2.3"}}']
    for number in range(count):
        reading = {"time_ms": now_ms + number, "boot_id": 1, "seq": number, "apparent_va": 100 + number, "gas_m3": 1.5}
        lines.append(f"wd/v1/m/{serial}/tele {json.dumps(reading)}")
    return "\n".join(lines) + "\n"


def address(hub):
    return "{}:{}".format(*hub.address("mqtt"))


def test_a_log_is_published_with_a_modules_credential_and_stored(hubs, tmp_path):
    (module,) = HubTools().provision(tmp_path / "data", ["WD1"])
    hub = hubs()
    log, password = tmp_path / "log.txt", tmp_path / "password"
    log.write_text(log_of("WD1", 40) + "{ no message\n")
    password.write_text(module.secret + "\n")
    words = ("--hub", address(hub), "--username", "WD1", "--password-file", password, "--speed", "max", "--json")
    answer = run_command("replay", log, *words)

    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout) == {
        "published": 41,
        "acknowledged": 41,
        "refused": 0,
        "bad_lines": 1,
        "line_bytes": 0,
        "line_rounds": 0,
    }
    rows = stored(tmp_path, "WD1")
    assert [int(row["seq"]) for row in rows] == list(range(40))
    aux = stored(tmp_path, "WD1", "--table", "aux")
    assert {(row["kind"], row["value"], row["unit"]) for row in aux} == {("gas", "1.5", "m3")}


def test_what_the_broker_refuses_is_counted_and_told_by_the_exit_code(hubs, tmp_path):
    (module,) = HubTools().provision(tmp_path / "data", ["WD1"])
    hub = hubs()
    log, password = tmp_path / "log.txt", tmp_path / "password"
    log.write_text(log_of("WD1", 2) + log_of("WD2", 3))
    password.write_text(module.secret)
    words = ("--hub", address(hub), "--username", "WD1", "--password-file", password, "--speed", "max")
    answer = run_command("replay", log, *words)

    assert answer.returncode == 1, answer.stderr
    assert answer.stdout.strip() == "published 7, acknowledged 3, refused 4"


def test_a_log_at_its_rate_and_in_older_mqtt(hubs, tmp_path):
    hub = hubs(settings={"broker.allow_anonymous": "true"})
    log = tmp_path / "log.txt"
    log.write_text(log_of("WD1", 10))
    began = time.monotonic()
    answer = run_command("replay", log, "--hub", address(hub), "--rate", "10", "--mqtt-version", "3")

    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == "published 11, acknowledged 11"
    assert time.monotonic() - began >= 1.0
    assert len(stored(tmp_path, "WD1")) == 10


def test_a_wrong_password_and_a_hub_that_is_not_there_are_sentences(hubs, tmp_path):
    HubTools().provision(tmp_path / "data", ["WD1"])
    hub = hubs()
    log, password = tmp_path / "log.txt", tmp_path / "password"
    log.write_text(log_of("WD1", 1))
    password.write_text("wrong")
    refused = run_command("replay", log, "--hub", address(hub), "--username", "WD1", "--password-file", password)
    hub.sigterm()
    absent = run_command("replay", log, "--hub", address(hub))

    assert (refused.returncode, absent.returncode) == (2, 2)
    assert "does not let us in" in refused.stderr
    assert "no broker answers" in absent.stderr
    assert "Traceback" not in refused.stderr + absent.stderr


@pytest.mark.parametrize(
    ("stream", "serial", "drawn"),
    [
        (b"".join(dsmr.netherlands(second) for second in range(5)), dsmr.NETHERLANDS_NUMBER, "2345582"),
        (tic.files()["std_hc_mono.bin"], "041961000017", "12345678"),
    ],
)
def test_a_dump_is_played_to_a_hub_that_reads_its_port(hubs, started, tmp_path, stream, serial, drawn):
    dump = tmp_path / "dump.bin"
    dump.write_bytes(stream)
    player = started("replay", dump, "--tcp", 0, "--speed", 20, "--loop", "--json")
    url = player.stdout.readline().split()[-1]
    assert re.fullmatch(r"socket://127\.0\.0\.1:\d+", url)

    hub = hubs(settings={"serial.url": url})
    eventually(lambda: hub.stats()["commit.committed"] >= 6)
    player.send_signal(signal.SIGINT)
    out, errors = player.communicate(timeout=WAIT_S)
    assert hub.sigterm() == 0
    assert player.returncode == 130, errors
    assert json.loads(out)["line_bytes"] >= len(stream)
    assert stored(tmp_path, serial)[0]["drawn_wh"] == drawn


def test_what_can_not_be_played_is_said_before_anything_is(tmp_path):
    (tmp_path / "log").write_text("a/b 1\n")
    (tmp_path / "dump").write_bytes(dsmr.belgium())
    (tmp_path / "sml").write_bytes(b"\x1b\x1b\x1b\x1b\x01\x01\x01\x01\x76")
    (tmp_path / "empty").write_bytes(b"")
    for words, sentence in (
        (("log",), "--hub HOST:PORT"),
        (("dump",), "--tcp PORT or --serial DEVICE"),
        (("sml",), "SML, which is not read yet"),
        (("empty",), "is empty"),
        (("absent",), "No such file"),
        (("log", "--hub", "nowhere"), "is no address"),
        (("log", "--hub", "localhost:1", "--password-file", "absent"), "password file"),
        (("dump", "--serial", "/dev/absent"), "/dev/absent"),
    ):
        answer = run_command("replay", *(tmp_path / one if (tmp_path / one).exists() else one for one in words))
        assert (answer.returncode, sentence in answer.stderr) == (2, True), (words, answer.stderr)
        assert "Traceback" not in answer.stderr
