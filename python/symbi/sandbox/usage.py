"""What a running sandbox uses, read by the host from its control group, or from `/proc` in the degraded tier.

Why: inside, a program sees what its kernel tells it (gVisor's clock counts more than half again of what was spent);
what counts is what the host has given away.
Not here: what a limit is and what happens at one (`watch`, the kernel), or applying one (`request`, `confine`).

The files are opened once and read again by position: a reading is 6 to 8 system calls.

Invariants
- US1 a figure that cannot be read is None, never zero: nobody takes "unknown" for "nothing".
- US2 what only grows (time, bytes, peaks) never goes back, not even when the sandbox has ended: the last reading stays.
  While it is not known to have ended, a processor time that stays for want of a reading says so.
- US3 a meter that is closed holds no descriptor.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final

from symbi.sandbox.control_group import ROOT, directory_of

__all__ = ["ControlGroupMeter", "Meter", "ProcessMeter", "Usage"]

_READ_BYTES: Final = 16 << 10
"""Of one file: `memory.stat` has 1 to 2 KiB, and a line for each disk in the file of bytes."""

_TICK_US: Final = 1_000_000 // os.sysconf("SC_CLK_TCK")
_PROCESSES: Final = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What one sandbox uses. None: this tier or this host does not tell (US1).

    Attributes:
        memory_bytes: Memory that cannot be taken back: without the cache of files. In the degraded tier the address
            space, for that is what is bounded there.
        memory_peak_bytes: The most there was, the cache of files included.
        cpu_time_us: Processor time since its start, microseconds.
        throttled_us: Time that it waited for its processor share, microseconds.
        read_bytes, written_bytes: Through to disks since its start; what the page cache answers is not in it.
        processes: Processes and threads; under gVisor its own threads too.
        output_bytes: What it wrote to us, stdout and stderr together.
        cpu_time_stale: The processor time is an earlier one: it cannot be read any more.
    """

    memory_bytes: int | None = None
    memory_peak_bytes: int | None = None
    cpu_time_us: int | None = None
    throttled_us: int | None = None
    read_bytes: int | None = None
    written_bytes: int | None = None
    processes: int | None = None
    output_bytes: int | None = None
    cpu_time_stale: bool = False


class Meter:
    """Reads one sandbox. Not to be read by two threads at once."""

    def __init__(self, files: dict[str, int]) -> None:
        self._files = files
        self._last = Usage()

    def read(self) -> Usage:
        """What it uses now; what cannot be read any more stays as it was last (US2)."""
        now = self._read() if self._files else Usage()
        known = {one.name: value for one in fields(Usage) if (value := getattr(now, one.name)) is not None}
        for name in known.keys() & _GROWING:
            known[name] = max(known[name], getattr(self._last, name) or 0)
        self._last = replace(self._last, **known)
        if self._files and now.cpu_time_us is None and self._last.cpu_time_us is not None:
            return replace(self._last, cpu_time_stale=True)
        return self._last

    def close(self) -> None:
        """Let go of the files (US3); `read` goes on answering the last reading."""
        files, self._files = self._files, {}
        for descriptor in files.values():
            os.close(descriptor)

    def _read(self) -> Usage:
        raise NotImplementedError

    def _text(self, name: str) -> str:
        descriptor = self._files.get(name)
        if descriptor is None:
            return ""
        try:
            return os.pread(descriptor, _READ_BYTES, 0).decode("ascii", "replace")
        except OSError:  # the group is gone
            return ""

    def _number(self, name: str) -> int | None:
        text = self._text(name).strip()
        return int(text) if text.isdigit() else None

    def _field(self, name: str, *keys: str) -> int | None:
        """The number behind the first of these words that a file of `word number` lines has."""
        pairs = dict(line.split(maxsplit=1) for line in self._text(name).splitlines() if " " in line)
        value = next((pairs[key] for key in keys if key in pairs), "")
        return int(value) if value.isdigit() else None


_GROWING: Final = frozenset(
    {
        "memory_peak_bytes",
        "cpu_time_us",
        "throttled_us",
        "read_bytes",
        "written_bytes",
        "output_bytes",
    }
)

_GROUP_FILES: Final = {
    # name: the file in version 1 with its controller, the file in version 2
    "memory": (("memory", "memory.usage_in_bytes"), "memory.current"),
    "peak": (("memory", "memory.max_usage_in_bytes"), "memory.peak"),
    "memory_stat": (("memory", "memory.stat"), "memory.stat"),
    "cpu_time": (("cpuacct", "cpuacct.usage"), None),
    "cpu": (("cpu", "cpu.stat"), "cpu.stat"),
    "disk": (("blkio", "blkio.throttle.io_service_bytes_recursive"), "io.stat"),
    "processes": (("pids", "pids.current"), "pids.current"),
}


class ControlGroupMeter(Meter):
    """Of a container: the control group of its first process, version 1 or 2."""

    @classmethod
    def of(cls, pid: int, root: Path = ROOT, processes: Path = _PROCESSES) -> ControlGroupMeter:
        """Open what there is to read of the process's group; a host that hides it gives an empty meter."""
        files: dict[str, int] = {}
        for name, ((controller, first), second) in _GROUP_FILES.items():
            directory = directory_of(pid, controller, root, processes) if pid > 0 else None
            if directory is None or directory in (root, root / controller):
                continue  # hidden by a namespace: the root's figures are of the whole machine
            for file in (first, second):
                if file is None:
                    continue
                try:
                    files[name] = os.open(directory / file, os.O_RDONLY | os.O_CLOEXEC)
                    break
                except OSError:
                    continue
        return cls(files)

    def _read(self) -> Usage:
        memory = self._number("memory")
        cache = self._field("memory_stat", "total_inactive_file", "inactive_file")
        time_ns, time_us = self._number("cpu_time"), self._field("cpu", "usage_usec")
        waited_ns, waited_us = self._field("cpu", "throttled_time"), self._field("cpu", "throttled_usec")
        read, written = _disk_bytes(self._text("disk")) if "disk" in self._files else (None, None)
        return Usage(
            memory_bytes=None if memory is None else max(0, memory - (cache or 0)),
            memory_peak_bytes=self._number("peak"),
            cpu_time_us=time_us if time_ns is None else time_ns // 1000,
            throttled_us=waited_us if waited_ns is None else waited_ns // 1000,
            read_bytes=read,
            written_bytes=written,
            processes=self._number("processes"),
        )


def _disk_bytes(text: str) -> tuple[int, int]:
    """Bytes read and written: `8:0 Read 4096` in version 1, `8:0 rbytes=4096 wbytes=0 …` in version 2."""
    read = written = 0
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[2].isdigit():
            read += int(words[2]) if words[1] == "Read" else 0
            written += int(words[2]) if words[1] == "Write" else 0
            continue
        pairs = dict(word.split("=", 1) for word in words[1:] if "=" in word)
        read += int(pairs.get("rbytes", "0"))
        written += int(pairs.get("wbytes", "0"))
    return read, written


class ProcessMeter(Meter):
    """Of the degraded tier: one process, for it can make no other."""

    @classmethod
    def of(cls, pid: int, processes: Path = _PROCESSES) -> ProcessMeter:
        """Open what there is to read of the process; bytes of disks only where the kernel shows them to us."""
        files: dict[str, int] = {}
        for name in ("stat", "status", "io"):
            try:
                files[name] = os.open(processes / str(pid) / name, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
        return cls(files)

    def _read(self) -> Usage:
        numbers = self._text("stat").rpartition(")")[2].split()
        ticks = int(numbers[11]) + int(numbers[12]) if len(numbers) > 12 else None
        status = {
            name: words[0]
            for name, _, rest in (line.partition(":") for line in self._text("status").splitlines())
            if (words := rest.split())
        }

        def size(name: str) -> int | None:
            return int(status[name]) << 10 if name in status else None  # the kernel says kB and means KiB

        return Usage(
            memory_bytes=size("VmSize"),
            memory_peak_bytes=size("VmPeak"),
            cpu_time_us=None if ticks is None else ticks * _TICK_US,
            read_bytes=self._field("io", "read_bytes:"),
            written_bytes=self._field("io", "write_bytes:"),
            processes=int(status["Threads"]) if "Threads" in status else None,
        )
