"""Telegrams are found in whatever a line brings, and none is believed that its CRC contradicts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.protocol.dsmr.encode import encode_telegram
from app.protocol.dsmr.telegrams import MAX_TELEGRAM_BYTES, BadTelegram, Fault, Telegram, TelegramReader, crc16
from tests.app.protocol.dsmr import synthetic

KINDS = synthetic.all_kinds()


def read(*chunks: bytes):
    reader = TelegramReader()
    events = [event for chunk in chunks for event in reader.feed(chunk)]
    return [*events, *reader.finish()], reader


def faults(*chunks: bytes) -> list[Fault | None]:
    return [event.fault if isinstance(event, BadTelegram) else None for event in read(*chunks)[0]]


def test_the_crc_is_that_of_the_specification():
    # CRC-16/ARC of "123456789" is published as BB3D.
    assert crc16(b"123456789") == 0xBB3D


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_is_read(kind):
    [telegram], reader = read(KINDS[kind])

    assert isinstance(telegram, Telegram)
    assert telegram.bad_lines == 0
    assert telegram.checked == (kind not in ("old_netherlands", "germany"))
    assert (reader.telegrams_good, reader.telegrams_bad, reader.fragments) == (1, 0, 0)


def test_objects_are_named_alike_whatever_the_meter_leaves_out():
    [telegram], _ = read(encode_telegram("WDK5X", ("1.8.0(1*Wh)", "1-0:2.8.0*255(2*Wh)", "0.9(3)"), with_crc=False))

    assert telegram.objects == {"1-0:1.8.0": ("1*Wh",), "1-0:2.8.0": ("2*Wh",), "1-0:0.9.0": ("3",)}


def test_letters_stored_values_and_frame_characters_are_no_damage():
    lines = (
        "\x02F.F(00)",
        "C.1.0(123)",
        "1.8.1(0005*kWh)",
        "1.8.1*01(0004*kWh)",
        "1.8.2&02(0003*kWh)",
        "(9)",
        "1 8 1(5)",
    )
    [telegram], _ = read(encode_telegram("LGZ4ZMD", lines, with_crc=False))

    assert telegram.objects == {"1-0:1.8.1": ("0005*kWh",)}
    # A value that belongs to nothing, and a line whose points are gone.
    assert telegram.bad_lines == 2


def test_a_value_on_a_line_of_its_own_belongs_to_the_line_before():
    [telegram], _ = read(KINDS["old_netherlands"])

    assert telegram.objects["0-1:24.3.0"][-2:] == ("m3", "00543.210")


@given(st.data())
def test_pieces_of_any_size_make_the_same_telegrams(data):
    stream = b"".join(KINDS.values())
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=30)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]

    assert read(*chunks)[0] == read(stream)[0]
    assert len(read(*chunks)[0]) == len(KINDS)


def test_a_byte_at_a_time_is_enough():
    stream = KINDS["netherlands"]
    assert read(*(stream[at : at + 1] for at in range(len(stream))))[0] == read(stream)[0]


@pytest.mark.parametrize("begin", [1, 100, 400])
def test_a_stream_that_begins_within_a_telegram(begin):
    stream = KINDS["netherlands"]

    assert faults(stream[begin:] + stream) == [None]


def test_noise_between_telegrams_is_no_telegram():
    noise = bytes(range(256)) * 3 + b"!\r\n!1234\r\n  25803103\r\n" + b"\xff" * 40
    events, reader = read(noise + KINDS["germany"] + noise + KINDS["belgium"] + noise)

    assert [type(event) for event in events] == [Telegram, Telegram]
    assert reader.fragments == 0


def test_text_of_another_kind_with_a_stroke_is_no_telegram():
    assert read(b"\nNGTF\tH PLEINE/CREUSE \tR\r" * 50)[0] == []
    # Judged alike where the piece of text it stands in was thrown away already.
    assert read(*(b"\nNGTF\tH PLEINE", b"/CREUSE", b" ! \r") * 3)[0] == []


def test_every_changed_bit_of_a_telegram_with_a_crc_is_seen():
    stream = KINDS["netherlands"]
    meant = read(stream)[0][0]
    for at in range(len(stream) - 2):
        for bit in range(7):
            changed = bytearray(stream)
            changed[at] ^= 1 << bit
            for event in read(bytes(changed))[0]:
                # The digits of a CRC mean the same as small letters; nothing else may pass.
                assert isinstance(event, BadTelegram) or event == meant


def test_a_crc_without_its_leading_zeros():
    for second in range(60):
        stream = synthetic.netherlands(second)
        if re.search(rb"!0[0-9A-F]{3}\r\n\Z", stream):
            break
    else:
        pytest.fail("no second gives such a CRC")
    short = re.sub(rb"!0+", b"!", stream)

    assert faults(short) == [None]
    assert faults(short[:-2]) == [None]
    assert faults(re.sub(rb"!0", b"!1", stream)) == [Fault.CRC]


def test_a_capture_saved_with_bare_line_feeds_keeps_its_crc():
    assert faults(KINDS["netherlands"].replace(b"\r\n", b"\n")) == [None]


def test_a_line_read_as_8n1_has_its_parity_masked():
    events, reader = read(synthetic.with_parity(KINDS["old_netherlands"]))

    assert events == read(KINDS["old_netherlands"])[0]
    assert reader.bytes_with_bit_7 > 100


def test_a_meter_that_gives_a_crc_is_not_believed_without_one():
    with_crc, without = synthetic.netherlands(), synthetic.netherlands(1, with_crc=False)

    assert faults(with_crc + without + with_crc) == [None, Fault.CRC_MISSING, None]
    assert faults(without) == [None]
    # Another meter on the same line is another meter.
    assert faults(with_crc + KINDS["old_netherlands"]) == [None, None]


def test_a_telegram_that_was_cut_off_costs_itself_alone():
    stream = KINDS["netherlands"]

    assert faults(stream[:300] + stream) == [Fault.CUT, None]
    assert faults(stream[: stream.index(b"1-0:1.8.1") + 14] + stream) == [Fault.CUT, None]
    events, reader = read(stream + stream[:300])
    assert (len(events), reader.fragments) == (1, 1)


def test_an_end_mark_within_a_line_ends_nothing_that_is_believed():
    stream = KINDS["old_netherlands"].replace(b"(00067.890*kWh)", b"(00067!\r\n")

    assert faults(stream) == [Fault.CUT]


def test_a_telegram_without_end_is_bounded():
    endless = b"/WDK5ENDLESS\r\n" + b"1-0:1.8.1(000001.000*kWh)\r\n" * 100_000
    reader = TelegramReader()
    events = []
    for at in range(0, len(endless), 1000):
        events += reader.feed(endless[at : at + 1000])
        assert len(reader._buffer) <= MAX_TELEGRAM_BYTES + 1000
    events += reader.feed(KINDS["netherlands"])

    assert [event.fault if isinstance(event, BadTelegram) else None for event in events] == [Fault.TOO_LONG, None]


def test_a_huge_chunk_is_taken_in_pieces():
    events, _ = read(b"\0" * 1_000_000 + KINDS["netherlands"] * 200)

    assert len(events) == 200


@given(st.lists(st.binary(max_size=300) | st.sampled_from(list(KINDS.values())), max_size=6))
def test_any_bytes_are_read(chunks):
    events, reader = read(*chunks)

    assert reader.bytes_read == sum(map(len, chunks))
    assert reader.telegrams_good + reader.telegrams_bad == len(events)
    assert not reader._buffer
