"""What commands print: tables, colour, notes, a progress bar.

Why here: one place decides what a terminal may be told. Text comes from files, agents and peers, and an
escape sequence in it could repaint a refusal as a permission.
Not here: what is said.

Invariants
- CO1 text of a cell or a note holds no control character.
- CO2 colour only on a terminal, and never with `NO_COLOR`.
- CO3 a progress bar goes to stderr, only after a second, and is plain lines when piped.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Self, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Progress", "clean", "note", "paint", "print_json", "table", "warn"]

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}

PROGRESS_AFTER_S = 1.0  # shorter work needs no bar
PROGRESS_EVERY_S = 0.1  # a terminal is repainted at most ten times a second
PROGRESS_LINE_EVERY_S = 5.0  # a log gets a line every five seconds
_BAR_CELLS = 24


def clean(text: object) -> str:
    """`text` without control characters (CO1): each becomes `?`, a tab or line break a space."""
    return "".join(char if char.isprintable() else " " if char in "\t\n" else "?" for char in str(text))


def paint(text: str, style: str, stream: TextIO | None = None) -> str:
    """`text` in `style` (bold, dim, red, green, yellow, cyan) where `stream` shows colour (CO2)."""
    target = sys.stdout if stream is None else stream
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not target.isatty():
        return text
    return f"\x1b[{_STYLES[style]}m{text}\x1b[0m"


def note(text: str) -> None:
    """One line for the person, on stderr."""
    sys.stderr.write(clean(text) + "\n")


def warn(text: str) -> None:
    """One loud line, on stderr."""
    sys.stderr.write(f"symbi: {paint('warning', 'yellow', sys.stderr)}: {clean(text)}\n")


def print_json(value: object) -> None:
    """Data for a program, on stdout, in one document."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False, default=str) + "\n")


def table(headers: Sequence[str], rows: Sequence[Sequence[object]], *, right: Sequence[int] = ()) -> str:
    """A plain table, columns as wide as their widest cell.

    Args:
        headers: One a column.
        rows: Cells; anything with a text. Control characters are replaced (CO1).
        right: Indexes of the columns that align right.
    """
    cells = [[clean(cell) for cell in row] for row in (headers, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headers))]

    def line(row: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(padded).rstrip()

    rule = "  ".join("─" * width for width in widths)
    return "\n".join([line(cells[0]), rule, *(line(row) for row in cells[1:])])


class Progress:
    """A progress bar on stderr (CO3). A context manager; `advance` is cheap enough for inner loops.

    Args:
        label: What is being done.
        total: Steps in all; `None` where nobody knows.
        stream: Where to; stderr by default.
        clock: Seconds, monotonic.
    """

    def __init__(
        self,
        label: str,
        total: int | None = None,
        *,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._label = clean(label)
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._done = 0
        self._note = ""
        self._terminal = self._stream.isatty()
        self._next_at = clock() + PROGRESS_AFTER_S
        self._painted_cells = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._wipe()

    def advance(self, steps: int = 1, note: str = "") -> None:
        """Counts `steps`, and shows them when it is time."""
        self._done += steps
        self._note = note or self._note
        now = self._clock()
        if now >= self._next_at:
            self._next_at = now + (PROGRESS_EVERY_S if self._terminal else PROGRESS_LINE_EVERY_S)
            self._show()

    def _show(self) -> None:
        count = f"{self._done}" if self._total is None else f"{self._done}/{self._total}"
        text = clean(f"{self._label} {count} {self._note}".rstrip())
        if not self._terminal:
            self._stream.write(text + "\n")
            self._stream.flush()
            return
        bar = ""
        if self._total:
            full = min(_BAR_CELLS, self._done * _BAR_CELLS // self._total)
            bar = "█" * full + "░" * (_BAR_CELLS - full) + " "
        self._wipe()
        line = (bar + text)[: max(20, _columns(self._stream) - 1)]
        self._stream.write("\r" + line)
        self._stream.flush()
        self._painted_cells = len(line)

    def _wipe(self) -> None:
        if self._painted_cells:
            self._stream.write("\r" + " " * self._painted_cells + "\r")
            self._stream.flush()
            self._painted_cells = 0


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return 80
