"""Docker's attach stream, taken apart: frame headers in, whole lines of stdout and the tail of stderr out.

Why: a guest decides how its output is cut into pieces, so this is a parser of hostile input. It is a pure
state machine over large reads: no I/O, no clock, memory bounded whatever comes in; a test can feed it any
cut. Not here: sockets and back-pressure (`pipe`).

Invariants
- M1 What comes out does not depend on how the input was cut, until it overflows.
- M2 It holds at most one unfinished line of `LINE_BYTES_MAX` bytes and twice `STDERR_TAIL_BYTES`; a frame's
  announced length is counted down, never allocated.
- M3 A line over `LINE_BYTES_MAX`, or more than `output_bytes_max` in all, sets `overflow`, and from then on
  nothing comes out.
"""

from __future__ import annotations

from typing import Final

from symbi.errors import SandboxError
from symbi.sandbox.base import LINE_BYTES_MAX

__all__ = ["STDERR_TAIL_BYTES", "Demultiplexer"]

STDERR_TAIL_BYTES: Final = 16 << 10
"""Bytes of stderr kept: the end of a traceback."""

_HEADER_BYTES: Final = 8  # stream, three zeros, length as u32 big-endian
_STDOUT: Final = 1
_STDERR: Final = 2


class Demultiplexer:
    """Feed it what was read; it answers with the lines that became whole.

    Attributes:
        overflow: The guest wrote more than it may (M3).
        output_bytes: Bytes of stdout and stderr so far.
    """

    __slots__ = (
        "_header",
        "_left",
        "_line",
        "_output_bytes_max",
        "_stderr",
        "_stream",
        "output_bytes",
        "overflow",
    )

    def __init__(self, output_bytes_max: int) -> None:
        self._output_bytes_max = output_bytes_max
        self._header = bytearray()
        self._stream = 0
        self._left = 0  # bytes of the current frame still to come
        self._line = bytearray()
        self._stderr = bytearray()
        self.overflow = False
        self.output_bytes = 0

    @property
    def unfinished_bytes(self) -> int:
        """Bytes of the line that is not whole yet."""
        return len(self._line)

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes, without their newlines.

        Raises:
            SandboxError: not a multiplexed stream; the daemon does not keep its protocol.

        Cost: proportional to `data`.
        """
        lines: list[bytes] = []
        view = memoryview(data)
        at = 0
        while at < len(view) and not self.overflow:
            if self._left == 0:
                at = self._take_header(view, at)
                continue
            end = min(len(view), at + self._left)
            piece = view[at:end]
            self._left -= end - at
            at = end
            self._take_piece(piece, lines)
        if self.overflow:
            self._line.clear()
        return lines

    def stderr_tail(self) -> bytes:
        """The last bytes of stderr."""
        return bytes(self._stderr[-STDERR_TAIL_BYTES:])

    def _take_header(self, view: memoryview, at: int) -> int:
        take = min(len(view) - at, _HEADER_BYTES - len(self._header))
        self._header += view[at : at + take]
        if len(self._header) == _HEADER_BYTES:
            self._stream = self._header[0]
            if self._stream not in (_STDOUT, _STDERR) or any(self._header[1:4]):
                raise SandboxError("the container engine's stream is not multiplexed")
            self._left = int.from_bytes(self._header[4:], "big")
            self._header.clear()
        return at + take

    def _take_piece(self, piece: memoryview, lines: list[bytes]) -> None:
        self.output_bytes += len(piece)
        if self.output_bytes > self._output_bytes_max:
            self.overflow = True  # M3
            return
        if self._stream == _STDERR:
            self._stderr += piece
            if len(self._stderr) > 2 * STDERR_TAIL_BYTES:  # cut seldom, so that a byte is moved once at most
                del self._stderr[:-STDERR_TAIL_BYTES]
            return
        *whole, rest = bytes(piece).split(b"\n")
        for part in whole:
            if len(self._line) + len(part) > LINE_BYTES_MAX:
                self.overflow = True
                return
            lines.append(bytes(self._line) + part if self._line else part)
            self._line.clear()
        if len(self._line) + len(rest) > LINE_BYTES_MAX:
            self.overflow = True
            return
        self._line += rest
