"""Firmware updates of a simulated module over a real HTTP server and a real broker."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from device_sim.modules.image import NO_BOOT, NO_METER, NO_WIFI, make_image, sign
from tests.helpers.image_server import image_server
from tests.helpers.wire_witness import stage

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
HARDWARE = "wd-m1-c"


def phases(scene):
    return [fota["phase"] for fota in scene.witness.told("fota")]


async def order(scene, server, module, **changes):
    await scene.online(module)
    signed = sign(server.image, KEY)
    said = {"url": server.url, "sha256": signed.sha256, "signature": signed.signature, "version": "2.5.0", "job": "r-1"}
    scene.witness.command(module.serial, "u1", "update_firmware", **said | changes)


async def end_of(scene):
    await scene.witness.until(lambda: {"done", "failed"} & set(phases(scene)))
    await scene.witness.until(lambda: [ack for ack in scene.witness.told("ack") if ack["result"] in {"done", "failed"}])
    return scene.witness.told("fota")[-1], scene.witness.told("ack")[-1]


async def test_a_good_image_is_downloaded_checked_started_and_proven():
    async with image_server(make_image("2.5.0", HARDWARE, size=60_000)) as server, stage(20) as scene:
        module = scene.module(public_key=PUBLIC)
        await order(scene, server, module)
        fota, ack = await end_of(scene)
        assert (fota["phase"], fota["from_firmware"], fota["to_firmware"], fota["job"]) == (
            "done",
            "2.4.1",
            "2.5.0",
            "r-1",
        )
        assert ack["result"] == "done"
        assert list(dict.fromkeys(phases(scene))) == ["downloading", "verifying", "rebooting", "done"]
        assert scene.witness.told("state")[-1]["firmware"] == "2.5.0"
        assert scene.witness.told("state")[-1]["reset_reason"] == "fota"
        percents = [fota["percent"] for fota in scene.witness.told("fota") if fota.get("percent")]
        assert percents == sorted(percents)
        assert percents[-1] == 100
        assert module.flash.slots[1 - module.flash.active].version == "2.4.1", "the old one stays for the way back"


async def test_a_download_that_breaks_off_goes_on_where_it_stopped():
    async with image_server(make_image("2.5.0", HARDWARE, size=60_000)) as server, stage(20) as scene:
        server.cuts = [25_000, 10_000]
        module = scene.module(public_key=PUBLIC)
        await order(scene, server, module)
        fota, _ack = await end_of(scene)
        assert fota["phase"] == "done"
        assert server.starts == [0, 25_000, 35_000]


async def test_a_download_goes_on_over_a_power_cut():
    async with image_server(make_image("2.5.0", HARDWARE, size=60_000)) as server, stage(10) as scene:
        module = scene.module(public_key=PUBLIC)
        module.wire.uplink_bytes_per_s = 4000
        await order(scene, server, module)
        await scene.witness.until(lambda: module.flash.update and len(module.flash.update.received) > 20_000)
        module.cut_power()
        await scene.world.sleep(3)
        module.wire.uplink_bytes_per_s = None
        module.restore_power()
        fota, _ack = await end_of(scene)
        assert fota["phase"] == "done"
        assert server.starts[1] >= 20_000


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"sha256": "00" * 32}, "download"),
        ({"signature": "AAAA"}, "signature"),
        ({"version": "2.6.0"}, "version"),
        ({"size_bytes": 123}, "download"),
        ({"url": "ftp://example.org/firmware"}, "download"),
    ],
)
async def test_what_does_not_fit_is_refused_before_it_runs(changes, word):
    async with image_server(make_image("2.5.0", HARDWARE, size=20_000)) as server, stage(20) as scene:
        module = scene.module(public_key=PUBLIC)
        await order(scene, server, module, **changes)
        fota, ack = await end_of(scene)
        assert (fota["phase"], fota["error"]) == ("failed", word)
        assert ack["result"] == "failed"
        assert module.flash.firmware.version == "2.4.1"
        assert module.tally.boots == 1


async def test_an_image_for_other_hardware_and_one_signed_by_a_stranger_are_refused():
    stranger = sign(make_image("2.5.0", HARDWARE, size=9000), Ed25519PrivateKey.generate())
    for image, signature, word in (
        (make_image("2.5.0", "wd-m9", size=9000), None, "version"),
        (stranger.content, stranger.signature, "signature"),
    ):
        async with image_server(image) as server, stage(20) as scene:
            module = scene.module(public_key=PUBLIC)
            await order(scene, server, module, **({"signature": signature} if signature else {}))
            fota, _ack = await end_of(scene)
            assert fota["error"] == word


async def test_a_server_that_says_no_ends_the_update():
    async with image_server(make_image("2.5.0", HARDWARE, size=9000)) as server, stage(20) as scene:
        server.status = 403
        await order(scene, server, scene.module(public_key=PUBLIC))
        fota, _ack = await end_of(scene)
        assert fota["error"] == "download"
        assert "403" in fota["detail"]


@pytest.mark.parametrize(("flaw", "why"), [(NO_BOOT, "does not start"), (NO_WIFI, "no broker"), (NO_METER, "no meter")])
async def test_a_firmware_that_fails_its_trial_is_rolled_back_without_a_download(flaw, why):
    image = make_image("2.5.0", HARDWARE, size=9000, flaws=frozenset({flaw}))
    async with image_server(image) as server, stage(60) as scene:
        module = scene.module(public_key=PUBLIC, keep_alive_s=60)
        await order(scene, server, module)
        fota, ack = await end_of(scene)
        assert (fota["phase"], fota["error"]) == ("failed", "rolled_back")
        assert why in fota["detail"]
        assert ack["result"] == "failed"
        assert scene.witness.told("state")[-1]["firmware"] == "2.4.1"
        assert len(server.starts) == 1


async def test_an_order_is_taken_once_and_not_two_at_a_time():
    async with image_server(make_image("2.5.0", HARDWARE, size=60_000)) as server, stage(10) as scene:
        module = scene.module(public_key=PUBLIC)
        module.wire.uplink_bytes_per_s = 10_000
        await order(scene, server, module)
        await scene.witness.until(lambda: "downloading" in phases(scene))
        scene.witness.command("SIM1", "u2", "update_firmware", url=server.url, sha256="0", signature="0", version="9")
        scene.witness.command("SIM1", "u3", "update_firmware", url=server.url)
        await scene.witness.until(lambda: len(scene.witness.told("ack")) == 3)
        assert {ack["id"]: ack["result"] for ack in scene.witness.told("ack")} == {
            "u1": "accepted", "u2": "refused", "u3": "refused",
        }  # fmt: skip
