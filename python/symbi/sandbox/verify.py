"""What runs is what was asked for: the daemon's word, the control group's, and our probe's, compared.

Why: between the spec and the process stand a daemon, a runtime and a kernel, each with its own
configuration. The word of the program inside counts nothing; what counts is what the host reads and what our
own static binary saw before the program began.
Not here: any call to Docker; these are pure functions over documents, and one that reads `/sys/fs/cgroup`.

Invariants
- V1 Every difference is found and named with both values; one is enough to refuse.
- V2 A Tier 2 sandbox whose kernel is not gVisor, and a Tier 1 sandbox whose kernel is not the host's, is
  refused.
- V3 What a witness cannot see (`null`) is no agreement and no difference; the inspection sees everything.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from symbi.sandbox.base import SecurityTier
from symbi.sandbox.control_group import directory_of
from symbi.sandbox.request import USER

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from symbi.sandbox.base import SandboxSpec

__all__ = [
    "check_control_group",
    "check_inspection",
    "check_probe",
    "kernel_name",
    "read_control_group",
]

_MASKED_AT_LEAST: Final = ("/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware")
_READ_ONLY_AT_LEAST: Final = ("/proc/sys", "/proc/sysrq-trigger")
_NO_CAPABILITIES: Final = "0" * 16
_UNLIMITED: Final = 1 << 60  # control groups say "none" with a huge number


def check_inspection(request: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """The differences between a create request and `docker inspect` of what it made (V1)."""
    return list(_inspection(request, found))


def check_probe(spec: SandboxSpec, probe: Mapping[str, Any], host_release: str | None = None) -> list[str]:
    """The differences between a spec and what our first process saw inside (V1, V2, V3)."""
    return list(_probe(spec, probe, os.uname().release if host_release is None else host_release))


def kernel_name(probe: Mapping[str, Any]) -> str:
    """The kernel that answers inside, in a word for people."""
    release = (probe.get("kernel") or {}).get("release", "?")
    return f"gVisor {release}" if probe.get("gvisor") else f"Linux {release}"


def read_control_group(pid: int) -> dict[str, int]:
    """The limits that a host process's control group (v1 or v2) holds; what cannot be seen is left out.

    Names: `memory_bytes`, `pids`, `cpu_millicores`.
    """
    first = directory_of(pid, "memory")
    if first is None:
        return {}
    memory, processes, cpu = (directory_of(pid, name) or first for name in ("memory", "pids", "cpu"))
    read: dict[str, int] = {}
    for name, values in {
        "memory_bytes": (_number(memory / "memory.limit_in_bytes"), _number(memory / "memory.max")),
        "pids": (_number(processes / "pids.max"),),
    }.items():
        value = next((value for value in values if value is not None), 0)
        if 0 < value < _UNLIMITED:
            read[name] = value
    quota, period = _number(cpu / "cpu.cfs_quota_us"), _number(cpu / "cpu.cfs_period_us")
    if quota is None:
        quota, period = _pair(cpu / "cpu.max")
    if quota is not None and period and quota > 0:
        read["cpu_millicores"] = quota * 1000 // period
    return read


def check_control_group(spec: SandboxSpec, read: Mapping[str, int]) -> list[str]:
    """The differences between a spec and the limits its control group holds; only what was seen (V3)."""
    limits = spec.limits
    asked = {
        "memory_bytes": int(limits.memory_mb or 0) << 20,
        "pids": spec.pids_max,
        "cpu_millicores": round(float(limits.cpu_cores or 0) * 1000),
    }
    return [
        f"control group: `{name}` is {read[name]}, asked for {value}"
        for name, value in asked.items()
        if name in read and abs(read[name] - value) > (10 if name == "cpu_millicores" else 0)
    ]


def _inspection(request: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    host = found.get("HostConfig") or {}
    for key, asked in request["HostConfig"].items():
        if _plain(key, host.get(key)) != _plain(key, asked):
            yield f"inspect: `{key}` is {_short(host.get(key))}, asked for {_short(asked)}"
    config = found.get("Config") or {}
    for key in ("Entrypoint", "Cmd", "User", "WorkingDir", "Tty", "OpenStdin", "StdinOnce", "Labels"):
        if config.get(key) != request[key]:
            yield f"inspect: `{key}` is {_short(config.get(key))}, asked for {_short(request[key])}"
    if sorted(config.get("Env") or []) != sorted(request["Env"]):
        yield "inspect: the environment is not what was asked for"
    if found.get("Image") != request["Image"]:
        yield f"inspect: the image is `{found.get('Image')}`, asked for `{request['Image']}`"
    asked_mounts = {
        (mount["Source"], mount["Target"], not mount["ReadOnly"]) for mount in request["HostConfig"]["Mounts"]
    }
    mounts = {
        (mount.get("Source"), mount.get("Destination"), mount.get("RW"))
        for mount in found.get("Mounts") or []
        if mount.get("Type") != "tmpfs"
    }
    if mounts != asked_mounts:
        shown, wanted = (_short(sorted(map(str, some))) for some in (mounts, asked_mounts))
        yield f"inspect: the mounts are {shown}, asked for {wanted}"
    for key, least in (("MaskedPaths", _MASKED_AT_LEAST), ("ReadonlyPaths", _READ_ONLY_AT_LEAST)):
        missing = [path for path in least if path not in (host.get(key) or [])]
        if missing:
            yield f"inspect: `{key}` lacks {missing}"
    networks = list(((found.get("NetworkSettings") or {}).get("Networks") or {}).keys())
    if networks not in ([], ["none"]):
        yield f"inspect: the networks are {networks}, asked for none"


def _probe(spec: SandboxSpec, probe: Mapping[str, Any], host_release: str) -> Iterator[str]:
    if probe.get("type") != "probe" or probe.get("format") != 1:
        yield "probe: the first line is not a report of format 1"
        return
    second = spec.tier is SecurityTier.GVISOR
    release = (probe.get("kernel") or {}).get("release")
    if bool(probe.get("gvisor")) is not second or (release == host_release) is second:
        yield f"probe: the kernel is `{kernel_name(probe)}`, asked for {'gVisor' if second else 'the host`s'}"
    exact: dict[str, Any] = {"pid": 1, "uid": spec.user, "gid": USER, "root_read_only": True}
    for name, asked in exact.items():
        if probe.get(name) != asked:
            yield f"probe: `{name}` is {probe.get(name)!r}, asked for {asked!r}"
    for name, mask in (probe.get("capabilities") or {}).items():
        if mask is not None and str(mask).rjust(16, "0") != _NO_CAPABILITIES:
            yield f"probe: {name} capabilities are `{mask}`, asked for none"
    interfaces = probe.get("interfaces")
    if interfaces is not None and not set(interfaces) <= {"lo"}:
        yield f"probe: network interfaces {_short(interfaces)}, asked for none"
    seen = {"nofile": (probe.get("rlimits") or {}).get("nofile")}
    wanted: dict[str, Any] = {"nofile": spec.nofile_max}
    if not second:  # gVisor shows neither filters nor control groups inside
        seen |= {
            name: probe.get(name)
            for name in ("no_new_privs", "seccomp_mode", "memory_limit_bytes", "pids_limit")
        }
        wanted |= {
            "no_new_privs": True,
            "seccomp_mode": 2,
            "memory_limit_bytes": int(spec.limits.memory_mb or 0) << 20,
            "pids_limit": spec.pids_max,
        }
    for name, value in seen.items():
        if value is not None and value != wanted[name]:
            yield f"probe: `{name}` is {value!r}, asked for {wanted[name]!r}"


def _plain(key: str, value: Any) -> Any:
    """Two spellings of one thing made one: Docker answers `null` for empty, and orders lists as it likes."""
    if key == "Mounts":
        return sorted(
            (m.get("Type"), m.get("Source"), m.get("Target"), bool(m.get("ReadOnly"))) for m in value or []
        )
    if key in ("Ulimits", "BlkioDeviceReadBps", "BlkioDeviceWriteBps"):
        return sorted(tuple(sorted(entry.items())) for entry in value or [])
    if isinstance(value, dict):
        return {name: inner for name, inner in value.items() if inner}
    return value or None


def _short(value: object) -> str:
    text = str(value)
    return f"`{text[:200]}…`" if len(text) > 200 else f"`{text}`"


def _number(place: Path) -> int | None:
    try:
        return int(place.read_text())
    except (OSError, ValueError):
        return None


def _pair(place: Path) -> tuple[int | None, int | None]:
    try:
        quota, period = place.read_text().split()
        return int(quota), int(period)
    except (OSError, ValueError):
        return None, None
