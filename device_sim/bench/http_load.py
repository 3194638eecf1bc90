"""Requests of the API by schedule: a process of its own, `python -m device_sim.bench.http_load`.

Reads one line of JSON (`Job`) on standard input, writes one (`Answers`) on standard output. A latency counts from the
moment a request was due, so a server that stalls pays for all that it held up.
"""

from __future__ import annotations

import http.client
import itertools
import sys
import threading
import time

import msgspec

# More than ever wait at once at the rates of a console; each keeps its connection.
_THREADS = 16
_TIMEOUT_S = 30.0
_GOOD = 200


class Job(msgspec.Struct, frozen=True):
    """What to ask: (kind, path) one after the other, at `rate` a second."""

    host: str
    port: int
    headers: dict[str, str]
    rate: float
    requests: list[tuple[str, str]]


class Answers(msgspec.Struct, frozen=True):
    """Milliseconds from due to the last byte, by kind; and answers that were not 200, by status."""

    latency_ms: dict[str, list[float]]
    failed: dict[str, int]
    answered_bytes: dict[str, int]
    seconds: float
    cpu_s: float


def perform(job: Job) -> Answers:
    """Ask everything; returns when the last answer is here."""
    latency: dict[str, list[float]] = {kind: [] for kind, _path in job.requests}
    size: dict[str, int] = dict.fromkeys(latency, 0)
    failed: dict[str, int] = {}
    numbers = itertools.count()
    lock = threading.Lock()
    began = time.perf_counter()

    def ask() -> None:
        connection = http.client.HTTPConnection(job.host, job.port, timeout=_TIMEOUT_S)
        while (number := next(numbers)) < len(job.requests):
            kind, path = job.requests[number]
            due = began + number / job.rate
            time.sleep(max(0.0, due - time.perf_counter()))
            try:
                connection.request("GET", path, headers=job.headers)
                answer = connection.getresponse()
                body = answer.read()
                status = str(answer.status)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                status, body = type(error).__name__, b""
            took = (time.perf_counter() - due) * 1000
            with lock:
                latency[kind].append(took)
                size[kind] += len(body)
                if status != str(_GOOD):
                    failed[f"{kind} {status}"] = failed.get(f"{kind} {status}", 0) + 1
        connection.close()

    cpu = time.process_time()
    threads = [threading.Thread(target=ask, name=f"ask {number}") for number in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Answers(latency, failed, size, time.perf_counter() - began, time.process_time() - cpu)


def main() -> int:
    """See the module."""
    job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    sys.stdout.buffer.write(msgspec.json.encode(perform(job)) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
