"""Quantiles from buckets are those of the values, to 5 %."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from device_sim.bench.histogram import Histogram

LATENCIES = st.lists(st.floats(0.002, 1e6, allow_nan=False), min_size=1, max_size=200)


def filled(values):
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    return histogram


@given(LATENCIES, st.floats(0.01, 1.0))
def test_a_quantile_is_the_value_of_that_rank_to_a_bucket(values, q):
    exact = sorted(values)[max(1, math.ceil(q * len(values))) - 1]

    found = filled(values).quantile_ms(q)
    assert found is not None
    assert exact * 0.99 <= found <= exact * 1.06


@given(LATENCIES, LATENCIES)
def test_merging_is_counting_together(left, right):
    merged = filled(left)
    merged.merge(Histogram(filled(right).buckets()))

    assert merged.buckets() == filled(left + right).buckets()


def test_an_empty_histogram_has_no_quantile():
    assert Histogram().quantile_ms(0.5) is None


def test_zero_is_counted():
    histogram = Histogram()
    histogram.add(0.0)

    assert len(histogram) == 1
