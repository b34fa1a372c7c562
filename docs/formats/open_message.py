"""Open and verify messages of the bus, from the page `message.md` alone: `cryptography` and nothing of symbi.

Raises `RefusedError` where anything does not hold; what is returned holds.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Any, NamedTuple, NoReturn

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, hpke
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

REPLY, TOPIC, BATCH, ZERO = 1, 2, 4, bytes(16)


class RefusedError(Exception):
    """It does not hold, and why."""


def refuse(why: str, cause: Exception | None = None) -> NoReturn:
    raise RefusedError(why) from cause


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(hashes.SHA256(), 32, salt, info).derive(secret)


def check_signature(key: bytes, signature: bytes, statement: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, statement)
    except InvalidSignature as error:
        refuse("the signature does not hold", error)


def key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"ed25519" + key).digest()[:16]


class Certificate(NamedTuple):
    agent: bytes
    signing: bytes
    agreement: bytes
    not_before_us: int
    not_after_us: int


def open_certificate(raw: bytes, runtime: bytes) -> Certificate:
    if len(raw) != 184 or raw[104:120] != key_id(runtime):
        refuse("no certificate of this runtime")
    check_signature(runtime, raw[120:], b"symbi/agent-cert/v1\0" + raw[:120])
    return Certificate(raw[:16], raw[16:48], raw[48:80], *struct.unpack(">QQ", raw[80:96]))


def session_key(private: bytes, sender: Certificate, recipient: Certificate) -> bytes:
    """The key of one direction, as its recipient finds it."""
    secret = X25519PrivateKey.from_private_bytes(private).exchange(
        X25519PublicKey.from_public_bytes(sender.agreement)
    )
    names = sender[:1] + recipient[:1] + (sender.agreement, recipient.agreement, sender.signing)
    return hkdf(secret, b"", b"symbi/bus/pair/v1\0" + b"".join(names))


def unwrap_topic_key(private: bytes, wrapped: bytes, topic: str, epoch: bytes, member: bytes) -> bytes:
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
    info = b"symbi/bus/topic-key/v1\0" + epoch + member + topic.encode()
    return suite.decrypt(wrapped, X25519PrivateKey.from_private_bytes(private), info)


def root(leaf: bytes, index: int, size: int, path: bytes) -> bytes:
    """RFC 6962, section 2.1.1: the root that the path leads to."""
    at, width, found = index, size, leaf
    while width > 1:
        if at ^ 1 < width:
            sibling, path = path[:32], path[32:]
            pair = found + sibling if at % 2 == 0 else sibling + found
            found = hashlib.sha256(b"\x01" + pair).digest()
        at, width = at // 2, (width + 1) // 2
    return found if not path else refuse("the path is too long")


def open_message(raw: bytes, sender: Certificate, secret: bytes, now_us: int) -> tuple[dict[str, Any], bytes]:
    """Header and payload. `secret` is the pair's or the topic's key. Replays are for the receiver to remember."""
    if len(raw) < 164 or raw[:2] != b"\x01\x01" or raw[2] > REPLY | TOPIC | BATCH or raw[3] > 3:
        refuse("no message of version 1, suite 1")
    flags, recipient, in_reply_to = raw[2], raw[36:52], raw[52:68]
    counter, created, expires, topic_len, labels_len, sealed_len = struct.unpack(">QQQHHI", raw[132:164])
    topic = raw[164 : 164 + topic_len]
    body = 164 + topic_len + labels_len
    header, sealed, tail = raw[:body], raw[body : body + sealed_len], raw[body + sealed_len :]
    labels, rest = [], raw[164 + topic_len : body]
    while rest:
        labels.append(rest[1 : 1 + rest[0]])
        rest = rest[1 + rest[0] :]
    if (
        (flags & TOPIC == 0) != (not topic)
        or (flags & TOPIC == 0) != (recipient != ZERO)
        or (flags & REPLY == 0) != (in_reply_to == ZERO)
        or labels != sorted(set(labels))
        or len(sealed) != sealed_len
    ):
        refuse("the header contradicts itself")
    if raw[20:36] != sender.agent or raw[68:84] != key_id(sender.signing):
        refuse("of another sender")
    signature, proof = tail[:64], tail[64:]
    if flags & BATCH:
        if len(proof) < 2 or proof[0] > proof[1]:
            refuse("no such place in the batch")
        size = proof[1] + 1
        top = root(hashlib.sha256(b"\x00" + header + sealed).digest(), proof[0], size, proof[2:])
        check_signature(sender.signing, signature, b"symbi/msg-batch/v1\0" + size.to_bytes(2, "big") + top)
    elif proof:
        refuse("more than a message")
    else:
        check_signature(sender.signing, signature, b"symbi/msg/v1\0" + header + sealed)
    if raw[84:100] != hkdf(secret, b"", b"symbi/bus/epoch/v1\0")[:16]:
        refuse("of another epoch")
    target = b"\x01" + topic if topic else b"\x00" + recipient
    info = b"symbi/bus/stream/v1\0" + raw[84:100] + sender.agent + sender.signing + target
    try:
        cipher = AESGCM(hkdf(secret, raw[100:132], info))
        payload = cipher.decrypt(counter.to_bytes(12, "big"), sealed, header)
    except InvalidTag as error:
        refuse("the seal does not hold", error)
    if not sender.not_before_us <= created + 30_000_000 or created > sender.not_after_us:
        refuse("made when the certificate was not valid")
    if created > now_us + 30_000_000 or expires < now_us:
        refuse("not of now")
    return {
        "topic": topic.decode(),
        "labels": [label.decode() for label in labels],
        "counter": counter,
    }, payload
