"""The stories that are shipped, played to a real hub: they are the demonstration and a regression test."""

import json
from pathlib import Path

import pytest

from app.hub.story_tools import StoryTools
from device_sim.story.play import play
from device_sim.story.script import read_story
from tests.e2e.conftest import run_command

STORIES = Path(__file__).parents[3] / "resources" / "stories"
SMALL = """
title: Small
seed: 5
length_s: 60
period_s: 5
fleet: [{city: A, street: S, homes: 2}]
expect:
  - {at_s: 10, states: {live: all}}
  - {at_s: 20, within_s: 1, states: {offline: all}}
"""


@pytest.mark.slow
@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("name", "speed"),
    [("quiet-day", 20), ("wifi-drop", 10), ("bad-access-point", 15), ("frozen-meter", 20), ("power-cut", 10)],
)
async def test_a_story_is_met(name, speed, tmp_path):
    path = STORIES / f"{name}.yaml"
    told = []
    report = await play(read_story(path), path, StoryTools(), tmp_path / "data", speed=speed, tell=told.append)
    assert report.met == len(report.checks) > 0, "\n".join(told)
    assert report.tally["acknowledged"] > report.modules


@pytest.mark.slow
def test_the_command_says_how_many_were_met_and_fails_when_one_was_not(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL, encoding="utf-8")
    words = ("sim", "story", path, "--headless", "--json", "--speed", "10", "--data", tmp_path / "data")
    done = run_command(*words, timeout_s=90)
    found = json.loads(done.stdout)
    assert done.returncode == 1, done.stderr
    assert (found["expectations"], found["met"]) == (2, 1)
    assert [check["met"] for check in found["checks"]] == [True, False]
    assert done.stderr == ""
    again = run_command(*words, timeout_s=60)
    assert again.returncode == 2
    assert "needs a new directory" in again.stderr


def test_a_mistake_in_a_story_is_one_sentence(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("title: 1", encoding="utf-8")
    done = run_command("sim", "story", path)
    assert done.returncode == 2
    assert "bad.yaml" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_shows_every_default():
    done = run_command("sim", "story", "--help")
    assert done.returncode == 0
    assert "default: 1" in done.stdout
