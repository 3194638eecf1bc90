"""The bounded queue between threads."""

from __future__ import annotations

import threading

from app.domain.linky import TicMode
from app.domain.reading import Reading
from app.sources.serial.handoff import Handoff
from app.sources.serial.line import MeterReading


def reading(number: int) -> MeterReading:
    return MeterReading("041961000017", TicMode.STANDARD, Reading(seq=number), number)


def test_the_other_side_is_woken_once_and_takes_all():
    wakes = []
    handoff = Handoff(lambda: wakes.append(1))
    for number in range(3):
        handoff.put(reading(number))

    assert [one.arrival_us for one in handoff.take()] == [0, 1, 2]
    assert handoff.take() == []
    handoff.put(reading(3))
    assert len(wakes) == 2


def test_the_oldest_is_shed_and_counted():
    handoff = Handoff(lambda: None, most_pending=2)
    for number in range(5):
        handoff.put(reading(number))

    assert [one.arrival_us for one in handoff.take()] == [3, 4]
    assert handoff.shed == 3


def test_nothing_is_lost_between_two_threads():
    awake = threading.Event()
    handoff = Handoff(awake.set, most_pending=10_000)
    writer = threading.Thread(target=lambda: [handoff.put(reading(number)) for number in range(5000)])
    writer.start()
    taken: list[int] = []
    while len(taken) < 5000:
        assert awake.wait(30)
        awake.clear()
        taken += [one.arrival_us for one in handoff.take()]
    writer.join()

    assert taken == list(range(5000))
