"""Checkpoints and proofs: what leaves the house so that others can check the trail against it.

A checkpoint is the number of records and the root over them, signed (C2SP `tlog-checkpoint`); kept elsewhere it shows
later that nothing was cut off or written anew. A proof shows one record to somebody who has nothing but a fingerprint
(C2SP `tlog-proof`). Both are text, to be sent, printed or put into a ticket.
Not here: making them (`AuditLog.checkpoint`, `AuditLog.prove`), who keeps them.

Invariants
- PF1 what does not hold raises; nothing here answers a bool.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from symbi import _core
from symbi.audit.event import AuditEvent

__all__ = ["Checkpoint", "Proof", "Proven", "check_consistency"]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The signed state of a trail.

    Attributes:
        text: The signed note, as it is kept and sent.
        log_id: Whose, 32 hex digits.
        size: How many records.
        root: The root of the tree over them (RFC 6962), 64 hex digits.
        signers: Names of those who signed: the log itself, then witnesses.
    """

    text: str
    log_id: str
    size: int
    root: str
    signers: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads one. Its signatures are checked where it is used: `AuditLog.verify(checkpoint=…)`.

        Raises:
            InputError: it is not a checkpoint of a trail.
        """
        log_id, size, root, signers = _core.audit_read_checkpoint(text)
        return cls(text, log_id, size, root, tuple(signers))

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Proven:
    """What a proof that holds has shown.

    Attributes:
        event: The record.
        checkpoint: The state of the log that it is under.
        key: Fingerprint of the key that signed the checkpoint.
        level: `authentic` where that is the fingerprint that was given, `consistent` where none was.
    """

    event: AuditEvent
    checkpoint: Checkpoint
    key: str
    level: Literal["consistent", "authentic"]


@dataclass(frozen=True, slots=True)
class Proof:
    """That one record is in a log.

    Attributes:
        text: As it is sent: the record's line, twenty hashes for one of a million, the checkpoint.
    """

    text: str

    def check(self, key: str | None = None) -> Proven:
        """Checks it with nothing but the fingerprint that was kept elsewhere; no file is read.

        Args:
            key: Fingerprint of the key that signed the checkpoint, 32 hex digits.

        Raises:
            CryptoError: it does not hold, or another key made it.

        Cost: about 0.1 ms.
        """
        fields, found, checkpoint = _core.audit_check_proof(self.text, key)
        level: Literal["consistent", "authentic"] = "consistent" if key is None else "authentic"
        return Proven(AuditEvent._of(fields), Checkpoint.parse(checkpoint), found, level)

    def __str__(self) -> str:
        return self.text


def check_consistency(old: Checkpoint, new: Checkpoint, hashes: list[bytes]) -> None:
    """Checks that the log of `new` begins with that of `old` (RFC 6962, 2.1.2).

    Raises:
        CryptoError: it does not, or the hashes do not show it.
    """
    _core.audit_check_consistency(old.text, new.text, hashes)
