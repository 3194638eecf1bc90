"""Radio: signals, what is lost at them, and who joins whom."""

import itertools

from device_sim.radio import JOIN_DBM, AccessPoint, Radio, Spot, loss_at, signal_of

NOW = 1_795_000_000_000_000
MINUTE = 60_000_000


def test_distance_and_walls_weaken_and_loss_grows_as_the_signal_falls():
    assert signal_of(2, 0) > signal_of(10, 0) > signal_of(10, 2)
    losses = [loss_at(dbm) for dbm in range(0, -128, -1)]
    assert all(a <= b for a, b in itertools.pairwise(losses))
    assert losses[50] < 0.01 < loss_at(-80) < 0.2 < loss_at(-88) < 1
    assert loss_at(-127) == 1


def test_a_signal_is_the_same_for_the_same_seed_and_moves_slowly():
    def signals(seed):
        radio = Radio(seed, [(AccessPoint("a"), Spot(8, 2))])
        found = []
        for second in range(600):
            radio.look(NOW + second * 1_000_000)
            found.append(radio.rssi_dbm(NOW + second * 1_000_000))
        return found

    assert signals("x") == signals("x") != signals("y")
    moving = signals("x")
    assert max(moving) - min(moving) >= 3, "it fades"
    assert max(abs(a - b) for a, b in itertools.pairwise(moving)) <= 3, "it does not jump"


def test_a_module_roams_to_a_much_better_access_point_and_not_to_one_a_little_better():
    near, far = AccessPoint("near", bssid="a"), AccessPoint("far", bssid="b")
    radio = Radio(1, [(near, Spot(4, 0)), (far, Spot(7, 0))])
    assert radio.look(NOW) is near
    near.attenuation_db = 4
    assert radio.look(NOW) is near
    near.attenuation_db = 30
    assert radio.look(NOW) is far
    assert radio.connects == 2


def test_a_module_leaves_when_it_hears_nothing_and_waits_for_more_before_it_joins_again():
    point = AccessPoint("a")
    radio = Radio(1, [(point, Spot(4, 0))])
    assert radio.look(NOW) is point
    here = radio.rssi_dbm(NOW)
    point.attenuation_db = here + 96
    assert radio.look(NOW) is None
    assert radio.rssi_dbm(NOW) is None
    assert radio.loss(NOW) == 1
    point.attenuation_db = here - JOIN_DBM + 2
    assert radio.look(NOW) is None, "above the signal at which it left, below that at which it joins"
    point.attenuation_db = 0
    assert radio.look(NOW) is point


def test_a_message_takes_longer_the_worse_the_signal_and_at_last_does_not_get_through():
    def mean_delay(attenuation):
        point = AccessPoint("a")
        radio = Radio(3, [(point, Spot(4, 0))])
        radio.look(NOW)
        radio.attenuation_db = attenuation
        found = [radio.delay_s(NOW + number * MINUTE) for number in range(300)]
        return sum(delay if delay is not None else 20 for delay in found) / len(found), found.count(None)

    (good, good_lost), (weak, _), (dead, dead_lost) = mean_delay(0), mean_delay(35), mean_delay(75)
    assert good < 0.02 < weak * 3 < dead
    assert weak > 1.2 * good
    assert good_lost == 0 < dead_lost


def test_a_bad_channel_loses_though_the_signal_is_good():
    point = AccessPoint("a", bad_channel=13)
    radio = Radio(1, [(point, Spot(4, 0))])
    radio.look(NOW)
    before = radio.loss(NOW)
    point.channel = 13
    assert radio.rssi_dbm(NOW) > -60
    assert before < 0.1 < 0.8 < radio.loss(NOW)
