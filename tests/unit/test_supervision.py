"""Supervision at its public face: retries, replays, restarts, the end, and who cannot abuse them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import symbi
from symbi._core import builtin_policy
from symbi.errors import AgentError, EffectUnknownError, InputError, PolicyDenied, SymbiTimeoutError

if TYPE_CHECKING:
    from pathlib import Path

OPEN = 'permit (principal, action == Action::"tool.call", resource);\n'
FAST = symbi.Supervision(backoff_ms=0, backoff_max_ms=0)


def policy(directory: Path) -> Path:
    path = directory / "open.cedar"
    path.write_text(builtin_policy("secure-default") + OPEN)
    return path


class Flaky:
    """An agent that fails as it is told, attempt after attempt, and then succeeds."""

    def __init__(self, *failures: BaseException, supervision: symbi.Supervision | None = FAST) -> None:
        self.failures = list(failures)
        self.attempts = 0
        self.agent = symbi.AgentConfig(
            name="flaky", function=self._run, isolation="in_process", supervision=supervision
        )

    async def _run(self, value: Any = None) -> Any:
        self.attempts += 1
        if self.failures:
            raise self.failures.pop(0)
        return value


def outcomes(rt: symbi.Runtime) -> list[dict[str, Any]]:
    log = symbi.AuditLog.open(rt.opened["trail"])
    return [dict(one.details) for one in log.query(event_type="run.finished")]


async def resting(rt: symbi.Runtime) -> None:
    """Return when a task waits for its next attempt."""
    known, seen = rt.runs.resting.wait, asyncio.Event()

    async def wait(run: str, after_s: float) -> bool:
        seen.set()
        return await known(run, after_s)

    rt.runs.resting.wait = wait  # type: ignore[method-assign]
    await asyncio.wait_for(seen.wait(), 5)


@pytest.mark.asyncio
async def test_su1_a_task_that_fails_is_tried_again_and_the_trail_says_why(tmp_path: Path) -> None:
    flaky = Flaky(TimeoutError("one"), ConnectionResetError("two"))
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agent = await rt.schedule_agent(flaky.agent)
        assert await rt.run(agent, {"value": 7}) == 7
        first, second, third = outcomes(rt)
        assert (first["class"], first["verdict"], first["attempt"]) == ("transient", "retry", 1)
        assert (second["class"], second["verdict"], second["attempt"]) == ("transient", "retry", 2)
        assert third["outcome"] == "done"
        assert rt.dead_tasks() == []
    assert flaky.attempts == 3


@pytest.mark.asyncio
async def test_an_agent_that_did_not_ask_for_it_is_not_tried_again(tmp_path: Path) -> None:
    flaky = Flaky(TimeoutError("one"), supervision=None)
    async with symbi.Runtime.open(data=tmp_path) as rt:
        with pytest.raises(AgentError):
            await rt.run(await rt.schedule_agent(flaky.agent))
        assert [(one["class"], one["verdict"]) for one in outcomes(rt)] == [("transient", "none")]
    assert flaky.attempts == 1


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("supervision", "error", "attempts", "reason"),
    [
        (FAST, TypeError("a mistake"), 1, "kind"),
        (symbi.Supervision(retries=2, backoff_ms=0), TimeoutError("slow"), 3, "attempts"),
        (symbi.Supervision(backoff_ms=0, never_retry=("transient",)), TimeoutError("slow"), 1, "kind"),
        (
            symbi.Supervision(retries=1, backoff_ms=0, retry_on=("ValueError",)),
            ValueError("v"),
            2,
            "attempts",
        ),
    ],
)
async def test_a_task_that_is_not_tried_again_is_dead_and_kept_sealed(
    tmp_path: Path, supervision: symbi.Supervision, error: Exception, attempts: int, reason: str
) -> None:
    flaky = Flaky(*[error] * 10, supervision=supervision)
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agent = await rt.schedule_agent(flaky.agent)
        with pytest.raises(AgentError, match=str(error)):
            await rt.run(agent, {"value": "the ticket"})
        [dead] = rt.dead_tasks()
        assert (dead.agent, dead.name, dead.attempts, dead.reason) == (agent.id, "flaky", attempts, reason)
        assert dead.code == type(error).__name__
        assert "ticket" not in dead.input_sealed
        assert rt.kernel.unseal(dead.input_sealed) == b'{"value":"the ticket"}'
        status = await rt.get_system_status()
        assert (status.tasks_failed, status.tasks_dead) == (attempts, 1)
        assert status.errors_by_type == {type(error).__name__: attempts}
        assert rt.kernel.agent_state(agent.id) == "ready"
        shown = rt.describe(agent)
        assert shown["dead_tasks"][0]["reason"] == reason
        assert shown["supervision"]["retries"] == supervision.retries
    assert flaky.attempts == attempts


LINES: list[str] = []
FATE: dict[str, Any] = {}


@symbi.tool(name="line.append", effects="write")
async def append(text: str) -> int:
    LINES.append(text)
    if FATE.get("hang"):
        FATE["hanging"].set()
        await asyncio.Event().wait()
    return len(LINES)


@symbi.tool(name="line.put", effects="write", idempotent=True)
async def put(text: str) -> int:
    return await append.function(text)


@symbi.tool(name="line.fails")
def fails() -> None:
    raise ConnectionRefusedError("down")


class Writer:
    """An agent that appends two lines and fails in between, as often as it is told."""

    def __init__(
        self, failures: int = 1, supervision: symbi.Supervision = FAST, tool: str = "line.append"
    ) -> None:
        LINES.clear()
        FATE.clear()
        FATE["hanging"] = asyncio.Event()
        self.failures, self.tool = failures, tool
        self.results: list[list[Any]] = []
        self.agent = symbi.AgentConfig(
            name="writer", function=self._run, isolation="in_process", supervision=supervision
        )

    async def _run(self, ctx: symbi.AgentContext) -> list[Any]:
        results: list[Any] = []
        self.results.append(results)
        results.append(await ctx.tools.call(self.tool, {"text": "one"}))
        if self.failures:
            self.failures -= 1
            raise TimeoutError("between")
        results.append(await ctx.tools.call(self.tool, {"text": "two"}))
        return results


@pytest.mark.asyncio
async def test_tc5_a_retry_never_repeats_an_effect_that_was_recorded_as_done(tmp_path: Path) -> None:
    writer = Writer(failures=2)
    async with symbi.Runtime.open(data=tmp_path / "d", policy=policy(tmp_path)) as rt:
        assert await rt.run(await rt.schedule_agent(writer.agent)) == [1, 2]
        log = symbi.AuditLog.open(rt.opened["trail"])
        assert len(list(log.query(event_type="operation.replayed"))) == 2
        assert len(list(log.query(event_type="operation.intent"))) == 2
    assert LINES == ["one", "two"]
    assert writer.results == [[1], [1], [1, 2]]


@pytest.mark.asyncio
async def test_su2_an_effect_that_nobody_knows_of_is_not_repeated_and_the_task_is_dead(
    tmp_path: Path,
) -> None:
    writer = Writer(failures=0, supervision=symbi.Supervision(backoff_ms=0, retry_on=("timeout",)))
    FATE["hang"] = True

    async def swallows(ctx: symbi.AgentContext) -> str:
        try:
            async with asyncio.timeout(None) as bound:
                call = asyncio.ensure_future(ctx.tools.call("line.append", {"text": "one"}))
                hanging = asyncio.ensure_future(FATE["hanging"].wait())
                await asyncio.wait([call, hanging], return_when=asyncio.FIRST_COMPLETED)
                hanging.cancel()
                if not call.done():
                    call.cancel()
                    bound.reschedule(asyncio.get_running_loop().time())
                return str(await call)
        except symbi.SymbiError:
            return "all went well"  # it makes light of it

    agent = symbi.AgentConfig(
        name="swallows", function=swallows, isolation="in_process", supervision=writer.agent.supervision
    )
    async with symbi.Runtime.open(data=tmp_path / "d", policy=policy(tmp_path)) as rt:
        with pytest.raises(EffectUnknownError, match="approvals list"):
            await rt.run(await rt.schedule_agent(agent))
        [dead] = rt.dead_tasks()
        assert (dead.error_class, dead.attempts) == ("unknown_effect", 2)
    assert LINES == ["one"]


@pytest.mark.asyncio
@pytest.mark.parametrize(("done", "answer", "lines"), [(True, None, ["one"]), (False, 2, ["one", "one"])])
async def test_what_a_person_says_of_a_call_goes_for_the_next_attempt(
    tmp_path: Path, done: bool, answer: int | None, lines: list[str]
) -> None:
    LINES.clear()
    answers: list[Any] = []

    async def cut_off(ctx: symbi.AgentContext) -> None:
        FATE["hang"] = not answers
        call = asyncio.ensure_future(ctx.tools.call("line.append", {"text": "one"}))
        if not answers:
            answers.append("it hangs")
            await FATE["hanging"].wait()
            call.cancel()
            raise TimeoutError("it does not answer")
        answers.append(await call)

    FATE["hanging"] = asyncio.Event()
    patient = symbi.Supervision(backoff_ms=200, jitter="none")
    agent = symbi.AgentConfig(name="cut-off", function=cut_off, isolation="in_process", supervision=patient)
    async with symbi.Runtime.open(data=tmp_path / "d", policy=policy(tmp_path)) as rt:
        rests = asyncio.ensure_future(resting(rt))
        run = asyncio.ensure_future(rt.run(await rt.schedule_agent(agent)))
        await rests
        [unknown] = rt.kernel.unknown_operations()
        rt.kernel.resolve("operator:1000", unknown["operation"], done)
        await run
        assert rt.dead_tasks() == []
    assert answers[1:] == [answer]
    assert lines == LINES


@pytest.mark.asyncio
async def test_a_tool_that_is_declared_idempotent_is_called_again(tmp_path: Path) -> None:
    assert put.idempotent
    assert not append.idempotent
    Writer()
    FATE["hang"] = True

    async def again(ctx: symbi.AgentContext) -> Any:
        call = asyncio.ensure_future(ctx.tools.call("line.put", {"text": "one"}))
        hanging = asyncio.ensure_future(FATE["hanging"].wait())
        await asyncio.wait([call, hanging], return_when=asyncio.FIRST_COMPLETED)
        hanging.cancel()
        if call.done():
            return await call
        call.cancel()
        await asyncio.wait([call])
        FATE.update(hang=False, hanging=asyncio.Event())
        raise TimeoutError("it did not answer")

    agent = symbi.AgentConfig(name="again", function=again, isolation="in_process", supervision=FAST)
    async with symbi.Runtime.open(data=tmp_path / "d", policy=policy(tmp_path)) as rt:
        assert await rt.run(await rt.schedule_agent(agent)) == 2
    assert LINES == ["one", "one"]


@pytest.mark.asyncio
async def test_a_result_that_cannot_be_kept_ends_the_retries_and_says_so(tmp_path: Path) -> None:
    class Opaque:
        pass

    @symbi.tool(name="line.opaque")
    async def opaque() -> Any:
        return Opaque()

    async def run(ctx: symbi.AgentContext) -> None:
        await ctx.tools.call("line.opaque", {})
        raise TimeoutError("after")

    agent = symbi.AgentConfig(name="opaque", function=run, isolation="in_process", supervision=FAST)
    async with symbi.Runtime.open(data=tmp_path / "d", policy=policy(tmp_path)) as rt:
        with pytest.raises(AgentError):
            await rt.run(await rt.schedule_agent(agent))
        assert [(dead.attempts, dead.reason) for dead in rt.dead_tasks()] == [(1, "effects")]


@pytest.mark.asyncio
async def test_past_its_restarts_an_agent_is_ended(tmp_path: Path) -> None:
    flaky = Flaky(*[KeyError("k")] * 9, supervision=symbi.Supervision(retries=0, restarts=1))
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agent = await rt.schedule_agent(flaky.agent)
        for _ in range(2):
            with pytest.raises(AgentError):
                await rt.run(agent)
        assert rt.kernel.agent_state(agent.id) is None
        assert outcomes(rt)[-1]["transitions"] == [
            "ready>running",
            "running>suspended",
            "suspended>terminated",
        ]
        with pytest.raises(symbi.SymbiError):
            await rt.run(agent)
    assert flaky.attempts == 2


@pytest.mark.asyncio
async def test_su1_a_stop_ends_a_task_that_waits_for_its_next_attempt(tmp_path: Path) -> None:
    slow = symbi.Supervision(backoff_ms=3_600_000, backoff_max_ms=3_600_000, jitter="none")
    flaky = Flaky(TimeoutError("one"), supervision=slow)
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agent = await rt.schedule_agent(flaky.agent)
        run = asyncio.create_task(rt.run(agent))
        await resting(rt)
        await rt.stop_agent(agent)
        with pytest.raises(AgentError, match="stopped"):
            await asyncio.wait_for(run, 5)
        assert [dead.reason for dead in rt.dead_tasks()] == ["given_up"]


@pytest.mark.asyncio
async def test_su1_a_caller_that_goes_away_or_has_no_time_left_gives_the_task_up(tmp_path: Path) -> None:
    slow = symbi.Supervision(backoff_ms=60_000, backoff_max_ms=60_000, jitter="none")
    async with symbi.Runtime.open(data=tmp_path) as rt:
        agent = await rt.schedule_agent(Flaky(TimeoutError("one"), supervision=slow).agent)
        with pytest.raises(AgentError, match="one"):
            await rt.run(agent, timeout_s=10)  # at once: the next attempt would be too late
        other = await rt.schedule_agent(Flaky(TimeoutError("two"), supervision=slow).agent)
        run = asyncio.create_task(rt.run(other))
        await resting(rt)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert [dead.reason for dead in rt.dead_tasks()] == ["given_up", "given_up"]
    with symbi.AuditLog.open(rt.opened["trail"]) as log:  # closed: all that was recorded is on disk
        assert len(list(log.query(event_type="run.given_up"))) == 2


@pytest.mark.asyncio
async def test_a_tool_that_fails_again_and_again_is_left_alone_and_health_says_so(tmp_path: Path) -> None:
    refused: list[str] = []

    async def run(ctx: symbi.AgentContext) -> None:
        for _ in range(20):
            try:
                await ctx.tools.call("line.fails", {})
            except PolicyDenied as denied:
                refused.append(denied.code)
            except symbi.ToolError:
                pass

    agent = symbi.AgentConfig(name="stubborn", function=run, isolation="in_process")
    async with symbi.Runtime.open(data=tmp_path / "d", policy=policy(tmp_path)) as rt:
        await rt.run(await rt.schedule_agent(agent))
        assert refused == ["unavailable"] * 15
        health = (await rt.health_check()).component_health["error_handler"]
        assert health.level == "yellow"
        assert "line.fails" in health.text
        assert (await rt.get_system_status()).breakers == {"line.fails": "open"}


@pytest.mark.asyncio
async def test_an_agent_that_fails_on_purpose_cannot_spend_the_retries_of_others(tmp_path: Path) -> None:
    eager = symbi.Supervision(retries=100, backoff_ms=0)
    async with symbi.Runtime.open(data=tmp_path) as rt:
        attempts = 0
        for _ in range(30):  # a new instance is no new budget
            bad = Flaky(*[TimeoutError("on purpose")] * 200, supervision=eager)
            with pytest.raises(AgentError):
                await rt.run(bad.agent)
            attempts += bad.attempts
        assert attempts == 30 + 10
        assert rt.dead_tasks()[-1].reason == "agent_budget"

        good = Flaky(TimeoutError("one"), TimeoutError("two"))
        config = symbi.AgentConfig(
            name="good", function=good.agent.function, isolation="in_process", supervision=FAST
        )
        assert await rt.run(config, {"value": 1}) == 1


@pytest.mark.asyncio
async def test_a_timeout_of_the_caller_covers_all_attempts(tmp_path: Path) -> None:
    async def hangs(ctx: symbi.AgentContext) -> None:
        await asyncio.Event().wait()

    again = symbi.Supervision(retries=100, backoff_ms=0, retry_on=("limit",))
    agent = symbi.AgentConfig(name="hangs", function=hangs, isolation="in_process", supervision=again)
    async with symbi.Runtime.open(data=tmp_path) as rt:
        with pytest.raises(SymbiTimeoutError):
            await rt.run(await rt.schedule_agent(agent), timeout_s=0.05)


@pytest.mark.parametrize(
    "wrong",
    [
        {"retries": -1},
        {"retries": 101},
        {"retries": True},
        {"backoff_ms": 1_000, "backoff_max_ms": 10},
        {"jitter": "half"},
        {"retry_on": "TimeoutError"},
        {"retry_on": [""]},
        {"restarts": 1_001},
        {"window_s": 0},
        {"window_s": float("nan")},
    ],
)
def test_what_cannot_be_is_refused_where_it_is_written(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong)).split("_", maxsplit=1)[0]):
        symbi.Supervision(**wrong)


@pytest.mark.asyncio
async def test_what_is_never_tried_again_cannot_be_asked_for(tmp_path: Path) -> None:
    asks = symbi.Supervision(retry_on=("over_budget",))
    async with symbi.Runtime.open(data=tmp_path) as rt:
        with pytest.raises(InputError, match="`over_budget` is never tried again"):
            await rt.schedule_agent(Flaky(supervision=asks).agent)


@pytest.mark.asyncio
async def test_the_ranges_of_both_sides_of_the_border_are_the_same(tmp_path: Path) -> None:
    """The kernel takes every supervision at the edge of what Python takes."""
    edges = [
        symbi.Supervision(retries=0, backoff_ms=0, backoff_max_ms=0, restarts=0, window_s=0.001),
        symbi.Supervision(
            retries=100, backoff_ms=3_600_000, backoff_max_ms=3_600_000, restarts=1_000, window_s=86_400
        ),
        symbi.Supervision(retry_on=["x" * 64] * 64, never_retry=["x" * 64] * 64),
    ]
    async with symbi.Runtime.open(data=tmp_path) as rt:
        for edge in edges:
            await rt.schedule_agent(Flaky(supervision=edge).agent)


def test_the_lines_of_a_program_are_not_tried_again() -> None:
    with pytest.raises(InputError, match="retries=0"):
        symbi.AgentConfig(name="p", program=("/bin/true",), supervision=symbi.Supervision())
    symbi.AgentConfig(name="p", program=("/bin/true",), supervision=symbi.Supervision(retries=0, restarts=1))


def test_an_agents_file_may_say_how_it_is_supervised(tmp_path: Path) -> None:
    from symbi.agents.entry import Entry, read

    file = tmp_path / "agent.py"
    file.write_text(
        "import symbi\n@symbi.agent(supervision=symbi.Supervision(retries=5, retry_on=['MyError']))\n"
        "async def main(ctx): ...\n"
    )
    supervision = read(Entry(file, "main")).supervision
    assert supervision == symbi.Supervision(retries=5, retry_on=("MyError",))


@pytest.mark.asyncio
async def test_budgets_of_retries_are_as_large_as_they_were_configured(tmp_path: Path) -> None:
    config = symbi.Config.load(environ={}, overrides={"supervision.agent_retries": 1})
    flaky = Flaky(*[TimeoutError("again")] * 4)
    async with symbi.Runtime.open(config, data=tmp_path) as rt:
        agent = await rt.schedule_agent(flaky.agent)
        with pytest.raises(AgentError):
            await rt.run(agent)
        [dead] = rt.dead_tasks()
        assert (dead.attempts, dead.reason) == (2, "agent_budget")
