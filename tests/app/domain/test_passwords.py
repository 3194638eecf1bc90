"""What names and passwords of operators may look like."""

from __future__ import annotations

import pytest

from app.domain.errors import OperatorInputError
from app.domain.passwords import check_new_password, is_operator_name, new_one_time_password, normal_password


@pytest.mark.parametrize("name", ["ab", "claire.martin@utility.fr", "A-1_b", "x" * 64])
def test_these_can_be_names(name):
    assert is_operator_name(name)


@pytest.mark.parametrize("name", ["", "a", "x" * 65, "a b", "é-clair", "a\n", "a/b", "a:b", "ab\0", "\u0430dmin"])
def test_these_can_be_none(name):
    assert not is_operator_name(name)


@pytest.mark.parametrize(
    "password",
    ["short", "x" * 11, "x" * 201, "aaaaaaaaaaaaaaa", "123456789012", "Password2024!", "azertyuiop12", "abcdefghijklm"],
)
def test_these_passwords_are_refused(password):
    with pytest.raises(OperatorInputError) as refused:
        check_new_password(password, "claire")
    assert password not in refused.value.text()


@pytest.mark.parametrize("password", ["Claire.Martin", "claire.martin", "claire.martin1", "123claire.martin"])
def test_the_password_is_not_the_name(password):
    with pytest.raises(OperatorInputError, match="name"):
        check_new_password(password, "claire.martin")


@pytest.mark.parametrize("password", ["three quiet geese", "x7#Lq0vv-2pQ", "µ" * 4 + "grüße-aus-köln"])
def test_these_are_taken(password):
    check_new_password(password, "claire")


def test_one_time_passwords_are_taken_and_never_the_same():
    some = {new_one_time_password() for _ in range(100)}

    assert len(some) == 100
    for password in some:
        check_new_password(password, "admin")


def test_an_accent_is_the_same_however_it_was_composed():
    assert normal_password("motdepassé") == normal_password("motdepasse\u0301")
