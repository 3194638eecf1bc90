"""The states of commands, walked; the catalogue, checked."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from app.domain.commands import (
    CATALOGUE,
    MOST_OPEN_PER_MODULE,
    OPEN_STATES,
    REFUSAL_TEXTS,
    TRANSITIONS,
    CommandState,
    Refusal,
    Target,
    kind_of,
    may_become,
    refusal_of,
    state_of_answer,
    states_before,
)
from app.domain.errors import OperatorInputError

MODULE = Target(1, "A", is_meter=False, dialect="wattdeck", collection="active", is_blocked=False, open_commands=0)


def walks(state, walk=()):
    """Every way through the table from a state."""
    walk = (*walk, state)
    if not TRANSITIONS[state]:
        yield walk
    for following in TRANSITIONS[state]:
        yield from walks(following, walk)


def test_every_way_through_the_table_ends_and_every_state_is_on_one():
    ways = set(walks(CommandState.QUEUED))

    assert {state for way in ways for state in way} == set(CommandState) == set(TRANSITIONS)
    assert ways == {
        ("queued", "cancelled"),
        ("queued", "expired"),
        ("queued", "sent", "expired"),
        ("queued", "sent", "failed"),
        ("queued", "sent", "acknowledged", "failed"),
    }


def test_both_directions_of_the_table_agree():
    for before in CommandState:
        for after in CommandState:
            assert may_become(before, after) == (before in states_before(after))
        assert not may_become(before, before)


def test_what_is_open_may_change_and_what_is_not_may_not_be_sent_again():
    assert all(TRANSITIONS[state] for state in OPEN_STATES)
    for state in set(CommandState) - set(OPEN_STATES):
        assert not may_become(state, CommandState.SENT)
        assert not may_become(state, CommandState.QUEUED)


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("accepted", "acknowledged"),
        ("done", "acknowledged"),
        (None, "acknowledged"),
        ("a word of later firmware", "acknowledged"),
        ("failed", "failed"),
        ("refused", "failed"),
        ("unknown", "failed"),
        ("expired", "expired"),
    ],
)
def test_the_words_of_modules(word, state):
    assert state_of_answer(word) == state
    assert may_become(CommandState.SENT, state_of_answer(word))


def test_names_are_unique_and_fit_the_registry():
    assert len({kind.name for kind in CATALOGUE}) == len(CATALOGUE)
    assert all(len(kind.name) <= 40 for kind in CATALOGUE)


@pytest.mark.parametrize(
    ("name", "given", "says"),
    [
        ("set_period", {}, "needs period_ms"),
        ("set_period", {"period_ms": None}, "needs period_ms"),
        ("set_period", {"period_ms": 99}, "from 100 to 86400000"),
        ("set_period", {"period_ms": 86_400_001}, "from 100 to 86400000"),
        ("set_period", {"period_ms": 1000.0}, "whole number"),
        ("set_period", {"period_ms": True}, "whole number"),
        ("set_period", {"period_ms": "1000"}, "whole number"),
        ("set_period", {"period_ms": 1000, "for_ever": True}, "no argument 'for_ever'"),
        ("send_log", {"level": "loud"}, "one of debug, info, warning, error"),
        ("diagnose", {"deep": True}, "it takes no arguments"),
    ],
)
def test_arguments_that_are_not_allowed_are_refused_with_what_is(name, given, says):
    with pytest.raises(OperatorInputError, match=says):
        kind_of(name).check(given)


def test_arguments_are_kept_in_order_without_what_is_null():
    assert kind_of("send_log").check({"level": "info", "lines": None}) == {"level": "info"}
    assert list(kind_of("send_log").check({"level": "info", "lines": 5})) == ["lines", "level"]


def test_an_unknown_command_is_refused_with_those_there_are():
    with pytest.raises(OperatorInputError, match="reboot"):
        kind_of("explode")


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({}, None),
        ({"is_meter": True}, Refusal.METER),
        ({"dialect": "tasmota"}, Refusal.DIALECT),
        ({"collection": "retired"}, Refusal.RETIRED),
        ({"collection": "paused"}, Refusal.PAUSED),
        ({"is_blocked": True}, Refusal.BLOCKED),
        ({"open_commands": MOST_OPEN_PER_MODULE}, Refusal.TOO_MANY_OPEN),
        ({"open_commands": MOST_OPEN_PER_MODULE - 1}, None),
    ],
)
def test_who_is_left_out_of_many(change, refusal):
    target = dataclasses.replace(MODULE, **change)

    assert refusal_of(target, kind_of("reboot"), of_many=True) is refusal
    assert refusal_of(target, kind_of("reboot")) is (None if refusal is Refusal.PAUSED else refusal)
    assert set(REFUSAL_TEXTS) == set(Refusal)


def test_the_protocol_page_lists_every_command_with_its_arguments():
    page = (Path(__file__).parents[3] / "docs" / "protocol.md").read_text(encoding="utf-8")
    rows = dict(
        re.findall(r"^\| `(\w+)` \| (.*) \|$", page.partition("## The commands")[2].partition("\n## ")[0], re.MULTILINE)
    )

    assert list(rows) == [kind.name for kind in CATALOGUE]
    for kind in CATALOGUE:
        arguments, _, doc = rows[kind.name].rpartition("| ")
        assert doc == kind.doc
        expected = []
        for row in kind.arguments:
            values = " one of " + ", ".join(f"`{one}`" for one in row.choices) if row.choices else ""
            numbers = f" integer {row.minimum} to {row.maximum}" if row.kind is int else ""
            expected.append(f"`{row.name}`{values}{numbers}{', *required*' if row.required else ''}")
        assert arguments.strip(" |") == "; ".join(expected)
