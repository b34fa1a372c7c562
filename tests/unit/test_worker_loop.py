"""The event loop of workers, which wakes itself by a pipe."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

from symbi.agents.worker_loop import new_event_loop


def test_wl1_no_socket_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards against a Python whose loop makes its self-pipe some other way."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError("no sockets here")

    monkeypatch.setattr(socket, "socketpair", refuse)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert runner.run(asyncio.to_thread(lambda: 1)) == 1


def test_wl2_every_wake_up_from_another_thread_arrives() -> None:
    """More than a pipe can hold, while the loop does not read."""
    count = 100_000
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        loop, seen, done = runner.get_loop(), [0], asyncio.Event()

        def one() -> None:
            seen[0] += 1
            if seen[0] == count:
                done.set()

        async def all_of_them() -> None:
            thread = threading.Thread(target=lambda: [loop.call_soon_threadsafe(one) for _ in range(count)])
            thread.start()
            thread.join()  # the loop stands still meanwhile: the pipe is full
            async with asyncio.timeout(20):
                await done.wait()

        runner.run(all_of_them())
    assert seen[0] == count


def test_a_signal_wakes_a_sleeping_loop() -> None:
    """`signal.set_wakeup_fd` writes into the pipe."""
    with asyncio.Runner(loop_factory=new_event_loop) as runner:

        async def wait() -> None:
            heard = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, heard.set)
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
            async with asyncio.timeout(20):
                await heard.wait()

        runner.run(wait())


def test_a_closed_loop_gives_its_descriptors_back() -> None:
    """A worker makes one loop, a test many."""
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        new_event_loop().close()
    assert len(list(Path("/proc/self/fd").iterdir())) == before
