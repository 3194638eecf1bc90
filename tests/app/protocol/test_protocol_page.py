"""`docs/protocol.md` says what the code does."""

from __future__ import annotations

import pathlib
import re

import pytest

from app.domain.reading import StateBit
from app.protocol.codec import MAX_OTHER_BYTES, MAX_TELE_BYTES, Reason
from app.protocol.golden import CBOR_EXAMPLES, JSON_EXAMPLES, golden, golden_cbor
from app.protocol.live import (
    FLEET_COLUMNS,
    PERSONAL_SCOPES,
    ROSTER_COLUMNS,
    LiveBit,
    LiveEvent,
    LiveReading,
    LiveScope,
    LiveStats,
    topic_of,
)
from app.protocol.messages import MAX_LOG_LINES, MAX_READINGS, VERSION, Ack, Cmd, Diag, Fota, Log, State, Tele
from app.protocol.topics import MAX_SERIAL_LENGTH, PREFIX, Kind

ROOT = pathlib.Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## ([^\n]*)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
BLOCKS = {
    (language, name): body.strip()
    for language, name, body in re.findall(r"^```(json|hex) (\w+)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
}
LIVE_STRUCTS = {"stats": LiveStats, "an event": LiveEvent, "a reading of a module": LiveReading}
STRUCTS = {"tele": Tele, "state": State, "log": Log, "diag": Diag, "fota": Fota, "cmd": Cmd, "ack": Ack}


def test_the_page_shows_exactly_the_golden_examples():
    shown = {("json", name): golden(name).decode() for name in JSON_EXAMPLES}
    shown |= {("hex", name): golden_cbor(name).hex() for name in CBOR_EXAMPLES}

    assert shown == BLOCKS


def test_every_example_file_is_listed():
    files = {path.name for path in (ROOT / "resources" / "protocol").iterdir()}

    assert files == {f"{name}.json" for name in JSON_EXAMPLES} | {f"{name}.cbor.hex" for name in CBOR_EXAMPLES}


@pytest.mark.parametrize("name", STRUCTS)
def test_every_field_of_a_message_is_in_its_section(name):
    [section] = [body for heading, body in SECTIONS.items() if f"`{name}`" in heading]
    table = "\n".join(line.split("|")[1] for line in section.splitlines() if line.startswith("|"))
    missing = [field for field in STRUCTS[name].__struct_fields__ if f"`{field}`" not in table]

    assert not missing


def test_every_field_in_a_table_exists():
    fields = {field for struct in STRUCTS.values() for field in struct.__struct_fields__}
    for heading, section in SECTIONS.items():
        if not any(f"`{name}`" in heading for name in STRUCTS):
            continue
        named = {
            field
            for line in section.splitlines()
            if line.startswith("| `")
            for field in re.findall(r"`(\w+)`", line.split("|")[1])
        }

        assert named <= fields, heading


def test_every_kind_reason_and_state_bit_is_named():
    for kind in Kind:
        assert f"| `{kind}` |" in SECTIONS["Topics"]
    for reason in Reason:
        assert f"| `{reason}` |" in SECTIONS["Encoding"]
    for bit in StateBit:
        assert f"`{bit.name}`" in PAGE
        if bit.value < 1 << 16:
            assert f"| {bit.value.bit_length() - 1} | `{bit.name}` |" in PAGE


def test_limits_are_those_of_the_code():
    for limit in (MAX_TELE_BYTES, MAX_OTHER_BYTES, MAX_READINGS, MAX_LOG_LINES):
        assert f"{limit:,}" in SECTIONS["Encoding"]
    assert f"1 to {MAX_SERIAL_LENGTH} characters" in SECTIONS["Topics"]
    assert f"`{PREFIX}<serial>/<kind>`" in SECTIONS["Topics"]
    assert f"version {VERSION}" in PAGE.splitlines()[0]


def live_tables():
    """Rows of the live feed's section by the first cell of their table's head."""
    tables = {}
    for block in re.findall(r"(?:^\|[^\n]*\n)+", SECTIONS["Live feed, for consoles"], re.MULTILINE):
        head, _line, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        tables[head[0].replace("`", "")] = rows
    return tables


def test_the_live_feed_has_the_topics_of_the_code():
    rows = {row[1].strip("`"): row for row in live_tables()["topic"]}

    assert set(rows) == set(LiveScope)
    for scope in LiveScope:
        topic = topic_of(scope, "SERIAL" if scope is LiveScope.MODULE else None)
        assert rows[scope][0] == f"`{topic.replace('SERIAL', '<serial>')}`"
        assert ("Personal data" in rows[scope][3]) == (scope in PERSONAL_SCOPES)


@pytest.mark.parametrize(
    ("table", "columns"), [("column of a picture", FLEET_COLUMNS), ("column of the roster", ROSTER_COLUMNS)]
)
def test_the_live_feed_has_the_columns_of_the_code(table, columns):
    shown = {row[0].strip("`"): row[1] for row in live_tables()[table]}

    assert shown == {name: kind for name, (kind, _doc) in columns.items()}


@pytest.mark.parametrize("name", LIVE_STRUCTS)
def test_the_live_feed_has_the_fields_of_the_code(name):
    shown = [field for row in live_tables()[f"field of {name}"] for field in re.findall(r"`(\w+)`", row[0])]

    assert sorted(shown) == sorted(LIVE_STRUCTS[name].__struct_fields__)


def test_bits_of_the_live_feed_are_the_hubs_own():
    for bit in LiveBit:
        assert f"bit {bit.value.bit_length() - 1}, `{bit.name}`" in SECTIONS["Live feed, for consoles"]
        assert bit.value > max(StateBit).value
