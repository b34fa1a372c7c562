"""Key files are PKCS#8, as other people's tools write and read it; with a passphrase they are encrypted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from symbi import _core
from symbi.config.passphrase import PASSPHRASE_VARIABLE, key_passphrase
from symbi.errors import CryptoError

if TYPE_CHECKING:
    from pathlib import Path

PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


def raw(key: Ed25519PrivateKey) -> bytes:
    return key.private_bytes_raw()


def write(path: Path, text: bytes) -> Path:
    path.write_bytes(text)
    path.chmod(0o600)
    return path


def open_kernel(data: Path, passphrase: bytes | None) -> str:
    """Opens and closes a runtime's data; the fingerprint of its key."""
    kernel = _core.Kernel.open(data, passphrase=passphrase)
    try:
        return str(kernel.opened["fingerprint"])
    finally:
        kernel.close()


@pytest.mark.parametrize("passphrase", [None, b"correct horse", "pässwörd".encode()])
def test_keys_that_cryptography_writes_are_read(tmp_path: Path, passphrase: bytes | None) -> None:
    key = Ed25519PrivateKey.generate()
    how = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    path = write(tmp_path / "a.key", key.private_bytes(PEM, PKCS8, how))
    assert _core.read_key(path, passphrase) == raw(key)


def test_the_runtimes_keys_are_read_by_cryptography(tmp_path: Path) -> None:
    fingerprint = open_kernel(tmp_path / "plain", None)
    text = (tmp_path / "plain/keys/signing.key").read_bytes()
    key = serialization.load_pem_private_key(text, None)
    assert isinstance(key, Ed25519PrivateKey)
    assert raw(key) == _core.read_key(tmp_path / "plain/keys/signing.key")
    assert open_kernel(tmp_path / "plain", None) == fingerprint


def test_a_passphrase_encrypts_the_keys_that_are_there_and_is_needed_from_then_on(tmp_path: Path) -> None:
    fingerprint = open_kernel(tmp_path, None)
    assert open_kernel(tmp_path, b"word") == fingerprint
    for name in ["signing.key", "master.key"]:
        path = tmp_path / "keys" / name
        key = serialization.load_pem_private_key(path.read_bytes(), b"word")
        assert isinstance(key, Ed25519PrivateKey)
        assert raw(key) == _core.read_key(path, b"word")
        assert path.stat().st_mode & 0o777 == 0o600
    assert open_kernel(tmp_path, b"word") == fingerprint
    for wrong in [None, b"another"]:
        with pytest.raises(CryptoError, match=f"set {PASSPHRASE_VARIABLE} to the one") as caught:
            open_kernel(tmp_path, wrong)
        assert "chmod" not in str(caught.value), "its mode is not what is wrong"


def test_keys_of_32_raw_bytes_still_open(tmp_path: Path) -> None:
    fingerprint = open_kernel(tmp_path, None)
    path = tmp_path / "keys/signing.key"
    write(path, _core.read_key(path))
    assert path.stat().st_size == 32
    assert open_kernel(tmp_path, None) == fingerprint


def test_what_is_no_key_of_ours_is_refused_with_the_reason(tmp_path: Path) -> None:
    other = X25519PrivateKey.generate().private_bytes(PEM, PKCS8, serialization.NoEncryption())
    sealed = Ed25519PrivateKey.generate().private_bytes(
        PEM, PKCS8, serialization.BestAvailableEncryption(b"x")
    )
    cases = {
        "not an Ed25519 key": other,
        "neither 32 raw ones nor PEM": b"short",
        "is not a private key": b"-----BEGIN PRIVATE KEY-----\n",
        "needs its passphrase": sealed,
    }
    for reason, text in cases.items():
        with pytest.raises(CryptoError, match=reason):
            _core.read_key(write(tmp_path / "a.key", text))
    write(tmp_path / "a.key", other).chmod(0o644)
    with pytest.raises(CryptoError, match="others may read it"):
        _core.read_key(tmp_path / "a.key")
    with pytest.raises(CryptoError):
        _core.read_key(tmp_path / "absent.key")


def test_the_passphrase_comes_from_the_environment_and_an_empty_one_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "word")
    assert key_passphrase() == b"word"
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "")
    assert key_passphrase() is None
    monkeypatch.delenv(PASSPHRASE_VARIABLE)
    assert key_passphrase() is None
