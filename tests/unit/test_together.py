"""Many agents, many runs: what one call does for all of them, and what it never leaves behind."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
import symbi
from symbi._core import builtin_policy
from symbi.errors import AgentError, InputError, LifecycleError, LogUnavailableError, PolicyDenied

if TYPE_CHECKING:
    from pathlib import Path

SOME = 300  # more than cross at once


@symbi.agent(isolation="in_process")
async def echo(value: Any = None) -> Any:
    return value


@symbi.agent(isolation="in_process")
async def odd_ones_fail(number: int) -> int:
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


class Gated:
    """An agent whose runs count themselves in, wait, and say whether they were cancelled."""

    def __init__(self, name: str = "gated") -> None:
        self.running = 0
        self.ended = 0
        self.all_here = asyncio.Event()
        self.expected = 0
        self.agent = symbi.AgentConfig(name=name, function=self._run, isolation="in_process")

    async def _run(self) -> None:
        self.running += 1
        if self.running == self.expected:
            self.all_here.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.ended += 1


def policy(directory: Path, text: str, counters: str = "") -> list[Path]:
    path = directory / "some.cedar"
    path.write_text(builtin_policy("secure-default") + text)
    return [path]


def of_type(data: Path, event_type: str) -> list[symbi.AuditEvent]:
    with symbi.AuditLog.open(data / "trail") as log:
        return list(log.query(event_type=event_type))


@pytest.mark.asyncio
async def test_tg2_answers_stand_in_the_order_of_their_tasks_and_each_is_recorded(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agents = await rt.schedule_agents([echo] * SOME)
        assert len({agent.id for agent in agents}) == SOME
        tasks = [(agent, {"value": number}) for number, agent in enumerate(agents)]
        assert await rt.run_many(tasks) == list(range(SOME))
        assert await rt.run_many([]) == []
        assert await rt.run_many([(agents[0], {"value": 1}), (agents[0], {"value": 2})]) == [1, 2]
        assert not rt.runs.active
    begun = [event for event in of_type(tmp_path, "operation") if event.details["action"] == "agent.run"]
    assert len(begun) == len(of_type(tmp_path, "run.finished")) == SOME + 2
    assert len({event.run for event in begun}) == SOME + 2


@pytest.mark.asyncio
@pytest.mark.parametrize("bounded", [False, True])
async def test_more_runs_in_one_call_cross_into_the_kernel_no_more_often_to_begin(
    tmp_path: Path, bounded: bool
) -> None:
    rules = policy(tmp_path, "permit (principal, action, resource);")
    if bounded:
        text = '[budgets.work]\naction = "agent.run"\nmeasure = "time_ms"\nwindow_s = 3600\nrun = 9000000\n'
        tmp_path.joinpath("work.counters.toml").write_text(text)
        rules.append(tmp_path / "work.counters.toml")
    async with symbi.Runtime.open(data=tmp_path / "d", policy=rules) as rt:
        agents = await rt.schedule_agents([echo] * 200)

        async def crossings(runs: int) -> Counter[str]:
            crossed: Counter[str] = Counter()

            def note(_frame: Any, event: str, called: Any) -> None:
                if event == "c_call" and getattr(called, "__self__", None) is rt.kernel:
                    crossed[called.__name__] += 1

            sys.setprofile(note)
            try:
                await rt.run_many([(agent, {"value": 1}) for agent in agents[:runs]])
            finally:
                sys.setprofile(None)
            return crossed

        few, many = await crossings(20), await crossings(200)
        assert few["begin_runs"] == many["begin_runs"] == 1
        assert max(many.values()) < 100, f"not one for each of them: {many}"
        assert not rt.runs.active


@pytest.mark.asyncio
async def test_an_error_stands_in_its_tasks_place_where_that_was_asked_for(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agents = await rt.schedule_agents([odd_ones_fail] * 6)
        tasks = [(agent, {"number": number}) for number, agent in enumerate(agents)]
        answers = await rt.run_many(tasks, return_exceptions=True)
        assert [answer for answer in answers if isinstance(answer, int)] == [0, 2, 4]
        errors = [answer for answer in answers if isinstance(answer, AgentError)]
        assert [str(error) for error in errors] == [f"ValueError: {number} is odd" for number in (1, 3, 5)]


@pytest.mark.asyncio
async def test_tg1_the_first_failure_cancels_the_others_and_is_raised_when_none_of_them_moves(
    tmp_path: Path,
) -> None:
    gated = Gated()
    async with symbi.Runtime.open(data=tmp_path) as rt:
        waiting = await rt.schedule_agents([gated.agent] * 5)
        failing = await rt.schedule_agent(odd_ones_fail)
        tasks: list[Any] = [(agent, None) for agent in waiting]
        with pytest.raises(AgentError, match="1 is odd"):
            await asyncio.wait_for(rt.run_many([*tasks, (failing, {"number": 1})]), 20)
        assert gated.ended == gated.running == 5
        assert not rt.runs.active
    outcomes = sorted(event.details["outcome"] for event in of_type(tmp_path, "run.finished"))
    assert outcomes == ["cancelled"] * 5 + ["failed"]


@pytest.mark.asyncio
async def test_tg1_a_refusal_cancels_what_stands_behind_it_too(tmp_path: Path) -> None:
    text = '\nforbid (principal, action == Action::"agent.run", resource == Agent::"odd_ones_fail");'
    gated = Gated()
    async with symbi.Runtime.open(data=tmp_path / "data", policy=policy(tmp_path, text)) as rt:
        before, refused, behind = await rt.schedule_agents([gated.agent, odd_ones_fail, gated.agent])
        tasks: list[Any] = [(before, None), (refused, {"number": 2}), (behind, None)]
        with pytest.raises(PolicyDenied):
            await asyncio.wait_for(rt.run_many(tasks), 20)
        assert not rt.runs.active
        assert gated.ended == gated.running


@pytest.mark.asyncio
async def test_tg1_who_cancels_the_call_cancels_all_of_its_runs(tmp_path: Path) -> None:
    gated = Gated()
    gated.expected = SOME
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agents = await rt.schedule_agents([gated.agent] * SOME)
        call = asyncio.ensure_future(rt.run_many([(agent, None) for agent in agents]))
        await asyncio.wait_for(gated.all_here.wait(), 20)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(call, 20)
        assert gated.ended == SOME
        assert not rt.runs.active
        assert all(rt.kernel.agent_state(agent.id) == "ready" for agent in agents)


@pytest.mark.asyncio
async def test_one_that_policy_refuses_is_refused_alone_and_is_on_disk_before_its_caller_hears(
    tmp_path: Path,
) -> None:
    text = '\nforbid (principal, action == Action::"agent.run", resource == Agent::"odd_ones_fail");'
    async with symbi.Runtime.open(data=tmp_path / "data", policy=policy(tmp_path, text)) as rt:
        agents = await rt.schedule_agents([echo, odd_ones_fail, echo])
        tasks: list[Any] = [(agents[0], {"value": 1}), (agents[1], {"number": 2}), (agents[2], {"value": 3})]
        answers = await rt.run_many(tasks, return_exceptions=True)
        assert [answers[0], answers[2]] == [1, 3]
        assert isinstance(answers[1], PolicyDenied)
        assert rt.kernel.durable() > (answers[1].seq or 0)
        with pytest.raises(PolicyDenied):
            await rt.run_many(tasks)


@pytest.mark.asyncio
async def test_mk1_where_one_agent_may_not_be_none_is_left(tmp_path: Path) -> None:
    text = '\nforbid (principal, action == Action::"agent.create", resource == Agent::"odd_ones_fail");'
    async with symbi.Runtime.open(data=tmp_path / "data", policy=policy(tmp_path, text)) as rt:
        with pytest.raises(PolicyDenied):
            await rt.schedule_agents([*[echo] * SOME, odd_ones_fail, echo])
        assert rt.agents.ids == set()
        assert rt.kernel.count_agents() == 0


@pytest.mark.asyncio
async def test_mk1_more_agents_than_there_may_be_are_refused_together(tmp_path: Path) -> None:
    config = symbi.Config.load(overrides={"runtime.max_concurrent_agents": 10}, environ={})
    async with symbi.Runtime.open(config, data=tmp_path) as rt:
        with pytest.raises(InputError, match="max_concurrent_agents"):
            await rt.schedule_agents([echo] * 11)
        assert rt.kernel.count_agents() == 0
        await rt.schedule_agents([echo] * 10)


@pytest.mark.asyncio
async def test_supervised_agents_are_tried_again_among_the_others(tmp_path: Path) -> None:
    attempts: list[int] = []

    async def second_time(number: int) -> int:
        attempts.append(number)
        if attempts.count(number) < 2:
            raise TimeoutError("not yet")
        return number

    supervised = symbi.AgentConfig(
        name="second-time",
        function=second_time,
        isolation="in_process",
        supervision=symbi.Supervision(backoff_ms=0, backoff_max_ms=0),
    )
    async with symbi.Runtime.open(data=tmp_path) as rt:
        plain, *others = await rt.schedule_agents([echo, supervised, supervised])
        tasks: list[Any] = [(others[0], {"number": 1}), (plain, {"value": 0}), (others[1], {"number": 2})]
        assert await rt.run_many(tasks) == [1, 0, 2]
    assert sorted(attempts) == [1, 1, 2, 2]


@pytest.mark.asyncio
async def test_what_cannot_be_run_is_said_before_anything_runs(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agent = await rt.schedule_agent(echo)
        with pytest.raises(InputError, match="schedule_agents"):
            await rt.run_many([(echo, None)])  # type: ignore[list-item]
        with pytest.raises(InputError, match="cannot be given"):
            await rt.run_many([(agent, {"value": 1}), (agent, {"value": object()})])
        with pytest.raises(InputError, match="priority"):
            await rt.run_many([(agent, None)], priority=256)
        await rt.stop_agent(agent)
        with pytest.raises(LifecycleError, match="schedule it anew"):
            await rt.run_many([(agent, None)])
    assert of_type(tmp_path, "run.finished") == []


@pytest.mark.asyncio
async def test_rt2_where_the_end_of_a_run_cannot_be_recorded_nobody_gets_its_result(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path) as rt:

        async def shuts_the_trail() -> int:
            rt.kernel.close()
            return 1

        config = symbi.AgentConfig(name="shuts", function=shuts_the_trail, isolation="in_process")
        agent = await rt.schedule_agent(config)
        with pytest.raises(LogUnavailableError):
            await rt.run(agent)


@pytest.mark.asyncio
async def test_a_task_has_one_id_in_all_its_attempts(tmp_path: Path) -> None:
    seen: list[tuple[str, str]] = []

    async def thrice(ctx: symbi.AgentContext) -> None:
        seen.append((ctx.task_id, ctx.run_id))
        if len(seen) < 3:
            raise TimeoutError("not yet")

    supervision = symbi.Supervision(backoff_ms=0, backoff_max_ms=0)
    config = symbi.AgentConfig(
        name="thrice", function=thrice, isolation="in_process", supervision=supervision
    )
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agent = await rt.schedule_agent(config)
        await rt.run(agent)
        await rt.run(agent)
    tasks, runs = [task for task, _ in seen], [run for _, run in seen]
    assert tasks[0] == tasks[1] == tasks[2] == runs[0]
    assert len(set(runs)) == 4
    assert tasks[3] == runs[3]


@pytest.mark.asyncio
async def test_rn4_what_goes_wrong_with_the_end_of_one_run_keeps_no_other_from_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agents = await rt.schedule_agents([echo] * 3)
        known = rt.breaches.over

        def over(active: Any) -> None:
            if active.agent.id == agents[1].id:
                raise OSError("its meter is gone")
            known(active)

        monkeypatch.setattr(rt.breaches, "over", over)
        tasks = [(agent, {"value": number}) for number, agent in enumerate(agents)]
        first, broken, last = await rt.run_many(tasks, return_exceptions=True)
        assert (first, last) == (0, 2)
        assert broken == 1, "what it yielded is its own"
        assert not rt.runs.active
    assert len(of_type(tmp_path, "run.finished")) == 3


@pytest.mark.asyncio
async def test_a_run_reserves_what_was_asked_for_and_the_memory_that_its_sandbox_gets(tmp_path: Path) -> None:
    file = tmp_path / "boxed.py"
    file.write_text("import symbi\n\n@symbi.agent\nasync def boxed() -> None: ...\n")
    boxed = symbi.AgentConfig(name="boxed", entry=(str(file), "boxed"))
    named = symbi.AgentConfig(
        name="boxed",
        entry=(str(file), "boxed"),
        limits=symbi.ResourceLimits(memory_mb=512, cpu_cores=0.5),
    )
    here = symbi.AgentConfig(
        name="here",
        function=odd_ones_fail.config.function,
        isolation="in_process",
        reserve=symbi.ResourceLimits(memory_mb=64),
    )
    async with symbi.Runtime.open(data=tmp_path / "data") as rt:
        held = [rt.workers.held(config) for config in (boxed, named, here)]
    assert [(limits.memory_mb, limits.cpu_cores) for limits in held] == [(256, None), (512, 0.5), (64, None)]
