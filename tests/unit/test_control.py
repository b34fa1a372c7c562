"""The control socket's pieces: token, peers, answers, and what `ask` makes of them."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import symbi
from symbi.control import _descends, act, ask, socket_path
from symbi.operators import check_token, make_token

if TYPE_CHECKING:
    from pathlib import Path

BOUND_S = 20.0


@symbi.agent(isolation="in_process")
async def idle() -> None: ...


def test_the_token_is_made_once_and_only_its_digest_is_kept(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    token = make_token(tmp_path)
    assert token is not None
    assert make_token(tmp_path) is None
    (file,) = (tmp_path / "keys").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert token not in file.read_text()
    check_token(tmp_path, token)


@pytest.mark.asyncio
async def test_the_socket_is_closed_to_others_whatever_the_umask_and_the_umask_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The umask is the whole process's: two runtimes that open in two threads would leave each other's behind."""
    before = os.umask(0)
    try:
        with monkeypatch.context() as held:
            held.delattr(os, "umask")
            async with symbi.Runtime.open(data=tmp_path, mode="development") as rt:
                assert socket_path(rt.data).stat().st_mode & 0o777 == 0o600
    finally:
        assert os.umask(before) == 0


@pytest.mark.parametrize("token", ["", " ", "wrong", "ü" * 40])
def test_ot1_a_wrong_token_is_refused(tmp_path: Path, token: str) -> None:
    (tmp_path / "keys").mkdir()
    with pytest.raises(symbi.PolicyDenied):
        check_token(tmp_path, token)  # none was made
    make_token(tmp_path)
    what_to_do = "symbi approvals operators list" if token else "SYMBI_OPERATOR_TOKEN"
    with pytest.raises(symbi.PolicyDenied, match=what_to_do):
        check_token(tmp_path, token)


def test_cs1_a_process_descends_from_itself_and_its_parents_and_nobody_else() -> None:
    assert _descends(os.getpid(), os.getpid())
    assert _descends(os.getpid(), os.getppid())
    assert not _descends(os.getppid(), os.getpid())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert _descends(child.pid, os.getpid())
        child.communicate(b"\n")
    assert _descends(child.pid, os.getppid())  # gone: unreadable means yes
    assert _descends(0, os.getpid())  # of a process namespace that is not seen from here


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("request_", "match"),
    [
        ({}, "`None` is not a command"),
        ({"command": ["status"]}, "not a command"),
        ({"command": "agents.stop"}, "no agent `None`"),
        ({"command": "agents.stop", "agent": "absent"}, "no agent `absent`"),
        ({"command": "agents.stop", "agent": "absent", "grace_s": "soon"}, "number of seconds"),
        ({"command": "agents.show", "agent": "absent"}, "no agent `absent`"),
        ({"command": "agents.why"}, "no agent `None`"),
        ({"command": "policy.load"}, "list of texts"),
        ({"command": "policy.load", "paths": "abc"}, "list of texts"),
    ],
)
async def test_what_is_no_request_is_an_input_error(
    tmp_path: Path, request_: dict[str, Any], match: str
) -> None:
    async with symbi.Runtime.open(data=tmp_path) as rt:
        with pytest.raises(symbi.InputError, match=match):
            await act(rt, "operator:0", request_)


@pytest.mark.asyncio
async def test_a_list_of_many_agents_is_answered_whole(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path) as rt:
        handles = await asyncio.gather(*(rt.schedule_agent(idle) for _ in range(4000)))
        listed = await _from_outside(tmp_path, {"command": "agents.list"})
        assert len(listed["value"]) == len(handles)  # more than a mebibyte of them


@pytest.mark.asyncio
async def test_op1_a_verb_acts_on_every_agent_of_the_name_and_says_of_each_what_became_of_it(
    tmp_path: Path,
) -> None:
    begun = asyncio.Event()

    async def waits(ctx: symbi.AgentContext) -> None:
        begun.set()
        await ctx.bus.receive(timeout_s=BOUND_S)

    config = symbi.AgentConfig(name="waits", function=waits, isolation="in_process")
    async with symbi.Runtime.open(data=tmp_path) as rt:
        busy, ready = await rt.schedule_agent(config), await rt.schedule_agent(config)
        run = asyncio.create_task(rt.run(busy))
        await asyncio.wait_for(begun.wait(), BOUND_S)

        async def ask(verb: str, agent: str = "waits", **more: Any) -> dict[str, dict[str, Any]]:
            rows = await act(rt, "operator:0", {"command": f"agents.{verb}", "agent": agent, **more})
            return {row["id"]: row for row in rows}

        held = await ask("suspend")
        assert held[busy.id]["standing"]
        assert held[ready.id]["error"]["code"] == "lifecycle.illegal"
        shown = await ask("show", busy.id[:8])  # the first group of an id is enough
        assert shown[busy.id]["state"] == "suspended"
        assert [one["state"] for one in shown[busy.id]["runs"]] == ["suspended"]
        assert (await ask("why"))[busy.id]["state"] == "suspended"
        run_id = shown[busy.id]["runs"][0]["run"]
        assert (await ask("why", run_id))[busy.id]["run"] == run_id
        goes_on = await ask("resume")
        assert goes_on[busy.id]["state"] == "running"
        assert "error" in goes_on[ready.id]
        assert (await ask("stop", ready.id, grace_s=1))[ready.id]["terminated"]
        assert not (await ask("stop", grace_s=1000))[busy.id]["terminated"]
        assert (await ask("stop", force=True))[busy.id]["terminated"]
        with pytest.raises(symbi.AgentError, match="stopped"):
            await run


@pytest.mark.asyncio
@pytest.mark.parametrize("token", [None, 7, "", "wrong"])
async def test_cs2_resolving_needs_the_token_before_anything_is_looked_at(tmp_path: Path, token: Any) -> None:
    async with symbi.Runtime.open(data=tmp_path) as rt:
        request = {
            "command": "approvals.resolve",
            "operation": "absent",
            "resolution": "maybe",
            "token": token,
        }
        with pytest.raises(symbi.PolicyDenied):
            await act(rt, "operator:0", request)


@pytest.mark.asyncio
async def test_a_stop_by_name_ends_every_instance_and_the_trail_names_the_operator(tmp_path: Path) -> None:
    async with symbi.Runtime.open(data=tmp_path) as rt:
        for _ in range(3):
            await rt.schedule_agent(idle)
        rows = await act(rt, "operator:7", {"command": "agents.stop", "agent": "idle"})
        assert [row["terminated"] for row in rows] == [True] * 3
        brakes = list(symbi.AuditLog.open(rt.opened["trail"]).query(event_type="brake"))
    assert {one.details["principal"] for one in brakes} == {"operator:7"}


def test_without_a_runtime_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(symbi.RuntimeClosedError, match="no runtime is running"):
        ask(tmp_path, {"command": "status"})
    with pytest.raises(symbi.RuntimeClosedError, match="no runtime is running"):
        ask(tmp_path / "absent", {"command": "status"})


_OUTSIDE = """
import json, os, pathlib, sys, time
parent = os.getpid()
if os.fork():
    os._exit(0)
while os.getppid() == parent:  # until it belongs to nobody here
    time.sleep(0.001)
from symbi.control import ask
from symbi.errors import SymbiError
try:
    answer = {"value": ask(pathlib.Path(sys.argv[1]), json.loads(sys.argv[2]))}
except SymbiError as error:
    answer = {"class": type(error).__name__, "text": str(error)}
print(json.dumps(answer), flush=True)
"""


async def _from_outside(data: Path, request: object) -> dict[str, Any]:
    """Asks as another terminal would: by a process that is no descendant of this one."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _OUTSIDE, str(data), json.dumps(request), stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(child.communicate(), BOUND_S)
    answer: dict[str, Any] = json.loads(out)
    return answer


@pytest.mark.asyncio
async def test_a_child_of_the_runtime_is_told_that_it_may_not(tmp_path: Path) -> None:
    """CS1: refused before a byte is read, and yet it hears why."""
    async with symbi.Runtime.open(data=tmp_path / "d"):
        inside = _OUTSIDE.replace("if os.fork():", "if False:").replace("os.getppid() == parent", "False")
        for size in (1, 1 << 19):  # what is still being sent, too
            child = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                inside.replace("json.loads(sys.argv[2])", f'{{"command": "x" * {size}}}'),
                str(tmp_path / "d"),
                stdout=asyncio.subprocess.PIPE,
            )
            out, _ = await asyncio.wait_for(child.communicate(), BOUND_S)
            assert json.loads(out)["text"] == "the control socket is not for this process"


@pytest.mark.asyncio
async def test_a_person_in_another_terminal_is_answered(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)  # longer than a socket's path may be
    async with symbi.Runtime.open(data=deep) as rt:
        agent = await rt.schedule_agent(idle)
        listed = await _from_outside(deep, {"command": "agents.list"})
        assert [row["id"] for row in listed["value"]] == [agent.id]
        assert (await _from_outside(deep, {"command": "status"}))["value"]["agents"] == 1
        assert (await _from_outside(deep, {"command": "health"}))["value"]["overall_status"] == "green"
        assert (await _from_outside(deep, {"command": "approvals.list"}))["value"] == []
        refused = await _from_outside(deep, {"command": "approvals.resolve", "token": "wrong"})
        assert refused["class"] == "PolicyDenied"
        assert (await _from_outside(deep, [1]))["class"] == "InputError"
        assert (await _from_outside(deep, {"command": "stop.all"}))["value"] == {"stopped": 1}
        assert rt.kernel.agent_state(agent.id) is None
    assert not socket_path(deep).exists()
