"""Texts as a search compares them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.folding import folded


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12  Allée de l\u2019Œuvre ", "12 allee de l'oeuvre"),
        ("SAINT-ÉTIENNE", "saint-etienne"),
        ("Saint\u2013E\u0301tienne", "saint-etienne"),
        ("Straße", "strasse"),
        ("Łódź", "lodz"),
        ("\t", ""),
    ],
)
def test_what_is_left_of_a_text(text, expected):
    assert folded(text) == expected


@given(st.text())
def test_folding_twice_is_folding_once(text):
    assert folded(folded(text)) == folded(text)
