"""Commands as Tasmota takes them, and its answers as acknowledgements.

Tasmota has no ids: an answer belongs to the last command of its kind that was sent to the device and is still awaited.
"""

from __future__ import annotations

import dataclasses
import urllib.parse
from collections.abc import Sequence

from app.protocol.foreign import Facts, Sending, What
from app.protocol.messages import Ack, Cmd, Fota
from app.protocol.tasmota_facts import LONGEST_PERIOD_S, SHORTEST_PERIOD_S, said_by
from app.protocol.tasmota_json import Section, number, words

REBOOT, DIAGNOSE, SET_PERIOD, UPDATE = "reboot", "diagnose", "set_period", "update"
# A device that hears a command answers it at once; what comes later answers somebody else's.
ANSWER_WITHIN_US = 30_000_000
# From `accepted` to the end: a start with a slow access point; a download over a weak signal, with its retries.
_DONE_WITHIN_US = {REBOOT: 180_000_000, DIAGNOSE: ANSWER_WITHIN_US, UPDATE: 1_200_000_000}
# What the firmware keeps of a URL; a longer one would be cut silently.
LONGEST_URL = 255
_LONGEST_DETAIL = 512
# Answers to `Status 0` that tell how a device is; names and addresses are not among them.
_DIAGNOSED = ("firmware", "hardware", "reset_reason", "uptime_s", "period_ms", "rssi_dbm", "channel", "wifi_connects")


@dataclasses.dataclass(slots=True)
class _Awaited:
    """A command that was sent. `since_us` is the first time that was heard of after it, since sending has no clock."""

    id: str
    name: str
    job: str | None = None
    since_us: int | None = None
    is_accepted: bool = False
    is_written: bool = False
    data: dict[str, bool | int | float | str | None] = dataclasses.field(default_factory=dict)
    detail: str | None = None


class Conversation:
    """The commands of one device that wait for their answers: the last of each kind."""

    def __init__(self) -> None:
        self._awaited: dict[str, _Awaited] = {}

    @property
    def is_open(self) -> bool:
        """Whether an answer is awaited."""
        return bool(self._awaited)

    def send(self, root: str, command: Cmd) -> Sequence[Sending] | None:
        """The messages of a command; None for one that Tasmota does not have, or not with these arguments."""
        arguments = command.args or {}
        awaited = _Awaited(command.id, command.name)
        if command.name == REBOOT:
            if arguments.get("delay_s"):
                return None
            messages = [("Restart", "1")]
        elif command.name == DIAGNOSE:
            messages = [("Status", "0")]
        elif command.name == SET_PERIOD:
            asked_ms = number(arguments.get("period_ms"), 1, 2**53)
            if asked_ms is None:
                return None
            seconds = min(max(round(asked_ms / 1000), SHORTEST_PERIOD_S), LONGEST_PERIOD_S)
            if seconds * 1000 != asked_ms:
                awaited.detail = f"{seconds} s: Tasmota has whole seconds, {SHORTEST_PERIOD_S} to {LONGEST_PERIOD_S}"
            messages = [("TelePeriod", str(seconds))]
        elif command.name == UPDATE:
            url = arguments.get("url")
            if not isinstance(url, str) or not _is_url(url):
                return None
            awaited.job = words(arguments.get("job"), 64)
            messages = [("OtaUrl", url), ("Upgrade", "1")]
        else:
            return None
        # Sent again: the newest in the order of sending, too.
        self._awaited.pop(command.name, None)
        self._awaited[command.name] = awaited
        return [Sending(f"{root}/{name}", payload.encode()) for name, payload in messages]

    def tick(self, now_us: int) -> None:
        """Begin to count for what was just sent, and give up what was not answered."""
        for name, awaited in list(self._awaited.items()):
            if awaited.since_us is None:
                awaited.since_us = now_us
            limit_us = _DONE_WITHIN_US.get(name, ANSWER_WITHIN_US) if awaited.is_accepted else ANSWER_WITHIN_US
            if now_us - awaited.since_us > limit_us:
                del self._awaited[name]

    def result(self, message: Section, now_us: int) -> list[What]:
        """What a RESULT answers."""
        said: list[What] = []
        if "Restart" in message:
            said += self._began(REBOOT, message["Restart"], "Restarting", now_us)
        if "Upgrade" in message:
            answer = words(message["Upgrade"], _LONGEST_DETAIL) or ""
            job = self._awaited[UPDATE].job if UPDATE in self._awaited else None
            if answer.startswith("Version"):
                said.append(Fota(job=job, phase="downloading"))
            said += self._began(UPDATE, answer, "Version", now_us)
        seconds = number(message.get("TelePeriod"), 0, LONGEST_PERIOD_S)
        if seconds is not None:
            said += self._ends(SET_PERIOD, "done", now_us, data={"period_ms": round(seconds * 1000)})
        if "Command" in message:
            newest = next((name for name, one in reversed(self._awaited.items()) if not one.is_accepted), None)
            word = "unknown" if message["Command"] == "Unknown" else "failed"
            if newest is not None and message["Command"] in ("Unknown", "Error"):
                said += self._ends(newest, word, now_us)
        return said

    def status(self, message: Section, facts: Facts, now_us: int) -> list[What]:
        """What a STATUS answers: the first is heard, the one with the state is the last."""
        awaited = self._awaited.get(DIAGNOSE)
        if awaited is None:
            return []
        said = said_by(facts)
        awaited.data.update({name: said[name] for name in _DIAGNOSED if name in said})
        if "StatusSTS" in message:
            return self._ends(DIAGNOSE, "done", now_us, data=awaited.data)
        return [] if awaited.is_accepted else self._accepts(awaited, now_us)

    def upgrade(self, outcome: str, firmware: str | None, now_us: int) -> list[What]:
        """How a download ended: `Successful. Restarting`, or `Failed` and why. Whoever asked for it."""
        awaited = self._awaited.get(UPDATE)
        job = awaited.job if awaited is not None else None
        if outcome.startswith("Successful"):
            if awaited is not None:
                awaited.is_written = True
            return [Fota(job=job, phase="rebooting", percent=100, from_firmware=firmware)]
        if not outcome.startswith("Failed"):
            return []
        failed = Fota(job=job, phase="failed", from_firmware=firmware, error="download", detail=outcome)
        return [failed, *self._ends(UPDATE, "failed", now_us, detail=outcome)]

    def started(self, now_us: int) -> list[What]:
        """It said that it is there again."""
        awaited = self._awaited.get(REBOOT)
        return self._ends(REBOOT, "done", now_us) if awaited is not None and awaited.is_accepted else []

    def runs(self, firmware: str, before: str | None, now_us: int) -> list[What]:
        """It said after a start which firmware it runs. The minimal one is a step on the way, never the end."""
        awaited = self._awaited.get(UPDATE)
        if awaited is None or not awaited.is_written or "minimal" in firmware:
            return []
        done = Fota(job=awaited.job, phase="done", from_firmware=before, to_firmware=firmware)
        return [done, *self._ends(UPDATE, "done", now_us, data={"firmware": firmware})]

    def _began(self, name: str, answer: object, good: str, now_us: int) -> list[What]:
        awaited = self._awaited.get(name)
        if awaited is None or awaited.is_accepted:
            return []
        if isinstance(answer, str) and answer.startswith(good):
            return self._accepts(awaited, now_us)
        return self._ends(name, "failed", now_us, detail=words(answer, _LONGEST_DETAIL))

    def _accepts(self, awaited: _Awaited, now_us: int) -> list[What]:
        took_ms = _took_ms(awaited, now_us)
        awaited.is_accepted = True
        awaited.since_us = now_us
        return [Ack(id=awaited.id, result="accepted", took_ms=took_ms)]

    def _ends(
        self,
        name: str,
        result: str,
        now_us: int,
        *,
        data: dict[str, bool | int | float | str | None] | None = None,
        detail: str | None = None,
    ) -> list[What]:
        awaited = self._awaited.pop(name, None)
        if awaited is None:
            return []
        took_ms = _took_ms(awaited, now_us)
        return [Ack(id=awaited.id, result=result, detail=detail or awaited.detail, took_ms=took_ms, data=data or None)]


def _took_ms(awaited: _Awaited, now_us: int) -> int | None:
    return None if awaited.since_us is None else min(max(0, now_us - awaited.since_us) // 1000, 2**31 - 1)


def _is_url(url: str) -> bool:
    if len(url) > LONGEST_URL or not url.isascii() or not url.isprintable() or " " in url:
        return False
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.netloc)
