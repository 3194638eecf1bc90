"""Groups of the customer output: checks, delimiting, damage."""

from __future__ import annotations

import itertools
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.linky import TicMode
from app.protocol.tic.encode import encode_group
from app.protocol.tic.groups import MAX_GROUP_BYTES, BadGroup, Fault, Group, GroupReader, Mark, checksum, parse_group
from app.protocol.tic.labels import LABELS_OF_MODE, Form
from tests.app.protocol.tic import synthetic

H, S = TicMode.HISTORIQUE, TicMode.STANDARD
FIXTURES = synthetic.files()


@st.composite
def groups(draw):
    """(mode, label, data, horodate) of any group the specification allows."""
    mode = draw(st.sampled_from(TicMode))
    label = draw(st.sampled_from(list(LABELS_OF_MODE[mode].values())))
    horodate = None
    if label.horodated:
        horodate = draw(st.from_regex(r"[HEhe ][0-9]{12}", fullmatch=True))
    if label.form is Form.DIGITS:
        data = f"{draw(st.integers(0, 10**label.length - 1)):0{label.length}}"
    elif label.form is Form.HEX:
        data = f"{draw(st.integers(0, 16**label.length - 1)):0{label.length}X}"
    else:
        alphabet = st.characters(min_codepoint=0x20, max_codepoint=0x7E)
        data = draw(st.text(alphabet, min_size=0, max_size=label.length))
    return mode, label.name, data, horodate


def read(stream: bytes, *cuts: int):
    """The events of a stream given in pieces, and the reader."""
    reader = GroupReader()
    events = []
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    for start, end in itertools.pairwise(edges):
        events += reader.feed(stream[start:end])
    events += reader.finish()
    return events, reader


def counts(stream: bytes) -> tuple[int, int, int]:
    _, reader = read(stream)
    return reader.groups_good, reader.groups_bad, reader.fragments


@given(groups())
def test_a_group_survives_the_way_there_and_back(group):
    mode, label, data, horodate = group
    [found], reader = read(encode_group(mode, label, data, horodate))

    assert (found.mode, found.label, found.data, found.horodate) == group
    assert (reader.groups_good, reader.groups_bad) == (1, 0)


@given(st.lists(groups(), max_size=8), st.binary(max_size=40), st.lists(st.integers(0, 900), max_size=12))
def test_any_chunking_gives_the_same_events(several, noise, cuts):
    stream = b"\x02" + noise.join(encode_group(*group) for group in several) + b"\r\x03" + noise

    assert read(stream, *cuts)[0] == read(stream)[0]


@pytest.mark.parametrize("name", FIXTURES)
def test_a_fixture_read_byte_by_byte_gives_the_same_events(name):
    stream = FIXTURES[name]

    assert read(stream, *range(len(stream)))[0] == read(stream)[0]


@given(st.binary(max_size=600))
def test_any_bytes_give_events(stream):
    events, reader = read(stream)

    assert reader.groups_good == sum(isinstance(event, Group) for event in events)
    assert reader.groups_bad == sum(isinstance(event, BadGroup) for event in events)
    assert reader.bytes_read == len(stream)


@given(st.binary(max_size=300) | st.binary(max_size=20).map(lambda tail: b"EAST\t012" + tail + b"\t"))
def test_any_content_is_a_group_or_a_fault(content):
    for byte in range(256):
        found = parse_group(content + bytes((byte,)))

        assert isinstance(found, Group | Fault)


@settings(max_examples=300)
@given(st.data())
def test_one_damaged_byte_costs_at_most_the_groups_it_touches(data):
    stream = bytearray(FIXTURES["std_hc_mono.bin"])
    whole, _, _ = counts(bytes(stream))
    at = data.draw(st.integers(0, len(stream) - 1))
    stream[at] = data.draw(st.integers(0, 255))
    good, bad, _ = counts(bytes(stream))

    # A line end made of a byte cuts one group in two, a line end lost (with the LF beside it left) costs none.
    assert whole - 1 <= good <= whole
    assert bad <= 2


def test_memory_does_not_grow_with_a_stream_that_has_no_line_end():
    reader = GroupReader()
    tracemalloc.start()
    try:
        events = 0
        for _ in range(2000):
            events += len(list(reader.feed(b"ADSC\t" + b"0" * 1000)))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert events == 1
    assert reader.groups_bad == 1
    assert peak < 100_000


def test_a_group_that_is_too_long_is_counted_once_and_the_next_is_read():
    stream = b"\n" + b"EAST\t" + b"0" * (2 * MAX_GROUP_BYTES) + b"\r" + encode_group(S, "VTIC", "02")
    [bad, good], _ = read(stream)

    assert bad == BadGroup(Fault.TOO_LONG, "EAST", 1)
    assert isinstance(good, Group)
    assert good.label == "VTIC"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"PTEC HP..  ", None),
        (b"DATE\tE210414082625\t\tA", None),
        (b"NGTF\t     TEMPO      \tF", None),
        (b"SMAXSN1-1\tE210413111148\t01084\tA", None),
        (b"PCOUP\t02\t\\", Fault.CHECKSUM),
        # Each rule refuses what is right by the other.
        (b"ADCO 041961000017 T", Fault.CHECKSUM),
        (b"IRMS1\t\x02:K5", Fault.CONTROL_BYTE),
        (b"UMOY1\tE200811150000\t239", Fault.SEPARATOR),
        (b"X", Fault.SEPARATOR),
        (b"", Fault.SEPARATOR),
    ],
)
def test_groups_seen_on_real_lines(content, fault):
    found = parse_group(content)

    assert found is fault or (fault is None and isinstance(found, Group))


@pytest.mark.parametrize(
    ("group", "fault"),
    [
        ((S, "EAST", "00255317"), Fault.LENGTH),
        ((S, "EASF02", "00000"), Fault.LENGTH),
        ((S, "EAST", "02755317A"), Fault.DIGITS),
        ((S, "STGE", "003A40G1"), Fault.DIGITS),
        ((S, "STGE", "003A401"), Fault.LENGTH),
        ((S, "SMAXSN", "02636"), Fault.HORODATE),
        ((S, "UMOY1", "230", "X210414082000"), Fault.HORODATE),
        ((S, "DATE", ""), Fault.HORODATE),
        ((S, "NGTF", "A" * 17), Fault.LENGTH),
        ((S, "EAST!", "000000001"), Fault.LABEL),
        ((H, "A" * 13, "1"), Fault.LABEL),
        ((S, "1JOURF", "00"), Fault.LABEL),
        ((S, "A\tB\tC", "1"), Fault.FIELDS),
        ((H, "PAPP", "190"), Fault.LENGTH),
        ((H, "HCHC", "00083736:"), Fault.DIGITS),
    ],
)
def test_what_a_checksum_lets_through_is_refused_by_its_form(group, fault):
    [bad], _ = read(b"\r" + encode_group(*group))

    assert isinstance(bad, BadGroup)
    assert bad.fault is fault


def test_older_meters_may_separate_with_tabs_in_historique_mode():
    # The same character as with a blank: the separator before it is not in the sum, the other one is.
    content = b"HCHC\t000723392\t"
    group = parse_group(content + bytes((checksum(content[:-1]),)))

    assert isinstance(group, Group)
    assert (group.mode, group.label, group.data) == (H, "HCHC", "000723392")
    assert parse_group(content + bytes((checksum(content),))) is Fault.CHECKSUM


@pytest.mark.parametrize(("label", "data"), [("EAP_s", "12345kWh"), ("DATE", "01/02/12 10:20:30")])
def test_groups_of_company_meters_are_groups(label, data):
    [group], _ = read(encode_group(H, label, data))

    assert isinstance(group, Group)
    assert (group.label, group.data) == (label, data)


def test_a_label_nobody_knows_is_a_group():
    [group], _ = read(encode_group(S, "EASF11", "whatever it is"))

    assert isinstance(group, Group)


def test_a_bad_group_says_its_label_from_the_closed_list_alone():
    events, _ = read(b"\nADSC\t041961000017\t \r\nSECRET\t17\t~\r")

    assert [event.label for event in events] == ["ADSC", "other"]


GROUP = encode_group(S, "VTIC", "02")
OTHER = encode_group(S, "EAST", "012345678")


@pytest.mark.parametrize(
    ("stream", "good", "bad", "fragments"),
    [
        (b"\x00\x00\x00" + GROUP, 1, 0, 0),
        (b"774332\tX\r" + GROUP, 1, 0, 1),
        (b"\x00\x00774332\tX\r" + GROUP, 1, 0, 1),
        (b"\n774332\tX\r" + GROUP, 1, 1, 0),
        (GROUP[1:] + OTHER, 2, 0, 0),
        (GROUP + OTHER[:-1], 2, 0, 0),
        (GROUP + OTHER[:-4], 1, 0, 1),
        (GROUP[:-1] + OTHER, 2, 0, 0),
        (GROUP[:-1] + b"\x03\x02" + OTHER, 2, 0, 0),
        (GROUP.replace(b"\r", b"\r\r\n\r\n  \r\n") + OTHER, 2, 0, 0),
        (GROUP.replace(b"\r", b"\n") + OTHER.replace(b"\r", b"\n"), 2, 0, 0),
        (GROUP.replace(b"\n", b"\x0f") + OTHER.replace(b"\n", b"\x0f"), 2, 0, 0),
        (GROUP[:-1] + OTHER.replace(b"\n", b"\x0f"), 1, 1, 0),
        (b"C\x0f" + GROUP[1:], 1, 0, 0),
        (GROUP.replace(b"V", b"V\x02"), 0, 1, 0),
        (b"\x02" + OTHER[:8] + b"\x04\x02" + GROUP, 1, 1, 0),
        (GROUP + OTHER[:-1] + b"\x00\x00", 2, 0, 0),
        (GROUP + b".\r\n>\r\n\t>\r" + OTHER, 2, 0, 0),
        (b"", 0, 0, 0),
        (b"\r\n\x02\x03\x04\x00", 0, 0, 0),
        (b"hello", 0, 0, 1),
    ],
)
def test_delimiting(stream, good, bad, fragments):
    assert counts(stream) == (good, bad, fragments)


def test_parity_in_bit_7_is_masked():
    events, reader = read(synthetic.with_parity(b"\x02" + GROUP + OTHER + b"\x03"))

    assert [event.label for event in events if isinstance(event, Group)] == ["VTIC", "EAST"]
    assert [event for event in events if isinstance(event, Mark)] == [Mark.FRAME_START, Mark.FRAME_END]
    assert reader.bytes_with_bit_7 > 0


def test_marks_inside_a_damaged_group_are_kept_when_the_line_ends_there():
    events, _ = read(GROUP + b"\nEAST\t0123\x03\x02\r\n" + GROUP[1:])
    marks = [event for event in events if isinstance(event, Mark)]

    assert marks == [Mark.FRAME_END, Mark.FRAME_START]


def test_noise_that_looks_like_a_frame_start_is_noise():
    events, _ = read(GROUP + b"\nEAST\t0123\x02\r" + OTHER)

    assert not [event for event in events if isinstance(event, Mark)]
