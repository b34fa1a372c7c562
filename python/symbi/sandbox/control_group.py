"""Where the kernel keeps what a process may use and has used: its control groups, version 1 or 2.

Why: the limits that were applied (`verify`) and what was used of them (`usage`) stand in the same directories.
Not here: what is read there, or what it means.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

__all__ = ["ROOT", "directory_of"]

ROOT: Final = Path("/sys/fs/cgroup")


def directory_of(
    pid: int, controller: str, root: Path = ROOT, processes: Path = Path("/proc")
) -> Path | None:
    """Where a process's control group keeps this controller, in either version; None where nobody can tell.

    Args:
        pid: A process of this host, as this process sees it.
        controller: `memory`, `cpu`, `cpuacct`, `pids`, `blkio` (version 1) or any name (version 2).
        root, processes: Where the two file systems are mounted.
    """
    try:
        lines = processes.joinpath(str(pid), "cgroup").read_text().splitlines()
    except OSError:
        return None
    for _, names, path in (line.split(":", 2) for line in lines):
        if controller in names.split(","):
            return root / controller / path.lstrip("/")
        if not names and not (root / controller).exists():  # version 2: one tree for all
            return root / path.lstrip("/")
    return None
