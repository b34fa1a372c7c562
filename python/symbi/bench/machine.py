"""What the figures were measured on: the first block of every report.

Why first: a figure without its machine and its build is an anecdote. Everything here is read, nothing is
guessed; what cannot be read is empty.

Invariants
- BM1 figures of a core that is not a release build are never presented as figures.
"""

from __future__ import annotations

import os
import platform
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from symbi.build import core_build

__all__ = ["FLAGS_OF_NOTE", "Machine", "read_machine"]

# What the hot paths choose by: batch verification, vector kernels, hashing, sealing; on x86-64 and aarch64.
FLAGS_OF_NOTE = (
    *("avx2", "avx512f", "avx512ifma", "avx512_vnni", "avx512_vpopcntdq", "sha_ni", "aes", "vaes"),
    *("asimd", "sha2", "sve", "asimddp"),
)


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine block.

    Attributes:
        cores: Processors that this process may use.
        memory_mb: Memory in all, MiB.
        load: Runnable tasks over the last minute, when the run began: above `cores` the figures are
        disturbed. build: Profile of the native core: `release`, `ci`, or empty where it is missing.
    """

    cpu: str
    cores: int
    flags: tuple[str, ...]
    memory_mb: int
    kernel: str
    architecture: str
    python: str
    symbi: str
    build: str
    load: float

    @property
    def presentable(self) -> bool:
        """True where figures may be judged against targets (BM1)."""
        return self.build == "release"

    def as_json(self) -> dict[str, object]:
        """As `symbi bench --json` writes it."""
        return {**asdict(self), "flags": list(self.flags), "presentable": self.presentable}

    def lines(self) -> list[str]:
        """As a person reads it."""
        build = self.build or "no native core"
        return [
            f"machine  {self.cpu or self.architecture}, {self.cores} cores, {self.memory_mb} MiB",
            f"flags    {' '.join(self.flags) or 'none of note'}",
            f"system   Linux {self.kernel}, {self.architecture}, Python {self.python}, load {self.load:.2f}",
            f"symbi    {self.symbi}, core built as: {build}",
        ]


def _field(text: str, *names: str) -> str:
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in names:
            return value.strip()
    return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def read_machine() -> Machine:
    """Reads the machine. Cost: two files of /proc, and loading the native core."""
    from symbi import __version__

    cpuinfo, core = _read("/proc/cpuinfo"), core_build()
    have = set(_field(cpuinfo, "flags", "Features").split())
    memory = _field(_read("/proc/meminfo"), "MemTotal").split()
    implementation = "" if sys.implementation.name == "cpython" else f" ({sys.implementation.name})"
    return Machine(
        cpu=_field(cpuinfo, "model name", "Processor"),
        cores=len(os.sched_getaffinity(0)),
        flags=tuple(flag for flag in FLAGS_OF_NOTE if flag in have),
        memory_mb=int(memory[0]) // 1024 if memory else 0,
        kernel=platform.release(),
        architecture=platform.machine(),
        python=platform.python_version() + implementation,
        symbi=__version__,
        build=core.profile,
        load=os.getloadavg()[0],
    )
