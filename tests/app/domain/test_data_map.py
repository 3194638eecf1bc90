"""The rows of the data map by themselves: complete, and not at odds with each other."""

from __future__ import annotations

import re

import pytest

from app.domain.data_map import About, DataSubject, HeldKey, place_of_path
from app.domain.data_places import PLACES
from app.domain.settings import catalogue
from app.stores.registry.holdings import CONDITIONS, FORGET, NOBODYS
from app.stores.registry.models import Base, personal_columns
from app.stores.series.tables import TABLES

NAMES = {place.name: place for place in PLACES}


def test_every_table_has_its_row_and_knows_whose_its_rows_are():
    tables = {place.table for place in PLACES if place.table}

    assert tables == {*Base.metadata.tables, "alembic_version"}
    assert tables == set(CONDITIONS) | NOBODYS
    assert set(personal_columns()) <= {table for table in CONDITIONS if NAMES[f"registry.{table}"].about}
    assert {spec.name for spec in TABLES} <= {name.removeprefix("series.") for name in NAMES}


def test_every_row_is_whole():
    assert len(NAMES) == len(PLACES)
    for place in PLACES:
        assert place.holds, place.name
        assert place.why, place.name
        assert place.retention, place.name
        assert not (place.erased_with and place.not_erased), place.name
        assert not place.erased_with or not NAMES[place.erased_with].not_erased, place.name
        for key in re.findall(r"\{(.*?)\}", place.retention):
            assert key in catalogue(), place.name
        if place.table and place.about and not place.not_erased and not place.erased_with and place.table != "keys":
            assert place.table in FORGET


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("registry.sqlite-wal", "registry.file"),
        ("series/raw/_delta_log/00000000000000000000.json", "series.delta_log"),
        ("series/raw/part-1.parquet", "series.raw"),
        ("series/ten_min_registers/part-1.parquet", "series.ten_min_registers"),
        ("journal/damaged/1-2.bin", "journal.damaged"),
        ("jobs/01J.csv.gz.part", "jobs.results"),
        ("imports/copy-1/raw.parquet", "imports"),
        ("notes.txt", None),
        ("series/raw/stray.txt", None),
    ],
)
def test_paths_belong_to_places(path, name):
    place = place_of_path(path, PLACES)

    assert (place and place.name) == name


def test_a_holder_of_the_past_has_no_claim_on_what_the_module_says_now():
    past = DataSubject(About.PERSON, "c-1", (HeldKey(1, "WD1", 10, 20), HeldKey(2, "WD2", 30, None)), (5,))

    assert past.words == "holder:c-1"
    assert past.serials == ("WD2",)
    assert past.ended_keys == (1,)
    assert [span[:2] for span in past.spans] == [("WD1", 10), ("WD2", 30)]
    assert past.spans[0][2] == 20
