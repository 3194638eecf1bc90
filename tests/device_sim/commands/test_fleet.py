"""A fleet of real connections, from its flags to its last line, against a hub that keeps every reading."""

from __future__ import annotations

import argparse
import csv
import json
import ssl

import pytest

from app.domain.errors import EnvironmentFault, OperatorInputError
from device_sim.bench import process
from device_sim.commands import fleet
from tests.device_sim.bench.recording_hub import RecordingTools
from tests.helpers.tls_files import make_tls_files

SERIALS = [f"WD{number:05d}" for number in range(1, 11)]


@pytest.fixture
def tools():
    made = RecordingTools()
    yield made
    for hub in made.hubs:
        hub.kill()


def credentials_file(folder, credentials):
    path = folder / "fleet.csv"
    with path.open("w", newline="") as lines:
        writer = csv.writer(lines)
        writer.writerow(("serial", "username", "secret"))
        writer.writerows((one.serial, one.serial, one.secret) for one in credentials)
    return path


def run(*words):
    parser = argparse.ArgumentParser()
    fleet.add_arguments(parser)
    return fleet.run(parser.parse_args(list(map(str, words))), None)


def last_line(capsys):
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("qos", [0, 1])
def test_every_module_sends_its_share_by_its_own_connection(tools, tmp_path, capsys, qos, processes):
    credentials = tools.provision(tmp_path / "data", SERIALS)
    hub = tools.start_hub(tmp_path / "data")
    host, port = hub.address("mqtt")
    words = ("--hub", f"{host}:{port}", "--modules", 10, "--rate", 500, "--seconds", 2.2, "--qos", qos, "--json")
    code = run(*words, "--credentials", credentials_file(tmp_path, credentials), "--processes", processes)
    stored = tools.read_back(tmp_path / "data", SERIALS)
    captured = capsys.readouterr()
    found = json.loads(captured.out.splitlines()[-1])

    assert code == 0
    assert (found["modules"], found["connected"], found["processes"], found["unsent"]) == (10, 10, processes, 0)
    assert found["sent"] == len(stored.seq) == 1_100
    assert found["acked"] == (1_100 if qos else 0)
    assert found["per_s"] > 0 < found["cpu"]
    assert hub.connects == 10
    lines = [line for line in captured.err.splitlines() if "reconnects" in line]
    assert len(lines) >= 2
    assert all("connected 10 " in line for line in lines)
    assert "10 of 10 connected" in captured.err


def test_more_modules_than_a_process_may_open_files_are_split(tools, tmp_path, capsys, monkeypatch):
    credentials = tools.provision(tmp_path / "data", SERIALS)
    host, port = tools.start_hub(tmp_path / "data").address("mqtt")
    monkeypatch.setattr(process, "files_allowed", lambda: 4)
    words = ("--hub", f"{host}:{port}", "--modules", 10, "--rate", 100, "--seconds", 0.2, "--json")
    assert run(*words, "--credentials", credentials_file(tmp_path, credentials)) == 0

    assert last_line(capsys)["processes"] == 3


def test_over_tls(tmp_path, capsys):
    files = make_tls_files(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    tools = RecordingTools(tls=context)
    credentials = tools.provision(tmp_path / "data", SERIALS)
    hub = tools.start_hub(tmp_path / "data")
    host, port = hub.address("mqtts")
    words = ("--hub", f"{host}:{port}", "--modules", 10, "--rate", 200, "--seconds", 0.5, "--json", "--tls")
    with pytest.raises(OperatorInputError, match="--ca"):
        run(*words)
    code = run(*words, "--ca", files.certificate, "--credentials", credentials_file(tmp_path, credentials))
    hub.kill()

    assert code == 0
    assert last_line(capsys)["sent"] == 100


@pytest.mark.parametrize("words", [("--connect-rate", 20), ("--ramp", 0.5)])
def test_connections_come_at_the_rate_that_was_asked_for(tools, tmp_path, capsys, words):
    credentials = tools.provision(tmp_path / "data", SERIALS)
    host, port = tools.start_hub(tmp_path / "data").address("mqtt")
    path = credentials_file(tmp_path, credentials)
    assert (
        run("--hub", f"{host}:{port}", "--modules", 10, "--seconds", 0.1, "--credentials", path, "--json", *words) == 0
    )

    # Ten at 20/s: half a second, less the tenth that is let through at once.
    assert 0.3 <= last_line(capsys)["connect_s"] < 5


def test_wrong_credentials_are_said_and_no_success(tools, tmp_path, capsys):
    credentials = tools.provision(tmp_path / "data", SERIALS)
    host, port = tools.start_hub(tmp_path / "data").address("mqtt")
    wrong = credentials_file(tmp_path, [one._replace(secret="guessed") for one in credentials])
    with pytest.raises(EnvironmentFault, match="nobody could connect"):
        run("--hub", f"{host}:{port}", "--modules", 3, "--seconds", 0.1, "--credentials", wrong)

    assert "refused with code" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--hub", "nowhere"), "HOST:PORT"),
        (("--hub", "host:99999"), "HOST:PORT"),
        (("--modules", 0), "at least 1"),
        (("--modules", 1, "--rate", 2_000), "at most 1,000"),
        (("--rate", -1), "above 0"),
        (("--seconds", "nan"), "above 0"),
        (("--connect-rate", -1), "below 0"),
        (("--prefix", "a/b"), "no serials"),
        (("--credentials", "/nowhere"), "can not be read"),
    ],
)
def test_mistakes_are_sentences(words, sentence):
    with pytest.raises(OperatorInputError, match=sentence):
        run(*words)


@pytest.mark.parametrize(
    "text",
    ["", "serial,username,secret\n", "a,b\n1,2\n", "serial,username,secret\nWD1,other,x\n", "serial,secret\nWD1,\n"],
)
def test_a_file_that_is_no_list_of_credentials_is_refused(tmp_path, text):
    path = tmp_path / "fleet.csv"
    path.write_text(text)
    with pytest.raises(OperatorInputError):
        run("--credentials", path, "--modules", 1)


def test_each_start_is_a_boot_of_its_own():
    one, two = json.loads(fleet._payload()), json.loads(fleet._payload())

    assert one["boot_id"] != two["boot_id"]
    assert {**one, "boot_id": 0} == {**two, "boot_id": 0}
