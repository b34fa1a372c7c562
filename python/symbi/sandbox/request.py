"""From a spec to what Docker is asked for: one plain document, and what it must say when it is inspected.

Why: built by hand rather than through the client's helpers, so that every setting is in sight and the very
same document is compared with what the daemon reports (`verify`).
Not here: any call.

Invariants
- R1 No capability, no network, no new privileges, a read-only root, memory without swap, a count of
  processes, an unprivileged user: whatever the spec says.
- R2 A limit that cannot be applied is refused by its name; none is left out silently.
"""

from __future__ import annotations

import os
import stat
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from symbi.errors import SandboxError
from symbi.sandbox.base import GUEST_PATH, SecurityTier
from symbi.sandbox.reaper import AGENT_LABEL

if TYPE_CHECKING:
    from collections.abc import Iterable

    from symbi.sandbox.base import SandboxSpec
    from symbi.sandbox.reaper import Owner

__all__ = ["RUNTIMES", "USER", "create_request", "refuse_exposed"]

RUNTIMES: Final = {SecurityTier.DOCKER: "runc", SecurityTier.GVISOR: "runsc"}
USER: Final = 65534
"""User and group inside: nobody. Owns nothing, neither there nor here."""

_INODES_MAX: Final = 2048  # of one tmpfs; runc holds it, gVisor does not, there memory is the bound
_SHM_BYTES: Final = 8 << 20  # /dev/shm: locks of multiprocessing need a few pages


def create_request(spec: SandboxSpec, image_id: str, owner: Owner) -> dict[str, Any]:
    """The body of Docker's create call for `spec`.

    Args:
        spec: Of tier 1 or 2.
        image_id: Our image by its id, not its name, so that a moved tag changes nothing.
        owner: Whose labels it bears.

    Raises:
        SandboxError: a limit that cannot be applied here (R2).
    """
    limits = spec.limits
    _refuse_limits(spec)
    memory = int(limits.memory_mb or 0) << 20
    host: dict[str, Any] = {
        "Runtime": RUNTIMES[spec.tier],
        "NetworkMode": "none",
        "ReadonlyRootfs": True,
        "Privileged": False,
        "AutoRemove": False,  # how it ended must still be there to be read
        "CapDrop": ["ALL"],
        "CapAdd": None,
        "SecurityOpt": ["no-new-privileges", *_seccomp(spec.tier)],
        "Memory": memory,
        "MemorySwap": memory,  # the sum of both: no swap
        "OomKillDisable": False,
        "NanoCpus": round(float(limits.cpu_cores or 0) * 1_000_000_000),
        "PidsLimit": spec.pids_max,
        "ShmSize": _SHM_BYTES,
        "IpcMode": "private",
        "PidMode": "",
        "UTSMode": "",
        "Ulimits": [
            {"Name": "nofile", "Soft": spec.nofile_max, "Hard": spec.nofile_max},
            {"Name": "core", "Soft": 0, "Hard": 0},
        ],
        "LogConfig": {"Type": "none", "Config": {}},  # or a flood goes to the host's disk
        "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
        "Devices": [],
        "Binds": None,
        "Mounts": [
            {
                "Type": "bind",
                "Source": mount.source,
                "Target": mount.target,
                "ReadOnly": mount.read_only,
                # Not recursive: what is mounted below the source would stay writable in a read-only mount.
                "BindOptions": {"Propagation": "rprivate", "NonRecursive": True},
            }
            for mount in spec.mounts
        ],
        "Tmpfs": {
            place.target: f"rw,noexec,nosuid,nodev,size={place.size_mb}m,uid={spec.user},gid={USER},mode=0700,"
            f"nr_inodes={_INODES_MAX}"
            for place in spec.tmpfs
        },
    }
    host |= _disk_limits(spec)
    return {
        "Image": image_id,
        # It reports, and becomes the program only when the host answers `go`.
        "Entrypoint": [GUEST_PATH, "run", "--hold", "--"],
        "Cmd": list(spec.argv),
        "Env": [f"{name}={value}" for name, value in spec.environment],
        "User": f"{spec.user}:{USER}",
        "WorkingDir": spec.working_directory,
        "Hostname": "sandbox",
        "Labels": {**owner.labels(), AGENT_LABEL: spec.agent},
        "NetworkDisabled": True,
        "OpenStdin": True,
        "StdinOnce": True,  # a running container ends with the host
        "AttachStdin": True,
        "AttachStdout": True,
        "AttachStderr": True,
        "Tty": False,
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": host,
    }


def refuse_exposed(spec: SandboxSpec, protected: Iterable[str]) -> None:
    """Refuse a mount through which a protected file (a control socket, Docker's, the trail) could be opened.

    A socket in a read-only mount can still be connected to, so read-only is no excuse; covered by another
    mount of the same spec is.

    Raises:
        SandboxError: names the mount and what it would show.
    """
    covered = [place.target for place in spec.tmpfs] + [mount.target for mount in spec.mounts]
    for mount in spec.mounts:
        source = os.path.realpath(mount.source)
        for path in protected:
            secret = os.path.realpath(path)
            if source == secret or source.startswith(secret.rstrip("/") + "/"):
                raise SandboxError(f"mount `{mount.source}` would show `{path}` to the sandbox")
            if not _below(secret, source):
                continue
            inside = os.path.normpath(f"{mount.target}/{os.path.relpath(secret, source)}")
            # Only what lies on top of this mount covers; what it lies in itself (`/tmp`) is below it.
            on_top = [cover for cover in covered if _below(cover, mount.target) and cover != mount.target]
            if not any(_below(inside, cover) for cover in on_top):
                raise SandboxError(
                    f"mount `{mount.source}` would show `{path}` to the sandbox: mask it, or mount less"
                )


def _below(path: str, directory: str) -> bool:
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _refuse_limits(spec: SandboxSpec) -> None:
    for name in ("network_io_mbps", "connections"):
        value = getattr(spec.limits, name)
        if value:
            raise SandboxError(
                f"`{name}` = {value} cannot be applied: a sandbox has no network, and reaches it through the "
                "runtime's `http.fetch` only; 0 is the accepted value"
            )


@lru_cache(maxsize=1)
def _profile() -> str:
    return files("symbi.sandbox").joinpath("seccomp.json").read_text("utf-8")


def _seccomp(tier: SecurityTier) -> list[str]:
    # gVisor answers system calls itself and ignores a profile; its own filter sits outside, on its kernel.
    return [f"seccomp={_profile()}"] if tier is SecurityTier.DOCKER else []


def _disk_limits(spec: SandboxSpec) -> dict[str, Any]:
    """The block devices behind the mounts, each with the rate; `{}` when no limit was asked for."""
    rate = spec.limits.disk_io_mbps
    if rate is None:
        return {}
    devices = sorted({_block_device(mount.source) for mount in spec.mounts})
    throttle = [{"Path": device, "Rate": rate << 20} for device in devices]
    return {"BlkioDeviceReadBps": throttle, "BlkioDeviceWriteBps": throttle}


def _block_device(path: str) -> str:
    """The whole disk that holds `path`; throttles do not apply to partitions.

    Raises:
        SandboxError: it is on no disk of this machine (an overlay, a network share), so nothing could be
        applied.
    """
    number = Path(path).stat().st_dev
    place = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if place.exists():
        real = place.resolve()
        disk = real.parent if (real / "partition").exists() else real
        device = Path("/dev") / disk.name
        try:
            if stat.S_ISBLK(device.stat().st_mode):
                return str(device)
        except OSError:
            pass
    raise SandboxError(f"`disk_io_mbps` cannot be applied: `{path}` is not on a disk of this machine")
