"""Parts of texts are found as plain Python finds them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.services.fleet import texts as texts_module
from app.services.fleet.texts import Fit, TextPile

WORDS = st.text(alphabet="abé0 ", max_size=6)


def plain(texts: dict[int, list[tuple[int, str]]], part: str) -> set[tuple[int, int, str, Fit]]:
    found = set()
    for owner, mine in texts.items():
        for label, text in mine:
            if part in text:
                fit = Fit.EXACT if text == part else Fit.PREFIX if text.startswith(part) else Fit.INSIDE
                found.add((owner, label, fit))
    return found


def as_set(matches) -> set[tuple[int, int, Fit]]:
    rows = zip(matches.owners.tolist(), matches.labels.tolist(), matches.fits.tolist(), strict=True)
    return {(owner, label, Fit(fit)) for owner, label, fit in rows}


PUTS = st.lists(st.tuples(st.integers(-3, 3), st.lists(st.tuples(st.integers(0, 2), WORDS), max_size=3)), max_size=12)


@given(puts=st.lists(PUTS, max_size=4), part=st.text(alphabet="abé0 ", min_size=1, max_size=3))
def test_what_was_put_last_is_found_and_nothing_else(puts, part):
    pile = TextPile()
    held: dict[int, list[tuple[int, str]]] = {}
    states = []
    for step in puts:
        for owner, texts in step:
            pile.put(owner, texts)
            held[owner] = texts
        states.append((pile.texts(), plain(held, part)))

    # Earlier states stay as they were, whatever came after.
    for state, expected in states:
        assert as_set(state.find(part)) == expected


def test_texts_that_were_replaced_make_room(monkeypatch):
    monkeypatch.setattr(texts_module, "_LEAST_DEAD", 10)
    pile = TextPile()
    pile.put(1, [(0, "stays")])
    before = pile.texts()
    for number in range(100):
        pile.put(2, [(0, f"number {number}")])
        state = pile.texts()

    assert len(state.owners) < 30
    assert as_set(state.find("number")) == {(2, 0, Fit.PREFIX)}
    assert as_set(state.find("number 99")) == {(2, 0, Fit.EXACT)}
    assert as_set(state.find("number 98")) == set()
    assert as_set(state.find("stays")) == {(1, 0, Fit.EXACT)}
    assert as_set(before.find("stays")) == {(1, 0, Fit.EXACT)}


def test_nothing_is_found_of_nothing():
    pile = TextPile()
    assert as_set(pile.texts().find("a")) == set()
    pile.put(1, [(0, "a")])
    assert as_set(pile.texts().find("")) == set()
    assert as_set(pile.texts().find("a" * 1000)) == set()
