"""Story files: what is read, and what is told of a mistake."""

from pathlib import Path

import pytest

from device_sim.story.cast import chosen, plan_homes
from device_sim.story.script import Bounds, StoryMistake, Where, read_story

SHIPPED = sorted((Path(__file__).parents[3] / "resources" / "stories").glob("*.yaml"))
GOOD = """
title: T
seed: 1
length_s: 20
fleet: [{city: A, street: S, homes: 4, access_points: 2}, {city: A, street: R, homes: 2}]
faults: [{at_s: 1, fault: weak_signal, with: {db: 30}}]
expect: [{at_s: 5, states: {live: all}}]
"""


def read(tmp_path, text):
    path = tmp_path / "story.yaml"
    path.write_text(text, encoding="utf-8")
    return read_story(path)


def test_what_is_shipped_is_read_and_says_in_words_what_it_expects():
    assert {path.stem for path in SHIPPED} >= {
        "quiet-day", "wifi-drop", "bad-access-point", "frozen-meter", "power-cut",
    }  # fmt: skip
    for path in SHIPPED:
        story = read_story(path)
        assert story.notes
        assert all(one.say for one in story.expect)


def test_a_neighbourhood_is_the_same_for_the_same_seed(tmp_path):
    story = read(tmp_path, GOOD)
    homes = plan_homes(story)
    assert [home.serial for home in homes] == [f"SIM{number:05d}" for number in range(1, 7)]
    assert [home.spot for home in homes] == [home.spot for home in plan_homes(story)]
    assert [home.spot for home in homes] != [
        home.spot for home in plan_homes(read(tmp_path, GOOD.replace("seed: 1", "seed: 2")))
    ]
    assert len({home.access_point.bssid for home in homes}) == 4


@pytest.mark.parametrize(
    ("where", "numbers"),
    [
        (Where(), [0, 1, 2, 3, 4, 5]),
        (Where(street="S"), [0, 1, 2, 3]),
        (Where(access_point="S/2"), [1, 3]),
        (Where(city="A", homes=1), [0]),
        (Where(street="S", after=3), [3]),
        (Where(city="B"), []),
    ],
)
def test_who_is_meant(tmp_path, where, numbers):
    assert chosen(plan_homes(read(tmp_path, GOOD)), where) == numbers


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("weak_signal", "earthquake", "there is no fault"),
        ("db: 30", "dbm: 30", "knows no 'dbm'"),
        ("states: {live: all}", "", "exactly one"),
        ("states: {live: all}", "states: {live: all}, quarantined: {equals: 0}", "exactly one"),
        ("states: {live: all}", "states: {alive: all}", "alive"),
        ("{at_s: 1,", "{at: 1,", "unknown field"),
        ("{at_s: 1,", "{at_s: 99,", "after the story's end"),
        ("homes: 4", "homes: 0", "homes"),
        ("homes: 4", "homes: 4, distance_m: [9, 2]", "smaller first"),
        ("title: T", "title: [", "YAML"),
        ("title: T", "title: !!python/object/apply:os.system ['true']", "YAML"),
        ("seed: 1", "seed: one", "seed"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_the_file(tmp_path, before, after, said):
    assert before in GOOD
    with pytest.raises(StoryMistake) as caught:
        read(tmp_path, GOOD.replace(before, after, 1))
    assert said in str(caught.value)
    assert "story.yaml" in str(caught.value)


def test_a_file_that_is_not_there_is_a_mistake(tmp_path):
    with pytest.raises(StoryMistake, match="can not be read"):
        read_story(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("bounds", "inside", "outside"),
    [(Bounds(equals=3), [3], [2, 4]), (Bounds(at_least=1, at_most=2), [1, 2], [0.5, 2.5]), (Bounds(), [-1e9], [])],
)
def test_bounds(bounds, inside, outside):
    assert all(bounds.hold(value) for value in inside)
    assert not any(bounds.hold(value) for value in outside)
