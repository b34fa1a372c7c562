"""Records as they come: an async iterator that never holds the writer up and says what it did not hand out.

    async for event in log.stream(decision="deny"):
        if isinstance(event, Gap):
            missed = log.query(…)            # records event.first to event.end - 1 are in the log
        else: …

The reader pulls from the files, in this process or another, so a slow one costs the writer nothing. Only what
survives a power cut is handed out. Nothing polls: the directory's own notification wakes the reader, where the file
system has one.
Not here: how far behind is too far (`behind_max`), queries over the past (`symbi.audit.query`).

Invariants
- AS1 every record is, once and in order, handed out, told in a `Gap`, or not asked for by the filters.
- AS2 what is handed out is durable.
- AS3 the loop is woken once for a change of the directory, however long the consumer takes with what it was handed.
"""

from __future__ import annotations

import asyncio
import os
import select
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from symbi import _core
from symbi.audit.event import AuditEvent
from symbi.errors import AuditError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

__all__ = ["AuditStream", "Gap"]

_BATCH = 500  # records taken at once
_WAIT_S = 1.0  # how late at most, where the file system gives no notice


@dataclass(frozen=True, slots=True)
class Gap:
    """Records that were not handed out: `first` to `end - 1`. They are in the log, unless it no longer keeps them."""

    first: int
    end: int


class _Bell:
    """Rings when the directory changes."""

    def __init__(self, directory: str) -> None:
        try:
            self.fd: int | None = _core.audit_watch(directory)
        except AuditError:
            self.fd = None

    def quiet(self) -> None:
        if self.fd is not None:
            with suppress(BlockingIOError):
                while os.read(self.fd, 65_536):
                    pass

    def close(self) -> None:
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


class AuditStream:
    """Records as they come: `async for` in a loop, `follow()` without one. Made by `AuditLog.stream`.

    Attributes:
        next_seq: The record that is looked at next: what `from_seq` takes to go on later, in another process too.
    """

    def __init__(
        self,
        directory: Path,
        query: _core._AuditAsked,
        *,
        from_seq: int | None = None,
        behind_max: int | None = None,
    ) -> None:
        self._directory = os.fspath(directory)
        self._core = _core.AuditStream(self._directory, query, from_seq, behind_max)
        self.next_seq = self._core.take(0)[2] if from_seq is None else from_seq

    def take(self) -> list[AuditEvent | Gap]:
        """What is there now and was not handed out; nothing where that is all."""
        while True:
            before = self.next_seq
            missed, found, self.next_seq, durable = self._core.take(_BATCH)
            given: list[AuditEvent | Gap] = [] if missed is None else [Gap(*missed)]
            given.extend(AuditEvent._of(fields) for fields in found)
            if given or self.next_seq in (before, durable):
                return given

    async def __aiter__(self) -> AsyncIterator[AuditEvent | Gap]:
        loop = asyncio.get_running_loop()
        bell, rung = _Bell(self._directory), asyncio.Event()

        def ring() -> None:
            bell.quiet()  # the notice stays readable until it is read: the loop would come back at every turn (AS3)
            rung.set()

        if bell.fd is not None:
            loop.add_reader(bell.fd, ring)
        try:
            while True:
                bell.quiet()
                rung.clear()
                given = await asyncio.to_thread(self.take)
                for event in given:
                    yield event
                if not given:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(rung.wait(), None if bell.fd is not None else _WAIT_S)
        finally:
            if bell.fd is not None:
                loop.remove_reader(bell.fd)
            bell.close()

    def follow(self) -> Iterator[AuditEvent | Gap | None]:
        """As the async iterator, for a thread without a loop. `None` where all was handed out and the wait begins."""
        bell = _Bell(self._directory)
        try:
            while True:
                bell.quiet()
                given = self.take()
                yield from given
                if not given:
                    yield None
                    if bell.fd is None:
                        time.sleep(_WAIT_S)
                    else:
                        select.select([bell.fd], [], [])
        finally:
            bell.close()
