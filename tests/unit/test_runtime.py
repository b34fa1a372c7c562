"""The runtime at its public face: agents in the host's process, their lives, their runs, their limits.

What opens and closes it is in `test_runtime_opening.py`.
"""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest
import symbi
import uvloop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

BOUND_S = 20.0


@symbi.agent(isolation="in_process")
async def echo(ctx: symbi.AgentContext, value: Any = None) -> Any:
    return value


@symbi.agent(isolation="in_process")
async def failing(ctx: symbi.AgentContext, kind: str) -> None:
    raise {"ValueError": ValueError, "TimeoutError": TimeoutError, "ToolError": symbi.ToolError}[kind](
        "its own text"
    )


class Gate:
    """An agent that says when it runs, and ends when it may."""

    def __init__(self, name: str = "gated") -> None:
        self.running = asyncio.Event()
        self.open = asyncio.Event()
        self.order: list[str] = []
        self.agent = symbi.AgentConfig(name=name, function=self._run, isolation="in_process")

    async def _run(self, mark: str = "") -> str:
        self.running.set()
        self.order.append(mark)
        await self.open.wait()
        return mark


def bounded(body: Callable[[Path], Coroutine[Any, Any, None]], data: Path, factory: Any = None) -> None:
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(asyncio.wait_for(body(data), BOUND_S))


def records(
    rt: symbi.Runtime, event_type: str | None = None, agent: str | None = None
) -> list[symbi.AuditEvent]:
    return list(symbi.AuditLog.open(rt.opened["trail"]).query(event_type=event_type, agent_id=agent))


@pytest.mark.parametrize(
    "factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_rt2_a_result_comes_after_its_outcome_is_on_disk_on_both_loops(tmp_path: Path, factory: Any) -> None:
    async def body(data: Path) -> None:
        async with symbi.Runtime.open(data=data) as rt:
            agent = await rt.schedule_agent(echo)
            for number in range(20):
                assert await rt.run(agent, {"value": number}) == number
                assert len(records(rt, "run.finished", agent.id)) == number + 1

    bounded(body, tmp_path / "d", factory)


@pytest.mark.asyncio
async def test_a_life_goes_ready_running_ready_terminated(tmp_path: Path) -> None:
    gate = Gate()
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agent = await rt.schedule_agent(gate.agent)
        assert rt.kernel.agent_state(agent.id) == "ready"
        run = asyncio.create_task(rt.run(agent, {"mark": "m"}))
        await gate.running.wait()
        assert rt.kernel.agent_state(agent.id) == "running"
        gate.open.set()
        assert await run == "m"
        assert rt.kernel.agent_state(agent.id) == "ready"
        assert await rt.stop_agent(agent)
        assert rt.kernel.agent_state(agent.id) is None
        transitions = [
            step for one in records(rt, agent=agent.id) for step in one.details.get("transitions", [])
        ]
    assert transitions == ["initializing>ready", "ready>running", "running>ready", "ready>terminated"]


@pytest.mark.asyncio
async def test_an_agent_is_handed_out_when_its_record_is_on_disk(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path) as rt:
        for _ in range(10):
            agent = await rt.schedule_agent(echo)
            assert len(records(rt, "operation", agent.id)) == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"tier": "urgent"}, "`realtime`, `interactive`, `batch`"),
        ({"tier": "realtime"}, "goes with"),
        ({"deadline_s": 5}, "goes with"),
        ({"tier": "realtime", "deadline_s": 0}, "deadline_s"),
        ({"tier": "realtime", "deadline_s": float("nan")}, "deadline_s"),
    ],
)
async def test_a_tier_or_deadline_that_cannot_be_is_refused(
    tmp_path: Path, more: dict[str, Any], match: str
) -> None:
    async with symbi.Runtime.open(data=tmp_path) as rt:
        with pytest.raises(symbi.InputError, match=match):
            await rt.run(echo, **more)
        assert (await rt.get_system_status()).agents == 0  # refused before anything was made


@pytest.mark.parametrize("tenant", ["", "x" * 65, "a b", "a\nb", "größe", "a/b", "ward\n", 7])
def test_a_tenant_is_named_by_the_rule_of_the_kernel(tenant: Any) -> None:
    with pytest.raises(symbi.InputError, match="tenant"):
        symbi.AgentConfig(name="x", function=echo.function, tenant=tenant)


@pytest.mark.asyncio
async def test_a_run_sees_the_context_of_whoever_asked_for_it(tmp_path: Path) -> None:
    asked_by: ContextVar[str] = ContextVar("asked_by", default="nobody")

    async def tells() -> str:
        return asked_by.get()

    config = symbi.AgentConfig(name="tells", function=tells, isolation="in_process")
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agent = await rt.schedule_agent(config)

        async def ask(who: str) -> str:
            asked_by.set(who)
            return str(await rt.run(agent))

        assert await asyncio.gather(ask("alice"), ask("bob"), rt.run(agent)) == ["alice", "bob", "nobody"]


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["ValueError", "TimeoutError", "ToolError"])
async def test_what_an_agent_raises_is_its_failure_and_it_is_ready_again(tmp_path: Path, kind: str) -> None:
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agent = await rt.schedule_agent(failing)
        with pytest.raises(symbi.AgentError, match="its own text") as caught:
            await rt.run(agent, {"kind": kind})
        assert caught.value.kind == kind
        assert rt.kernel.agent_state(agent.id) == "ready"
        (finished,) = records(rt, "run.finished", agent.id)
        assert (finished.details["outcome"], finished.details["error"]) == ("failed", kind)
        assert "its own text" not in str(finished.details)  # error texts are sealed


@pytest.mark.asyncio
async def test_the_callers_timeout_ends_the_task_and_says_so(tmp_path: Path) -> None:
    gate = Gate()
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agent = await rt.schedule_agent(gate.agent)
        with pytest.raises(symbi.SymbiTimeoutError, match=r"longer than 0.05 s"):
            await rt.run(agent, timeout_s=0.05)
        assert rt.kernel.agent_state(agent.id) == "ready"
        assert (await rt.health_check()).recent_errors[0].code == "timeout"


@pytest.mark.asyncio
async def test_the_agents_own_limit_holds_whatever_the_caller_allows(tmp_path: Path) -> None:
    limits = symbi.ResourceLimits(execution_timeout_s=0.05)
    gate = Gate()
    config = symbi.AgentConfig(name="x", function=gate._run, isolation="in_process", limits=limits)
    async with symbi.Runtime.open(data=tmp_path) as rt:
        with pytest.raises(symbi.SymbiTimeoutError, match=r"its limit of 0.05 s"):
            await rt.run(config, timeout_s=60)


@pytest.mark.asyncio
async def test_the_callers_timeout_covers_the_wait_for_its_turn(tmp_path: Path) -> None:
    gate = Gate()
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agent = await rt.schedule_agent(gate.agent)
        first = asyncio.create_task(rt.run(agent))
        await gate.running.wait()
        with pytest.raises(symbi.SymbiTimeoutError):
            await rt.run(agent, timeout_s=0.05)
        assert (await rt.get_system_status()).runs_waiting == 0
        gate.open.set()
        await first


@pytest.mark.asyncio
@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), float("inf"), 1e9])
async def test_a_timeout_that_cannot_be_is_refused(tmp_path: Path, timeout_s: float) -> None:
    async with symbi.Runtime.open(data=tmp_path) as rt:
        with pytest.raises(symbi.InputError, match="timeout_s"):
            await rt.run(echo, timeout_s=timeout_s)


@pytest.mark.asyncio
async def test_higher_priorities_run_first_and_equal_ones_in_their_order(tmp_path: Path) -> None:
    gate = Gate()
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agent = await rt.schedule_agent(gate.agent)
        runs = [asyncio.create_task(rt.run(agent, {"mark": "first"}))]
        await gate.running.wait()
        for mark, priority in [("low", 1), ("mid-a", 100), ("high", 255), ("mid-b", 100)]:
            runs.append(asyncio.create_task(rt.run(agent, {"mark": mark}, priority=priority)))
        while (await rt.get_system_status()).runs_waiting < 4:  # noqa: ASYNC110 - nothing announces a waiting run
            await asyncio.sleep(0)
        gate.open.set()
        await asyncio.gather(*runs)
    assert gate.order == ["first", "high", "mid-a", "mid-b", "low"]


@pytest.mark.asyncio
@pytest.mark.parametrize("priority", [-1, 256])
async def test_a_priority_out_of_range_is_refused(tmp_path: Path, priority: int) -> None:
    async with symbi.Runtime.open(data=tmp_path) as rt:
        with pytest.raises(symbi.InputError, match="0 to 255"):
            await rt.run(echo, priority=priority)


@pytest.mark.asyncio
async def test_an_agent_gets_what_was_decided_on_not_the_callers_object(tmp_path: Path) -> None:
    gate, given = Gate(), {"value": {"list": [1]}}

    async def hold(value: Any) -> Any:
        gate.running.set()
        await gate.open.wait()
        return value

    config = symbi.AgentConfig(name="x", function=hold, isolation="in_process")
    async with symbi.Runtime.open(data=tmp_path) as rt:
        run = asyncio.create_task(rt.run(config, given))
        await gate.running.wait()
        given["value"]["list"].append(2)
        gate.open.set()
        assert await run == {"list": [1]}


@pytest.mark.asyncio
@pytest.mark.parametrize("value", [object(), float("nan"), {"$bytes": "aGk="}])
async def test_input_that_cannot_be_given_is_refused_before_anything_is_recorded(
    tmp_path: Path, value: Any
) -> None:
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agent = await rt.schedule_agent(echo)
        with pytest.raises(symbi.InputError, match="cannot be given"):
            await rt.run(agent, {"value": value})
        await rt.run(agent, {"value": 1})
        assert [one.details.get("action") for one in records(rt, "operation")] == [
            "agent.create",
            "agent.run",
        ]


@pytest.mark.asyncio
async def test_cancelling_a_run_ends_the_task_and_is_recorded(tmp_path: Path) -> None:
    gate = Gate()
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agent = await rt.schedule_agent(gate.agent)
        run = asyncio.create_task(rt.run(agent))
        await gate.running.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert rt.kernel.agent_state(agent.id) == "ready"
        assert records(rt, "run.finished", agent.id)[0].details["outcome"] == "cancelled"
        gate.open.set()
        assert await rt.run(agent, {"mark": "again"}) == "again"


@pytest.mark.asyncio
async def test_a_forced_stop_ends_the_run_that_runs_and_those_that_wait(tmp_path: Path) -> None:
    gate = Gate()
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agent = await rt.schedule_agent(gate.agent)
        runs = [asyncio.create_task(rt.run(agent)) for _ in range(3)]
        await gate.running.wait()
        assert await rt.stop_agent(agent, force=True)
        for outcome in await asyncio.gather(*runs, return_exceptions=True):
            assert isinstance(outcome, symbi.AgentError)
            assert outcome.kind == "stopped"
        assert len(gate.order) == 1
        with pytest.raises(symbi.LifecycleError):
            await rt.run(agent)


@pytest.mark.asyncio
async def test_a_graceful_stop_lets_the_task_end_and_then_the_agent(tmp_path: Path) -> None:
    gate = Gate()
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agent = await rt.schedule_agent(gate.agent)
        run, waiting = (asyncio.create_task(rt.run(agent, {"mark": "m"})) for _ in range(2))
        await gate.running.wait()
        assert not await rt.stop_agent(agent)
        with pytest.raises(symbi.AgentError, match="stopped"):
            await waiting
        with pytest.raises(symbi.LifecycleError):
            await rt.run(agent)
        gate.open.set()
        assert await run == "m"
        assert rt.kernel.agent_state(agent.id) is None


@pytest.mark.asyncio
async def test_an_agent_may_stop_itself(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path) as rt:

        async def ending() -> None:
            await rt.stop_agent(agent, force=True)
            await asyncio.Event().wait()

        agent = await rt.schedule_agent(symbi.AgentConfig(name="x", function=ending, isolation="in_process"))
        with pytest.raises(symbi.AgentError, match="stopped"):
            await rt.run(agent)


@pytest.mark.asyncio
async def test_rt3_closing_ends_what_runs_and_leaves_nothing_on_the_loop(tmp_path: Path) -> None:
    gate = Gate()
    async with symbi.Runtime.open(data=tmp_path) as rt:
        run = asyncio.create_task(rt.run(gate.agent))
        await gate.running.wait()
        descriptor = rt.kernel.fileno()
    assert run.done()
    with pytest.raises(symbi.AgentError, match="stopped"):
        await run
    assert not asyncio.get_running_loop().remove_reader(descriptor)
    with pytest.raises(symbi.RuntimeClosedError):
        await rt.run(echo)
    await rt.close()  # twice is once
    assert not (tmp_path / "control.sock").exists()


@pytest.mark.asyncio
async def test_stop_all_ends_a_thousand_agents(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agents = await asyncio.gather(*(rt.schedule_agent(echo) for _ in range(1000)))
        results = await asyncio.gather(*(rt.run(agent, {"value": n}) for n, agent in enumerate(agents)))
        assert results == list(range(1000))
        assert (await rt.get_system_status()).agents == 1000
        assert await rt.stop_all() == 1000
        assert (await rt.get_system_status()).agents == 0
    assert symbi.AuditLog.open(tmp_path / "trail").verify().records > 4000


@pytest.mark.asyncio
async def test_rt1_a_run_that_is_refused_never_reaches_the_agents_code(tmp_path: Path) -> None:
    gate, policy = Gate(), tmp_path / "no-runs.cedar"
    policy.write_text('forbid (principal, action == Action::"agent.run", resource);')
    async with symbi.Runtime.open(data=tmp_path / "d", policy=["secure-default", policy]) as rt:
        agent = await rt.schedule_agent(gate.agent)
        with pytest.raises(symbi.PolicyDenied):
            await rt.run(agent)
        assert rt.kernel.agent_state(agent.id) == "ready"
    assert gate.order == []
