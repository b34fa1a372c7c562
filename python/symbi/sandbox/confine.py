"""What the degraded tier asks of its confiner, and whether it was done.

Why apart from `degraded`: everything here is a function of the spec and of what the kernel says; no
process is held.
Not here: the process (`degraded`), the confinement itself (`symbi-guest confine`).

Invariants
- X4 What is compared is what the host reads from outside, not the confiner's word.
- DG1 A limit that cannot be held is refused by its name; none is ignored.
"""

from __future__ import annotations

import logging
import math
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from symbi.errors import SandboxError
from symbi.sandbox.base import GUEST_PATH
from symbi.sandbox.interpreter import read_elf

if TYPE_CHECKING:
    from collections.abc import Mapping

    from symbi.sandbox.base import Mount, SandboxSpec

__all__ = ["NOBODY", "differences_of", "request_of", "status_of", "stopped", "user_of", "within"]

NOBODY: Final = 65534
"""The user a root becomes. Nothing on a Debian or Fedora system belongs to it."""

OPEN_FILES_MAX: Final = 1000
"""Above it lies the descriptor the program is started through; see `symbi-guest`."""

DEVICES: Final = (("/dev/null", True), ("/dev/urandom", False), ("/dev/random", False), ("/dev/zero", False))
"""Devices every program expects, and whether they may be written."""

_log = logging.getLogger("symbi.sandbox")
_said: set[Path] = set()  # what was warned of: once is enough


def user_of(spec: SandboxSpec) -> tuple[int | None, str]:
    """Whom to become: nobody, when we are root and nobody can open what the program needs; and why not."""
    if os.geteuid() != 0:
        return None, ""
    program = spec.argv[0]
    wanted = [mount.target for mount in spec.mounts if _same(mount)]  # not what only masks another
    if program != GUEST_PATH:
        wanted.append(program)
    for path in wanted:
        closed = _closed_to_others(Path(path))
        if closed is not None:
            if closed not in _said:
                _said.add(closed)
                _log.warning(
                    "degraded tier: `%s` is closed to others, so programs stay root, without capabilities",
                    closed,
                )
            return None, f"runs as root without capabilities: `{closed}` is closed to other users"
    return NOBODY, ""


def _closed_to_others(path: Path) -> Path | None:
    real = path.resolve()
    for part in (real, *real.parents):
        try:
            mode = part.stat().st_mode
        except OSError:
            return part
        need = 0o1 if part != real else (0o5 if real.is_dir() else 0o4)
        if mode & need != need:
            return part
    return None


def request_of(
    spec: SandboxSpec, scratch: str, user: int | None, protected: tuple[str, ...]
) -> dict[str, Any]:
    """The confiner's specification, and the scratch directories to make.

    Raises:
        SandboxError: something that this tier cannot hold (DG1).
    """
    limits = spec.limits
    for name, value in (
        ("disk_io_mbps", limits.disk_io_mbps),
        ("network_io_mbps", limits.network_io_mbps or None),
        ("connections", limits.connections or None),
    ):
        if value is not None:
            raise SandboxError(
                f"the degraded tier cannot hold `{name}` (asked for: {value}); use the docker or gvisor tier"
            )
    cores = limits.cpu_cores or 1.0
    if cores != math.floor(cores):
        raise SandboxError(
            f"the degraded tier holds `cpu_cores` as whole processors only, and {cores:g} was asked for; "
            "use the docker or gvisor tier"
        )
    if spec.nofile_max > OPEN_FILES_MAX:
        raise SandboxError(
            f"the degraded tier holds `nofile_max` up to {OPEN_FILES_MAX}; asked for: {spec.nofile_max}"
        )
    places = {place.target: f"{scratch}{place.target}" for place in spec.tmpfs}
    mounts: dict[str, dict[str, Any]] = {}
    masks: list[Mount] = []
    for mount in spec.mounts:
        if _same(mount):
            mounts[mount.target] = {"path": mount.target, "writable": not mount.read_only}
        elif any(within(mount.target, other.target) for other in spec.mounts if other is not mount):
            masks.append(mount)
        else:
            raise SandboxError(
                f"the degraded tier shows files at their own path only, and `{mount.source}` was to be "
                f"seen as `{mount.target}`"
            )
    # What would lie on top of a mount elsewhere is closed here: there is nothing to lay over it.
    for target in [mask.target for mask in masks] + [*places]:
        outer = max((path for path in mounts if within(target, path)), key=len, default=None)
        if outer is not None:
            mounts[outer].setdefault("masks", []).append(Path(target).name)
    view: list[dict[str, Any]] = [*mounts.values()]
    view += [
        {"path": str(path.parent), "list_only": True}
        for path in map(Path, mounts)
        if (path / "__init__.py").is_file()
    ]
    view += [{"path": path, "writable": writable} for path, writable in DEVICES if Path(path).exists()]
    elf = read_elf(Path(spec.argv[0])) if spec.argv[0] != GUEST_PATH else None
    if elf is not None and elf.interpreter:
        view.append({"path": elf.interpreter, "execute": True})
    if places:
        view.append({"path": scratch, "writable": True})

    def inside(value: str) -> str:
        outer = max((target for target in places if within(value, target)), key=len, default=None)
        return value if outer is None else places[outer] + value.removeprefix(outer)

    environment = {name: inside(value) for name, value in spec.environment}
    environment.setdefault("MALLOC_ARENA_MAX", "2")  # each thread's arena would take 64 MiB of address space
    directory = inside(spec.working_directory)
    return {
        "scratch": [*places.values()],
        "spec": {
            "mounts": view,
            "limits": {
                "memory_bytes": (limits.memory_mb or 256) << 20,
                "open_files": spec.nofile_max,
                "cpus": int(cores),
                "processes": 1,
            },
            "user": None if user is None else {"uid": user, "gid": user},
            "environment": environment,
            "directory": directory,
            "parent": os.getpid(),
            "hold": True,
            "try_connect": list(protected),
        },
    }


def _same(mount: Mount) -> bool:
    return mount.source == mount.target or Path(mount.source).resolve() == Path(mount.target).resolve()


def within(path: str, outer: str) -> bool:
    return path == outer or path.startswith(outer.rstrip("/") + "/")


def status_of(pid: int) -> Mapping[str, str]:
    """What the kernel says of the process, read from outside."""
    found: dict[str, str] = {}
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            found[name] = value.strip()
        for line in Path(f"/proc/{pid}/limits").read_text(encoding="utf-8").splitlines():
            if line.startswith("Max "):
                found[line[:25].strip()] = line[25:].split()[0]
    return found


def stopped(pid: int) -> bool:
    """Whether a signal has stopped the process (proc(5): the state follows the name in parentheses)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] in "Tt"
    except (OSError, IndexError):
        return True  # it is gone: nothing runs


def differences_of(line: Mapping[str, Any], held: Mapping[str, str], asked: Mapping[str, Any]) -> list[str]:
    """Differences between what was asked for and what the host sees (X4)."""
    user = asked["user"]
    wanted = {
        "Seccomp": "2",
        "NoNewPrivs": "1",
        "CapEff": "0" * 16,
        "CapPrm": "0" * 16,
        "Max address space": str(asked["limits"]["memory_bytes"]),
        "Max core file size": "0",
        "Max open files": str(asked["limits"]["open_files"]),
        "Threads": "1",
    }
    if user is not None:
        wanted["Uid"] = "\t".join([str(user["uid"])] * 4)
    differences = [
        f"{name} is {held.get(name)!r}" for name, value in wanted.items() if held.get(name) != value
    ]
    differences += [
        f"`{place['path']}` can be reached" for place in line["probe"]["connects"] if place["reachable"]
    ]
    return differences
