"""Threat: a way to an effect on which nobody decides, or on which half a set of policies does.

Each of the five points (an agent is created, a message sent, resources got, a tool called, data touched) is tried three
times: where policy permits it, where it does not, and with the check taken away. The last must let the effect happen, or
the refusal would prove nothing about the check.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import symbi
from symbi._core import Permit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

EFFECTS: list[str] = []
POINTS: dict[str, str] = {
    "create": "agent.create",
    "message": "message.send",
    "resources": "agent.run",
    "tool": "tool.call",
    "data": "data.write",
}


@symbi.tool(name="points.effect", effects="read", risk="low")
async def effect() -> None:
    EFFECTS.append("called")


@symbi.agent(name="points-actor", isolation="in_process", capabilities=["knowledge:write"])
async def actor(ctx: symbi.AgentContext) -> None:
    EFFECTS.append("ran")


@symbi.agent(name="points-other", isolation="in_process")
async def other(ctx: symbi.AgentContext) -> None: ...


async def attempt(rt: symbi.Runtime, point: str) -> bool:
    """Tries the point's operation; whether its effect is there."""
    if point == "create":
        made = await rt.schedule_agent(other)
        return bool(rt.kernel.agent_state(made.id))
    agent = await rt.schedule_agent(actor)
    EFFECTS.clear()
    if point == "message":
        receiver = await rt.schedule_agent(actor)
        await rt.bus.send(agent, receiver, b"x")
        return len(await rt.bus.receive_many(receiver, limit=1)) == 1
    if point == "resources":
        await rt.run(agent)
        return EFFECTS == ["ran"]
    if point == "tool":
        await rt.tools.call(agent, "points.effect", {})
        return EFFECTS == ["called"]
    await rt.dispatcher.call(agent.id, "context.write", {"title": "t", "text": "otters", "readers": ["*"]})
    return True


def policies(tmp_path: Path, *, without: str | None) -> list[str | Path]:
    """Everything, or everything but one action."""
    path = tmp_path / "set.cedar"
    text = '@id("all") permit (principal, action, resource);\n'
    if without is not None:
        about = ' when { resource.name == "points-other" }' if without == "agent.create" else ""
        text += f'@id("closed") forbid (principal, action == Action::"{without}", resource){about};\n'
    path.write_text(text)
    return [path]


def config(tmp_path: Path, *, enforce: bool) -> symbi.Config:
    overrides: dict[str, object] = {"runtime.mode": "development", "security.enforce_policies": enforce}
    return symbi.Config.load(environ={}, overrides=overrides)


@pytest.mark.asyncio
@pytest.mark.parametrize("point", POINTS)
async def test_p1_each_point_is_refused_by_policy_and_by_nothing_else(tmp_path: Path, point: str) -> None:
    """Permitted it happens; refused it does not; with the check taken away it happens again."""
    for without, enforce, happens in (
        (None, True, True),
        (POINTS[point], True, False),
        (POINTS[point], False, True),
    ):
        place = tmp_path / f"{without}-{enforce}"
        place.mkdir()
        async with symbi.Runtime.open(
            config(place, enforce=enforce), data=place / "d", policy=policies(place, without=without)
        ) as rt:
            if happens:
                assert await attempt(rt, point), (point, without, enforce)
                continue
            with pytest.raises(symbi.PolicyDenied):
                await attempt(rt, point)
            assert EFFECTS == [] or point == "create"
        denied = symbi.AuditLog.open(place / "d" / "trail").query(event_type="operation.denied")
        assert [one.details["action"] for one in denied] == [POINTS[point]]
        assert denied[0].details["rules"] == ["closed"]


@pytest.mark.asyncio
async def test_p2_every_effect_has_an_allow_before_it_under_the_policies_that_were_in_force(
    tmp_path: Path,
) -> None:
    async with symbi.Runtime.open(data=tmp_path / "d", policy=policies(tmp_path, without=None)) as rt:
        before = rt.kernel.policy_digest()
        for point in POINTS:
            await attempt(rt, point)
        (tmp_path / "next.cedar").write_text("permit (principal, action, resource) when { true };")
        await rt.load_policies([tmp_path / "next.cedar"])
        after = rt.kernel.policy_digest()
        await attempt(rt, "tool")
    assert before != after
    in_force, allowed, effects = before, dict[str, str](), 0
    for event in symbi.AuditLog.open(tmp_path / "d" / "trail").query():
        if event.event_type in {"operation", "operation.intent"}:
            assert event.decision == "allow"
            assert event.policy == in_force, event.details["action"]
            allowed[str(event.op)] = event.details["action"]
            if event.details["action"] == "policy.change":
                in_force = after
        elif event.event_type == "operation.outcome":
            effects += 1
            assert event.details["action"] == allowed[str(event.op)], "an effect without a decision before it"
    assert effects >= 2


def test_p2_nobody_makes_a_permit() -> None:
    with pytest.raises(TypeError):
        Permit()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        object.__new__(Permit)


BROKEN: list[Callable[[Path], Any]] = [
    lambda path: path.write_text("permit (principal, action, resource"),
    lambda path: path.write_text('permit (principal, action == Action::"tool.cal", resource);'),
    lambda path: path.write_bytes(b"permit (principal, action, resource);\xff"),
    lambda path: path.write_text("(" * 100_000),
    lambda path: path.unlink(),
]


@pytest.mark.asyncio
@pytest.mark.parametrize("breaking", range(len(BROKEN)))
async def test_p3_a_broken_set_is_not_put_in_force_and_the_last_good_one_keeps_deciding(
    tmp_path: Path, breaking: int
) -> None:
    path = tmp_path / "set.cedar"
    async with symbi.Runtime.open(data=tmp_path / "d", policy=policies(tmp_path, without="tool.call")) as rt:
        digest = rt.kernel.policy_digest()
        good = tmp_path / "good.cedar"
        good.write_text("permit (principal, action, resource);")
        BROKEN[breaking](path)
        with pytest.raises(symbi.PolicyError):
            await rt.load_policies([good, path])  # half of it would permit
        assert rt.kernel.policy_digest() == digest
        with pytest.raises(symbi.PolicyDenied):
            await attempt(rt, "tool")
    with pytest.raises(symbi.PolicyError):
        async with symbi.Runtime.open(data=tmp_path / "e", policy=[good, path]):
            pytest.fail("a runtime without its policies must not open")


@pytest.mark.asyncio
async def test_p3_no_decision_comes_from_half_a_set(tmp_path: Path) -> None:
    """Two sets, each of two files, that only together refuse: swapped while calls go on, none gets through."""
    sets = []
    for name in ("one", "two"):
        directory = tmp_path / name
        directory.mkdir()
        # A permit in the file that is read first, the forbid in the one that is read last.
        (directory / "a.cedar").write_text(f'@id("{name}") permit (principal, action, resource);')
        (directory / "z.cedar").write_text(
            f'@id("{name}-z") forbid (principal, action == Action::"tool.call", resource);'
        )
        sets.append(directory)
    async with symbi.Runtime.open(data=tmp_path / "d", policy=sets[0]) as rt:
        agent = await rt.schedule_agent(actor)
        refused = 0

        async def swap() -> None:
            for turn in range(12):
                await rt.load_policies([sets[turn % 2]])

        async def ask(until: Awaitable[None]) -> None:
            nonlocal refused
            swapping = asyncio.ensure_future(until)
            while not swapping.done():
                with pytest.raises(symbi.PolicyDenied):
                    await rt.tools.call(agent, "points.effect", {})
                refused += 1
                await asyncio.sleep(0)
            await swapping

        EFFECTS.clear()
        await ask(swap())
    assert EFFECTS == []
    assert refused >= 12
