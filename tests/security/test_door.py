"""Threat: an effect that does not pass the monitor.

The tree is checked for modules that could cause one; and every operation of the one table is driven, and must be found
in the trail with its decision.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import symbi
from symbi.agents.dispatch import Dispatcher
from symbi.context import Passage

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
BOUND_S = 60.0


@symbi.tool(name="door.effect")
async def effect(text: str) -> str:
    return text


@symbi.agent(name="doing", isolation="in_process", capabilities=["knowledge:write"])
async def doing(ctx: symbi.AgentContext) -> None: ...


def test_no_module_but_the_listed_ones_imports_what_causes_effects() -> None:
    tidy = subprocess.run(
        [sys.executable, "ci/tidy.py"], cwd=ROOT, capture_output=True, text=True, timeout=BOUND_S, check=False
    )
    found = [line for line in (tidy.stdout + tidy.stderr).splitlines() if "effect" in line]
    assert found == []


_RECORDS = {
    "bus.send": ("operation", "message.send"),
    "bus.send_many": ("operation", "message.send"),
    "bus.request": ("operation", "message.send"),
    "bus.publish": ("operation", "message.publish"),
    "bus.subscribe": ("operation", "message.subscribe"),
    "tools.call": ("operation.intent", "tool.call"),
    "context.store": ("operation", "data.write"),
    "context.write": ("operation", "data.write"),
    "context.search": ("operation", "data.search"),
    "context.answer": ("operation", "data.search"),
    "log.note": ("agent.note", None),
}
_READS_ONLY_ITS_OWN = {
    *("bus.receive", "bus.missed", "bus.unsubscribe", "bus.ack", "bus.give_back", "labels"),
}
"""What only hands an agent what is already its own, or gives it up: its mailboxes, its labels. Nothing is decided."""


async def _act(rt: symbi.Runtime, operation: str, agent: symbi.AgentHandle) -> None:
    other = await rt.schedule_agent(doing)
    digest = ""
    if operation == "context.store":
        digest = await rt.context.ingest(agent, "t", [Passage("Otters hold hands.", 0, 18)])
    arguments: dict[str, dict[str, Any]] = {
        "bus.send": {"recipient": other.id, "payload": b"x"},
        "bus.send_many": {"messages": [[other.id, b"x"]]},
        "bus.publish": {"topic": "t", "payload": b"x"},
        "bus.subscribe": {"pattern": "t.*"},
        "bus.request": {"recipient": other.id, "payload": b"x", "timeout_s": 0},
        "tools.call": {"name": "door.effect", "arguments": {"text": "x"}},
        "context.store": {"content": digest, "readers": ["*"]},
        "context.write": {"title": "t", "text": "x", "readers": ["*"]},
        "context.search": {"text": "otters"},
        "context.answer": {"question": "otters?"},
        "log.note": {"text": "x"},
    }
    try:
        await rt.dispatcher.call(agent.id, operation, arguments[operation])
    except symbi.SymbiTimeoutError:
        assert operation == "bus.request"


def test_every_operation_of_the_table_is_accounted_for_here() -> None:
    table = Dispatcher(None, None, None)._table  # type: ignore[arg-type]
    assert set(table) == set(_RECORDS) | _READS_ONLY_ITS_OWN


@pytest.mark.asyncio
@pytest.mark.parametrize("operation", sorted(_RECORDS))
async def test_each_operation_is_in_the_trail_with_its_decision(tmp_path: Path, operation: str) -> None:
    policy = tmp_path / "door.cedar"
    policy.write_text('permit (principal, action == Action::"tool.call", resource == Tool::"door.effect");')
    async with symbi.Runtime.open(data=tmp_path / "d", policy=["secure-default", policy]) as rt:
        agent = await rt.schedule_agent(doing)
        await _act(rt, operation, agent)
    kind, action = _RECORDS[operation]
    log = symbi.AuditLog.open(tmp_path / "d" / "trail")
    log.verify()
    found = [
        one
        for one in log.query(event_type=kind, agent_id=agent.id)
        if action is None or one.details["action"] == action
    ]
    assert found, [(one.event_type, one.details.get("action")) for one in log.query()]
    if action is not None:
        assert found[0].decision == "allow"
        assert found[0].policy == log.query(event_type="log.created")[0].details["policy"]


@pytest.mark.asyncio
@pytest.mark.parametrize("operation", sorted(set(_RECORDS) - {"log.note"}))
async def test_dp2_each_operation_is_refused_where_policy_refuses_it_and_the_refusal_is_recorded(
    tmp_path: Path, operation: str
) -> None:
    action = _RECORDS[operation][1]
    policy = tmp_path / "closed.cedar"
    policy.write_text(f'@id("closed") forbid (principal is Agent, action == Action::"{action}", resource);')
    async with symbi.Runtime.open(data=tmp_path / "d", policy=["secure-default", policy]) as rt:
        agent = await rt.schedule_agent(doing)
        with pytest.raises(symbi.PolicyDenied) as caught:
            await _act(rt, operation, agent)
        denied = symbi.AuditLog.open(rt.opened["trail"]).query(
            event_type="operation.denied", agent_id=agent.id
        )
        assert [one.details["decision_id"] for one in denied] == [caught.value.decision_id]
        assert denied[0].details["rules"] == ["closed"] or operation == "tools.call"


@pytest.mark.asyncio
async def test_dp2_a_refusal_told_to_the_host_is_on_disk(tmp_path: Path) -> None:
    policy = tmp_path / "closed.cedar"
    policy.write_text("forbid (principal is Agent, action, resource);")
    async with symbi.Runtime.open(data=tmp_path / "d", policy=["secure-default", policy]) as rt:
        agent = await rt.schedule_agent(doing)
        other = await rt.schedule_agent(doing)
        for ask in (
            lambda: rt.context.ingest(agent, "t", [Passage("Otters hold hands.", 0, 18)]),
            lambda: rt.bus.send_many(agent, [(other, b"x")]),
            lambda: rt.tools.call(agent, "door.effect", {"text": "x"}),
        ):
            with pytest.raises(symbi.PolicyDenied) as caught:
                await ask()
            denied = symbi.AuditLog.open(rt.opened["trail"]).query(event_type="operation.denied")
            assert denied[-1].details["decision_id"] == caught.value.decision_id


@pytest.mark.parametrize(
    "act",
    [
        lambda kernel: kernel.begin_tool_call("host", "door.effect", b"{}"),
        lambda kernel: kernel.begin_sandbox("host", b"{}", tier="docker", network=True, writable=True),
        lambda kernel: kernel.load_policies("host", [("x", "")], []),
        lambda kernel: kernel.resolve("host", "6f0c2f51-94a7-4c6e-8b1f-1f3f0c1f7c55", True),
    ],
    ids=["tool.call", "sandbox.start", "policy.change", "operation.resolve"],
)
@pytest.mark.asyncio
async def test_the_host_itself_passes_the_door(tmp_path: Path, act: Callable[[Any], Any]) -> None:
    async with symbi.Runtime.open(data=tmp_path) as rt:
        with pytest.raises((symbi.PolicyDenied, symbi.InputError)):
            act(rt.kernel)


@pytest.mark.asyncio
async def test_a_permit_is_used_once(tmp_path: Path) -> None:
    policy = tmp_path / "door.cedar"
    policy.write_text('permit (principal, action == Action::"tool.call", resource == Tool::"door.effect");')
    async with symbi.Runtime.open(data=tmp_path / "d", policy=["secure-default", policy]) as rt:
        agent = await rt.schedule_agent(doing)
        rt.tools.register(effect)
        permit = rt.kernel.begin_tool_call(agent.id, "door.effect", b'{"text":"x"}')
        await rt.bridge.durable(permit.intent_seq)
        permit.take()
        with pytest.raises(symbi.PermitError):
            permit.take()
        permit.settle("done")
        with pytest.raises(symbi.PermitError):
            permit.settle("done")
