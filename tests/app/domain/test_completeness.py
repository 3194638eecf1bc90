"""The rules of completeness."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.completeness import (
    LARGEST_LOSS,
    SEQUENCE_MODULUS,
    Step,
    Verdict,
    expected_count,
    learned_period_us,
    sequence_step,
    verdict,
)
from app.stores.series.rollup import sequence_steps

S = 1_000_000


@pytest.mark.parametrize(
    ("paired", "period", "count"),
    [
        (600 * S, S, 600),
        (600 * S, 1_500_000, 400),
        (0, S, 0),
        (S, 1_900_000, 1),
        (S, 2_100_000, 0),
        (600 * S, None, None),
    ],
)
def test_expected_is_paired_time_by_period(paired: int, period: int | None, count: int | None) -> None:
    assert expected_count(paired, period) == count


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ((1, 5), (1, 6), (Step.IN_ORDER, 0)),
        ((1, 5), (1, 5), (Step.DUPLICATE, 0)),
        ((1, 5), (1, 9), (Step.LOSS, 3)),
        ((1, 5), (2, 0), (Step.REBOOT, 0)),
        ((1, 5), (1, 4), (Step.BROKEN, 0)),
        ((1, SEQUENCE_MODULUS - 1), (1, 0), (Step.IN_ORDER, 0)),
        ((1, SEQUENCE_MODULUS - 2), (1, 1), (Step.LOSS, 2)),
        ((1, 0), (1, LARGEST_LOSS + 1), (Step.BROKEN, 0)),
        ((None, 5), (None, 6), (Step.IN_ORDER, 0)),
        ((1, None), (1, 6), (None, 0)),
    ],
)
def test_steps_of_the_sequence(
    before: tuple[int | None, int | None], after: tuple[int | None, int | None], found: tuple[Step | None, int]
) -> None:
    assert sequence_step(before, after) == found


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, SEQUENCE_MODULUS - 1)), min_size=2, max_size=20))
def test_columns_follow_the_same_rules(rows: list[tuple[int, int]]) -> None:
    boots, seqs = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    lost, twice, reboot, broken = sequence_steps(boots, seqs)

    wanted = [sequence_step(a, b) for a, b in itertools.pairwise(rows)]
    assert lost.tolist() == [missing for _, missing in wanted]
    for found, kind in ((twice, Step.DUPLICATE), (reboot, Step.REBOOT), (broken, Step.BROKEN)):
        assert found.tolist() == [step is kind for step, _ in wanted]


def test_a_learned_period_is_the_median_gap() -> None:
    assert learned_period_us([0, 10, 20, 95]) == 10
    assert learned_period_us([0, 10, 40]) == 10
    assert learned_period_us([7]) is None
    assert learned_period_us([]) is None


def judged(**facts: object) -> Verdict:
    usual = {"session_open": True, "foreign": False, "will_received": False, "age_us": 0, "period_us": S}
    return verdict(**(usual | {"median_gap_us": S} | facts))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "wanted"),
    [
        ({}, Verdict.FRESH),
        ({"median_gap_us": 1_500_000}, Verdict.FRESH),
        ({"median_gap_us": 1_500_001}, Verdict.LATE),
        ({"median_gap_us": None}, Verdict.FRESH),
        ({"age_us": 3 * S}, Verdict.FRESH),
        ({"age_us": 3 * S + 1}, Verdict.SILENT),
        ({"age_us": 5 * S, "period_us": 2 * S}, Verdict.FRESH),
        ({"age_us": 6 * S + 1, "period_us": 2 * S, "median_gap_us": 9 * S}, Verdict.SILENT),
        ({"session_open": False}, Verdict.OFFLINE),
        ({"session_open": False, "foreign": True}, Verdict.FRESH),
        ({"foreign": True, "will_received": True}, Verdict.OFFLINE),
        ({"foreign": True, "age_us": 60 * S}, Verdict.SILENT),
        ({"foreign": True, "age_us": 60 * S + 1}, Verdict.OFFLINE),
        ({"foreign": True, "age_us": 100 * S, "period_us": 60 * S}, Verdict.FRESH),
        ({"foreign": True, "age_us": 180 * S + 1, "period_us": 60 * S}, Verdict.OFFLINE),
        ({"will_received": True}, Verdict.FRESH),
    ],
)
def test_verdicts(facts: dict[str, object], wanted: Verdict) -> None:
    assert judged(**facts) is wanted
