"""How degraded sandboxes begin and end when something goes wrong around them."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from symbi.errors import SandboxError, SandboxLimitError
from symbi.limits import ResourceLimits
from symbi.sandbox.base import Mount, SandboxSpec, SecurityTier
from symbi.sandbox.degraded import DegradedBackend
from symbi.sandbox.interpreter import interpreter_mounts

END_S = 5.0
"""Seconds a process may take to be gone; it takes milliseconds."""

HOST = """
import asyncio, sys
sys.path.insert(0, {tests!r})
import test_degraded_end as here
async def main():
    sandbox = await here.DegradedBackend().start(here.sleeper())
    print(sandbox.facts.container, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def sleeper(body: str = "import time; time.sleep(60)", limits: ResourceLimits | None = None) -> SandboxSpec:
    """A Python that runs `body`."""
    return SandboxSpec(
        tier=SecurityTier.DEGRADED,
        argv=(sys.executable, "-I", "-c", body),
        agent="sleeper",
        instance="test",
        mounts=tuple(Mount(str(path.resolve()), str(path)) for path in interpreter_mounts()),
        limits=limits or ResourceLimits(),
    )


def gone(pid: int) -> bool:
    """Whether no such process runs; one that nobody has waited for yet counts as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.asyncio
async def test_n5_a_sandbox_dies_with_a_host_that_is_killed() -> None:
    """Guards against agents that go on when nobody watches them, and against what they leave behind."""
    code = HOST.format(tests=str(Path(__file__).parent))
    host = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE)
    assert host.stdout is not None
    async with asyncio.timeout(30):
        pid = int(await host.stdout.readline())
    assert not gone(pid)
    host.send_signal(signal.SIGKILL)
    await host.wait()
    async with asyncio.timeout(END_S):
        while not gone(pid):  # noqa: ASYNC110 - another process's end has no event here
            await asyncio.sleep(0.005)


@pytest.mark.asyncio
async def test_dg2_the_next_start_removes_what_a_killed_host_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its scratch directory bears its process's number."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    left = tmp_path / f"symbi-scratch-{(1 << 22) + 1}-x"  # above every process number
    mine = tmp_path / f"symbi-scratch-{os.getpid()}-x"
    left.mkdir()
    mine.mkdir()
    backend = DegradedBackend()
    try:
        await (await backend.start(sleeper())).stop(force=True)
    finally:
        await backend.close()
    assert not left.exists()
    assert mine.exists()


@pytest.mark.asyncio
async def test_g3_a_program_that_cannot_be_confined_as_asked_does_not_begin(tmp_path: Path) -> None:
    """A mount that is not there: refused by its name, nothing was run, nothing is left."""
    backend = DegradedBackend()
    spec = sleeper(f"open({str(tmp_path / 'ran')!r}, 'w')")
    absent = Mount(str(tmp_path / "absent"), str(tmp_path / "absent"))
    shown = Mount(str(tmp_path), str(tmp_path), read_only=False)
    asked = SandboxSpec(
        tier=spec.tier, argv=spec.argv, agent="a", instance="i", mounts=(*spec.mounts, shown, absent)
    )
    try:
        with pytest.raises(SandboxError, match="absent"):
            await backend.start(asked)
    finally:
        await backend.close()
    assert not (tmp_path / "ran").exists()


@pytest.mark.asyncio
async def test_g3_a_program_that_is_not_there_is_an_error_of_the_start() -> None:
    """Not of the first line."""
    backend = DegradedBackend()
    spec = SandboxSpec(tier=SecurityTier.DEGRADED, argv=("/absent/program",), agent="a", instance="i")
    try:
        with pytest.raises(SandboxError, match="/absent/program"):
            await backend.start(spec)
    finally:
        await backend.close()


@pytest.mark.asyncio
async def test_dg3_the_first_reason_of_an_end_is_the_one_that_is_told() -> None:
    """A stop that comes after the deadline does not hide it."""
    backend = DegradedBackend()
    try:
        sandbox = await backend.start(sleeper(limits=ResourceLimits(execution_timeout_s=0.2)))
        async with asyncio.timeout(20):
            with pytest.raises(SandboxLimitError):
                await sandbox.receive()
        assert (await sandbox.stop(force=True)).limit == "execution_timeout_ms"
        assert (await sandbox.wait()).limit == "execution_timeout_ms"
    finally:
        await backend.close()


@pytest.mark.asyncio
async def test_closing_the_backend_ends_every_sandbox() -> None:
    """And refuses further ones."""
    backend = DegradedBackend()
    sandboxes = [await backend.start(sleeper()) for _ in range(3)]
    pids = [int(sandbox.facts.container) for sandbox in sandboxes]
    await backend.close()
    assert all(gone(pid) for pid in pids)
    with pytest.raises(SandboxError, match="closed"):
        await backend.start(sleeper())


@pytest.mark.asyncio
async def test_a_program_that_ends_by_itself_is_told_with_its_code() -> None:
    """After its last line."""
    backend = DegradedBackend()
    try:
        body = "import json, sys; print(json.dumps([1])); sys.exit(3)"
        sandbox = await backend.start(sleeper(body))
        async with asyncio.timeout(20):
            assert json.loads(await sandbox.receive() or b"") == [1]
            assert await sandbox.receive() is None
        assert (await sandbox.wait()).code == 3
    finally:
        await backend.close()
