"""What an agent in a sandbox costs: to start, to answer, to stand still, to end.

Everything goes through the public runtime, with agents in a file of the suite's own: what is decided and recorded on
the way is in the figures. Agents are Python workers, as a user's are; their first process alone starts sooner.
Not here: how many instructions a sandbox slows down (it is the kernel's business), other engines.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import symbi
from symbi.bench.frame import BenchContext, NotMeasured, Row, Sample, percentile
from symbi.errors import SandboxUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

NAME, SUMMARY = "sandbox", "agents in sandboxes: start, answer, freeze, thaw, cancel, stop"

Value = TypeVar("Value")

_TIERS = ("docker", "gvisor")
_AT_ONCE = 8
_RUNNING_S = 0.1  # until a task surely computes: a freeze of one that has not begun would be another figure

_AGENTS = """
import symbi

@symbi.agent
async def echo(value: int) -> int:
    return value

@symbi.agent
async def busy() -> None:
    while True:
        pass

@symbi.agent
async def waits(ctx: symbi.AgentContext) -> int:
    return len(await ctx.bus.receive(timeout_s=60))
"""
_ALL = "permit (principal, action, resource);\n"


def rows(context: BenchContext) -> list[Row]:  # noqa: ARG001
    """The rows of this suite."""
    return [row for tier in _TIERS for row in _rows_of(tier)]


def _rows_of(tier: str) -> list[Row]:
    def row(name: str, measure: Any, count: int, floor: int, **more: Any) -> Row:
        measured = partial(_measured, tier=tier, measure=measure, count=count, floor=floor)
        return Row(
            NAME,
            f"{tier}: {name}",
            "ms",
            "lower",
            measure=measured,
            durability="group commit, awaited",
            provider="aws-lc",
            **more,
        )

    return [
        row("a standard agent started cold, verified and ready, p99", _starts, 8, 2, target=1_000.0),
        row(f"{_AT_ONCE} agents started at once, all ready", _starts_at_once, 1, 1),
        row("one task answered by a worker that is there", _answers, 200, 20),
        row("a task suspended until its sandbox is frozen", _freezes, 10, 2),
        row("resumed until thawed and answered", _thaws, 10, 2),
        row("a task cancelled until its sandbox is frozen", _cancels, 5, 2, target=50.0),
        row("an agent stopped by force until its sandbox is removed", _stops, 5, 2),
    ]


class _House:
    """A runtime on a loop of its own, open until the bench ends."""

    def __init__(self, context: BenchContext) -> None:
        directory = context.fresh()
        self._file = directory / "agents.py"
        self._file.write_text(_AGENTS)
        policy = directory / "all.cedar"
        policy.write_text(_ALL)
        self._runner = context.stack.enter_context(asyncio.Runner())
        self.runtime = symbi.Runtime.open(data=directory / "data", policy=policy)
        context.stack.callback(lambda: self.run(self.runtime.close()))
        self.run(self.runtime.__aenter__())

    def run(self, work: Coroutine[Any, Any, Value]) -> Value:
        """Until it is done."""
        return self._runner.run(work)

    def agent(self, name: str, tier: str) -> symbi.AgentConfig:
        """The agent of this name, in this tier."""
        return symbi.AgentConfig(name=name, entry=(str(self._file), name), tier=tier)


def _measured(context: BenchContext, *, tier: str, measure: Any, count: int, floor: int) -> Sample:
    house = context.once("sandbox", lambda: _House(context))
    agent = partial(house.agent, tier=tier)
    try:
        times = sorted(house.run(measure(house.runtime, agent, context.scale(count, floor=floor))))
    except SandboxUnavailableError as error:
        raise NotMeasured(f"{error} (`symbi doctor` says more)") from None
    p50, p99 = percentile(times, 0.5), percentile(times, 0.99)
    return Sample(p99 if measure is _starts else p50, p50, p99)


def _since_ms(begin: float) -> float:
    return (time.perf_counter() - begin) * 1e3


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise RuntimeError(otherwise)


async def _starts(rt: symbi.Runtime, agent: Callable[[str], symbi.AgentConfig], count: int) -> list[float]:
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        one = await rt.schedule_agent(agent("echo"))
        times.append(_since_ms(begin))
        await rt.stop_agent(one, force=True)
    return times


async def _starts_at_once(
    rt: symbi.Runtime, agent: Callable[[str], symbi.AgentConfig], count: int
) -> list[float]:
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        agents = await rt.schedule_agents([agent("echo")] * _AT_ONCE)
        times.append(_since_ms(begin))
        await asyncio.gather(*(rt.stop_agent(one, force=True) for one in agents))
    return times


async def _answers(rt: symbi.Runtime, agent: Callable[[str], symbi.AgentConfig], count: int) -> list[float]:
    one = await rt.schedule_agent(agent("echo"))
    times = []
    for value in range(count):
        begin = time.perf_counter()
        _must(await rt.run(one, {"value": value}) == value, "the answer is another")
        times.append(_since_ms(begin))
    await rt.stop_agent(one, force=True)
    return times


async def _freezes(rt: symbi.Runtime, agent: Callable[[str], symbi.AgentConfig], count: int) -> list[float]:
    one = await rt.schedule_agent(agent("busy"))
    task = asyncio.ensure_future(rt.run(one))
    times = []
    for _ in range(count):
        await asyncio.sleep(_RUNNING_S)
        begin = time.perf_counter()
        _must(await rt.suspend_agent(one), "it does not stand still")
        times.append(_since_ms(begin))
        await rt.resume_agent(one)
    await rt.stop_agent(one, force=True)
    await asyncio.gather(task, return_exceptions=True)
    return times


async def _thaws(rt: symbi.Runtime, agent: Callable[[str], symbi.AgentConfig], count: int) -> list[float]:
    one = await rt.schedule_agent(agent("waits"))
    writer = await rt.schedule_agent(
        symbi.AgentConfig(name="writer", function=_nothing, isolation="in_process")
    )
    times = []
    for _ in range(count):
        task = asyncio.ensure_future(rt.run(one))
        await asyncio.sleep(_RUNNING_S)
        _must(await rt.suspend_agent(one), "it does not stand still")
        await rt.bus.send(writer, one.id, b"go on")
        begin = time.perf_counter()
        await rt.resume_agent(one)
        _must(await task == 1, "the message is not there")
        times.append(_since_ms(begin))
    await rt.stop_agent(one, force=True)
    await rt.stop_agent(writer, force=True)
    return times


async def _nothing() -> None:
    """Never run: it lends its name to a message."""


async def _cancels(rt: symbi.Runtime, agent: Callable[[str], symbi.AgentConfig], count: int) -> list[float]:
    times = []
    for _ in range(count):
        one = await rt.schedule_agent(agent("busy"))
        task = asyncio.ensure_future(rt.run(one))
        await asyncio.sleep(_RUNNING_S)
        begin = time.perf_counter()
        task.cancel()
        await asyncio.wait([task])  # it ends when nothing of it moves, and that is on disk
        times.append(_since_ms(begin))
        await rt.stop_agent(one, force=True)
    return times


async def _stops(rt: symbi.Runtime, agent: Callable[[str], symbi.AgentConfig], count: int) -> list[float]:
    times = []
    for _ in range(count):
        one = await rt.schedule_agent(agent("echo"))
        begin = time.perf_counter()
        await rt.stop_agent(one, force=True)
        times.append(_since_ms(begin))
    return times
