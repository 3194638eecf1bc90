"""Value templates: what the subset reads, what it refuses, and that nothing of a template is ever run."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocol.value_template import (
    MAX_LENGTH,
    UNDEFINED,
    NoValue,
    UnreadableTemplate,
    ValueTemplate,
)

MESSAGE = {
    "power": 1234.56,
    "text": "12.5",
    "word": "on",
    "nothing": None,
    "list": [{"a": 7}, 8],
    "deep": {"er": {"value": 3}},
    "odd key": 5,
    "BBRHCJB": {"raw": "000001234", "value": 1234},
    "zero": 0,
    "yes": True,
}


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("{{ value }}", "raw"),
        ("{{value}}", "raw"),
        ("{{- value -}}", "raw"),
        ("  {{ value_json.power }}\n", 1234.56),
        ("{{ value_json.deep.er.value }}", 3),
        ("{{ value_json['deep']['er'].value }}", 3),
        ('{{ value_json["odd key"] }}', 5),
        ("{{ value_json.list[0].a }}", 7),
        ("{{ value_json.list[1] }}", 8),
        ("{{ value_json['list'][0]['a'] }}", 7),
        ("{{ value_json.BBRHCJB.value }}", 1234),
        ("{{ value_json.text | float }}", 12.5),
        ("{{ value_json.text|float(0) }}", 12.5),
        ("{{ value_json.word|float(0) }}", 0),
        ("{{ value_json.missing|float(0) }}", 0),
        ("{{ value_json.text|int }}", 12),
        ("{{ value_json.word|int(-1) }}", -1),
        ("{{ value_json.power|round(1) }}", 1234.6),
        ("{{ value_json.power|round }}", 1235),
        ("{{ value_json.power|float|round(0)|int }}", 1235),
        ("{{ value_json.power / 1000 }}", 1.23456),
        ("{{ value_json.power * 2 }}", 2469.12),
        ("{{ value_json.list[1] + 2 }}", 10),
        ("{{ value_json.list[1] - 2 }}", 6),
        ("{{ value_json.list[1] - 2 - 1 }}", 5),
        ("{{ -value_json.list[1] }}", -8),
        ("{{ 2 + 3 * 4 }}", 14),
        ("{{ (2 + 3) * 4 }}", 20),
        # A filter binds closer than arithmetic, as in Jinja.
        ("{{ value_json.text|float / 2 | round(0) }}", 6.25),
        ("{{ (value_json.text|float / 2) | round(0) }}", 6),
        ("{{ float(value_json.text) * 2 }}", 25),
        ("{{ float(value_json.missing, 4) }}", 4),
        ("{{ int(value_json.text) }}", 12),
        ("{{ value_json.missing | default(0) }}", 0),
        ("{{ value_json.missing|default(value_json.zero) }}", 0),
        ("{{ value_json.zero | default(9) }}", 0),
        ("{{ value_json.zero | default(9, true) }}", 9),
        ("{{ value_json.missing.deeper | default(1) }}", 1),
        ("{{ value_json.power | is_defined }}", 1234.56),
        ("{{ value_json.nothing }}", None),
        ("{{ 'on' if value_json.yes else 'off' }}", "on"),
        ("{{ value_json.power if value_json.power is defined else 0 }}", 1234.56),
        ("{{ value_json.x if value_json.x is defined else 0 }}", 0),
        ("{{ 1 if value_json.word == 'on' else 0 }}", 1),
        ("{{ 1 if value_json.power > 2000 else 2 if value_json.power > 1000 else 3 }}", 2),
        ("{{ 1 if value_json.x is not defined and not value_json.zero else 0 }}", 1),
        ("{{ 1 if value_json.zero or value_json.yes else 0 }}", 1),
        ("{{ 1 if value_json.nothing is none else 0 }}", 1),
        ("{{ value_json.word | upper }}", "ON"),
        ("{{ value_json.power | multiply(10) }}", 12345.6),
        ("{{ value_json.list[1] | add(1) }}", 9),
    ],
)
def test_what_is_read(template, expected):
    found = ValueTemplate(template).value("raw", MESSAGE)
    assert found == pytest.approx(expected) if isinstance(expected, float) else found == expected


@pytest.mark.parametrize(
    "template",
    [
        "{{ value_json.missing }}",
        "{{ value_json.missing.deeper }}",
        "{{ value_json.missing | is_defined }}",
        "{{ value_json.word | float }}",
        "{{ value_json.power / 0 }}",
        "{{ value_json.word / 2 }}",
        "{{ value_json.word * 1000000000 }}",
        "{{ value_json.yes * 2 }}",
        "{{ value_json.nothing + 1 }}",
        "{{ value_json.list[9] }}",
        "{{ value_json.list.a }}",
        "{{ value_json.word > 3 }}",
        "{{ value_json.power | round(10000) }}",
        "{{ 1e300 * 1e300 | float }}",
    ],
)
def test_no_value(template):
    readable = ValueTemplate(template)
    try:
        found = readable.value("raw", MESSAGE)
    except NoValue:
        return
    assert found == float("inf"), "only infinity may come out of here, and a number's check stops that"


def test_json_of_a_payload_that_is_none():
    with pytest.raises(NoValue):
        ValueTemplate("{{ value_json.power }}").value("online", UNDEFINED)
    assert ValueTemplate("{{ value_json.power | default(3) }}").value("online", UNDEFINED) == 3
    assert ValueTemplate("{{ value_json.power }}").needs_json
    assert not ValueTemplate("{{ value | float }}").needs_json


def test_the_keys_are_told():
    assert ValueTemplate("{{ value_json['METER'].P }}").keys == ("METER", "P")


@pytest.mark.parametrize(
    "template",
    [
        "",
        "42",
        "value",
        "{{ }}",
        "{{ value",
        "{{ value }} W",
        "{{ value }}{{ value }}",
        "{% if value %}1{% endif %}",
        "{# note #}",
        "{{ as_datetime(value) }}",
        "{{ states('sensor.x') }}",
        "{{ now() }}",
        "{{ value.split(';')[0] }}",
        "{{ value.__class__ }}|",
        "{{ value_json.items() }}",
        "{{ ''.__class__.__mro__ }}{}",
        "{{ value | attr('__class__') }}",
        "{{ value | map('int') }}",
        "{{ value ** 9 }}",
        "{{ value // 9 }}",
        "{{ value % 9 }}",
        "{{ value ~ 'x' }}",
        "{{ [1, 2] }}",
        "{{ {'a': 1} }}",
        "{{ value[0:2] }}",
        "{{ value is mapping }}",
        "{{ value | float(1, 2) }}",
        "{{ value | multiply }}",
        "{{ value if value }}",
        "{{ value_json. }}",
        "{{ value_json[ }}",
        "{{ range(10) }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{{ 'a\\'b' }}",
        "{{ " + "(" * 500 + "1" + ")" * 500 + " }}",
        "{{ " + "1 + " * 400 + "1 }}",
        "{{ value" + " " * MAX_LENGTH + "}}",
    ],
)
def test_what_is_refused_whole(template):
    with pytest.raises(UnreadableTemplate):
        ValueTemplate(template)


def test_underscores_reach_into_the_message_alone():
    """`.` looks up keys of the JSON, never attributes of Python's objects."""
    with pytest.raises(NoValue):
        ValueTemplate("{{ value_json.__class__ }}").value("x", {"a": 1})
    with pytest.raises(NoValue):
        ValueTemplate("{{ value.__class__.__mro__ }}").value("x", {"a": 1})
    assert ValueTemplate("{{ value_json.__class__ }}").value("x", {"__class__": 3}) == 3


def test_numbers_do_not_grow_without_end():
    factor = "9" * 20
    found = ValueTemplate("{{ " + " * ".join([factor] * 40) + " }}")
    with pytest.raises(NoValue):
        # Whole numbers beyond 64 bits are floats, and those overflow.
        ValueTemplate("{{ (" + " * ".join([factor] * 40) + ") | int }}").value("", {})
    assert isinstance(found.value("", {}), float)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=10,
)
_PIECES = st.lists(
    st.sampled_from(
        [
            "value",
            "value_json",
            ".a",
            "['b']",
            "[0]",
            "[-1]",
            "|",
            "float",
            "int",
            "(0)",
            "round",
            "(1)",
            "default",
            "(2)",
            "is_defined",
            "/",
            "*",
            "+",
            "-",
            "(",
            ")",
            "3",
            "0",
            "1e308",
            "'x'",
            "if",
            "else",
            "and",
            "or",
            "not",
            "is",
            "defined",
            "none",
            "==",
            "<",
            ",",
            ".",
            "[",
            "]",
            "abs",
            "upper",
        ]
    ),
    max_size=14,
).map(lambda words: "{{ " + " ".join(words) + " }}")


@given(
    template=_PIECES | st.text(max_size=60) | st.text(max_size=60).map("{{{{ {} }}}}".format),
    text=st.text(),
    json=_JSON,
)
def test_any_text_is_read_or_refused(template, text, json):
    try:
        readable = ValueTemplate(template)
    except UnreadableTemplate:
        return
    try:
        readable.value(text, json)
    except NoValue:
        return
