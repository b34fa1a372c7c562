"""Holding agents in the host's process: they stand still at `ctx`, their time stands, and they go on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import symbi
from symbi.runtime.holding import GATE, Clock, Gate
from symbi.runtime.moves import Moves

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BOUND_S = 20.0

_TOOLS = 'permit (principal, action == Action::"tool.call", resource);'


class Steps:
    """An agent that takes a step whenever it may, and says so."""

    def __init__(self, **config: Any) -> None:
        self.taken = 0
        self.moved = asyncio.Event()
        self.begun = asyncio.Event()
        self.go = asyncio.Semaphore(0)
        self.agent = symbi.AgentConfig(name="steps", function=self._run, isolation="in_process", **config)

    async def _run(self, ctx: symbi.AgentContext, steps: int) -> int:
        self.begun.set()
        for _ in range(steps):
            await self.go.acquire()
            await ctx.checkpoint()
            self.taken += 1
            self.moved.set()
        return self.taken

    async def step(self) -> None:
        """Let it take one step, and wait for it."""
        self.moved.clear()
        self.go.release()
        await asyncio.wait_for(self.moved.wait(), BOUND_S)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop go round until this holds."""
    async with asyncio.timeout(BOUND_S):
        while not condition():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0)


def records(rt: symbi.Runtime, event_type: str, agent: str) -> list[symbi.AuditEvent]:
    return list(symbi.AuditLog.open(rt.opened["trail"]).query(event_type=event_type, agent_id=agent))


@pytest.mark.asyncio
async def test_ho1_ho2_a_held_coroutine_stands_at_its_next_checkpoint_and_goes_on_when_it_may(
    tmp_path: Path,
) -> None:
    steps = Steps()
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agent = await rt.schedule_agent(steps.agent)
        run = asyncio.create_task(rt.run(agent, {"steps": 3}))
        await steps.step()
        assert not await rt.suspend_agent(agent)  # it computes: nobody can freeze it
        assert rt.kernel.agent_state(agent.id) == "suspended"
        told = rt.why(agent)
        assert told["asked"]
        assert "ctx.checkpoint()" in told["text"]
        steps.go.release()
        (active,) = rt.runs.of_agent(agent.id)
        await until(lambda: active.gate.standing)
        assert "asked" not in rt.why(agent)
        for _ in range(20):
            await asyncio.sleep(0)
        assert steps.taken == 1
        await rt.resume_agent(agent)
        await until(lambda: steps.taken == 2)
        await steps.step()
        assert await run == 3
        assert rt.kernel.agent_state(agent.id) == "ready"


@pytest.mark.asyncio
async def test_ho2_one_that_waits_for_ctx_stands_at_once_and_is_answered_afterwards(tmp_path: Path) -> None:
    async def waits(ctx: symbi.AgentContext) -> bytes:
        (message,) = await ctx.bus.receive(timeout_s=BOUND_S)
        assert isinstance(message.payload, bytes)
        return message.payload

    config = symbi.AgentConfig(name="waits", function=waits, isolation="in_process")
    sender = symbi.AgentConfig(name="sends", function=waits, isolation="in_process")
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agent, other = await rt.schedule_agent(config), await rt.schedule_agent(sender)
        run = asyncio.create_task(rt.run(agent))
        await until(lambda: any(active.gate._inside for active in rt.runs.of_agent(agent.id)))
        assert await rt.suspend_agent(agent)
        await rt.bus.send(other, agent, b"meanwhile")
        for _ in range(20):
            await asyncio.sleep(0)
        assert not run.done()
        await rt.resume_agent(agent)
        assert await asyncio.wait_for(run, BOUND_S) == b"meanwhile"


@pytest.mark.asyncio
async def test_dp3_tc4_ho3_a_call_that_was_decided_and_not_begun_is_decided_anew_after_the_hold(
    tmp_path: Path,
) -> None:
    acted = []

    @symbi.tool(name="held.act", effects="write")
    def act() -> str:
        acted.append(rt.kernel.agent_state(agent.id))
        return "acted"

    async def calls(ctx: symbi.AgentContext) -> str:
        return await ctx.tools.call("held.act")

    policy = tmp_path / "tools.cedar"
    policy.write_text(_TOOLS)
    config = symbi.AgentConfig(name="calls", function=calls, isolation="in_process")
    async with symbi.Runtime.open(data=tmp_path / "d", policy=["secure-default", policy]) as rt:
        agent = await rt.schedule_agent(config)
        durable, on_disk = rt.bridge.durable, asyncio.Event()

        async def slow_disk(seq: int | None) -> None:
            if GATE.get() is not None and not on_disk.is_set():  # the intent of the agent's call
                await on_disk.wait()
            await durable(seq)

        rt.bridge.durable = slow_disk  # type: ignore[method-assign]
        run = asyncio.create_task(rt.run(agent))
        await until(lambda: rt.kernel.operations_in_flight() == 1)  # decided; its intent is on its way
        assert await rt.suspend_agent(agent)
        on_disk.set()
        for _ in range(50):
            await asyncio.sleep(0)
        assert acted == []
        await rt.resume_agent(agent)
        assert await asyncio.wait_for(run, BOUND_S) == "acted"
        assert acted == ["running"]
        intents = records(rt, "operation.intent", agent.id)
        outcomes = [one.details.get("outcome") for one in records(rt, "operation.outcome", agent.id)]
        assert (len(intents), sorted(map(str, outcomes))) == (2, ["done", "released"])


@pytest.mark.asyncio
async def test_ho1_a_timer_of_the_agents_own_does_not_set_it_free(tmp_path: Path) -> None:
    order: list[str] = []

    async def impatient(ctx: symbi.AgentContext) -> None:
        try:
            async with asyncio.timeout(0.01):
                await ctx.bus.receive(timeout_s=BOUND_S)
        except TimeoutError:
            order.append("its timer")

    config = symbi.AgentConfig(name="impatient", function=impatient, isolation="in_process")
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agent = await rt.schedule_agent(config)
        run = asyncio.create_task(rt.run(agent))
        await until(lambda: any(active.gate._inside for active in rt.runs.of_agent(agent.id)))
        assert await rt.suspend_agent(agent)
        fired = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.05, fired.set_result, None)  # after its timer
        await fired
        order.append("resumed")
        await rt.resume_agent(agent)
        await asyncio.wait_for(run, BOUND_S)
    assert order == ["resumed", "its timer"]


@pytest.mark.asyncio
async def test_ho1_time_limits_stand_still_while_it_is_held(tmp_path: Path) -> None:
    limits = symbi.ResourceLimits(execution_timeout_s=60)
    steps = Steps(limits=limits)
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agent = await rt.schedule_agent(steps.agent)
        run = asyncio.create_task(rt.run(agent, {"steps": 2}, timeout_s=60))
        await asyncio.wait_for(steps.begun.wait(), BOUND_S)
        (active,) = rt.runs.of_agent(agent.id)
        steps.go.release()
        await rt.suspend_agent(agent)
        await until(lambda: active.gate.standing)
        loop, timers = asyncio.get_running_loop(), active.gate.clock._timers
        assert [timer._handle for timer in timers] == [None, None]
        left = [timer._left_s for timer in timers]
        await rt.resume_agent(agent)
        due = [timer._handle.when() - loop.time() for timer in timers if timer._handle is not None]
        assert due == pytest.approx(left, abs=1.0)
        assert len(due) == 2
        steps.go.release()
        assert await run == 2


@pytest.mark.asyncio
async def test_ho2_suspending_is_for_who_has_a_task(tmp_path: Path) -> None:
    steps = Steps()
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agent = await rt.schedule_agent(steps.agent)
        with pytest.raises(symbi.LifecycleError):
            await rt.suspend_agent(agent)
        with pytest.raises(symbi.LifecycleError):
            await rt.resume_agent(agent)
        with pytest.raises(symbi.InputError, match="no agent or run"):
            rt.why("6f0c2f51-94a7-4c6e-8b1f-1f3f0c1f7c55")
        with pytest.raises(symbi.InputError, match="no agent"):
            rt.describe("6f0c2f51-94a7-4c6e-8b1f-1f3f0c1f7c55")


@pytest.mark.asyncio
async def test_rn1_a_held_run_that_is_cancelled_unwinds_without_another_step(tmp_path: Path) -> None:
    steps = Steps()
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agent = await rt.schedule_agent(steps.agent)
        run = asyncio.create_task(rt.run(agent, {"steps": 2}))
        await steps.step()
        await rt.suspend_agent(agent)
        steps.go.release()
        (active,) = rt.runs.of_agent(agent.id)
        await until(lambda: active.gate.standing)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert steps.taken == 1
        assert records(rt, "run.finished", agent.id)[0].details["outcome"] == "cancelled"


@pytest.mark.asyncio
async def test_checkpoint_lets_the_loop_go_round_so_that_a_computing_agent_can_be_reached(
    tmp_path: Path,
) -> None:
    async def computes(ctx: symbi.AgentContext) -> None:
        while True:
            await ctx.checkpoint()  # the loop would never turn without this

    config = symbi.AgentConfig(name="computes", function=computes, isolation="in_process")
    async with symbi.Runtime.open(data=tmp_path) as rt:
        with pytest.raises(symbi.SymbiTimeoutError):
            await rt.run(config, timeout_s=0.05)


@pytest.mark.asyncio
async def test_a_gate_that_is_asked_and_released_in_one_breath_stops_nobody() -> None:
    stood: list[bool] = []
    gate = Gate(lambda: stood.append(True))
    gate.ask()
    gate.release()
    await asyncio.wait_for(gate.enter(), BOUND_S)
    gate.ask()  # it is inside: it stands
    assert stood == [True]
    leaving = asyncio.create_task(gate.leave())
    await asyncio.sleep(0)
    assert not leaving.done()
    gate.release()
    await asyncio.wait_for(leaving, BOUND_S)


@pytest.mark.asyncio
async def test_a_clock_that_is_held_arms_nothing() -> None:
    clock, fired = Clock(), asyncio.Event()
    clock.hold()
    clock.arm(0.0, fired.set)
    await asyncio.sleep(0)
    assert not fired.is_set()
    clock.go_on()
    await asyncio.wait_for(fired.wait(), BOUND_S)
    clock.clear()


class _Kernel:
    """Answers `wake_at_ns` and `tick` as told."""

    def __init__(self) -> None:
        self.wake: list[int | None] = []
        self.ticks = 0

    def wake_at_ns(self) -> int | None:
        return self.wake.pop(0) if self.wake else None

    def tick(self) -> tuple[list[str], list[str], list[str]]:
        self.ticks += 1
        return [], [], []


class _House:
    def __init__(self) -> None:
        self.kernel = _Kernel()
        self.runs = type("Runs", (), {"active": {}})()


@pytest.mark.asyncio
async def test_mv1_one_timer_is_armed_for_what_the_kernel_waits_for_and_none_otherwise() -> None:
    house = _House()
    moves = Moves(house)  # type: ignore[arg-type]
    nothing: tuple[list[str], list[str], list[str]] = ([], [], [])
    house.kernel.wake = [None]
    moves.apply(nothing)
    assert moves._timer is None
    house.kernel.wake = [2**62, 2**62, 0, None]
    moves.apply(nothing)
    first = moves._timer
    moves.apply(nothing)
    assert moves._timer is first  # the same moment: the same timer
    moves.apply(nothing)  # now
    assert first is not None
    assert first.cancelled()
    await until(lambda: house.kernel.ticks == 1)
    assert moves._timer is None


@pytest.mark.asyncio
async def test_mv2_what_the_kernel_decided_by_itself_is_carried_out_when_it_rings_or_refuses(
    tmp_path: Path,
) -> None:
    policy = tmp_path / "none.cedar"
    policy.write_text('forbid (principal, action == Action::"tool.call", resource);')
    heeded: list[str] = []

    async def asks(ctx: symbi.AgentContext) -> None:
        with pytest.raises(symbi.PolicyDenied):
            await ctx.tools.call("any.tool")
        heeded.append("refusal heard")

    config = symbi.AgentConfig(name="asks", function=asks, isolation="in_process")
    async with symbi.Runtime.open(data=tmp_path / "d", policy=["secure-default", policy]) as rt:
        heed = rt.dispatcher._heed

        def heeding() -> None:
            heeded.append("heeded")
            heed()

        rt.dispatcher._heed = heeding
        await rt.run(config)
    assert heeded == ["heeded", "refusal heard"]
