"""What a kind of job is. To add one: a subclass of JobKind, put into the JobKinds that the hub gives its runner."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from app.domain.errors import OperatorInputError
from app.domain.people import Scope
from app.services.jobs.context import JobContext

Parameters = Mapping[str, Any]


class JobKind(abc.ABC):
    """One kind of long work. Everything here is called in worker threads and may block.

    `scopes`: the rights somebody needs beside `jobs` to start one and to have its result. `personal`: the attributes
    of its `subjects` that the work or its result shows; with any, a purpose is stated and the access log notes both.
    `keeps_part`: what was done stays when the job is cancelled or fails, and with it the file that tells of it; `run`
    is called even when it was cancelled before, so it looks (`context.check`) after it has opened its file.
    """

    name: ClassVar[str]
    scopes: ClassVar[frozenset[Scope]] = frozenset()
    personal: ClassVar[tuple[str, ...]] = ()
    keeps_part: ClassVar[bool] = False

    @abc.abstractmethod
    def prepare(self, parameters: Parameters) -> Parameters:
        """Check what somebody asks for, and make it definite: what comes back is stored as JSON, for `run`.

        Raises OperatorInputError.
        """

    @abc.abstractmethod
    def run(self, context: JobContext) -> str:
        """Do the work in steps of a second or so, each ended by `context.step_done`; the closing sentence.

        After a restart of the hub it is called again, with the cursor of the last step that was saved: everything
        after it is done anew, so a step must bear being repeated. Let JobCancelled and JobInterrupted pass. A
        WattdeckError fails the job with its sentence, any other exception as a fault of ours.
        """

    def may_cancel(self, cursor: Any) -> bool:
        """Whether an interrupted job may end at this cursor without harm."""
        del cursor
        return True

    def subjects(self, parameters: Parameters) -> Sequence[str]:
        """Whom the prepared parameters concern, as kind:name."""
        del parameters
        return ()

    def scopes_for(self, parameters: Parameters) -> frozenset[Scope]:
        """The rights that these prepared parameters need."""
        del parameters
        return self.scopes

    def is_secret(self, parameters: Parameters) -> bool:
        """Whether the result holds what is told to nobody but who started the job, and not for longer than a day."""
        del parameters
        return False

    def shown(self, parameters: Parameters) -> Parameters:
        """What is told of the prepared parameters, short enough for a list."""
        return parameters


JobKinds = Mapping[str, JobKind]


def kinds_of(*kinds: JobKind) -> JobKinds:
    """Kinds by their names."""
    return {kind.name: kind for kind in kinds}


def as_parameters(parameters: Parameters, shape: type[msgspec.Struct]) -> Any:
    """Parameters as a struct. Raises OperatorInputError that says what does not fit."""
    try:
        return msgspec.convert(parameters, shape)
    except msgspec.ValidationError as error:
        raise OperatorInputError(f"parameters: {error}") from None
