"""The runtime at its public face: agents in the host's process, their lives, their runs, their limits."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
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


@pytest.mark.parametrize("tenant", ["", "x" * 129, "a\nb", 7])
def test_a_tenant_is_a_printable_name(tenant: Any) -> None:
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
async def test_two_runtimes_live_in_one_loop(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path / "a") as one, symbi.Runtime.open(data=tmp_path / "b") as two:
        assert await asyncio.gather(one.run(echo, {"value": 1}), two.run(echo, {"value": 2})) == [1, 2]
        assert one.opened["log_id"] != two.opened["log_id"]


def test_br3_a_runtime_of_another_loop_is_refused_instead_of_hanging(tmp_path: Path) -> None:
    rt = symbi.Runtime.open(data=tmp_path)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(rt.__aenter__())

    async def other() -> None:
        with pytest.raises(symbi.RuntimeClosedError, match="another event loop"):
            await asyncio.wait_for(rt.run(echo), BOUND_S)

    asyncio.run(other())
    loop.run_until_complete(rt.close())
    loop.close()


def test_a_runtime_can_be_closed_after_its_loop_was(tmp_path: Path) -> None:
    rt = symbi.Runtime.open(data=tmp_path)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(rt.__aenter__())
    loop.close()
    asyncio.run(asyncio.wait_for(rt.close(), BOUND_S))
    assert symbi.AuditLog.open(tmp_path / "trail").verify().records >= 2


_FORKING = """
import asyncio, gc, os, sys, symbi
@symbi.agent(isolation="in_process")
async def echo(value): return value
rt = symbi.Runtime.open(data=sys.argv[1])
loop = asyncio.new_event_loop()
loop.run_until_complete(rt.__aenter__())
agent = loop.run_until_complete(rt.schedule_agent(echo))
loop.run_until_complete(rt.run(agent, {"value": 1}))
before = rt.kernel.durable()
child = os.fork()
if child == 0:
    code = 7
    for ask in (
        lambda: rt.kernel,
        lambda: rt.bus._kernel.send(agent.id, agent.id, b""),
        lambda: rt._dispatcher._kernel.note(agent.id, "from the child"),
        lambda: asyncio.run(rt.run(agent, {"value": 2})),
        lambda: asyncio.run(rt.tools.call(agent, "any")),
        lambda: asyncio.run(rt.bus.send(agent, agent, b"x")),
    ):
        try:
            ask()
            code = 9
        except symbi.RuntimeClosedError:
            pass
    asyncio.run(rt.close())
    del rt
    gc.collect()
    os._exit(code)  # an event loop of the parent's is not for unwinding: asyncio shares its epoll over a fork
_, status = os.waitpid(child, 0)
assert os.waitstatus_to_exitcode(status) == 7, status
assert rt.kernel.durable() == before
assert os.path.exists(os.path.join(sys.argv[1], "control.sock"))
assert loop.run_until_complete(asyncio.wait_for(rt.run(agent, {"value": 5}), 10)) == 5
loop.run_until_complete(rt.close())
loop.close()
"""


def test_fk1_fk2_a_forked_child_is_left_nothing_and_the_parent_goes_on(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _FORKING, str(tmp_path / "d")],
        capture_output=True,
        timeout=BOUND_S,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr.decode()
    assert b"panicked" not in ended.stderr
    assert symbi.AuditLog.open(tmp_path / "d" / "trail").verify().records > 2


@pytest.mark.asyncio
async def test_a_data_directory_has_one_runtime(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path) as rt:
        with pytest.raises(symbi.LogLockedError):
            await symbi.Runtime.open(data=tmp_path).__aenter__()
        assert await rt.run(echo, {"value": 1}) == 1
        assert (tmp_path / "control.sock").exists()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("permit (", "broken.cedar:1"),
        ('permit (principal, action == Action::"no.such", resource);', "broken.cedar:1"),
        ('permit (principal, action, resource) when { principal.nothing == "x" };', "broken.cedar:1"),
    ],
)
async def test_a_broken_policy_does_not_open_and_names_the_place(
    tmp_path: Path, text: str, match: str
) -> None:
    policy = tmp_path / "broken.cedar"
    policy.write_text(text)
    with pytest.raises(symbi.PolicyError, match=match):
        await symbi.Runtime.open(data=tmp_path / "d", policy=policy).__aenter__()


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


@pytest.mark.asyncio
async def test_an_empty_policy_directory_does_not_open(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    with pytest.raises(symbi.PolicyError, match="holds no"):
        await symbi.Runtime.open(data=tmp_path / "d", policy=tmp_path / "policies").__aenter__()
    with pytest.raises(symbi.PolicyError, match="there is no policy"):
        await symbi.Runtime.open(data=tmp_path / "d", policy=tmp_path / "absent").__aenter__()


@pytest.mark.asyncio
async def test_a_set_that_permits_nothing_refuses_every_agent(tmp_path: Path) -> None:
    policy = tmp_path / "none.cedar"
    policy.write_text("forbid (principal, action, resource);")
    async with symbi.Runtime.open(data=tmp_path / "d", policy=policy) as rt:
        with pytest.raises(symbi.PolicyDenied) as caught:
            await rt.schedule_agent(echo)
        assert caught.value.code == "denied"
        (denied,) = records(rt, "operation.denied")
        assert denied.details["decision_id"] == caught.value.decision_id
        assert await rt.stop_all() == 0


@pytest.mark.parametrize(
    "text", ["[runtime\n", "[runtime]\nno_such_key = 1\n", "[runtime]\nmax_concurrent_agents = 'many'\n"]
)
def test_a_malformed_configuration_names_the_file(tmp_path: Path, text: str) -> None:
    file = tmp_path / "symbi.toml"
    file.write_text(text)
    with pytest.raises(symbi.ConfigError, match=r"symbi\.toml"):
        symbi.Runtime.open(file, data=tmp_path / "d")


@pytest.mark.asyncio
async def test_policies_change_at_once_and_a_broken_set_changes_nothing(tmp_path: Path) -> None:
    closed, broken = tmp_path / "closed.cedar", tmp_path / "broken.cedar"
    closed.write_text("forbid (principal, action, resource);")
    broken.write_text("permit (")
    async with symbi.Runtime.open(data=tmp_path / "d") as rt:
        assert await rt.run(echo, {"value": 1}) == 1
        with pytest.raises(symbi.PolicyDenied):
            await rt.load_policies([closed])  # the host may not; operators may
        with pytest.raises(symbi.PolicyError):
            await rt.load_policies([broken], by=f"operator:{os.getuid()}")
        assert await rt.run(echo, {"value": 1}) == 1
        await rt.load_policies([closed], by=f"operator:{os.getuid()}")
        with pytest.raises(symbi.PolicyDenied):
            await rt.run(echo)


@pytest.mark.asyncio
async def test_the_data_directory_is_for_its_owner_alone_and_hides_from_git(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path / "d"):
        assert (tmp_path / "d").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "d" / ".gitignore").read_text() == "*\n"
        assert (tmp_path / "d" / "control.sock").stat().st_mode & 0o777 == 0o600
