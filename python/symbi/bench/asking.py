"""Rows of the audit suite that ask a large trail: one agent's day, one event, what the index costs.

A thousand agents in thirty days, all alike busy. The log's clock cannot be set, so a day is a thirtieth of the records;
they are as many, and lie in as many segments, as those of a real one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import count, cycle
from typing import TYPE_CHECKING

from symbi.bench.frame import BenchContext, Row, Sample, latency_us, sample_ns

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from symbi import AuditLog

__all__ = ["rows"]

_RECORDS = 10_000_000
_AGENTS = 1_000
_DAYS = 30
_GROUP = 10_000
_DAY_US = 50_000.0
_QUERIES = 20
_TYPES = ("tool.called", "tool.refused", "message.sent", "run.finished")
_fresh = count()


def rows(context: BenchContext) -> list[Row]:
    """The rows."""
    total = context.scale(_RECORDS)
    return [
        Row(
            "audit",
            f"one agent's day, {total // _AGENTS // _DAYS} of {total:,} records",
            "µs",
            "lower",
            measure=_day,
            target=_DAY_US,
        ),
        Row("audit", f"one event of {total:,} by its id", "µs", "lower", measure=_one),
        Row("audit", f"the index of {total:,} records, made", "s", "lower", measure=_build),
        Row("audit", f"the index of {total:,} records, a record", "bytes", "lower", measure=_size),
    ]


@dataclass(frozen=True, slots=True)
class _Asked:
    log: AuditLog
    since: datetime
    until: datetime
    build_s: float
    bytes_each: float


def _details(number: int) -> str:
    return (
        f'{{"action":"tool.call","principal":"agent","resource":"Tool::\\"t{number % 50}\\"",'
        f'"bytes":{number % 4096},"arguments":"{number * 2654435761 % (1 << 128):032x}",'
        f'"rules":["rule-{number % 20}"]}}'
    )


def _asked(context: BenchContext) -> _Asked:
    from symbi import AuditLog

    total = context.scale(_RECORDS)
    directory: Path = context.directory / f"asked-{next(_fresh)}"
    with AuditLog.open(directory, "a") as writer:
        for first in range(0, total, _GROUP):
            numbers = range(first, min(first + _GROUP, total))
            writer.append_many(
                [
                    (_TYPES[n % 4], f"agent-{n * 7919 % _AGENTS}", _details(n), f"person-{n % 5000}")
                    for n in numbers
                ],
                wait=False,
            )
    log = AuditLog.open(directory)
    begin = time.perf_counter()
    log.reindex()
    build_s = time.perf_counter() - begin
    used = sum(file.stat().st_size for file in (directory / "index").iterdir())
    begins, ends = log.at(total // 2), log.at(total // 2 + total // _DAYS)
    if begins is None or ends is None:
        raise RuntimeError("the trail is not as long as it was made")
    return _Asked(log, begins.timestamp, ends.timestamp, build_s, used / total)


def _of(context: BenchContext) -> _Asked:
    return context.once("audit-asked", lambda: _asked(context))


def _day(context: BenchContext) -> Sample:
    asked = _of(context)
    agents = cycle(f"agent-{number * 37 % _AGENTS}" for number in range(_QUERIES))

    def one() -> None:
        found = asked.log.query(agent_id=next(agents), since=asked.since, until=asked.until)
        if not found:
            raise RuntimeError("nothing was found")

    return latency_us(sample_ns(one, _QUERIES))


def _one(context: BenchContext) -> Sample:
    asked = _of(context)
    ids = cycle(event.event_id for event in asked.log.query(agent_id="agent-7", limit=_QUERIES))
    return latency_us(sample_ns(lambda: asked.log.query(event_id=next(ids)), _QUERIES))


def _build(context: BenchContext) -> Sample:
    return Sample(_of(context).build_s)


def _size(context: BenchContext) -> Sample:
    return Sample(_of(context).bytes_each)
