"""The public Eclipse Paho interoperability suites against the native broker, where their folder is named."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from pathlib import Path

import pytest

HELPERS = Path(__file__).resolve().parents[1] / "helpers"
TRIAL, RUNNER = HELPERS / "broker_trial.py", HELPERS / "paho_suite.py"
FOLDER = os.environ.get("WATTDECK_PAHO_SUITES", "")
SETTINGS = (
    "max_keep_alive_s=60",
    "receive_maximum=20",
    "topic_alias_maximum=10",
    'refuse_subscribe=["test/nosubscribe"]',
)
# client_test5.py waits for real expiries and keepalives: about 160 s.
DEADLINE_S = 400


@pytest.mark.slow
@pytest.mark.timeout(DEADLINE_S + 30)
@pytest.mark.skipif(
    not FOLDER, reason="WATTDECK_PAHO_SUITES does not name the interoperability folder of paho.mqtt.testing"
)
@pytest.mark.parametrize(("suite", "tests_in_it"), [("client_test.py", 10), ("client_test5.py", 26)])
async def test_every_test_of_the_suite_passes(suite, tests_in_it):
    words = [word for setting in SETTINGS for word in ("--set", setting)]
    broker = await asyncio.create_subprocess_exec(sys.executable, str(TRIAL), *words, stdout=asyncio.subprocess.PIPE)
    try:
        assert broker.stdout is not None
        port = json.loads((await broker.stdout.readline()).split(b" ", 1)[1])["plain"]
        tests = await asyncio.create_subprocess_exec(
            sys.executable,
            str(RUNNER),
            suite,
            str(port),
            cwd=FOLDER,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(tests.communicate(), DEADLINE_S)
    finally:
        broker.terminate()
        await broker.wait()

    text = output.decode(errors="replace")
    assert tests.returncode == 0, text
    ran = re.search(r"^Ran (\d+) tests", text, re.MULTILINE)
    assert ran is not None
    assert int(ran[1]) >= tests_in_it
