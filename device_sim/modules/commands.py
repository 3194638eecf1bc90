"""What a module does with a command: each id once, also over a reboot, and an answer to each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from app.protocol.messages import Ack, Cmd
from device_sim.modules.clock import ModuleClock

if TYPE_CHECKING:
    from device_sim.modules.module import Module

SHORTEST_PERIOD_MS = 100
LONGEST_PERIOD_MS = 86_400_000
_DECODER = msgspec.json.Decoder(Cmd)


class Refused(Exception):
    """A command that this module will not run; the text says why."""


def on_command(module: Module, payload: bytes) -> None:
    """Take a command as it came; what is no command is noted and dropped."""
    try:
        cmd = _DECODER.decode(payload)
    except msgspec.DecodeError:
        module.log("warning", "cmd", "a command that can not be read")
        return
    seen = module.flash.answers.get(cmd.id)
    if seen is not None:
        module.link.say_ack(seen)
        return
    if cmd.expires_ms is not None and _over(module.clock, cmd.expires_ms):
        answer(module, cmd.id, "expired")
        return
    run = _COMMANDS.get(cmd.name)
    if run is None:
        answer(module, cmd.id, "unknown", detail=f"this firmware knows no {cmd.name}")
        return
    try:
        run(module, cmd)
    except Refused as error:
        answer(module, cmd.id, "refused", detail=str(error))


def answer(
    module: Module, command_id: str, result: str, *, detail: str | None = None, data: Mapping[str, Any] | None = None
) -> None:
    """Answer, and keep the answer for a repeat."""
    ack = Ack(
        id=command_id,
        time_ms=module.clock.now_ms(),
        boot_id=module.boot_id,
        result=result,
        detail=detail,
        took_ms=0 if result == "done" else None,
        data=None if data is None else dict(data),
    )
    module.flash.remember(ack)
    module.link.say_ack(ack)


def after_boot(module: Module) -> None:
    """Answer the reboot that was ordered, once connected again."""
    command_id = module.flash.rebooting_for
    if command_id is not None:
        module.flash.rebooting_for = None
        answer(module, command_id, "done")


def _over(clock: ModuleClock, expires_ms: int) -> bool:
    now_ms = clock.now_ms()
    # A clock that was never set can not judge.
    return now_ms is not None and now_ms > expires_ms


def _reboot(module: Module, cmd: Cmd) -> None:
    delay_s = _whole(cmd, "delay_s", 0, 3600, default=0)
    answer(module, cmd.id, "accepted")
    # From now on a repeat is answered `done`, whatever happens in between.
    module.flash.rebooting_for = cmd.id
    module.flash.remember(Ack(id=cmd.id, result="done", time_ms=module.clock.now_ms()))
    # The answer goes out first.
    asyncio.get_running_loop().call_later(max(0.2, module.world.real_s(delay_s)), _reboot_once, module, module.boot_id)


def _reboot_once(module: Module, boot_id: int) -> None:
    if module.boot_id == boot_id:
        module.reboot("software")


def _diagnose(module: Module, cmd: Cmd) -> None:
    module.link.say_diag()
    answer(module, cmd.id, "done", data=module.checks())


def _set_period(module: Module, cmd: Cmd) -> None:
    period_ms = _whole(cmd, "period_ms", SHORTEST_PERIOD_MS, LONGEST_PERIOD_MS)
    module.set_period(period_ms)
    answer(module, cmd.id, "done", data={"period_ms": period_ms})


def _send_log(module: Module, cmd: Cmd) -> None:
    lines = _whole(cmd, "lines", 1, 1000, default=100)
    level = (cmd.args or {}).get("level", "debug")
    if level not in {"debug", "info", "warning", "error"}:
        raise Refused("level is one of debug, info, warning, error")
    found = module.newest_lines(lines, str(level))
    for at in range(0, len(found), 100):
        module.link.say_log(found[at : at + 100])
    answer(module, cmd.id, "done", data={"lines": len(found)})


def _identify(module: Module, cmd: Cmd) -> None:
    duration_s = _whole(cmd, "duration_s", 1, 600, default=10)
    module.log("info", "led", f"blinking for {duration_s} s")
    answer(module, cmd.id, "done")


def _sync_clock(module: Module, cmd: Cmd) -> None:
    if not module.synchronise():
        answer(module, cmd.id, "failed", detail="the time server does not answer")
        return
    answer(module, cmd.id, "done", data={"offset_ms": module.clock.last_offset_ms})


def _configure(module: Module, cmd: Cmd) -> None:
    """Settings that stay: `qos` of readings."""
    qos = _whole(cmd, "qos", 0, 1)
    module.flash.qos = qos
    answer(module, cmd.id, "done", data={"qos": qos})


def _update_firmware(module: Module, cmd: Cmd) -> None:
    args = cmd.args or {}
    words = {name: args.get(name) for name in ("url", "sha256", "signature", "version")}
    missing = [name for name, value in words.items() if not isinstance(value, str) or not value]
    if missing:
        raise Refused(f"an update needs {', '.join(missing)}")
    size = args.get("size_bytes")
    module.updating.begin(
        cmd.id,
        job=str(args.get("job") or cmd.id),
        url=str(words["url"]),
        sha256=str(words["sha256"]),
        signature=str(words["signature"]),
        version=str(words["version"]),
        total_bytes=size if isinstance(size, int) and size > 0 else None,
    )


def _whole(cmd: Cmd, name: str, least: int, most: int, default: int | None = None) -> int:
    value = (cmd.args or {}).get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise Refused(f"{name} is a whole number from {least} to {most}")
    return value


_COMMANDS: Mapping[str, Callable[[Module, Cmd], None]] = {
    "reboot": _reboot,
    "diagnose": _diagnose,
    "set_period": _set_period,
    "send_log": _send_log,
    "identify": _identify,
    "sync_clock": _sync_clock,
    "configure": _configure,
    "update_firmware": _update_firmware,
}
