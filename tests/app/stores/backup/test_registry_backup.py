"""The registry in a backup: everything comes back, but whoever was erased."""

from __future__ import annotations

import pyarrow as pa
import pytest
import sqlalchemy as sa

from app.domain.credentials import CredentialKind
from app.domain.keys import CollectionLevel
from app.stores.backup.errors import BackupDamaged, BackupRefused
from app.stores.backup.personal import LEFT_OUT, PERSONAL
from app.stores.registry.faults import RegistryNotEmpty
from app.stores.registry.foreign_devices import ForeignDevices, SeenDevice
from app.stores.registry.models import AccessEntry, Base, Holder, personal_columns
from app.stores.registry.person_keys import PersonKeys
from app.stores.registry.provisioning import Template
from app.stores.registry.records import NewSite, PairedAs
from app.stores.registry.registry import Registry

T0 = 1_800_000_000_000_000
STREETS = ("1 rue d'Exemple", "2 place du Modele")
POINTS = ("PDL00000000001", "PDL00000000002")
DEVICES = ("kitchen-of-martin", "hall-of-martin")
SSID, NAME = "Martins WLAN", "Martins plug"
METERS = ("METER-0001", "METER-0002")


def fill(registry):
    """Two homes with their holders; the holders' tokens, the sites, the keys."""
    sites = registry.add_sites(
        [
            NewSite("Lyon", street=street, postcode="69001", delivery_point=point)
            for street, point in zip(STREETS, POINTS, strict=True)
        ]
    )
    holders = [registry.add_holder() for _ in sites]
    keys = []
    for number, (site, holder) in enumerate(zip(sites, holders, strict=True)):
        serial = f"WD-{number}"
        registry.provision(serial, Template(meter_serial=METERS[number]))
        change = registry.pair(serial, 1, T0, PairedAs(site, CollectionLevel.SECOND, METERS[number], holder))
        keys.append(change.opened.key)
    registry.add_credential("gateway", CredentialKind.SOURCE, publish=["tele/#"])
    devices = ForeignDevices(registry, now_us=lambda: T0)
    facts = f'{{"ssid":"{SSID}"}}'
    devices.note([SeenDevice("fake", one, facts, NAME, "Acme", "P1", "1", "W", 3, T0, T0) for one in DEVICES])
    devices.adopt("tester", [1], site_id=None, tags=["plug"])
    return holders, sites, keys


def content(registry, without=()):
    """Every row of every table that comes back."""
    with registry.reading() as connection:
        return {
            table.name: connection.execute(sa.select(table).order_by(*table.primary_key.columns)).all()
            for table in Base.metadata.sorted_tables
            if table.name not in LEFT_OUT and table.name not in without
        }


def raw_bytes(case):
    """Everything that stands in the backup directory, unpacked as far as it can be."""
    found = b""
    for path in case.files():
        data = path.read_bytes()
        found += data
        if data[:4] == b"\x28\xb5\x2f\xfd":
            found += pa.CompressedInputStream(pa.BufferReader(data), "zstd").read()
    return found


def test_every_personal_column_is_sealed_or_left_out():
    for table, columns in personal_columns().items():
        if table in LEFT_OUT:
            continue
        assert set(columns) <= set(PERSONAL[table].columns), table
    known = {table.name for table in Base.metadata.sorted_tables}
    assert set(PERSONAL) | set(LEFT_OUT) <= known


def test_everything_comes_back(case):
    fill(case.registry)
    before = content(case.registry)
    case.back_up()
    assert case.verify().sound, case.verify().problems

    _restored, root = case.restore()

    with Registry.open(root / "registry.sqlite") as registry:
        assert content(registry) == before
        # New numbers are above those that came back.
        assert registry.add_sites([NewSite("Nantes")])[0] > 2


def test_everything_comes_back_into_postgresql(small_case, postgres_url):
    fill(small_case.registry)
    before = content(small_case.registry)
    small_case.back_up()

    small_case.restore(registry=postgres_url)

    with Registry.open(postgres_url) as registry:
        assert content(registry) == before
        assert registry.add_sites([NewSite("Nantes")])[0] > 2
    with pytest.raises(RegistryNotEmpty):
        small_case.restore("again", registry=postgres_url)


def test_nothing_personal_is_in_a_backup_in_clear(case):
    holders, _sites, _keys = fill(case.registry)
    case.back_up()
    said = raw_bytes(case)
    keyring = case.directory.keyring.read_bytes()
    # The adopted one is a module, whose serial is no secret.
    for word in (*STREETS, *POINTS, *METERS, DEVICES[1], SSID, NAME):
        assert word.encode() not in said
    for holder in holders:
        # The token stands beside its key, and nowhere else.
        assert said.count(holder.encode()) == keyring.count(holder.encode()) == 1


def test_who_was_erased_is_in_no_backup_any_more(case):
    """An older backup and the latest keys do not tell who lives where, and a restore does not bring it back."""
    (erased, other), (site, other_site), (key, other_key) = fill(case.registry)
    old = case.back_up()
    case.clock.step()
    case.registry.change_holder("WD-0", 1, T0 + 10, None, CollectionLevel.NONE)
    PersonKeys(case.registry, case.clock).erase_person(f"holder:{erased}")
    case.registry.erase_key(key)
    with case.registry.writing() as connection:
        connection.execute(sa.delete(Holder).where(Holder.token == erased))
    case.clock.step()
    new = case.back_up()
    # It stands in the list of erasures, and where it is written down who erased it.
    assert raw_bytes(case).count(erased.encode()) == 2
    keyring = case.directory.keyring.read_bytes()
    assert erased.encode() not in keyring
    assert f"key:{key}".encode() not in keyring
    for snapshot in (old, new):
        assert case.verify(snapshot.snapshot).sound, case.verify(snapshot.snapshot).problems

    restored, root = case.restore(snapshot=old.snapshot)

    assert restored.erased_keys == 1
    with Registry.open(root / "registry.sqlite") as registry:
        assert registry.key(key) is None
        found = {record.id: record for record in registry.sites()}
        assert (found[site].street, found[site].postcode, found[site].delivery_point) == (None, None, None)
        assert found[other_site].street == STREETS[1]
        assert registry.module("WD-0").meter_serial is None
        assert registry.module("WD-1").meter_serial == METERS[1]
        assert registry.key(other_key).holder == other
        everything = repr(content(registry, without=("token_ledger", "actions")))
        for word in (erased, STREETS[0], POINTS[0], METERS[0]):
            assert word not in everything
        # The channel goes on with a key of its own, under which nothing is kept.
        current = registry.periods("WD-0").periods[-1]
        assert (current.to_us, current.level, current.assigned) == (None, CollectionLevel.NONE, False)
        registry.pair("WD-0", 1, case.clock(), PairedAs(site, CollectionLevel.SECOND))
        # What was erased stays known as erased, for this registry's own backups.
        subjects = {each.subject for each in PersonKeys(registry).erasures()}
        assert subjects == {f"holder:{erased}", f"key:{key}"}


def test_an_erasure_after_the_last_backup_counts_as_soon_as_the_latest_copies_have_it(small_case):
    """Even with a keyring of before: somebody put an old copy of it back."""
    (erased, _), (site, _), _keys = fill(small_case.registry)
    manifest = small_case.back_up()
    old_keyring = small_case.directory.read_keyring()
    small_case.clock.step()
    PersonKeys(small_case.registry, small_case.clock).erase_person(f"holder:{erased}")
    small_case.back_up()
    small_case.directory.write_latest(old_keyring, small_case.directory.read_erasures())

    _restored, root = small_case.restore(snapshot=manifest.snapshot)

    with Registry.open(root / "registry.sqlite") as registry:
        assert registry.sites()[0].id == site
        assert registry.sites()[0].street is None


def test_who_is_erased_while_a_backup_is_made_is_not_in_it(small_case, monkeypatch):
    (erased, _), _sites, _keys = fill(small_case.registry)
    keys = PersonKeys(small_case.registry, small_case.clock)
    add = PersonKeys.add

    def erased_first(self, fresh, since_us):
        monkeypatch.setattr(PersonKeys, "add", add)
        keys.erase_person(f"holder:{erased}")
        return self.add(fresh, since_us)

    monkeypatch.setattr(PersonKeys, "add", erased_first)
    small_case.back_up()
    assert f"holder:{erased}" not in small_case.directory.read_keyring().keys
    assert small_case.verify().sound, small_case.verify().problems
    _restored, root = small_case.restore()
    with Registry.open(root / "registry.sqlite") as registry:
        assert [site.street for site in registry.sites()] == [None, STREETS[1]]


def test_a_person_who_comes_back_has_a_key_of_their_own(small_case):
    """A site that was erased and is lived in again: what is new can be read, what was is gone."""
    _holders, (site, _), _keys = fill(small_case.registry)
    old = small_case.back_up()
    keys = PersonKeys(small_case.registry, small_case.clock)
    small_case.clock.step()
    keys.erase_person(f"site:{site}")
    small_case.clock.step()
    new = small_case.back_up()

    for name, snapshot, street in (("old", old, None), ("new", new, STREETS[0])):
        _restored, root = small_case.restore(name, snapshot=snapshot.snapshot)
        with Registry.open(root / "registry.sqlite") as registry:
            assert registry.sites()[0].street == street


def test_the_access_log_comes_back_without_who_was_erased(small_case):
    fill(small_case.registry)
    with small_case.registry.writing() as connection:
        for number, subject in enumerate(("site:1", "site:2", "whatever this is")):
            connection.execute(
                sa.insert(AccessEntry).values(
                    number=number,
                    quarter_us=1,
                    at_us=1,
                    operator="o",
                    subject=subject,
                    attributes="street",
                    purpose="p",
                    ticket="",
                    count=1,
                    previous=b"",
                    sha256=b"\x00\xff",
                )
            )
    old = small_case.back_up()
    small_case.clock.step()
    PersonKeys(small_case.registry, small_case.clock).erase_person("site:1")
    small_case.back_up()
    _restored, root = small_case.restore(snapshot=old.snapshot)
    with Registry.open(root / "registry.sqlite") as registry, registry.reading() as connection:
        found = connection.execute(sa.select(AccessEntry.subject, AccessEntry.sha256).order_by(AccessEntry.number))
        assert found.all() == [("erased", b"\x00\xff"), ("site:2", b"\x00\xff"), ("whatever this is", b"\x00\xff")]


def test_keys_that_are_lost_and_not_erased_are_a_problem(small_case):
    fill(small_case.registry)
    small_case.back_up()
    ring = small_case.directory.read_keyring()
    del ring.keys["site:1"]
    small_case.directory.write_latest(ring, small_case.directory.read_erasures())
    looked = small_case.verify()
    assert not looked.sound
    assert "nobody they speak of was erased" in str(looked.problems)


def test_another_hubs_backups_are_left_alone(small_case, tmp_path):
    fill(small_case.registry)
    small_case.back_up()
    before = {path: path.read_bytes() for path in small_case.files()}
    with Registry.open(tmp_path / "stranger.sqlite") as registry:
        fill(registry)
        small_case.registry.close()
        small_case.registry = registry
        with pytest.raises(BackupRefused, match="another hub"):
            small_case.back_up()
    assert {path: path.read_bytes() for path in small_case.files()} == before


@pytest.mark.parametrize("file", ["keyring.json", "erasures.json"])
def test_without_the_latest_copies_nothing_is_restored(small_case, file):
    fill(small_case.registry)
    small_case.back_up()
    (small_case.directory.root / file).unlink()
    with pytest.raises(BackupDamaged, match="must both be there"):
        small_case.restore()
    assert not (small_case.folder / "restored").exists()


def test_erasing_a_key_adds_to_the_erasures(case):
    _holders, _sites, (key, _) = fill(case.registry)
    case.registry.change_holder("WD-0", 1, T0 + 10, None, CollectionLevel.NONE)
    case.registry.erase_key(key)
    assert [each.subject for each in PersonKeys(case.registry).erasures()] == [f"key:{key}"]


def test_a_key_of_a_person_is_made_once_and_dropped_for_good(case):
    keys = PersonKeys(case.registry, case.clock)
    first = keys.ensure("site:1")
    assert keys.ensure("site:1") == first
    keys.erase_person("site:1", actor="anna")
    keys.erase_person("site:1", actor="anna")
    assert keys.all() == {}
    assert [each.subject for each in keys.erasures()] == ["site:1"]
    assert keys.ensure("site:1") != first
