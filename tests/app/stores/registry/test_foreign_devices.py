"""Devices of others in the database, SQLite and PostgreSQL: heard, adopted, ignored, forgotten."""

from __future__ import annotations

import contextlib

import pytest

from app.domain.data_map import About, DataSubject, HeldKey
from app.domain.listing import parse_listing
from app.stores.registry.faults import UnknownNameError
from app.stores.registry.foreign_devices import COLUMNS, ForeignDevices, SeenDevice
from app.stores.registry.holdings import FORGET, count_of
from app.stores.registry.provisioning import Template
from app.stores.registry.records import DevicesChanged, DeviceState, ModuleKind, ModulesChanged, NewSite
from app.stores.registry.registry import Registry

T0 = 1_800_000_000_000_000


class Case:
    """A registry and its devices; `told` is what listeners heard."""

    def __init__(self, registry):
        self.registry = registry
        self.devices = ForeignDevices(registry, now_us=lambda: T0)
        self.told = []
        registry.subscribe(self.told.append)

    def hear(self, *names, facts='{"model":"P1","firmware":"2","period_ms":10000}', at_us=T0, dialect="fake"):
        self.devices.note(
            [SeenDevice(dialect, name, facts, None, None, "P1", "2", None, 2, at_us, at_us) for name in names]
        )
        return {one.device: one for one in self.devices.every()}

    def listed(self, *filters, sort=""):
        listing = parse_listing(COLUMNS, offset=0, limit=10, sort=sort, filters=filters)
        return [one.device for one in self.devices.page(listing).rows]


@pytest.fixture
def case(registry_url):
    with contextlib.closing(Registry.open(registry_url)) as registry:
        yield Case(registry)


def test_what_is_heard_again_adds_up_and_takes_nothing_back(case):
    case.hear("a")
    case.devices.note([SeenDevice("fake", "a", None, "Hall", None, None, None, "W", 5, T0 + 7, T0 + 9)])
    (device,) = case.devices.every()

    assert (device.messages, device.first_seen_us, device.last_seen_us) == (7, T0, T0 + 9)
    assert (device.facts["model"], device.power_kind, device.state) == ("P1", "W", DeviceState.DISCOVERED)
    assert case.listed("name:eq:Hall", "model:eq:P1") == ["a"]


def test_an_adopted_device_is_a_module_with_what_was_recognised(case):
    found = case.hear("a", "b")
    (site,) = case.registry.add_sites([NewSite("Lyon")])
    done = case.devices.adopt("ana", [found["a"].id], site_id=site, tags=["t", "t"])

    module = case.registry.module("a")
    assert (module.kind, module.dialect, module.period_ms) == (ModuleKind.FOREIGN, "fake", 10000)
    assert (module.hardware, module.firmware) == ("P1", "2")
    assert [one.site_id for one in case.registry.pairings("a")] == [site]
    assert [row.username for row in case.registry.credentials()] == []
    assert [(one.serial, one.changed_by, one.changed_us) for one in done.moved] == [("a", "ana", T0)]
    assert [type(one) for one in case.told[-2:]] == [ModulesChanged, DevicesChanged]
    # What is heard later changes nothing of it.
    case.hear("a")
    assert case.listed("serial:eq:a", "state:eq:adopted") == ["a"]


def test_nothing_is_adopted_for_a_site_that_is_not_there(case):
    found = case.hear("a")
    with pytest.raises(UnknownNameError):
        case.devices.adopt("ana", [found["a"].id], site_id=9, tags=[])
    assert case.registry.modules() == []


def test_two_dialects_may_have_the_same_id(case):
    case.hear("a")
    case.hear("a", dialect="other")
    done = case.devices.adopt("ana", [one.id for one in case.devices.every()], site_id=None, tags=[])
    serials = [one.serial for one in done.moved]

    assert serials[0] == "a"
    assert serials[1].startswith("a-")
    assert {one.serial: one.dialect for one in case.registry.modules()} == dict(
        zip(serials, ("fake", "other"), strict=True)
    )


def test_a_module_is_ignored_when_it_is_meant_and_comes_back_as_the_same(case):
    number = case.hear("a")["a"].id
    case.devices.adopt("ana", [number], site_id=None, tags=[])
    assert case.devices.ignore("ana", [number], adopted_too=False).left_out == (
        (number, "it is adopted already, as a"),
    )
    assert [one.state for one in case.devices.ignore("ana", [number], adopted_too=True).moved] == [DeviceState.IGNORED]
    case.devices.restore("ana", [number])
    back = case.devices.adopt("ana", [number], site_id=None, tags=[])

    assert [one.serial for one in back.moved] == ["a"]
    assert len(case.registry.modules()) == 1


def test_a_device_comes_back_to_its_module(case):
    """As after a restored backup that knows the module and, since somebody was erased, not the device."""
    case.registry.ensure_modules(["a"], Template(kind=ModuleKind.FOREIGN, dialect="fake", period_ms=None))
    case.registry.ensure_modules(["b"], Template(kind=ModuleKind.FOREIGN, dialect="other", period_ms=None))
    found = case.hear("a", "b")
    done = case.devices.adopt("ana", [found["a"].id, found["b"].id], site_id=None, tags=[])

    assert done.moved[0].serial == "a"
    assert done.moved[1].serial.startswith("b-")


def test_only_what_nobody_decided_on_is_forgotten(case):
    found = case.hear("adopted", "ignored", "old")
    case.devices.adopt("ana", [found["adopted"].id], site_id=None, tags=[])
    case.devices.ignore("ana", [found["ignored"].id], adopted_too=False)
    case.hear("fresh", at_us=T0 + 100)

    assert [one.device for one in case.devices.forget_unheard(T0 + 50)] == ["old"]
    assert case.listed(sort="device") == ["adopted", "fresh", "ignored"]


def test_the_facts_of_a_module_can_be_forgotten_and_the_device_stays(case):
    found = case.hear("a", "b")
    case.devices.adopt("ana", [found["a"].id], site_id=None, tags=[])
    subject = DataSubject(About.MODULE, "a", (HeldKey(1, "a", 0, None),), ())
    with case.registry.writing() as connection:
        assert count_of(connection, "foreign_devices", subject) == 1
        assert FORGET["foreign_devices"](connection, subject) == 1
        assert count_of(connection, "foreign_devices", subject) == 0
    kept = {one.device: one for one in case.devices.every()}

    assert (kept["a"].facts, kept["a"].serial) == ({}, "a")
    assert kept["b"].facts["model"] == "P1"
