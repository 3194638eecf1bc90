"""Commands on each database: every walk through their states, and what is bounded."""

from __future__ import annotations

import itertools

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.commands import ANSWER_GRACE_US, CommandState, may_become
from app.domain.ids import new_id
from app.domain.keys import CollectionLevel
from app.domain.listing import Listing, parse_listing
from app.stores.registry.actions import Deed
from app.stores.registry.commands import COLUMNS, Answered, CommandBook, NewCommand, Selection
from app.stores.registry.faults import RefusedChangeError, UnknownNameError
from app.stores.registry.models import Action, Command
from app.stores.registry.provisioning import Template
from app.stores.registry.records import Collection, ModuleKind, NewSite, PairedAs
from tests.app.stores.registry.ticking import START_US

HOUR_US = 3_600_000_000


@pytest.fixture
def book(registry):
    registry.provision_many(["A", "B"])
    return CommandBook(registry)


def queue(book, *serials, expires_us=START_US + HOUR_US, bulk_id=None, name="diagnose", created_us=START_US):
    """Queue a command for each; their ids."""
    new = NewCommand(name, {}, "anna", created_us, expires_us, bulk_id)
    queued = book.queue(new, serials, lambda targets: [(new_id(created_us), target) for target in targets])
    return [command_id for command_id, _serial in queued]


def answered(command_id, state, serial="A", *, at_us=START_US + 5, is_final=True, result="done"):
    return Answered(command_id, serial, state, {"result": result}, at_us, is_final)


def test_a_command_goes_its_way(book):
    (command_id,) = queue(book, "A")
    assert book.command(command_id).state is CommandState.QUEUED

    fresh, before = book.take(["A", "B"], START_US + 1)
    assert ([one.id for one in fresh], before) == ([command_id], [])
    assert book.command(command_id).sent_us is None, "whether it arrived is not known"
    fresh, before = book.take(["A"], START_US + 2)
    assert (fresh, [one.id for one in before]) == ([], [command_id])
    book.note_taken({command_id: START_US + 3})
    book.note_taken({command_id: START_US + 4})
    assert book.command(command_id).sent_us == START_US + 3, "taken once"

    changed, others = book.answer([answered(command_id, CommandState.ACKNOWLEDGED)])
    assert [(one.id, one.module, one.name, one.state) for one in changed] == [
        (command_id, "A", "diagnose", "acknowledged")
    ]
    assert not any(others.values())
    record = book.command(command_id)
    assert (record.done_us, record.result) == (START_US + 5, {"result": "done"})
    assert book.take(["A"], START_US + 6) == ([], [])


def test_one_that_lasts_is_answered_twice(book):
    (command_id,) = queue(book, "A")
    book.take(["A"], START_US)
    accepted = answered(command_id, CommandState.ACKNOWLEDGED, is_final=False, result="accepted")
    changed, _ = book.answer([accepted])
    assert [one.state for one in changed] == ["acknowledged"]
    assert book.command(command_id).done_us is None

    changed, others = book.answer([accepted, answered(command_id, CommandState.FAILED, result="failed"), accepted])
    assert [one.state for one in changed] == ["failed"]
    assert others["repeated"] == 2
    assert book.command(command_id).result == {"result": "failed"}


def test_what_is_finished_stays_so(book):
    (command_id,) = queue(book, "A")
    book.take(["A"], START_US)
    book.answer([answered(command_id, CommandState.ACKNOWLEDGED)])

    changed, others = book.answer([answered(command_id, CommandState.FAILED)])

    assert (changed, others["repeated"]) == ([], 1)
    assert book.command(command_id).state == "acknowledged"


def test_answers_that_fit_nothing_are_counted(book):
    (mine,) = queue(book, "A")
    (queued,) = queue(book, "A")
    book.take(["B"], START_US)

    _, others = book.answer(
        [
            answered(new_id(START_US), CommandState.ACKNOWLEDGED),
            answered(mine, CommandState.ACKNOWLEDGED, serial="B"),
            answered(queued, CommandState.EXPIRED),
        ]
    )

    assert others == {"unknown": 2, "late": 1, "repeated": 0}
    assert {book.command(one).state for one in (mine, queued)} == {"queued"}


def test_queued_ones_expire_at_once_and_sent_ones_after_a_grace(book):
    (sent,) = queue(book, "A")
    book.take(["A"], START_US)
    (queued,) = queue(book, "A")
    over_us = START_US + HOUR_US

    assert book.expire(over_us - 1) == []
    assert [one.id for one in book.expire(over_us)] == [queued]
    assert book.take(["A"], over_us) == ([], []), "what is over is not sent"
    changed, _ = book.answer([answered(sent, CommandState.ACKNOWLEDGED, at_us=over_us + 1)])
    assert [one.id for one in changed] == [sent], "its answer was on its way"

    (late,) = queue(book, "A")
    book.take(["A"], START_US)
    assert [one.id for one in book.expire(over_us + ANSWER_GRACE_US)] == [late]
    assert book.answer([answered(late, CommandState.ACKNOWLEDGED)])[1]["late"] == 1


def test_only_a_queued_one_is_cancelled_and_the_deed_is_written(book, registry):
    queued, sent = queue(book, "A")[0], queue(book, "B")[0]
    book.take(["B"], START_US)

    assert book.cancel(queued, "anna", START_US + 9).state is CommandState.CANCELLED
    with pytest.raises(RefusedChangeError, match="sent"):
        book.cancel(sent, "anna", START_US)
    with pytest.raises(RefusedChangeError, match="cancelled"):
        book.cancel(queued, "anna", START_US)
    with pytest.raises(UnknownNameError):
        book.cancel(new_id(START_US), "anna", START_US)
    with registry.reading() as connection:
        deeds = connection.execute(sa.select(Action.what, Action.subject, Action.actor)).all()
    assert [tuple(one) for one in deeds] == [("command.cancel", f"command:{queued}", "anna")]


def test_a_refusal_within_the_transaction_leaves_nothing(book, registry):
    def refuse(_targets):
        raise RefusedChangeError("no")

    deed = Deed("anna", "command.send", "module:A")
    with pytest.raises(RefusedChangeError):
        book.queue(NewCommand("reboot", {}, "anna", START_US, START_US + 1), ["A"], refuse, deed)

    with registry.reading() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(Command)).scalar_one() == 0
        assert connection.execute(sa.select(sa.func.count()).select_from(Action)).scalar_one() == 0


def test_targets_by_what_is_known_of_them(registry, book):
    (paris, lyon) = registry.add_sites([NewSite("Paris"), NewSite("Lyon")])
    registry.ensure_modules(["METER"], Template(kind=ModuleKind.METER, dialect="tic"))
    registry.ensure_modules(["SHELLY"], Template(kind=ModuleKind.FOREIGN, dialect="shelly", firmware="1"))
    registry.set_facts("A", firmware="2.4")
    registry.pair("A", 1, START_US, PairedAs(paris, CollectionLevel.SECOND))
    registry.pair("B", 1, START_US, PairedAs(paris, CollectionLevel.SECOND))
    registry.unpair("B", 1, START_US + 1)
    registry.pair("B", 1, START_US + 2, PairedAs(lyon, CollectionLevel.SECOND))
    registry.set_collection("B", Collection.PAUSED)
    registry.block("B")
    queue(book, "A", "A")
    with registry.writing() as connection:
        connection.execute(sa.text("INSERT INTO module_tags SELECT id, 'roof' FROM modules WHERE serial = 'B'"))

    def serials(**chosen):
        return [target.serial for target in book.targets(Selection(**chosen))]

    by_serial = {target.serial: target for target in book.targets(Selection())}
    assert list(by_serial) == ["A", "B", "METER", "SHELLY"]
    assert by_serial["METER"].is_meter
    assert not by_serial["SHELLY"].is_meter
    assert (by_serial["A"].is_blocked, by_serial["B"].is_blocked) == (False, True)
    assert (by_serial["A"].open_commands, by_serial["B"].open_commands) == (1, 0)
    assert by_serial["B"].collection == "paused"
    assert by_serial["SHELLY"].dialect == "shelly"
    assert serials(city="Paris") == ["A"], "where B was before does not count"
    assert serials(tag="roof") == ["B"]
    assert serials(firmware="2.4") == ["A"]
    assert serials(city="Lyon", firmware="2.4") == []
    assert serials(serials=("B", "NOBODY")) == ["B"]


def test_lists_are_filtered_sorted_and_cut(book):
    first = queue(book, "A", "B", bulk_id=new_id(START_US))
    queue(book, "A", created_us=START_US + 1, name="identify")
    bulk_id = book.command(first[0]).bulk_id

    def found(**asked):
        listing = parse_listing(COLUMNS, **{"offset": 0, "limit": 10, "sort": "", "filters": ()} | asked)
        return [(one.module, one.name) for one in book.listed(listing).rows]

    assert found()[0] == ("A", "identify"), "the newest first"
    assert found(sort="module,-name") == [("A", "identify"), ("A", "diagnose"), ("B", "diagnose")]
    assert found(filters=[f"bulk_id:eq:{bulk_id}"], sort="-module") == [("B", "diagnose"), ("A", "diagnose")]
    assert found(filters=["module:eq:A", "name:has:IDENT"]) == [("A", "identify")]
    assert found(filters=["created_us:gt:" + str(START_US)]) == [("A", "identify")]
    assert found(filters=["sent_us:eq:1"]) == []
    assert found(filters=["module:eq:\0"]) == []
    assert found(limit=1, offset=2, sort="created_us,module") == [("A", "identify")]
    assert book.listed(Listing(), module="B").total == 1
    assert book.listed(Listing(), bulk_id=bulk_id).total == 2
    assert book.counts(bulk_id) == {CommandState.QUEUED: 2}
    assert book.counts(new_id(START_US)) == {}


def test_the_old_are_forgotten_when_they_are_finished(book):
    (old,) = queue(book, "A")
    (open_one,) = queue(book, "A")
    book.cancel(old, "anna", START_US)

    assert book.forget(START_US) == 0
    assert book.forget(START_US + 1) == 1
    assert book.command(old) is None
    assert book.command(open_one) is not None


STEPS = st.lists(
    st.sampled_from(["take", "cancel", "expire", "over", "accepted", "done", "failed", "expired"]), max_size=8
)


@given(STEPS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_happens_a_command_only_makes_allowed_steps(book, steps):
    (command_id,) = queue(book, "A")
    walk = [book.command(command_id)]
    for step in steps:
        if step == "take":
            book.take(["A"], START_US)
        elif step == "cancel":
            try:
                book.cancel(command_id, "anna", START_US)
            except RefusedChangeError:
                assert walk[-1].state is not CommandState.QUEUED
        elif step == "expire":
            book.expire(START_US + HOUR_US)
        elif step == "over":
            book.expire(START_US + 2 * HOUR_US)
        else:
            state = {"accepted": "acknowledged", "done": "acknowledged"}.get(step, step)
            answer = answered(command_id, CommandState(state), is_final=step != "accepted", result=step)
            changed, others = book.answer([answer])
            assert len(changed) + sum(others.values()) <= 1
        walk.append(book.command(command_id))
    for before, after in itertools.pairwise(walk):
        assert before.state is after.state or may_become(before.state, after.state)
        if before.done_us is not None:
            assert after == before, "what is finished stays as it is"
    # The next example begins with none open.
    book.expire(START_US + 2 * HOUR_US)
