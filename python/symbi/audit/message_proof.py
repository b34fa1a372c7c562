"""That one message is in the trail: its place among those that were recorded with it, and the record's own proof.

Why: many ordinary messages share a record, which names each by its id and the hash of its envelope, under the root of a
Merkle tree over them (RFC 6962). So one message can be shown without the others.
Not here: the envelope itself, which only its reader has (`docs/formats/message.md` says what its leaf is of).

Invariants
- MP1 what does not hold raises; nothing here answers a bool.
"""

from __future__ import annotations

import base64
import uuid
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Self

from symbi.errors import CryptoError, InputError

if TYPE_CHECKING:
    from symbi.audit.event import AuditEvent
    from symbi.audit.log import AuditLog

__all__ = ["ENTRY_BYTES", "MessageProof", "prove_message"]

ENTRY_BYTES = 48  # of a message in a record: its id, its leaf


@dataclass(frozen=True, slots=True)
class MessageProof:
    """One message and the record that names it.

    Attributes:
        message: Its id.
        seq: The record's number.
        leaf: SHA-256 over 0x00 and the envelope without its signature, hex; None where the message has a record of its
            own.
        index: Its place among the `count` messages of the record.
        path: The hashes from the leaf to the root, hex, lowest first.
        root: The root, hex, as it stands in the record.
    """

    message: str
    seq: int
    leaf: str | None
    index: int
    count: int
    path: tuple[str, ...]
    root: str | None

    @classmethod
    def of(cls, message: str, event: AuditEvent) -> Self | None:
        """From the record that names it; None where it does not."""
        details: dict[str, Any] = event.details
        if details.get("message") == message and event.event_type.startswith("operation"):
            return cls(message, event.seq, None, 0, 1, (), None)
        entries = base64.b64decode(details.get("messages") or "")
        leaves = [entries[at + 16 : at + ENTRY_BYTES] for at in range(0, len(entries), ENTRY_BYTES)]
        wanted = uuid.UUID(message).bytes
        for index in range(len(leaves)):
            if entries[index * ENTRY_BYTES :][:16] == wanted:
                path = tuple(one.hex() for one in _path(index, leaves))
                return cls(message, event.seq, leaves[index].hex(), index, len(leaves), path, details["root"])
        return None

    def check(self) -> None:
        """That the leaf leads to the root.

        Raises:
            CryptoError: it does not (MP1).
        """
        if self.leaf is None:
            return
        place, last, value = self.index, self.count - 1, bytes.fromhex(self.leaf)
        for text in self.path:  # RFC 9162, section 2.1.3.2
            other = bytes.fromhex(text)
            if place % 2 or place == last:
                value = _node(other, value)
                while place % 2 == 0 and place:
                    place, last = place // 2, last // 2
            else:
                value = _node(value, other)
            place, last = place // 2, last // 2
        if last or value.hex() != self.root:
            raise CryptoError(f"message {self.message} is not under the root of record {self.seq}")

    def to_json(self) -> dict[str, Any]:
        """As it is sent."""
        return {name: getattr(self, name) for name in self.__slots__} | {"path": list(self.path)}


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def _root(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    half = 1 << (len(leaves) - 1).bit_length() - 1
    return _node(_root(leaves[:half]), _root(leaves[half:]))


def _path(index: int, leaves: list[bytes]) -> list[bytes]:
    if len(leaves) == 1:
        return []
    half = 1 << (len(leaves) - 1).bit_length() - 1
    if index < half:
        return [*_path(index, leaves[:half]), _root(leaves[half:])]
    return [*_path(index - half, leaves[half:]), _root(leaves[:half])]


def prove_message(log: AuditLog, message: str) -> MessageProof:
    """Where a message stands in a trail. Cost: a pass over its records of operations.

    Raises:
        InputError: not an id of a message, or the trail does not name it.
    """
    try:
        identity = str(uuid.UUID(message))
    except ValueError:
        raise InputError(f"`{message[:64]}` is not the id of a message") from None
    for event in log.query(event_type="operation*"):
        found = MessageProof.of(identity, event)
        if found is not None:
            found.check()
            return found
    raise InputError(f"the trail names no message `{identity}`")
