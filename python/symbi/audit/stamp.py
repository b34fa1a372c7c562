"""Time stamps of an authority over a checkpoint, RFC 3161: the request, and what an answer says.

Why: a witness signs its own clock; an authority's stamp shows a stranger that a checkpoint, and with it every record
under it, was there at that time.
Not here: the way to the authority (its answer is a file), and its signature (`audit/authority.py`).

Invariants
- ST1 an answer counts only when it is granted and stamps these very bytes; its time is told with what remains to check.
"""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime
from typing import Final

from symbi.errors import CryptoError

__all__ = ["Der", "read_answer", "read_token", "request"]

_SHA256: Final = bytes.fromhex("0609608648016503040201")  # 2.16.840.1.101.3.4.2.1
_SIGNED_DATA: Final = bytes.fromhex("06092a864886f70d010702")  # 1.2.840.113549.1.7.2
_TST_INFO: Final = bytes.fromhex("060b2a864886f70d0109100104")  # 1.2.840.113549.1.9.16.1.4
_SEQUENCE, _INTEGER, _OCTETS, _TIME, _CONTEXT_0 = 0x30, 0x02, 0x04, 0x18, 0xA0


def _der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    if len(body) < 128:
        return bytes([tag, len(body)]) + body
    size = len(body).to_bytes((len(body).bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(size)]) + size + body


def _imprint(data: bytes) -> bytes:
    algorithm = _der(_SEQUENCE, _SHA256, bytes.fromhex("0500"))
    return _der(_SEQUENCE, algorithm, _der(_OCTETS, hashlib.sha256(data).digest()))


def request(data: bytes) -> bytes:
    """A `TimeStampReq` over SHA-256 of `data`, with a nonce, that asks for the authority's certificate; DER."""
    nonce = secrets.token_bytes(8)
    number = b"\0" + nonce if nonce[0] & 0x80 or not nonce[0] else nonce
    if len(number) > 1 and number[0] == 0 and not number[1] & 0x80:
        number = b"\1" + nonce  # DER takes no leading zero
    certificate_wanted = bytes.fromhex("0101ff")
    return _der(_SEQUENCE, _der(_INTEGER, b"\1"), _imprint(data), _der(_INTEGER, number), certificate_wanted)


class Der:
    """The members of one DER value, in order. Anything but definite lengths within the data is refused."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, tag: int | None = None) -> tuple[bytes, bytes]:
        """The next member: whole, and its content."""
        begin = self.at
        if begin + 2 > len(self.data) or (tag is not None and self.data[begin] != tag):
            raise CryptoError("the answer is not a time stamp: another structure than RFC 3161 has")
        size, at = self.data[begin + 1], begin + 2
        if size & 0x80:
            count = size & 0x7F
            if not 1 <= count <= 4 or at + count > len(self.data):
                raise CryptoError("the answer is not DER")
            size, at = int.from_bytes(self.data[at : at + count]), at + count
        if at + size > len(self.data):
            raise CryptoError("the answer ends early")
        self.at = at + size
        return self.data[begin : self.at], self.data[at : self.at]

    def inside(self, tag: int) -> Der:
        """The members of the next member."""
        return Der(self.take(tag)[1])

    def more(self) -> bool:
        """Whether there is a next member."""
        return self.at < len(self.data)

    def next_is(self, tag: int) -> bool:
        """Whether the next member has this tag."""
        return self.more() and self.data[self.at] == tag


def read_answer(answer: bytes, data: bytes) -> datetime:
    """The time that an answer (`TimeStampResp`, DER) puts on `data`.

    Its signature is not checked here: `authority.check_answer` does.

    Raises:
        CryptoError: it was refused, stamps something else, or is not a time stamp (ST1).
    """
    return read_token(answer, data)[0]


def read_token(answer: bytes, data: bytes) -> tuple[datetime, bytes, Der]:
    """As `read_answer`; and the bytes that were signed, and what follows them in the signed data.

    Raises:
        CryptoError: as `read_answer`.
    """
    response = Der(answer).inside(_SEQUENCE)
    status = response.inside(_SEQUENCE).take(_INTEGER)[1]
    if int.from_bytes(status) not in (0, 1):
        raise CryptoError(f"the authority refused: status {int.from_bytes(status)}")
    content = response.inside(_SEQUENCE)
    if content.take()[0] != _SIGNED_DATA:
        raise CryptoError("the answer holds no signed data")
    signed = content.inside(_CONTEXT_0).inside(_SEQUENCE)
    signed.take(_INTEGER)
    signed.take()
    encapsulated = signed.inside(_SEQUENCE)
    if encapsulated.take()[0] != _TST_INFO:
        raise CryptoError("the answer is signed data of something else")
    content_bytes = encapsulated.inside(_CONTEXT_0).take(_OCTETS)[1]
    token = Der(content_bytes).inside(_SEQUENCE)
    token.take(_INTEGER)
    token.take()
    imprint = Der(token.take(_SEQUENCE)[1])
    algorithm, digest = imprint.inside(_SEQUENCE), imprint.take(_OCTETS)[1]
    if algorithm.take()[0] != _SHA256 or digest != hashlib.sha256(data).digest():
        raise CryptoError("the answer stamps something else: the imprint is not that of this file")
    token.take(_INTEGER)
    text = token.take(_TIME)[1].decode("ascii", errors="replace")
    for form in ("%Y%m%d%H%M%SZ", "%Y%m%d%H%M%S.%fZ"):
        try:
            return datetime.strptime(text, form).replace(tzinfo=UTC), content_bytes, signed
        except ValueError:
            continue
    raise CryptoError("the answer's time is none")
