"""Real hub processes for end-to-end tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.hub.bench_tools import HubChild, HubTools

ROOT = Path(__file__).parents[2]


def run_command(*words: object, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    """`./run WORDS`, as a user would."""
    return subprocess.run(
        [sys.executable, str(ROOT / "main.py"), *map(str, words)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith("WATTDECK_")},
        check=False,
    )


@pytest.fixture
def hubs(tmp_path):
    """Starts hubs on one data directory; whatever still runs at the end is killed."""
    started: list[HubChild] = []

    def start(**options) -> HubChild:
        hub = HubTools().start_hub(tmp_path / "data", **options)
        started.append(hub)
        return hub

    yield start
    for hub in started:
        hub.kill()
