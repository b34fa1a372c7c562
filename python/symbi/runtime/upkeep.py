"""Upkeep: the collector, the redeliveries and the leak monitor of one runtime, joined to its loop.

Not here: collecting (the kernel), when (`collector`), what a leak looks like (`leaks`).
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from symbi.runtime.collector import Collector
from symbi.runtime.leaks import LeakMonitor
from symbi.runtime.redelivery import Redelivery
from symbi.status import ComponentHealth

if TYPE_CHECKING:
    from symbi._core import Kernel
    from symbi.runtime import Runtime

__all__ = ["Upkeep"]


class Upkeep:
    """Of one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._collector: Collector | None = None
        self._redelivery: Redelivery | None = None
        self.leaks = LeakMonitor(self._count)

    def open(self, kernel: Kernel) -> None:
        """On the loop that the runtime lives on."""
        interval_ms = self._runtime.config.runtime.gc_interval_ms
        self._collector = Collector(kernel, asyncio.get_running_loop(), interval_ms, self.leaks.look)
        self._redelivery = Redelivery(kernel, asyncio.get_running_loop())
        self._redelivery.bell()

    def bell(self) -> None:
        """The kernel rang."""
        if self._collector is not None:
            self._collector.bell()
        if self._redelivery is not None:
            self._redelivery.bell()

    def close(self) -> None:
        """No timer is left."""
        if self._collector is not None:
            self._collector.close()
        if self._redelivery is not None:
            self._redelivery.close()

    @property
    def armed(self) -> bool:
        """Whether there is garbage, and so a timer."""
        return self._collector is not None and self._collector.armed

    def health(self) -> ComponentHealth:
        """Whether a kind of thing only grows."""
        self.leaks.look()
        growing = self.leaks.growing()
        if not growing:
            return ComponentHealth("green")
        said = ", ".join(f"{kind} ({first} to {last})" for kind, (first, last) in sorted(growing.items()))
        return ComponentHealth(
            "yellow", f"these only grow, for minutes on end: {said}; is something never stopped?"
        )

    def _count(self) -> dict[str, int]:
        runtime = self._runtime
        return {
            **runtime.kernel.live(),
            "futures": runtime.bridge.waiting,
            "sandboxes": runtime.workers.count,
            "watches": runtime.breaches.watched,
            "descriptors": sum(1 for _ in Path("/proc/self/fd").iterdir()),
            "threads": threading.active_count(),
        }
