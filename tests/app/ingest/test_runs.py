"""What the whole-column operations say is what a loop over the rows would."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.ingest.runs import Runs

rows = st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 6)), max_size=30)


@given(rows, st.lists(st.integers(-1, 6), min_size=5, max_size=5))
def test_as_a_loop_would(given_rows, known_values):
    slots = np.array([slot for slot, _value in given_rows], np.intp)
    values = np.array([value for _slot, value in given_rows], np.int64)
    last = np.array(known_values, np.int64)
    highest = last.copy()
    plain_last, plain_highest = list(known_values), list(known_values)
    before, above = [], []
    for slot, value in given_rows:
        before.append(plain_last[slot])
        above.append(plain_highest[slot])
        plain_last[slot] = value
        plain_highest[slot] = max(plain_highest[slot], value)

    runs = Runs(slots)
    assert runs.before(values, last).tolist() == before
    assert runs.highest_before(values, highest).tolist() == above
    runs.update(values, last)
    runs.update_highest(values, highest)
    assert last.tolist() == plain_last
    assert highest.tolist() == plain_highest
