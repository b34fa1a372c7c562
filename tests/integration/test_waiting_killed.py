"""The story: an operation waits for a person, the runtime is killed, the person agrees, and it happens once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from symbi.cli.main import main
from symbi.operators import make_token

if TYPE_CHECKING:
    from pathlib import Path

BOUND_S = 60.0

_WORK = """
import asyncio, os, sys, symbi

@symbi.agent(name="sender", isolation="in_process", capabilities=["knowledge:write"])
async def sender(ctx):
    if sys.argv[3] == "message.send":
        return await ctx.bus.send("reader", b"hello")
    return await ctx.context.write("title", "words", readers=["reader"])

@symbi.agent(name="reader", isolation="in_process")
async def reader(ctx):
    return None

@symbi.agent(name="housed", tier="degraded")
async def housed(ctx):
    return None

async def work(rt):
    if sys.argv[3] == "agent.run":
        return await rt.run_many([(await rt.schedule_agent(sender), None)])
    return await rt.run(housed if sys.argv[3] == "sandbox.start" else sender)

async def main():
    async with symbi.Runtime.open(data=sys.argv[1], policy=[sys.argv[2]], mode="development") as rt:
        await rt.schedule_agent(reader)
        run = asyncio.ensure_future(work(rt))
        while not run.done() and not rt.approvals.list():
            await asyncio.sleep(0)
        if not run.done() and rt.approvals.list()[0].state == "waiting":
            await rt.bridge.durable(rt.approvals.list()[0].seq)
            os.write(1, b"waits\\n")
        await run
        os.write(1, b"done\\n")

if __name__ == "__main__":
    asyncio.run(main())
"""

_RULES = """
permit (principal, action, resource) unless { action == Action::"%s" && !(resource is Collection) };
@id("ask") @obligation("approval") permit (principal, action == Action::"%s", resource);
"""


@pytest.mark.parametrize("action", ["message.send", "data.write", "agent.run", "sandbox.start"])
def test_k105_what_waited_when_the_runtime_was_killed_happens_once_a_person_agrees(
    tmp_path: Path, action: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, script, rules = tmp_path / "d", tmp_path / "work.py", tmp_path / "ask.cedar"
    script.write_text(_WORK)
    if action == "data.write":
        rules.write_text(_RULES.replace("resource);", "resource is Document);") % (action, action))
    else:
        rules.write_text(_RULES % (action, action))
    data.joinpath("keys").mkdir(parents=True, mode=0o700)
    token = str(make_token(data))
    command = [sys.executable, str(script), str(data), str(rules), action]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"waits\n"
        os.kill(process.pid, signal.SIGKILL)
    monkeypatch.setenv("SYMBI_OPERATOR_TOKEN", token)
    assert main(["approvals", "list", "--data", str(data)]) == 0
    listed = capsys.readouterr().out
    assert action in listed
    (waiting,) = [line.split()[0] for line in listed.splitlines() if "waiting" in line]
    assert main(["approvals", "approve", waiting, "--data", str(data)]) == 0
    capsys.readouterr()
    again = subprocess.run(command, capture_output=True, timeout=BOUND_S, check=True)
    assert again.stdout == b"done\n", "nobody is asked a second time"
    assert main(["approvals", "list", "--json", "--data", str(data)]) == 0
    assert capsys.readouterr().out.strip() == "[]"
