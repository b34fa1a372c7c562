"""What a call has come to: said by the tool itself, while it runs.

Why: what a model or a service charges is known only afterwards. A budget reserves what the call is expected to cost;
what the tool says here takes its place when the call ends.
Not here: reserving and capping (the kernel), what is expected (`@symbi.tool(costs=…)`).
"""

from __future__ import annotations

import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING

from symbi.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["spending", "spent"]

_SPENT: ContextVar[dict[str, int] | None] = ContextVar("symbi_spent", default=None)


def spent(**amounts: int) -> None:
    """Say what the call that runs has come to, by measure: `spent(tokens=812, cost=31)`.

    Whole numbers from 0 on, money in its smallest unit. Said several times, it adds up. Time is taken by the monitor.

    Raises:
        InputError: no tool runs here, or an amount is not a whole number from 0 on.
    """
    known = _SPENT.get()
    if known is None:
        raise InputError("`spent` is for a tool, while it is called")
    for measure, amount in amounts.items():
        if not isinstance(amount, int) or isinstance(amount, bool) or amount < 0:
            raise InputError(f"`{measure}` is a whole number from 0 on, not {amount!r:.40}")
    for measure, amount in amounts.items():
        known[measure] = known.get(measure, 0) + amount


@contextlib.contextmanager
def spending() -> Iterator[dict[str, int]]:
    """Where a tool runs: what it says is put here. A thread that it is sent to sees the same."""
    told: dict[str, int] = {}
    token = _SPENT.set(told)
    try:
        yield told
    finally:
        _SPENT.reset(token)
