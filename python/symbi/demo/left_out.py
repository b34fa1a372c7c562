"""What was not read and why, for people: a line each, with its count.

Invariants
- DF3 whatever was not read is said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from symbi.demo.intake import Reading

__all__ = ["FILES_MAX", "FILE_BYTES_MAX", "counted", "not_read"]

FILES_MAX = 2_000
FILE_BYTES_MAX = 1 << 20
"""What scout reads at most; the rest it counts."""

_REASONS = {
    "symlink": "links, which are not followed",
    "fifo": "pipes",
    "socket": "sockets",
    "device": "devices",
    "binary": "binary files",
    "not_utf8": "files that are not UTF-8 text",
    "too_large": "files larger than 1 MiB",
    "no_permission": "entries that the sandbox may not read",
    "ignored": "entries ignored by .gitignore",
    "tool_directory": "directories of tools (.git, .symbi, node_modules, …)",
    "virtual_environment": "virtual environments",
    "too_deep": "directories nested too deep",
}


def not_read(reading: Reading) -> list[str]:
    """What was not read and why, a line each (DF3)."""
    lines = [
        f"not read: {_REASONS.get(reason, reason.replace('_', ' '))} ({count})"
        for reason, count in sorted(reading.skipped.items(), key=lambda one: (-one[1], one[0]))
    ]
    if reading.left_out:
        lines.append(f"not read: files past the largest number of {FILES_MAX} ({reading.left_out})")
    if not reading.complete:
        lines.append(
            f"not read: what comes after {reading.entries} entries; the tree is larger than one reading"
        )
    if reading.cut:
        lines.append(f"not read: {reading.cut}")
    if reading.copies:
        lines.append(f"read once: files that are copies of others ({reading.copies})")
    return lines


def counted(count: int, plural: str) -> str:
    """`3 files`, `1 file`; a word that is no plural stays as it is."""
    return f"{count} {plural.removesuffix('s') if count == 1 else plural}"
