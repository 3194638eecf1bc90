"""The phases of a load process: connect, publish by schedule, idle, finish."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from device_sim.bench import wire
from device_sim.bench.connection import Connection, Due, State, refuse
from device_sim.bench.generator import Generator
from device_sim.bench.histogram import Histogram
from device_sim.bench.payload import FIRST_SEQ, LAST_SEQ
from device_sim.bench.plan import Connect, Connected, Finished, Progress, Ran, Run
from device_sim.bench.schedule import Schedule, Span

# Three chances per keep-alive time, as clients commonly do.
_PINGS_PER_KEEP_ALIVE = 3
_IDLE_TURN_S = 0.1


class Phases:
    """Runs one phase after the other on a generator; remembers how far the sequence numbers are."""

    def __init__(
        self,
        generator: Generator,
        interrupted: Callable[[], bool],
        tell: Callable[[Progress], None] = lambda _progress: None,
    ) -> None:
        self._generator = generator
        self._tell = tell
        self._told_at = 0.0
        self._sent_before = 0
        self._interrupted = interrupted
        """Whether another command waits."""
        self._next_seq = FIRST_SEQ
        self._last_ms = 0
        self._pings = 0.0
        self._pinged_at = time.perf_counter()

    def connect(self, command: Connect) -> Connected:
        """Open every connection that is not open."""
        generator = self._generator
        began, cpu = time.perf_counter(), time.process_time()
        retries = generator.tally.retries
        for connection in generator.connections:
            if connection.state is State.OFFLINE:
                generator.open_later(connection)
        wanted = len(generator.connections)
        self._told_at = began
        while generator.online + generator.given_up < wanted and time.perf_counter() - began < command.timeout_s:
            generator.turn(0.05)
            self._tell_progress(time.perf_counter(), command.progress_s, 0)
        return Connected(
            connected=generator.online,
            seconds=time.perf_counter() - began,
            refused=dict(generator.tally.refused),
            retries=generator.tally.retries - retries,
            cpu_s=time.process_time() - cpu,
        )

    def run(self, run: Run) -> Ran:
        """Publish by schedule until its end (or until interrupted); late readings stay owed."""
        generator = self._generator
        connections = generator.connections
        schedule = Schedule.of_seconds(len(connections), run.rate, run.seconds)
        if self._next_seq + schedule.rounds > LAST_SEQ:
            raise ValueError(f"no sequence numbers left for {schedule.rounds} rounds")
        if run.qos != generator.qos:
            generator.set_qos(run.qos)
        generator.latency = Histogram()
        self._wait_until(run.start_at)

        before = (generator.tally.acked, generator.tally.reconnects, generator.tally.disconnected)
        unsent = sum(connection.unsent_count for connection in connections)
        base_ms = max(math.floor(time.time() * 1000), self._last_ms + 1)
        cpu = time.process_time()
        start = looked = time.perf_counter()
        tick_s = self._generator.plan.tick_ms / 1000
        self._told_at = start
        done = churned = 0
        worst = 0.0
        while done < schedule.total and not self._interrupted():
            now = time.perf_counter()
            worst, looked = max(worst, now - looked), now
            due = schedule.due(now - start)
            for span in schedule.spans(done, due):
                if run.qos == 0:
                    self._publish(span, schedule, base_ms, open_loop=run.open_loop)
                else:
                    self._publish_guaranteed(span, schedule, base_ms, open_loop=run.open_loop)
            done = due
            self._tell_progress(now, run.progress_s, done)
            if run.reconnects_per_s:
                churned = self._churn(churned, int((now - start) * run.reconnects_per_s))
            if run.rate * generator.plan.keep_alive_s < _PINGS_PER_KEEP_ALIVE * len(connections):
                self._ping(now)
            next_tick = start + (math.floor((now - start) / tick_s) + 1) * tick_s
            generator.turn(next_tick - time.perf_counter())
        done = self._complete_round(done, schedule, base_ms, run)
        elapsed = time.perf_counter() - start
        rounds = done // len(connections)
        first_seq = self._next_seq
        self._next_seq += rounds
        self._last_ms = base_ms + schedule.round_ms(rounds)
        late = sum(len(connection.owed) for connection in connections)
        unsent = sum(connection.unsent_count for connection in connections) - unsent
        self._sent_before += done
        return Ran(
            first_seq=first_seq,
            last_seq=self._next_seq - 1,
            offered=done,
            sent=done - unsent - late,
            unsent=unsent,
            late=late,
            seconds=elapsed,
            cpu_s=time.process_time() - cpu,
            acked=generator.tally.acked - before[0],
            latency=generator.latency.buckets(),
            reconnects=generator.tally.reconnects - before[1],
            disconnected=generator.tally.disconnected - before[2],
            worst_tick_ms=worst * 1000,
        )

    def idle(self) -> None:
        """Keep the connections alive until another command waits."""
        while not self._interrupted():
            self._ping(time.perf_counter())
            self._generator.turn(_IDLE_TURN_S)

    def finish(self, timeout_s: float) -> Finished:
        """Send the rest, await acknowledgements, DISCONNECT, await the end of each stream."""
        generator = self._generator
        began, cpu = time.perf_counter(), time.process_time()
        deadline = began + timeout_s
        generator.finishing = True
        waiting = set(generator.connections)
        while waiting and time.perf_counter() < deadline:
            for connection in list(waiting):
                if connection.owed or connection.pending or connection.inflight:
                    if connection.state is State.OFFLINE and not generator.plan.reconnect:
                        waiting.discard(connection)  # it will never send them
                    continue
                if connection.state is State.ONLINE:
                    generator.close(connection)
                if connection.state in (State.OFFLINE, State.CLOSING):
                    waiting.discard(connection)
            generator.turn(0.02)
        unacked = sum(len(connection.inflight) for connection in generator.connections)
        for connection in generator.connections:
            for due in connection.owed:
                if due.seq > connection.highest_sent:
                    connection.drop(due)
                else:
                    unacked += 1
            connection.owed.clear()
        while time.perf_counter() < deadline and any(c.state is State.CLOSING for c in generator.connections):
            generator.turn(0.02)
        rounds = self._next_seq - FIRST_SEQ
        return Finished(
            sent=[rounds - connection.unsent_count for connection in generator.connections],
            unsent={c.number: c.unsent.parts() for c in generator.connections if c.unsent_count},
            acked={c.number: parts for c in generator.connections if (parts := c.acked.parts())},
            unacked=unacked,
            unclosed=sum(connection.state is not State.OFFLINE for connection in generator.connections),
            resent=generator.tally.resent,
            cpu_s=time.process_time() - cpu,
            seconds=time.perf_counter() - began,
            acks_out_of_order=generator.tally.acks_out_of_order,
        )

    # -- helpers

    def _tell_progress(self, now: float, each_s: float, offered: int) -> None:
        if not each_s or now - self._told_at < each_s:
            return
        self._told_at += each_s
        generator = self._generator
        late = sum(len(connection.owed) for connection in generator.connections)
        dropped = sum(connection.unsent_count for connection in generator.connections)
        self._tell(
            Progress(
                connected=generator.online,
                sent=self._sent_before + offered - late - dropped,
                acked=generator.tally.acked,
                late=late,
                reconnects=generator.tally.reconnects,
                cpu_s=time.process_time(),
            )
        )

    def _due(self, schedule: Schedule, base_ms: int, index: int, offset_ms: int) -> Due:
        age_ms = int(self._generator.plan.age_s * 1000)
        return Due(self._next_seq + index, base_ms + schedule.round_ms(index) + offset_ms - age_ms)

    def _publish(self, span: Span, schedule: Schedule, base_ms: int, *, open_loop: bool) -> None:
        """QoS 0: the path that must cost next to nothing besides the system call."""
        generator = self._generator
        heads, sends = generator.heads, generator.sends
        due = [self._due(schedule, base_ms, r, span.offset_ms) for r in range(span.first_round, span.last_round)]
        bodies = [generator.template.fill(reading.time_ms, reading.seq) for reading in due]
        single = bodies[0] if len(bodies) == 1 else None
        for number in range(span.first_connection, span.last_connection):
            head = heads[number]
            data = head + single if single is not None else head + head.join(bodies)
            try:
                taken = sends[number](data)
            except BlockingIOError:
                generator.hold(generator.connections[number], due, open_loop=open_loop)
                self._wake_when_writable(generator.connections[number])
                continue
            except OSError as error:
                self._failed_send(generator.connections[number], error, data, due, open_loop=open_loop)
                continue
            if taken != len(data):
                generator.block(generator.connections[number], data[taken:])

    def _wake_when_writable(self, connection: Connection) -> None:
        """A socket that took nothing at all: the fast path leaves it alone until it has room."""
        if self._generator.sends[connection.number] is not refuse:
            self._generator.block(connection, b"")

    def _failed_send(
        self, connection: Connection, error: OSError, data: bytes, due: list[Due], *, open_loop: bool
    ) -> None:
        """TLS wants the same bytes again when it could not write; anything else is a lost connection."""
        if isinstance(error, wire.TLS_WOULD_BLOCK):
            self._generator.block(connection, data)
            return
        self._generator.lost(connection)
        self._generator.hold(connection, due, open_loop=open_loop)

    def _publish_guaranteed(self, span: Span, schedule: Schedule, base_ms: int, *, open_loop: bool) -> None:
        """QoS 1: through the books of the connection."""
        generator = self._generator
        window = generator.plan.window
        due = [self._due(schedule, base_ms, r, span.offset_ms) for r in range(span.first_round, span.last_round)]
        bodies = [generator.template.fill(reading.time_ms, reading.seq) for reading in due]
        for number in range(span.first_connection, span.last_connection):
            connection = generator.connections[number]
            fits = not connection.owed and len(connection.inflight) + len(due) <= window
            if fits and generator.sends[number] is not refuse:
                generator.send_guaranteed(connection, due, bodies)
                continue
            generator.hold(connection, due, open_loop=open_loop)
            # As much of it as the window takes: perhaps nothing is in flight whose acknowledgement would do it.
            generator.push(connection)

    def _complete_round(self, done: int, schedule: Schedule, base_ms: int, run: Run) -> int:
        """After an interruption: finish the round, so that every connection was offered the same numbers."""
        whole = math.ceil(done / schedule.connections) * schedule.connections
        for span in schedule.spans(done, whole):
            if run.qos == 0:
                self._publish(span, schedule, base_ms, open_loop=run.open_loop)
            else:
                self._publish_guaranteed(span, schedule, base_ms, open_loop=run.open_loop)
        return whole

    def _churn(self, churned: int, wanted: int) -> int:
        """Close connections in good order; they open again by themselves."""
        generator = self._generator
        for turn in range(churned, wanted):
            connection = generator.connections[turn % len(generator.connections)]
            if connection.state is State.ONLINE and not connection.pending and not connection.reopen:
                generator.close_and_reopen(connection)
        return wanted

    def _ping(self, now: float) -> None:
        """Ping the connections in turn, so that each has its three pings per keep-alive time."""
        generator = self._generator
        count = len(generator.connections)
        before = math.floor(self._pings)
        self._pings += (now - self._pinged_at) * count * _PINGS_PER_KEEP_ALIVE / max(1, generator.plan.keep_alive_s)
        self._pinged_at = now
        for turn in range(before, min(math.floor(self._pings), before + count)):
            connection = generator.connections[turn % count]
            if connection.state is State.ONLINE and not connection.pending:
                generator.write(connection, wire.PINGREQ)

    def _wait_until(self, start_at: float) -> None:
        while (left := start_at - time.time()) > 0:
            self._generator.turn(min(left, 0.05))
