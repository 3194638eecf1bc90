"""Operators in the database: lists by SQL are those in memory."""

from __future__ import annotations

import pytest

from app.domain.listing import Comparison, parse_listing
from app.domain.people import Role
from app.stores.registry.operators import COLUMNS, OperatorChange, Operators

GETTERS = {name: (lambda record, name=name: getattr(record, name)) for name in COLUMNS} | {
    "disabled": lambda record: record.disabled_us is not None,
    "role": lambda record: str(record.role),
}
VALUES = {
    "name": ["alice", "BOB", "li", "a%", "_", "\0", "z|BOB"],
    "full_name": ["Alice", "", "a"],
    "role": ["admin", "viewer|auditor"],
    "disabled": ["true", "false", "true|false"],
    "must_change_password": ["true", "false"],
    "password_us": ["2000", "0"],
    "created_us": ["1000", "-5", "1000|2000"],
    "locked_until_us": ["7", "0", "9"],
}


@pytest.fixture
def operators(registry, clock):
    made = Operators(registry)
    people = [("alice", Role.ADMIN), ("BOB", Role.VIEWER), ("carol", Role.VIEWER), ("Dave_", Role.AUDITOR)]
    for number, (name, role) in enumerate(people):
        made.create(name, role, "x", full_name=name.title() if number % 2 else "", actor="test", at_us=1000 * number)
    made.edit("BOB", OperatorChange(disabled=True), version=1, actor="test", at_us=1)
    made.set_password("carol", "y", one_time=False, actor="test", at_us=9)
    made.note_attempts("alice", 5, 7)
    made.note_attempts("Dave_", 5, 9)
    return made


def asked(filters=(), sort="name"):
    return parse_listing(COLUMNS, offset=0, limit=100, sort=sort, filters=filters)


@pytest.mark.parametrize("column", list(COLUMNS))
def test_every_condition_on_every_column_is_that_of_a_list_in_memory(operators, column):
    everybody = operators.page(asked()).rows
    assert len(everybody) == 4
    for comparison in Comparison:
        if comparison is Comparison.HAS and COLUMNS[column].kind is not str:
            continue
        for value in VALUES[column]:
            if "|" in value and comparison is not Comparison.AMONG:
                continue
            listing = asked([f"{column}:{comparison}:{value}"])
            wanted = listing.page(everybody, GETTERS)
            found = operators.page(listing)
            assert (found.total, list(found.rows)) == (wanted.total, list(wanted.rows)), (comparison, value)


@pytest.mark.parametrize("column", list(COLUMNS))
@pytest.mark.parametrize("sign", ["", "-"])
def test_every_order_is_that_of_a_list_in_memory(operators, column, sign):
    listing = asked(sort=f"{sign}{column},name")
    found = operators.page(listing)

    assert list(found.rows) == list(listing.page(operators.page(asked()).rows, GETTERS).rows)


def test_attempts_are_kept_for_names_in_any_case(operators):
    operators.note_attempts("DAVE_", 6, None)
    operators.note_attempts("nobody", 6, None)

    assert sorted(operators.attempts()) == [("Dave_", 6, None), ("alice", 5, 7)]
