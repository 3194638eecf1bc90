"""All checks, in order; one that fails by a fault of ours is a finding, not the end of the others."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping

from app.domain.errors import TooManyAttempts, WattdeckError
from app.domain.settings import Settings
from app.hub.data_directory import DataDirectory
from app.hub.doctor.clock import check_clock, check_steadiness
from app.hub.doctor.databases import check_databases
from app.hub.doctor.disk import check_disk, check_permissions
from app.hub.doctor.hub_state import check_hub
from app.hub.doctor.limits import check_limits
from app.hub.doctor.patient import Patient, Statistics, failed, patient_of
from app.hub.doctor.ports import check_ports
from app.hub.doctor.software import check_settings, check_software
from app.hub.doctor.stores import check_stores
from app.hub.doctor.tls_files import check_certificates
from app.protocol.api.doctor import DoctorReport, Finding, FindingState

log = logging.getLogger(__name__)

Check = Callable[[Patient], Iterator[Finding]]

CHECKS: tuple[tuple[str, Check], ...] = (
    ("software", check_software),
    ("settings", check_settings),
    ("hub", check_hub),
    ("ports", check_ports),
    ("disk", check_disk),
    ("data", check_permissions),
    ("files", check_limits),
    ("clock", check_clock),
    ("tls", check_certificates),
    ("registry", check_databases),
    ("stores", check_stores),
    ("clock.steady", lambda patient: iter([check_steadiness(patient)])),
)
_LOOP_ANSWERS_S = 10.0
# Worst first; what is unknown is nothing to act on.
_WORST = (FindingState.FAILED, FindingState.WARNING)


def examine(patient: Patient, checks: tuple[tuple[str, Check], ...] = CHECKS) -> DoctorReport:
    """Blocks for some seconds: not on a loop."""
    findings: list[Finding] = []
    for name, check in checks:
        try:
            findings.extend(check(patient))
        except (WattdeckError, OSError) as error:
            findings.append(failed(name, f"it can not be looked at: {error}", "check owner and permissions"))
        except Exception as error:
            log.exception("the doctor's check %s failed", name)
            findings.append(failed(name, f"the check itself failed: {type(error).__name__}: {error}", "report this"))
    states = {finding.state for finding in findings}
    state = next((worst for worst in _WORST if worst in states), FindingState.OK)
    took_ms = (time.monotonic() - patient.began[1]) * 1000
    return DoctorReport(state, int(patient.began[0] * 1_000_000), round(took_ms, 1), findings)


class DoctorIsBusy(TooManyAttempts):
    """An examination is running; one at a time."""

    def __init__(self) -> None:
        WattdeckError.__init__(self, "an examination is running already; ask again when it is over")
        self.wait_s = 5


def doctor_of_hub(directory: DataDirectory, settings: Callable[[], Settings], statistics: Statistics) -> Doctor:
    """For the hub whose loop this is called on: its counters are asked there, whatever thread examines."""
    loop = asyncio.get_running_loop()

    def asked() -> Mapping[str, float]:
        answer: concurrent.futures.Future[Mapping[str, float]] = concurrent.futures.Future()
        loop.call_soon_threadsafe(lambda: answer.set_result(statistics()))
        return answer.result(_LOOP_ANSWERS_S)

    return Doctor(lambda: patient_of(directory, settings(), asked))


class Doctor:
    """Examines on demand, from any thread, one examination at a time."""

    def __init__(self, patient_now: Callable[[], Patient]) -> None:
        self._patient_now = patient_now
        self._busy = threading.Lock()

    def examine(self) -> DoctorReport:
        """Blocks. Raises DoctorIsBusy."""
        if not self._busy.acquire(blocking=False):
            raise DoctorIsBusy
        try:
            return examine(self._patient_now())
        finally:
            self._busy.release()
