"""Operations that wait for persons, at the runtime's face, over the control socket and at the command line."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any

import pytest
import symbi
from symbi.cli import approvals
from symbi.cli.main import main
from symbi.control import act
from symbi.operators import change_operator, check_token, make_token

if TYPE_CHECKING:
    from pathlib import Path

ASK = """
permit (principal, action, resource) unless { action == Action::"tool.call" };
@id("ask") @obligation("approval")
permit (principal, action == Action::"tool.call", resource);
"""
done: list[dict[str, Any]] = []


@symbi.tool(name="approvals.pay", attributes=["to"])
def pay(to: str, amount: int) -> str:
    done.append({"to": to, "amount": amount})
    return f"paid {amount} to {to}"


@symbi.agent(name="payer", isolation="in_process")
async def payer(ctx: symbi.AgentContext, wait_s: float | None = None) -> str:
    arguments = {"to": "ann", "amount": 900}
    return str(await ctx.tools.call("approvals.pay", arguments, approval_timeout_s=wait_s))


class Scene:
    """A runtime whose tool calls need a person; the token is made before, so that the test has it."""

    def __init__(self, data: Path, policy: str = ASK) -> None:
        data.joinpath("keys").mkdir(parents=True, mode=0o700)
        self.data = data
        self.token = str(make_token(data))
        self.policy = data.parent / "ask.cedar"
        self.policy.write_text(policy)
        done.clear()

    def open(self) -> symbi.Runtime:
        return symbi.Runtime.open(data=self.data, policy=self.policy)


async def waiting(rt: symbi.Runtime, count: int = 1) -> list[Any]:
    """The approvals, once there are so many: each turn of the loop looks again."""
    for _ in range(100_000):
        if len(found := rt.approvals.list()) >= count:
            return found
        await asyncio.sleep(0)
    raise AssertionError("nobody asked")


@pytest.mark.asyncio
async def test_tc6_ap1_a_call_waits_for_a_person_and_then_happens(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "d")
    async with scene.open() as rt:
        run = asyncio.create_task(rt.run(payer))
        (one,) = await waiting(rt)
        assert (one.action, one.resource, one.rules) == ("tool.call", 'Tool::"approvals.pay"', ("ask",))
        assert one.arguments["arguments"] == {"to": "ann", "amount": 900}
        assert not done
        with pytest.raises(symbi.PolicyDenied, match="token"):
            await rt.approvals.approve(one.id, token="wrong")
        await rt.approvals.approve(one.id, token=scene.token)
        assert await run == "paid 900 to ann"
        assert done == [{"to": "ann", "amount": 900}]
        assert rt.approvals.list() == []


@pytest.mark.asyncio
async def test_tc6_other_arguments_by_a_person_are_what_happens(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "d")
    async with scene.open() as rt:
        run = asyncio.create_task(rt.run(payer))
        (one,) = await waiting(rt)
        await rt.approvals.modify(one.id, {"to": "ann", "amount": 90}, token=scene.token)
        assert await run == "paid 90 to ann"
    assert done == [{"to": "ann", "amount": 90}]


@pytest.mark.asyncio
async def test_ap2_a_no_and_a_wait_that_is_over_are_refusals_that_name_the_operation(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "d")
    async with scene.open() as rt:
        agent = await rt.schedule_agent(payer)
        with pytest.raises(symbi.PolicyDenied) as refused:
            await rt.run(agent, {"wait_s": 0})
        assert refused.value.code == "needs_approval"
        assert refused.value.approval == rt.approvals.list()[0].id
        assert any("symbi approvals approve" in note for note in refused.value.__notes__)
        with pytest.raises(symbi.PolicyDenied, match="person") as refused:
            await rt.run(agent, {"wait_s": 0.01})
        assert refused.value.code == "needs_approval"
        run = asyncio.create_task(rt.run(agent))
        (one,) = await waiting(rt)
        await rt.approvals.deny(one.id, token=scene.token)
        with pytest.raises(symbi.PolicyDenied, match="said no") as refused:
            await run
        assert refused.value.code == "denied"
        with pytest.raises(symbi.PolicyDenied, match="said no"):
            await rt.run(agent)
    assert not done


@pytest.mark.asyncio
async def test_a_run_that_is_cancelled_waits_no_more(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "d")
    async with scene.open() as rt:
        run = asyncio.create_task(rt.run(payer))
        (one,) = await waiting(rt)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        await rt.approvals.approve(one.id, token=scene.token)
    assert not done


@pytest.mark.asyncio
async def test_ot2_two_persons_each_with_a_token_of_their_own(tmp_path: Path) -> None:
    rule = ASK.replace(
        '@obligation("approval")', '@obligation("approval") @approvals("2") @approvers("ann, bob")'
    )
    scene = Scene(tmp_path / "d", rule)
    me = f"operator:{os.getuid()}"
    async with scene.open() as rt:
        tokens = {name: await change_operator(rt, me, name, added=True) for name in ("ann", "bob", "eve")}
        assert check_token(scene.data, tokens["bob"]) == "bob"
        run = asyncio.create_task(rt.run(payer))
        (one,) = await waiting(rt)
        for token, match in ((scene.token, "other persons"), (tokens["eve"], "other persons")):
            with pytest.raises(symbi.PolicyDenied, match=match):
                await rt.approvals.approve(one.id, token=token)
        await rt.approvals.approve(one.id, token=tokens["ann"])
        with pytest.raises(symbi.InputError, match="already"):
            await rt.approvals.approve(one.id, token=tokens["ann"])
        await change_operator(rt, me, "ann", added=False)
        with pytest.raises(symbi.PolicyDenied):
            check_token(scene.data, tokens["ann"])
        await rt.approvals.approve(one.id, token=tokens["bob"])
        assert await run == "paid 900 to ann"
        for name in ("operator", "../x", "a b", "", "bob"):
            with pytest.raises(symbi.InputError):
                await change_operator(rt, me, name, added=True)


@pytest.mark.asyncio
async def test_it_waits_across_a_restart_and_is_approved_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    scene = Scene(tmp_path / "d")
    async with scene.open() as rt:
        with pytest.raises(symbi.PolicyDenied):
            await rt.run(payer, {"wait_s": 0})
    monkeypatch.setenv("SYMBI_OPERATOR_TOKEN", scene.token)
    data = ["--data", str(scene.data)]

    def say(*words: str) -> str:
        assert main([*words, *data]) == 0
        return capsys.readouterr().out

    listed = await asyncio.to_thread(say, "approvals", "list", "--json")
    (row,) = json.loads(listed)
    assert (row["state"], row["action"]) == ("waiting", "tool.call")
    told = await asyncio.to_thread(say, "explain", row["operation"])
    assert "needs_approval" in told
    assert "rule `ask`" in told
    shown = await asyncio.to_thread(say, "approvals", "show", row["operation"][:8])
    assert '"amount": 900' in shown
    assert "1 of any operator" in shown
    assert row["operation"] in await asyncio.to_thread(say, "approvals", "approve", row["operation"])
    async with scene.open() as rt:
        assert await rt.run(payer, {"wait_s": 0}) == "paid 900 to ann"
        with pytest.raises(symbi.PolicyDenied):
            await rt.run(payer, {"wait_s": 0})  # once


def test_what_a_person_is_to_agree_to_cannot_turn_the_text_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {
        "operation": "6f0c2f51-94a7-4c6e-8b1f-1f3f0c1f7c55",
        "state": "waiting",
        "action": "tool.call",
        "principal": "agent:1",
        "resource": 'Tool::"bank.pay"',
        "rules": ["ask"],
        "labels": [],
        "asked_us": 0,
        "expires_us": 0,
        "count": 1,
        "approvers": [],
        "votes": [],
        "arguments": {"arguments": {"to": "\u202emallory\u2066", "amount": 900}},
    }
    monkeypatch.setattr(approvals, "_ask", lambda *_: row)
    assert main(["approvals", "show", "6f0c2f51", "--data", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert '"to": "?mallory?",\n' in shown
    assert shown.splitlines()[-1] == "}", "line by line, as it was written"


@pytest.mark.asyncio
async def test_de1_over_the_socket_every_word_needs_a_token(tmp_path: Path) -> None:
    scene = Scene(tmp_path / "d")
    me = f"operator:{os.getuid()}"
    async with scene.open() as rt:
        with pytest.raises(symbi.PolicyDenied):
            await rt.run(payer, {"wait_s": 0})
        (row,) = await act(rt, me, {"command": "approvals.list"})
        for request in (
            {"command": "approvals.approve"},
            {"command": "approvals.approve", "arguments": {}},
            {"command": "approvals.deny"},
            {"command": "approvals.operators", "verb": "add", "name": "x"},
        ):
            with pytest.raises(symbi.PolicyDenied, match="token"):
                await act(rt, me, {**request, "operation": row["operation"]})
        with pytest.raises(symbi.InputError, match="approvals list"):
            await act(rt, me, {"command": "approvals.deny", "operation": "absent", "token": scene.token})
        answer = await act(
            rt, me, {"command": "approvals.deny", "operation": row["operation"][:9], "token": scene.token}
        )
        assert answer["operation"] == row["operation"]


@pytest.mark.asyncio
async def test_no1_a_notice_reaches_whoever_handles_it(tmp_path: Path) -> None:
    rule = ASK.replace('"approval"', '"notify"').replace("@id", '@notify("security") @id')
    scene = Scene(tmp_path / "d", rule)
    told: list[Any] = []
    async with scene.open() as rt:
        rt.notices.handle(told.append)
        await rt.run(payer)
        for _ in range(10_000):
            if told:
                break
            await asyncio.sleep(0)
    assert (told[0].channels, told[0].action, told[0].rules) == (("security",), "tool.call", ("ask",))
