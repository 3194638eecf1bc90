"""What the registry remembers of an erasure: who had it done, and what a restored backup must erase again."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import sqlalchemy as sa

from app.domain.data_map import About, DataSubject
from app.stores.registry.actions import Deed, record, record_many
from app.stores.registry.erasures import remember_erased
from app.stores.registry.models import Job, Site
from app.stores.registry.registry import Registry


class ErasureRecord:
    """Every method blocks, and may be called again: a killed hub does."""

    def __init__(self, registry: Registry, now_us: Callable[[], int]) -> None:
        self._registry = registry
        self._now_us = now_us

    def begin(self, subject: str, actor: str, job_id: str) -> None:
        """Write down who began."""
        with self._registry.writing() as connection:
            record(connection, Deed(actor, "erasure.begin", subject, None, {"job": job_id}), self._now_us())

    def end(self, subject: DataSubject, actor: str, job_id: str) -> Sequence[str]:
        """Have every restored backup erase it again, and the sites that were forgotten with it; all of them."""
        at_us = self._now_us()
        with self._registry.writing() as connection:
            forgotten = sa.select(Site.id).where(
                Site.id.in_(subject.sites),
                Site.street.is_(None),
                Site.postcode.is_(None),
                Site.delivery_point.is_(None),
            )
            sites = [f"site:{site}" for site in connection.execute(forgotten).scalars()]
            names = [f"{'module' if subject.kind is About.MODULE else 'holder'}:{subject.name}", *sorted(sites)]
            for name in names:
                remember_erased(connection, name, at_us)
            record_many(connection, [Deed(actor, "erasure.end", name, None, {"job": job_id}) for name in names], at_us)
        return names

    def records(self, subject: str) -> int:
        """How many erasures name it in the table of jobs, whatever became of them."""
        query = sa.select(sa.func.count()).where(
            Job.kind == "erasure", Job.parameters.contains(f'"{subject}"', autoescape=True)
        )
        with self._registry.reading() as connection:
            return connection.execute(query).scalar_one()
