"""A simulated module on the wire, seen by a real broker."""

import asyncio
import itertools

from app.domain.reading import StateBit
from app.protocol.codec import DECODERS
from app.protocol.topics import Kind
from tests.helpers.wire_witness import stage


async def test_first_comes_a_birth_then_readings_that_the_platform_can_decode():
    async with stage() as scene:
        scene.module()
        await scene.witness.until(lambda: len(scene.witness.told("tele")) >= 5)
        kinds = [kind for _serial, kind, _payload in scene.witness.messages]
        assert kinds[0] == "state"
        birth = scene.witness.told("state")[0]
        assert birth["online"] is True
        assert birth["reset_reason"] == "power_on"
        assert birth["period_ms"] == 1000
        assert birth["clock"] == "synchronised"
        for _serial, kind, payload in scene.witness.messages:
            DECODERS[Kind(kind)](payload)
        readings = scene.witness.told("tele")
        assert [reading["seq"] for reading in readings] == list(
            range(readings[0]["seq"], readings[0]["seq"] + len(readings))
        )
        assert readings[-1]["apparent_va"] > 0
        assert "active_w" not in readings[-1], "a Linky gives no watts"
        assert readings[0]["registers_wh"], "the first reading tells the registers"


async def test_what_was_not_acknowledged_comes_again_marked_resent_and_nothing_is_lost():
    async with stage() as scene:
        module = scene.module()
        await scene.witness.until(lambda: len(scene.witness.told("tele")) >= 3)
        module.radio.enabled = False
        await scene.witness.until(lambda: module.outbox.late >= 8)
        waiting = module.outbox.late
        module.radio.enabled = True
        await scene.witness.until(lambda: module.online and not module.outbox.late)
        await scene.witness.until(lambda: module.tally.acknowledged >= waiting + 4)
        readings = scene.witness.told("tele")
        assert sum(reading.get("resent", False) for reading in readings) >= waiting
        seqs = {reading["seq"] for reading in readings}
        assert seqs == set(range(max(seqs) + 1))


async def test_the_store_is_bounded_and_says_what_it_gave_up():
    async with stage(20) as scene:
        module = scene.module(capacity=5)
        await scene.online(module)
        module.radio.enabled = False
        await scene.witness.until(lambda: module.outbox.dropped >= 4)
        assert len(module.outbox) <= 5
        assert module.diag().dropped_readings >= 4


async def test_late_readings_are_paced_and_leave_room_for_the_current_ones():
    async with stage(20) as scene:
        module = scene.module(period_ms=200)
        await scene.online(module)
        module.radio.enabled = False
        await scene.witness.until(lambda: module.outbox.late > 150)
        module.radio.enabled = True
        before = len(scene.witness.messages)
        await scene.witness.until(lambda: module.online and not module.outbox.late)
        sizes = [
            payload.count(b'"seq"') for _serial, kind, payload in scene.witness.messages[before:] if kind == "tele"
        ]
        arrays = [size for size in sizes if size > 1]
        assert len(arrays) >= 3
        assert max(arrays) <= 60
        first, last = sizes.index(arrays[0]), len(sizes) - 1 - sizes[::-1].index(arrays[-1])
        assert 1 in sizes[first:last], "current readings went out between the arrays"


async def test_a_module_that_goes_dark_is_noticed_by_its_keep_alive_and_its_will_is_published():
    async with stage(1) as scene:
        module = scene.module(keep_alive_s=1)
        await scene.online(module)
        module.cut_power()
        await scene.witness.until(lambda: scene.witness.ended)
        serial, cause = scene.witness.ended[0]
        assert (serial, cause) == ("SIM1", "keepalive"), "no FIN: the plug was pulled"
        await scene.witness.until(lambda: {"online": False} in scene.witness.told("state"))


async def test_with_qos_0_nothing_is_promised_and_the_setting_survives_a_reboot():
    async with stage() as scene:
        module = scene.module()
        await scene.online(module)
        scene.witness.command("SIM1", "c1", "configure", qos=0)
        await scene.witness.until(lambda: scene.witness.told("ack"))
        scene.witness.command("SIM1", "c2", "reboot")
        await scene.witness.until(
            lambda: [ack for ack in scene.witness.told("ack") if ack["result"] == "done" and ack["id"] == "c2"]
        )
        acknowledged, resent = module.tally.acknowledged, module.tally.resent
        sent = module.tally.sent
        await scene.witness.until(lambda: module.tally.sent > sent + 6)
        assert module.flash.qos == 0
        # What was measured while it connected is kept back, and such arrays go with QoS 1.
        assert module.tally.acknowledged - acknowledged <= module.tally.resent - resent < 4


async def test_a_clock_that_can_not_be_set_says_so_and_readings_go_without_time():
    async with stage() as scene:
        scene.module(clock_can_be_set=False)
        readings = await scene.witness.until(lambda: scene.witness.told("tele")[:3])
        assert scene.witness.told("state")[0]["clock"] == "never_set"
        assert all("time_ms" not in reading for reading in readings)
        assert all(reading["state"] & StateBit.CLOCK_NEVER_SET for reading in readings)


async def test_what_was_measured_before_the_clock_was_set_gets_its_time_when_it_is():
    async with stage() as scene:
        module = scene.module(start=False)
        module.radio.enabled = False
        scene.start(module)
        await scene.witness.until(lambda: module.outbox.late >= 5)
        module.radio.enabled = True
        await scene.witness.until(
            lambda: module.online and not module.outbox.late and len(scene.witness.told("tele")) > 6
        )
        times = sorted(reading["time_ms"] for reading in scene.witness.told("tele"))
        assert all(700 < b - a < 1500 for a, b in itertools.pairwise(times[:5]))


async def test_the_clock_drifts_and_a_command_sets_it_right():
    async with stage(20) as scene:
        module = scene.module(drift_ppm=50_000.0)
        await scene.online(module)
        await scene.world.sleep(20)
        off_ms = module.clock.now_ms() - scene.world.now_us() // 1000
        assert off_ms > 500
        scene.witness.command("SIM1", "c1", "sync_clock")
        ack = await scene.witness.until(lambda: scene.witness.told("ack"))
        assert ack[0]["data"]["offset_ms"] >= 500
        assert abs(module.clock.now_ms() - scene.world.now_us() // 1000) < off_ms


async def test_the_log_is_sent_when_asked_for_and_warnings_at_once():
    async with stage() as scene:
        module = scene.module()
        await scene.online(module)
        module.log("debug", "tic", "nobody need know")
        module.log("warning", "tic", "3 groups with a wrong checksum in 60 s")
        await scene.witness.until(lambda: scene.witness.told("log"))
        assert [line["text"] for line in scene.witness.told("log")] == ["3 groups with a wrong checksum in 60 s"]
        scene.witness.command("SIM1", "c1", "send_log", lines=2, level="debug")
        await scene.witness.until(lambda: len(scene.witness.told("log")) == 3)
        assert scene.witness.told("log")[1]["level"] == "debug"


async def test_diagnose_names_its_checks():
    async with stage() as scene:
        module = scene.module()
        await scene.online(module)
        scene.witness.command("SIM1", "c1", "diagnose")
        await scene.witness.until(lambda: scene.witness.told("ack") and scene.witness.told("diag"))
        found = scene.witness.told("ack")[0]["data"]
        assert found == {
            "meter_link": "good",
            "radio": "good",
            "broker": "good",
            "clock": "synchronised",
            "queue": "good",
        }
        assert scene.witness.told("diag")[0]["meter_link"] == "good"
        assert scene.witness.told("diag")[0]["mqtt_connects"] == 1


async def test_a_command_runs_once_over_a_reboot_too():
    async with stage() as scene:
        module = scene.module()
        await scene.online(module)
        first_boot = module.boot_id
        scene.witness.command("SIM1", "r1", "reboot")
        await scene.witness.until(lambda: [ack for ack in scene.witness.told("ack") if ack["result"] == "done"])
        assert [ack["result"] for ack in scene.witness.told("ack")] == ["accepted", "done"]
        assert module.boot_id != first_boot
        assert scene.witness.told("state")[-1]["reset_reason"] == "software"
        again = module.boot_id
        scene.witness.command("SIM1", "r1", "reboot")
        await scene.witness.until(lambda: len(scene.witness.told("ack")) == 3)
        assert scene.witness.told("ack")[2]["result"] == "done"
        await scene.world.sleep(5)
        assert module.boot_id == again, "a repeat is answered, not run"


async def test_what_came_too_late_is_expired_what_is_not_known_unknown_and_what_is_wrong_refused():
    async with stage() as scene:
        module = scene.module()
        await scene.online(module)
        scene.witness.command("SIM1", "c1", "identify", expires_ms=1_700_000_000_000)
        scene.witness.command("SIM1", "c2", "make_coffee")
        scene.witness.command("SIM1", "c3", "set_period", period_ms=7)
        scene.witness.command("SIM1", "c4", "set_period", period_ms=True)
        await scene.witness.until(lambda: len(scene.witness.told("ack")) == 4)
        assert {ack["id"]: ack["result"] for ack in scene.witness.told("ack")} == {
            "c1": "expired", "c2": "unknown", "c3": "refused", "c4": "refused",
        }  # fmt: skip
        scene.witness.broker.publish("wd/v1/m/SIM1/cmd", b"\xff no command", qos=1)
        lines = await scene.witness.until(lambda: scene.witness.told("log"))
        assert "can not be read" in lines[0]["text"]


async def test_a_new_period_holds_at_once_and_after_a_reboot_and_is_told_by_a_birth():
    async with stage() as scene:
        module = scene.module(period_ms=60_000)
        await scene.online(module)
        scene.witness.command("SIM1", "c1", "set_period", period_ms=500)
        await scene.witness.until(lambda: len(scene.witness.told("tele")) >= 6)
        assert scene.witness.told("state")[-1]["period_ms"] == 500
        module.reboot()
        await scene.witness.until(lambda: len(scene.witness.told("state")) >= 3)
        assert scene.witness.told("state")[-1]["period_ms"] == 500


async def test_pairing_anew_connects_with_another_secret():
    async with stage() as scene:
        module = scene.module()
        await scene.online(module)
        module.pair_anew("another")
        await scene.witness.until(lambda: len(scene.witness.connected) == 2 and len(scene.witness.told("state")) >= 2)
        assert scene.witness.told("state")[-1]["reset_reason"] == "paired"
        assert module.flash.secret == "another"


async def test_a_full_broker_slows_a_module_and_loses_nothing():
    async with stage() as scene:
        module = scene.module()
        await scene.online(module)
        scene.witness.stalled = True
        await scene.witness.until(lambda: len(module.outbox) >= 5)
        scene.witness.stalled = False
        scene.witness.settle()
        await scene.witness.until(lambda: not module.outbox.late and module.tally.acknowledged > 10)
        seqs = {reading["seq"] for reading in scene.witness.told("tele")}
        assert seqs == set(range(max(seqs) + 1))


async def test_many_modules_end_without_a_trace():
    async with stage() as scene:
        modules = [scene.module(f"SIM{number}") for number in range(30)]
        await scene.online(*modules)
        tasks = len(asyncio.all_tasks())
        assert tasks > 30
    left = [task for task in asyncio.all_tasks() if "run" in repr(task.get_coro()) and "Module" in repr(task)]
    assert not left
