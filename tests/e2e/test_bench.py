"""Benches whose hub must answer as the real one does."""

from __future__ import annotations

import json

from tests.e2e.conftest import run_command


def test_the_bench_of_the_api_measures_every_kind_of_request_and_reads_its_readings_back():
    flags = "--modules 60 --connections 20 --rate 400 --requests 20 --days 2 --seconds 2 --json"
    # Whether it kept its schedule says something of a quiet machine only, so the exit code is not looked at.
    ran = run_command("bench", "api", *flags.split(), timeout_s=100)

    assert ran.stdout, ran.stderr
    found = json.loads(ran.stdout.splitlines()[-1])
    took = [found[name] for name in ("list_p95_ms", "module_p95_ms", "raw24h_p95_ms", "search_p95_ms")]
    assert all(milliseconds > 0 for milliseconds in took)
    assert found["loop_lag_p99_ms"] >= 0
    assert (found["lost"], found["failed"], found["stored"]) == (0, 0, 800)
    # A day of seconds, not an empty table.
    assert found["raw24h_bytes"] > 100_000
