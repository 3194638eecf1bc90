"""Each bench from its flags to its last line, on a hub that keeps everything in memory."""

from __future__ import annotations

import argparse
import json
import resource

import pytest

from device_sim.bench import capacity, crash, idle, ingest, measure, overload, rig
from device_sim.bench.idle import flatness
from device_sim.bench.output import CanNotRun, table
from device_sim.bench.overload import Second, recovery_s, stall_end
from device_sim.bench.plan import Ran
from device_sim.bench.sampler import Sample
from tests.device_sim.bench.recording_hub import RecordingTools

COMMON = {
    "engine",
    "connections",
    "qos",
    "seconds",
    "sent",
    "stored",
    "lost",
    "stored_per_s",
    "ack_p50_ms",
    "ack_p99_ms",
    "hub_cpu",
    "hub_rss_mb",
    "connect_s",
    "valid",
}


@pytest.fixture(autouse=True)
def no_schedule(monkeypatch):
    """A machine busy with other tests may fall behind; only `test_behind_schedule` is about that."""
    monkeypatch.setattr(measure, "BEHIND_ALLOWED", 100.0)


def last_line(bench, flags, tools, capsys):
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    try:
        code = bench.run(parser.parse_args([*flags.split(), "--json"]), tools)
    finally:
        for hub in tools.hubs:
            hub.kill()
    return code, json.loads(capsys.readouterr().out.splitlines()[-1])


@pytest.mark.parametrize("qos", [0, 1])
def test_ingest(capsys, qos):
    code, found = last_line(ingest, f"--connections 10 --rate 2000 --seconds 0.5 --qos {qos}", RecordingTools(), capsys)

    assert code == 0
    assert found.keys() >= COMMON
    assert (found["sent"], found["stored"], found["lost"], found["qos"]) == (1000, 1000, 0, qos)
    assert found["valid"] is True
    assert (found["ack_p99_ms"] is not None) == bool(qos)


def test_ingest_tells_a_loss(capsys):
    code, found = last_line(ingest, "--connections 10 --rate 1000 --seconds 0.2", RecordingTools(lose=5), capsys)

    assert code == 1
    assert (found["lost"], found["stored"]) == (5, 195)


def test_ingest_compares_two_engines(capsys):
    tools = RecordingTools()
    code, found = last_line(ingest, "--connections 10 --rate 1000 --seconds 0.2 --engine amqtt", tools, capsys)

    assert code == 0
    assert (found["engine"], found["native"]["engine"]) == ("amqtt", "native")
    assert found["ratio"] == pytest.approx(found["native"]["stored_per_s"] / found["stored_per_s"], rel=0.01)


@pytest.mark.parametrize(
    ("connections", "qos", "tls", "least"),
    [(200, 0, False, 60_000), (16_000, 0, False, 48_000), (1_000, 1, False, 24_000), (4_000, 0, True, 12_000)],
)
def test_default_rates_are_above_what_must_be_shown(connections, qos, tls, least):
    assert least < ingest.default_rate(connections, qos, tls=tls) < least * 1.05


def test_idle(capsys, monkeypatch):
    monkeypatch.setattr(idle, "_SETTLE_S", 0.05)
    code, found = last_line(
        idle, "--connections 10 --rate 500 --seconds 0.8 --warmup 0.2 --reconnects 20", RecordingTools(), capsys
    )

    assert code == 0
    assert found.keys() >= COMMON | {"bytes_per_connection", "rss_growth_percent", "full"}
    assert (found["lost"], found["full"], found["rss_growth_percent"]) == (0, False, 0.0)
    assert found["reconnects"] > 0


def test_crash(capsys):
    tools = RecordingTools()
    code, found = last_line(crash, "--connections 10 --rate 1000 --rounds 1", tools, capsys)

    assert code == 0
    assert found["acked"] > 0
    assert (found["rounds"], found["missing"], found["duplicated"], found["not_reached"]) == (1, 0, 0, [])
    assert found["start_p95_s"] >= 0
    assert len(tools.hubs) == 2


def test_capacity(capsys, monkeypatch):
    monkeypatch.setattr(capacity, "search", lambda carries: [carries(500), carries(1500)])
    code, found = last_line(capacity, "--connections 10 --seconds 0.3", RecordingTools(), capsys)

    assert code == 0
    assert (found["modules_1hz"], found["lost"], found["steps"]) == (1500, 0, 2)
    assert "Python" in found["hardware"]


@pytest.mark.parametrize("carried", [0, 1, 700, 20_000, 47_123, 100_000])
def test_the_search_ends_within_15_percent_below_what_is_carried(carried):
    steps = []

    def carries(modules):
        steps.append(modules)
        return modules <= carried

    found = capacity.search(carries)
    assert carried / 1.15 - 1 <= found <= carried
    assert len(steps) < 25


@pytest.mark.slow
def test_overload_phases(capsys, monkeypatch):
    monkeypatch.setattr(overload, "_PROBE_RATE", 3_000.0)
    monkeypatch.setattr(overload, "_PROBE_SECONDS", 0.3)
    monkeypatch.setattr(overload, "_AFTER_S", 3)
    monkeypatch.setattr(overload, "_NORMAL_ACK_MS", 60_000.0)
    tools = RecordingTools(stall_after=1.5, stall_s=3.0)
    code, found = last_line(overload, "--connections 10 --rate 2000 --seconds 0.3 --stall 3", tools, capsys)
    stall = found["stall"]

    # This hub takes everything at twice the probed rate, so that the first phase shows no overload: that is said.
    assert (code, found["valid"], found["unsent"]) == (1, False, 0)
    assert stall["qos1_missing"] == 0
    assert stall["ack_withheld_ms"] > 2000
    assert stall["recovery_s"] is not None
    assert stall["offered"] == stall["sent"] + stall["unsent"]


def second(acked, *, unsent=0, p99=100.0):
    return Second(unsent=unsent, sent=100, acked=acked, ack_p99_ms=p99 if acked else None, shed=0.0)


def test_recovery_counts_from_the_return_of_acknowledgements():
    calm, still = second(100), second(0, unsent=50)
    seconds = [calm, still, still, still, second(900, p99=3000.0), second(100, unsent=3), calm, calm]

    assert stall_end(seconds) == 4
    assert recovery_s(seconds) == 2.0


def test_no_stall_or_no_recovery_is_no_number():
    calm, still = second(100), second(0, unsent=50)

    assert recovery_s([calm] * 5) is None
    assert recovery_s([calm, still, still]) is None
    assert recovery_s([still, still, second(10, unsent=1)]) is None


def test_flatness_compares_tenths():
    samples = [Sample(float(number), 100 + number // 10) for number in range(100)]

    assert flatness(samples) == (100, 109, pytest.approx(0.09))
    assert flatness([]) == (0.0, 0.0, 0.0)


def test_more_connections_than_files_says_what_to_set():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    with pytest.raises(CanNotRun, match="ulimit -Hn"):
        rig.check_machine(hard + 1)


def test_the_table_lines_up_rows_of_different_columns():
    lines = table([{"a": 1234, "b": True}, {"a": None, "c": 0.1234}]).splitlines()

    assert lines == ["a  1,234      -", "b    yes       ", "c         0.123"]


@pytest.mark.parametrize(
    ("late", "unsent", "seconds", "kept"),
    [(0, 0, 10.0, True), (100, 0, 10.0, True), (60, 41, 10.0, False), (101, 0, 10.0, False), (0, 0, 10.3, False)],
)
def test_behind_schedule(monkeypatch, late, unsent, seconds, kept):
    monkeypatch.setattr(measure, "BEHIND_ALLOWED", 0.01)
    ran = Ran(1, 1, offered=10_000, sent=10_000 - late - unsent, unsent=unsent, late=late, seconds=seconds, cpu_s=0.0)

    assert measure.on_schedule(ran, rate=1_000.0) is kept
