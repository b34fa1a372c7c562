"""Whose data a call is about: said by the tool itself, while it runs.

Why: a tool that looks a person up knows only then whose data it hands over. What it says here is on the result of
the call, and on its error text: both are sealed under that person's key, and whoever is handed one has read it.
Not here: labels that are the same for every call (`@symbi.tool(labels=…)`), sealing (the kernel).
"""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING

from symbi.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["concerning", "concerns"]

_SUBJECTS: ContextVar[set[str] | None] = ContextVar("symbi_subjects", default=None)


def concerns(*subjects: str) -> None:
    """Say whose data the call that runs hands over, or fails with: `concerns("patient-17")`. Several add up.

    Raises:
        InputError: no tool runs here.
    """
    known = _SUBJECTS.get()
    if known is None:
        raise InputError("`concerns` is for a tool, while it is called")
    known.update(f"subject:{subject}" for subject in subjects)


@contextlib.contextmanager
def concerning() -> Iterator[set[str]]:
    """Where a tool runs: labels of those whom it says are put here. A thread that it is sent to sees the same."""
    told: set[str] = set()
    token = _SUBJECTS.set(told)
    try:
        yield told
    finally:
        _SUBJECTS.reset(token)
