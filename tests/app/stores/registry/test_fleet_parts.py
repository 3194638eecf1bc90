"""Modules, sites, pairings and views as people change them, on SQLite and PostgreSQL."""

from __future__ import annotations

import msgspec
import pytest
import sqlalchemy as sa

from app.api.routes.sites import COLUMNS
from app.domain.credentials import hash_secret
from app.domain.errors import OperatorInputError, VersionConflict
from app.domain.ids import new_id
from app.domain.keys import CollectionLevel
from app.domain.listing import parse_listing
from app.stores.registry.admission import Admission, NewModule
from app.stores.registry.faults import NameTakenError, RefusedChangeError, UnknownNameError
from app.stores.registry.fleet_rows import FleetRows
from app.stores.registry.models import Action, Operator
from app.stores.registry.module_edits import MOST_TAGS, BulkAction, ModuleEdits
from app.stores.registry.pairing_edits import PairingEdits
from app.stores.registry.provisioning import Template
from app.stores.registry.records import (
    Collection,
    CredentialsChanged,
    ModuleKind,
    ModulesChanged,
    NewSite,
    PairedAs,
    SitesChanged,
)
from app.stores.registry.registry import Registry
from app.stores.registry.site_edits import SiteEdits
from app.stores.registry.views import SavedViews
from tests.app.stores.registry.ticking import START_US

HOME = NewSite("Lyon", street="12 rue des Lilas", postcode="69003", delivery_point="09141234567890")
LYON = NewSite("Lyon")


@pytest.fixture
def edits(registry, clock) -> ModuleEdits:
    return ModuleEdits(registry, now_us=clock)


@pytest.fixture
def sites(registry, clock) -> SiteEdits:
    return SiteEdits(registry, now_us=clock)


@pytest.fixture
def pairings(registry, clock) -> PairingEdits:
    return PairingEdits(registry, now_us=clock)


@pytest.fixture
def admission(registry, clock) -> Admission:
    return Admission(registry, now_us=clock)


@pytest.fixture
def views(registry, clock) -> SavedViews:
    return SavedViews(registry, now_us=clock)


@pytest.fixture
def told(registry) -> list:
    changes = []
    registry.subscribe(changes.append)
    return changes


def deeds(registry: Registry) -> list[tuple]:
    query = sa.select(Action.actor, Action.what, Action.subject, Action.before, Action.after).order_by(Action.id)
    with registry.reading() as connection:
        return [
            (*row[:3], *(text and msgspec.json.decode(text) for text in row[3:])) for row in connection.execute(query)
        ]


# Modules


def test_an_edit_raises_the_version_and_leaves_a_deed(registry, edits, told):
    registry.provision("WD1")
    del told[:]

    edited = edits.edit("eva", "WD1", 1, {"note": "roof", "collection": "paused", "period_ms": 2000})

    assert (edited.note, edited.collection, edited.period_ms, edited.version) == ("roof", "paused", 2000, 2)
    assert registry.module("WD1").collection is Collection.PAUSED
    assert told == [ModulesChanged(("WD1",))]
    before = {"note": None, "collection": "active", "period_ms": 1000}
    after = {"note": "set", "collection": "paused", "period_ms": 2000}
    assert deeds(registry) == [("eva", "module.edit", "module:WD1", before, after)]


def test_an_edit_of_an_old_version_changes_nothing_and_leaves_no_deed(registry, edits, told):
    registry.provision("WD1")
    edits.edit("eva", "WD1", 1, {"note": "first"})
    del told[:]

    with pytest.raises(VersionConflict):
        edits.edit("tom", "WD1", 1, {"note": "second"})
    with pytest.raises(VersionConflict):
        edits.set_tags("tom", "WD1", 1, ["x"])

    assert edits.one("WD1").note == "first"
    assert edits.one("WD1").tags == ()
    assert len(deeds(registry)) == 1
    assert told == []


def test_what_is_not_there_can_not_be_changed(edits, pairings):
    for change in (
        lambda: edits.one("WD9"),
        lambda: edits.edit("eva", "WD9", 1, {"note": ""}),
        lambda: edits.set_tags("eva", "WD9", 1, []),
        lambda: edits.rekey("eva", "WD9"),
        lambda: pairings.pairings("WD9"),
        lambda: pairings.supplies("WD9"),
        lambda: pairings.unpair("eva", "WD9", 1, START_US, CollectionLevel.NONE),
    ):
        with pytest.raises(UnknownNameError):
            change()


def test_tags_are_replaced_as_a_whole(registry, edits):
    registry.provision("WD1")
    edits.set_tags("eva", "WD1", 1, ["b", "a", "b"])

    assert edits.set_tags("eva", "WD1", 2, ["c", "a"]).tags == ("a", "c")
    assert deeds(registry)[-1][3:] == ({"tags": ["a", "b"]}, {"tags": ["a", "c"]})
    with pytest.raises(OperatorInputError, match="at most"):
        edits.set_tags("eva", "WD1", 3, [str(number) for number in range(MOST_TAGS + 1)])
    assert edits.set_tags("eva", "WD1", 3, []).tags == ()


def test_a_new_secret_ends_the_old_one_and_is_written_nowhere(registry, edits, told):
    first = registry.provision("WD1")
    (before,) = registry.credential_rows(["WD1"])
    del told[:]

    given = edits.rekey("eva", "WD1")

    (after,) = registry.credential_rows(["WD1"])
    assert given.secret != first.secret
    assert after.secret_sha256 != before.secret_sha256
    assert told == [CredentialsChanged(("WD1",), "re-keyed")]
    assert deeds(registry) == [("eva", "module.rekey", "module:WD1", None, None)]


def test_a_module_without_a_credential_gets_one_but_a_meter_does_not(registry, edits):
    registry.ensure_modules(["WD1"])
    registry.ensure_modules(["METER1"], Template(kind=ModuleKind.METER))

    edits.rekey("eva", "WD1")

    assert edits.one("WD1").credential == "active"
    with pytest.raises(RefusedChangeError, match="no credential"):
        edits.rekey("eva", "METER1")


def test_a_bulk_action_says_whom_it_leaves_out_and_why_before_and_after(registry, edits, told, clock):
    registry.provision_many(["WD1", "WD2", "WD3"])
    registry.ensure_modules(["METER1"], Template(kind=ModuleKind.METER))
    edits.act("eva", ["WD2"], BulkAction.BLOCK)
    asked = ["WD3", "METER1", "WD2", "WD1", "WD9", "WD1"]
    del told[:]
    clock.now_us += 5

    planned = edits.plan(asked, BulkAction.BLOCK)
    assert told == []
    done = edits.act("eva", asked, BulkAction.BLOCK)

    assert planned == done
    assert done.affected == ("WD3", "WD1")
    assert dict(done.left_out) == {"METER1": "has no credential", "WD2": "is blocked", "WD9": "unknown"}
    assert told == [CredentialsChanged(("WD3", "WD1"), "blocked")]
    assert [deed[2] for deed in deeds(registry)] == ["module:WD2", "module:WD3", "module:WD1"]
    assert edits.one("WD1").blocked_us == START_US + 5
    # Who was blocked already keeps the time of it.
    assert edits.one("WD2").blocked_us == START_US
    assert edits.act("eva", asked, BulkAction.UNBLOCK).affected == ("WD3", "WD2", "WD1")
    assert edits.one("WD1").credential == "active"


@pytest.mark.parametrize("action", [BulkAction.BLOCK, BulkAction.TAG, BulkAction.REKEY])
def test_a_step_of_a_job_that_is_repeated_tells_the_same_and_leaves_one_deed(registry, edits, action):
    registry.provision_many(["WD1", "WD2", "WD3"])
    registry.ensure_modules(["METER1"], Template(kind=ModuleKind.METER))
    tag = "pilot" if action is BulkAction.TAG else None
    asked = ["WD3", "WD1", "WD9"] if action is BulkAction.TAG else ["WD3", "METER1", "WD1", "WD9"]
    job_id, other = new_id(START_US), new_id(START_US)

    first = edits.act("eva", asked, action, tag, job_id=job_id)
    version = edits.one("WD1").version
    again = edits.act("eva", asked, action, tag, job_id=job_id)

    assert again.affected == first.affected == ("WD3", "WD1")
    assert again.left_out == first.left_out
    assert edits.one("WD1").version == version
    assert [(deed[1], deed[2], deed[4]["job"]) for deed in deeds(registry)] == [
        (f"module.{action}", f"module:{serial}", job_id) for serial in ("WD3", "WD1")
    ]
    if action is not BulkAction.REKEY:
        # Another job finds them changed, and says so.
        assert edits.act("eva", asked, action, tag, job_id=other).affected == ()


def test_a_bulk_of_new_secrets_ends_the_old_and_gives_one_to_who_had_none(registry, edits, told):
    (old,) = registry.provision_many(["WD1"])
    registry.ensure_modules(["WD2"])
    del told[:]
    done = edits.act("eva", ["WD1", "WD2"], BulkAction.REKEY)

    assert done.affected == ("WD1", "WD2")
    rows = {row.username: row.secret_sha256 for row in registry.credential_rows()}
    assert rows == {serial: hash_secret(secret) for serial, secret in done.secrets.items()}
    assert done.secrets["WD1"] != old.secret
    assert told == [CredentialsChanged(("WD1", "WD2"), "re-keyed")]
    assert not any(secret in str(deeds(registry)) for secret in done.secrets.values())
    assert "secrets" not in repr(done)


def test_tags_in_bulk_count_as_an_edit_of_each(registry, edits):
    registry.provision_many(["WD1", "WD2", "WD3"])
    edits.set_tags("eva", "WD2", 1, ["pilot"])
    edits.set_tags("eva", "WD3", 1, [f"t{number}" for number in range(MOST_TAGS)])

    done = edits.act("eva", ["WD1", "WD2", "WD3"], BulkAction.TAG, "pilot")

    assert done.affected == ("WD1",)
    assert dict(done.left_out) == {"WD2": "has the tag", "WD3": "has too many tags"}
    assert (edits.one("WD1").tags, edits.one("WD1").version) == (("pilot",), 2)
    assert edits.one("WD2").version == 2
    assert edits.act("eva", ["WD1", "WD2", "WD3"], BulkAction.UNTAG, "pilot").affected == ("WD1", "WD2")
    assert edits.one("WD2").tags == ()


# New modules


def test_modules_come_with_sites_tags_notes_and_credentials(registry, admission, told):
    site = registry.add_sites([LYON])[0]
    del told[:]

    admitted = admission.admit(
        "eva",
        [
            NewModule("WD1", HOME, ("b", "a"), "roof"),
            NewModule("WD2", HOME),
            NewModule("WD3", site),
            NewModule("WD4"),
        ],
    )

    assert [given.serial for given in admitted.credentials] == ["WD1", "WD2", "WD3", "WD4"]
    assert len({given.secret for given in admitted.credentials}) == 4
    (new,) = admitted.new_sites
    rows = {row.serial: row for row in FleetRows(registry).modules(["WD1", "WD2", "WD3", "WD4"])}
    assert [rows[f"WD{number}"].site_id for number in (1, 2, 3, 4)] == [new, new, site, None]
    assert rows["WD1"].tags == ("a", "b")
    assert rows["WD1"].blocked is False
    assert SitesChanged((new,)) in told
    assert [deed[:3] for deed in deeds(registry)][:2] == [
        ("eva", "site.create", f"site:{new}"),
        ("eva", "module.create", "module:WD1"),
    ]
    assert not any(given.secret in str(deeds(registry)) for given in admitted.credentials)
    assert "Lilas" not in str(deeds(registry))


@pytest.mark.parametrize(
    ("modules", "fault"),
    [
        ([NewModule("WD1", HOME), NewModule("OLD")], NameTakenError),
        ([NewModule("WD1", HOME), NewModule("WD1")], OperatorInputError),
        ([NewModule("WD1", HOME), NewModule("no serial")], OperatorInputError),
        ([NewModule("WD1", 999)], UnknownNameError),
        ([NewModule("WD1", NewSite("Lyon", zone="Mars/Olympus"))], OperatorInputError),
    ],
)
def test_of_a_list_with_a_mistake_nothing_is_registered(registry, admission, told, modules, fault):
    registry.provision("OLD")
    del told[:]

    with pytest.raises(fault):
        admission.admit("eva", modules)

    assert [module.serial for module in registry.modules()] == ["OLD"]
    assert registry.sites() == []
    assert deeds(registry) == []
    assert told == []


# Sites


def test_a_site_is_made_corrected_and_told_without_what_is_personal(registry, sites, told):
    made = sites.create("eva", HOME)
    registry.provision("WD1", Template(sites=(made.id,)))
    del told[:]

    edited = sites.edit("eva", made.id, 1, {"city": "Villeurbanne", "street": None})

    assert (edited.city, edited.street, edited.version, edited.modules) == ("Villeurbanne", None, 2, 1)
    assert told == [SitesChanged((made.id,), moved=True), ModulesChanged(("WD1",))]
    assert next(iter(registry.places().values())).city == "Villeurbanne"
    assert deeds(registry) == [
        (
            "eva",
            "site.create",
            f"site:{made.id}",
            None,
            {"city": "Lyon", "zone": "Europe/Paris", "street": "set", "postcode": "set", "delivery_point": "set"},
        ),
        (
            "eva",
            "site.edit",
            f"site:{made.id}",
            {"city": "Lyon", "street": "set"},
            {"city": "Villeurbanne", "street": None},
        ),
    ]


def test_a_site_is_changed_by_its_version_only(sites):
    made = sites.create("eva", HOME)

    with pytest.raises(VersionConflict):
        sites.edit("eva", made.id, 7, {"street": "x"})
    with pytest.raises(OperatorInputError, match="time zone"):
        sites.edit("eva", made.id, 1, {"zone": "Mars/Olympus"})
    with pytest.raises(VersionConflict):
        sites.delete("eva", made.id, 7)
    for number in (0, made.id + 1, 2**62, 2**70):
        with pytest.raises(UnknownNameError):
            sites.one(number)

    assert sites.one(made.id) == made


def test_a_site_that_ever_had_a_module_stays(registry, sites, pairings, clock):
    used, unused = sites.create("eva", HOME), sites.create("eva", LYON)
    registry.provision("WD1", Template(sites=(used.id,)))
    pairings.unpair("eva", "WD1", 1, clock.now_us + 1, CollectionLevel.NONE)

    with pytest.raises(RefusedChangeError):
        sites.delete("eva", used.id, 1)
    sites.delete("eva", unused.id, 1)

    assert [site.id for site in registry.sites()] == [used.id]
    assert deeds(registry)[-1][1:3] == ("site.delete", f"site:{unused.id}")


def test_sites_are_filtered_sorted_and_paged(registry, sites):
    numbers = registry.add_sites(
        [
            NewSite("Lyon", street="1 rue B"),
            NewSite("Nice", street="50% rue A", postcode="06000"),
            NewSite("Lyon"),
            NewSite("Brest", street="1 Rue A"),
        ]
    )
    registry.provision_many(["WD1", "WD2"], Template(sites=(numbers[0],)))

    def found(sort: str = "", *filters: str, offset: int = 0, limit: int = 10) -> tuple[list[int], int]:
        page = sites.page(parse_listing(COLUMNS, offset=offset, limit=limit, sort=sort, filters=filters))
        return [numbers.index(site.id) for site in page.rows], page.total

    assert found() == ([0, 1, 2, 3], 4)
    assert found(offset=1, limit=2) == ([1, 2], 4)
    # Unknown comes last either way.
    assert found("street")[0][-1] == 2
    assert found("-street")[0][-1] == 2
    assert found("city,-id") == ([3, 2, 0, 1], 4)
    assert found("", "street:has:RUE a") == ([1, 3], 2)
    assert found("", "street:has:%") == ([1], 1)
    assert found("", "street:ne:1 rue B") == ([1, 2, 3], 3)
    assert found("", "city:in:Nice|Brest") == ([1, 3], 2)
    assert found("", "modules:ge:1") == ([0], 1)
    assert found("-modules")[0][0] == 0
    assert found("", "postcode:lt:1") == ([1], 1)
    assert found("", "id:gt:" + str(numbers[1]), "city:eq:Lyon") == ([2], 1)
    with pytest.raises(OperatorInputError, match="NUL"):
        found("", "city:eq:a\x00b")


# Pairings


def test_a_pairing_begins_changes_and_ends(registry, sites, pairings, clock, told):
    registry.provision("WD1")
    home = sites.create("eva", HOME)
    at_us = START_US + 1_000_000
    del told[:]

    paired = PairedAs(home.id, CollectionLevel.SECOND, "M1")
    pairings.pair("eva", "WD1", 1, at_us, paired, new_holder=True)
    pairings.change_meter("eva", "WD1", 1, at_us + 1, "M2")
    pairings.change_holder("eva", "WD1", 1, at_us + 2, holder=None, level=CollectionLevel.DAILY, new_holder=True)
    (now,) = pairings.supplies("WD1")
    pairings.unpair("eva", "WD1", 1, at_us + 3, CollectionLevel.NONE)

    assert (now.site_id, now.meter_serial, now.level) == (home.id, "M2", CollectionLevel.DAILY)
    assert now.holder is not None
    found = [
        (row.meter_serial, row.from_us - at_us, row.to_us and row.to_us - at_us) for row in pairings.pairings("WD1")
    ]
    assert found == [("M1", 0, 1), ("M2", 1, 3)]
    assert [deed[1] for deed in deeds(registry)][1:] == [
        "pairing.begin",
        "pairing.meter",
        "pairing.holder",
        "pairing.end",
    ]
    assert "M2" not in str(deeds(registry))
    assert now.holder not in str(deeds(registry))
    assert told == [ModulesChanged(("WD1",))] * 4
    assert pairings.supplies("WD1")[0].site_id is None


def test_a_pairing_that_can_not_be_leaves_nothing_behind(registry, sites, pairings, told):
    home = sites.create("eva", HOME)
    registry.provision("WD1", Template(sites=(home.id,)))
    registry.provision("WD2")
    del told[:]
    before = deeds(registry)

    with pytest.raises(RefusedChangeError, match="is paired"):
        pairings.pair("eva", "WD1", 1, START_US, PairedAs(home.id, CollectionLevel.SECOND), new_holder=True)
    with pytest.raises(RefusedChangeError, match="before"):
        pairings.unpair("eva", "WD1", 1, START_US - 1, CollectionLevel.NONE)
    with pytest.raises(UnknownNameError):
        pairings.change_holder("eva", "WD1", 1, START_US, holder="c-0000000000", level=CollectionLevel.NONE)
    for number in (99, 2**62, 2**70):
        with pytest.raises(UnknownNameError):
            pairings.pair("eva", "WD2", 1, START_US, PairedAs(number, CollectionLevel.SECOND))

    assert deeds(registry) == before
    assert told == []
    assert pairings.supplies_of_many(["WD1", "WD9"])["WD1"].holder is None


# Views


def operators(registry: Registry) -> tuple[int, int]:
    with registry.writing() as connection:
        return tuple(
            connection.execute(
                sa.insert(Operator)
                .values(
                    name=name,
                    role="support",
                    password_hash="x",
                    must_change_password=False,
                    password_us=START_US,
                    created_us=START_US,
                )
                .returning(Operator.id)
            ).scalar_one()
            for name in ("eva", "tom")
        )


def test_views_are_seen_by_their_owner_and_shared_ones_by_all(registry, views):
    eva, tom = operators(registry)
    mine = views.create("eva", eva, page="modules", name="Silent", definition={"sort": "-age_s"}, shared=False)
    shared = views.create("eva", eva, page="modules", name="All", definition={}, shared=True)
    embedded = views.create("embedded", None, page="sites", name="All", definition={}, shared=False)

    assert [view.id for view in views.visible(eva)] == [shared.id, mine.id]
    assert [(view.id, view.mine, view.owner) for view in views.visible(tom)] == [(shared.id, False, "eva")]
    assert [view.id for view in views.visible(None)] == [shared.id, embedded.id]
    assert [view.id for view in views.visible(eva, "sites")] == []
    with pytest.raises(UnknownNameError):
        views.one(tom, mine.id)
    with pytest.raises(UnknownNameError):
        views.edit("tom", tom, shared.id, 1, {"name": "Mine now"})
    with pytest.raises(UnknownNameError):
        views.delete("tom", tom, shared.id, 1)
    assert views.one(eva, mine.id).definition == {"sort": "-age_s"}


def test_a_view_is_changed_by_its_version_and_has_a_name_of_its_own(registry, views):
    eva, tom = operators(registry)
    view = views.create("eva", eva, page="modules", name="A", definition={}, shared=False)
    views.create("eva", eva, page="modules", name="B", definition={}, shared=False)
    # Another's, and another page's, may be called the same.
    views.create("tom", tom, page="modules", name="A", definition={}, shared=False)
    views.create("eva", eva, page="sites", name="A", definition={}, shared=False)

    for owner in (eva, None):
        views.create("x", owner, page="modules", name="C", definition={}, shared=False)
        with pytest.raises(NameTakenError):
            views.create("x", owner, page="modules", name="C", definition={}, shared=False)
    with pytest.raises(NameTakenError):
        views.edit("eva", eva, view.id, 1, {"name": "B"})
    edited = views.edit("eva", eva, view.id, 1, {"name": "A", "definition": {"x": [1]}, "shared": True})
    assert (edited.version, edited.definition, edited.shared) == (2, {"x": [1]}, True)
    with pytest.raises(VersionConflict):
        views.delete("eva", eva, view.id, 1)
    views.delete("eva", eva, view.id, 2)
    with pytest.raises(UnknownNameError):
        views.one(eva, view.id)
    with pytest.raises(OperatorInputError, match="bytes"):
        views.create("eva", eva, page="modules", name="Big", definition={"x": "y" * 30_000}, shared=False)
