"""The talk with a container: one socket driven by the event loop, lines both ways, memory bounded both ways.

Why: a guest may flood, stall or never read. None of that may grow the host's memory, hold its loop, or stop
it from ending the guest.
Not here: what a line means, and the container behind the socket (`docker`).

Invariants
- X3 a line is at most `LINE_BYTES_MAX` bytes.
- W1 Lines not yet received are at most `PENDING_BYTES_MAX` plus one read, an empty line counted with what it
  costs us; past it the socket is not read, so the guest waits, not the host.
- W2 `send` waits while more than `SEND_BUFFER_BYTES` are unread by the guest, one sender at a time.
- W3 `close` never waits. It comes before every kill: a guest with a full, unread stream blocks its own kill.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, cast

from symbi.errors import InputError, SandboxError
from symbi.sandbox.base import LINE_BYTES_MAX
from symbi.sandbox.demux import Demultiplexer

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

__all__ = ["PENDING_BYTES_MAX", "Pipe"]

PENDING_BYTES_MAX: Final = 4 << 20
"""Bytes of whole lines that may wait for `receive`: four of the longest."""

SEND_BUFFER_BYTES: Final = 1 << 20
"""Bytes that may wait for the guest to read them: one of the longest lines."""

_LINE_COST_BYTES: Final = (
    64  # what Python keeps for a line besides its bytes: a flood of empty lines is a flood
)


class Pipe(asyncio.Protocol):
    """Lines over one attach stream.

    Args:
        output_bytes_max: Bytes the guest may write in all.
        on_end: Called once, on the loop, when the stream ended; with `True` when the guest wrote too much.
    """

    def __init__(self, output_bytes_max: int, on_end: Callable[[bool], None]) -> None:
        self._demultiplexer = Demultiplexer(output_bytes_max)
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._lines: deque[bytes] = deque()
        self._pending_bytes = 0
        self._reading = True
        self._ended = False
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._sender = asyncio.Lock()

    @classmethod
    async def over(cls, stream: socket.socket, output_bytes_max: int, on_end: Callable[[bool], None]) -> Pipe:
        """A pipe over a connected socket, which it owns from now on."""
        stream.setblocking(False)
        loop = asyncio.get_running_loop()
        pipe = cls(output_bytes_max, on_end)
        await loop.create_unix_connection(lambda: pipe, sock=stream)
        return pipe

    # -- what callers do

    @property
    def output_bytes(self) -> int:
        """Bytes the guest wrote so far, stdout and stderr together."""
        return self._demultiplexer.output_bytes

    async def send(self, line: bytes) -> None:
        """Send one line; waits while the guest does not read (W2).

        Raises:
            InputError: too long (X3), or it holds a newline.
            SandboxError: the stream has ended.
        """
        if len(line) > LINE_BYTES_MAX or b"\n" in line:
            raise InputError(f"a line is at most {LINE_BYTES_MAX} bytes and holds no newline")
        async with self._sender:
            await self._writable.wait()
            if self._ended or self._transport is None:
                raise SandboxError("the sandbox has ended")
            self._transport.write(line + b"\n")

    async def receive(self) -> bytes | None:
        """The next line, or `None` after the last one."""
        while not self._lines:
            if self._ended:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        line = self._lines.popleft()
        self._pending_bytes -= len(line) + _LINE_COST_BYTES
        if (
            not self._reading
            and self._pending_bytes <= PENDING_BYTES_MAX // 2
            and self._transport is not None
        ):
            self._reading = True
            self._transport.resume_reading()
        return line

    def close_input(self) -> None:
        """Tell the guest that nothing more will come."""
        if self._transport is not None and not self._ended and self._transport.can_write_eof():
            self._transport.write_eof()

    def close(self) -> None:
        """Drop the stream at once (W3). Lines that are already here can still be received."""
        if self._transport is not None:
            self._transport.abort()
        self._end(overflow=False)

    def stderr_tail(self) -> bytes:
        """The last bytes of stderr."""
        return self._demultiplexer.stderr_tail()

    # -- what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop took the socket over."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=SEND_BUFFER_BYTES)

    def data_received(self, data: bytes) -> None:
        """Bytes from the container engine."""
        if self._ended:
            return
        try:
            lines = self._demultiplexer.feed(data)
        except SandboxError:
            self.close()
            return
        if lines:
            self._lines.extend(lines)
            self._pending_bytes += sum(map(len, lines)) + _LINE_COST_BYTES * len(lines)
            self._arrived.set()
        if self._demultiplexer.overflow:
            if self._transport is not None:
                self._transport.abort()
            self._end(overflow=True)
        elif self._reading and self._pending_bytes > PENDING_BYTES_MAX and self._transport is not None:
            self._reading = False  # W1
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        """The guest does not read."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The guest reads again."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the container's state tells
        """The stream is gone, whichever way."""
        self._end(overflow=False)

    def _end(self, *, overflow: bool) -> None:
        if self._ended:
            return
        self._ended = True
        self._arrived.set()
        self._writable.set()
        self._on_end(overflow)
