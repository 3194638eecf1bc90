"""Whatever the codec lets through fits the columns: one reading can not sink the others of its chunk."""

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.domain import reading as ranges
from app.domain.reading import Reading
from app.ingest.columns import aux_batch, gather, raw_batch, register_batch
from app.protocol.codec import Refused, decode_tele
from tests.app.ingest.readings import NOW_US

# Values at, within and beyond every bound of the domain, of the right and of wrong kinds.
whole = st.one_of(
    st.integers(-(2**65), 2**65),
    st.sampled_from(
        [
            0,
            -1,
            1,
            10,
            11,
            200,
            -127,
            -128,
            2**15,
            2**31 - 1,
            2**31,
            2**32,
            2**53,
            2**53 + 1,
            2**63,
            253_402_300_799_999,
        ]
    ),
)
number = st.one_of(whole, st.floats(allow_nan=False, allow_infinity=False), st.sampled_from([1e6, -1e6, 1e308]))
value = st.one_of(number, st.booleans(), st.text(max_size=2), st.none())
names = [field.name for field in msgspec.structs.fields(Reading)]
payload = st.dictionaries(st.sampled_from(names), value, max_size=6).flatmap(
    lambda fields: st.one_of(
        st.just(fields),
        st.dictionaries(st.integers(-1, 12).map(str), whole, max_size=11).map(
            lambda registers: {**fields, "registers_wh": registers}
        ),
    )
)
extremes = {
    "time_ms": [0, 253_402_300_799_999],
    "boot_id": [0, 2**32 - 1],
    "seq": [0, ranges.LARGEST_COUNTER],
    "active_w": [-1e6, 1e6],
    "apparent_va": [-1e6, 1e6],
    "drawn_wh": [0, ranges.LARGEST_COUNTER],
    "injected_wh": [0, ranges.LARGEST_COUNTER],
    "register": [1, 10],
    "registers_wh": [{}, {1: 0, 10: ranges.LARGEST_COUNTER}],
    "voltage_v": [0, 1000],
    "voltage_2_v": [0, 1000],
    "voltage_3_v": [0, 1000],
    "current_a": [-10_000, 10_000],
    "current_2_a": [-10_000, 10_000],
    "current_3_a": [-10_000, 10_000],
    "rssi_dbm": [-127, 0],
    "frame_gap_ms": [0, 2**31 - 1],
    "state": [0, 0xFFFF],
    "resent": [False, True],
    "gas_m3": [0, 1e9],
    "water_m3": [0, 1e9],
    "heat_gj": [0, 1e9],
}


def rows_of(readings):
    columns = gather([0] * len(readings), readings, np.full(len(readings), NOW_US, np.int64))
    keys, origin = np.arange(len(readings)), np.zeros(len(readings), np.int8)
    raw = raw_batch(columns, keys, origin, None)
    raw.validate(full=True)
    for batch in (
        aux_batch(columns, keys, origin, np.ones(len(readings), np.bool_)),
        register_batch(columns, keys, origin, np.arange(len(readings))),
    ):
        if batch is not None:
            batch.validate(full=True)
    return raw


@given(st.lists(payload, min_size=1, max_size=8))
def test_what_the_codec_takes_becomes_rows(payloads):
    readings = []
    for fields in payloads:
        try:
            readings.append(decode_tele(msgspec.json.encode(fields)))
        except Refused:
            continue
    if readings:
        assert rows_of(readings).num_rows == len(readings)


def test_the_codec_takes_both_ends_of_every_range_and_so_do_the_columns():
    assert set(extremes) == set(names), "a new field needs its extremes here"
    readings = [
        decode_tele(msgspec.json.encode({name: ends[end] for name, ends in extremes.items()})) for end in (0, 1)
    ]

    assert rows_of(readings).num_rows == 2
