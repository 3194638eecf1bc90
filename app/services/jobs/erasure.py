"""The job that erases a module or a holder at every place of the data map, looks again, and gives a receipt."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Annotated, Any, ClassVar, Protocol

import msgspec

from app.domain.data_map import About, DataPlace, DataSubject, Erased, Held, HeldKey
from app.domain.errors import EnvironmentFault
from app.domain.people import Scope
from app.services.jobs.context import JobContext
from app.services.jobs.erasure_receipt import PlaceReceipt, Receipt, Sign, sealed, verdict
from app.services.jobs.kinds import JobKind, Parameters, as_parameters

log = logging.getLogger(__name__)

# The registry says whose data are where: it forgets last, so that an erasure that ended early can be started again.
_LAST = "registry."
# A store that can not be written now is asked again, so often before anything was forgotten, without end after.
_TRIES = 30
_AGAIN_S = 2.0
# What was acknowledged just before goes to the series store, which drops it; see ingest.segment_seconds.
_JOURNAL = "journal"
_JOURNAL_TRIES = 60
_JOURNAL_AGAIN_S = 1.0


class Erasing(Protocol):
    """The data map, as far as erasing needs it; every method blocks."""

    @property
    def places(self) -> Sequence[DataPlace]: ...

    def module(self, serial: str) -> DataSubject: ...

    def holder(self, token: str) -> DataSubject: ...

    def find(self, subject: DataSubject) -> list[tuple[DataPlace, Held]]: ...

    def erase(self, place_name: str, subject: DataSubject) -> Erased: ...


class Remembering(Protocol):
    """The registry's memory of erasures."""

    def begin(self, subject: str, actor: str, job_id: str) -> None:
        """Write down who began."""
        ...

    def end(self, subject: DataSubject, actor: str, job_id: str) -> Sequence[str]:
        """Have every restored backup erase it again, and the sites that were forgotten with it; all of them."""
        ...

    def records(self, subject: str) -> int:
        """How many jobs of this kind name it, this one too."""
        ...


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom: module:SERIAL or holder:TOKEN."""

    subject: Annotated[str, msgspec.Meta(min_length=8, max_length=80, pattern="^(module|holder):[!-~]+$")]


class Erasure(JobKind):
    """Erases a module or a holder everywhere; of a supply that goes on, what it needs is left, and the receipt says so.

    One place is one step. The subject is found once, before anything is erased, and stays in the cursor, which the end
    of the job drops: a finished job knows its name alone.
    """

    name: ClassVar[str] = "erasure"
    scopes: ClassVar[frozenset[Scope]] = frozenset({Scope.PRIVACY})
    personal: ClassVar[tuple[str, ...]] = ("holdings",)

    def __init__(
        self, data_map: Callable[[], Erasing], memory: Remembering, sign: Sign, *, now_us: Callable[[], int]
    ) -> None:
        """`data_map` is asked for when a job runs: it is made of jobs, too."""
        self._data_map = data_map
        self._memory = memory
        self._sign = sign
        self._now_us = now_us

    def prepare(self, parameters: Parameters) -> Parameters:
        """See JobKind. Raises UnknownNameError."""
        asked: Asked = as_parameters(parameters, Asked)
        self._find(asked.subject)
        return {"subject": asked.subject}

    def subjects(self, parameters: Parameters) -> Sequence[str]:
        """See JobKind."""
        return [parameters["subject"]]

    def may_cancel(self, cursor: Any) -> bool:
        """See JobKind. Once the registry began to forget, a second erasure would not find all any more."""
        return cursor is None or not any(name.startswith(_LAST) for name in cursor["erased"])

    def run(self, context: JobContext) -> str:
        """See JobKind."""
        file = context.result("json")
        data_map, words = self._data_map(), context.parameters["subject"]
        places = _in_order(data_map.places)
        # The look before, each place, the memory, the look after.
        total = len(places) + 3
        if context.cursor is None:
            subject = self._find(words)
            self._memory.begin(words, context.owner, context.job_id)
            before = {place.name: (held.count, held.size_bytes) for place, held in data_map.find(subject)}
            cursor: dict[str, Any] = {
                "subject": _packed(subject),
                "before": before,
                "erased": {},
                "began_us": self._now_us(),
            }
            context.step_done(cursor, done=1, total=total, message="found what there is", durably=True)
        else:
            cursor = context.cursor
            subject = _unpacked(words, cursor["subject"])
        for number, place in enumerate(places):
            if place.name in cursor["erased"]:
                continue
            if place.name.startswith(_LAST):
                context.no_return()
            erased = self._erase(context, data_map, place.name, subject)
            cursor["erased"][place.name] = (erased.count, erased.left)
            message = f"{place.name}: {erased.count} erased"
            context.step_done(cursor, done=number + 2, total=total, message=message, durably=True)
        remembered = self._memory.end(subject, context.owner, context.job_id)
        context.step_done(cursor, done=total - 1, total=total, message="looks for them again")
        receipt = self._receipt(context, data_map, subject, cursor, remembered)
        file.append(sealed(receipt, self._sign))
        return verdict(receipt)

    def _find(self, words: str) -> DataSubject:
        kind, _, name = words.partition(":")
        return self._data_map().module(name) if kind == "module" else self._data_map().holder(name)

    def _erase(self, context: JobContext, data_map: Erasing, place: str, subject: DataSubject) -> Erased:
        tries = 0
        while True:
            try:
                return data_map.erase(place, subject)
            except (EnvironmentFault, OSError) as error:
                tries += 1
                log.warning("job %s: %s can not be erased now: %s", context.job_id, place, error)
                if tries >= _TRIES and not place.startswith(_LAST):
                    sentence = error.text() if isinstance(error, EnvironmentFault) else error.strerror
                    raise EnvironmentFault(
                        f"{place} could not be erased: {sentence}; nothing says less than before whose data are where, "
                        "so start the erasure again"
                    ) from error
            context.wait(_AGAIN_S)

    def _receipt(
        self,
        context: JobContext,
        data_map: Erasing,
        subject: DataSubject,
        cursor: dict[str, Any],
        remembered: Sequence[str],
    ) -> Receipt:
        found = self._found_again(context, data_map, subject)
        left = {name: why for name, (_count, why) in cursor["erased"].items()}
        goes_on = len(subject.keys) > len(subject.ended_keys)
        records = self._memory.records(subject.words)
        rows = []
        for place, held in found:
            before_count, before_bytes = cursor["before"].get(place.name, (None, None))
            row = PlaceReceipt(
                place.name,
                before_count,
                before_bytes,
                cursor["erased"].get(place.name, (0, ""))[0],
                held.count,
                _why(place, held, left, records, goes_on=goes_on),
                held.note,
            )
            rows.append(row)
        return Receipt(
            context.job_id,
            subject.words,
            context.owner,
            cursor["began_us"],
            self._now_us(),
            rows,
            list(remembered),
            [row.place for row in rows if row.after and not row.why],
            [row.place for row in rows if row.after and row.why],
            [row.place for row in rows if row.after is None and not row.why],
        )

    def _found_again(
        self, context: JobContext, data_map: Erasing, subject: DataSubject
    ) -> list[tuple[DataPlace, Held]]:
        """What is there now; waits for the journal to hand over what it still had of ended periods."""
        ended = DataSubject(
            subject.kind, subject.name, tuple(held for held in subject.keys if held.to_us is not None), ()
        )
        for _ in range(_JOURNAL_TRIES):
            if not any(held.count for place, held in data_map.find(ended) if place.name == _JOURNAL):
                break
            context.wait(_JOURNAL_AGAIN_S)
        return data_map.find(subject)


# Where a module that goes on sending is found again at once.
_SENT_SINCE = frozenset({_JOURNAL, "live", "events", "quarantine", "broker.retained", "broker.queues"})


def _why(place: DataPlace, held: Held, left: dict[str, str], records: int, *, goes_on: bool) -> str:
    """Why something is left that is right to be left; empty where it is not, or nothing is."""
    if place.not_erased:
        return place.not_erased
    if place.name == "registry.jobs" and held.count == records:
        # The row of this job and those of earlier erasures.
        return "who had it erased, and when"
    told = left.get(place.erased_with or place.name, "")
    if place.erased_with and held.count is None:
        return told or f"erased with {place.erased_with}"
    if told:
        return told
    if goes_on and place.name in _SENT_SINCE:
        return "the module goes on sending: this has come since"
    return ""


def _in_order(places: Sequence[DataPlace]) -> list[DataPlace]:
    """The registry last, in the map's order."""
    about = [place for place in places if About.MODULE in place.about or About.PERSON in place.about]
    return sorted(about, key=lambda place: place.name.startswith(_LAST))


def _packed(subject: DataSubject) -> dict[str, Any]:
    """For the cursor. No name stands alone in it: by that the data map knows a job on somebody's data."""
    return {
        "keys": [f"{held.key} {held.from_us} {held.to_us or 0} {held.serial}" for held in subject.keys],
        "sites": list(subject.sites),
    }


def _unpacked(words: str, packed: dict[str, Any]) -> DataSubject:
    kind, _, name = words.partition(":")
    keys = []
    for text in packed["keys"]:
        key, from_us, to_us, serial = text.split(" ", 3)
        keys.append(HeldKey(int(key), serial, int(from_us), int(to_us) or None))
    return DataSubject(About.MODULE if kind == "module" else About.PERSON, name, tuple(keys), tuple(packed["sites"]))
