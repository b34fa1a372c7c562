"""Whose word a time stamp is: the signature of an RFC 3161 answer, and the way from its signer to a trusted one.

Needs the package `cryptography`. Not here: what the answer stamps, and when (`audit/stamp.py`); certificates that were
revoked: their lists are the authority's, and `openssl ts -verify -crl_check` reads them.

Invariants
- AU1 the stamp's bytes are those that were signed: content type, digest and the signer's certificate stand among the
  signed attributes.
- AU2 the signer may sign time stamps and nothing else, and leads by signatures of certificates that may issue others,
  all valid when it signed, to one that was given.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING, Any, Final

from symbi.audit.stamp import Der, read_token
from symbi.errors import AuditError, CryptoError, InputError

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography.x509 import Certificate

__all__ = ["check_answer"]

_CONTENT_TYPE: Final = bytes.fromhex("06092a864886f70d010903")  # 1.2.840.113549.1.9.3
_MESSAGE_DIGEST: Final = bytes.fromhex("06092a864886f70d010904")  # 1.2.840.113549.1.9.4
_SIGNING_CERTIFICATE: Final = bytes.fromhex("060b2a864886f70d010910020c")  # …9.16.2.12: SHA-1, RFC 2634
_SIGNING_CERTIFICATE_2: Final = bytes.fromhex("060b2a864886f70d010910022f")  # …9.16.2.47, RFC 5816
_TST_INFO: Final = bytes.fromhex("060b2a864886f70d0109100104")
_DIGESTS: Final = {
    bytes.fromhex("0609608648016503040201"): "sha256",
    bytes.fromhex("0609608648016503040202"): "sha384",
    bytes.fromhex("0609608648016503040203"): "sha512",
}
_SEQUENCE, _SET, _INTEGER, _OCTETS, _CONTEXT_0, _KEY_ID = 0x30, 0x31, 0x02, 0x04, 0xA0, 0x80
_CHAIN_MAX: Final = 8


def check_answer(answer: bytes, data: bytes, trusted: bytes) -> tuple[datetime, str]:
    """The time that an authority put on `data`, after checking that it signed it.

    Args:
        answer: `TimeStampResp`, DER.
        data: What was stamped.
        trusted: Certificates, PEM: the authority's own, or one that it leads to; those between may stand here too.

    Returns:
        The time, and the signer's name.

    Raises:
        CryptoError: it stamps something else, or nobody who is trusted signed it (AU1, AU2).
        InputError: `trusted` holds no certificate.
        AuditError: the package `cryptography` is not here.

    Cost: about 1 ms.
    """
    try:
        from cryptography import x509
    except ImportError as error:
        raise AuditError("checking an authority's signature needs `pip install cryptography`") from error
    try:
        anchors = x509.load_pem_x509_certificates(trusted)
    except ValueError as error:
        raise InputError("there is no certificate in what was given as trusted: PEM is expected") from error
    time, token, rest = read_token(answer, data)
    try:
        signer, between = _signed(token, rest)
        _leads_to(signer, [*between, *anchors], anchors, time)
    except CryptoError:
        raise
    except Exception as error:  # `cryptography` has many classes for a certificate that is none
        raise CryptoError(f"the stamp's signature cannot be read: {error}") from error
    return time, signer.subject.rfc4514_string()


def _signed(token: bytes, rest: Der) -> tuple[Certificate, list[Certificate]]:
    """The certificate that signed, after checking that it did; and those that came with it."""
    from cryptography import x509

    certificates = []
    if rest.next_is(_CONTEXT_0):
        given = rest.inside(_CONTEXT_0)
        while given.more():
            certificates.append(x509.load_der_x509_certificate(given.take(_SEQUENCE)[0]))
    if rest.more() and not rest.next_is(_SET):
        rest.take()  # revocation lists, which are not used
    infos = rest.inside(_SET)
    info = infos.inside(_SEQUENCE)
    if infos.more():
        raise CryptoError("the stamp has several signers, where RFC 3161 has one")
    info.take(_INTEGER)
    signer = _signer(info, certificates)
    name = _DIGESTS.get(info.inside(_SEQUENCE).take()[0])
    if name is None:
        raise CryptoError("the stamp's digest is none of SHA-256, SHA-384 and SHA-512")
    attributes, inside = info.take(_CONTEXT_0)
    _check_attributes(Der(inside), name, token, signer)
    info.take(_SEQUENCE)  # the key says what it signs with
    signature = info.take(_OCTETS)[1]
    # Signed as the SET that they are, whatever tag they carry in their place.
    _verify(signer, signature, bytes([_SET]) + attributes[1:], name)
    return signer, certificates


def _signer(info: Der, certificates: list[Certificate]) -> Certificate:
    from cryptography.x509 import SubjectKeyIdentifier

    if info.next_is(_KEY_ID):
        wanted = info.take(_KEY_ID)[1]
        for certificate in certificates:
            for extension in certificate.extensions:
                value = extension.value
                if isinstance(value, SubjectKeyIdentifier) and value.digest == wanted:
                    return certificate
        raise CryptoError("the signer's certificate does not come with the stamp")
    named = info.inside(_SEQUENCE)
    issuer, serial = named.take(_SEQUENCE)[0], int.from_bytes(named.take(_INTEGER)[1], signed=True)
    for certificate in certificates:
        if certificate.issuer.public_bytes() == issuer and certificate.serial_number == serial:
            return certificate
    raise CryptoError("the signer's certificate does not come with the stamp")


def _check_attributes(attributes: Der, name: str, token: bytes, signer: Certificate) -> None:
    """What was signed besides: that it is a stamp, of these bytes, by this certificate (AU1)."""
    from cryptography.hazmat.primitives.serialization import Encoding

    found: dict[bytes, bytes] = {}
    while attributes.more():
        one = attributes.inside(_SEQUENCE)
        kind = one.take()[0]
        if kind in found:
            raise CryptoError("an attribute of the signature stands twice")
        found[kind] = one.take(_SET)[1]
    if found.get(_CONTENT_TYPE) != _TST_INFO:
        raise CryptoError("what was signed is not a time stamp")
    digest = Der(found.get(_MESSAGE_DIGEST, b"")).take(_OCTETS)[1]
    if not hmac.compare_digest(digest, hashlib.new(name, token).digest()):
        raise CryptoError("the stamp is not the one that was signed")
    der = signer.public_bytes(Encoding.DER)
    if _SIGNING_CERTIFICATE_2 in found:
        first = Der(found[_SIGNING_CERTIFICATE_2]).inside(_SEQUENCE).inside(_SEQUENCE).inside(_SEQUENCE)
        algorithm = "sha256"
        if first.next_is(_SEQUENCE):
            given = _DIGESTS.get(first.inside(_SEQUENCE).take()[0])
            if given is None:
                raise CryptoError("the signature names its certificate by an unknown digest")
            algorithm = given
    elif _SIGNING_CERTIFICATE in found:
        first = Der(found[_SIGNING_CERTIFICATE]).inside(_SEQUENCE).inside(_SEQUENCE).inside(_SEQUENCE)
        algorithm = "sha1"
    else:
        raise CryptoError("the signature does not name its certificate")
    named = first.take(_OCTETS)[1]
    if not hmac.compare_digest(named, hashlib.new(algorithm, der, usedforsecurity=False).digest()):
        raise CryptoError("the signature names another certificate")


def _verify(signer: Certificate, signature: bytes, message: bytes, name: str) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

    digest = {"sha256": hashes.SHA256(), "sha384": hashes.SHA384(), "sha512": hashes.SHA512()}[name]
    key: Any = signer.public_key()
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, message, padding.PKCS1v15(), digest)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, message, ec.ECDSA(digest))
        elif isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, message)
        else:
            raise CryptoError("the authority's key is neither RSA nor an elliptic curve")
    except InvalidSignature:
        raise CryptoError("the authority did not sign this stamp") from None


def _leads_to(
    signer: Certificate, known: list[Certificate], anchors: list[Certificate], time: datetime
) -> None:
    """From the signer, issuer by issuer, to one that is trusted (AU2)."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.x509.oid import ExtendedKeyUsageOID

    usage = _extension(signer, x509.ExtendedKeyUsage)
    if usage is None or list(usage.value) != [ExtendedKeyUsageOID.TIME_STAMPING] or not usage.critical:
        raise CryptoError("the signer's certificate is not one for time stamps alone")
    current = signer
    for _ in range(_CHAIN_MAX):
        if not current.not_valid_before_utc <= time <= current.not_valid_after_utc:
            raise CryptoError(f"the certificate of {current.subject.rfc4514_string()} was not valid then")
        if current in anchors:
            return
        for issuer in known:
            constraints = _extension(issuer, x509.BasicConstraints)
            if issuer == current or constraints is None or not constraints.value.ca:
                continue
            try:
                current.verify_directly_issued_by(issuer)
            except (ValueError, TypeError, InvalidSignature):
                continue
            current = issuer
            break
        else:
            break
    raise CryptoError("the signer leads to no certificate that was given as trusted")


def _extension(certificate: Certificate, kind: type[Any]) -> Any:
    from cryptography import x509

    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None
