"""The border: core errors become the classes of `symbi.errors`, and long work leaves the interpreter free."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import pytest
import symbi
from symbi import _core

if TYPE_CHECKING:
    from pathlib import Path


def test_b2_a_core_error_is_our_class_with_its_stable_code(tmp_path: Path) -> None:
    first = _core.Kernel.open(tmp_path / "data")
    with pytest.raises(symbi.LogLockedError) as caught:
        _core.Kernel.open(tmp_path / "data")
    assert caught.value.code == "audit.locked"
    with pytest.raises(symbi.InputError):
        first.begin_run("host", "no id", b"", [], 1)
    first.close()
    first.close()


def test_b2_a_refusal_carries_code_decision_and_record(tmp_path: Path) -> None:
    @symbi.agent(isolation="in_process")
    async def idle() -> None: ...

    async def refused() -> symbi.PolicyDenied:
        async with symbi.Runtime.open(data=tmp_path / "data") as runtime:
            agent = await runtime.schedule_agent(idle)
            with pytest.raises(symbi.PolicyDenied) as caught:
                await runtime.tools.call(agent, "nothing.here")
            return caught.value

    denied = asyncio.run(refused())
    assert denied.code == "denied"
    assert len(denied.decision_id) == 36
    assert isinstance(denied.seq, int)


def test_b1_long_work_leaves_the_interpreter_to_others(tmp_path: Path) -> None:
    """Opening waits for the disk; another thread goes on meanwhile."""
    steps = 0
    done = threading.Event()

    def count() -> None:
        nonlocal steps
        while not done.is_set():
            steps += 1
            time.sleep(0)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        kernel = _core.Kernel.open(tmp_path / "data")
        during = steps
        kernel.close()
    finally:
        done.set()
        thread.join()
    assert during > 0
