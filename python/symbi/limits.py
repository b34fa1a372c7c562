"""What an agent may use at most (spec R2)."""

from __future__ import annotations

from dataclasses import dataclass

from symbi.errors import InputError

__all__ = ["ResourceLimits"]

_RANGES: dict[str, tuple[float, float]] = {
    "memory_mb": (16, 1 << 20),
    "cpu_cores": (0.01, 1024),
    "disk_io_mbps": (1, 1 << 20),
    "network_io_mbps": (0, 1 << 20),
    "connections": (0, 1 << 16),
    "execution_timeout_s": (0.001, 86_400),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceLimits:
    """The limits of one agent. `None` means: not asked for, so the tier's default holds.

    A limit that cannot be applied where the agent runs is refused when the agent is scheduled, never ignored.

    Args:
        memory_mb: Memory, MiB, 16 to 1048576.
        cpu_cores: Processor share, cores, 0.01 to 1024.
        disk_io_mbps: Disk bandwidth, read and write each, MiB/s.
        network_io_mbps: Network bandwidth, MiB/s. 0 means no network.
        connections: Network connections at once.
        execution_timeout_s: Wall-clock time of one task, seconds.

    Raises:
        InputError: a value out of its range; the text names it and the range.
    """

    memory_mb: int | None = None
    cpu_cores: float | None = None
    disk_io_mbps: int | None = None
    network_io_mbps: int | None = None
    connections: int | None = None
    execution_timeout_s: float | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise InputError(f"`{name}` must be {low} to {high}, and is {value!r}")

    def asked(self) -> dict[str, float]:
        """The limits that were asked for, by name."""
        return {name: value for name in _RANGES if (value := getattr(self, name)) is not None}
