"""One record of a trail, as Python sees it."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from symbi._core import _AuditFields

__all__ = ["AuditEvent", "time_of"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def time_of(time_us: int) -> datetime:
    """The instant of `time_us` microseconds since the Unix epoch, in UTC, exact."""
    return _EPOCH + timedelta(microseconds=time_us)


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One record.

    Attributes:
        seq: Its number, from 0.
        event_id: A UUID.
        timestamp: The log's time in UTC: it never goes back, whatever the wall clock does.
        event_type: What kind of event.
        agent_id: Whose doing; `None` for the log's own records.
        details: What was recorded.
        chain_hash: Its link of the chain, 64 hex digits.
        signature: Ed25519, 64 bytes, over the link; empty where the record shares the one of its group.
        key: Fingerprint of the key that signed, 32 hex digits.
        run, op: The run and the operation it belongs to, where a runtime wrote it.
        decision, policy: What was decided, and the digest of the policies that did.
        labels: Labels of the data concerned.
        subjects: Pseudonyms of the persons concerned.
        personal: Sealed personal values by subject, where there are any.
        line: The line of the file, as it was signed; empty for an event that was just appended.
    """

    seq: int
    event_id: str
    timestamp: datetime
    event_type: str
    agent_id: str | None
    details: dict[str, Any]
    chain_hash: str
    signature: bytes
    key: str
    run: str | None = None
    op: str | None = None
    decision: str | None = None
    policy: str | None = None
    labels: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    personal: dict[str, Any] | None = None
    line: str = field(default="", compare=False)

    @classmethod
    def _of(cls, fields: _AuditFields) -> AuditEvent:
        (seq, event_id, time_us, _mono, _boot, key, event_type), who, what = fields
        agent_id, run, op, decision, policy = who
        labels, subjects, details, personal, chain, signature, line = what
        return cls(
            seq=seq,
            event_id=event_id,
            timestamp=time_of(time_us),
            event_type=event_type,
            agent_id=agent_id,
            details=json.loads(details),
            chain_hash=chain,
            signature=bytes(signature),
            key=key,
            run=run,
            op=op,
            decision=decision,
            policy=policy,
            labels=tuple(labels),
            subjects=tuple(subjects),
            personal=None if personal is None else json.loads(personal),
            line=line,
        )

    def to_json(self) -> dict[str, Any]:
        """The record as plain JSON values, with the names of the file's fields."""
        if self.line:
            value: dict[str, Any] = json.loads(self.line)
            return value
        return {
            "seq": self.seq,
            "event_id": self.event_id,
            "timestamp": self.timestamp.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "event_type": self.event_type,
            "agent_id": self.agent_id,
            "subjects": list(self.subjects),
            "details": self.details,
            "key": self.key,
            "chain": self.chain_hash,
            "sig": b64encode(self.signature).decode() if self.signature else None,
        }
