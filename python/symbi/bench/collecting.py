"""The row of the collector: how long one step holds up the loop, after ten thousand agents were at work and half of
them were stopped.

Not here: how often it steps (at most once in `runtime.gc_interval_ms`, and only while there is garbage).
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import symbi
from symbi.bench.frame import BenchContext, Row, Sample, percentile
from symbi.runtime.collector import STEP_UNITS

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["rows"]

_AGENTS = 10_000
_DUE_S_MAX = 20.0  # what was done is due for collection after about a second


def rows(suite: str) -> list[Row]:
    """The row, under the name of the suite that shows it."""
    return [
        Row(
            suite,
            f"a step of the collector after {_AGENTS:,} agents at work, p99",
            "ms",
            "lower",
            measure=_step,
            target=1.0,
            provider="aws-lc",
        )
    ]


@symbi.agent(name="bench", isolation="in_process")
async def _agent() -> None:
    """Never run: it lends its name."""


def _step(context: BenchContext) -> Sample:
    return asyncio.run(_measured(context))


async def _measured(context: BenchContext) -> Sample:
    async with symbi.Runtime.open(data=context.fresh(), mode="development") as rt:
        rt.upkeep.close()  # its steps are taken here, one by one
        agents = [await rt.schedule_agent(_agent) for _ in range(_AGENTS)]
        for sender, recipient in zip(agents, [*agents[1:], agents[0]], strict=True):
            rt.kernel.send(sender.id, recipient.id, b"what it has to say")
            rt.kernel.receive_many(recipient.id, 1)
        for agent in agents[::2]:
            await rt.stop_agent(agent)
        times_ms = sorted(_steps(rt))
    longest = percentile(times_ms, 0.99)
    return Sample(longest, percentile(times_ms, 0.5), longest)


def _steps(rt: symbi.Runtime) -> Iterator[float]:
    """Each step until nothing is left, milliseconds."""
    deadline = time.monotonic() + _DUE_S_MAX
    while (in_ns := rt.kernel.collect_in_ns()) is not None and time.monotonic() < deadline:
        time.sleep(in_ns / 1e9)
        begun = time.perf_counter()
        rt.kernel.collect(STEP_UNITS)
        yield (time.perf_counter() - begun) * 1e3
