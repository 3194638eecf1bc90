"""Jobs as they travel over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from app.protocol.api.common import TimeUs

Scalar = str | int | float | bool | None
JobId = Annotated[str, msgspec.Meta(min_length=26, max_length=26, pattern="^[0-9A-HJKMNP-TV-Z]{26}$")]


class NewJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A job to be started; docs/operating.md says what parameters each kind takes."""

    kind: Annotated[str, msgspec.Meta(min_length=1, max_length=40, examples=["export"])]
    parameters: Annotated[
        dict[str, Scalar | list[str | int] | dict[str, Scalar]],
        msgspec.Meta(
            max_length=50,
            examples=[{"modules": ["WD00001"], "start_us": 1800000000000000, "end_us": 1800086400000000}],
        ),
    ] = {}


class JobResult(msgspec.Struct, frozen=True):
    """The file that a job has made, until it expires."""

    name: Annotated[str, msgspec.Meta(examples=["01JD2Z9K3T8V5W6X7Y8Z9A0B1C.csv.gz"])]
    size_bytes: Annotated[int, msgspec.Meta(examples=[764722])]
    expires_us: TimeUs


class Job(msgspec.Struct, frozen=True):
    """Long work: `state` is queued, running, done, failed or cancelled; `total` is null while nobody knows."""

    id: Annotated[str, msgspec.Meta(examples=["01JD2Z9K3T8V5W6X7Y8Z9A0B1C"])]
    kind: Annotated[str, msgspec.Meta(examples=["export"])]
    owner: Annotated[str, msgspec.Meta(examples=["claire"])]
    state: Annotated[str, msgspec.Meta(examples=["done"])]
    parameters: dict[str, Any]
    done: int
    total: int | None
    message: Annotated[str, msgspec.Meta(examples=["86399 rows of 1 modules"])]
    cancel_asked: bool
    created_us: TimeUs
    started_us: TimeUs | None
    finished_us: TimeUs | None
    result: JobResult | None
