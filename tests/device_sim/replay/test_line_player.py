"""Dumps of a line, played on real sockets and pseudo-terminals."""

from __future__ import annotations

import os
import socket
import threading
import tty

import pytest

from app.protocol.captures.kind import CaptureKind
from device_sim.replay.line_player import Dump, LinePlayer, SerialSink, TcpListener, parts_of
from device_sim.replay.pace import Pace
from tests.app.protocol.dsmr import synthetic as dsmr
from tests.app.protocol.tic import synthetic as tic

PATIENCE_S = 30
TELEGRAMS = [dsmr.netherlands(second) for second in range(3)]
P1 = Dump(b"half a line\r\n" + b"".join(TELEGRAMS), CaptureKind.DSMR)
LINKY = Dump(tic.files()["hist_hc_mono.bin"], CaptureKind.TIC)


def played(dumps, *, speed=None, loop=False):
    """A player on a port and its thread."""
    listener = TcpListener("127.0.0.1", 0)
    stop = threading.Event()
    player = LinePlayer(dumps, speed, stop, loop=loop)
    thread = threading.Thread(target=player.play_on, args=(listener,), daemon=True)
    thread.start()
    return listener, stop, player, thread


def receive(peer, count):
    got = b""
    while len(got) < count:
        chunk = peer.recv(65_536)
        if not chunk:
            break
        got += chunk
    return got


def test_a_reader_gets_every_byte_and_then_the_end():
    listener, _, player, thread = played([LINKY, P1])
    with socket.create_connection(listener.address, timeout=PATIENCE_S) as peer:
        got = receive(peer, 10**9)
    thread.join(PATIENCE_S)
    listener.close()

    assert got == LINKY.content + P1.content
    assert (player.bytes_sent, player.rounds) == (len(got), 1)
    assert not thread.is_alive()


def test_a_reader_that_leaves_is_followed_by_the_next():
    listener, stop, player, thread = played([LINKY], loop=True)
    for _ in range(3):
        with socket.create_connection(listener.address, timeout=PATIENCE_S) as peer:
            assert len(receive(peer, len(LINKY.content))) >= len(LINKY.content)
    stop.set()
    thread.join(PATIENCE_S)
    listener.close()

    assert player.rounds >= 3
    assert not thread.is_alive()


def test_a_player_nobody_connects_to_can_be_stopped():
    listener, stop, player, thread = played([LINKY])
    stop.set()
    thread.join(PATIENCE_S)
    listener.close()

    assert not thread.is_alive()
    assert player.bytes_sent == 0


def test_a_serial_device_gets_every_byte():
    ours, theirs = os.openpty()
    tty.setraw(theirs)
    player = LinePlayer([LINKY], None, threading.Event(), loop=False)
    sinks = []

    def sink_of(dump):
        sinks.append(SerialSink(os.ttyname(theirs), dump))
        return sinks[-1]

    thread = threading.Thread(target=player.play_to, args=(sink_of,), daemon=True)
    thread.start()
    got = b""
    while len(got) < len(LINKY.content):
        got += os.read(ours, 65_536)
    thread.join(PATIENCE_S)
    sinks[0].close()
    os.close(ours)
    os.close(theirs)

    assert got == LINKY.content


def test_telegrams_are_parts_of_their_own():
    assert list(parts_of(P1)) == [b"half a line\r\n" + TELEGRAMS[0], *TELEGRAMS[1:]]
    assert list(parts_of(LINKY)) == [LINKY.content]


@pytest.mark.parametrize(
    ("dump", "baud"),
    [(LINKY, 1200), (Dump(tic.files()["std_hc_mono.bin"], CaptureKind.TIC), 9600), (P1, 115_200)],
)
def test_the_speed_is_that_of_the_line(dump, baud):
    assert dump.baud == baud


class _Clock:
    """A steady clock, and an event whose waiting moves it."""

    def __init__(self):
        self.now_s = 0.0
        self.stopped = False

    def steady_s(self):
        return self.now_s

    def is_set(self):
        return self.stopped

    def wait(self, seconds):
        self.now_s += seconds
        return self.stopped


def waits(speed, pieces, busy_s=0.0):
    clock = _Clock()
    pace = Pace(speed, clock, clock.steady_s)
    at = []
    for after_s in pieces:
        assert pace.wait(after_s)
        at.append(round(clock.now_s, 6))
        clock.now_s += busy_s
    return at


def test_pieces_keep_their_distance():
    assert waits(1, [0, 1, 2.5]) == [0, 1, 3.5]
    assert waits(10, [0, 1, 2.5]) == [0, 0.1, 0.35]
    assert waits(None, [0, 1, 2.5]) == [0, 0, 0]


def test_what_sending_took_is_no_delay():
    assert waits(1, [0, 1, 1, 1], busy_s=0.4) == [0, 1, 2, 3]


def test_what_was_held_up_does_not_hurry_for_long():
    at = waits(1, [0, 1, 1, 1, 1], busy_s=5)
    assert at == [0, 5, 10, 15, 20]


def test_a_time_that_runs_backwards_is_no_wait():
    assert waits(1, [0, -5, 1]) == [0, 0, 1]


def test_a_stop_ends_a_wait():
    clock = _Clock()
    clock.stopped = True
    assert not Pace(1, clock, clock.steady_s).wait(3600)
    assert clock.now_s == 0
