"""Jobs: start, look, cancel, and fetch what came of them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from io import FileIO
from typing import Annotated

from litestar.di import NamedDependency, Provide
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Example, Operation, RequestBody
from litestar.params import JSONBody, PathParameter
from litestar.response import Stream

from app.api.access import ApiRequest, Gate, needs
from app.api.lists import listing_of, page_of
from app.api.routing import making, reading, removing
from app.domain.listing import Listing
from app.domain.people import Scope
from app.protocol.api.common import Page
from app.protocol.api.jobs import Job, JobResult, NewJob
from app.services.jobs.jobs import Jobs
from app.stores.registry.jobs import JOB_COLUMNS, JobRecord

_PIECE_BYTES = 1_000_000
OCTETS = "application/octet-stream"
JobId = Annotated[
    str,
    PathParameter(
        min_length=26,
        max_length=26,
        pattern=r"^[0-9A-HJKMNP-TV-Z]{26}$",
        description="the job's id",
        examples=[Example(value="01JD2Z9K3T8V5W6X7Y8Z9A0B1C")],
    ),
]


@dataclasses.dataclass
class _ExportBody(Operation):
    """A route whose body is shown with an export: the page makes nothing useful of parameters by itself."""

    def __post_init__(self) -> None:
        if isinstance(self.request_body, RequestBody):
            value = {
                "kind": "export",
                "parameters": {
                    "modules": ["WD00001"],
                    "start_us": 1_760_000_000_000_000,
                    "end_us": 1_760_086_400_000_000,
                    "resolution": "10m",
                },
            }
            self.request_body.content["application/json"].examples = {"export": Example(value=value)}


def job_routes(jobs: Jobs, gate: Gate) -> list[HTTPRouteHandler]:
    """Whoever starts a job has the rights its kind needs; personal kinds need a purpose and are noted."""

    def shape(job: JobRecord) -> Job:
        result = None
        if job.result_file is not None and job.result_expires_us is not None:
            result = JobResult(job.result_file, jobs.size_of(job), job.result_expires_us)
        return Job(
            job.id,
            job.kind,
            job.owner,
            job.state,
            dict(jobs.shown(job)),
            job.done,
            job.total,
            job.message,
            job.cancel_asked,
            job.created_us,
            job.started_us,
            job.finished_us,
            result,
        )

    @making("/v1/jobs", needs(Scope.JOBS), sync_to_thread=True, operation_class=_ExportBody)
    def start_job(request: ApiRequest, data: JSONBody[NewJob]) -> Job:
        """Start long work, done in the background, two jobs at once.

        Kinds: export, import, recompute, erasure, backup, verify_backup.
        """
        prepared = jobs.prepare(request.user, data.kind, data.parameters)
        gate.saw_some(request, prepared.subjects, prepared.kind.personal)
        return shape(jobs.start(request.user, prepared))

    @reading(
        "/v1/jobs",
        needs(Scope.JOBS),
        dependencies={"listing": Provide(listing_of(JOB_COLUMNS), sync_to_thread=False)},
        sync_to_thread=True,
    )
    def list_jobs(request: ApiRequest, listing: NamedDependency[Listing]) -> Page[Job]:
        """Your jobs, or everybody's for an administrator; the newest first."""
        return page_of(jobs.found(request.user, listing), shape)

    @reading("/v1/jobs/{job_id:str}", needs(Scope.JOBS), sync_to_thread=True)
    def one_job(request: ApiRequest, job_id: JobId) -> Job:
        """One job: its state and how far it is."""
        return shape(jobs.get(request.user, job_id))

    @making("/v1/jobs/{job_id:str}/cancel", needs(Scope.JOBS), status_code=200, sync_to_thread=True)
    def cancel_job(request: ApiRequest, job_id: JobId) -> Job:
        """End a job after its present step; what it has written is removed."""
        return shape(jobs.cancel(request.user, job_id))

    @reading(
        "/v1/jobs/{job_id:str}/result",
        needs(Scope.JOBS),
        answers=ResponseSpec(bytes, description="the file", media_type=OCTETS),
        sync_to_thread=True,
    )
    def job_result(request: ApiRequest, job_id: JobId) -> Stream:
        """The file a job has made, until it expires; a personal one needs a purpose and is noted again."""
        result = jobs.result(request.user, job_id)
        gate.saw_some(request, [*result.subjects, f"job:{job_id}"], result.attributes)
        # Opened now: one that expires meanwhile is still sent to its end.
        file = result.open()
        headers = {
            "content-disposition": f'attachment; filename="wattdeck-{result.path.name}"',
            "content-length": str(os.fstat(file.fileno()).st_size),
        }
        return Stream(_pieces(file), media_type=OCTETS, headers=headers)

    @removing("/v1/jobs/{job_id:str}/result", needs(Scope.JOBS), sync_to_thread=True)
    def remove_job_result(request: ApiRequest, job_id: JobId) -> None:
        """Remove the file a job has made."""
        jobs.remove_result(request.user, job_id)

    return [start_job, list_jobs, one_job, cancel_job, job_result, remove_job_result]


def _pieces(file: FileIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(_PIECE_BYTES):
            yield piece
