"""Preemption with everything real: what is more urgent takes a place, and gives it back."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

import pytest
import symbi
from symbi.tools import ToolDefinition

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from symbi.sandbox.base import SecurityTier

BOUND_S = 60.0
CORES = float(os.cpu_count() or 1)  # whoever reserves them all leaves none

_AGENTS = """\
import symbi

@symbi.agent
async def counts(ctx: symbi.AgentContext, until: int) -> int:
    own = 0
    while own < until:
        own += 1
        await ctx.tools.call("step", {"who": ctx.name})
    return own
"""
_TOOLS = 'permit (principal, action == Action::"tool.call", resource);'


class Steps:
    """A tool of the host that says who took a step."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.changed = asyncio.Event()
        self.definition = ToolDefinition("step", self._step, "write", "low", (), False)

    async def _step(self, who: str) -> int:
        self.taken.append(who)
        self.changed.set()
        return len(self.taken)

    async def of(self, who: str) -> None:
        """Wait for the next step of this one."""
        seen = self.taken.count(who)
        async with asyncio.timeout(BOUND_S):
            while self.taken.count(who) == seen:
                self.changed.clear()
                await self.changed.wait()


def opened(directory: Path) -> symbi.Runtime:
    policy = directory / "tools.cedar"
    policy.write_text(_TOOLS)
    return symbi.Runtime.open(data=directory / "d", policy=["secure-default", policy])


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(BOUND_S):
        while not condition():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0)


def transitions(rt: symbi.Runtime, agent: symbi.AgentHandle) -> list[str]:
    events = symbi.AuditLog.open(rt.opened["trail"]).query(agent_id=agent.id)
    return [step for event in events for step in event.details.get("transitions", [])]


def in_process(name: str, function: Any, **more: Any) -> symbi.AgentConfig:
    reserve = symbi.ResourceLimits(cpu_cores=CORES)
    return symbi.AgentConfig(name=name, function=function, isolation="in_process", reserve=reserve, **more)


class Worker:
    """An agent of the host's process that takes steps through `ctx`, as often as it is let."""

    def __init__(self) -> None:
        self.steps = 0
        self.running = asyncio.Event()
        self.enough = asyncio.Event()

    async def __call__(self, ctx: symbi.AgentContext) -> int:
        self.running.set()
        while not self.enough.is_set():
            await ctx.checkpoint()
            self.steps += 1
            await asyncio.sleep(0)
        return self.steps


def workers() -> tuple[Worker, Worker, Any, Any]:
    """A patient one and an urgent one, and the functions of their agents."""
    low, high = Worker(), Worker()

    async def patient(ctx: symbi.AgentContext) -> int:
        return await low(ctx)

    async def urgent(ctx: symbi.AgentContext) -> int:
        return await high(ctx)

    return low, high, patient, urgent


@pytest.mark.asyncio
async def test_a_more_urgent_run_takes_the_place_of_a_coroutine_and_gives_it_back(tmp_path: Path) -> None:
    low, high, patient, urgent = workers()

    async with opened(tmp_path) as rt:
        below = await rt.schedule_agent(in_process("patient", patient))
        above = await rt.schedule_agent(in_process("urgent", urgent))
        first = asyncio.create_task(rt.run(below, priority=10))
        await asyncio.wait_for(low.running.wait(), BOUND_S)
        second = asyncio.create_task(rt.run(above, priority=250))
        await asyncio.wait_for(high.running.wait(), BOUND_S)
        assert rt.kernel.agent_state(below.id) == "suspended"
        told = rt.why(below)
        assert told["state"] == "suspended"
        stood_at = low.steps
        for _ in range(50):
            await asyncio.sleep(0)
        assert low.steps == stood_at
        high.enough.set()
        assert await asyncio.wait_for(second, BOUND_S) >= 1
        await until(lambda: low.steps > stood_at)
        low.enough.set()
        assert await asyncio.wait_for(first, BOUND_S) > stood_at
        assert rt.kernel.agent_state(below.id) == "ready"
        lived = transitions(rt, below)
        assert lived.index("running>suspended") < lived.index("suspended>running")


@pytest.mark.asyncio
async def test_a_coroutine_that_never_awaits_ctx_is_asked_and_keeps_its_place(tmp_path: Path) -> None:
    running, enough = asyncio.Event(), asyncio.Event()
    high = Worker()

    async def deaf(ctx: symbi.AgentContext) -> str:
        running.set()
        await enough.wait()
        return "done"

    async def urgent(ctx: symbi.AgentContext) -> int:
        return await high(ctx)

    async with opened(tmp_path) as rt:
        below = await rt.schedule_agent(in_process("deaf", deaf))
        above = await rt.schedule_agent(in_process("urgent", urgent))
        first = asyncio.create_task(rt.run(below, priority=10))
        await asyncio.wait_for(running.wait(), BOUND_S)
        second = asyncio.create_task(rt.run(above, priority=250))
        await until(lambda: any(active.gate.asked for active in rt.runs.of_agent(below.id)))
        assert "`ctx.checkpoint()`" in rt.why(below)["text"]
        assert rt.why(above)["text"]
        assert not high.running.is_set()
        enough.set()
        assert await first == "done"
        high.enough.set()
        await asyncio.wait_for(second, BOUND_S)


@pytest.mark.asyncio
async def test_a_realtime_run_comes_before_any_priority_and_one_that_cannot_be_in_time_is_refused(
    tmp_path: Path,
) -> None:
    low, high = Worker(), Worker()

    async def patient(ctx: symbi.AgentContext) -> int:
        return await low(ctx)

    async def prompt(ctx: symbi.AgentContext) -> int:
        return await high(ctx)

    limits = symbi.ResourceLimits(execution_timeout_s=5)
    half = symbi.ResourceLimits(cpu_cores=CORES / 2)
    async with opened(tmp_path) as rt:
        below = await rt.schedule_agent(in_process("patient", patient))
        config = symbi.AgentConfig(
            name="prompt", function=prompt, isolation="in_process", limits=limits, reserve=half
        )
        above = await rt.schedule_agent(config)
        first = asyncio.create_task(rt.run(below, priority=255))
        await asyncio.wait_for(low.running.wait(), BOUND_S)
        second = asyncio.create_task(rt.run(above, tier="realtime", deadline_s=60))
        await asyncio.wait_for(high.running.wait(), BOUND_S)
        assert rt.kernel.agent_state(below.id) == "suspended"
        with pytest.raises(symbi.InputError, match="deadline"):
            await rt.run(above, tier="realtime", deadline_s=0.5)
        high.enough.set()
        await asyncio.wait_for(second, BOUND_S)
        low.enough.set()
        await asyncio.wait_for(first, BOUND_S)


@pytest.mark.asyncio
async def test_a_cancelled_run_that_was_preempted_gives_everything_back(tmp_path: Path) -> None:
    low, high, patient, urgent = workers()

    async with opened(tmp_path) as rt:
        below = await rt.schedule_agent(in_process("patient", patient))
        above = await rt.schedule_agent(in_process("urgent", urgent))
        first = asyncio.create_task(rt.run(below, priority=10))
        await asyncio.wait_for(low.running.wait(), BOUND_S)
        second = asyncio.create_task(rt.run(above, priority=250))
        await asyncio.wait_for(high.running.wait(), BOUND_S)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert rt.kernel.agent_state(below.id) == "ready"
        high.enough.set()
        await asyncio.wait_for(second, BOUND_S)
        low.enough.set()
        assert await asyncio.wait_for(rt.run(below), BOUND_S) >= low.steps  # the place is free


@pytest.mark.asyncio
async def test_a_more_urgent_run_freezes_a_sandbox_and_it_goes_on_where_it_stood(
    tmp_path: Path, tier: SecurityTier
) -> None:
    steps, high = Steps(), Worker()

    async def urgent(ctx: symbi.AgentContext) -> int:
        return await high(ctx)

    file = tmp_path / "agents_of_a_test.py"
    file.write_text(_AGENTS)
    limits = symbi.ResourceLimits(cpu_cores=CORES)
    config = symbi.AgentConfig(name="counts", entry=(str(file), "counts"), tier=str(tier), limits=limits)
    (tmp_path / "agents_of_a_test.py").write_text(
        _AGENTS.replace("@symbi.agent\n", f"@symbi.agent(limits=symbi.ResourceLimits(cpu_cores={CORES}))\n")
    )
    async with opened(tmp_path) as rt:
        rt.tools.register(steps.definition)
        below = await rt.schedule_agent(config)
        above = await rt.schedule_agent(in_process("urgent", urgent))
        first = asyncio.create_task(rt.run(below, {"until": 1_000_000}, priority=10))
        await steps.of("counts")
        second = asyncio.create_task(rt.run(above, priority=250))
        await asyncio.wait_for(high.running.wait(), BOUND_S)
        assert rt.kernel.agent_state(below.id) == "suspended"
        stood_at = len(steps.taken)
        for _ in range(50):
            await asyncio.sleep(0)
        assert len(steps.taken) <= stood_at + 1  # a call that was under way
        high.enough.set()
        await asyncio.wait_for(second, BOUND_S)
        await steps.of("counts")
        assert rt.kernel.agent_state(below.id) == "running"
        assert await rt.stop_agent(below, force=True)
        with pytest.raises(symbi.AgentError, match="stopped"):
            await first


@pytest.mark.asyncio
async def test_mv2_an_agent_whose_violation_holds_it_hears_of_the_refusal_when_it_is_let_go(
    tmp_path: Path,
) -> None:
    heard: list[str] = []

    async def violates(ctx: symbi.AgentContext) -> None:
        try:
            await ctx.tools.call("forbidden.act")
        except symbi.PolicyDenied as denied:
            heard.append(denied.code)

    policy, mild = tmp_path / "severe.cedar", tmp_path / "mild.cedar"
    policy.write_text(
        _TOOLS + '\n@on_violation("suspend")\nforbid (principal, action == Action::"tool.call", '
        'resource == Tool::"forbidden.act");'
    )
    mild.write_text(
        _TOOLS + 'permit (principal == Host::"host", action, resource);'
        "permit (principal is Operator, action, resource);"
    )
    config = symbi.AgentConfig(name="violates", function=violates, isolation="in_process")
    async with symbi.Runtime.open(data=tmp_path / "d", policy=["secure-default", policy]) as rt:
        rt.tools.register(ToolDefinition("forbidden.act", violates, "write", "low", (), False))
        agent = await rt.schedule_agent(config)
        run = asyncio.create_task(rt.run(agent))
        await until(lambda: rt.kernel.agent_state(agent.id) == "suspended")
        for _ in range(50):
            await asyncio.sleep(0)
        assert (heard, run.done()) == ([], False)
        await rt.resume_agent(agent, by=f"operator:{os.getuid()}")
        await asyncio.wait_for(run, BOUND_S)
        assert heard == ["denied"]
