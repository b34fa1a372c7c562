"""What a verification of a trail says when it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from symbi.audit.event import time_of

if TYPE_CHECKING:
    from datetime import datetime

    from symbi import _core

__all__ = ["Verification", "ranges_of", "reach_of", "verification_of", "word_of"]


@dataclass(frozen=True, slots=True)
class Verification:
    """A trail that holds.

    Attributes:
        records: How many.
        head: The last link of the chain, 64 hex digits.
        level: How far the word goes. `consistent`: whole since it was signed, by whomever; `authentic`: and
            by the key whose fingerprint was given; `complete`: and its first `complete_to` records are
            those of a checkpoint that was given, none cut off or written anew.
        log_id: The log's identity, 32 hex digits.
        keys: Fingerprints of its keys, in the order of their use.
        last: The time of the last record.
        tail_bytes: Bytes after it, being written or left by a crash; nothing is said of them.
        first: The first record that was looked at: 0 but for a range, which ends before `records`.
        complete_to: How many records the checkpoint that was given vouches for; 0 without one.
        checkpoint: How many the checkpoint beside the trail covers; `None` without one.
        pruned: How many of the first were pruned: their hashes are under the checkpoint, their content is gone.
        distrusted: Records that a key signed after others had it, as the trail says: they are whole, and their
            signature shows nothing.
        witnessed: When the witnesses that were asked for signed, the first and the last.
    """

    records: int
    head: str
    level: Literal["consistent", "authentic", "complete"]
    log_id: str
    keys: tuple[str, ...]
    last: datetime
    tail_bytes: int
    first: int = 0
    complete_to: int = 0
    checkpoint: int | None = None
    witnessed: tuple[datetime, datetime] | None = None
    pruned: int = 0
    distrusted: tuple[range, ...] = ()

    @property
    def lacks(self) -> str:
        """What keeps a checkpoint's word from reaching the last byte; empty where nothing does."""
        if self.tail_bytes:
            return f"{self.tail_bytes} bytes after the last record belong to none"
        if self.distrusted:
            return f"records {ranges_of(self)} are signed with a key that others had"
        if self.first > self.pruned or self.complete_to < self.records:
            return f"no checkpoint vouches for records {self.complete_to} to {self.records - 1}"
        return ""

    def __str__(self) -> str:
        """In a few words, that claim no more than holds."""
        said = word_of(self.records, self.level, self.complete_to)
        if self.pruned:
            said += f"; the first {self.pruned:,} were pruned"
        if self.distrusted:
            said += f"; {ranges_of(self)} signed with a key that others had"
        return said


def ranges_of(found: Verification) -> str:
    """The records that are distrusted."""
    return ", ".join(f"{records.start} to {records.stop - 1}" for records in found.distrusted)


def word_of(records: int, level: str, complete_to: int) -> str:
    """How many records and how far the word goes: `complete` alone only where a checkpoint covers all of them."""
    return f"{records:,} records, {reach_of(records, level, complete_to)}"


def reach_of(records: int, level: str, complete_to: int) -> str:
    """The level, and of `complete` for how many where that is not all."""
    return (
        level if level != "complete" or complete_to >= records else f"complete for the first {complete_to:,}"
    )


def verification_of(found: _core._AuditVerified) -> Verification:
    """What the core says, in words."""
    first, count, complete_to, beside, witnessed_s, pruned = found[0]
    head, level, log_id, keys, last_us, tail_bytes, distrusted = found[1]
    witnessed = None
    if witnessed_s is not None:
        witnessed = (time_of(witnessed_s[0] * 1_000_000), time_of(witnessed_s[1] * 1_000_000))
    return Verification(
        records=count,
        head=head,
        level=level,
        log_id=log_id,
        keys=tuple(keys),
        last=time_of(last_us),
        tail_bytes=tail_bytes,
        first=first,
        complete_to=complete_to,
        checkpoint=beside,
        witnessed=witnessed,
        pruned=pruned,
        distrusted=tuple(range(start, end) for start, end in distrusted),
    )
