"""Topics of modules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocol import topics
from app.protocol.topics import Kind, ModuleTopic

SERIALS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}", fullmatch=True)


@given(SERIALS, st.sampled_from(list(Kind)))
def test_what_is_built_is_parsed_back(serial, kind):
    topic = topics.build(serial, kind)

    assert topics.parse(topic) == ModuleTopic(serial, kind)
    assert str(ModuleTopic(serial, kind)) == topic


@given(st.text(max_size=80))
def test_any_text_is_parsed_or_refused(text):
    for topic in (text, topics.PREFIX + text, f"{topics.PREFIX}{text}/tele"):
        parsed = topics.parse(topic)

        assert parsed is None or str(parsed) == topic


@pytest.mark.parametrize(
    "topic",
    [
        "wd/v1/m/abc",
        "wd/v1/m/abc/",
        "wd/v1/m//tele",
        "wd/v1/m/abc/TELE",
        "wd/v1/m/abc/tele/x",
        "wd/v1/m/a/b/tele",
        "wd/v2/m/abc/tele",
        "wd/v1/m/+/tele",
        "wd/v1/m/a b/tele",
        "wd/v1/m/-a/tele",
        "wd/v1/m/" + "a" * 33 + "/tele",
        "wd/v1/m/é/tele",
        "wd/v1/m/a\n/tele",
    ],
)
def test_what_is_no_topic_of_a_module_is_none(topic):
    assert topics.parse(topic) is None


@pytest.mark.parametrize("serial", ["", "a/b", "+", "#", "a" * 33, "a\n", "$SYS"])
def test_building_refuses_what_is_no_serial(serial):
    with pytest.raises(ValueError, match="not a module serial"):
        topics.build(serial, Kind.TELE)


def test_a_module_publishes_everything_but_commands():
    assert set(topics.publish_patterns("m1")) == {
        f"wd/v1/m/m1/{kind}" for kind in ("tele", "state", "log", "diag", "fota", "ack")
    }
    assert topics.subscribe_patterns("m1") == ("wd/v1/m/m1/cmd",)
