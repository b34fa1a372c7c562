"""Whose key was valid when, from the lines of a trail and the page `message.md` alone: nothing of symbi.

The lines are believed as they are: verify the trail first. Raises `RefusedError` where what they say of keys does not
hold.
"""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

if TYPE_CHECKING:
    from collections.abc import Iterable

SKEW_US = 30_000_000


class RefusedError(Exception):
    """It does not hold, and why."""


class Term(NamedTuple):
    """A certificate's time in the trail: from its record on, until its key was revoked."""

    agent: bytes
    signing: bytes
    serial: str
    not_before_us: int
    not_after_us: int
    from_seq: int
    until_seq: int | None


def key_id(key: bytes) -> str:
    return hashlib.sha256(b"ed25519" + key).hexdigest()[:32]


def check(key: bytes, signature: bytes, statement: bytes, what: str) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, statement)
    except (InvalidSignature, ValueError) as error:
        raise RefusedError(f"{what} does not hold") from error


class Keys:
    """All terms of a trail."""

    def __init__(self, lines: Iterable[bytes], log_key: bytes) -> None:
        self.runtime = log_key
        self.terms: list[Term] = []
        for line in lines:
            record = json.loads(line)
            kind, details = record["event_type"], record["details"]
            if kind == "key.certified":
                self._certified(record["seq"], base64.b64decode(details["certificate"]))
            elif kind == "key.exchanged":
                self._rotated(details)
            elif kind == "runtime.opened" and details.get("message_key", key_id(self.runtime)) != key_id(
                self.runtime
            ):
                raise RefusedError("an opening names a key that nobody introduced")
            elif (
                kind == "operation"
                and details.get("action") == "key.change"
                and details.get("change") == "revoke"
            ):
                self._revoked(record["seq"], details["agent"], details["key"])

    def _certified(self, seq: int, raw: bytes) -> None:
        if len(raw) != 184 or raw[104:120].hex() != key_id(self.runtime):
            raise RefusedError(f"record {seq}: not a certificate of this runtime")
        check(self.runtime, raw[120:], b"symbi/agent-cert/v1\0" + raw[:120], f"record {seq}: the certificate")
        start, end = (int.from_bytes(raw[at : at + 8], "big") for at in (80, 88))
        self.terms.append(Term(raw[:16], raw[16:48], raw[96:104].hex(), start, end, seq, None))

    def _rotated(self, details: dict[str, Any]) -> None:
        before, after, by_before, by_after = (
            base64.b64decode(details[name])
            for name in ("before_public", "after_public", "by_before", "by_after")
        )
        if before != self.runtime:
            raise RefusedError("an exchange of another key than the one in force")
        statement = b"symbi/message-key/v1\0" + before + after + details["at_us"].to_bytes(8, "big")
        check(before, by_before, statement, "the old key's word")
        check(after, by_after, statement, "the new key's word")
        self.runtime = after

    def _revoked(self, seq: int, agent: str, key: str) -> None:
        """Of the key: with every certificate that was made for it."""
        ends = (uuid.UUID(agent).bytes, key)
        self.terms = [
            term._replace(until_seq=seq) if (term.agent, key_id(term.signing)) == ends else term
            for term in self.terms
        ]

    def vouched(self, agent: bytes, signer: bytes, created_us: int, seq: int) -> Term:
        """The term under which `agent` may have signed, with the key of this id, what record `seq` names."""
        for term in self.terms:
            if (
                (term.agent, key_id(term.signing)) == (agent, signer.hex())
                and term.from_seq <= seq
                and (term.until_seq is None or seq < term.until_seq)
                and term.not_before_us <= created_us + SKEW_US
                and created_us <= term.not_after_us
            ):
                return term
        raise RefusedError("nobody vouched for that key then")
