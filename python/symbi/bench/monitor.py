"""Rows of the monitor: what the one door costs, from Python, through an open runtime.

Internal: creating an agent, the plainest operation there is: admitted, decided, recorded, done; nothing of its own is
slow. External: a tool that does nothing, called by agents in the host's process, so that what is measured is the way
of an operation: decide, intent on disk, act, outcome on disk.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import symbi
from symbi.bench.frame import BenchContext, Row, Sample, percentile

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_INTERNAL = 40_000
_EXTERNAL = 20_000
_IN_FLIGHT = 64
_ALL = "permit (principal, action, resource);\n"


def rows(suite: str) -> list[Row]:
    """The rows, under the name of the suite that shows them."""
    return [
        Row(
            suite,
            "monitor: internal operations, decided and recorded",
            "/s",
            "higher",
            measure=_internal,
            target=40_000.0,
            durability="group commit, not awaited",
            provider="aws-lc",
        ),
        Row(
            suite,
            f"monitor: external operations, {_IN_FLIGHT} in flight, intent and outcome on disk",
            "/s",
            "higher",
            measure=_external,
            target=20_000.0,
            durability="fdatasync, both awaited",
            provider="aws-lc",
        ),
    ]


@symbi.agent(name="bench", isolation="in_process")
async def _agent() -> None:
    """Never run: it lends its name."""


async def _nothing() -> int:
    return 1


def _internal(context: BenchContext) -> Sample:
    count = context.scale(_INTERNAL)

    async def measure(runtime: symbi.Runtime) -> Sample:
        agent = await runtime.schedule_agent(_agent)
        clone = runtime.kernel.clone_agent
        begin = time.perf_counter()
        for _ in range(count):
            clone("host", agent.id)
        return Sample(count / (time.perf_counter() - begin))

    return _with_runtime(context, measure)


def _external(context: BenchContext) -> Sample:
    each = max(1, context.scale(_EXTERNAL) // _IN_FLIGHT)
    times: list[float] = []

    async def caller(call: Callable[[], Awaitable[int]]) -> None:
        for _ in range(each):
            begin = time.perf_counter()
            await call()
            times.append((time.perf_counter() - begin) * 1e3)

    async def measure(runtime: symbi.Runtime) -> Sample:
        # One agent for every four callers: none is near its own bounds.
        agents = [await runtime.schedule_agent(_agent) for _ in range(_IN_FLIGHT // 4)]
        calls = [runtime.guard(_nothing, agent=agents[at % len(agents)]) for at in range(_IN_FLIGHT)]
        await asyncio.gather(*(call() for call in calls))
        begin = time.perf_counter()
        await asyncio.gather(*(caller(call) for call in calls))
        rate = len(times) / (time.perf_counter() - begin)
        times.sort()
        return Sample(rate, percentile(times, 0.5), percentile(times, 0.99))

    return _with_runtime(context, measure)


def _with_runtime(context: BenchContext, measure: Callable[[symbi.Runtime], Awaitable[Sample]]) -> Sample:
    data = context.fresh()
    policy = data / "all.cedar"
    policy.write_text(_ALL)
    config = symbi.Config.load(
        environ={}, overrides={"runtime.max_concurrent_agents": 1_000_000, "runtime.mode": "development"}
    )

    async def run() -> Sample:
        async with symbi.Runtime.open(config, data=data / "data", policy=policy) as runtime:
            return await measure(runtime)

    return asyncio.run(run())
