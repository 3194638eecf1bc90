"""The load processes against a server that keeps every reading: nothing is lost, repeated or invented."""

from __future__ import annotations

import itertools
import ssl
import subprocess
from pathlib import Path

import pytest

from device_sim.bench import peers, rig
from device_sim.bench.balance import balance
from device_sim.bench.histogram import Histogram
from device_sim.bench.plan import Plan, Run
from device_sim.bench.process import LoadError, LoadGroup
from tests.device_sim.bench.recording_hub import Provisioned, RecordingTools

SERIALS = rig.serials(7)


@pytest.fixture
def tools():
    made = RecordingTools()
    yield made
    for hub in made.hubs:
        hub.kill()


@pytest.fixture
def fleet(tools, tmp_path):
    credentials = tools.provision(tmp_path / "data", SERIALS)
    hub = tools.start_hub(tmp_path / "data")
    return hub, credentials


def books(tools, tmp_path, finished):
    return balance(tools.read_back(tmp_path / "data", SERIALS), finished)


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("qos", [0, 1])
def test_what_is_sent_arrives_once(tools, fleet, tmp_path, qos, processes):
    hub, credentials = fleet
    with LoadGroup(rig.plan_for(hub.address("mqtt"), credentials), processes=processes) as load:
        assert load.connect().connected == len(SERIALS)
        first = load.run(Run(rate=2_000, seconds=0.2, qos=qos))
        second = load.run(Run(rate=500, seconds=0.1, qos=qos))
        finished = load.finish()
    found = books(tools, tmp_path, finished)

    assert first.offered > 300
    assert second.first_seq == first.last_seq + 1
    assert found.sent == found.stored == first.offered + second.offered
    assert (found.lost, found.duplicated, found.unexpected) == (0, 0, 0)
    assert found.acked == (found.sent if qos else 0)
    assert finished.unacked == finished.unclosed == finished.acks_out_of_order == 0
    # The stamps of a module never repeat: the store keeps one reading per instant.
    assert all(earlier < later for times in hub.times.values() for earlier, later in itertools.pairwise(times))


def test_a_lost_reading_is_counted_as_lost(tmp_path):
    tools = RecordingTools(lose=3)
    credentials = tools.provision(tmp_path / "data", SERIALS)
    hub = tools.start_hub(tmp_path / "data")
    with LoadGroup(rig.plan_for(hub.address("mqtt"), credentials)) as load:
        load.connect()
        load.run(Run(rate=700, seconds=0.1))
        finished = load.finish()
    hub.kill()

    assert books(tools, tmp_path, finished).lost == 3


def test_latencies_are_of_every_acknowledgement(tools, fleet):
    hub, credentials = fleet
    with LoadGroup(rig.plan_for(hub.address("mqtt"), credentials)) as load:
        load.connect()
        ran = load.run(Run(rate=700, seconds=0.3, qos=1))
        load.finish()

    assert 0 < len(Histogram(ran.latency)) == ran.acked <= ran.offered


def test_the_window_bounds_what_is_in_flight(tools, fleet, tmp_path):
    hub, credentials = fleet
    with LoadGroup(rig.plan_for(hub.address("mqtt"), credentials, window=2)) as load:
        load.connect()
        load.run(Run(rate=5_000, seconds=0.2, qos=1))
        finished = load.finish()

    assert hub.largest_inflight <= 2
    assert books(tools, tmp_path, finished).acked == sum(finished.sent)


def test_reconnects_lose_nothing(tools, fleet, tmp_path):
    hub, credentials = fleet
    with LoadGroup(rig.plan_for(hub.address("mqtt"), credentials)) as load:
        load.connect()
        ran = load.run(Run(rate=1_000, seconds=0.5, reconnects_per_s=60))
        finished = load.finish()
    found = books(tools, tmp_path, finished)

    assert ran.reconnects > 5
    assert hub.connects >= len(SERIALS) + ran.reconnects
    assert found.sent == found.stored == ran.offered


def test_a_hub_that_dies_gets_what_it_had_not_acknowledged_once_more(tools, fleet, tmp_path):
    _, credentials = fleet
    port = peers.free_port()
    with LoadGroup(rig.plan_for(("127.0.0.1", port), credentials, reconnect=True)) as load:
        first = tools.start_hub(tmp_path / "data", mqtt_port=port)
        load.connect()
        load.begin(Run(rate=2_000, seconds=20.0, qos=1))
        while len(tools._rows[tmp_path / "data"]) < 200:
            pass
        first.kill()
        load.interrupt()
        load.ran(20.0)
        tools.start_hub(tmp_path / "data", mqtt_port=port)
        finished = load.finish()
    found = books(tools, tmp_path, finished)

    assert found.acked == found.sent == found.stored == found.offered
    assert (found.missing, finished.unacked) == (0, 0)


def test_an_open_loop_drops_what_a_stalled_hub_does_not_take(tmp_path):
    tools = RecordingTools(stall_s=1.5)
    credentials = tools.provision(tmp_path / "data", SERIALS)
    hub = tools.start_hub(tmp_path / "data")
    plan = rig.plan_for(hub.address("mqtt"), credentials, window=5)
    with LoadGroup(plan) as load:
        load.connect()
        ran = load.run(Run(rate=1_400, seconds=0.5, qos=1, open_loop=True))
        finished = load.finish()
    hub.kill()
    found = books(tools, tmp_path, finished)

    assert ran.unsent > 0
    assert ran.late == 0
    assert found.offered == ran.offered == found.sent + found.unsent
    assert found.sent == found.stored == found.acked


def test_a_wrong_secret_is_refused_and_not_tried_again(tools, fleet):
    hub, credentials = fleet
    wrong = [*credentials[1:], Provisioned(credentials[0].serial, "wrong")]
    with LoadGroup(rig.plan_for(hub.address("mqtt"), wrong)) as load:
        connected = load.connect()

    assert connected.connected == len(SERIALS) - 1
    assert connected.refused == {5: 1}


def test_a_rate_at_which_stamps_would_repeat_is_an_error(tools, fleet):
    hub, credentials = fleet
    with LoadGroup(rig.plan_for(hub.address("mqtt"), credentials[:1])) as load:
        load.connect()
        with pytest.raises(LoadError, match="stamps of one module would repeat"):
            load.run(Run(rate=1_001, seconds=0.1))


@pytest.mark.parametrize("qos", [0, 1])
def test_over_tls(tmp_path, qos):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=hub",
        "-addext",
        "subjectAltName=DNS:hub",
    ]
    try:
        subprocess.run([*words, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    tools = RecordingTools(tls=context)
    credentials = tools.provision(tmp_path / "data", SERIALS)
    hub = tools.start_hub(tmp_path / "data")
    with LoadGroup(rig.plan_for(hub.address("mqtts"), credentials, ca_file=certificate)) as load:
        assert load.connect().connected == len(SERIALS)
        ran = load.run(Run(rate=2_000, seconds=0.3, qos=qos))
        finished = load.finish()
    hub.kill()
    found = books(tools, tmp_path, finished)

    assert found.sent == found.stored == ran.offered


@pytest.mark.skipif(peers.mosquitto_binary() is None, reason="Mosquitto is not installed (apt-get install mosquitto)")
@pytest.mark.parametrize("qos", [0, 1])
def test_against_mosquitto_every_reading_is_delivered(qos):
    rows = peers.measure(connections=20, rate=2_000, qos=qos, seconds=0.5, only=("mosquitto",))

    assert [row["engine"] for row in rows] == ["mosquitto"]
    assert rows[0]["sent"] == rows[0]["delivered"] == 1_000


def test_a_plan_survives_the_pipe():
    import msgspec

    plan = Plan("::1", 1883, [("a", "b")], "{}", ca_file=str(Path("x")))

    assert msgspec.json.decode(msgspec.json.encode(plan), type=Plan) == plan
