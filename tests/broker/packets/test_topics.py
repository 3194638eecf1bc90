"""Topic names and filters: which match, which cover which, which are none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.packets.topics import covers, is_filter, is_topic, matches, split_share

levels = st.sampled_from(("a", "b", "", "$x"))
names = st.lists(levels, min_size=1, max_size=4).map("/".join).filter(bool)
filters = (
    st.tuples(st.lists(levels | st.just("+"), min_size=0, max_size=4), st.booleans())
    .map(lambda pair: "/".join([*pair[0], "#"] if pair[1] else pair[0]))
    .filter(is_filter)
)


@pytest.mark.parametrize(
    ("pattern", "topic", "expected"),
    [
        ("a/b", "a/b", True),
        ("a/+", "a/b", True),
        ("a/+", "a", False),
        ("a/+", "a/", True),
        ("a/+", "a/b/c", False),
        ("a/#", "a", True),
        ("a/#", "a/b/c", True),
        ("#", "a/b", True),
        ("#", "$SYS/x", False),
        ("+/x", "$SYS/x", False),
        ("$SYS/#", "$SYS/x", True),
        ("/+", "/a", True),
        ("+", "/a", False),
        ("+/+", "/a", True),
        ("a//b", "a//b", True),
        ("A", "a", False),
    ],
)
def test_a_filter_matches(pattern, topic, expected):
    assert matches(pattern, topic) is expected


@given(filters, filters, names)
def test_what_is_covered_is_matched(pattern, wanted, topic):
    if covers(pattern, wanted) and matches(wanted, topic):
        assert matches(pattern, topic)


@given(filters)
def test_a_filter_covers_itself(pattern):
    assert covers(pattern, pattern)


@pytest.mark.parametrize(
    ("pattern", "wanted", "expected"),
    [
        ("m/1/#", "m/1/cmd", True),
        ("m/1/#", "m/+/cmd", False),
        ("m/1/#", "#", False),
        ("#", "m/#", True),
        ("#", "$SYS/#", False),
        ("a/+", "a/#", False),
        ("a/+", "a/+", True),
        ("a/#", "a/#", True),
        ("a/#", "a", True),
        ("a/b", "a/+", False),
    ],
)
def test_a_wider_filter_is_not_covered(pattern, wanted, expected):
    assert covers(pattern, wanted) is expected


@pytest.mark.parametrize("pattern", ["", "a/#/b", "a#", "#a", "+a", "a/b+"])
def test_not_a_filter(pattern):
    assert not is_filter(pattern)


@pytest.mark.parametrize("topic", ["", "a/+", "#"])
def test_not_a_topic(topic):
    assert not is_topic(topic)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("a/b", (None, "a/b")),
        ("$share/g/a/b", ("g", "a/b")),
        ("$share/g", None),
        ("$share//a", None),
        ("$share/g/", None),
        ("$share/g+/a", None),
        ("$share/g/a#", None),
        ("$SYS/x", (None, "$SYS/x")),
    ],
)
def test_the_share_name_is_split_off(written, expected):
    assert split_share(written) == expected
