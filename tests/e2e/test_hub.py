"""A real hub process, real MQTT, real files: what goes in can be read back, whatever happens to the process."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
import socket
import threading
import time

import pytest

from app.hub.bench_tools import HubTools
from app.protocol.golden import golden
from tests.app.protocol.dsmr import synthetic as dsmr
from tests.e2e.clients import WAIT_S, connected, publish, readings, stored
from tests.e2e.conftest import run_command


def test_acknowledged_readings_survive_kill_9_and_are_read_beside_a_running_hub(hubs, tmp_path):
    (module,) = HubTools().provision(tmp_path / "data", ["WD1"])
    hub = hubs()
    with connected(hub, serial="WD1", secret=module.secret) as client:
        publish(client, "WD1", *readings(20))
        assert [int(row["seq"]) for row in stored(tmp_path, "WD1")] == list(range(20)), "beside a running hub"
        hub.kill()
    assert [int(row["seq"]) for row in stored(tmp_path, "WD1")] == list(range(20)), "after kill -9"

    hub = hubs()
    with connected(hub, serial="WD1", secret=module.secret) as client:
        publish(client, "WD1", *readings(5, first=20))
    assert hub.sigterm() == 0
    rows = stored(tmp_path, "WD1")
    assert [int(row["seq"]) for row in rows] == list(range(25))
    assert rows[0]["power"] == "1000"
    assert rows[0]["power_kind"] == "2"
    day = stored(tmp_path, "WD1", "--every", "1d")
    assert sum(int(row["received"]) for row in day) == 25


def test_the_golden_reading_in_both_encodings(hubs, tmp_path):
    hub = hubs(settings={"broker.allow_anonymous": "true"})
    from app.protocol.golden import golden_cbor

    with connected(hub, client_id="anyone") as client:
        for payload in (golden("tele"), golden_cbor("tele")):
            reading = client.publish("wd/v1/m/WDX/tele", payload, qos=1)
            reading.wait_for_publish(WAIT_S)
    quarantined = hub.stats()["ingest.quarantined"]
    assert hub.stats()["ingest.received"] == 2
    # The example's time is fixed; the day comes when it is too old to be kept as raw.
    assert len(stored(tmp_path, "WDX")) + quarantined in (1, 2)


def test_a_wrong_secret_and_another_modules_topic_are_refused(hubs, tmp_path):
    one, two = HubTools().provision(tmp_path / "data", ["WD1", "WD2"])
    hub = hubs()
    with pytest.raises(AssertionError, match="never connected"), connected(hub, serial="WD1", secret=two.secret):
        pass
    with connected(hub, serial="WD1", secret=one.secret) as client:
        publish(client, "WD2", *readings(3))
        publish(client, "WD1", *readings(3))
    assert hub.sigterm() == 0
    assert stored(tmp_path, "WD2") == []
    assert len(stored(tmp_path, "WD1")) == 3


def test_garbage_is_counted_and_nothing_else_suffers(hubs, tmp_path):
    (module,) = HubTools().provision(tmp_path / "data", ["WD1"])
    hub = hubs()
    with connected(hub, serial="WD1", secret=module.secret) as client:
        for payload in (b"", b"{", b"\xff" * 50, b'{"apparent_va": "much"}', b"[" * 5000, b'{"v": 9}'):
            client.publish("wd/v1/m/WD1/tele", payload, qos=1).wait_for_publish(WAIT_S)
        publish(client, "WD1", *readings(1))
    stats = hub.stats()
    assert stats["refused.empty"] == 1
    assert stats["refused.version"] == 1
    assert sum(count for name, count in stats.items() if name.startswith("refused.")) == 6
    assert len(stored(tmp_path, "WD1")) == 1


def test_births_reach_the_registry(hubs, tmp_path):
    (module,) = HubTools().provision(tmp_path / "data", ["WD1"])
    hub = hubs()
    with connected(hub, serial="WD1", secret=module.secret) as client:
        client.publish("wd/v1/m/WD1/state", golden("state"), qos=1, retain=True).wait_for_publish(WAIT_S)
    from app.stores.registry.registry import Registry

    deadline = time.monotonic() + WAIT_S
    with Registry.open(tmp_path / "data" / "registry.sqlite") as registry:
        while registry.module("WD1").firmware is None:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert registry.module("WD1").firmware == json.loads(golden("state"))["firmware"]


def test_modules_provisioned_beside_a_running_hub_may_connect_at_once(hubs, tmp_path):
    HubTools().provision(tmp_path / "data", ["WD1"])
    hub = hubs()
    answer = run_command("provision", "--data", tmp_path / "data", "NEW1")
    assert answer.returncode == 0, answer.stderr
    secret = next(csv.DictReader(io.StringIO(answer.stdout)))["secret"]

    deadline = time.monotonic() + WAIT_S
    while hub.stats()["modules.known"] < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with connected(hub, serial="NEW1", secret=secret) as client:
        publish(client, "NEW1", *readings(2))
    assert len(stored(tmp_path, "NEW1")) == 2


def test_a_meter_on_a_serial_port_is_a_module_of_its_own(hubs, tmp_path):
    frame = (
        b"\x02\nADCO 012345678912 B\r\nOPTARIF BASE 0\r\nISOUSC 30 9\r\nBASE 002815235 %\r\nPTEC TH.. $\r\n"
        b"IINST 002 Y\r\nIMAX 090 H\r\nPAPP 00430 *\r\nHHPHC A ,\r\x03"
    )
    with _gateway(_with_checksums(frame)) as url:
        hub = hubs(settings={"serial.url": url})
        _wait_for_readings(hub, 3)
        assert hub.sigterm() == 0
    rows = stored(tmp_path, "012345678912")
    assert len(rows) >= 3
    assert {(row["power"], row["power_kind"], row["drawn_wh"]) for row in rows} == {("430", "2", "2815235")}


@pytest.mark.parametrize("protocol", ["auto", "dsmr"])
def test_a_p1_meter_on_a_serial_port_is_a_module_too(hubs, tmp_path, protocol):
    with _gateway(dsmr.netherlands(drawn_kw=0.5, injected_kw=1.25)) as url:
        hub = hubs(settings={"serial.url": url, "serial.protocol": protocol})
        _wait_for_readings(hub, 3)
        assert hub.sigterm() == 0
    rows = stored(tmp_path, dsmr.NETHERLANDS_NUMBER)
    assert len(rows) >= 3
    assert {(row["power"], row["power_kind"], row["drawn_wh"], row["register"]) for row in rows} == {
        ("-750", "1", "2345582", "2")
    }
    (first, *_) = stored(tmp_path, dsmr.NETHERLANDS_NUMBER, "--table", "registers")
    assert (first["register"], first["drawn_wh"]) == ("1", "2100115")
    aux = stored(tmp_path, dsmr.NETHERLANDS_NUMBER, "--table", "aux")
    assert [(row["value"], row["unit"]) for row in aux if row["kind"] == "gas"] == [("246.138", "m3")]
    listed = run_command("modules", "--data", tmp_path / "data").stdout
    assert re.search(rf"{dsmr.NETHERLANDS_NUMBER} +meter +dsmr", listed)


@contextlib.contextmanager
def _gateway(frame):
    """A TCP server that gives a meter's frame five times a second; its URL."""
    server = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve():
        while not stop.is_set():
            try:
                peer, _ = server.accept()
            except OSError:
                return
            with peer:
                while not stop.is_set():
                    try:
                        peer.sendall(frame)
                    except OSError:
                        break
                    stop.wait(0.2)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"socket://127.0.0.1:{server.getsockname()[1]}"
    finally:
        stop.set()
        server.close()


def _wait_for_readings(hub, count):
    deadline = time.monotonic() + WAIT_S
    while hub.stats()["commit.committed"] < count:
        assert time.monotonic() < deadline, hub.stats()
        time.sleep(0.1)


def _with_checksums(frame):
    """The groups of a historique frame with right checksums."""
    out = b""
    for group in frame.split(b"\n"):
        if not group.endswith((b"\r", b"\r\x03")):
            out += group
            continue
        body, _, end = group.partition(b"\r")
        content = body[:-2]
        out += b"\n" + content + b" " + bytes([(sum(content) & 0x3F) + 0x20]) + b"\r" + end
    return out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--set", "ingest.comit_ms=5"], "is no setting; did you mean ingest.commit_ms?"),
        (["--set", "ingest.commit_ms=5"], "it takes a whole number from 10 to 5000"),
        (["--broker", "external"], "no broker is named"),
        (["--serial", "nothing://x"], "nothing://x"),
    ],
)
def test_mistakes_end_the_start_with_a_sentence(tmp_path, words, sentence):
    answer = run_command("hub", "--data", tmp_path / "data", "--mqtt-port", "0", "--api-port", "0", *words)

    assert answer.returncode == 2
    assert sentence in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_second_hub_and_a_taken_port_are_refused(hubs, tmp_path):
    hub = hubs()
    answer = run_command("hub", "--data", tmp_path / "data", "--mqtt-port", "0", "--api-port", "0")
    assert answer.returncode == 2
    assert f"process {hub.pid}" in answer.stderr

    port = hub.address("mqtt")[1]
    answer = run_command("hub", "--data", tmp_path / "other", "--mqtt-port", port, "--api-port", "0")
    assert answer.returncode == 2
    assert str(port) in answer.stderr
    assert "Traceback" not in answer.stderr


def test_reading_what_is_not_there_says_so(tmp_path):
    answer = run_command("read", "--data", tmp_path / "nothing", "--module", "X")
    assert (answer.returncode, "no data directory" in answer.stderr) == (2, True)
    HubTools().provision(tmp_path / "data", ["WD1"])
    answer = run_command("read", "--data", tmp_path / "data", "--module", "X")
    assert (answer.returncode, "no module X" in answer.stderr) == (2, True)
    answer = run_command("read", "--data", tmp_path / "data", "--module", "WD1")
    assert (answer.returncode, "no readings" in answer.stderr) == (0, True)


def test_the_console_is_not_there_yet_and_help_lists_every_command():
    assert run_command().returncode == 2
    answer = run_command("--help")
    for word in ("hub", "read", "provision", "decode", "bench", "test"):
        assert word in answer.stdout
        assert run_command(word, "--help").returncode == 0


def test_sigterm_seals_the_journal_and_leaves_nothing_to_replay(hubs, tmp_path):
    (module,) = HubTools().provision(tmp_path / "data", ["WD1"])
    hub = hubs()
    with connected(hub, serial="WD1", secret=module.secret) as client:
        publish(client, "WD1", *readings(3))
        assert hub.sigterm() == 0
    from app.stores.journal.journal import Journal
    from app.stores.series.schema import INGESTED

    journal = Journal.open(tmp_path / "data" / "journal", INGESTED)
    assert journal.pending() == []


def test_modules_and_refused_messages_are_listed_and_secrets_renewed(hubs, tmp_path):
    data = ("--data", tmp_path / "data")
    answer = run_command("provision", *data, "WD1")
    assert answer.stdout.encode().count(b"\r") == 0
    (first,) = csv.DictReader(io.StringIO(answer.stdout))
    assert "no module is registered" not in run_command("modules", *data).stdout
    assert "WD1" in run_command("modules", *data).stdout
    assert "--renew" in run_command("provision", *data, "WD1").stderr
    (renewed,) = csv.DictReader(io.StringIO(run_command("provision", *data, "WD1", "--renew").stdout))
    assert renewed["secret"] != first["secret"]
    assert "did you mean WD1?" in run_command("read", *data, "--module", "wd1").stderr

    assert run_command("quarantine", *data).stdout == "nothing was refused\n"
    hub = hubs()
    with connected(hub, serial="WD1", secret=renewed["secret"]) as client:
        client.publish("wd/v1/m/WD1/tele", b"{nonsense", qos=1).wait_for_publish(WAIT_S)
        full = {**readings(1)[0], "registers_wh": {"1": 7, "2": 8}, "register": 1, "voltage_2_v": 231, "injected_wh": 3}
        publish(client, "WD1", full)
    assert hub.sigterm() == 0
    assert "syntax" in run_command("quarantine", *data).stdout
    assert [row["drawn_wh"] for row in stored(tmp_path, "WD1", "--table", "registers")] == ["7", "8"]
    assert {row["kind"] for row in stored(tmp_path, "WD1", "--table", "aux")} == {"voltage", "injected_energy"}


def test_nothing_in_the_data_directory_is_for_others(hubs, tmp_path):
    (tmp_path / "data").mkdir(mode=0o755)
    HubTools().provision(tmp_path / "data", ["WD1"])
    hub = hubs(settings={"ingest.segment_seconds": "1"})
    hub.sigterm()

    open_to_others = [path for path in (tmp_path / "data").rglob("*") if path.stat().st_mode & 0o077]
    # The CA's certificate is what clients are given.
    assert (tmp_path / "data").stat().st_mode & 0o077 == 0
    assert [path.name for path in open_to_others] == ["ca.crt"]
