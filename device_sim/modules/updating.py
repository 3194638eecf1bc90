"""Firmware updates: download, checks, the other slot, a trial, and the way back."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from app.protocol.messages import Fota
from device_sim.modules import commands
from device_sim.modules.download import DownloadFailed, DownloadInterrupted, download
from device_sim.modules.flash import Slot, Update
from device_sim.modules.image import Head, ImageRefused, examine

if TYPE_CHECKING:
    from device_sim.modules.module import Module

# A new firmware has this long to reach the broker and read the meter; else the old one starts again.
TRIAL_S = 120.0
# So often the bootloader tries a slot on trial.
MOST_BOOTS = 3
RETRY_S = 5.0
MOST_TRIES = 20
_TELL_EACH_PERCENT = 10.0
_LOOK_S = 1.0
_MOST_LOOKS = 60


class Updating:
    """The update of one module; what it must remember is in the module's flash."""

    def __init__(self, module: Module) -> None:
        self._module = module
        self._wake = asyncio.Event()
        self._told_percent = 0.0

    def wake(self) -> None:
        """There is a connection again, or something to do."""
        self._wake.set()

    def begin(
        self,
        command_id: str,
        *,
        job: str,
        url: str,
        sha256: str,
        signature: str,
        version: str,
        total_bytes: int | None,
    ) -> None:
        """Take an order. Raises commands.Refused while another one runs, or for what runs already."""
        flash = self._module.flash
        if flash.update is not None:
            raise commands.Refused("another update is under way")
        if version == flash.firmware.version:
            raise commands.Refused(f"{version} runs already")
        flash.update = Update(command_id, job, url, sha256, signature, version, flash.firmware.version, total_bytes)
        self._told_percent = 0.0
        commands.answer(self._module, command_id, "accepted")
        self.wake()

    def put_in(self, slot: Slot) -> None:
        """A story's short cut: as if this firmware had been downloaded and found right. Starts its trial."""
        flash = self._module.flash
        flash.update = Update("", "story", "", "", "", slot.version, flash.firmware.version)
        self._start_trial(slot)

    def on_boot(self) -> None:
        """The bootloader: a slot on trial has so many boots."""
        update = self._module.flash.update
        if update is None or not update.on_trial:
            return
        update.boots += 1
        if update.boots > MOST_BOOTS:
            self._roll_back("it does not start")

    async def run(self) -> None:
        """Work on whatever update there is, until the module starts anew."""
        flash = self._module.flash
        while True:
            update = flash.update
            if update is None:
                await self._waken()
            elif update.error is not None:
                await self._until_online()
                self._finish(update)
            elif update.on_trial and update.boots:
                await self._trial(update)
            elif update.on_trial:
                # It is still the old slot that runs, for an instant.
                await asyncio.Event().wait()
            else:
                await self._fetch(update)

    async def _waken(self) -> None:
        await self._wake.wait()
        self._wake.clear()

    async def _until_online(self) -> None:
        while not self._module.online:
            await self._waken()

    async def _fetch(self, update: Update) -> None:
        module = self._module
        tries = 0
        while True:
            await self._until_online()
            self._tell("downloading", update)
            try:
                await download(update, tls=module.spec.tls, carry=module.link.carry, told=self._tell_progress)
                break
            except DownloadFailed as error:
                self._fail(update, "download", str(error))
                return
            except DownloadInterrupted as error:
                tries += 1
                module.log("info", "fota", f"interrupted at {len(update.received)} bytes: {error}")
                if tries >= MOST_TRIES:
                    self._fail(update, "download", "interrupted too often")
                    return
                await module.world.sleep(RETRY_S)
        self._tell("verifying", update)
        try:
            head = self._examine(update)
        except ImageRefused as error:
            self._fail(update, error.word, error.detail)
            return
        self._tell("rebooting", update)
        # The word goes out before the silence, unless nobody listens.
        for _look in range(_MOST_LOOKS):
            await module.world.sleep(_LOOK_S)
            if module.link.has_said_all:
                break
        self._start_trial(Slot(head.version, head.flaws))

    def _examine(self, update: Update) -> Head:
        head = examine(
            bytes(update.received),
            sha256=update.sha256,
            signature=update.signature,
            public_key=self._module.flash.public_key,
            hardware=self._module.spec.hardware,
        )
        if head.version != update.to_firmware:
            raise ImageRefused("version", f"this image is {head.version}, not {update.to_firmware}")
        return head

    async def _trial(self, update: Update) -> None:
        """Succeed once the broker is reached and the meter read; else go back."""
        module = self._module
        ends_us = module.world.now_us() + round(TRIAL_S * 1e6)
        while module.world.now_us() < ends_us:
            if module.online and module.meter_link() == "good":
                update.on_trial = False
                update.received.clear()
                self._finish(update)
                return
            await module.world.sleep(_LOOK_S)
        self._roll_back("no broker" if not module.online else "no meter")
        module.reboot("fota")
        await asyncio.Event().wait()

    def _start_trial(self, slot: Slot) -> None:
        update = self._module.flash.update
        assert update is not None
        update.on_trial = True
        update.boots = 0
        self._module.flash.install(slot)
        self._module.reboot("fota")

    def _roll_back(self, why: str) -> None:
        update = self._module.flash.update
        assert update is not None
        update.on_trial = False
        update.error = "rolled_back"
        update.detail = why
        self._module.flash.roll_back()
        self._module.reset_reason = "fota"

    def _fail(self, update: Update, word: str, detail: str) -> None:
        update.error = word
        update.detail = detail

    def _finish(self, update: Update) -> None:
        module = self._module
        module.flash.update = None
        update.received.clear()
        self._tell("done" if update.error is None else "failed", update)
        if update.command_id:
            result = "done" if update.error is None else "failed"
            commands.answer(module, update.command_id, result, detail=update.detail or None)

    async def _tell_progress(self) -> None:
        update = self._module.flash.update
        if update is None or not update.total_bytes:
            return
        percent = 100 * len(update.received) / update.total_bytes
        if percent >= self._told_percent + _TELL_EACH_PERCENT:
            self._told_percent = percent
            self._tell("downloading", update)

    def _tell(self, phase: str, update: Update) -> None:
        module = self._module
        total = update.total_bytes
        done = len(update.received)
        running = phase in {"downloading", "verifying"}
        module.link.say_fota(
            Fota(
                time_ms=module.clock.now_ms(),
                boot_id=module.boot_id,
                job=update.job[:64],
                phase=phase,
                percent=round(100 * done / total, 1) if running and total else None,
                done_bytes=done if running else None,
                total_bytes=total if running else None,
                from_firmware=update.from_firmware[:64],
                to_firmware=update.to_firmware[:64],
                error=update.error,
                detail=update.detail or None,
            )
        )
