"""The files of a backup: shared, hashed, for their owner's eyes only; and what is said when they are not sound."""

from __future__ import annotations

import os
import stat

import pytest

from app.bench.realistic import RealisticFleet
from app.domain.keys import CollectionLevel
from app.hub.registry_facts import RegistryFacts
from app.stores.backup import making
from app.stores.backup.errors import BackupDamaged, BackupFailed, BackupRefused, NotABackup
from app.stores.backup.series_snapshot import SealedSegment, sealed_segments, series_snapshot
from app.stores.journal.journal import Journal
from app.stores.registry.models import Erasure
from app.stores.series.delta_store import DeltaSeriesStore
from app.stores.series.interface import SegmentLabel
from app.stores.series.schema import INGESTED
from tests.app.stores.backup.data import T0, fill_series
from tests.app.stores.backup.test_registry_backup import fill


def object_of(case, manifest, path):
    (found,) = [case.directory.objects.path(file.sha256) for file in manifest.files if file.path == path]
    return found


def parquet_files(manifest):
    return [file.path for file in manifest.files if "/l0-" in file.path]


def test_one_byte_that_changed_is_named(small_case):
    fill_series(small_case.data, files=3)
    manifest = small_case.back_up()
    path = parquet_files(manifest)[1]
    damaged = object_of(small_case, manifest, path)
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 1
    damaged.write_bytes(data)

    looked = small_case.verify()
    (problem,) = looked.problems[manifest.snapshot]
    assert path in problem
    assert damaged.name in problem
    assert small_case.directory.verified(manifest.snapshot).problems == [problem]
    with pytest.raises(BackupDamaged, match=damaged.name):
        small_case.restore()
    assert not (small_case.folder / "restored").exists()


@pytest.mark.parametrize("harm", ["cut", "gone"])
@pytest.mark.parametrize("what", ["data", "log", "registry", "manifest", "keyring"])
def test_a_file_that_is_cut_or_gone_is_named(small_case, harm, what):
    fill_series(small_case.data, files=2)
    fill(small_case.registry)
    manifest = small_case.back_up()
    log = next(file.path for file in manifest.files if file.path.endswith(".json") and "_delta_log" in file.path)
    path = {
        "data": lambda: object_of(small_case, manifest, parquet_files(manifest)[0]),
        "log": lambda: object_of(small_case, manifest, log),
        "registry": lambda: small_case.directory.objects.path(manifest.registry.sha256),
        "manifest": lambda: small_case.directory.snapshots / f"{manifest.snapshot}.json",
        "keyring": lambda: small_case.directory.keyring,
    }[what]()
    if harm == "cut":
        path.write_bytes(path.read_bytes()[:-10])
    else:
        path.unlink()
    if (what, harm) == ("manifest", "gone"):
        with pytest.raises(NotABackup):
            small_case.verify()
        return
    looked = small_case.verify()
    assert not looked.sound
    said = str(looked.problems)
    assert (path.name if what != "keyring" or harm == "cut" else "nobody they speak of was erased") in said
    with pytest.raises((BackupDamaged, NotABackup)):
        small_case.restore()


def test_a_file_that_is_lost_is_copied_again_by_the_next_backup(small_case):
    fill_series(small_case.data, files=2)
    first = small_case.back_up()
    object_of(small_case, first, parquet_files(first)[0]).unlink()
    small_case.clock.step()
    small_case.back_up()
    assert small_case.verify().sound


def test_everything_is_for_its_owners_eyes_only(small_case):
    fill_series(small_case.data, files=1)
    (small_case.data / "tls").mkdir()
    (small_case.data / "tls" / "ca.key").write_bytes(b"secret")
    (small_case.data / "tls" / "ca.key").chmod(0o644)
    before = os.umask(0)
    try:
        small_case.back_up()
        _restored, root = small_case.restore()
    finally:
        os.umask(before)
    backups = small_case.directory.root
    for path in (backups, *backups.rglob("*"), root, root / "tls", root / "tls" / "ca.key"):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode & 0o077 == 0, f"{path} {mode:o}"
    assert (root / "tls" / "ca.key").read_bytes() == b"secret"


def test_what_is_left_out_is_said(small_case):
    for name in ("quarantine.sqlite", "quarantine.sqlite-wal", "hub.lock", "notes.txt"):
        (small_case.data / name).write_bytes(b"")
    (small_case.data / "wattdeck.toml").write_text("")
    (small_case.data / "broker").mkdir()
    manifest = small_case.back_up()
    assert {"quarantine.sqlite", "hub.lock", "broker", "notes.txt"} <= set(manifest.left_out)
    assert "quarantine.sqlite-wal" not in manifest.left_out, "it belongs to a file that was named"
    assert manifest.left_out["notes.txt"] == "is not known to this program"
    assert all(manifest.left_out.values())
    assert [file.path for file in manifest.files if "/" not in file.path] == ["wattdeck.toml"]


def test_only_the_newest_stay_and_what_no_snapshot_needs_goes(small_case):
    manifests = []
    for number in range(4):
        fill_series(small_case.data, files=1, first=number)
        if number == 2:
            # What the first two have alone goes with them: this one is in the later snapshots no more.
            store = DeltaSeriesStore(
                small_case.data / "series", facts=lambda: RegistryFacts({}, {}, {}, "UTC"), now_us=small_case.clock
            )
            for _spec, table in store._tables:
                table.delete_rows(fill_keys(1))
                table.vacuum(0)
            store.close()
        manifests.append(small_case.back_up(keep=2))
        small_case.clock.step()
    assert small_case.directory.names() == [each.snapshot for each in manifests[2:]]
    there = set(small_case.directory.objects.names())
    assert there == {sha256 for each in manifests[2:] for sha256 in each.objects()}
    assert {sha256 for each in manifests[:2] for sha256 in each.objects()} - there
    assert small_case.verify().sound


def fill_keys(seed):
    return [int(key) for key in RealisticFleet(20, seed=seed, start_us=T0).keys]


def test_nothing_is_cleared_away_while_a_manifest_is_damaged(small_case):
    fill_series(small_case.data, files=1)
    first = small_case.back_up()
    path = small_case.directory.snapshots / f"{first.snapshot}.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    small_case.clock.step()
    small_case.back_up()
    path.write_bytes(whole)
    assert small_case.verify().sound


@pytest.mark.parametrize("inside", ["file", "folder"])
def test_a_folder_that_is_not_empty_is_not_restored_into(small_case, inside):
    small_case.back_up()
    root = small_case.folder / "restored"
    root.mkdir()
    if inside == "file":
        (root / "x").write_bytes(b"kept")
    else:
        (root / "x").mkdir()
    with pytest.raises(BackupRefused, match="not empty"):
        small_case.restore()
    assert [path.name for path in root.iterdir()] == ["x"]


def test_an_empty_folder_is_restored_into(small_case):
    small_case.back_up()
    (small_case.folder / "restored").mkdir()
    small_case.restore()


def test_a_folder_that_holds_something_else_takes_no_backups(small_case):
    small_case.directory.root.mkdir()
    (small_case.directory.root / "letter.txt").write_text("dear")
    with pytest.raises(BackupRefused, match="no backup"):
        small_case.back_up()
    assert [path.name for path in small_case.directory.root.iterdir()] == ["letter.txt"]


def test_one_backup_at_a_time(small_case):
    small_case.back_up()
    with small_case.directory.locked(), pytest.raises(BackupRefused, match="another backup"):
        small_case.back_up()


@pytest.mark.parametrize("name", ["", "../x", "20260101T000000Z-00000000", "x" * 5000])
def test_a_snapshot_that_is_not_there(small_case, name):
    small_case.back_up()
    with pytest.raises(NotABackup, match="has no snapshot"):
        small_case.directory.manifest(name)


def test_files_that_are_cleared_away_meanwhile_are_looked_for_again(small_case, monkeypatch):
    """Between the look at the table and the copy a merge took two files' place, and they were unlinked."""
    keys = fill_series(small_case.data, files=3)
    real = making.series_snapshot
    rounds = []

    def looked(folder):
        found = real(folder)
        rounds.append(found)
        if len(rounds) == 1:
            store = DeltaSeriesStore(folder, facts=lambda: RegistryFacts({}, {}, {}, "UTC"), now_us=small_case.clock)
            store.delete_key(keys[0])
            store.close()
        return found

    monkeypatch.setattr(making, "series_snapshot", looked)
    manifest = small_case.back_up()
    assert len(rounds) == 2
    assert {table.name: table.version for table in manifest.tables}["raw"] == rounds[1].tables[0].version
    assert small_case.verify().sound
    small_case.restore()


def test_a_table_that_never_stands_still_fails_and_says_so(small_case, monkeypatch):
    fill_series(small_case.data, files=1)

    def gone(*_):
        raise FileNotFoundError

    monkeypatch.setattr(making._Maker, "_copy", gone)
    with pytest.raises(BackupFailed, match=r"store\.lease_minutes"):
        small_case.back_up()
    assert small_case.directory.names() == []


def test_the_series_of_an_erased_key_do_not_come_back(small_case):
    """Neither from the tables nor from the journal."""
    fleet = RealisticFleet(20, seed=5, start_us=T0)
    erased, kept = (int(key) for key in fleet.keys[:2])
    store = DeltaSeriesStore(
        small_case.data / "series", facts=lambda: RegistryFacts({}, {}, {}, "UTC"), now_us=small_case.clock
    )
    store.append(SegmentLabel("a" * 32, 1), {"raw": fleet.in_order_of_keys(50)})
    store.close()
    journal = Journal.open(small_case.data / "journal", INGESTED)
    journal.append("raw", fleet.in_order_of_keys(50).combine_chunks().to_batches()[0])
    journal.close()
    manifest = small_case.back_up()
    assert manifest.segments[0].journal_id == journal.journal_id
    with small_case.registry.writing() as connection:
        connection.execute(Erasure.__table__.insert().values(at_us=small_case.clock(), subject=f"key:{erased}"))
    small_case.clock.step()
    small_case.back_up()

    restored, root = small_case.restore(snapshot=manifest.snapshot)

    assert restored.replayed_segments == 1
    back = DeltaSeriesStore(root / "series", facts=lambda: RegistryFacts({}, {}, {}, "UTC"), now_us=small_case.clock)
    try:
        assert back.read_many([erased], 0, 2**62).num_rows == 0
        # One reading in a thousand is lost on the way.
        assert back.read_many([kept], 0, 2**62).num_rows >= 98
        back.append(SegmentLabel("b" * 32, 1), {"raw": fleet.in_order_of_keys(5)})
        assert back.read_many([erased], 0, 2**62).num_rows == 0
    finally:
        back.close()


def test_an_open_segment_is_sealed_after_its_last_whole_commit(tmp_path):
    fleet = RealisticFleet(5, start_us=T0)
    journal = Journal.open(tmp_path / "journal", INGESTED)
    for _ in range(3):
        journal.append("raw", fleet.in_order_of_keys(10).combine_chunks().to_batches()[0])
        journal.sync()
    (path,) = (tmp_path / "journal").glob("*.wal")
    whole = path.read_bytes()
    for cut in (len(whole), len(whole) - 1, len(whole) - 100):
        path.write_bytes(whole[:cut])
        (found,) = sealed_segments(tmp_path / "journal")
        assert isinstance(found, SealedSegment)
        copy = tmp_path / f"copy{cut}"
        copy.mkdir()
        (copy / found.name).write_bytes(found.data)
        again = Journal.open(copy, INGESTED)
        (segment,) = again.pending()
        rows = sum(batch.num_rows for _name, batch in again.read(segment))
        assert rows == (3 if cut == len(whole) else 2) * 50 or rows >= 98
        assert again.counters.torn_bytes == again.counters.damaged_bytes == 0
    path.write_bytes(b"garbage that is no segment at all")
    assert list(sealed_segments(tmp_path / "journal")) == [path.name]
    path.write_bytes(bytes(4096))
    assert list(sealed_segments(tmp_path / "journal")) == []


def test_a_store_that_is_not_there_is_an_empty_snapshot(tmp_path):
    found = series_snapshot(tmp_path / "series")
    assert found.tables == ()


def test_the_settings_of_then_do_not_lead_to_the_database_of_now(small_case):
    (small_case.data / "wattdeck.toml").write_text(
        '# ours\n[registry]\nurl = "postgresql://user:word@live/db" # the live one\n[store]\nraw_days = 3\n'
    )
    small_case.back_up()
    restored, root = small_case.restore()
    assert restored.registry_url_dropped
    text = (root / "wattdeck.toml").read_text()
    assert "live/db" not in text
    assert "# ours" in text
    assert "raw_days = 3" in text


def test_readings_stay_with_the_keys_that_came_back(small_case):
    _holders, _sites, keys = fill(small_case.registry)
    small_case.back_up()
    _restored, root = small_case.restore()
    from app.stores.registry.registry import Registry

    with Registry.open(root / "registry.sqlite") as registry:
        for number, key in enumerate(keys):
            assert registry.key(key).serial == f"WD-{number}"
            assert registry.key(key).period.level is CollectionLevel.SECOND
