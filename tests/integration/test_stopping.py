"""The brakes with everything real: containers of both tiers, policies that forbid everything, a trail that is full."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import symbi
from symbi.tools import ToolDefinition

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from symbi.sandbox.base import SecurityTier

BOUND_S = 60.0

_AGENTS = """\
import asyncio, symbi

@symbi.agent
async def ticks(ctx: symbi.AgentContext) -> None:
    while True:
        await ctx.tools.call("held.tick")

@symbi.agent
async def spins(ctx: symbi.AgentContext, first: bool) -> str:
    if not first:
        return "a fresh worker"
    print("it begins", flush=True)
    await ctx.tools.call("held.tick")
    while True:
        pass
"""
_TOOLS = 'permit (principal, action == Action::"tool.call", resource);'
_NOTHING = "forbid (principal, action, resource);"


class Ticks:
    """A tool of the host that counts its calls, and can be waited for."""

    def __init__(self) -> None:
        self.count = 0
        self.changed = asyncio.Event()
        self.definition = ToolDefinition("held.tick", self._tick, "write", "low", (), False)

    async def _tick(self) -> int:
        self.count += 1
        self.changed.set()
        return self.count

    async def more(self) -> None:
        """Wait for the next call."""
        self.changed.clear()
        await asyncio.wait_for(self.changed.wait(), BOUND_S)


def config(directory: Path, function: str, tier: SecurityTier, **fields: Any) -> symbi.AgentConfig:
    file = directory / "agents_of_a_test.py"
    file.write_text(_AGENTS)
    return symbi.AgentConfig(name=function, entry=(str(file), function), tier=str(tier), **fields)


def opened(directory: Path) -> symbi.Runtime:
    policy = directory / "tools.cedar"
    policy.write_text(_TOOLS)
    return symbi.Runtime.open(data=directory / "d", policy=["secure-default", policy])


def state_of(container: str) -> dict[str, Any] | None:
    """What Docker says of it; None where it is gone."""
    from docker import APIClient
    from docker.errors import NotFound

    client = APIClient(version="auto")
    try:
        return dict(client.inspect_container(container)["State"])
    except NotFound:
        return None
    finally:
        client.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(BOUND_S):
        while not condition():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0)


@pytest.mark.asyncio
async def test_se5_ho1_a_suspended_sandbox_is_frozen_and_goes_on_where_it_stood(
    tmp_path: Path, tier: SecurityTier
) -> None:
    ticks = Ticks()
    async with opened(tmp_path) as rt:
        rt.tools.register(ticks.definition)
        agent = await rt.schedule_agent(config(tmp_path, "ticks", tier))
        run = asyncio.create_task(rt.run(agent))
        await ticks.more()
        container = rt.sandbox_facts(agent).container
        for _ in range(2):
            assert await rt.suspend_agent(agent)
            stood_at = ticks.count
            state = await asyncio.to_thread(state_of, container)
            assert state is not None
            assert state["Paused"]
            assert rt.kernel.agent_state(agent.id) == "suspended"
            assert ticks.count <= stood_at + 1  # a call that was under way
            await rt.resume_agent(agent)
            await ticks.more()
        await rt.suspend_agent(agent)
        assert await rt.stop_agent(agent)  # a frozen one can be stopped
        with pytest.raises(symbi.AgentError, match="stopped"):
            await run
        assert await asyncio.to_thread(state_of, container) is None


@pytest.mark.asyncio
async def test_rn1_rn2_wo1_se3_a_cancelled_sandbox_is_frozen_before_its_removal_and_serves_no_other(
    tmp_path: Path, tier: SecurityTier, monkeypatch: pytest.MonkeyPatch
) -> None:
    from symbi.sandbox.docker import DockerSandbox

    ticks, order = Ticks(), []
    halt, end = DockerSandbox.halt, DockerSandbox._end

    async def halting(self: DockerSandbox) -> None:
        await halt(self)
        stood = self.usage().cpu_time_us
        await asyncio.sleep(0.01)  # of the host's time; a frozen one has none
        assert self.usage().cpu_time_us == stood
        order.append("frozen")

    async def ending(self: DockerSandbox, *, by_itself: bool) -> Any:
        order.append("removal begins")
        try:
            return await end(self, by_itself=by_itself)
        finally:
            order.append("removed")

    monkeypatch.setattr(DockerSandbox, "halt", halting)
    monkeypatch.setattr(DockerSandbox, "_end", ending)
    async with opened(tmp_path) as rt:
        rt.tools.register(ticks.definition)
        agent = await rt.schedule_agent(config(tmp_path, "spins", tier))
        container = rt.sandbox_facts(agent).container
        run = asyncio.create_task(rt.run(agent, {"first": True}))
        await ticks.more()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        order.append("its caller goes on")
        assert "it begins" in rt.printed(agent)
        assert await asyncio.wait_for(rt.run(agent, {"first": False}), BOUND_S) == "a fresh worker"
    assert order[:3] in (
        ["frozen", "removal begins", "its caller goes on"],
        ["frozen", "its caller goes on", "removal begins"],
    )
    assert order.index("its caller goes on") < order.index("removed")
    assert await asyncio.to_thread(state_of, container) is None  # RT3


@pytest.mark.asyncio
async def test_an_agent_in_a_lower_tier_than_its_risk_asks_for_stands_so_in_the_trail(
    tmp_path: Path, tier: SecurityTier
) -> None:
    file = tmp_path / "careful.py"
    file.write_text("import symbi\n\n@symbi.agent(inputs={'phi'})\nasync def careful() -> None: ...\n")
    careful = symbi.AgentConfig(
        name="careful", entry=(str(file), "careful"), tier=str(tier), inputs=frozenset({"phi"})
    )
    async with opened(tmp_path) as rt:
        agent = await rt.schedule_agent(careful)
        below = rt.describe(agent)["below_assessment"]
        await rt.stop_agent(agent, force=True)
        log = symbi.AuditLog.open(rt.opened["trail"])
        made = next(iter(log.query(event_type="operation", agent_id=agent.id)))
        assert made.details.get("below_assessment", False) is below
        assert below is (made.details.get("assessed_tier") == "gvisor")
        assert below is (str(tier) == "docker")


@pytest.mark.asyncio
async def test_a_call_under_way_when_its_run_is_cancelled_is_recorded_as_unknown(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def slow() -> None:
        begun.set()
        await asyncio.Event().wait()

    async def calls(ctx: symbi.AgentContext) -> None:
        await ctx.tools.call("slow.effect")

    async with opened(tmp_path) as rt:
        rt.tools.register(ToolDefinition("slow.effect", slow, "external", "high", (), False))
        agent = await rt.schedule_agent(
            symbi.AgentConfig(name="calls", function=calls, isolation="in_process")
        )
        run = asyncio.create_task(rt.run(agent))
        await asyncio.wait_for(begun.wait(), BOUND_S)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        (unknown,) = rt.kernel.unknown_operations()
        assert unknown["resource"] == 'Tool::"slow.effect"'


@pytest.mark.asyncio
@pytest.mark.parametrize("how", ["cancel", "timeout", "stop"])
async def test_rn1_what_unwinds_starts_no_effect(tmp_path: Path, how: str) -> None:
    begun, effects, answers = asyncio.Event(), [], []

    async def effect() -> None:
        effects.append("happened")

    async def tries(ctx: symbi.AgentContext) -> None:
        try:
            begun.set()
            await asyncio.Event().wait()
        finally:
            try:
                await ctx.tools.call("late.effect")
            except symbi.SymbiError as error:
                answers.append(type(error).__name__)

    async with opened(tmp_path) as rt:
        rt.tools.register(ToolDefinition("late.effect", effect, "external", "high", (), False))
        agent = await rt.schedule_agent(
            symbi.AgentConfig(name="tries", function=tries, isolation="in_process")
        )
        run = asyncio.create_task(rt.run(agent, timeout_s=2 if how == "timeout" else None))
        await asyncio.wait_for(begun.wait(), BOUND_S)
        if how == "cancel":
            run.cancel()
        elif how == "stop":
            await rt.stop_agent(agent, force=True)
        (error,) = await asyncio.gather(run, return_exceptions=True)
    expected = {
        "cancel": asyncio.CancelledError,
        "timeout": symbi.SymbiTimeoutError,
        "stop": symbi.AgentError,
    }
    assert isinstance(error, expected[how])
    assert effects == []
    assert len(answers) == 1


async def endless(rt: symbi.Runtime) -> tuple[symbi.AgentHandle, asyncio.Task[Any]]:
    """An agent at work on a task that does not end by itself."""
    begun = asyncio.Event()

    async def endless() -> None:
        begun.set()
        await asyncio.Event().wait()

    agent = await rt.schedule_agent(
        symbi.AgentConfig(name="endless", function=endless, isolation="in_process")
    )
    run = asyncio.create_task(rt.run(agent))
    await asyncio.wait_for(begun.wait(), BOUND_S)
    return agent, run


@pytest.mark.asyncio
async def test_bk2_a_graceful_stop_is_a_forced_one_after_its_grace(tmp_path: Path) -> None:
    async with opened(tmp_path) as rt:
        agent, run = await endless(rt)
        assert not await rt.stop_agent(agent, grace_s=3600)
        assert not await rt.stop_agent(agent, grace_s=0.05)  # a later one may shorten it
        assert not await rt.stop_agent(agent, grace_s=3600)  # and never lengthens it
        assert rt.describe(agent)["stopping"]
        with pytest.raises(symbi.AgentError, match="stopped"):
            await asyncio.wait_for(run, BOUND_S)
        await until(lambda: rt.kernel.agent_state(agent.id) is None)
        with pytest.raises(symbi.InputError, match="a grace is"):
            await rt.stop_agent(agent, grace_s=-1)


@pytest.mark.asyncio
async def test_bk1_a_stop_is_carried_through_though_its_caller_goes_away(tmp_path: Path) -> None:
    async with opened(tmp_path) as rt:
        agent, run = await endless(rt)
        stop = asyncio.create_task(rt.stop_agent(agent, force=True))
        await asyncio.sleep(0)
        stop.cancel()
        with pytest.raises(symbi.AgentError, match="stopped"):
            await asyncio.wait_for(run, BOUND_S)
        assert rt.kernel.agent_state(agent.id) is None


@pytest.mark.asyncio
async def test_rn2_a_coroutine_that_refuses_to_end_keeps_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("symbi.runtime.runs.BRAKE_S", 0.05)
    begun, free = asyncio.Event(), asyncio.Event()

    async def refuses() -> None:
        while not free.is_set():
            begun.set()
            try:
                await free.wait()
            except asyncio.CancelledError:
                continue

    async with opened(tmp_path) as rt:
        agent = await rt.schedule_agent(
            symbi.AgentConfig(name="refuses", function=refuses, isolation="in_process")
        )
        run = asyncio.create_task(rt.run(agent))
        await asyncio.wait_for(begun.wait(), BOUND_S)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(run, BOUND_S)
        codes = {one.code for one in (await rt.health_check()).recent_errors}
        assert "agent.refuses_to_end" in codes
        free.set()


@pytest.mark.asyncio
async def test_rn3_a_run_ends_once_by_the_first_reason(tmp_path: Path) -> None:
    async with opened(tmp_path) as rt:
        agent, run = await endless(rt)
        run.cancel()
        await rt.stop_agent(agent, force=True)
        await asyncio.gather(run, return_exceptions=True)
        ended = list(symbi.AuditLog.open(rt.opened["trail"]).query(event_type="run.finished"))
        assert len(ended) == 1


@pytest.mark.asyncio
async def test_brakes_work_under_policies_that_forbid_everything(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def waits(ctx: symbi.AgentContext) -> None:
        begun.set()
        await ctx.bus.receive(timeout_s=BOUND_S)

    nothing = tmp_path / "nothing.cedar"
    nothing.write_text(_NOTHING)
    async with opened(tmp_path) as rt:
        agent = await rt.schedule_agent(
            symbi.AgentConfig(name="waits", function=waits, isolation="in_process")
        )
        run = asyncio.create_task(rt.run(agent))
        await asyncio.wait_for(begun.wait(), BOUND_S)
        await rt.load_policies([nothing], by=f"operator:{os.getuid()}")
        assert await rt.suspend_agent(agent)
        with pytest.raises(symbi.PolicyDenied):
            await rt.resume_agent(agent)  # to go on is no brake
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert await rt.stop_agent(agent)


_FULL = """
import asyncio, os, resource, signal, sys, symbi

BEGUN = asyncio.Event()

@symbi.agent(isolation="in_process")
async def waits(ctx):
    BEGUN.set()
    await ctx.bus.receive(timeout_s=60)

async def main():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    async with symbi.Runtime.open(data=sys.argv[1]) as rt:
        held, cancelled = await rt.schedule_agent(waits), await rt.schedule_agent(waits)
        runs = []
        for agent in (held, cancelled):
            BEGUN.clear()
            runs.append(asyncio.ensure_future(rt.run(agent)))
            await BEGUN.wait()
        (segment,) = [one for one in os.scandir(rt.opened["trail"]) if one.name.endswith(".jsonl")]
        resource.setrlimit(resource.RLIMIT_FSIZE, (segment.stat().st_size + 100, resource.RLIM_INFINITY))
        try:
            for _ in range(20):
                await rt.schedule_agent(waits)
        except symbi.SymbiError as error:
            print(error.code)
        print("suspend", await asyncio.wait_for(rt.suspend_agent(held), 10))
        runs[1].cancel()
        print("cancel", type((await asyncio.gather(runs[1], return_exceptions=True))[0]).__name__)
        print("stop", await asyncio.wait_for(rt.stop_agent(held), 10))
        print("stopped", type((await asyncio.gather(runs[0], return_exceptions=True))[0]).__name__)
        print("left", await asyncio.wait_for(rt.stop_all(), 10) >= 1, len(rt.runs.active))
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))

try:
    asyncio.run(main())
except symbi.AuditError as error:
    print("closing:", error.code)
"""


def test_brakes_work_while_the_trail_is_full(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _FULL, str(tmp_path / "d")],
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )
    lines = ended.stdout.splitlines()
    assert lines[0] in ("audit.unavailable", "unavailable"), ended
    assert lines[1] == "suspend True"
    assert lines[2] in ("cancel CancelledError", "cancel LogUnavailableError")
    assert lines[3] == "stop True"
    assert lines[4] in ("stopped AgentError", "stopped LogUnavailableError")
    assert lines[5] == "left True 0"
