"""What each fault shows on the wire, seen by a real broker."""

import itertools
import re
from pathlib import Path

import pytest

from device_sim.faults.catalogue import CATALOGUE, fault_of
from device_sim.faults.fault import FaultMistake, Target
from device_sim.radio import AccessPoint
from tests.helpers.wire_witness import stage


def begin(name, *modules, points=(), **words):
    return fault_of(name).start(Target(modules, points), words)


def readings(scene, after=0):
    return [reading for reading in scene.witness.told("tele") if reading["seq"] >= after]


async def test_power_cut_is_silence_then_all_anew():
    async with stage(10) as scene:
        module = scene.module(keep_alive_s=1)
        await scene.witness.until(lambda: len(readings(scene)) >= 5)
        boot_id = module.boot_id
        undo = begin("power_cut", module)
        await scene.witness.until(lambda: scene.witness.ended)
        assert scene.witness.ended == [("SIM1", "keepalive")]
        count = len(scene.witness.messages)
        undo()
        await scene.witness.until(lambda: [one for one in readings(scene) if one["boot_id"] != boot_id])
        assert scene.witness.told("state")[-1]["reset_reason"] == "power_on"
        anew = [one for one in readings(scene) if one["boot_id"] != boot_id]
        assert anew[0]["seq"] == 0
        assert len(scene.witness.messages) > count


async def test_wifi_drop_of_a_module_is_silence_then_the_same_boot_and_what_was_kept():
    async with stage(10) as scene:
        module, neighbour = scene.module("SIM1", keep_alive_s=1), scene.module("SIM2", keep_alive_s=1)
        await scene.online(module, neighbour)
        undo = begin("wifi_drop", module)
        await scene.witness.until(lambda: scene.witness.ended)
        undo()
        await scene.witness.until(lambda: module.online and not module.outbox.late)
        assert scene.witness.ended == [("SIM1", "keepalive")]
        mine = scene.witness.told("tele", "SIM1")
        assert len({one["boot_id"] for one in mine}) == 1
        assert sum(one.get("resent", False) for one in mine) > 5


async def test_wifi_drop_of_an_access_point_hits_all_who_use_it_and_nobody_else():
    async with stage(10) as scene:
        point = AccessPoint("street")
        ours = [scene.module(f"SIM{number}", point=point, keep_alive_s=1) for number in range(3)]
        other = scene.module("OTHER", keep_alive_s=1)
        await scene.online(*ours, other)
        begin("wifi_drop", points=[point])
        await scene.witness.until(lambda: len(scene.witness.ended) == 3)
        assert {serial for serial, _cause in scene.witness.ended} == {"SIM0", "SIM1", "SIM2"}
        assert other.online


async def test_weak_signal_is_in_the_readings():
    async with stage(20) as scene:
        module = scene.module()
        await scene.witness.until(lambda: len(readings(scene)) >= 3)
        before = readings(scene)[-1]["rssi_dbm"]
        undo = begin("weak_signal", module, db=25)
        seq = module.seq
        await scene.witness.until(lambda: len(readings(scene, seq + 1)) >= 3)
        assert readings(scene, seq + 1)[-1]["rssi_dbm"] <= before - 15
        undo()
        seq = module.seq
        await scene.witness.until(lambda: len(readings(scene, seq + 1)) >= 3)
        assert readings(scene, seq + 1)[-1]["rssi_dbm"] >= before - 10


async def test_bad_channel_is_told_by_a_birth_and_readings_come_late_though_the_signal_is_good():
    async with stage(10) as scene:
        point = AccessPoint("street", bssid="02:00:5e:10:00:07", channel=6)
        module = scene.module(point=point)
        await scene.online(module)
        begin("bad_channel", module, points=[point], channel=13, busy=0.97)
        birth = await scene.witness.until(
            lambda: [one for one in scene.witness.told("state") if one.get("channel") == 13]
        )
        assert birth[0]["bssid"] == "02:00:5e:10:00:07"
        late = await scene.witness.until(
            lambda: [one for one in readings(scene) if one.get("resent") and one["seq"] > 3]
        )
        assert late[0]["rssi_dbm"] > -70


async def test_flapping_is_one_session_after_the_other():
    async with stage(20) as scene:
        module = scene.module(keep_alive_s=30)
        await scene.online(module)
        undo = begin("flapping", module, up_s=6, down_s=3)
        await scene.witness.until(lambda: len(scene.witness.connected) >= 4)
        undo()
        assert len({birth["boot_id"] for birth in scene.witness.told("state") if "boot_id" in birth}) == 1
        assert {cause for _serial, cause in scene.witness.ended} == {"takeover"}


async def test_meter_frozen_behind_a_good_signal():
    async with stage(20) as scene:
        module = scene.module()
        await scene.witness.until(lambda: len(readings(scene)) >= 3)
        undo = begin("meter_frozen", module)
        frozen = await scene.witness.until(
            lambda: [one for one in readings(scene) if one.get("frame_gap_ms", 0) > 12_000]
        )
        assert frozen[0]["state"] & 1
        assert frozen[0]["rssi_dbm"] > -70
        assert "drawn_wh" not in frozen[0]
        assert "apparent_va" not in frozen[0]
        undo()
        seq = module.seq
        good = await scene.witness.until(lambda: [one for one in readings(scene, seq + 1) if "drawn_wh" in one])
        assert not good[0]["state"] & 1


async def test_stuck_value():
    async with stage(20) as scene:
        module = scene.module()
        await scene.witness.until(lambda: len(readings(scene)) >= 2)
        begin("stuck_value", module)
        seq = module.seq
        stuck = await scene.witness.until(lambda: readings(scene, seq + 1)[:20] if module.seq > seq + 22 else None)
        assert len({(one["apparent_va"], one["drawn_wh"]) for one in stuck}) == 1
        assert max(one["frame_gap_ms"] for one in stuck) < 2000


async def test_index_jump_back():
    async with stage(10) as scene:
        module = scene.module()
        await scene.witness.until(lambda: len(readings(scene)) >= 3)
        begin("index_jump_back", module, wh=7000)
        seq = module.seq
        await scene.witness.until(lambda: len(readings(scene, seq)) >= 3)
        steps = [b["drawn_wh"] - a["drawn_wh"] for a, b in itertools.pairwise(readings(scene))]
        assert [step for step in steps if step < 0] == [pytest.approx(-7000, abs=5)]


async def test_meter_exchanged():
    async with stage(10) as scene:
        module = scene.module()
        await scene.witness.until(lambda: len(readings(scene)) >= 3)
        begin("meter_exchanged", module)
        await scene.witness.until(lambda: len(scene.witness.told("state")) == 2 and scene.witness.told("log"))
        before, after = scene.witness.told("state")
        assert before["meter_serial"] != after["meter_serial"]
        assert before["boot_id"] == after["boot_id"]
        low = await scene.witness.until(lambda: [one for one in readings(scene) if one.get("drawn_wh", 10**9) < 100])
        assert low


async def test_clock_skew():
    async with stage(10) as scene:
        module = scene.module()
        await scene.witness.until(lambda: len(readings(scene)) >= 3)
        undo = begin("clock_skew", module, seconds=-120)
        seq = module.seq
        await scene.witness.until(lambda: len(readings(scene, seq)) >= 3)
        undo()
        seq = module.seq
        await scene.witness.until(lambda: len(readings(scene, seq)) >= 3)
        steps = [round((b["time_ms"] - a["time_ms"]) / 1000) for a, b in itertools.pairwise(readings(scene))]
        jumps = [step for step in steps if abs(step) > 20]
        assert len(jumps) == 2
        assert jumps[0] == pytest.approx(-119, abs=4)
        assert jumps[1] == pytest.approx(121, abs=4)


async def test_duplicates():
    async with stage(10) as scene:
        module = scene.module()
        await scene.online(module)
        begin("duplicates", module)
        seq = module.seq + 1
        await scene.witness.until(lambda: len(readings(scene, seq)) >= 8)
        seqs = [one["seq"] for one in readings(scene, seq)][:8]
        assert seqs == sorted([*range(seq, seq + 4)] * 2)


async def test_out_of_order():
    async with stage(10) as scene:
        module = scene.module()
        await scene.online(module)
        begin("out_of_order", module, window=4)
        seq = module.seq + 1
        await scene.witness.until(lambda: len(readings(scene, seq)) >= 12)
        seqs = [one["seq"] for one in readings(scene, seq)]
        assert seqs != sorted(seqs)
        assert len(set(seqs)) == len(seqs)


async def test_garbage():
    async with stage(20) as scene:
        module = scene.module()
        await scene.online(module)
        begin("garbage", module, share=0.5)
        await scene.witness.until(lambda: module.tally.garbage >= 5)
        tele = [payload for _serial, kind, payload in scene.witness.messages if kind == "tele"]
        await scene.witness.until(lambda: sum(payload[:1] == b"\x00" for payload in tele) >= 4)
        assert any(payload[:1] == b"{" for payload in tele), "the session goes on"
        assert not scene.witness.ended


async def test_slow_uplink():
    async with stage(10) as scene:
        module = scene.module()
        await scene.online(module)
        undo = begin("slow_uplink", module, bytes_per_s=50)
        await scene.witness.until(lambda: len(module.outbox) >= 8)
        undo()
        await scene.witness.until(lambda: not len(module.outbox))


async def test_broker_unreachable_breaks_the_socket_and_wifi_stays():
    async with stage(10) as scene:
        module = scene.module()
        await scene.online(module)
        undo = begin("broker_unreachable", module)
        await scene.witness.until(lambda: scene.witness.ended)
        assert scene.witness.ended[0][1] != "keepalive"
        await scene.witness.until(lambda: module.outbox.late >= 5)
        assert module.radio.rssi_dbm(scene.world.now_us()) is not None
        undo()
        await scene.witness.until(lambda: module.online and not module.outbox.late)


async def test_moved_out_and_in():
    async with stage(10) as scene:
        module = scene.module()
        await scene.witness.until(lambda: len(readings(scene)) >= 3)
        meter = module.meter.serial
        undo = begin("moved_out", module)
        seq = module.seq
        empty = await scene.witness.until(lambda: readings(scene, seq + 1)[:3])
        assert all(one["apparent_va"] < 10 for one in empty)
        undo()
        seq = module.seq
        lived = await scene.witness.until(lambda: readings(scene, seq + 1)[:3])
        assert all(one["apparent_va"] > 30 for one in lived)
        begin("moved_in", module)
        seq = module.seq
        other = await scene.witness.until(lambda: readings(scene, seq + 1)[:3])
        assert other[-1]["apparent_va"] != pytest.approx(lived[-1]["apparent_va"], abs=1)
        assert module.meter.serial == meter


@pytest.mark.parametrize("name", ["firmware_no_boot", "firmware_no_wifi"])
async def test_a_firmware_that_does_not_work_is_rolled_back(name):
    async with stage(60) as scene:
        module = scene.module(keep_alive_s=60)
        await scene.online(module)
        begin(name, module)
        fota = await scene.witness.until(
            lambda: [one for one in scene.witness.told("fota") if one["phase"] == "failed"]
        )
        assert fota[0]["error"] == "rolled_back"
        assert scene.witness.told("state")[-1]["firmware"] == "2.4.1"
        assert scene.witness.told("state")[-1]["reset_reason"] == "fota"


def test_every_fault_has_its_test_here_and_says_what_the_wire_shows():
    text = Path(__file__).read_text(encoding="utf-8")
    begun = set(re.findall(r'begin\(\s*"(\w+)"', text)) | {"firmware_no_boot", "firmware_no_wifi"}
    assert {fault.name for fault in CATALOGUE} == begun
    assert all(len(fault.wire) > 20 for fault in CATALOGUE)


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("earthquake", {}, "there is no fault"),
        ("weak_signal", {"dbm": 3}, "knows no 'dbm'"),
        ("weak_signal", {"db": "much"}, "is a number"),
        ("weak_signal", {"db": True}, "is a number"),
        ("power_cut", {"share": 1}, "takes no words"),
    ],
)
def test_a_mistake_in_a_fault_is_told(name, words, said):
    with pytest.raises(FaultMistake, match=said):
        fault_of(name).start(Target([]), words)
