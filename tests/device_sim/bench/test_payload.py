"""The golden reading with time and sequence overwritten is what the protocol decodes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocol.golden import golden
from device_sim.bench.payload import FIRST_SEQ, LAST_SEQ, Template


@given(st.integers(10**12, 10**13 - 1), st.integers(FIRST_SEQ, LAST_SEQ))
def test_only_time_and_sequence_change(time_ms, seq):
    template = Template.of_json(golden("tele"))
    filled = template.fill(time_ms, seq)

    assert len(filled) == template.size
    assert json.loads(filled) == json.loads(golden("tele")) | {"time_ms": time_ms, "seq": seq}


def test_the_order_of_members_does_not_matter():
    template = Template.of_json(b'{"seq":1, "time_ms" : 2, "note":"100%d"}')

    assert json.loads(template.fill(10**12, FIRST_SEQ)) == {"seq": FIRST_SEQ, "time_ms": 10**12, "note": "100%d"}


@pytest.mark.parametrize("example", [b"{}", b'{"time_ms":1}', b'{"time_ms":1,"seq":2,"seq":3}'])
def test_an_example_without_both_is_refused(example):
    with pytest.raises(ValueError):
        Template.of_json(example)
