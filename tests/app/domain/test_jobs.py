"""The states of a job."""

from __future__ import annotations

import pytest

from app.domain.jobs import TRANSITIONS, JobState, may_become, states_before

ALLOWED = {
    ("queued", "running"),
    ("queued", "cancelled"),
    ("running", "queued"),
    ("running", "done"),
    ("running", "failed"),
    ("running", "cancelled"),
}


@pytest.mark.parametrize("before", list(JobState))
@pytest.mark.parametrize("after", list(JobState))
def test_every_pair_of_states(before, after):
    assert may_become(before, after) == ((before.value, after.value) in ALLOWED)
    assert (before in states_before(after)) == may_become(before, after)


def test_every_state_has_its_row_and_can_be_reached():
    assert set(TRANSITIONS) == set(JobState)
    reached, waiting = set(), [JobState.QUEUED]
    while waiting:
        state = waiting.pop()
        if state not in reached:
            reached.add(state)
            waiting += TRANSITIONS[state]

    assert reached == set(JobState)
    assert {state for state in JobState if state.ended} == {JobState.DONE, JobState.FAILED, JobState.CANCELLED}
