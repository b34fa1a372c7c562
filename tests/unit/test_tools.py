"""Tools: what is decided on is what runs, whoever calls and however it ends."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
import symbi
from symbi._core import builtin_policy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

_PERMIT = """
permit (principal, action == Action::"tool.call", resource)
unless { context has call && context.call.hasTag("patient") && context.call.getTag("patient") == "p-forbidden" };
"""

CALLS: list[Any] = []
GATE: dict[str, Any] = {}


@symbi.tool(name="t.sync")
def sync_tool(value: Any) -> str:
    CALLS.append(value)
    return f"thread {threading.current_thread() is threading.main_thread()}"


@symbi.tool(name="t.async")
async def async_tool(value: Any) -> Any:
    CALLS.append(value)
    return value


@symbi.tool(name="t.failing")
def failing_tool(kind: str) -> None:
    raise {"ValueError": ValueError, "TimeoutError": TimeoutError, "AgentError": symbi.AgentError}[kind](
        "secret text"
    )


@symbi.tool(name="t.slow")
async def slow_tool() -> None:
    GATE["running"].set()
    await asyncio.Event().wait()


@symbi.tool(name="t.patient", attributes=["patient"])
async def patient_tool(patient: str) -> str:
    return patient


@symbi.agent(isolation="in_process")
async def caller(ctx: symbi.AgentContext, name: str, arguments: dict[str, Any] | None = None) -> Any:
    return await ctx.tools.call(name, arguments)


@pytest_asyncio.fixture
async def rt(tmp_path: Path) -> AsyncIterator[symbi.Runtime]:
    policies = tmp_path / "policies"
    policies.mkdir()
    (policies / "default.cedar").write_text(builtin_policy("secure-default"))
    (policies / "tools.cedar").write_text(_PERMIT)
    CALLS.clear()
    GATE.clear()
    GATE["running"] = asyncio.Event()
    async with symbi.Runtime.open(data=tmp_path / "d", policy=policies) as opened:
        yield opened


def outcomes(rt: symbi.Runtime) -> list[tuple[str, Any]]:
    """How each tool call ended, by the trail."""
    found = symbi.AuditLog.open(rt.opened["trail"]).query(event_type="operation.outcome")
    return [
        (one.details["outcome"], one.details.get("error"))
        for one in found
        if one.details["action"] == "tool.call"
    ]


@pytest.mark.asyncio
async def test_a_sync_tool_runs_beside_the_loop_and_an_async_one_on_it(rt: symbi.Runtime) -> None:
    assert await rt.run(caller, {"name": "t.sync", "arguments": {"value": 1}}) == "thread False"
    assert await rt.run(caller, {"name": "t.async", "arguments": {"value": [1, {"a": None}]}}) == [
        1,
        {"a": None},
    ]
    assert outcomes(rt) == [("done", None), ("done", None)]  # TC2: on disk before the result was here


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["ValueError", "TimeoutError"])
async def test_a_failing_tool_is_a_tool_error_and_its_text_is_sealed(rt: symbi.Runtime, kind: str) -> None:
    agent = await rt.schedule_agent(caller)
    with pytest.raises(symbi.ToolError, match=f"{kind}: secret text"):
        await rt.tools.call(agent, "t.failing", {"kind": kind})
    assert outcomes(rt) == [("failed", kind)]
    trail = b"".join(file.read_bytes() for file in (rt.data / "trail").glob("*.jsonl"))
    assert b"secret text" not in trail


@pytest.mark.asyncio
async def test_tc1_a_tool_gets_what_was_decided_whatever_the_caller_does_meanwhile(rt: symbi.Runtime) -> None:
    agent, given = await rt.schedule_agent(caller), {"value": {"to": ["alice"]}}
    call = asyncio.create_task(rt.tools.call(agent, "t.async", given))
    await asyncio.sleep(0)  # the call is past the kernel's door, and waits for its intent
    given["value"]["to"].append("mallory")
    assert await call == {"to": ["alice"]}
    assert CALLS == [{"to": ["alice"]}]


@pytest.mark.asyncio
async def test_a_denied_call_never_reaches_the_tool(rt: symbi.Runtime) -> None:
    agent = await rt.schedule_agent(caller)
    assert await rt.tools.call(agent, "t.patient", {"patient": "p-1"}) == "p-1"
    with pytest.raises(symbi.PolicyDenied) as caught:
        await rt.tools.call(agent, "t.patient", {"patient": "p-forbidden"})
    assert caught.value.decision_id
    assert outcomes(rt) == [("done", None)]


@pytest.mark.asyncio
async def test_a_tool_that_does_not_exist_looks_forbidden(rt: symbi.Runtime) -> None:
    agent = await rt.schedule_agent(caller)
    with pytest.raises(symbi.PolicyDenied, match="not allowed"):
        await rt.tools.call(agent, "t.absent")


@pytest.mark.asyncio
@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}])
async def test_arguments_that_are_not_json_are_refused_before_anything_is_decided(
    rt: symbi.Runtime, value: Any
) -> None:
    agent = await rt.schedule_agent(caller)
    with pytest.raises(symbi.InputError, match="cannot pass as JSON"):
        await rt.tools.call(agent, "t.async", {"value": value})
    assert CALLS == []


@pytest.mark.asyncio
async def test_tc3_a_call_cancelled_after_it_began_is_unknown_until_a_person_says(rt: symbi.Runtime) -> None:
    agent = await rt.schedule_agent(caller)
    call = asyncio.create_task(rt.tools.call(agent, "t.slow"))
    await GATE["running"].wait()
    assert rt.kernel.operations_in_flight() == 1
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    del call
    (unknown,) = rt.kernel.unknown_operations()
    assert (unknown["action"], unknown["resource"]) == ("tool.call", 'Tool::"t.slow"')
    assert (await rt.health_check()).component_health["monitor"].level == "yellow"
    rt.kernel.resolve("operator:0", unknown["operation"], False)
    assert rt.kernel.unknown_operations() == []
    assert (await rt.health_check()).component_health["monitor"].level == "green"


@pytest.mark.asyncio
async def test_stopping_an_agent_ends_the_tool_call_it_waits_for(rt: symbi.Runtime) -> None:
    agent = await rt.schedule_agent(caller)
    run = asyncio.create_task(rt.run(agent, {"name": "t.slow"}))
    await GATE["running"].wait()
    assert await rt.stop_agent(agent, force=True)
    with pytest.raises(symbi.AgentError, match="stopped"):
        await run
    assert rt.kernel.operations_in_flight() == 0
    assert len(rt.kernel.unknown_operations()) == 1


@pytest.mark.asyncio
async def test_tg1_a_guarded_function_needs_a_principal() -> None:
    @symbi.guard
    def effect() -> None:
        CALLS.append("ran")

    CALLS.clear()
    with pytest.raises(symbi.PolicyDenied) as caught:
        await effect()
    assert caught.value.code == "no_principal"
    assert CALLS == []


@pytest.mark.asyncio
async def test_tg2_a_guarded_function_acts_for_the_agent_that_runs_and_for_no_other_after_it(
    rt: symbi.Runtime,
) -> None:
    def double(number: int, *, times: int = 2) -> int:
        CALLS.append((number, times))
        return number * times

    guarded = symbi.guard(double)

    @symbi.agent(name="guarding", isolation="in_process")
    async def guarding(number: int) -> int:
        return await guarded(number, times=3)  # type: ignore[no-any-return]

    assert await rt.run(guarding, {"number": 7}) == 21
    with pytest.raises(symbi.PolicyDenied):
        await guarded(1)
    assert CALLS == [(7, 3)]
    handle = await rt.schedule_agent(caller)
    assert await rt.guard(double, agent=handle)(5) == 10
    with pytest.raises(symbi.InputError, match="missing a required argument"):
        await rt.guard(double, agent=handle)()
    intents = symbi.AuditLog.open(rt.opened["trail"]).query(event_type="operation.intent")
    assert [one.agent_id == handle.id for one in intents] == [False, True]


@symbi.tool(name="t.both")
async def both_tool(value: Any) -> Any:
    return [await async_tool(value), sync_tool(value)]


@symbi.agent(isolation="in_process")
async def around(ctx: symbi.AgentContext) -> Any:
    return await async_tool("around the door")


@symbi.agent(isolation="in_process")
async def around_in_a_thread(ctx: symbi.AgentContext) -> Any:
    return await asyncio.to_thread(sync_tool, "around the door")


@pytest.mark.asyncio
@pytest.mark.parametrize("agent", [around, around_in_a_thread])
async def test_td2_an_agent_that_calls_a_tool_as_a_function_is_told_how_it_is_called(
    rt: symbi.Runtime, agent: Any
) -> None:
    CALLS.clear()
    with pytest.raises(symbi.AgentError, match=r"write `await ctx\.tools\.call\("):
        await rt.run(agent)
    assert CALLS == []
    assert await async_tool("the host's own") == "the host's own"


@pytest.mark.asyncio
async def test_td2_within_a_tool_another_one_is_a_function(rt: symbi.Runtime) -> None:
    assert (await rt.run(caller, {"name": "t.both", "arguments": {"value": 7}}))[0] == 7


def test_td1_a_name_has_one_function() -> None:
    with pytest.raises(symbi.InputError, match=r"`t\.sync` already"):

        @symbi.tool(name="t.sync")
        def other() -> None: ...


def test_an_attribute_is_a_parameter() -> None:
    with pytest.raises(symbi.InputError, match="not a parameter"):

        @symbi.tool(name="t.wrong", attributes=["absent"])
        def other(present: str) -> None: ...


@pytest.mark.asyncio
async def test_a_loop_on_a_refused_call_makes_few_records(rt: symbi.Runtime) -> None:
    agent = await rt.schedule_agent(caller)
    for _ in range(500):
        with pytest.raises(symbi.PolicyDenied):
            await rt.tools.call(agent, "t.patient", {"patient": "p-forbidden"})
    await rt.close()  # what was gathered is written
    denied = list(symbi.AuditLog.open(rt.opened["trail"]).query(decision="deny"))
    assert sum(one.details.get("count", 1) for one in denied) == 500, "K5: each of them is in the trail"
    took = denied[-1].timestamp - denied[0].timestamp
    windows = (
        took.total_seconds() + 2
    )  # of a second each, by the trail's own time: a slow machine has more of them
    assert len(denied) <= windows * (2 + math.log2(500)), "K4"


@symbi.tool(name="t.places", attributes={"file": "path", "url": "address", "why": None})
async def places_tool(file: str = "a", url: str = "http://example.org/", why: str = "") -> list[str]:
    return [file, url, why]


_PLACES = """
@id("own-reports")
permit (principal, action == Action::"tool.call", resource == Tool::"t.places")
when { context has call && context.call.hasTag("file") && context.call.getTag("file") like "reports/*" };

@id("not-this-machine")
forbid (principal, action == Action::"tool.call", resource)
when { context has call && context.call.hasTag("url.reach") && context.call.getTag("url.reach") != "public" };
"""


@pytest.mark.asyncio
async def test_paths_and_addresses_are_decided_on_and_called_with_in_one_spelling(tmp_path: Path) -> None:
    """TD3, P4, P5."""
    (tmp_path / "places.cedar").write_text(_PLACES)
    async with symbi.Runtime.open(
        data=tmp_path / "d", policy=["secure-default", tmp_path / "places.cedar"]
    ) as opened:

        async def call(**arguments: str) -> Any:
            return await opened.run(caller, {"name": "t.places", "arguments": arguments})

        assert await call(file="./reports//x", url="HTTPS://Example.ORG./y", why="z") == [
            "reports/x",
            "https://example.org:443/y",
            "z",
        ]
        for url in ("http://0x7f.1/", "http://[::ffff:127.0.0.1]/", "http://169.254.169.254/"):
            with pytest.raises(symbi.PolicyDenied):
                await call(file="reports/x", url=url)
        with pytest.raises(symbi.PolicyDenied):
            await call(file="keys/x")
        for wrong in ({"file": "reports/../keys"}, {"file": "reports/x", "url": "http://a@b/"}):
            with pytest.raises(symbi.SymbiError, match=r"of `t\.places`"):
                await call(**wrong)


def test_an_attribute_of_no_known_kind_is_refused() -> None:
    with pytest.raises(symbi.InputError, match="no kind"):

        @symbi.tool(name="t.kindless", attributes={"a": "url"})  # type: ignore[dict-item]
        async def kindless(a: str) -> str:
            return a
