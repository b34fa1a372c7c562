"""Attacks on resources, in both tiers with one body: each is contained, named, and leaves the host as it was.

What differs between the tiers is data (`EXPECTED`), not code: gVisor counts its own threads, ignores `nr_inodes`, and
reports some ends with other codes.
"""

from __future__ import annotations

import asyncio
import os
import resource
import time
from typing import TYPE_CHECKING

import pytest
from symbi.errors import SandboxError, SandboxLimitError
from symbi.limits import ResourceLimits
from symbi.sandbox.base import LINE_BYTES_MAX, Mount, SecurityTier

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from symbi.sandbox.base import SandboxSpec
    from symbi.sandbox.docker import DockerBackend, DockerSandbox

    SpecMaker = Callable[..., SandboxSpec]

DOCKER, GVISOR = SecurityTier.DOCKER, SecurityTier.GVISOR
BOUND_S = 20.0  # what any single attack may take here before the test itself calls it a hang

# Each program prints one number: how far it came.
DISK_FILL = """
import os
n = 0
try:
    with open('/work/fill', 'wb', 0) as f:
        while n < 64 << 20: n += f.write(b'x' * 65536)
except OSError: pass
print(n)
"""
FD_BOMB = """
import os
n = 0
try:
    while n < 5000: os.open('/work', os.O_RDONLY); n += 1
except OSError: pass
print(n)
"""
INODE_FILL = """
import os
n = 0
try:
    while n < 4000: os.close(os.open(f'/work/{n}', os.O_CREAT | os.O_WRONLY)); n += 1
except OSError: pass
print(n)
"""
MEMORY_BOMB = "x = bytearray(1 << 30)\nfor i in range(0, 1 << 30, 4096): x[i] = 1\nprint('survived')"
FORK_BOMB = """
import os
while True:
    try: os.fork()
    except OSError: pass
"""
FOREVER = "while True: pass"


async def ended(sandbox: DockerSandbox) -> tuple[list[bytes], SandboxLimitError | None]:
    """All that it said, and the limit it died of."""
    lines: list[bytes] = []
    try:
        async with asyncio.timeout(BOUND_S):
            while (line := await sandbox.receive()) is not None:
                lines.append(line)
    except SandboxLimitError as error:
        return lines, error
    return lines, None


@pytest.mark.asyncio
async def test_a_memory_bomb_is_killed_and_called_by_its_name(
    backend: DockerBackend, python_spec: SpecMaker, tier: SecurityTier
) -> None:
    """Told by the engine's OOMKilled, not by the exit code: gVisor exits with 1 or 137."""
    sandbox = await backend.start(python_spec(tier, MEMORY_BOMB, limits=ResourceLimits(memory_mb=96)))
    lines, limit = await ended(sandbox)
    assert lines == []
    assert limit is not None
    assert limit.limit == "memory_mb"
    assert (await sandbox.wait()).oom_killed


@pytest.mark.asyncio
async def test_a_fork_bomb_is_contained_and_killed(
    backend: DockerBackend, python_spec: SpecMaker, tier: SecurityTier
) -> None:
    """It runs into the count of processes, memory or the clock, whichever comes first; the host keeps answering."""
    limits = ResourceLimits(memory_mb=96, execution_timeout_s=4.0)
    sandbox = await backend.start(python_spec(tier, FORK_BOMB, limits=limits))
    _, limit = await ended(sandbox)
    end = await sandbox.wait()
    named = limit is not None and limit.limit in ("memory_mb", "execution_timeout_ms", "pids")
    assert named, end


@pytest.mark.gvisor
@pytest.mark.asyncio
async def test_a_kernel_that_is_refused_threads_takes_the_sandbox_with_it_and_nothing_else(
    backend: DockerBackend, python_spec: SpecMaker
) -> None:
    """gVisor panics when the host refuses it a thread: code 2, no word, no limit to name (docs/sandboxes.md)."""
    limits = ResourceLimits(memory_mb=2048, execution_timeout_s=15.0)
    sandbox = await backend.start(python_spec(GVISOR, FORK_BOMB, limits=limits))
    _, limit = await ended(sandbox)
    end = await sandbox.wait()
    assert (limit is not None and limit.limit == "memory_mb") or end.code == 2, end
    again = await backend.start(python_spec(GVISOR, "print('well')"))
    assert await again.receive() == b"well"


@pytest.mark.asyncio
async def test_disk_bandwidth_is_held(
    backend: DockerBackend, python_spec: SpecMaker, tier: SecurityTier, tmp_path: Path
) -> None:
    """`disk_io_mbps`: what is read past the page cache takes at least its time; the host's clock says so."""
    from symbi.sandbox import request

    rate, size_mb = 16, 24
    data = tmp_path / "data"
    data.write_bytes(b"d" * (size_mb << 20))
    data.chmod(0o644)
    try:
        request._block_device(str(data))
    except SandboxError as error:
        pytest.skip(f"this test's directory is on no disk: {error}")
    descriptor = os.open(data, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    spec = python_spec(
        tier,
        "import sys; sys.stdin.readline(); print(len(open('/data', 'rb').read()), flush=True)",
        mounts=(Mount(str(data), "/data"),),
        limits=ResourceLimits(disk_io_mbps=rate),
    )
    sandbox = await backend.start(spec)
    begun = time.monotonic()
    await sandbox.send(b"read")
    assert int(await sandbox.receive() or 0) == size_mb << 20
    assert (
        time.monotonic() - begun > (size_mb - rate) / rate / 2
    )  # a second's burst, and half for good measure


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        pytest.param(DISK_FILL, {DOCKER: (15 << 20, 16 << 20), GVISOR: (15 << 20, 16 << 20)}, id="disk"),
        pytest.param(FD_BOMB, {DOCKER: (200, 256), GVISOR: (200, 256)}, id="descriptors"),
        pytest.param(
            INODE_FILL, {DOCKER: (2000, 2048), GVISOR: (0, 4000)}, id="inodes"
        ),  # there: memory is it
    ],
)
@pytest.mark.asyncio
async def test_a_limit_stops_what_it_limits(
    backend: DockerBackend,
    python_spec: SpecMaker,
    tier: SecurityTier,
    program: str,
    expected: dict[SecurityTier, tuple[int, int]],
) -> None:
    """The program gets an error at the limit, and goes on to say how far it came."""
    sandbox = await backend.start(python_spec(tier, program))
    lines, limit = await ended(sandbox)
    assert limit is None
    low, high = expected[tier]
    assert low <= int(lines[0]) <= high


@pytest.mark.asyncio
async def test_a_deadline_kills(backend: DockerBackend, python_spec: SpecMaker, tier: SecurityTier) -> None:
    """The wall clock of the host, whatever the guest does."""
    sandbox = await backend.start(python_spec(tier, FOREVER, limits=ResourceLimits(execution_timeout_s=0.5)))
    _, limit = await ended(sandbox)
    assert limit is not None
    assert limit.limit == "execution_timeout_ms"


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("import os\nwhile True: os.write(1, b'x' * 65536)", id="no newline"),
        pytest.param(
            "import os\nblock = bytearray(1 << 30)\nwhile True: os.write(1, block)", id="one frame of 1 GiB"
        ),
        pytest.param("import os\nwhile True: os.write(2, b'x' * 65536)", id="stderr"),
        pytest.param(
            "import sys\nsys.stdout.write('z' * ((1 << 20) + 1))\nsys.stdout.flush()\nwhile True: pass",
            id="one byte too long",
        ),
    ],
)
@pytest.mark.asyncio
async def test_a_flood_is_killed_at_its_limit(
    backend: DockerBackend, python_spec: SpecMaker, tier: SecurityTier, program: str
) -> None:
    """X3, M3: `output_bytes`, soon, and the container is gone."""
    spec = python_spec(tier, program, output_bytes_max=8 << 20, limits=ResourceLimits(memory_mb=2048))
    sandbox = await backend.start(spec)
    _, limit = await ended(sandbox)
    assert limit is not None
    assert limit.limit == "output_bytes"


@pytest.mark.parametrize(
    "program",
    [
        pytest.param("import os\nwhile True: os.write(1, b'line of a flood\\n' * 4096)", id="lines"),
        pytest.param("import os\nwhile True: os.write(1, b'\\n' * 65536)", id="empty lines"),
    ],
)
@pytest.mark.asyncio
async def test_an_unread_flood_costs_the_host_a_bounded_amount_and_can_be_killed(
    backend: DockerBackend, python_spec: SpecMaker, tier: SecurityTier, program: str
) -> None:
    """W1, W3, D2: nobody receives; the guest waits, memory stays bounded, and a stop still works."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    spec = python_spec(tier, program, output_bytes_max=1 << 40)
    sandbox = await backend.start(spec)
    await until(lambda: not sandbox._pipe._reading)  # back-pressure has set in: the guest's pipe is full
    taken = sandbox._pipe._demultiplexer.output_bytes
    for _ in range(20):  # time for a flood of gibibytes, and the engine still answers
        await sandbox._inspect()
    assert sandbox._pipe._demultiplexer.output_bytes - taken <= 1 << 20
    grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown_mb < 64
    end = await asyncio.wait_for(sandbox.stop(force=True), BOUND_S)
    assert end.limit is None


@pytest.mark.asyncio
async def test_a_guest_that_never_reads_makes_the_sender_wait_not_the_host_grow(
    backend: DockerBackend, python_spec: SpecMaker, tier: SecurityTier
) -> None:
    """W2: `send` waits; the deadline frees it with an error."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sandbox = await backend.start(python_spec(tier, FOREVER, limits=ResourceLimits(execution_timeout_s=1.5)))
    sent = 0
    line = b"x" * LINE_BYTES_MAX
    while sent < 32:
        try:
            await asyncio.wait_for(sandbox.send(line), BOUND_S)
        except SandboxError:  # it has ended
            break
        sent += 1
    assert sent < 32
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 64
    assert (await sandbox.wait()).limit == "execution_timeout_ms"


@pytest.mark.asyncio
async def test_a_guest_that_shuts_its_streams_is_ended_by_the_clock(
    backend: DockerBackend, python_spec: SpecMaker, tier: SecurityTier
) -> None:
    """Nothing to talk to is no way to live on."""
    code = "import os\nos.close(0); os.close(1); os.close(2)\nwhile True: pass"
    sandbox = await backend.start(python_spec(tier, code, limits=ResourceLimits(execution_timeout_s=1.0)))
    _, limit = await ended(sandbox)
    assert limit is not None
    assert limit.limit == "execution_timeout_ms"


async def until(condition: Callable[[], bool]) -> None:
    """Wait for the loop to bring it about, bounded."""
    async with asyncio.timeout(BOUND_S):
        while not condition():  # noqa: ASYNC110 - a fact of the pipe's inside, which tells nobody
            await asyncio.sleep(0.01)
