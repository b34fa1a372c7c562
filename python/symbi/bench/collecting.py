"""The row of the collector: how long one step holds up the loop, after ten thousand agents were at work and half of
them were stopped.

Not here: how often it steps (at most once in `runtime.gc_interval_ms`, and only while there is garbage).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from symbi.bench.frame import BenchContext, Row, Sample, percentile

if TYPE_CHECKING:
    from symbi._core import Kernel

__all__ = ["rows"]

_AGENTS = 10_000
_DUE_S_MAX = 10.0  # what was done is due for collection after about a second


def rows(suite: str) -> list[Row]:
    """The row, under the name of the suite that shows it."""
    return [
        Row(
            suite,
            "a step of the collector, the longest of a hundred (p99)",
            "ms",
            "lower",
            measure=_step,
            target=1.0,
            provider="aws-lc",
        )
    ]


def _step(context: BenchContext) -> Sample:
    from symbi._core import Kernel

    kernel = Kernel.open(context.fresh(), agents_max=_AGENTS)
    try:
        agents = _at_work(kernel, context.scale(_AGENTS, floor=500))
        for agent in agents[::2]:
            kernel.stop_agent("host", agent, True)
        times_ms = sorted(_steps(kernel))
    finally:
        kernel.close()
    longest = percentile(times_ms, 0.99)
    return Sample(longest, percentile(times_ms, 0.5), longest)


def _at_work(kernel: Kernel, count: int) -> list[str]:
    """Agents that each wrote to the next one, which read it."""
    agents = [
        kernel.create_agent(
            "host",
            name=f"agent-{number}",
            kind="python",
            in_process=True,
            tier="degraded",
            capabilities=[],
            labels=[],
            memory_mb=None,
            cpu_millicores=None,
            disk_io_mbps=None,
            network_io_mbps=None,
            connections=None,
            execution_timeout_ms=None,
        )[0]
        for number in range(count)
    ]
    for sender, recipient in zip(agents, [*agents[1:], agents[0]], strict=True):
        kernel.send(sender, recipient, b"what it has to say")
        kernel.receive_many(recipient, 1)
    return agents


def _steps(kernel: Kernel) -> list[float]:
    """Each step until nothing is left, milliseconds."""
    from symbi.collector import STEP_UNITS

    times_ms: list[float] = []
    deadline = time.monotonic() + _DUE_S_MAX
    while (in_ns := kernel.collect_in_ns()) is not None and time.monotonic() < deadline:
        time.sleep(in_ns / 1e9)
        begun = time.perf_counter()
        kernel.collect(STEP_UNITS)
        times_ms.append((time.perf_counter() - begun) * 1e3)
    return times_ms
