"""Where the kernel keeps what a process may use and has used: its control groups, version 1 or 2.

Why: the limits that were applied (`verify`) and what was used of them (`usage`) stand in the same directories; and a
group can be frozen there, in less than a millisecond, where an engine takes tens of them.
Not here: what is read there, or what it means.

Invariants
- CG1 only the group of the named container is frozen: never this process's own, never one above it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

__all__ = ["ROOT", "Freezer", "directory_of"]

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


class Freezer:
    """Freezes a container's control group, past its engine.

    The engine does not know of it: whoever freezes so thaws so, and asks nothing else of the container meanwhile.
    """

    __slots__ = ("_frozen", "_state", "_switch", "_thawed", "_word")

    def __init__(self, switch: Path, frozen: str, thawed: str, state: Path, word: str) -> None:
        self._switch = switch
        self._frozen = frozen
        self._thawed = thawed
        self._state = state
        self._word = word

    @classmethod
    def of(
        cls, pid: int, container: str, root: Path = ROOT, processes: Path = Path("/proc")
    ) -> Freezer | None:
        """The freezer of a container; None where this process may not, or cannot tell (CG1).

        Args:
            pid: Its first process, as this host sees it.
            container: Its id, which its group is named after.
            root, processes: Where the two file systems are mounted.
        """
        directory = directory_of(pid, "freezer", root, processes)
        if directory is None or len(container) < 12 or container not in directory.name:
            return None
        first, second = directory / "freezer.state", directory / "cgroup.freeze"
        for freezer in (
            cls(first, "FROZEN", "THAWED", first, "FROZEN"),
            cls(second, "1", "0", directory / "cgroup.events", "frozen 1"),
        ):
            if os.access(freezer._switch, os.W_OK):
                return freezer
        return None

    def freeze(self) -> None:
        """Ask for it; `frozen` says when it is so.

        Raises:
            OSError: the group is gone.
        """
        self._switch.write_text(self._frozen)

    @property
    def frozen(self) -> bool:
        """Whether no process of the group runs any more."""
        try:
            return self._word in self._state.read_text().splitlines()
        except OSError:
            return False

    def thaw(self) -> None:
        """Let it run on; of a group that is gone there is nothing to thaw."""
        with suppress(OSError):
            self._switch.write_text(self._thawed)
