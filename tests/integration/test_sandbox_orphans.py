"""kill -9 of a runtime: what ran inside ends with it, and what could not is removed at the next open.

A neighbour's sandboxes stay: on a shared daemon, removing what is not ours would be an attack.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from symbi.sandbox.base import SecurityTier
from symbi.sandbox.docker import DockerBackend
from symbi.sandbox.engine import Engine
from symbi.sandbox.reaper import Owner

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from symbi.sandbox.base import SandboxSpec

    SpecMaker = Callable[..., SandboxSpec]

SLEEPER = "import sys\nfor line in sys.stdin: pass"  # ends when its stdin ends

# A runtime in small: starts three sandboxes in the home it is given, pauses one, halts one, says which, and waits to be
# killed.
HOST = """
import asyncio, json, sys
from pathlib import Path
from symbi.sandbox.base import spec_from_bytes, spec_to_bytes
from symbi.sandbox.docker import DockerBackend
from symbi.sandbox.reaper import Owner
import dataclasses

async def main():
    owner = Owner.current(Path(sys.argv[1]))
    backend = DockerBackend(owner)
    spec = dataclasses.replace(spec_from_bytes(sys.argv[2].encode()), instance=owner.instance)
    running, paused, halted = [await backend.start(spec) for _ in range(3)]
    await paused.pause()
    await halted.halt()
    print(json.dumps([one.facts.container for one in (running, paused, halted)]), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def states(engine: Engine, ids: list[str]) -> dict[str, str]:
    """Each container's state; `gone` when it is no more."""
    found = await engine.call("list", lambda client: client.containers(all=True))
    known = {item["Id"]: item["State"] for item in found}
    return {identity: known.get(identity, "gone") for identity in ids}


def killed_host(home: Path, spec: SandboxSpec) -> list[str]:
    """Run `HOST` until it said its three containers, then kill -9."""
    from symbi.sandbox.base import spec_to_bytes

    process = subprocess.Popen(
        [sys.executable, "-c", HOST, str(home), spec_to_bytes(spec).decode()], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        with process.stdout:
            return list(json.loads(process.stdout.readline()))
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.asyncio
async def test_a_killed_runtime_leaves_no_sandbox_after_the_next_open(
    python_spec: SpecMaker, tier: SecurityTier, data_directory: Path
) -> None:
    """Q1: the running one ends by itself within moments, the frozen ones at the next open of the same home."""
    engine = Engine()
    spec = python_spec(tier, SLEEPER)
    running, paused, halted = await asyncio.to_thread(killed_host, data_directory, spec)
    async with asyncio.timeout(10):
        await engine.call("wait", lambda client: client.wait(running, timeout=10))
    assert (await states(engine, [paused]))[paused] == "paused"
    backend = DockerBackend(Owner.current(data_directory))
    reaped = await backend.open()
    assert {running, paused, halted} <= set(reaped)
    async with asyncio.timeout(10):  # the daemon may be about to remove one that ended by itself
        while "removing" in (left := await states(engine, [running, paused, halted])).values():
            pass
    assert set(left.values()) == {"gone"}
    await backend.close()
    engine.close()


@pytest.mark.docker
@pytest.mark.asyncio
async def test_another_homes_open_reaps_the_dead_and_leaves_the_living(
    python_spec: SpecMaker, tmp_path: Path, backend: DockerBackend
) -> None:
    """Q1, Q2: the dead process's containers go whoever opens next; a living neighbour's stay."""
    living = await backend.start(python_spec(SecurityTier.DOCKER, SLEEPER))
    dead = await asyncio.to_thread(killed_host, tmp_path / "dead", python_spec(SecurityTier.DOCKER, SLEEPER))
    neighbour = DockerBackend(Owner.current(tmp_path / "another"))
    reaped = await neighbour.open()
    assert set(dead) <= set(reaped)
    assert living.facts.container not in reaped
    assert (await states(backend._engine, [living.facts.container]))[living.facts.container] == "running"
    await neighbour.close()
