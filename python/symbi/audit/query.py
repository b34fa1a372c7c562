"""Questions to a trail: what is asked, answers page by page, and the index that finds them.

    page = log.page(rule="no-secret-leaves", newest_first=True, limit=50)
    page.events, page.next                      # page.next goes into `after` for the following page

The index lies in `index/` of the trail's directory. It is made and brought up to date by whoever asks, never by the
trail's
writer, and only chooses where to look: what is answered is read from the log, and each record must follow from the
one before it. Where the index is damaged, stale or missing, or the directory is not ours to write, the log is read
through.
Not here: signatures (`AuditLog.verify`), records as they come (`symbi.audit.stream`).

Invariants
- AQ1 a cursor names a record, so pages neither overlap nor leave out what is written meanwhile.
- AQ2 a cursor of one query is refused by another.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict, Unpack

from symbi import _core
from symbi.audit.event import AuditEvent
from symbi.audit.rows import time_us
from symbi.errors import AuditError, InputError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

__all__ = ["Filters", "IndexCheck", "IndexState", "Page", "Queries", "asked"]

_DIGITS_MAX = 18  # of a record's number: what 64 bits hold whatever the digits are
_STEP_SEGMENTS = 4  # taken in at once, about a second: then progress is told and an interruption heard


@dataclass(frozen=True, slots=True)
class Page:
    """Answers.

    Attributes:
        events: In the order that was asked for.
        next: The cursor for what follows; `None` where there is nothing more by now.
        passed_over: Units of the index that were damaged or of another log. Their records were read through, so no
        answer
            is missing; `symbi audit reindex` makes them again.
    """

    events: tuple[AuditEvent, ...]
    next: str | None
    passed_over: int = 0


@dataclass(frozen=True, slots=True)
class IndexState:
    """The index, brought up to date: `records` in it, of `segments`; `busy` where somebody else is at it."""

    records: int
    segments: int
    busy: bool


@dataclass(frozen=True, slots=True)
class IndexCheck:
    """The index held against the log.

    Attributes:
        records: So many are in it, as the log has them.
        wrong: First records of its parts that say something else than the log, or nothing that can be read.
        missing: So many records of the log are not in it: queries read them through.
        busy: Somebody makes it, and nothing was looked at.
    """

    records: int
    wrong: tuple[int, ...]
    missing: int
    busy: bool


class Filters(TypedDict, total=False):
    """What a query asks for; see `AuditLog.query`."""

    agent_id: object
    event_type: str | None
    since: datetime | str | None
    until: datetime | str | None
    op: str | None
    run: str | None
    decision: str | None
    action: str | None
    rule: str | None
    resource: str | None
    decision_id: str | None
    label: str | None
    subject: str | None
    event_id: str | None
    limit: int | None
    newest_first: bool


def asked(**filters: Unpack[Filters]) -> _core._AuditAsked:
    """A query as the core takes it.

    Raises:
        InputError: a filter has another name, or a value that it cannot have.
    """
    unknown = filters.keys() - Filters.__annotations__.keys()
    if unknown:
        raise InputError(f"a query has no filter `{min(unknown)}`: {', '.join(Filters.__annotations__)}")
    limit = filters.get("limit")
    if limit is not None and limit < 0:
        raise InputError("`limit` is negative")
    agent_id = filters.get("agent_id")
    newest_first = bool(filters.get("newest_first"))
    query: _core._AuditAsked = {
        "agent_id": None if agent_id is None else str(agent_id),
        "event_type": filters.get("event_type"),
        "since_us": time_us(filters.get("since"), "since"),
        "until_us": time_us(filters.get("until"), "until"),
        "op": filters.get("op"),
        "run": filters.get("run"),
        "decision": filters.get("decision"),
        "action": filters.get("action"),
        "rule": filters.get("rule"),
        "resource": filters.get("resource"),
        "decision_id": filters.get("decision_id"),
        "label": filters.get("label"),
        "subject": filters.get("subject"),
        "event_id": filters.get("event_id"),
        "limit": limit,
        "newest_first": newest_first,
        "after_seq": None,
    }
    for name, value in query.items():
        if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
            raise InputError(f"`{name}` is not UTF-8: no record has a lone surrogate")
    return query


def _mark(query: _core._AuditAsked) -> str:
    """What tells one query's cursors from another's; the page's size may change."""
    told = {name: value for name, value in query.items() if name not in ("limit", "after_seq")}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]


class Queries:
    """The queries of one trail; it keeps what it has read of the index."""

    def __init__(self, directory: Path) -> None:
        self._directory = os.fspath(directory)
        self._index: _core.AuditIndex | None = None

    def _open(self) -> _core.AuditIndex:
        if self._index is None:
            self._index = _core.AuditIndex(self._directory)
        return self._index

    def page(self, query: _core._AuditAsked, after: str | None = None, *, index: bool = True) -> Page:
        """Answers behind the cursor `after`, with the index or without."""
        if after is not None:
            seq, dot, mark = after.partition(".")
            if not dot or not (seq.isascii() and seq.isdecimal()) or len(seq) > _DIGITS_MAX:
                raise InputError(f"`{after}` is no cursor: take it from the page before")
            if mark != _mark(query):  # AQ2
                raise InputError("the cursor is another query's: ask as for the page before")
            query["after_seq"] = int(seq)
        if index:
            self.catch_up()
            found, more, passed_over = self._open().query(query)
        else:
            limit = query["limit"]
            if limit is not None:
                query["limit"] = limit + 1
            found, passed_over = _core.audit_scan(self._directory, query), 0
            more = limit is not None and len(found) > limit
            found = found[:limit]
        events = tuple(AuditEvent._of(fields) for fields in found)
        cursor = f"{events[-1].seq}.{_mark(query)}" if more and events else None
        return Page(events, cursor, passed_over)

    def before(self, seq: int, count: int, **filters: Unpack[Filters]) -> list[AuditEvent]:
        """The last `count` answers before record `seq`, the newest first."""
        query = asked(**filters)
        query["newest_first"], query["limit"], query["after_seq"] = True, count, seq
        self.catch_up()
        return [AuditEvent._of(fields) for fields in self._open().query(query)[0]]

    def at(self, seq: int) -> AuditEvent | None:
        """The record of this number; None where there is none."""
        query = asked(limit=1)
        query["after_seq"] = seq - 1 if seq > 0 else None
        found, _, _ = self._open().query(query)
        event = AuditEvent._of(found[0]) if found else None
        return event if event is not None and event.seq == seq else None

    def catch_up(self, progress: Callable[[int, int], None] | None = None) -> IndexState | None:
        """Takes in what the index has not, where that is much. Where it cannot be written nothing happens."""
        if not self._open().is_behind():
            return None
        try:
            return self.build(progress)
        except AuditError:
            return None  # a directory that is only ours to read, a full disk: queries read through

    def check(self) -> IndexCheck:
        """Holds every part of the index against the log."""
        records, wrong, missing, busy = self._open().check()
        return IndexCheck(records, tuple(wrong), missing, busy)

    def build(
        self, progress: Callable[[int, int], None] | None = None, *, afresh: bool = False
    ) -> IndexState:
        """Takes in everything. `progress` is called with segments that were just done and segments left.

        Raises:
            AuditError: the index cannot be written.
        """
        index = self._open()
        if afresh:
            index.remove()
        while True:
            records, segments, left, busy = index.build(_STEP_SEGMENTS, os.cpu_count() or 1)
            if progress is not None and left:
                progress(_STEP_SEGMENTS, left)
            if busy or not left:
                return IndexState(records, segments, busy)
