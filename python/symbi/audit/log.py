"""A log on disk, as its writer has it: append, checkpoint, rotate, hold, prune, erase. Reading any is `reading`.

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
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack

from symbi import _core
from symbi.audit import rows
from symbi.audit.event import AuditEvent, time_of
from symbi.audit.keys import finish_rotation, next_seed, seed_of
from symbi.audit.proof import Checkpoint, Proof
from symbi.audit.query import Filters, asked
from symbi.audit.reading import AuditTail, TrailReading
from symbi.audit.retention import Pruned
from symbi.audit.stream import AuditStream
from symbi.errors import AuditError, InputError, LogUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from types import TracebackType

    from symbi.audit.own_persons import Forgotten

__all__ = ["AuditLog", "AuditTail"]

TIMEOUT_S = 30.0  # a disk that takes longer for one sync is a disk that failed

Event = tuple[str, str | None, "Mapping[str, Any] | str"]


class AuditLog(TrailReading):
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
        subject_key_backups: Sequence[str | os.PathLike[str]] = (),
    ) -> None:
        super().__init__(directory, subject_key_backups)
        self.log_id = log_id
        self.fingerprint = fingerprint
        self.created = created
        self._writer = writer
        self._prover: _core.AuditProver | None = None
        self._pid = os.getpid()
        self._retention = threading.Lock()  # held by whoever holds, releases or erases

    @classmethod
    def open(
        cls,
        directory: str | os.PathLike[str],
        mode: Literal["r", "a"] = "r",
        *,
        provider: Literal["aws-lc", "ring"] = "aws-lc",
        signers: int | None = None,
        signing: Literal["event", "group"] = "event",
        subject_key_backups: Sequence[str | os.PathLike[str]] = (),
    ) -> Self:
        """Opens a log.

        Args:
            directory: The trail's directory. With `"a"` it is made where it is not.
            mode: `"r"` reads any trail, beside its writer too. `"a"` appends to a log of your own, and is
                refused for a runtime's, whose events are its kernel's.
            provider: Whose Ed25519 signs.
            signers: Threads that sign, 1 to 16; by default one a core, at most 4.
            signing: A signature for each record, or one for each group that goes to the disk together, from this
                opening on: three times the records a second; one record is shown to others by `prove` alone.
            subject_key_backups: Directories that hold a copy of each person's key (`append(personal=…)`). An erasure
                destroys it there, too.

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
        writer, told = _core.AuditWriter.open(os.fspath(path), seed_of(path), provider, signers, signing)
        log_id, created, fingerprint, *_ = told
        log = cls(path, writer, log_id, fingerprint, created=created, subject_key_backups=subject_key_backups)
        try:
            log._persons.finish(log)
        except BaseException:
            log.close()
            raise
        return log

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
            subject: The person concerned. Without `personal` it stands in the record as it is given, and stays
                there: a pseudonym, not a name. With it, a pseudonym stands there that is drawn for this person.
            personal: Values of that person, by name. They are sealed under a key of the person, and `erase` makes
                them unreadable.

        Raises:
            InputError: it cannot be recorded; nothing was.
            LogUnavailableError: the log cannot write, until it is opened again.

        Cost: one sync of the disk, about 0.3 ms; many at once: `append_many`.
        """
        writer = self._writing()
        row = rows.row((event_type, agent_id, details, subject, personal), self._persons.seal)
        seq, event_id, time_us, chain, signature = writer.append(row, TIMEOUT_S)
        return AuditEvent(
            seq=seq,
            event_id=event_id,
            timestamp=time_of(time_us),
            event_type=event_type,
            agent_id=row[1],
            details=json.loads(row[2]),
            chain_hash=chain,
            signature=bytes(signature),
            key=writer.key(),
            subjects=tuple(row[3]),
            personal=None if row[4] is None else json.loads(row[4]),
        )

    def append_many(self, events: Iterable[Sequence[Any]] | Mapping[str, Any], *, wait: bool = True) -> range:
        """Records events in their order, in few syncs.

        Args:
            events: `(event_type, agent_id, details)`, `(…, subject)` or `(…, subject, personal)` each, as for
                `append`; or columns: `{"event_type": …, "agent_id": …, "details": […], "subject": …}`, all but
                `details` one value for all if need be.
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
        row = partial(rows.row, seal=self._persons.seal)
        for group in rows.groups(rows.columns(events) if isinstance(events, Mapping) else events):
            start, end = writer.append_many(group, row)
            first = start if first is None else first
        if first is None:
            return range(0)
        if wait:
            writer.wait_durable(end - 1, TIMEOUT_S)
        return range(first, end)

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
        if not isinstance(event, int | AuditEvent):
            raise InputError(
                f"a record is named by its number, or as `query` gave it, not by a {type(event).__name__}"
            )
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

    def stream(
        self, *, from_seq: int | None = None, behind_max: int | None = None, **filters: Unpack[Filters]
    ) -> AuditStream:
        """Records as they come: `async for event in log.stream(decision="deny")`. It does not end.

        Args:
            from_seq: From this record on, so that nothing is missed since; otherwise from now on.
            behind_max: Whoever is further behind the durable end than so many records skips half of them and is
            given a
                `Gap`; by default nobody skips, however slow.
            filters: As of `query`.
        """
        if from_seq is None and self._writer is not None:
            from_seq = self.durable  # `head` may be a moment behind it
        return AuditStream(
            self.directory, asked(**self._named(filters)), from_seq=from_seq, behind_max=behind_max
        )

    def rotate(self) -> tuple[int, str]:
        """Another key signs from the next record on; the old and the new sign the record of it.

        Returns:
            The number of the record, and the new key's fingerprint, to be kept elsewhere.

        Raises:
            LogUnavailableError: the log cannot write; the old key stays.
        """
        writer = self._writing()
        seed = next_seed(self.directory)
        seq, fingerprint = writer.rotate(seed, TIMEOUT_S)
        finish_rotation(self.directory)
        return seq, fingerprint

    def mark_compromised(self, key: str, from_seq: int, *, reason: str, by: str = "") -> int:
        """Records that others had a key from record `from_seq` on: every verification names what it signed since.

        Returns:
            The number of the record.

        Raises:
            InputError: it is the key that signs now (`rotate` first), none of this log's, or there is no such record.
        """
        if from_seq < 0:
            raise InputError("a record's number is not negative")
        return self._writing().mark_compromised(key, from_seq, reason, by)

    def hold(self, reason: str, *, by: str = "") -> int:
        """Puts a legal hold in force: nothing is pruned or erased until `release`. Both are records.

        Waits for a pruning or an erasure that has begun: what it takes is gone before the hold is in force.

        Raises:
            InputError: one is in force already.
        """
        writer = self._writing()
        with self._retention:
            return writer.hold(True, reason, by)

    def release(self, reason: str, *, by: str = "") -> int:
        """Releases the hold.

        Raises:
            InputError: none is in force.
        """
        writer = self._writing()
        with self._retention:
            return writer.hold(False, reason, by)

    def prune(self, before: datetime | str, *, by: str = "") -> Pruned | None:
        """Removes the oldest closed segments, all of whose records are from before; a record says so.

        What is left verifies, from the checkpoint that is made first, and says what is gone.

        Returns:
            What went; `None` where nothing was old enough.

        Raises:
            AuditError: a hold is in force.
            InputError: `before` has no time zone.

        Cost: a pass over what is removed, and over the trail once for the hold.
        """
        before_us = rows.time_us(before, "before")
        found = self._writing().prune(0 if before_us is None else before_us, by)
        return None if found is None else Pruned(*found)

    def erase(self, subject: str, *, by: str = "") -> list[Forgotten]:
        """Forgets a person: the key of what was sealed for it is destroyed, in the backups too.

        The records stay as they were signed, and so do chain, signatures and every proof; nobody can read what they
        hold of that person. Recorded before the key is touched, and finished by the next opening where it was cut
        short. Another process that reads the log keeps keys that it has used in memory, and refuses to use them.

        Args:
            subject: As it was named when values were sealed, or the pseudonym.
            by: Who asks for it, for the record.

        Returns:
            One for each pseudonym that the person had.

        Raises:
            InputError: nothing is known of this subject.
            AuditError: a legal hold is in force.

        Cost: opens each person's key, about 20 µs each, and reads the log once for the hold.
        """
        self._writing()
        with self._retention:
            return self._persons.erase(self, subject, by)

    @property
    def durable(self) -> int:
        """How many records survive a power cut: record `seq` does exactly when `seq < durable`."""
        return self._writing().durable()

    @property
    def status(self) -> str:
        """`healthy`, `closed`, or why the log does not write any more."""
        return self._writing().status()
