"""The watchdog: what blocks the loop is seen with its place, what does not is not, and an idle process pays nothing."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
import symbi
from symbi.runtime.watchdog import Block, Watchdog

if TYPE_CHECKING:
    from pathlib import Path

BOUND_S = 60.0
THRESHOLD_MS = 40


class Seen:
    """What was reported, and a way for blocking code to wait until it was: the test ends when the fact is there."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.event = threading.Event()

    def __call__(self, block: Block) -> None:
        self.blocks.append(block)
        self.event.set()


def block_until(seen: Seen) -> None:
    """Stands still, as an agent's mistake does, until the watchdog has seen it."""
    assert seen.event.wait(20), "a blocked loop was not reported"


@pytest.mark.asyncio
async def test_a_block_is_reported_while_it_lasts_with_run_agent_and_line() -> None:
    seen = Seen()
    watchdog = Watchdog(asyncio.get_running_loop(), THRESHOLD_MS, seen)
    watchdog.enter("run-1", "agent-1", "triage")
    await asyncio.sleep(0)
    block_until(seen)
    watchdog.leave("run-1")
    watchdog.close()
    (block,) = seen.blocks
    assert (block.run, block.agent, block.name, block.first) == ("run-1", "agent-1", "triage", True)
    assert "block_until(seen)" in block.stack
    assert "test_watchdog.py" in block.stack
    assert block.blocked_ms >= THRESHOLD_MS, "WD2"
    assert (watchdog.blocks, watchdog.longest_ms) == (1, block.blocked_ms)


@pytest.mark.asyncio
async def test_of_two_runs_the_one_that_blocks_is_named() -> None:
    seen = Seen()
    watchdog = Watchdog(asyncio.get_running_loop(), THRESHOLD_MS, seen)

    async def agent(name: str, *, blocks: bool) -> None:
        watchdog.enter(f"run-{name}", f"agent-{name}", name)
        await asyncio.sleep(0)
        if blocks:
            block_until(seen)
        await asyncio.sleep(0)
        watchdog.leave(f"run-{name}")

    await asyncio.gather(agent("good", blocks=False), agent("bad", blocks=True), agent("late", blocks=False))
    watchdog.close()
    assert [block.name for block in seen.blocks] == ["bad"]


@pytest.mark.asyncio
async def test_wd2_a_busy_loop_that_keeps_answering_is_never_reported() -> None:
    """Many short steps, for longer than a threshold in all, by the watchdog's own count of looks."""
    seen = Seen()
    watchdog = Watchdog(asyncio.get_running_loop(), 600, seen)
    watchdog.enter("run-1", "agent-1", "busy")
    while watchdog.looks < 6:  # noqa: ASYNC110 - the loop is to be busy
        await asyncio.sleep(0)
    watchdog.leave("run-1")
    watchdog.close()
    assert seen.blocks == [], "WD2"


def waits_for_ever(thread: threading.Thread) -> bool:
    """Whether it stands in a wait without a timeout."""
    frame = sys._current_frames().get(thread.ident or 0)
    while frame is not None:
        if frame.f_code.co_name == "wait" and "timeout" in frame.f_locals:
            return frame.f_locals["timeout"] is None
        frame = frame.f_back
    return False


@pytest.mark.asyncio
async def test_wd1_without_active_runs_the_thread_does_not_look() -> None:
    seen = Seen()
    watchdog = Watchdog(asyncio.get_running_loop(), THRESHOLD_MS, seen)
    assert watchdog._thread is None, "WD1: no thread before the first run"
    watchdog.enter("run-1", "agent-1", "a")
    watchdog.leave("run-1")
    thread = watchdog._thread
    assert thread is not None
    async with asyncio.timeout(20):
        while not waits_for_ever(thread):  # noqa: ASYNC110 - a fact of another thread, which tells nobody
            await asyncio.sleep(0.005)
    watchdog.close()
    assert not thread.is_alive(), "WD3"
    watchdog.close()


@pytest.mark.asyncio
async def test_a_place_is_new_once() -> None:
    seen = Seen()
    watchdog = Watchdog(asyncio.get_running_loop(), THRESHOLD_MS, seen)
    watchdog.enter("run-1", "agent-1", "a")
    for _ in range(2):
        seen.event.clear()
        await asyncio.sleep(0)
        block_until(seen)
    watchdog.leave("run-1")
    watchdog.close()
    assert len(seen.blocks) == 2
    assert {block.place for block in seen.blocks} == {seen.blocks[0].place}
    assert [block.first for block in seen.blocks] == [True, False]


class Blocking:
    """An in-process agent that holds up the loop until the watchdog has reported it, by the runtime's own count."""

    def __init__(self, rt: symbi.Runtime, *, is_ended: bool = False) -> None:
        self.rt = rt
        self.is_ended = is_ended
        self.went_on = False

    def config(self) -> symbi.AgentConfig:
        async def blocks() -> None:
            watchdog = self.rt.breaches._watchdog
            assert watchdog is not None
            await asyncio.sleep(0)
            deadline = time.monotonic() + 20
            while watchdog.blocks == 0:
                assert time.monotonic() < deadline
                time.sleep(0.005)  # noqa: ASYNC251 - the very mistake
            if self.is_ended:
                await asyncio.Event().wait()  # until policy has its way, however slow this machine is
            trail = symbi.AuditLog.open(self.rt.opened["trail"])
            async with asyncio.timeout(BOUND_S):
                while not trail.query(event_type="limit.breach"):  # noqa: ASYNC110 - until it is judged, and nothing came of it
                    await asyncio.sleep(0.01)
            self.went_on = True

        return symbi.AgentConfig(name="blocks", function=blocks, isolation="in_process")


def opened(directory: Path, policy: str) -> symbi.Runtime:
    file = directory / "blocks.cedar"
    file.write_text("permit (principal, action, resource);\n" + policy)
    config = directory / "symbi.toml"
    config.write_text(f"[runtime]\nloop_block_ms = {THRESHOLD_MS}\n")
    return symbi.Runtime.open(config, data=directory / "data", policy=file)


@pytest.mark.asyncio
async def test_in_a_runtime_a_block_is_warned_of_recorded_with_its_stack_sealed_and_seen_in_health(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with opened(tmp_path, "") as rt:
        blocking = Blocking(rt)
        await rt.run(blocking.config())
        assert blocking.went_on
        health = (await rt.health_check()).component_health["loop"]
        assert health.level == "yellow"
        assert "test_watchdog.py" in health.text
        assert "`blocks` has held up the event loop" in caplog.text
        assert "the very mistake" in caplog.text, "the stack names the line"
        records = (tmp_path / "data" / "trail").glob("*")
        plain = b"".join(place.read_bytes() for place in records if place.is_file())
        assert b"the very mistake" not in plain, "sealed"
    with symbi.AuditLog.open(tmp_path / "data" / "trail") as log:
        (breach,) = log.query(event_type="limit.breach")
    assert breach.details["limit"] == "loop_block_ms"
    assert breach.details["used"] >= breach.details["bound"] == THRESHOLD_MS
    assert breach.details["verdict"] == "tolerated"
    assert breach.details["sealed"]


@pytest.mark.asyncio
async def test_policy_ends_an_agent_that_holds_up_the_loop_when_it_lets_go(tmp_path: Path) -> None:
    async with opened(tmp_path, 'forbid (principal, action == Action::"limit.breach", resource);') as rt:
        blocking = Blocking(rt, is_ended=True)
        with pytest.raises(symbi.AgentError, match="loop_block_ms") as caught:
            await asyncio.wait_for(rt.run(blocking.config()), BOUND_S)
        assert caught.value.kind == "loop_block_ms"
        assert not blocking.went_on


@pytest.mark.asyncio
async def test_a_rule_may_end_the_agent_that_holds_up_the_loop_and_not_only_its_task(tmp_path: Path) -> None:
    rule = '@on_violation("terminate") forbid (principal, action == Action::"limit.breach", resource);'
    async with opened(tmp_path, rule) as rt:
        blocking = Blocking(rt, is_ended=True)
        agent = await rt.schedule_agent(blocking.config())
        with pytest.raises(symbi.AgentError):
            await asyncio.wait_for(rt.run(agent), BOUND_S)
        async with asyncio.timeout(BOUND_S):  # the host is told by a bell of its loop, from another thread
            while rt.kernel.agent_state(agent.id) is not None:  # noqa: ASYNC110 - nobody waits for it
                await asyncio.sleep(0)
        assert not rt.takes_runs(agent.id)
    with symbi.AuditLog.open(tmp_path / "data" / "trail") as log:
        (breach,) = log.query(event_type="limit.breach")
    assert (breach.details["verdict"], breach.details["consequence"]) == ("ended", "terminate")
