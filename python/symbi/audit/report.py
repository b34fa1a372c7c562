"""A trail held against the controls of a framework.

    found = report(log, load("hipaa"), since=…, until=…)
    found.verification, found.controls[0].status, found.controls[0].findings[0].events
    found.to_html(); found.to_json(); found.to_csv()

The whole trail is verified while the evidence is counted, record by record and not through the index: a report says
what is absent, too, and nothing may be missing from it because a projection left it out. Each sentence names
records; each of those stands in the report with the proof that it is in the trail.
Not here: whether evidence is sufficient, which is a person's to say.

Invariants
- RP1 over a trail that does not hold nothing is evidence: that is said first, and every control is `unverified`.
- RP2 a control is `evidence` only where each item that it requires was found; where none was, it is a `gap`.
- RP3 an event that a sentence names stands in the report, with its line and, as far as a checkpoint covers it, its
  proof.
- RP4 the fact `complete` is found only where checkpoints that were kept elsewhere cover every record of the report's
  time; one that covers a part is told as that part.
"""

from __future__ import annotations

import csv
import io
import os
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from symbi import _core
from symbi.audit.event import AuditEvent, time_of
from symbi.audit.query import asked
from symbi.audit.rows import time_us
from symbi.audit.verification import verification_of
from symbi.errors import ChainBrokenError, InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from symbi.audit.framework import Control, Framework, Item
    from symbi.audit.log import AuditLog
    from symbi.audit.verification import Verification

__all__ = ["Finding", "Judged", "Report", "Series", "report"]

Status = Literal["evidence", "partial", "gap", "unverified"]
_PARTS = 60  # bars of a chart: as many as can be told apart on a page
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Finding:
    """One sentence. `found`: whether it is evidence; `events`: records that show it, the first and last of `count`."""

    says: str
    required: bool
    found: bool
    count: int | None
    events: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Judged:
    """A control and what was found for it (RP2)."""

    control: Control
    status: Status
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Series:
    """Counts in equal parts of the report's time."""

    name: str
    counts: tuple[int, ...]


@dataclass(slots=True)
class Report:
    """What was found.

    Attributes:
        framework: Held against this.
        since, until: The time of the report; `until` is not in it.
        made: When it was made.
        trail: The trail's directory, as it was given.
        log_id, fingerprint: Which log, and the key of its record 0.
        verification: What the verification says; None where it failed.
        broken: Why it failed (RP1).
        broken_seq: The first record that fails.
        controls: One by one.
        key_given: The fingerprint was given, so the records are signed by the key that was expected.
        begins: The time of the trail's first record.
        series: Activity and refusals over time.
        events: The records that sentences name, by number.
        vouched: A checkpoint that was kept elsewhere covers every record of the report's time (RP4).
        proofs: Their proofs, as far as the checkpoint covers them.
        checkpoint: The checkpoint that the proofs lead to; empty without one.
    """

    framework: Framework
    since: datetime
    until: datetime
    made: datetime
    trail: str
    log_id: str
    fingerprint: str
    verification: Verification | None
    broken: str
    broken_seq: int | None
    controls: tuple[Judged, ...]
    key_given: bool
    begins: datetime
    vouched: bool = False
    series: tuple[Series, ...] = ()
    events: dict[int, AuditEvent] = field(default_factory=dict)
    proofs: dict[int, str] = field(default_factory=dict)
    checkpoint: str = ""

    @property
    def verified(self) -> bool:
        """Whether the trail holds. Evidence is only in a report of one that does."""
        return self.verification is not None

    def gaps(self) -> list[Judged]:
        """The controls for which something that they require was not found."""
        return [one for one in self.controls if one.status != "evidence"]

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, the verification first."""
        found = self.verification
        return {
            "verified": self.verified,
            "broken": None if found is not None else {"seq": self.broken_seq, "reason": self.broken},
            "verification": None
            if found is None
            else {
                "level": found.level,
                "records": found.records,
                "complete_to": found.complete_to,
                "tail_bytes": found.tail_bytes,
                "pruned": found.pruned,
                "distrusted": [[records.start, records.stop] for records in found.distrusted],
                "head": found.head,
            },
            "framework": self.framework.name,
            "title": self.framework.title,
            "edition": self.framework.edition,
            "notice": self.framework.notice,
            "since": self.since.isoformat(),
            "until": self.until.isoformat(),
            "made": self.made.isoformat(),
            "trail": self.trail,
            "log_id": self.log_id,
            "key": self.fingerprint,
            "controls": [
                {
                    "id": one.control.id,
                    "title": one.control.title,
                    "asks": one.control.asks,
                    "status": one.status,
                    "evidence": [
                        {
                            "says": finding.says,
                            "required": finding.required,
                            "found": finding.found,
                            "count": finding.count,
                            "events": list(finding.events),
                        }
                        for finding in one.findings
                    ],
                }
                for one in self.controls
            ],
            "series": {one.name: list(one.counts) for one in self.series},
            "events": [
                {"seq": seq, "record": event.to_json(), "line": event.line, "proof": self.proofs.get(seq)}
                for seq, event in sorted(self.events.items())
            ],
            "checkpoint": self.checkpoint or None,
        }

    def to_csv(self) -> str:
        """A row for each sentence. The first row says whether the trail was verified."""
        out = io.StringIO()
        rows = csv.writer(out, lineterminator="\n")
        found = self.verification
        word = "verified" if found is not None else f"NOT VERIFIED: {self.broken}"
        level = str(found) if found is not None else ""
        rows.writerow(["framework", "control", "title", "status", "sentence", "found", "count", "events"])
        rows.writerow([self.framework.name, "", "the trail", word, level, found is not None, "", ""])
        for one in self.controls:
            for finding in one.findings:
                count = "" if finding.count is None else finding.count
                cells = [one.control.id, one.control.title, one.status, finding.says]
                events = " ".join(map(str, finding.events))
                rows.writerow([self.framework.name, *map(_cell, cells), finding.found, count, events])
        return out.getvalue()

    def to_html(self) -> str:
        """One page that loads nothing and runs nothing, for reading and for print."""
        from symbi.audit.report_page import page_of

        return page_of(self)


def _cell(text: str) -> str:
    """A text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in "=+-@\t\r" else text


def report(
    log: AuditLog,
    framework: Framework,
    *,
    since: datetime | str | None = None,
    until: datetime | str | None = None,
    key: str | None = None,
    checkpoints: Sequence[str] = (),
) -> Report:
    """Verifies the trail and holds it against a framework.

    Args:
        log: The trail.
        framework: `symbi.audit.framework.load("hipaa")`, or one of your own.
        since: At this time or later; from the first record by default.
        until: Before this time; to the last record by default.
        key: The fingerprint that was kept elsewhere.
        checkpoints: Those that were kept elsewhere: all must hold.

    Returns:
        The report, also of a trail that does not hold: then it says so and nothing else (RP1).

    Raises:
        InputError: there is no time between `since` and `until`; no key, no checkpoint.

    Cost: verifying the trail, about 6 µs a record on two cores, and 3 µs a record for the evidence.
    """
    first, last = _ends(log)
    begin, end = _times(first, last, since, until)
    items = [item for control in framework.controls for item in control.evidence]
    queries = [asked(**item.query) for item in items if item.query is not None]
    series = [asked(), asked(decision="deny")]
    made = datetime.now(UTC)
    told = Report(
        framework=framework,
        since=time_of(begin),
        until=time_of(end),
        made=made,
        trail=os.fspath(log.directory),
        log_id=log.log_id,
        fingerprint=log.fingerprint,
        verification=None,
        broken="",
        broken_seq=None,
        controls=(),
        key_given=key is not None,
        begins=time_of(0) if first is None else first.timestamp,
    )
    try:
        counts, tallies = _core.audit_survey(
            os.fspath(log.directory), key, list(checkpoints), [*queries, *series], (begin, end, _PARTS)
        )
    except ChainBrokenError as error:
        told.broken, told.broken_seq = str(error), error.seq
        told.controls = tuple(Judged(one, "unverified", ()) for one in framework.controls)
        return told
    told.verification = verification_of(counts)
    ends = _us(told.verification.last)
    if until is None and begin <= ends < end - 1:
        # What stands at the end is not signed: its time is nobody's word, either.
        return report(log, framework, key=key, checkpoints=checkpoints, since=since, until=time_of(ends + 1))
    told.vouched = _is_vouched(log, told.verification, end)
    told.series = (
        Series("records", tuple(tallies[-2][2])),
        Series("refused", tuple(tallies[-1][2])),
    )
    counted = iter(tallies)
    told.controls = tuple(_judge(control, told, counted) for control in framework.controls)
    _bring_events(log, told)
    return told


def _ends(log: AuditLog) -> tuple[AuditEvent | None, AuditEvent | None]:
    """The first and the last record; none where it cannot be read, which the verification tells."""
    first = last = None
    with suppress(ChainBrokenError):
        first = next(iter(log.tail()), None)
    with suppress(ChainBrokenError):
        last = next(iter(log.last(1)), None)
    return first, last


def _times(
    first: AuditEvent | None,
    last: AuditEvent | None,
    since: datetime | str | None,
    until: datetime | str | None,
) -> tuple[int, int]:
    begin, end = time_us(since, "since"), time_us(until, "until")
    if begin is None:
        begin = 0 if first is None else _us(first.timestamp)
    if end is None:
        end = _us(datetime.now(UTC)) if last is None else _us(last.timestamp) + 1
    if end <= begin:
        raise InputError("there is no time between `since` and `until`")
    return begin, end


def _us(time: datetime) -> int:
    return time_us(time, "time") or 0


def _judge(control: Control, told: Report, counted: Any) -> Judged:
    findings = []
    for item in control.evidence:
        if item.query is not None:
            count, events, _ = next(counted)
            findings.append(_finding(item, told, count >= item.least, count, tuple(events)))
        else:
            held, count, events = _fact(item, told)
            findings.append(_finding(item, told, held, count, events))
    required = [finding.found for finding in findings if finding.required]
    status: Status = "evidence" if all(required) else "partial" if any(required) else "gap"  # RP2
    return Judged(control, status, tuple(findings))


def _is_vouched(log: AuditLog, found: Verification, end: int) -> bool:
    """RP4. Times never go back: where the last record of a checkpoint is not before the end, so is none after it."""
    if not found.lacks:
        return True
    if not found.complete_to or any(records.start < found.complete_to for records in found.distrusted):
        return False
    last = log.at(found.complete_to - 1)
    return last is not None and _us(last.timestamp) >= end


def _finding(item: Item, told: Report, held: bool, count: int | None, events: tuple[int, ...]) -> Finding:
    found = told.verification
    says = item.says.format(count=f"{count or 0:,}", verified="" if found is None else str(found))
    return Finding(says, item.required, held, count, events)


def _fact(item: Item, told: Report) -> tuple[bool, int | None, tuple[int, ...]]:
    found = told.verification
    if found is None:
        return False, None, ()
    ends = (0, found.records - 1)
    if item.fact == "verified":
        return True, None, ends
    if item.fact == "authentic":
        return told.key_given and not found.distrusted, None, ends
    if item.fact == "complete":
        return told.vouched, int(told.vouched), (found.complete_to - 1,)[: found.complete_to]
    days = (told.made - told.begins).total_seconds() / _DAY_S
    return days >= item.days, None, ends


def _bring_events(log: AuditLog, told: Report) -> None:
    """RP3. What is proven is held against the checkpoint that lies beside the trail."""
    wanted = sorted({seq for one in told.controls for finding in one.findings for seq in finding.events})
    end = told.verification.records if told.verification is not None else 0
    for seq in (seq for seq in wanted if seq < end):
        event = log.at(seq)
        if event is not None:
            told.events[seq] = event
    text = _core.audit_checkpoint(os.fspath(log.directory))
    if text is None:
        return
    told.checkpoint = text
    size = log.checkpoint().size
    for seq, event in told.events.items():
        if seq < size:
            told.proofs[seq] = log.prove(event, against=text).text
