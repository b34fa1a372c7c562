"""Operations other than tool calls that wait for persons: messages, documents, agents, runs, policies, labels."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import symbi
from symbi.operators import make_token

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

SECOND = "operator:4242"


def asking(*actions: str) -> str:
    """Everything is allowed, and these need a person."""
    named = ", ".join(f'Action::"{one}"' for one in actions)
    return f"""
    @id("rest") permit (principal, action, resource) unless {{ action in [{named}] }};
    @id("ask") @obligation("approval") permit (principal, action in [{named}], resource)
        unless {{ action == Action::"data.write" && resource is Collection }};
    @id("inbox") permit (principal, action == Action::"data.write", resource is Collection);
    """


@symbi.agent(name="writer", isolation="in_process", capabilities=["knowledge:write"])
async def writer(ctx: symbi.AgentContext, what: str, wait_s: float | None = None) -> str:
    if what == "send":
        return await ctx.bus.send("reader", b"all of it", approval_timeout_s=wait_s)
    if what == "publish":
        return await ctx.bus.publish("news", b"all of it", approval_timeout_s=wait_s)
    if what == "write":
        return await ctx.context.write(
            "title", "otters swim", readers=["reader", "eve"], approval_timeout_s=wait_s
        )
    if what == "send_many":
        return ",".join(await ctx.bus.send_many([("reader", b"one"), ("reader", b"two"), ("reader", b"one")]))
    return what


@symbi.agent(name="reader", isolation="in_process", capabilities=["knowledge:write"])
async def reader(ctx: symbi.AgentContext) -> list[str]:
    return [message.payload.decode() for message in await ctx.bus.receive()]  # type: ignore[union-attr]


class Scene:
    """A runtime under `asking`; its agents are made before anybody is asked."""

    def __init__(self, tmp_path: Path, *actions: str) -> None:
        self.data, self.policy = tmp_path / "d", tmp_path / "ask.cedar"
        self.data.joinpath("keys").mkdir(parents=True, mode=0o700)
        self.token = str(make_token(self.data))
        self.open_policy = tmp_path / "open.cedar"
        self.open_policy.write_text("permit (principal, action, resource);")
        self.policy.write_text(asking(*actions))

    def open(self) -> symbi.Runtime:
        return symbi.Runtime.open(data=self.data, policy=self.open_policy)

    async def begin(self, rt: symbi.Runtime) -> tuple[symbi.AgentHandle, symbi.AgentHandle]:
        agents = await rt.schedule_agents([writer, reader])
        await rt.load_policies([self.policy])
        return agents[0], agents[1]

    async def waiting(self, rt: symbi.Runtime) -> Any:
        for _ in range(100_000):
            if found := [one for one in rt.approvals.list() if one.state == "waiting"]:
                return found[0]
            await asyncio.sleep(0)
        raise AssertionError("nobody asked")

    async def agree(self, rt: symbi.Runtime, wanted: dict[str, Any] | None = None) -> Any:
        one = await self.waiting(rt)
        if wanted is None:
            await rt.approvals.approve(one.id, token=self.token, by=SECOND)
        else:
            await rt.approvals.modify(one.id, wanted, token=self.token, by=SECOND)
        return one


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("what", "action", "shown"),
    [
        ("send", "message.send", {"text": "all of it"}),
        ("publish", "message.publish", {"text": "all of it"}),
        (
            "write",
            "data.write",
            {"passages": ["otters swim"], "readers": ["reader", "eve"], "title": "title"},
        ),
    ],
)
async def test_dp4_what_an_agent_does_waits_for_a_person_and_then_happens(
    tmp_path: Path, what: str, action: str, shown: dict[str, Any]
) -> None:
    scene = Scene(tmp_path, action)
    async with scene.open() as rt:
        agent, _ = await scene.begin(rt)
        with pytest.raises(symbi.PolicyDenied) as refused:
            await rt.run(agent, {"what": what, "wait_s": 0})
        assert refused.value.code == "needs_approval"
        run = asyncio.create_task(rt.run(agent, {"what": what}))
        one = await scene.agree(rt)
        assert (one.id, one.action, one.arguments) == (refused.value.approval, action, shown)
        assert len(await run) == 36, "an id"
        assert rt.approvals.list() == []


@pytest.mark.asyncio
async def test_ap3_a_person_changes_what_is_said_and_who_reads(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "message.send", "data.write")
    async with scene.open() as rt:
        agent, other = await scene.begin(rt)
        run = asyncio.create_task(rt.run(agent, {"what": "send"}))
        await scene.agree(rt, {"text": "a part of it"})
        await run
        assert await rt.run(other) == ["a part of it"]
        run = asyncio.create_task(rt.run(agent, {"what": "write"}))
        with pytest.raises(symbi.InputError, match="readers"):
            await rt.approvals.modify(
                (await scene.waiting(rt)).id, {"text": "x"}, token=scene.token, by=SECOND
            )
        await scene.agree(rt, {"readers": ["reader"]})
        await run
        assert [hit.text for hit in await rt.context.search_knowledge(other, "otters")] == ["otters swim"]


@pytest.mark.asyncio
async def test_dp4_many_messages_wait_each_for_a_person_and_none_goes_before_all_may(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "message.send")
    async with scene.open() as rt:
        agent, other = await scene.begin(rt)
        run = asyncio.create_task(rt.run(agent, {"what": "send_many"}))
        for _ in range(3):
            assert await rt.run(other) == []
            await scene.agree(rt)
        await run
        assert await rt.run(other) == ["one", "two", "one"]


@pytest.mark.asyncio
async def test_ap3_the_host_waits_for_agents_runs_and_labels(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "agent.create", "agent.run", "label.declassify")
    async with scene.open() as rt:
        agent, _ = await scene.begin(rt)
        made = asyncio.create_task(rt.schedule_agents([reader, reader]))
        assert (await scene.agree(rt)).arguments["count"] == 2
        assert len(await made) == 2
        with pytest.raises(symbi.PolicyDenied) as refused:
            await rt.run(agent, {"what": "first"}, approval_timeout_s=0)
        assert refused.value.code == "needs_approval"
        run = asyncio.create_task(rt.run(agent, {"what": "first"}, labels=["phi"]))
        assert (await scene.agree(rt, {"what": "second"})).arguments == {"what": "first"}
        assert await run == "second"
        taken = asyncio.create_task(rt.declassify(agent, ["phi"]))
        await scene.agree(rt)
        assert await taken == frozenset()


@pytest.mark.asyncio
async def test_tg3_of_many_runs_each_waits_for_a_person_and_the_others_do_not(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "agent.run")
    scene.policy.write_text(
        """
        @id("rest") permit (principal, action, resource)
            unless { action == Action::"agent.run" && resource == Agent::"writer" };
        @id("ask") @obligation("approval") permit (principal, action == Action::"agent.run", resource == Agent::"writer");
        """
    )
    async with scene.open() as rt:
        agent, other = await scene.begin(rt)
        tasks = [(agent, {"what": "one"}), (other, None), (agent, {"what": "two"}), (agent, {"what": "one"})]
        runs = asyncio.create_task(rt.run_many(tasks))
        given = [
            (await scene.agree(rt)).arguments["what"],
            (await scene.agree(rt, {"what": "2"})).arguments["what"],
        ]
        given.append((await scene.agree(rt)).arguments["what"])
        assert sorted(given) == ["one", "one", "two"], "each of them is asked about, those that are alike too"
        assert await runs == ["one", [], "2", "one"]
        assert rt.approvals.list() == []


@pytest.mark.asyncio
async def test_tg1_many_runs_of_which_one_is_denied_by_a_person_end_together(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "agent.run")
    async with scene.open() as rt:
        agent, _ = await scene.begin(rt)
        tasks = [(agent, {"what": "one"}), (agent, {"what": "two"})]
        with pytest.raises(symbi.PolicyDenied) as refused:
            await rt.run_many(tasks, approval_timeout_s=0)
        assert refused.value.code == "needs_approval", "who does not want to wait is told at once"
        runs = asyncio.create_task(rt.run_many(tasks))
        await rt.approvals.deny((await scene.waiting(rt)).id, token=scene.token, by=SECOND)
        with pytest.raises(symbi.PolicyDenied, match="said no"):
            await runs
        answers = asyncio.create_task(rt.run_many(tasks, return_exceptions=True))
        await scene.agree(rt)
        first, second = await answers
        assert isinstance(first, symbi.PolicyDenied), "a no holds until its time is over"
        assert second == "two"
        assert rt.runs.active == {}


@pytest.mark.asyncio
async def test_dp4_a_no_is_what_who_waits_is_told(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "agent.run", "message.send")
    async with scene.open() as rt:
        agent, _ = await scene.begin(rt)
        run = asyncio.create_task(rt.run(agent, {"what": "send"}))
        await scene.agree(rt)
        one = await scene.waiting(rt)
        await rt.approvals.deny(one.id, token=scene.token, by=SECOND)
        with pytest.raises(symbi.PolicyDenied, match="said no") as refused:
            await run
        assert (refused.value.code, refused.value.approval) == ("denied", one.id)


async def _register(rt: symbi.Runtime, by: str) -> object:
    return await rt.register_policy(
        '@id("more") forbid (principal, action, resource == Tool::"x");', "more", by=by
    )


async def _load(rt: symbi.Runtime, by: str) -> object:
    return await rt.load_policies(["secure-default"], by=by)


@pytest.mark.asyncio
@pytest.mark.parametrize("change", [_register, _load])
async def test_po3_an_operators_change_of_policy_waits_for_another_operator(
    tmp_path: Path, change: Callable[[symbi.Runtime, str], Awaitable[object]]
) -> None:
    scene = Scene(tmp_path, "policy.change")
    async with scene.open() as rt:
        await scene.begin(rt)
        before = rt.kernel.policy_digest()
        changed = asyncio.ensure_future(change(rt, "operator:7"))
        one = await scene.waiting(rt)
        with pytest.raises(symbi.PolicyDenied, match="cannot approve"):
            await rt.approvals.approve(one.id, token=scene.token, by="operator:7")
        assert [source["name"] for source in one.arguments["sources"]]
        assert rt.kernel.policy_digest() == before
        await rt.approvals.approve(one.id, token=scene.token, by=SECOND)
        await changed
        assert rt.kernel.policy_digest() != before


@pytest.mark.asyncio
async def test_po3_other_changes_are_not_held_up_by_one_that_waits(tmp_path: Path) -> None:
    scene = Scene(tmp_path, "policy.change")
    async with scene.open() as rt:
        await scene.begin(rt)
        first = asyncio.create_task(_register(rt, "operator:7"))
        one = await scene.waiting(rt)
        second = asyncio.create_task(_load(rt, "operator:8"))
        while len(rt.approvals.list()) < 2:  # noqa: ASYNC110 - nobody rings here
            await asyncio.sleep(0)
        other = next(row for row in rt.approvals.list() if row.id != one.id)
        await rt.approvals.approve(other.id, token=scene.token, by=SECOND)
        await second
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first


@pytest.mark.asyncio
async def test_k176_a_run_that_has_spent_its_time_is_ended_with_a_stable_code(tmp_path: Path) -> None:
    tmp_path.joinpath("p").mkdir()
    tmp_path.joinpath("p", "open.cedar").write_text("permit (principal, action, resource);")
    tmp_path.joinpath("p", "time.counters.toml").write_text(
        '[budgets.time]\naction = "agent.run"\nmeasure = "time_ms"\nwindow_s = 3600\nrun = 40\nagent = 100\n'
    )

    @symbi.agent(name="slow", isolation="in_process")
    async def slow(ctx: symbi.AgentContext) -> None:
        await asyncio.Event().wait()

    async with symbi.Runtime.open(data=tmp_path / "d", policy=tmp_path / "p") as rt:
        agent = await rt.schedule_agent(slow)
        refusals = []
        for _ in range(10):
            with pytest.raises(symbi.PolicyDenied) as refused:
                await rt.run(agent)
            assert refused.value.code == "over_budget"
            refusals.append(str(refused.value))
            if "time_agent" in refusals[-1]:
                break
        assert "has spent what its budgets of time left it, 40 ms" in refusals[0]
        assert refusals[-1] == "the budget `time_agent` is spent", "refused before it began"
    finished = symbi.AuditLog.open(tmp_path / "d" / "trail").query(event_type="run.finished")
    assert [one.details["error"] for one in finished] == ["over_budget"] * len(finished)
    assert sum(one.details["used"]["time_ms"] for one in finished) >= 100
