"""An event loop that needs no socket: for workers in the degraded tier, where there is none.

Why: asyncio wakes itself up over a socket pair. Where `socketpair` is refused the loop cannot be made,
and where it is
allowed and `send` is refused it hangs for good. A pipe does the same work and is allowed everywhere.
Not here: networking. What needs a socket fails with the operating system's own error.

Invariants
- WL1 No call of a socket is made by the loop itself.
- WL2 A wake-up is never lost: the pipe is not blocking, and a full one already means "wake up".
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import Any

__all__ = ["PipeEventLoop", "new_event_loop"]


class PipeEventLoop(asyncio.SelectorEventLoop):
    """A selector loop whose self-pipe is a pipe.

    It overrides five private methods of `asyncio.BaseSelectorEventLoop`, the same in Python 3.11 to
    3.14; the unit
    test runs on whichever is there.
    """

    _ssock: Any
    _csock: Any

    def _make_self_pipe(self) -> None:
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._ssock = _End(reading)
        self._csock = _End(writing)
        self._internal_fds = getattr(self, "_internal_fds", 0) + 1
        self._add_reader(reading, self._read_from_self)  # type: ignore[attr-defined]

    def _close_self_pipe(self) -> None:
        self._remove_reader(self._ssock.fileno())  # type: ignore[attr-defined]
        self._ssock.close()
        self._csock.close()
        self._ssock = self._csock = None
        self._internal_fds -= 1

    def _read_from_self(self) -> None:
        with suppress(BlockingIOError, InterruptedError):
            while data := os.read(self._ssock.fileno(), 4096):
                self._process_self_data(data)  # type: ignore[attr-defined]

    def _write_to_self(self) -> None:
        end = self._csock
        if end is not None:
            with suppress(OSError):  # WL2; or the loop was closed between the two lines
                os.write(end.fileno(), b"\0")


class _End:
    """One end of a pipe, with the two methods of a socket that the loop and `signal.set_wakeup_fd` use."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A loop that works in every tier; give it to `asyncio.Runner(loop_factory=…)`."""
    return PipeEventLoop()
