"""`outbox.send`: the demo's way out. It appends to a file what a real tool would post, mail or upload.

Why a file: the reader of a demo wants to see what would have left, and nobody wants it to leave.
Not here: whether it may (the monitor), and what of it (obligations were applied before it is called).

Invariants
- OB1 the file holds what permits carried, in their order, and nothing else.
- OB2 text of a file or an agent is one line without control characters: it can forge no other line.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from symbi.errors import ToolError
from symbi.tools import tool

if TYPE_CHECKING:
    from pathlib import Path

    from symbi.agents import Part

__all__ = ["Outbox", "one_line", "send"]


@dataclass
class Outbox:
    """What would be sent in one run.

    Attributes:
        path: The file; made at the first part.
        sent: Its parts, in order.
    """

    path: Path
    sent: list[str] = field(default_factory=list)

    def open(self) -> None:
        """Make this the outbox that `outbox.send` writes to. One at a time in a process."""
        global _open  # noqa: PLW0603 - a tool is a function: what it acts on belongs to the process
        _open = self

    def append(self, text: str) -> None:
        """One part."""
        line = one_line(text)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(self.path, flags, 0o600), "a", encoding="utf-8") as file:
            file.write(f"{line}\n")
        self.sent.append(line)


_open: Outbox | None = None


@tool(name="outbox.send", effects="external", risk="medium")
def send(parts: list[Part]) -> int:
    """Send parts; answers how many."""
    if _open is None:
        raise ToolError("no outbox is open: `symbi demo` opens one")
    for part in parts:
        _open.append(part.text)
    return len(parts)


def one_line(text: str) -> str:
    """`text` as one printable line (OB2)."""
    return "".join(char if char.isprintable() else " " for char in text).strip()
