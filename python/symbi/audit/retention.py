"""What a trail keeps and what it lets go: a legal hold, and what a pruning removed.

Not here: doing it (`AuditLog`, a runtime's control socket), what may go (`symbi-audit`, `symbi-kernel`).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from symbi import _core
from symbi.audit.event import time_of

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["Hold", "Pruned", "hold_of"]


@dataclass(frozen=True, slots=True)
class Hold:
    """A legal hold: nothing is pruned while it is in force.

    Attributes:
        seq: The record that put it in force.
        since: When.
        reason: Why, as it was given.
        by: Who said so.
    """

    seq: int
    since: datetime
    reason: str
    by: str


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a pruning removed.

    Attributes:
        first: The first record that was there before.
        end: The first that is there now.
        size: Bytes of files.
        seq: The record of it.
    """

    first: int
    end: int
    size: int
    seq: int


def hold_of(directory: str | os.PathLike[str]) -> Hold | None:
    """The hold on a trail, as its records say.

    Raises:
        AuditError: there is no trail.

    Cost: a pass over the trail, about 1 s a million records.
    """
    found = _core.audit_hold(os.fspath(directory))
    if found is None:
        return None
    seq, since_us, reason, by = found
    return Hold(seq, time_of(since_us), reason, by)
