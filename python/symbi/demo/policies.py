"""The demo's policies as files of the user's: to be read, changed, and run again.

Invariants
- DP1 a file that is there is never written over: it may hold the user's change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from symbi.policy import builtin_policy

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write_policies"]

_FILES = {"secure-default.cedar": "secure-default", "demo.cedar": "demo"}


def write_policies(data: Path) -> Path:
    """Write the built-in policies below `data`, where they are not yet; answers their directory."""
    directory = data / "policies"
    directory.mkdir(mode=0o700, exist_ok=True)
    for name, builtin in _FILES.items():
        path = directory / name
        if not path.exists():
            path.write_text(builtin_policy(builtin), encoding="utf-8")
    return directory
