"""A log on disk: append to your own, read and verify any.

An application's log lies in a directory of its own; its key lies beside it, in `<directory>.key`, not in it,
so that a copied trail does not carry the key that could forge it. Whoever wants `verify` to say more than
"consistent" keeps the fingerprint elsewhere (`AuditLog.fingerprint`).

Invariants
- AL2 `append` returns when the record survives a power cut; what cannot be recorded is refused first.
- AL3 a log that was opened before a fork is refused in the child: its threads are not there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from symbi import _core
from symbi.audit.event import AuditEvent, time_of
from symbi.audit.keys import seed_of
from symbi.audit.proof import Checkpoint, Proof
from symbi.errors import AuditError, InputError, LogUnavailableError, NotBuiltError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import TracebackType

__all__ = ["AuditLog", "AuditTail", "Verification"]

_TAIL_BATCH = 1_000  # records taken from the core at once: memory stays flat on a trail of any size
_BLOCK_BYTES = 64 << 20  # lines read at once: a segment
_GROUP = 10_000  # events handed to the core at once, for the same reason
TIMEOUT_S = 30.0  # a disk that takes longer for one sync is a disk that failed

Event = tuple[str, str | None, "Mapping[str, Any] | str"]


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


def _details_text(details: Mapping[str, Any] | str) -> str:
    """`details` as JSON text. What JSON, or the record, cannot hold is refused by the core or here."""
    if isinstance(details, str):
        return details
    try:
        return json.dumps(details, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"`details` is not JSON: {error}") from error


def _row(event: Sequence[Any]) -> tuple[str, str | None, str, list[str]]:
    if not 3 <= len(event) <= 4:
        raise InputError("an event is `(event_type, agent_id, details)` or `(…, subject)`")
    event_type, agent_id, details, *subject = event
    if not isinstance(event_type, str):
        raise InputError("`event_type` is not a str")
    texts = [name for name in subject if name is not None]
    row = (event_type, None if agent_id is None else str(agent_id), _details_text(details), texts)
    try:
        for text in (row[0], row[1] or "", row[2], *row[3]):
            text.encode()
    except UnicodeEncodeError as error:
        raise InputError("a lone surrogate cannot be recorded") from error
    except AttributeError as error:
        raise InputError("`subject` is not a str") from error
    return row


def _time_us(value: datetime | str | None, name: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise InputError(f"`{name}`: {error}") from error
    if value.tzinfo is None:
        raise InputError(f"`{name}` has no time zone: write `…Z` or `…+02:00`")
    elapsed = value.astimezone(UTC) - time_of(0)
    return max(0, (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds)


class AuditTail:
    """Records as they come. Iterating ends at the end of the trail; iterating again goes on from there."""

    def __init__(self, directory: str | os.PathLike[str], from_seq: int = 0) -> None:
        self._core = _core.AuditTail(os.fspath(directory), from_seq)

    def __iter__(self) -> Iterator[AuditEvent]:
        while batch := self._core.take(_TAIL_BATCH):
            yield from map(AuditEvent._of, batch)


class AuditLog:
    """A log. Make one with `AuditLog.open`; it is a context manager.

    Attributes:
        directory: Where it lies.
        log_id: Its identity, 32 hex digits.
        fingerprint: Of the key of record 0, 32 hex digits: keep it elsewhere, and give it to `verify`.
        created: Whether this opening made it.
    """

    def __init__(
        self,
        directory: Path,
        writer: _core.AuditWriter | None,
        log_id: str,
        fingerprint: str,
        *,
        created: bool,
    ) -> None:
        self.directory = directory
        self.log_id = log_id
        self.fingerprint = fingerprint
        self.created = created
        self._writer = writer
        self._prover: _core.AuditProver | None = None
        self._pid = os.getpid()

    @classmethod
    def open(
        cls,
        directory: str | os.PathLike[str],
        mode: Literal["r", "a"] = "r",
        *,
        provider: Literal["aws-lc", "ring"] = "aws-lc",
        signers: int | None = None,
    ) -> Self:
        """Opens a log.

        Args:
            directory: The trail's directory. With `"a"` it is made where it is not.
            mode: `"r"` reads any trail, beside its writer too. `"a"` appends to a log of your own, and is
                refused for a runtime's, whose events are its kernel's.
            provider: Whose Ed25519 signs.
            signers: Threads that sign, 1 to 16; by default one a core, at most 4.

        Raises:
            AuditError: there is no trail, or it is a runtime's.
            LogLockedError: it is open for appending elsewhere.
            ChainBrokenError, TruncatedError: it is damaged; nothing was changed.
            CryptoError: its key is missing, or not its key.

        Cost: `"a"` recomputes the chain, about 1 s a million records; `"r"` reads two records.
        """
        path = Path(directory)
        if mode == "r":
            log_id, fingerprint, _owner = _core.audit_summary(os.fspath(path))
            return cls(path, None, log_id, fingerprint, created=False)
        if mode != "a":
            raise InputError(f"`{mode}` is not a mode: `r` or `a`")
        if (path / "head").exists() and _core.audit_summary(os.fspath(path))[2] == "runtime":
            raise AuditError(f"the log in `{path}` belongs to the runtime: only its kernel may write there")
        writer, told = _core.AuditWriter.open(os.fspath(path), seed_of(path), provider, signers)
        log_id, created, fingerprint, *_ = told
        return cls(path, writer, log_id, fingerprint, created=created)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Brings everything to disk and lets the log go. A second call does nothing.

        Raises:
            LogUnavailableError: not everything reached the disk.
        """
        if self._writer is not None and os.getpid() == self._pid:
            self._writer.close()

    def _writing(self) -> _core.AuditWriter:
        if self._writer is None:
            raise LogUnavailableError(
                "the log is open for reading: `AuditLog.open(directory, mode='a')` appends"
            )
        if os.getpid() != self._pid:
            raise LogUnavailableError("the log was opened before a fork: open it in this process")  # AL3
        return self._writer

    def append(
        self,
        event_type: str,
        agent_id: object,
        details: Mapping[str, Any] | str,
        *,
        subject: str | None = None,
        personal: Mapping[str, Any] | None = None,
    ) -> AuditEvent:
        """Records one event, and returns when it survives a power cut (AL2).

        Args:
            event_type: 1 to 64 letters, digits, `.`, `_`, `-`, `:`; `log.…`, `key.rotated` and
                `clock.anomaly` are the log's own.
            agent_id: Whose doing: an id or a name, at most 256 bytes as text, or `None`.
            details: A JSON object, or its text. Integers up to 2^53, finite floats, no key twice.
            subject: The pseudonym of the person concerned. Not a name: what is in a record stays there.
            personal: Not in this version: it would have to be sealed under a key of its subject.

        Raises:
            InputError: it cannot be recorded; nothing was.
            LogUnavailableError: the log cannot write, until it is opened again.
            NotBuiltError: `personal` was given.

        Cost: one sync of the disk, about 0.3 ms; many at once: `append_many`.
        """
        if personal is not None:
            message = (
                "sealing personal values is not in this version, and unsealed they could never be erased"
            )
            raise NotBuiltError(message)
        row = _row((event_type, agent_id, details, subject))
        seq, event_id, time_us, chain, signature = self._writing().append(row, TIMEOUT_S)
        return AuditEvent(
            seq=seq,
            event_id=event_id,
            timestamp=time_of(time_us),
            event_type=event_type,
            agent_id=row[1],
            details=json.loads(row[2]),
            chain_hash=chain,
            signature=bytes(signature),
            key=self.fingerprint,
            subjects=tuple(row[3]),
        )

    def append_many(self, events: Iterable[Sequence[Any]] | Mapping[str, Any], *, wait: bool = True) -> range:
        """Records events in their order, in few syncs.

        Args:
            events: `(event_type, agent_id, details)` or `(…, subject)` each, as for `append`; or columns:
                `{"event_type": …, "agent_id": …, "details": […], "subject": …}`, all but `details` one value
                for all if need be.
            wait: Return when the last survives a power cut; otherwise when it is in the log's order.

        Returns:
            Their numbers.

        Raises:
            InputError: one cannot be recorded. In groups of 10,000: of its group nothing was.
            LogUnavailableError: the log cannot write; the first part may be recorded.

        Cost: about 10 µs of one core an event, shared by the log's threads.
        """
        writer = self._writing()
        first: int | None = None
        end = writer.durable()
        for group in _groups(_columns(events) if isinstance(events, Mapping) else events):
            start, end = writer.append_many(group)
            first = start if first is None else first
        if first is None:
            return range(0)
        if wait:
            writer.wait_durable(end - 1, TIMEOUT_S)
        return range(first, end)

    def verify(
        self,
        key: str | None = None,
        checkpoint: Checkpoint | str | Sequence[Checkpoint | str] | None = None,
        *,
        witnesses: Sequence[str] = (),
        since_checkpoint: bool = False,
        records: range | None = None,
    ) -> Verification:
        """Checks every record: form, number, time, chain, signature, rotations; `head`; checkpoints. Changes nothing.

        Args:
            key: The fingerprint that was kept elsewhere.
            checkpoint: One that was kept elsewhere, or several: all must hold.
            witnesses: Keys (`name+hash+base64`) of witnesses, each of which must have signed the largest of
                them.
            since_checkpoint: Take what the checkpoint covers from its root, without signatures one by one:
                five times as fast.
            records: Only these, with step 1. `head` and checkpoints are not judged then.

        Raises:
            ChainBrokenError: `seq` is the first record that fails.
            TruncatedError: `seq` is the first of those missing at the end.
            InputError: what was given is no key or no checkpoint.

        Cost: about 6 µs a record on two cores.
        """
        if records is not None and (records.step != 1 or records.start < 0 or not records):
            raise InputError("`records` is a range of record numbers, with step 1")
        given = [checkpoint] if isinstance(checkpoint, Checkpoint | str) else list(checkpoint or ())
        counts, found = _core.audit_verify(
            os.fspath(self.directory),
            key,
            checkpoints=[str(one) for one in given],
            witnesses=list(witnesses),
            since_checkpoint=since_checkpoint,
            range=None if records is None else (records.start, records.stop),
        )
        first, count, complete_to, beside, witnessed_s = counts
        head, level, log_id, keys, last_us, tail_bytes = found
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
            witnessed=None
            if witnessed_s is None
            else (time_of(witnessed_s[0] * 1_000_000), time_of(witnessed_s[1] * 1_000_000)),
        )

    def checkpoint(self) -> Checkpoint:
        """The signed state of the trail, to be kept elsewhere.

        Of a log that is open for appending: made now, over every record so far. Of any other: the one that its
        writer left beside it, when it closed or began its last segment.

        Raises:
            LogUnavailableError: the log cannot write.
            AuditError: there is none beside the trail.
        """
        if self._writer is not None:
            text: str | None = self._writing().checkpoint()
        else:
            text = _core.audit_checkpoint(os.fspath(self.directory))
        if text is None:
            raise AuditError(
                f"no checkpoint lies beside `{self.directory}`: its writer makes one when it closes"
            )
        return Checkpoint.parse(text)

    def verifier_keys(self) -> list[str]:
        """The log's keys as they stand under checkpoints, `name+hash+base64`, in the order of their use."""
        return _core.audit_verifier_keys(os.fspath(self.directory))

    def prove(self, event: int | AuditEvent, *, against: Checkpoint | str | None = None) -> Proof:
        """The proof that one record is in this log, to be sent to somebody who has nothing but the fingerprint.

        Args:
            event: Its number; or the record as `query` gave it, which need not be looked for then.
            against: The checkpoint to lead to; by default the one beside the trail. On a log that is open for
                appending one is made where it does not cover the record.

        Raises:
            InputError: no checkpoint covers it.
            ChainBrokenError: it is not what the checkpoint was made over.

        Cost: less than 1 ms for a record that is given; one that is looked for takes a pass over its segment.
        """
        seq, line = (event, None) if isinstance(event, int) else (event.seq, event.line or None)
        if seq < 0:
            raise InputError("a record's number is not negative")
        if against is not None:
            prover = _core.AuditProver(os.fspath(self.directory), str(against))
            return Proof(prover.prove(seq, line))
        if self._prover is None or Checkpoint.parse(self._prover.checkpoint()).size <= seq:
            beside = _core.audit_checkpoint(os.fspath(self.directory))
            covered = beside is not None and seq < Checkpoint.parse(beside).size
            if self._writer is not None and not covered:
                self.checkpoint()
            self._prover = _core.AuditProver(os.fspath(self.directory))
        return Proof(self._prover.prove(seq, line))

    def prove_consistency(self, old: Checkpoint | str) -> tuple[Checkpoint, list[bytes]]:
        """That the log only grew since `old`: the checkpoint beside it, and the hashes for `check_consistency`.

        Raises:
            ChainBrokenError, TruncatedError: it did not.
        """
        prover = _core.AuditProver(os.fspath(self.directory))
        return Checkpoint.parse(prover.checkpoint()), prover.consistency(str(old))

    def query(
        self,
        *,
        agent_id: object = None,
        event_type: str | None = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        op: str | None = None,
        run: str | None = None,
        decision: str | None = None,
        subject: str | None = None,
        event_id: str | None = None,
        limit: int | None = None,
    ) -> list[AuditEvent]:
        """The records for which all that is given holds, in order. Their chain is not checked: `verify` does.

        Args:
            agent_id, op, run, decision, event_id: Exactly.
            event_type: Exactly, or its beginning with a trailing `*`.
            since, until: At or after, before. With a time zone; a text is ISO 8601.
            subject: Among the subjects.
            limit: At most so many, the first ones.
        """
        if limit is not None and limit < 0:
            raise InputError("`limit` is negative")
        found = _core.audit_query(
            os.fspath(self.directory),
            agent_id=None if agent_id is None else str(agent_id),
            event_type=event_type,
            since_us=_time_us(since, "since"),
            until_us=_time_us(until, "until"),
            op=op,
            run=run,
            decision=decision,
            subject=subject,
            event_id=event_id,
            limit=limit,
        )
        return [AuditEvent._of(fields) for fields in found]

    def last(self, count: int = 10) -> list[AuditEvent]:
        """The last `count` records, oldest first."""
        return [AuditEvent._of(fields) for fields in _core.audit_last(os.fspath(self.directory), count)]

    def lines(self, from_seq: int = 0) -> Iterator[bytes]:
        """The lines from record `from_seq` on, as they were signed, in blocks of whole lines; segments unpacked."""
        while True:
            block, from_seq = _core.audit_lines(os.fspath(self.directory), from_seq, _BLOCK_BYTES)
            if not block:
                return
            yield block

    def tail(self, from_seq: int = 0) -> AuditTail:
        """Records from number `from_seq` on; iterating again goes on with what came since."""
        return AuditTail(self.directory, from_seq)

    @property
    def durable(self) -> int:
        """How many records survive a power cut: record `seq` does exactly when `seq < durable`."""
        return self._writing().durable()

    @property
    def status(self) -> str:
        """`healthy`, `closed`, or why the log does not write any more."""
        return self._writing().status()


def _groups(events: Iterable[Sequence[Any]]) -> Iterator[list[tuple[str, str | None, str, list[str]]]]:
    group: list[tuple[str, str | None, str, list[str]]] = []
    for event in events:
        group.append(_row(event))
        if len(group) >= _GROUP:
            yield group
            group = []
    if group:
        yield group


def _columns(columns: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    unknown = columns.keys() - {"event_type", "agent_id", "details", "subject"}
    if unknown or "details" not in columns or "event_type" not in columns:
        raise InputError("columns are `event_type`, `details`, and, if wanted, `agent_id` and `subject`")
    details = list(columns["details"])

    def column(name: str) -> Iterable[Any]:
        value = columns.get(name)
        if value is None or isinstance(value, str) or not hasattr(value, "__iter__"):
            return (value for _ in details)
        return value  # type: ignore[no-any-return]

    try:
        yield from zip(column("event_type"), column("agent_id"), details, column("subject"), strict=True)
    except ValueError as error:
        raise InputError("columns differ in length") from error
