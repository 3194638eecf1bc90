"""What the platform asks of the registry, on each database."""

from __future__ import annotations

import concurrent.futures
import re
import threading

import pytest

from app.domain.credentials import CredentialKind, hash_secret
from app.domain.errors import BugError, OperatorInputError
from app.domain.keys import BEGINNING_US, CollectionLevel, SupplyPeriods
from app.stores.registry import chunks
from app.stores.registry.faults import NameTakenError, RefusedChangeError, UnknownNameError
from app.stores.registry.opening import locate
from app.stores.registry.provisioning import Template
from app.stores.registry.records import (
    Collection,
    CredentialsChanged,
    ModuleFacts,
    ModuleKind,
    ModulesChanged,
    NewSite,
    PairedAs,
    Place,
)
from app.stores.registry.registry import Registry
from tests.app.stores.registry.ticking import START_US, Ticking

HOUR_US = 3_600_000_000


def the_key(periods: SupplyPeriods, time_us: int) -> int:
    period = periods.at(time_us)
    assert period is not None
    return period.key


class TestModules:
    def test_a_provisioned_module_has_a_credential_a_channel_and_a_key_from_the_beginning(self, registry: Registry):
        given = registry.provision("WD-1")

        (row,) = registry.credential_rows()
        assert given.username == given.serial == row.username == "WD-1"
        assert row.kind is CredentialKind.MODULE
        assert row.secret_sha256 == hash_secret(given.secret)
        assert not row.blocked
        periods = registry.periods("WD-1")
        assert [(p.from_us, p.to_us, p.level, p.assigned) for p in periods.periods] == [
            (BEGINNING_US, None, CollectionLevel.SECOND, False)
        ]
        module = registry.module("WD-1")
        assert module is not None
        assert (module.kind, module.channels, module.created_us) == (ModuleKind.MODULE, (1,), START_US)

    def test_a_secret_has_at_least_128_random_bits_and_is_not_kept(self, registry: Registry):
        secrets = {given.secret for given in registry.provision_many([f"WD-{n}" for n in range(100)])}

        assert len(secrets) == 100
        assert min(map(len, secrets)) * 6 >= 128
        stored = {row.secret_sha256 for row in registry.credential_rows()}
        assert stored == {hash_secret(secret) for secret in secrets}

    def test_provisioning_is_all_or_nothing(self, registry: Registry):
        registry.provision("WD-2")

        with pytest.raises(NameTakenError, match="WD-2"):
            registry.provision_many(["WD-1", "WD-2", "WD-3"])
        with pytest.raises(OperatorInputError, match="twice"):
            registry.provision_many(["WD-4", "WD-4"])
        with pytest.raises(UnknownNameError, match="site 77"):
            registry.provision_many(["WD-5"], Template(sites=(77,)))

        assert [module.serial for module in registry.modules()] == ["WD-2"]
        assert len(registry.credential_rows()) == 1

    @pytest.mark.parametrize("serial", ["", "a/b", "a+b", "#", "with space", "x" * 33, ".hidden", "é", "a\n", "a:b"])
    def test_a_serial_is_one_level_of_a_topic(self, registry: Registry, serial: str):
        with pytest.raises(OperatorInputError, match="serial"):
            registry.provision(serial)

    def test_channels_of_a_clamp_meter_have_keys_of_their_own(self, registry: Registry):
        registry.provision("CLAMP", Template(channels=3, dialect="shelly"))

        all_periods = registry.all_periods()
        assert sorted(all_periods) == [("CLAMP", 1), ("CLAMP", 2), ("CLAMP", 3)]
        assert len({periods.periods[0].key for periods in all_periods.values()}) == 3
        with pytest.raises(OperatorInputError, match="channels"):
            Template(channels=0)

    def test_a_module_without_credential_is_registered_once_and_may_get_one_later(self, registry: Registry):
        template = Template(kind=ModuleKind.METER, dialect="tic", period_ms=None, meter_serial="041876097893")

        assert registry.ensure_modules(["METER", "METER"], template) == ["METER"]
        assert registry.ensure_modules(["METER"], template) == []

        module = registry.module("METER")
        assert module is not None
        assert (module.dialect, module.period_ms, module.meter_serial) == ("tic", None, "041876097893")
        assert registry.credential_rows() == []
        assert registry.periods("METER").current is not None
        registry.give_credentials(["METER"])
        assert [row.username for row in registry.credential_rows()] == ["METER"]
        with pytest.raises(NameTakenError):
            registry.give_credentials(["METER"])
        with pytest.raises(UnknownNameError):
            registry.give_credentials(["NOBODY"])

    def test_facts_of_a_birth_message_are_kept(self, registry: Registry):
        registry.provision("WD-1")

        registry.set_facts("WD-1", firmware="1.4.2", period_ms=2000)
        registry.set_facts("WD-1", hardware="B")
        registry.set_facts("WD-1")
        registry.set_collection("WD-1", Collection.PAUSED)

        module = registry.module("WD-1")
        assert module is not None
        assert (module.firmware, module.period_ms, module.hardware) == ("1.4.2", 2000, "B")
        assert module.collection is Collection.PAUSED
        with pytest.raises(UnknownNameError, match="NOBODY"):
            registry.set_facts("NOBODY", firmware="1")
        with pytest.raises(UnknownNameError, match="NOBODY"):
            registry.set_facts("NOBODY")
        assert registry.module("NOBODY") is None

    def test_facts_of_a_fleet_that_comes_back_are_written_together(self, registry: Registry):
        registry.provision_many(["WD-1", "WD-2", "WD-3"])
        registry.set_facts("WD-2", hardware="B", firmware="1.0")
        heard: list[object] = []
        registry.subscribe(heard.append)

        registry.set_facts_of_many(
            {"WD-1": ModuleFacts(firmware="1.1"), "WD-2": ModuleFacts(period_ms=500), "gone": ModuleFacts(firmware="9")}
        )
        registry.set_facts_of_many({})

        found = [(module.firmware, module.hardware, module.period_ms) for module in registry.modules()]
        assert found == [("1.1", None, 1000), ("1.0", "B", 500), (None, None, 1000)]
        assert heard == [ModulesChanged(("WD-1", "WD-2", "gone"))]

    def test_a_fleet_is_paired_with_its_sites_in_one_go(self, registry: Registry):
        sites = registry.add_sites([NewSite(city) for city in ("Lyon", "Nantes", "Lille")])
        serials = [f"WD-{n}" for n in range(7)]

        registry.provision_many(serials, Template(sites=tuple(sites), channels=2))

        places = registry.places()
        for index, serial in enumerate(serials):
            for channel in (1, 2):
                period = registry.periods(serial, channel).current
                assert period is not None
                assert period.assigned
                assert places[period.key].city == ("Lyon", "Nantes", "Lille")[index % 3]
                assert [pairing.from_us for pairing in registry.pairings(serial, channel)] == [START_US]

    def test_a_fleet_needs_more_names_than_fit_into_a_statement(
        self, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(chunks, "NAMES_PER_STATEMENT", 7)
        serials = [f"WD-{n:03}" for n in range(50)]
        registry.provision_many(serials)

        some = serials[40:3:-1]
        assert [module.serial for module in registry.modules(some)] == sorted(some)
        assert {serial for serial, _ in registry.all_periods(some)} == set(some)
        assert {row.username for row in registry.credential_rows(some)} == set(some)
        assert registry.modules([]) == registry.credential_rows([]) == []
        with pytest.raises(NameTakenError, match=r"and 32 more"):
            registry.provision_many(["NEW", *some])


class TestCredentials:
    def test_a_credential_is_added_blocked_allowed_and_removed(self, registry: Registry, clock: Ticking):
        secret = registry.add_credential(
            "tasmota", CredentialKind.SOURCE, publish=["tele/+/SENSOR", "stat/#"], subscribe=["cmnd/#"], note="attic"
        )

        (record,) = registry.credentials()
        assert record.publish == ("tele/+/SENSOR", "stat/#")
        assert record.subscribe == ("cmnd/#",)
        assert (record.kind, record.note, record.module_serial) == (CredentialKind.SOURCE, "attic", None)
        assert secret not in repr(record)
        clock.now_us += 5
        registry.block("tasmota")
        assert registry.credentials()[0].blocked_us == START_US + 5
        assert registry.credential_rows(["tasmota"])[0].blocked
        registry.unblock("tasmota")
        assert not registry.credential_rows(["tasmota"])[0].blocked
        registry.remove_credential("tasmota")
        assert registry.credentials() == []
        for method in (registry.block, registry.unblock, registry.remove_credential, registry.rotate_secret):
            with pytest.raises(UnknownNameError, match="tasmota"):
                method("tasmota")

    def test_a_rotated_secret_replaces_the_old_one(self, registry: Registry):
        old = registry.provision("WD-1").secret

        new = registry.rotate_secret("WD-1")

        assert new != old
        assert registry.credential_rows()[0].secret_sha256 == hash_secret(new)

    def test_names_and_patterns_are_checked(self, registry: Registry):
        registry.ensure_modules(["WD-1"])
        with pytest.raises(NameTakenError):
            registry.add_credential("WD-1", CredentialKind.SERVICE)
        with pytest.raises(OperatorInputError, match="provisioning"):
            registry.add_credential("x", CredentialKind.MODULE)
        with pytest.raises(OperatorInputError, match="user name"):
            registry.add_credential("a\nb", CredentialKind.SERVICE)
        for pattern in ("", "a/#/b", "a+", "a/b#", "a\nb", "a\0"):
            with pytest.raises(OperatorInputError, match="pattern"):
                registry.add_credential("x", CredentialKind.SERVICE, publish=[pattern])

        assert registry.credentials() == []

    def test_last_use_is_noted_in_bulk(self, registry: Registry):
        registry.provision_many(["WD-1", "WD-2", "WD-3"])

        registry.note_used({"WD-1": 7, "WD-3": 9, "gone": 11})
        registry.note_used({})

        assert [record.last_used_us for record in registry.credentials()] == [7, None, 9]


class TestSupplyPeriods:
    def test_each_change_ends_a_key_and_begins_another_at_that_instant(self, registry: Registry):
        site, other_site = registry.add_sites(
            [NewSite("Lyon"), NewSite("Nice", "Europe/Paris", street="1 rue du Port")]
        )
        holder, next_holder = registry.add_holder(), registry.add_holder()
        registry.provision("WD-1")
        t = [START_US + n * HOUR_US for n in range(6)]

        changes = [
            registry.pair("WD-1", 1, t[0], PairedAs(site, CollectionLevel.TEN_MINUTES, "M1", holder)),
            registry.change_meter("WD-1", 1, t[1], "M2"),
            registry.change_holder("WD-1", 1, t[2], next_holder, CollectionLevel.DAILY),
            registry.unpair("WD-1", 1, t[3]),
            registry.pair("WD-1", 1, t[4], PairedAs(other_site, CollectionLevel.SECOND)),
        ]

        periods = registry.periods("WD-1")
        assert [(p.from_us, p.to_us) for p in periods.periods] == [
            (BEGINNING_US, t[0]), (t[0], t[1]), (t[1], t[2]), (t[2], t[3]), (t[3], t[4]), (t[4], None)
        ]  # fmt: skip
        assert [p.level.name for p in periods.periods] == [
            "SECOND",
            "TEN_MINUTES",
            "TEN_MINUTES",
            "DAILY",
            "NONE",
            "SECOND",
        ]
        assert [p.assigned for p in periods.periods] == [False, True, True, True, False, True]
        assert [change.opened.key for change in changes] == [p.key for p in periods.periods[1:]]
        assert [change.closed for change in changes] == list(periods.periods[:-1])
        whose = [registry.key(p.key) for p in periods.periods]
        assert [(w.site_id, w.meter_serial, w.holder) for w in whose if w] == [
            (None, None, None), (site, "M1", holder), (site, "M2", holder), (site, "M2", next_holder),
            (None, None, None), (other_site, None, None),
        ]  # fmt: skip
        assert [(p.site_id, p.meter_serial, p.from_us, p.to_us) for p in registry.pairings("WD-1")] == [
            (site, "M1", t[0], t[1]), (site, "M2", t[1], t[3]), (other_site, None, t[4], None)
        ]  # fmt: skip
        assert registry.places()[periods.periods[-1].key] == Place("Nice", 2, "Europe/Paris")

    def test_late_data_go_to_the_key_of_their_module_time(self, registry: Registry):
        (site,) = registry.add_sites([NewSite("Lyon")])
        registry.provision("WD-1")
        change = registry.pair("WD-1", 1, START_US, PairedAs(site, CollectionLevel.SECOND))
        assert change.closed is not None

        periods = registry.periods("WD-1")

        assert the_key(periods, START_US - 1) == the_key(periods, BEGINNING_US) == change.closed.key
        assert the_key(periods, START_US) == the_key(periods, START_US + HOUR_US) == change.opened.key

    def test_refused_changes_change_nothing(self, registry: Registry):
        (site,) = registry.add_sites([NewSite("Lyon")])
        registry.provision("WD-1")
        paired = PairedAs(site, CollectionLevel.SECOND)
        for change in (
            lambda: registry.unpair("WD-1", 1, START_US),
            lambda: registry.change_meter("WD-1", 1, START_US, "M"),
            lambda: registry.change_holder("WD-1", 1, START_US, None, CollectionLevel.SECOND),
        ):
            with pytest.raises(RefusedChangeError, match="not paired"):
                change()
        registry.pair("WD-1", 1, START_US, paired)
        before = registry.periods("WD-1")
        with pytest.raises(RefusedChangeError, match="is paired"):
            registry.pair("WD-1", 1, START_US + 1, paired)
        with pytest.raises(RefusedChangeError, match="before"):
            registry.unpair("WD-1", 1, START_US - 1)
        with pytest.raises(RefusedChangeError, match="before"):
            registry.change_holder("WD-1", 1, START_US - 1, None, CollectionLevel.SECOND)
        with pytest.raises(UnknownNameError, match="holder"):
            registry.change_holder("WD-1", 1, START_US, "c-0000000000", CollectionLevel.SECOND)
        with pytest.raises(UnknownNameError, match="channel 2 of module WD-1"):
            registry.pair("WD-1", 2, START_US, paired)
        registry.provision("WD-2")
        with pytest.raises(UnknownNameError, match="site"):
            registry.pair("WD-2", 1, START_US, PairedAs(site + 1, CollectionLevel.SECOND))
        with pytest.raises(UnknownNameError, match="holder"):
            registry.pair("WD-2", 1, START_US, PairedAs(site, CollectionLevel.SECOND, holder="c-0000000000"))

        assert registry.periods("WD-1") == before
        assert [(p.from_us, p.to_us) for p in registry.pairings("WD-1")] == [(START_US, None)]
        assert registry.pairings("WD-2") == []

    def test_two_changes_at_one_instant_leave_a_period_that_covers_nothing(self, registry: Registry):
        (site,) = registry.add_sites([NewSite("Lyon")])
        registry.provision("WD-1")
        registry.pair("WD-1", 1, START_US, PairedAs(site, CollectionLevel.SECOND))

        change = registry.change_meter("WD-1", 1, START_US, "M2")

        assert the_key(registry.periods("WD-1"), START_US) == change.opened.key
        assert len(registry.periods("WD-1").periods) == 2

    def test_a_change_of_consent_is_no_new_key(self, registry: Registry):
        registry.provision("WD-1")
        key = the_key(registry.periods("WD-1"), START_US)

        registry.set_level(key, CollectionLevel.DAILY)

        current = registry.periods("WD-1").current
        assert current is not None
        assert (current.key, current.level) == (key, CollectionLevel.DAILY)
        with pytest.raises(UnknownNameError):
            registry.set_level(key ^ 1, CollectionLevel.DAILY)

    def test_an_erased_key_leaves_a_gap_and_is_never_given_again(self, registry_url: str, registry: Registry):
        (site,) = registry.add_sites([NewSite("Lyon")])
        registry.provision("WD-1")
        first = registry.pair("WD-1", 1, START_US, PairedAs(site, CollectionLevel.SECOND, "M1", registry.add_holder()))
        key = first.opened.key
        with pytest.raises(RefusedChangeError, match="goes on"):
            registry.erase_key(key)
        registry.unpair("WD-1", 1, START_US + HOUR_US)

        registry.erase_key(key)

        assert registry.key(key) is None
        assert registry.periods("WD-1").at(START_US) is None
        assert registry.pairings("WD-1") == []
        with pytest.raises(UnknownNameError):
            registry.erase_key(key)
        drawn = iter([[key], [key], [key], [key], [4711]])
        repeating = Registry(locate(registry_url), draw_keys=lambda _count: next(drawn))
        try:
            with pytest.raises(BugError, match="repeats"):
                repeating.provision("WD-2")
            assert repeating.module("WD-2") is None
            assert repeating.provision("WD-2").serial == "WD-2"
            assert the_key(repeating.periods("WD-2"), 0) == 4711
        finally:
            repeating.close()

    def test_keys_are_random_positive_and_different(self, registry: Registry):
        registry.provision_many([f"WD-{n}" for n in range(500)])

        keys = [periods.periods[0].key for periods in registry.all_periods().values()]

        assert len(set(keys)) == 500
        assert min(keys) > 0
        assert max(keys) < 2**63
        # Numbers given one after another would tell who came when; 500 random ones spread over the whole range.
        assert max(keys) > 2**62

    def test_tokens_can_be_read_out_and_are_never_given_again(self, registry_url: str, registry: Registry):
        token = registry.add_holder()
        assert re.fullmatch(r"c-[0-9A-HJKMNP-TV-Z]{10}", token)
        drawn = iter([token, "c-0123456789"])
        repeating = Registry(locate(registry_url), draw_token=lambda: next(drawn))
        try:
            assert repeating.add_holder() == "c-0123456789"
        finally:
            repeating.close()

    def test_periods_of_some_modules(self, registry: Registry):
        registry.provision_many(["WD-1", "WD-2", "WD-3"])

        assert set(registry.all_periods(["WD-3", "WD-1", "gone"])) == {("WD-1", 1), ("WD-3", 1)}
        assert registry.periods("gone").periods == ()


class TestSites:
    def test_sites_keep_their_order_and_address(self, registry: Registry):
        new = NewSite("Brest", "Europe/Paris", "2 quai", "29200", "12345678901234")
        numbers = registry.add_sites([NewSite("Lyon"), new])

        assert registry.add_sites([]) == []
        assert [site.id for site in registry.sites()] == numbers
        site = registry.sites()[1]
        assert (site.city, site.street, site.postcode, site.delivery_point) == (
            "Brest",
            "2 quai",
            "29200",
            new.delivery_point,
        )

    def test_a_city_keeps_its_number(self, registry: Registry):
        """The city series are kept under these numbers."""

        def number_of(city: str) -> int:
            return next(place.city_number for place in registry.places().values() if place.city == city)

        for serial, city in (("WD-1", "Nice"), ("WD-2", "Brest"), ("WD-3", "Nice")):
            registry.provision(serial, Template(sites=tuple(registry.add_sites([NewSite(city)]))))

        assert (number_of("Nice"), number_of("Brest")) == (1, 2)
        assert len({place.city_number for place in registry.places().values()}) == 2

    @pytest.mark.parametrize("zone", ["Europe/Atlantis", "", "../etc/passwd", "/etc/localtime", "x\0"])
    def test_a_zone_is_one_of_iana(self, registry: Registry, zone: str):
        with pytest.raises(OperatorInputError, match="time zone"):
            registry.add_sites([NewSite("Lyon"), NewSite("Nowhere", zone)])

        assert registry.sites() == []


def test_listeners_hear_of_changes_after_their_commit(registry: Registry):
    heard = []
    registry.subscribe(lambda change: heard.append((change, len(registry.modules()))))

    registry.provision_many(["WD-1", "WD-2"])
    with pytest.raises(NameTakenError):
        registry.provision("WD-1")
    registry.block("WD-1")

    assert heard == [
        (ModulesChanged(("WD-1", "WD-2")), 2),
        (CredentialsChanged(("WD-1", "WD-2"), "given"), 2),
        (CredentialsChanged(("WD-1",), "blocked"), 2),
    ]


def test_one_writer_and_many_readers_do_not_meet(registry: Registry):
    """Readers see whole provisionings only, and nobody gets a lock error."""
    ended = threading.Event()

    def read() -> None:
        while not ended.is_set():
            assert len(registry.modules()) % 20 == 0
            assert len(registry.all_periods()) % 20 == 0

    def write(writer: int) -> None:
        for batch in range(5):
            registry.provision_many([f"W{writer}-{batch}-{n}" for n in range(20)])

    with concurrent.futures.ThreadPoolExecutor() as threads:
        readers = [threads.submit(read) for _ in range(3)]
        writers = [threads.submit(write, n) for n in range(2)]
        concurrent.futures.wait(writers)
        ended.set()
        for future in (*readers, *writers):
            future.result()

    assert len(registry.modules()) == 200


def test_two_processes_that_register_the_same_modules_take_turns(registry_url: str, registry: Registry):
    """A command line beside the hub: one of the two is told that the names are taken."""
    serials = [f"WD-{n}" for n in range(200)]

    def provision(own: Registry) -> int:
        try:
            return len(own.provision_many(serials))
        except NameTakenError:
            return 0

    with Registry.open(registry_url) as other, concurrent.futures.ThreadPoolExecutor() as threads:
        counts = list(threads.map(provision, [registry, other]))

    assert sorted(counts) == [0, 200]
    assert len(registry.credential_rows()) == 200


def test_what_was_written_is_there_after_opening_again(registry_url: str):
    with Registry.open(registry_url) as registry:
        registry.provision("WD-1")
        before = registry.all_periods(), registry.credential_rows(), registry.modules()

    with Registry.open(registry_url) as registry:
        assert (registry.all_periods(), registry.credential_rows(), registry.modules()) == before
