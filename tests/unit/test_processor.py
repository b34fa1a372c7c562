"""`cpu_ms`: what tasks use of processors, counted as the host reads it of their sandboxes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import symbi
from symbi.agents.entry import find, read
from symbi.runtime.processor import Spending
from symbi.sandbox.usage import ProcessMeter, Usage

if TYPE_CHECKING:
    from pathlib import Path

BOUND_S = 60.0

_BURNER = """
import time
import symbi

@symbi.agent(name="burner", tier="degraded")
async def burner(ctx, ms: int) -> int:
    end = time.process_time() + ms / 1000
    while time.process_time() < end:
        pass
    return ms
"""


def _budget(directory: Path, caps: str) -> Path:
    directory.mkdir()
    directory.joinpath("open.cedar").write_text("permit (principal, action, resource);")
    directory.joinpath("work.counters.toml").write_text(
        f'[budgets.work]\naction = "agent.run"\nmeasure = "cpu_ms"\nwindow_s = 3600\n{caps}\n'
    )
    return directory


def _runtime(tmp_path: Path, caps: str) -> symbi.Runtime:
    policy = _budget(tmp_path / "p", caps)
    return symbi.Runtime.open(data=tmp_path / "d", policy=policy, mode="development")


@pytest.mark.asyncio
async def test_k176_a_task_in_a_sandbox_is_ended_when_it_has_used_what_its_budgets_leave_it(
    tmp_path: Path,
) -> None:
    file = tmp_path / "burner.py"
    file.write_text(_BURNER)
    async with _runtime(tmp_path, "run = 400\nagent = 700") as rt:
        agent = await rt.schedule_agent(read(find(f"{file}:burner")))
        assert await rt.run(agent, {"ms": 150}, timeout_s=BOUND_S) == 150
        with pytest.raises(symbi.PolicyDenied, match="budgets of processor time left it, 400 ms") as refused:
            await rt.run(agent, {"ms": 3_600_000}, timeout_s=BOUND_S)
        assert refused.value.code == "over_budget"
        with pytest.raises(symbi.PolicyDenied) as refused:
            await rt.run(agent, {"ms": 3_600_000}, timeout_s=BOUND_S)
        assert refused.value.code == "over_budget", "the agent had 150 or less left"
    finished = symbi.AuditLog.open(tmp_path / "d" / "trail").query(event_type="run.finished")
    used = [one.details["used"]["cpu_ms"] for one in finished]
    assert used[0] > 0, "without what a host of hosts took away meanwhile, which its own clock counts"
    assert used[1] >= 400


@pytest.mark.asyncio
async def test_k240_an_agent_in_the_hosts_process_is_refused_with_what_to_do(tmp_path: Path) -> None:
    @symbi.agent(name="inside", isolation="in_process")
    async def inside(ctx: symbi.AgentContext) -> None:
        return None

    async with _runtime(tmp_path, "agent = 700") as rt:
        with pytest.raises(
            symbi.PolicyDenied, match=r"`work_agent` counts `cpu_ms`.* run it in a sandbox"
        ) as refused:
            await rt.run(inside)
        assert refused.value.code == "denied"


class _Sandbox:
    """As far as its processor time is read."""

    def __init__(self, *readings_us: int | None) -> None:
        self._left = list(readings_us)
        self.spec = SimpleNamespace(limits=SimpleNamespace(cpu_cores=1000.0))  # as fast as can be
        self.read = 0

    def usage(self) -> Usage:
        self.read += 1
        now = self._left.pop(0) if len(self._left) > 1 else self._left[0]
        return Usage(cpu_time_us=now)


class _Process:
    """A process of this host, read as the degraded tier reads it."""

    def __init__(self) -> None:
        self.spec = SimpleNamespace(limits=SimpleNamespace(cpu_cores=1000.0))
        self._process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        self._meter = ProcessMeter.of(self._process.pid)

    def usage(self) -> Usage:
        return self._meter.read()

    def vanish(self) -> None:
        """Nobody tells the meter: it finds nothing where it has read."""
        self._process.kill()
        self._process.communicate()

    def close(self) -> None:
        self._meter.close()


def _spending(
    sandbox: Any, allowance_ms: int | None, told: list[str], *, since_start: bool = False
) -> Spending:
    return Spending(
        sandbox,
        allowance_ms,
        since_start=since_start,
        over=lambda: told.append("over"),
        blind=lambda: told.append("blind"),
    )


@pytest.mark.asyncio
async def test_pc1_the_first_reading_that_shows_it_ends_it_once() -> None:
    told: list[str] = []
    sandbox = _Sandbox(5_000_000, 5_000_000, 5_009_000, 5_010_001)
    spending = _spending(sandbox, 10, told)
    while not told:  # noqa: ASYNC110 - it is told by a timer of the loop
        await asyncio.sleep(0)
    assert (told, spending.used_ms, spending.stop()) == (["over"], 11, 11), (
        "what it had used before is no task's"
    )
    after = sandbox.read
    for _ in range(100):
        await asyncio.sleep(0)
    assert (told, sandbox.read) == (["over"], after)


@pytest.mark.asyncio
async def test_pc1_what_was_started_for_it_belongs_to_it() -> None:
    told: list[str] = []
    assert _spending(_Sandbox(7_000), 10, told, since_start=True).stop() == 7
    _spending(_Sandbox(10_000), 10, told, since_start=True)
    assert told == ["over"]


@pytest.mark.asyncio
async def test_pc2_what_cannot_be_read_ends_it_and_is_not_nothing() -> None:
    for since_start, known in ((True, None), (False, 0)):
        told: list[str] = []
        spending = _spending(_Sandbox(None), 10, told, since_start=since_start)
        assert (told, spending.stop()) == (["blind"], known)


@pytest.mark.asyncio
async def test_pc2_what_cannot_be_read_any_more_ends_it_and_is_not_what_it_was_last() -> None:
    told: list[str] = []
    process = _Process()
    before = process.usage()
    assert before.cpu_time_us is not None
    assert not before.cpu_time_stale
    spending = _spending(process, 3_600_000, told)
    process.vanish()
    after = process.usage()
    assert (after.cpu_time_us, after.cpu_time_stale) == (before.cpu_time_us, True), "US2"
    async with asyncio.timeout(BOUND_S):
        while not told:  # noqa: ASYNC110 - it is told by a timer of the loop
            await asyncio.sleep(0)
    assert (told, spending.stop()) == (["blind"], None)
    process.close()
    assert not process.usage().cpu_time_stale, "what has ended is not read, and has no more to say"


@pytest.mark.asyncio
async def test_pc2_one_reading_that_fails_is_an_end_that_nobody_has_heard_of_yet() -> None:
    told: list[str] = []
    sandbox = _Sandbox(1_000, 1_000, None, 3_000, None, 4_000, 11_000)
    spending = _spending(sandbox, 10, told)
    async with asyncio.timeout(BOUND_S):
        while not told:  # noqa: ASYNC110 - it is told by a timer of the loop
            await asyncio.sleep(0)
    assert (told, spending.stop()) == (["over"], 10)


@pytest.mark.asyncio
async def test_pc3_one_that_was_stopped_reads_no_more_and_keeps_the_greatest() -> None:
    sandbox = _Sandbox(1_000, 1_000, 6_000, 4_000, None)
    spending = _spending(sandbox, None, [])
    assert [spending.stop(), spending.stop(), spending.stop()] == [5, 5, 5]
    read_so_far = sandbox.read
    for _ in range(100):
        await asyncio.sleep(0)
    assert sandbox.read == read_so_far
