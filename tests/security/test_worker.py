"""Threat: what runs in a sandbox speaks the worker's language itself, and lies.

The agent's file takes the pipe over while it is imported: from then on every line is the attacker's. Whatever it sends,
it acts for nobody but itself, ends nothing but itself, and the runtime goes on.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
import symbi

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from symbi.sandbox.base import SecurityTier

BOUND_S = 60.0

_HOSTILE = '''
import json, os, stat, sys, time

def pipe():
    """The descriptor on which the worker answers: the one that is not a standard one."""
    for descriptor in range(3, 64):
        try:
            mode = os.fstat(descriptor).st_mode
        except OSError:
            continue
        if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode):
            return descriptor
    return 1

OUT = pipe()

def say(message):
    line = message if isinstance(message, bytes) else json.dumps(message).encode()
    data = line + b"\\n"
    while data:
        data = data[os.write(OUT, data):]

LINES = os.fdopen(0, "rb", closefd=False)

def hear():
    line = LINES.readline()
    if not line:
        os._exit(0)
    return json.loads(line)

def ask(operation, arguments, **more):
    say({"type": "call", "id": 1, "operation": operation, "arguments": arguments, **more})
    return hear()

say({"type": "ready", "version": 2, "declares": None})
run = hear()
given = run["input"]
mode = given["mode"]
if mode == "raw":
    say(given["line"].encode("latin-1"))
    time.sleep(60)
if mode == "long":
    say(b'{"type":"call","id":1,"operation":"log.note","arguments":{"text":"' + b"x" * (1 << 20) + b'"}}')
    time.sleep(60)
if mode == "endless":
    while True:
        os.write(OUT, b"x" * 65536)
if mode == "forge":
    for other in given["runs"]:
        say({"type": "result", "run": other, "value": "forged"})
    say({"type": "result", "run": run["run"], "value": "mine"})
    say({"type": "result", "run": run["run"], "value": "mine again"})
    say({"type": "failed", "run": run["run"], "kind": "X", "message": "and failed"})
    time.sleep(60)
if mode == "ask":
    answers = []
    for operation, arguments in json.loads(given["calls"]):
        answers.append(ask(operation, arguments, agent=given["victim"], by="host", principal="operator:0"))
    say({"type": "result", "run": run["run"], "value": answers})
    time.sleep(60)
if mode == "flood":
    for number in range(given["count"]):
        say({"type": "call", "id": number, "operation": "labels", "arguments": {}})
    seen = [hear()["id"] for _ in range(given["count"])]
    say({"type": "result", "run": run["run"], "value": [len(seen), len(set(seen))]})
    time.sleep(60)
if mode == "ready-again":
    say({"type": "ready", "version": 2, "declares": {"name": "another"}})
    say({"type": "broken", "kind": "X", "message": "late"})
    say({"type": "result", "run": run["run"], "value": "ok"})
    time.sleep(60)
'''


@symbi.agent(name="victim", isolation="in_process")
async def victim(ctx: symbi.AgentContext) -> str:
    await _GATE["open"].wait()
    return "untouched"


_GATE: dict[str, asyncio.Event] = {}


class Attack:
    """A runtime with a victim in it, and a way to send a hostile agent against it."""

    def __init__(self, rt: symbi.Runtime, file: Path, tier: str) -> None:
        self.rt = rt
        self.tier = tier
        function = _unimported(file)
        self.config = symbi.AgentConfig(name="hostile", function=function, tier=tier)

    async def send(self, **given: Any) -> Any:
        return await asyncio.wait_for(self.rt.run(self.config, given, timeout_s=30), BOUND_S)

    def records(self, **query: Any) -> list[symbi.AuditEvent]:
        return list(symbi.AuditLog.open(self.rt.opened["trail"]).query(**query))


def _unimported(file: Path) -> Any:
    """A function that says it stands in this file: what the host has of an agent that it did import."""
    space: dict[str, Any] = {}
    exec(compile("async def hostile(**given): ...", str(file), "exec"), space)  # noqa: S102
    return space["hostile"]


@pytest_asyncio.fixture
async def attack(tmp_path: Path, tier: SecurityTier) -> AsyncIterator[Attack]:
    file = tmp_path / "hostile.py"
    file.write_text(_HOSTILE)
    _GATE["open"] = asyncio.Event()
    async with symbi.Runtime.open(data=tmp_path / "d") as rt:
        agent = await rt.schedule_agent(victim)
        run = asyncio.create_task(rt.run(agent))
        made = Attack(rt, file, str(tier))
        yield made
        _GATE["open"].set()
        assert await run == "untouched"
        health = await rt.health_check()
        assert health.overall_status == "green", health
    assert symbi.AuditLog.open(tmp_path / "d" / "trail").verify().records > 5


_RAW = {
    "no-json": "this is none of yours",
    "empty": "",
    "array": "[1, 2]",
    "twice": '{"type": "call", "id": 1, "id": 2, "operation": "labels", "arguments": {}}',
    "deep": '{"type": "call", "arguments": ' + "[" * 5000 + "]" * 5000 + "}",
    "not-utf8": '{"type": "\xff"}',
    "nan": '{"type": "call", "id": 1, "operation": "bus.receive", "arguments": {"timeout_s": NaN}}',
    "surrogate": '{"type": "call", "id": 1, "operation": "log.note", "arguments": {"text": "\\ud800"}}',
    "unknown-type": '{"type": "command", "command": "stop.all"}',
    "no-type": "{}",
    "huge-number": '{"type": "call", "id": ' + "9" * 5000 + "}",
}


@pytest.mark.asyncio
async def test_a_line_that_is_none_of_ours_ends_its_worker_and_nobody_else(attack: Attack) -> None:
    # Reading lines is the same code in every tier; a container starts sooner.
    chosen = _RAW if attack.tier == "docker" else {name: _RAW[name] for name in ("twice", "unknown-type")}
    for name, line in chosen.items():
        with pytest.raises(symbi.AgentError) as caught:
            await attack.send(mode="raw", line=line)
        assert caught.value.kind == "protocol", (name, str(caught.value))


@pytest.mark.asyncio
@pytest.mark.parametrize("mode", ["long", "endless"])
async def test_a_line_without_end_ends_its_worker(attack: Attack, mode: str) -> None:
    with pytest.raises(symbi.SymbiError) as caught:
        await attack.send(mode=mode)
    assert not isinstance(caught.value, symbi.SymbiTimeoutError)
    assert caught.value.code in ("sandbox", "sandbox.limit", "agent.failed"), caught.value


@pytest.mark.asyncio
async def test_se2_results_of_other_runs_are_not_heard_and_a_second_result_is_none(attack: Attack) -> None:
    others = [str(row["run"]) for row in attack.rt.kernel.list_agents() if row["run"]]
    assert len(others) == 1
    value = await attack.send(mode="forge", runs=[*others, "", "00000000-0000-4000-8000-000000000000"])
    assert value == "mine"


@pytest.mark.asyncio
async def test_whatever_id_it_claims_it_acts_for_itself_and_gets_errors_for_the_rest(attack: Attack) -> None:
    (row,) = [one for one in attack.rt.kernel.list_agents() if one["name"] == "victim"]
    calls = [
        ["bus.send", {"recipient": "victim", "payload": {"$bytes": "aGk="}, "sender": row["id"]}],
        ["agents.stop", {"agent": row["id"], "force": True}],
        ["stop.all", {}],
        ["policy.load", {"paths": []}],
        ["__class__", {}],
        ["bus.send", "no object"],
        ["bus.send", {"recipient": ["victim"], "payload": "text"}],
        ["bus.receive", {"limit": -1}],
        ["bus.receive", {"limit": 1e18}],
        ["bus.receive", {"limit": 1, "timeout_s": -1}],
        ["bus.request", {"recipient": "victim", "payload": {"$bytes": ""}, "timeout_s": 0}],
        ["tools.call", {"name": "absent", "arguments": [], "parts": []}],
        ["tools.call", {"name": "absent", "arguments": {}, "parts": ["text"]}],
        ["tools.call", {"name": 7}],
        ["context.store", {"content": "0" * 64, "readers": ["*"]}],
        ["context.write", {"title": "t", "text": "t", "readers": "all"}],
        ["context.search", {"text": "x" * 100_000, "limit": 1 << 40}],
        ["log.note", {"text": "n" * 5_000}],
        ["labels", {}],
    ]
    answers = await attack.send(mode="ask", victim=row["id"], calls=json.dumps(calls))
    told = [answer["error"]["code"] if "error" in answer else "ok" for answer in answers]
    names = [str(call[0]) for call in calls]
    assert told[0] == "ok", answers[0]
    assert told[-1] == "ok"
    for name, code, answer in zip(names[1:-1], told[1:-1], answers[1:-1], strict=True):
        assert name == "context.search" or code != "ok", (name, answer)
        assert code != "symbi", (name, answer)  # each is a refusal of ours, none an accident
    hostile = {one.agent_id for one in attack.records() if one.details.get("name") == "hostile"}
    sent = [
        one for one in attack.records(event_type="operation") if one.details.get("action") == "message.send"
    ]
    assert sent
    assert {one.agent_id for one in sent} == hostile  # SE: the pipe is the identity
    assert attack.rt.kernel.agent_state(row["id"]) == "running"


@pytest.mark.asyncio
async def test_se1_a_flood_of_calls_is_answered_once_each(attack: Attack) -> None:
    assert await attack.send(mode="flood", count=2_000) == [2_000, 2_000]


_REMEMBERING = """
import asyncio, symbi
SEEN = []

@symbi.agent(name="remembering")
async def remembering(ctx, word: str, wait: bool = False) -> list:
    SEEN.append(word)
    if wait:
        await asyncio.Event().wait()
    return SEEN
"""


@pytest.mark.asyncio
async def test_se3_a_worker_whose_run_timed_out_hands_its_memory_to_nobody(
    attack: Attack, tmp_path: Path
) -> None:
    file = tmp_path / "remembering.py"
    file.write_text(_REMEMBERING)
    config = symbi.AgentConfig(name="remembering", entry=(str(file), "remembering"), tier=attack.tier)
    agent = await attack.rt.schedule_agent(config)
    assert await attack.rt.run(agent, {"word": "one"}) == ["one"]
    with pytest.raises(symbi.SymbiTimeoutError):
        await attack.rt.run(agent, {"word": "secret", "wait": True}, timeout_s=0.3)
    assert attack.rt.kernel.agent_state(agent.id) == "ready"
    assert await attack.rt.run(agent, {"word": "two"}) == ["two"]


@pytest.mark.asyncio
async def test_a_second_ready_changes_nothing(attack: Attack) -> None:
    assert await attack.send(mode="ready-again") == "ok"


def test_the_channel_has_no_word_for_what_only_operators_do() -> None:
    from symbi.agents.dispatch import Dispatcher

    table = Dispatcher(None, None, None)._table  # type: ignore[arg-type]
    assert not [
        name for name in table if name.split(".")[0] in ("agents", "policy", "approvals", "stop", "operation")
    ]
    assert json.dumps(sorted(table))
