"""Notices: whom a rule names is told of what it let through (`@obligation("notify")`).

Not here: that it is in the trail (the kernel records it first).

Invariants
- NO1 a notice without a handler is said in the log; one whose handler fails too.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from symbi._core import Kernel

__all__ = ["Notice", "Notices"]

_log = logging.getLogger("symbi.notices")


@dataclass(frozen=True, slots=True)
class Notice:
    """An operation that somebody is to be told of: whom (`channels`), its id and record, and what it was."""

    channels: tuple[str, ...]
    operation: str
    seq: int
    action: str
    principal: str
    resource: str
    rules: tuple[str, ...]


class Notices:
    """Of one runtime."""

    def __init__(self) -> None:
        self._handlers: list[Callable[[Notice], None]] = []
        self._dropped = 0

    def handle(self, handler: Callable[[Notice], None]) -> None:
        """Have `handler` called with each notice, on the runtime's loop. It must be short."""
        self._handlers.append(handler)

    def bell(self, kernel: Kernel) -> None:
        """The kernel rang."""
        rows, dropped = kernel.take_notices()
        if dropped > self._dropped:
            _log.warning("%d notices were not told in time; the trail has them", dropped - self._dropped)
            self._dropped = dropped
        for row in rows:
            notice = Notice(**{**row, "channels": tuple(row["channels"]), "rules": tuple(row["rules"])})
            self._tell(notice)

    def _tell(self, notice: Notice) -> None:
        if not self._handlers:
            _log.warning(  # NO1
                "to %s: %s of %s on %s, record %d, by rule %s",
                *(", ".join(notice.channels), notice.action, notice.principal, notice.resource),
                *(notice.seq, ", ".join(notice.rules)),
            )
        for handler in self._handlers:
            try:
                handler(notice)
            except Exception:  # noqa: BLE001 - the host's own code, on our loop
                _log.exception("a handler of notices failed for record %d", notice.seq)  # NO1
