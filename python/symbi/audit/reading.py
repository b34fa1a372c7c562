"""Reading a trail: verifying it, asking it, following it. Nothing here writes to it.

Not here: appending and what else only its writer does (`symbi.audit.log`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Unpack

from symbi import _core
from symbi.audit.event import AuditEvent
from symbi.audit.own_persons import LogPersons
from symbi.audit.proof import Checkpoint
from symbi.audit.query import Filters, IndexCheck, IndexState, Page, Queries, asked
from symbi.audit.retention import Hold, hold_of
from symbi.audit.verification import Verification, verification_of
from symbi.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

__all__ = ["AuditTail", "TrailReading"]

_TAIL_BATCH = 1_000  # records taken from the core at once: memory stays flat on a trail of any size
_BLOCK_BYTES = 64 << 20  # lines read at once: a segment


class AuditTail:
    """Records as they come. Iterating ends at the end of the trail; iterating again goes on from there."""

    def __init__(self, directory: str | os.PathLike[str], from_seq: int = 0) -> None:
        self._core = _core.AuditTail(os.fspath(directory), from_seq)

    def __iter__(self) -> Iterator[AuditEvent]:
        while batch := self._core.take(_TAIL_BATCH):
            yield from map(AuditEvent._of, batch)


class TrailReading:
    """What can be done with any trail, beside its writer too. Users have it as `AuditLog`."""

    def __init__(self, directory: Path, subject_key_backups: Sequence[str | os.PathLike[str]] = ()) -> None:
        self.directory = directory
        self._queries = Queries(directory)
        self._persons = LogPersons(directory, subject_key_backups)

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
            records: Only these, with step 1. Neither `head` nor a checkpoint is judged then: one that is given
                is refused.

        Raises:
            ChainBrokenError: `seq` is the first record that fails.
            TruncatedError: `seq` is the first of those missing at the end.
            InputError: what was given is no key or no checkpoint; a checkpoint or a witness together with `records`.

        Cost: about 6 µs a record on two cores.
        """
        if records is not None and (records.step != 1 or records.start < 0 or not records):
            raise InputError("`records` is a range of record numbers, with step 1")
        given = [checkpoint] if isinstance(checkpoint, Checkpoint | str) else list(checkpoint or ())
        if records is not None and (given or witnesses or since_checkpoint):
            raise InputError("with `records` no checkpoint is judged, and no witness: verify the whole trail")
        found = _core.audit_verify(
            os.fspath(self.directory),
            key,
            checkpoints=[str(one) for one in given],
            witnesses=list(witnesses),
            since_checkpoint=since_checkpoint,
            range=None if records is None else (records.start, records.stop),
        )
        return verification_of(found)

    def verifier_keys(self) -> list[str]:
        """The log's keys as they stand under checkpoints, `name+hash+base64`, in the order of their use."""
        return _core.audit_verifier_keys(os.fspath(self.directory))

    def prove_consistency(self, old: Checkpoint | str) -> tuple[Checkpoint, list[bytes]]:
        """That the log only grew since `old`: the checkpoint beside it, and the hashes for `check_consistency`.

        Raises:
            ChainBrokenError, TruncatedError: it did not.
        """
        prover = _core.AuditProver(os.fspath(self.directory))
        return Checkpoint.parse(prover.checkpoint()), prover.consistency(str(old))

    def query(self, *, index: bool = True, **filters: Unpack[Filters]) -> list[AuditEvent]:
        """The records for which all that is given holds, in order. Signatures are not checked: `verify` does.

        Args:
            agent_id, op, run, decision, action, rule, resource, decision_id, event_id: Exactly. The action, the
            rule, the
                resource and the decision's id are those of `details`.
            event_type: Exactly, or its beginning with a trailing `*`.
            since, until: At or after, before. With a time zone; a text is ISO 8601.
            label, subject: Among the labels, among the subjects. A person whose values were sealed here is found by
            its name, too.
            limit: At most so many, the first ones of the order.
            newest_first: The newest first.
            index: Find them by the index, which is brought up to date; otherwise read everything.

        Raises:
            ChainBrokenError: a record that was found does not follow from the one before it.

        Cost: what is found, about 20 µs a record, and 3 ms; the first time, the making of the index: 5 µs a record.
        """
        return list(self.page(index=index, **filters).events)

    def page(self, *, after: str | None = None, index: bool = True, **filters: Unpack[Filters]) -> Page:
        """As `query`, at most `limit` of them, and the cursor that `after` takes for the following ones (AQ1)."""
        return self._queries.page(asked(**self._named(filters)), after, index=index)

    def before(self, seq: int, count: int, **filters: Unpack[Filters]) -> list[AuditEvent]:
        """The last `count` records before record `seq` for which the filters hold, the newest first."""
        return self._queries.before(seq, count, **self._named(filters))

    def _named(self, filters: Filters) -> Filters:
        """With the pseudonym instead of a person's name, where values of that person were sealed here."""
        subject = filters.get("subject")
        known = [] if subject is None else self._persons.pseudonyms(subject)
        return {**filters, "subject": known[0]} if known else filters

    def pseudonyms(self, subject: str) -> list[str]:
        """What stands in this log's records for a person whose values were sealed here; more than one only where
        the file that leads from its name was lost.
        """
        return self._persons.pseudonyms(subject)

    def personal(self, event: AuditEvent) -> dict[str, Any]:
        """The personal values of a record of an application's log, opened; empty where it has none.

        Raises:
            ErasedError: the person was erased.
            CryptoError: the keys, `<directory>.persons`, are not here.
        """
        return self._persons.open(self, event)

    def catch_up(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Brings the index up to date where it is far behind. Queries do it themselves; this shows how far it is:
        `progress` is called with segments that were just done and segments left.
        """
        self._queries.catch_up(progress)

    def reindex(
        self, progress: Callable[[int, int], None] | None = None, *, afresh: bool = False
    ) -> IndexState:
        """Brings the index up to date, or with `afresh` makes it from the beginning. Queries do the former themselves.

        Raises:
            AuditError: the index cannot be written.
        """
        return self._queries.build(progress, afresh=afresh)

    def check_index(self) -> IndexCheck:
        """Makes the index again in memory and holds it against what lies there: whoever can write its directory could
        make it leave records out. Changes nothing.

        Cost: as `reindex`, 5 µs a record.
        """
        return self._queries.check()

    def at(self, seq: int) -> AuditEvent | None:
        """The record of this number; None where the trail has none."""
        return self._queries.at(seq)

    def last(self, count: int = 10) -> list[AuditEvent]:
        """The last `count` records, oldest first."""
        return [AuditEvent._of(fields) for fields in _core.audit_last(os.fspath(self.directory), count)]

    def record(self, seq: int) -> AuditEvent:
        """One record by its number. Its chain is not checked: `verify` does.

        Raises:
            InputError: there is none, or it was pruned.

        Cost: of a sealed segment one frame of it, less than 1 ms; of an open one a pass over it.
        """
        found = _core.AuditTail(os.fspath(self.directory), seq).take(1) if seq >= 0 else []
        if not found or found[0][0][0] != seq:
            raise InputError(f"record {seq} is not there")
        return AuditEvent._of(found[0])

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
    def held(self) -> Hold | None:
        """The legal hold that is in force. A pass over the trail."""
        return hold_of(self.directory)

    @property
    def begins_at(self) -> int:
        """The first record that is there: 0 unless older ones were pruned."""
        return _core.audit_begins_at(os.fspath(self.directory))
