from __future__ import annotations

import logging

import deltalake
import pytest

from app.stores.errors import StoreDamaged
from app.stores.series.delta.files import CommitLabel
from tests.app.stores.journal.rows import small_rows, values_of
from tests.app.stores.series.delta.test_table import compact, opened


def grown(directory, commits=4):
    table = opened(directory)
    for number in range(commits):
        table.append(small_rows([1], [number], [number]), label=CommitLabel("a", number))
    return table


def entry(directory, version):
    return directory / "_delta_log" / f"{version:020d}.json"


def rows_for_others(directory):
    return sorted(deltalake.DeltaTable(directory).to_pyarrow_table()["value"].to_pylist())


@pytest.mark.parametrize("damage", ["cut", "empty", "zeros", "garbage"])
def test_a_torn_newest_commit_is_rolled_back_and_can_be_replayed(tmp_path, damage, caplog):
    grown(tmp_path)
    path = entry(tmp_path, 4)
    data = path.read_bytes()
    path.write_bytes({"cut": data[:-30], "empty": b"", "zeros": bytes(len(data)), "garbage": b"\xff{]" * 20}[damage])
    table = opened(tmp_path)

    assert table.verification.rolled_back_commits == 1
    assert table.last_label("a") == 2
    assert values_of(table.scan()) == [0, 1, 2]
    assert "ERROR" in [record.levelname for record in caplog.records]
    assert len(list((tmp_path / "_damaged").iterdir())) == 2
    table.append(small_rows([1], [3], [3]), label=CommitLabel("a", 3))
    assert values_of(opened(tmp_path).scan()) == [0, 1, 2, 3]
    assert rows_for_others(tmp_path) == [0, 1, 2, 3]


@pytest.mark.parametrize("damage", ["missing", "cut", "zeros"])
def test_a_newest_commit_whose_file_is_not_whole_is_rolled_back(tmp_path, damage):
    newest = grown(tmp_path).files()[-1]
    path = tmp_path / newest.name
    data = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(data[:100] if damage == "cut" else bytes(len(data)))
    table = opened(tmp_path)

    assert table.last_label("a") == 2
    assert values_of(table.scan()) == [0, 1, 2]
    assert rows_for_others(tmp_path) == [0, 1, 2]


def test_a_torn_compaction_brings_its_inputs_back(tmp_path):
    table = grown(tmp_path)
    compact(table)
    entry(tmp_path, 5).write_bytes(b"{")
    again = opened(tmp_path)

    assert values_of(again.scan()) == [0, 1, 2, 3]
    assert len(again.files()) == 4
    assert again.last_label("a") == 3


def test_a_torn_commit_further_back_is_blanked(tmp_path, caplog):
    grown(tmp_path)
    entry(tmp_path, 2).write_bytes(b"garbage")
    table = opened(tmp_path)

    assert table.verification.blanked_commits == 1
    assert values_of(table.scan()) == [0, 2, 3]
    assert table.last_label("a") == 3
    assert rows_for_others(tmp_path) == [0, 2, 3]
    assert opened(tmp_path).verification.blanked_commits == 0


def test_a_lost_file_further_back_is_reported_once_and_the_rest_read(tmp_path, caplog):
    first = grown(tmp_path).files()[0]
    (tmp_path / first.name).unlink()
    table = opened(tmp_path)

    assert table.verification.missing_files == 1
    assert values_of(table.scan()) == [1, 2, 3]
    assert "ERROR" in [record.levelname for record in caplog.records]
    assert opened(tmp_path).verification.missing_files == 0
    assert rows_for_others(tmp_path) == [1, 2, 3]


def test_orphans_are_removed_and_files_kept_for_readers_are_not(tmp_path):
    table = grown(tmp_path)
    compact(table)
    (tmp_path / f"l1-{9:020d}-{'0' * 32}.parquet").write_bytes(b"left by a killed merge")
    again = opened(tmp_path)

    assert again.verification.orphans_removed == 1
    assert len(list(tmp_path.glob("*.parquet"))) == 5
    assert again.vacuum(0) == 4


@pytest.mark.parametrize("hint", [b"", b"{", b'{"version":77,"size":1}', b"[1]"])
def test_a_torn_hint_at_the_checkpoint_is_removed(tmp_path, hint):
    grown(tmp_path).checkpoint()
    (tmp_path / "_delta_log" / "_last_checkpoint").write_bytes(hint)

    assert values_of(opened(tmp_path).scan()) == [0, 1, 2, 3]
    assert rows_for_others(tmp_path) == [0, 1, 2, 3]


@pytest.mark.parametrize("damage", ["cut", "empty", "zeros", "footer", "pages"])
def test_a_torn_checkpoint_gives_way_to_the_log(tmp_path, caplog, damage):
    grown(tmp_path).checkpoint()
    (path,) = (tmp_path / "_delta_log").glob("*.checkpoint.parquet")
    data = path.read_bytes()
    torn = {
        "cut": data[:-10],
        "empty": b"",
        "zeros": bytes(len(data)),
        "footer": data[:-300] + bytes(200) + data[-100:],
        "pages": data[:4] + bytes(400) + data[404:],
    }
    path.write_bytes(torn[damage])

    assert values_of(opened(tmp_path).scan()) == [0, 1, 2, 3]
    assert rows_for_others(tmp_path) == [0, 1, 2, 3]
    assert "an older one" in caplog.text


def test_a_log_without_a_beginning_is_an_error(tmp_path):
    grown(tmp_path)
    entry(tmp_path, 0).unlink()
    with pytest.raises(StoreDamaged):
        opened(tmp_path)


def test_a_gap_in_the_log_is_an_error(tmp_path):
    grown(tmp_path)
    entry(tmp_path, 2).unlink()
    with pytest.raises(StoreDamaged, match="missing"):
        opened(tmp_path)


def test_a_torn_first_entry_of_a_new_table_is_made_again(tmp_path):
    opened(tmp_path)
    entry(tmp_path, 0).write_bytes(b'{"protocol"')
    table = opened(tmp_path)
    table.append(small_rows([1], [0], [3]))

    assert rows_for_others(tmp_path) == [3]


def test_a_sound_table_says_so(tmp_path, caplog):
    table = grown(tmp_path)
    with caplog.at_level(logging.WARNING):
        again = opened(tmp_path)

    assert again.verify() == again.verification
    assert again.files() == table.files()
    assert caplog.records == []
    (tmp_path / again.files()[0].name).unlink()
    assert again.verify().missing_files == 1


def test_a_foreign_file_in_the_log_is_an_error(tmp_path):
    table = grown(tmp_path)
    deltalake.write_deltalake(tmp_path, table.scan(), mode="append")
    with pytest.raises(StoreDamaged, match="no data file of ours"):
        opened(tmp_path)
