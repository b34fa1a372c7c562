"""What leaves the monitor for the host, and what went wrong on the way.

Why: a refusal, like a result, is handed to the host after its record is on disk; and the health of a runtime counts
what was refused or failed, by kind.
Not here: deciding (the kernel), showing the counts (`symbi.status`).
"""

from __future__ import annotations

import contextlib
from time import time_ns
from typing import TYPE_CHECKING, Final, Self

from symbi.errors import PolicyDenied, SymbiError

if TYPE_CHECKING:
    from symbi.runtime import Runtime

__all__ = ["Faults", "Leaving"]


CODES_MAX: Final = 256
"""Kinds of error that are told apart: an agent names its own, and must not be able to fill the memory with names."""

_OTHER: Final = "other"


class Faults:
    """How often each kind of error came up in this opening, and when last. Past `CODES_MAX` kinds the rest are one."""

    __slots__ = ("by_agent", "counts")

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], tuple[int, int]] = {}
        self.by_agent: dict[str, dict[str, tuple[int, int]]] = {}  # only agents that failed

    def note(self, component: str, code: str, agent: str = "") -> None:
        """Count one error of `component`, and of `agent` where it is one's."""
        now_us = time_ns() // 1000
        kind = (
            component,
            code if (component, code) in self.counts or len(self.counts) < CODES_MAX else _OTHER,
        )
        count, _ = self.counts.get(kind, (0, 0))
        self.counts[kind] = (count + 1, now_us)
        if agent:
            mine = self.by_agent.setdefault(agent, {})
            code = code if code in mine or len(mine) < CODES_MAX else _OTHER
            count, _ = mine.get(code, (0, 0))
            mine[code] = (count + 1, now_us)

    def forget(self, agent: str) -> None:
        """The agent is gone."""
        self.by_agent.pop(agent, None)


class Leaving:
    """What leaves the monitor for the host: waits, on its way out, until its record is on disk.

    Attributes:
        seq: The record to wait for; set within.
    """

    __slots__ = ("_component", "_runtime", "seq")

    def __init__(self, runtime: Runtime, component: str) -> None:
        self._runtime = runtime
        self._component = component
        self.seq: int | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, PolicyDenied):
            self._runtime.faults.note(self._component, error.code)
            with contextlib.suppress(SymbiError):  # the refusal stands, whatever the log does
                await self._runtime.bridge.durable(error.seq)
        elif error is None:
            await self._runtime.bridge.durable(self.seq)
