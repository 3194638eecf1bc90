"""Files of modules: what is read of them, and what is said of their mistakes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.errors import OperatorInputError
from app.services.fleet import import_file
from app.services.fleet.import_file import ImportFile, Mistake, read_import
from app.stores.registry.admission import NewModule
from app.stores.registry.records import NewSite


def read(text: str | bytes, *, taken=(), points=None) -> ImportFile:
    raw = text if isinstance(text, bytes) else text.encode()
    return read_import(
        raw,
        taken=lambda serials: set(serials) & set(taken),
        sites_at=lambda asked: {point: found for point, found in (points or {}).items() if point in asked},
    )


def mistakes(text: str | bytes, **known) -> list[tuple[int, str]]:
    return [(one.line, one.column) for one in read(text, **known).mistakes]


def test_a_whole_file():
    file = read(
        "\ufeffserial,city,street,postcode,delivery_point,zone,tags,note\r\n"
        'WD1,Lyon,"12, rue des Lilas",69003,0914,,pilot  north,"says ""hello"""\r\n'
        "\r\n"
        "WD2,,,,,,,\r\n"
        "WD3,Nîmes,,,,Europe/Madrid,a|b,\r\n"
    )

    home = NewSite("Lyon", "Europe/Paris", "12, rue des Lilas", "69003", "0914")
    assert file.mistakes == []
    assert file.modules == [
        NewModule("WD1", home, ("pilot", "north"), 'says "hello"'),
        NewModule("WD2"),
        NewModule("WD3", NewSite("Nîmes", "Europe/Madrid"), ("a", "b")),
    ]


def test_a_spreadsheet_in_another_country_writes_semicolons():
    assert read("serial;city\nWD1;Lyon, 3e\n").modules == [NewModule("WD1", NewSite("Lyon, 3e"))]


def test_lines_of_one_delivery_point_share_a_site_and_a_registered_one_is_taken():
    file = read(
        "serial,city,delivery_point\nWD1,Lyon,0914\nWD2,Lyon,0914\nWD3,Paris,0777\nWD4,,0777\n",
        points={"0777": [12]},
    )

    assert file.mistakes == []
    assert [module.site for module in file.modules] == [
        NewSite("Lyon", delivery_point="0914"),
        NewSite("Lyon", delivery_point="0914"),
        12,
        12,
    ]
    assert file.known_sites == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("serial\nno serial\n", [(2, "serial")]),
        ("serial\nWD1\nWD2\nWD1\n", [(4, "serial")]),
        ("serial\nOLD\n", [(2, "serial")]),
        ("serial\n\n\nWD1,\n", [(4, "")]),
        ("serial,city\nWD1\n", [(2, "")]),
        ("serial,city\nWD1,Lyon,x\n", [(2, "")]),
        ("serial,street\nWD1,12 rue X\n", [(2, "city")]),
        ("serial,city,zone\nWD1,Lyon,Mars/Olympus\n", [(2, "zone")]),
        ("serial,city\nWD1," + "x" * 101 + "\n", [(2, "city")]),
        ("serial,city\nWD1,a\x00b\n", [(2, "city")]),
        ("serial,delivery_point,city\nWD1," + "9" * 41 + ",Lyon\n", [(2, "delivery_point")]),
        ("serial,tags\nWD1,a;b\n", [(2, "tags")]),
        ("serial,tags\nWD1," + " ".join(f"t{number}" for number in range(17)) + "\n", [(2, "tags")]),
        ("serial,tags\nWD1," + "x" * 41 + "\n", [(2, "tags")]),
        ("serial,note\nWD1," + "x" * 501 + "\n", [(2, "note")]),
        ("serial,city,delivery_point\nWD1,Lyon,0914\nWD2,Paris,0914\n", [(3, "delivery_point")]),
        ("serial,city,delivery_point\nWD1,Lyon,0888\n", [(2, "delivery_point")]),
        # A text over two lines is told by the line it ends in.
        ('serial,note\n"WD1","a\nb"\n', [(3, "note")]),
        ("serial,city,zone\n!,,X/Y\n", [(2, "serial"), (2, "zone"), (2, "city")]),
    ],
)
def test_a_mistake_is_told_with_its_line_and_column(text, expected):
    assert mistakes(text, taken=["OLD"], points={"0888": [1, 2]}) == expected


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "line 1 names the columns"),
        (b"name,city\nWD1,Lyon\n", "'name' is none of them"),
        (b"city\nLyon\n", "line 1 names the columns"),
        (b"serial,serial\nWD1,WD1\n", "each once"),
        ("serial,city\nWD1,Nîmes\n".encode("latin-1"), "line 2 is not UTF-8"),
        (b'serial\n"WD1\n', "no CSV"),
        (b'serial\n"WD"1\n', "line 2 is no CSV"),
        (b"PK\x03\x04\x14\x00", "line 1"),
    ],
)
def test_what_is_no_such_file_is_refused_as_a_whole(raw, message):
    with pytest.raises(OperatorInputError, match=message):
        read(raw)


def test_a_file_is_bounded_and_so_is_what_is_said_of_it(monkeypatch):
    monkeypatch.setattr(import_file, "MOST_LINES", 300)

    assert len(read("serial\n" + "!\n" * 300).mistakes) == import_file.MOST_PROBLEMS
    with pytest.raises(OperatorInputError, match="at most 300"):
        read("serial\n" + "!\n" * 301)


@given(
    raw=st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: ("serial,city,zone\n" + text).encode("utf-8", "replace"))
)
def test_whatever_is_in_a_file_it_is_told_not_raised(raw):
    try:
        file = read(raw)
    except OperatorInputError:
        return
    assert all(isinstance(one, Mistake) for one in file.mistakes)
    assert file.mistakes or all(isinstance(module, NewModule) for module in file.modules)
