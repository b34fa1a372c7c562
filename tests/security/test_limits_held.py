"""Every limit in every place an agent can run: it holds, seen from the host with a real sandbox, or it is refused by its
name when it is asked for. And what policy makes of an agent that comes near one.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio
import symbi
from symbi.audit import AuditLog
from symbi.errors import InputError, SandboxError, SandboxLimitError, SymbiTimeoutError
from symbi.limits import ResourceLimits
from symbi.sandbox.base import Mount, SandboxSpec, SecurityTier
from symbi.sandbox.degraded import DegradedBackend
from symbi.sandbox.docker import DockerBackend
from symbi.sandbox.interpreter import interpreter_mounts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from symbi.sandbox.base import Backend, Sandbox
    from symbi.sandbox.reaper import Owner

BOUND_S = 60.0
TIERS = [
    pytest.param(SecurityTier.DOCKER, marks=pytest.mark.docker, id="docker"),
    pytest.param(SecurityTier.GVISOR, marks=pytest.mark.gvisor, id="gvisor"),
    pytest.param(SecurityTier.DEGRADED, id="degraded"),
]

# A limit of each kind, and what each place says to it.
ASKED: dict[str, dict[str, Any]] = {
    "memory_mb": {"memory_mb": 96},
    "cpu_cores": {"cpu_cores": 0.25},
    "whole cpu_cores": {"cpu_cores": 1},
    "disk_io_mbps": {"disk_io_mbps": 8},
    "network_io_mbps": {"network_io_mbps": 5},
    "no network_io_mbps": {"network_io_mbps": 0},
    "connections": {"connections": 3},
    "execution_timeout_s": {"execution_timeout_s": 1.0},
}
CONTAINER = {
    "memory_mb": "held",
    "cpu_cores": "held",
    "whole cpu_cores": "held",
    "disk_io_mbps": "held",
    "network_io_mbps": "refused",
    "no network_io_mbps": "held",
    "connections": "refused",
    "execution_timeout_s": "held",
}
EXPECTED: dict[SecurityTier, dict[str, str]] = {
    SecurityTier.DOCKER: CONTAINER,
    SecurityTier.GVISOR: CONTAINER,
    SecurityTier.DEGRADED: {**CONTAINER, "cpu_cores": "refused", "disk_io_mbps": "refused"},
}

MEMORY = """
blocks = []
try:
    while len(blocks) < 1024: blocks.append(b'x' * (1 << 20))
except MemoryError: pass
print(len(blocks), flush=True)
"""
PROCESSOR = """
import threading
def burn():
    while True: pass
for _ in range(3): threading.Thread(target=burn, daemon=True).start()
burn()
"""
READ = "import sys; sys.stdin.readline(); print(len(open('/data', 'rb').read()), flush=True)"
CONNECT = """
import socket
try: socket.socket().connect(('1.1.1.1', 53)); print('connected', flush=True)
except OSError: print('refused', flush=True)
"""
FOREVER = "while True: pass"


@pytest_asyncio.fixture
async def backends(owner: Owner, data_directory: Path) -> AsyncIterator[Callable[[SecurityTier], Backend]]:
    """What serves each tier, ended with the test."""
    made: list[Backend] = []

    def serve(tier: SecurityTier) -> Backend:
        backend: Backend = (
            DegradedBackend()
            if tier is SecurityTier.DEGRADED
            else DockerBackend(owner, protected=(str(data_directory),))
        )
        made.append(backend)
        return backend

    yield serve
    for backend in made:
        await backend.close()


def spec_of(
    owner: Owner, tier: SecurityTier, code: str, limits: ResourceLimits, mounts: tuple[Mount, ...] = ()
) -> SandboxSpec:
    return SandboxSpec(
        tier=tier,
        argv=(os.path.realpath(sys.executable), "-I", "-S", "-c", code),
        agent="agent-of-a-test",
        instance=owner.instance,
        mounts=(*(Mount(str(path.resolve()), str(path)) for path in interpreter_mounts()), *mounts),
        limits=limits,
    )


async def line_of(sandbox: Sandbox) -> bytes:
    async with asyncio.timeout(BOUND_S):
        return await sandbox.receive() or b""


async def memory_holds(sandbox: Sandbox) -> None:
    """It gets no further than its limit: killed (a container), or refused what it asks for (the degraded tier)."""
    if sandbox.spec.tier is SecurityTier.DEGRADED:
        assert int(await line_of(sandbox)) < 96
        return
    with pytest.raises(SandboxLimitError) as caught:
        await line_of(sandbox)
    assert caught.value.limit == "memory_mb"
    assert (sandbox.usage().memory_peak_bytes or 0) <= 96 << 20


async def processor_holds(sandbox: Sandbox) -> None:
    """Four threads burn; by the host's count they get no more than their share, and wait for the rest."""
    cores = float(sandbox.spec.limits.cpu_cores or 0)

    async def spent_at_least(time_us: int) -> tuple[int, float, float]:
        """What it has spent, and the times between which that was read."""
        async with asyncio.timeout(BOUND_S):
            while True:
                before = time.monotonic()
                if (spent_us := sandbox.usage().cpu_time_us or 0) >= time_us:
                    return spent_us, before, time.monotonic()
                await asyncio.sleep(0.02)

    before_us, begun, _ = await spent_at_least(200_000)
    after_us, _, ended = await spent_at_least(before_us + 500_000)
    spent_s, passed_s = (after_us - before_us) / 1e6, ended - begun
    # A slow machine gives less, never more; a period of 100 ms may be cut at both ends.
    assert spent_s <= cores * (passed_s + 0.3), (spent_s, passed_s)
    # One interpreter asks for one core, so only a part of it makes it wait; and only where the machine gives that part.
    if cores < 1 and spent_s > 0.9 * cores * passed_s:
        assert (sandbox.usage().throttled_us or 0) > 0
    await sandbox.stop(force=True)


async def disk_holds(sandbox: Sandbox) -> None:
    """What was read past the page cache took at least its time; and the host counted it."""
    begun = time.monotonic()
    await sandbox.send(b"read")
    assert int(await line_of(sandbox)) == 16 << 20
    assert (
        time.monotonic() - begun > 0.5
    )  # 8 of 16 MiB beyond the first second's burst, and half for good measure
    read = sandbox.usage().read_bytes or 0
    assert read >= 8 << 20, "the host counts what came from the disk"


async def network_holds(sandbox: Sandbox) -> None:
    assert await line_of(sandbox) in (b"refused", b"")  # the degraded tier has no `socket` to make


async def time_holds(sandbox: Sandbox) -> None:
    with pytest.raises(SandboxLimitError) as caught:
        await line_of(sandbox)
    assert caught.value.limit == "execution_timeout_ms"


HOLDS: dict[str, tuple[str, Callable[[Sandbox], Any]]] = {
    "memory_mb": (MEMORY, memory_holds),
    "cpu_cores": (PROCESSOR, processor_holds),
    "whole cpu_cores": (PROCESSOR, processor_holds),
    "disk_io_mbps": (READ, disk_holds),
    "no network_io_mbps": (CONNECT, network_holds),
    "execution_timeout_s": (FOREVER, time_holds),
}


@pytest.mark.parametrize("limit", ASKED)
@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.asyncio
async def test_a_limit_holds_or_is_refused_by_its_name(
    backends: Callable[[SecurityTier], Backend], owner: Owner, tmp_path: Path, tier: SecurityTier, limit: str
) -> None:
    limits = ResourceLimits(**ASKED[limit])
    name = limit.rpartition(" ")[2]
    if EXPECTED[tier][limit] == "refused":
        with pytest.raises(SandboxError, match=name):
            await backends(tier).start(spec_of(owner, tier, FOREVER, limits))
        return
    code, holds = HOLDS[limit]
    mounts: tuple[Mount, ...] = ()
    if limit == "disk_io_mbps":
        mounts = (Mount(str(uncached(tmp_path / "data", 16)), "/data"),)
    sandbox = await backends(tier).start(spec_of(owner, tier, code, limits, mounts))
    await holds(sandbox)


def uncached(path: Path, size_mb: int) -> Path:
    """A file that is on the disk and not in the page cache."""
    from symbi.sandbox import request

    path.write_bytes(b"d" * (size_mb << 20))
    path.chmod(0o644)
    try:
        request._block_device(str(path))
    except SandboxError as error:
        pytest.skip(f"this test's directory is on no disk: {error}")
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    return path


@pytest.mark.parametrize("limit", [one for one in ASKED if one != "execution_timeout_s"])
def test_in_the_hosts_process_every_limit_but_time_is_refused_by_its_name(limit: str) -> None:
    async def agent() -> None: ...

    with pytest.raises(InputError, match=limit.rpartition(" ")[2]):
        symbi.agent(agent, isolation="in_process", limits=ResourceLimits(**ASKED[limit]))


@pytest.mark.asyncio
async def test_in_the_hosts_process_time_holds_and_its_end_is_in_the_trail(tmp_path: Path) -> None:
    @symbi.agent(isolation="in_process", limits=ResourceLimits(execution_timeout_s=0.05))
    async def waits() -> None:
        await asyncio.Event().wait()

    async with symbi.Runtime.open(data=tmp_path / "data") as rt:
        with pytest.raises(SymbiTimeoutError):
            await asyncio.wait_for(rt.run(waits), BOUND_S)
    assert breaches(tmp_path / "data") == [("execution_timeout_ms", True, "ended")]


def breaches(data: Path) -> list[tuple[str, bool, str]]:
    """Limit, hard, verdict of each breach that the trail holds; their numbers are above zero."""
    with AuditLog.open(data / "trail") as log:
        found = [event.details for event in log.query(event_type="limit.breach")]
    assert all(one["used"] > 0 and one["bound"] > 0 for one in found), found
    return [(one["limit"], one["hard"], one["verdict"]) for one in found]


# What policy makes of it

NEAR = """
import asyncio, symbi

LIMITS = symbi.ResourceLimits(memory_mb=256)

@symbi.agent(limits=LIMITS)
async def fills(ctx: symbi.AgentContext, blocks: int) -> int:
    held = [b"x" * (1 << 20) for _ in range(blocks)]
    while True:
        await asyncio.sleep(0.01)
        await ctx.labels()
    return len(held)

@symbi.agent(limits=LIMITS)
async def bursts() -> int:
    return len([b"x" * (1 << 20) for _ in range(1000)])
"""

ALL = "permit (principal, action, resource);\n"
SUSPEND = (
    ALL
    + '@on_violation("suspend") forbid (principal, action == Action::"limit.breach", resource) when { context.limit == '
    + '"memory_mb" };'
)
END = ALL + 'forbid (principal, action == Action::"limit.breach", resource) when { !context.hard };'


class House:
    """A runtime with one agent that uses nine tenths of its memory, or more than it has."""

    def __init__(self, tmp_path: Path, policy: str) -> None:
        self.data = tmp_path / "data"
        self.file = tmp_path / "near.py"
        self.file.write_text(NEAR)
        self.policy = tmp_path / "near.cedar"
        self.policy.write_text(policy)

    def agent(self, name: str, tier: SecurityTier) -> symbi.AgentConfig:
        return symbi.AgentConfig(
            name=name,
            entry=(str(self.file), name),
            tier=str(tier),
            limits=ResourceLimits(memory_mb=256),
        )

    def open(self) -> symbi.Runtime:
        return symbi.Runtime.open(data=self.data, policy=self.policy, mode="development")


def nearly(rt: symbi.Runtime, agent: symbi.AgentHandle) -> dict[str, int]:
    """An input that makes `fills` use 94 of 100 parts of its memory, whatever its tier takes for itself."""
    used = rt.usage(agent)
    assert used is not None
    assert used.memory_bytes is not None
    return {"blocks": 256 * 94 // 100 - (used.memory_bytes >> 20)}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(BOUND_S):
        while not condition():  # noqa: ASYNC110 - a state of the kernel, which nobody waits for here
            await asyncio.sleep(0.01)


@pytest.mark.asyncio
async def test_what_is_near_its_limit_is_ended_where_policy_forbids_it(
    tmp_path: Path, tier: SecurityTier
) -> None:
    house = House(tmp_path, END)
    async with house.open() as rt:
        agent = await rt.schedule_agent(house.agent("fills", tier))
        with pytest.raises(SandboxLimitError) as caught:
            await asyncio.wait_for(rt.run(agent, nearly(rt, agent)), BOUND_S)
        assert caught.value.limit == "memory_mb"
    assert ("memory_mb", False, "ended") in breaches(house.data)


@pytest.mark.asyncio
async def test_what_is_near_its_limit_is_held_where_policy_says_so_and_goes_on_when_it_is_resumed(
    tmp_path: Path, tier: SecurityTier
) -> None:
    house = House(tmp_path, SUSPEND)
    async with house.open() as rt:
        agent = await rt.schedule_agent(house.agent("fills", tier))
        run = asyncio.create_task(rt.run(agent, nearly(rt, agent)))
        await until(lambda: run.done() or rt.kernel.agent_state(agent.id) == "suspended")
        assert not run.done()
        used = rt.usage(agent)
        assert used is not None
        assert (used.memory_bytes or 0) > 220 << 20
        await rt.resume_agent(agent)
        await until(lambda: run.done() or rt.kernel.agent_state(agent.id) == "running")
        await rt.stop_agent(agent, force=True)
        with pytest.raises(symbi.SymbiError):
            await run
    assert breaches(house.data) == [("memory_mb", False, "suspended")], "told once in a run"


@pytest.mark.asyncio
async def test_an_agent_that_died_of_its_memory_is_held_before_its_next_task_where_policy_says_so(
    tmp_path: Path, tier: SecurityTier
) -> None:
    hard = SUSPEND.replace('"memory_mb"', '"memory_mb" && context.hard')
    house = House(tmp_path, hard)
    async with house.open() as rt:
        agent = await rt.schedule_agent(house.agent("bursts", tier))
        with pytest.raises(SandboxLimitError):
            await asyncio.wait_for(rt.run(agent), BOUND_S)
        assert rt.kernel.agent_state(agent.id) == "suspended"
        status = await rt.get_system_status()
        assert status.agents_by_state == {"suspended": 1}
    assert breaches(house.data)[-1] == ("memory_mb", True, "suspended")


@pytest.mark.asyncio
async def test_without_a_word_of_policy_an_agent_near_its_limit_works_on(
    tmp_path: Path, tier: SecurityTier
) -> None:
    house = House(tmp_path, ALL)
    async with house.open() as rt:
        agent = await rt.schedule_agent(house.agent("fills", tier))
        run = asyncio.create_task(rt.run(agent, nearly(rt, agent)))
        reader = house.data
        await until(lambda: run.done() or bool(breaches(reader)))
        assert not run.done()
        assert rt.kernel.agent_state(agent.id) == "running"
        assert (await rt.get_system_status()).memory_bytes
        await rt.stop_agent(agent, force=True)
        await asyncio.gather(run, return_exceptions=True)
    assert breaches(house.data) == [("memory_mb", False, "tolerated")]
