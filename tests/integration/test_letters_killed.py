"""Dead letters of durable messages after kill -9: listed, read, put back and thrown away by the next runtime (K240, K241)."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import symbi
from symbi.control import act

if TYPE_CHECKING:
    from pathlib import Path

OPERATOR = f"operator:{os.getuid()}"
BOUND_S = 20

GIVES_UP = """
import asyncio, os, signal, sys, symbi

@symbi.agent(name="quiet", isolation="in_process")
async def quiet(): ...

async def main():
    overrides = {"runtime.mode": "development", "runtime.message_attempts": 1, "runtime.message_backoff_ms": 1}
    async with symbi.Runtime.open(symbi.Config.load(None, overrides=overrides), data=sys.argv[1]) as rt:
        config = lambda name: symbi.AgentConfig(name=name, function=quiet.function, isolation="in_process")
        alice, bob = await rt.schedule_agent(config("alice")), await rt.schedule_agent(config("bob"))
        for payload in (b"poison", b"waste"):
            await rt.bus.send(alice, bob, payload, durable=True)
            (message,) = await rt.bus.receive_many(bob, timeout_s=20)
            await rt.bus.nack(bob, message)
        rt.kernel.pass_deliveries()
        assert len(rt.bus.dead_letters()) == 2
        await rt.bus.send(alice, bob, b"on disk after what died before", durable=True)
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


@symbi.agent(name="quiet", isolation="in_process")
async def quiet() -> None: ...


def _agent(name: str) -> symbi.AgentConfig:
    return symbi.AgentConfig(name=name, function=quiet.function, isolation="in_process")


@pytest.mark.asyncio
async def test_what_was_given_up_before_kill_9_is_settled_by_the_next_runtime(tmp_path: Path) -> None:
    data = tmp_path / "data"
    command = [sys.executable, "-c", GIVES_UP, str(data)]
    killed = await asyncio.to_thread(subprocess.run, command, check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    async with symbi.Runtime.open(data=data, mode="development") as rt:
        rows = (await act(rt, OPERATOR, {"command": "letters.list"}))["letters"]
        assert [(row["sender_name"], row["recipient_name"], row["recipient"]) for row in rows] == [
            ("alice", "bob", None)
        ] * 2
        poison, waste = (row["id"] for row in rows)
        assert [row["reason"] for row in rows] == ["attempts"] * 2
        (gone,) = await act(rt, OPERATOR, {"command": "letters.discard", "letter": waste})
        assert "error" not in gone
        bob = await rt.schedule_agent(_agent("bob"))
        (kept,) = await rt.bus.receive_many(bob, timeout_s=BOUND_S)
        assert kept.payload == b"on disk after what died before"
        await rt.bus.ack(bob, kept)
        (back,) = await act(rt, OPERATOR, {"command": "letters.retry", "letter": poison[:8]})
        assert "error" not in back
        (message,) = await rt.bus.receive_many(bob, timeout_s=BOUND_S)
        assert (message.id, message.payload, message.attempt) == (poison, b"poison", 1)
    async with symbi.Runtime.open(data=data, mode="development") as rt:
        assert rt.bus.dead_letters() == []
        bob = await rt.schedule_agent(_agent("bob"))
        (message,) = await rt.bus.receive_many(bob, timeout_s=BOUND_S)
        assert message.payload == b"poison", "put back, and not acknowledged before the end"
