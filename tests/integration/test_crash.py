"""The story: power goes, or somebody kills the runtime, at any moment.

Every record that was acknowledged is there, the chain verifies, what was under way is unknown until a person says, and
no container outlives the next opening. A short number of moments in every run; `SYMBI_LONG=1` tries many.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import symbi

if TYPE_CHECKING:
    from pathlib import Path

LONG = os.environ.get("SYMBI_LONG", "") not in ("", "0")
MOMENTS = 60 if LONG else 8
MOMENTS_DOCKER = 12 if LONG else 2
BOUND_S = 60.0

_WORK = """
import asyncio, os, sys, pathlib, symbi

@symbi.tool(name="crash.note")
async def note(number: int) -> int:
    with open(sys.argv[2], "ab", buffering=0) as effects:  # what happened outside
        effects.write(b"%d\\n" % number)
    if os.environ.get("DIE_IN_THE_ACT"):
        os.kill(os.getpid(), 9)
    await asyncio.sleep(0.001)
    return number

@symbi.agent(name="worker", isolation="in_process")
async def worker(ctx, start, step):
    number = start
    while True:
        await ctx.tools.call("crash.note", {"number": number})
        os.write(1, b"ack %d\\n" % number)
        number += step

async def main():
    data, policies = pathlib.Path(sys.argv[1]), sys.argv[3]
    async with symbi.Runtime.open(data=data, policy=["secure-default", policies]) as rt:
        os.write(1, b"open\\n")
        if len(sys.argv) > 4:
            boxed = symbi.AgentConfig(name="boxed", entry=(sys.argv[4], "boxed"), tier="docker")
            handle = await rt.schedule_agent(boxed)
            os.write(1, b"boxed\\n")
            asyncio.ensure_future(rt.run(handle))
        agents = [await rt.schedule_agent(worker) for _ in range(4)]
        await asyncio.gather(*(rt.run(agent, {"start": n, "step": 4}) for n, agent in enumerate(agents)))

asyncio.run(main())
"""

_BOXED = """
import asyncio, symbi

@symbi.agent(name="boxed")
async def boxed(ctx) -> None:
    while True:
        await ctx.log.note("still here")
        await asyncio.sleep(0.01)
"""

_POLICY = 'permit (principal, action == Action::"tool.call", resource == Tool::"crash.note");'


class Crash:
    """One data directory, killed again and again."""

    def __init__(self, directory: Path) -> None:
        self.data, self.effects = directory / "d", directory / "effects"
        self.script, self.policy, self.boxed = (
            directory / "work.py",
            directory / "crash.cedar",
            directory / "boxed.py",
        )
        self.script.write_text(_WORK)
        self.policy.write_text(_POLICY)
        self.boxed.write_text(_BOXED)
        self.effects.touch()

    def kill_after(
        self, acknowledged: int, *, boxed: bool = False, die_in_the_act: bool = False
    ) -> list[int]:
        """Runs until so many acknowledgements were heard, kills, and answers which were."""
        more = [str(self.boxed)] if boxed else []
        command = [
            sys.executable,
            str(self.script),
            str(self.data),
            str(self.effects),
            str(self.policy),
            *more,
        ]
        heard: list[int] = []
        environment = {**os.environ, "DIE_IN_THE_ACT": "1"} if die_in_the_act else None
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith(b"ack "):
                    heard.append(int(line[4:]))
                if len(heard) >= acknowledged and (heard or line == b"open\n" or acknowledged < 0):
                    break
            process.kill()
            rest, errors = process.communicate(timeout=BOUND_S)
            assert process.returncode == -signal.SIGKILL, errors.decode()
            heard += [int(line[4:]) for line in rest.splitlines() if line.startswith(b"ack ") and line[4:]]
        return heard

    def verify(self, heard: int) -> dict[str, list[str]]:
        """The trail holds; answers the operations by how they ended."""
        log = symbi.AuditLog.open(self.data / "trail")
        log.verify()
        ended: dict[str, list[str]] = {"done": [], "open": []}
        last: dict[str, str] = {}
        for event in log.query():
            if event.event_type == "operation.intent" and event.details["action"] == "tool.call":
                last[str(event.op)] = "open"
            elif event.event_type in ("operation.outcome", "operation.resolved") and str(event.op) in last:
                last[str(event.op)] = str(event.details["outcome"])
        for operation, outcome in last.items():
            ended.setdefault(outcome, []).append(operation)
        assert len(ended["done"]) >= heard  # every acknowledged one has its outcome
        return ended


def _seed() -> int:
    return int(os.environ.get("SYMBI_SEED", "0")) or random.SystemRandom().randrange(1 << 32)


def test_what_was_acknowledged_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    seed = _seed()
    print(f"SYMBI_SEED={seed}")
    moments = random.Random(seed)  # noqa: S311 - moments, not keys
    crash, heard = Crash(tmp_path), 0
    for _ in range(MOMENTS):
        heard += len(crash.kill_after(moments.randrange(0, 120)))
        ended = crash.verify(heard)
        # An effect without an intent on disk before it would be the worst: more effects than intents.
        effects = len(crash.effects.read_bytes().splitlines())
        assert effects <= sum(len(operations) for operations in ended.values())
        assert effects >= len(ended["done"])
    unknown = asyncio.run(_unknown(crash.data))
    assert {row["operation"] for row in unknown} == set(crash.verify(heard)["open"])
    assert all(row["action"] == "tool.call" for row in unknown)


async def _unknown(data: Path) -> list[dict[str, Any]]:
    async with symbi.Runtime.open(data=data) as rt:
        rows = rt.kernel.unknown_operations()
        assert rt.opened["unknown"] == len(rows)
        assert (await rt.get_system_status()).operations_unknown == len(rows)
        return rows


def test_a_person_settles_what_a_crash_left_unknown_once_and_for_all(tmp_path: Path) -> None:
    crash = Crash(tmp_path)
    crash.kill_after(1, die_in_the_act=True)
    assert crash.effects.read_bytes()  # it did happen, and nobody recorded how it ended
    assert asyncio.run(_unknown(crash.data))

    async def settle() -> None:
        async with symbi.Runtime.open(data=crash.data) as rt:
            for row in rt.kernel.unknown_operations():
                await rt.bridge.durable(rt.kernel.resolve("operator:0", row["operation"], True))
            assert rt.kernel.unknown_operations() == []

    asyncio.run(settle())
    assert asyncio.run(_unknown(crash.data)) == []


def _containers(data: Path) -> list[str]:
    listed = subprocess.run(
        ["docker", "ps", "-a", "--no-trunc", "--format", "{{json .}}"],
        capture_output=True,
        check=True,
        timeout=BOUND_S,
    )
    rows = [json.loads(line) for line in listed.stdout.splitlines()]
    mine = [row["ID"] for row in rows if "symbi" in row["Labels"]]
    details = subprocess.run(["docker", "inspect", *mine], capture_output=True, check=False, timeout=BOUND_S)
    return [one["Id"] for one in json.loads(details.stdout or b"[]") if str(data.parent) in json.dumps(one)]


@pytest.mark.docker
def test_no_container_outlives_the_next_opening(tmp_path: Path) -> None:
    crash, heard = Crash(tmp_path), 0
    for moment in range(MOMENTS_DOCKER):
        heard += len(crash.kill_after(10 + 40 * moment, boxed=True))
        asyncio.run(_reopen_with_a_sandbox(crash))
        assert _containers(crash.data) == []
        crash.verify(heard)


@pytest.mark.docker
def test_an_opening_that_starts_no_sandbox_still_reaps_what_was_left(tmp_path: Path) -> None:
    crash = Crash(tmp_path)
    crash.kill_after(30, boxed=True)
    assert (crash.data / "sandboxed").exists()

    async def reopen() -> None:
        async with symbi.Runtime.open(data=crash.data):
            assert await asyncio.to_thread(_containers, crash.data) == []

    asyncio.run(reopen())
    assert not (crash.data / "sandboxed").exists()


async def _reopen_with_a_sandbox(crash: Crash) -> None:
    async with symbi.Runtime.open(data=crash.data) as rt:
        agent = symbi.AgentConfig(name="boxed", entry=(str(crash.boxed), "boxed"), tier="docker")
        handle = await rt.schedule_agent(agent)
        assert (
            len(await asyncio.to_thread(_containers, crash.data)) == 1
        )  # so that to find none later means something
        with pytest.raises(symbi.SymbiTimeoutError):
            await rt.run(handle, timeout_s=0.2)
