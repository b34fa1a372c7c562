"""The keys of trails on disk: an application's own, and a runtime's for a trail that nobody has open.

Not here: who may sign what (`symbi-kernel`, `AuditLog`).

Invariants
- KR1 a new key is on disk before the log names it, and the old one is there until the log has: whenever a rotation
  stops, running it again ends it.
- AL1 a key file is 0600, made whole or not at all, and never overwritten.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from base64 import b64decode
from contextlib import suppress
from pathlib import Path

from symbi import _core
from symbi.audit.proof import Checkpoint
from symbi.errors import CryptoError

__all__ = ["finish_rotation", "key_path", "next_seed", "read_seed", "rotate", "seed_of", "sign_at_rest"]

SEED_BYTES = 32


def key_path(directory: str | os.PathLike[str]) -> Path:
    """Where an application's log in `directory` keeps its key: `<directory>.key`."""
    path = Path(directory).absolute()
    return path.with_name(path.name + ".key")


def seed_of(directory: str | os.PathLike[str]) -> bytes:
    """The log's seed; made on its first opening (AL1)."""
    path = key_path(directory)
    try:
        return read_seed(path)
    except FileNotFoundError:
        if (Path(directory) / "head").exists():
            message = f"`{path}` is missing: without its key this log can be read and verified, not written"
            raise CryptoError(message) from None
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_new(path, secrets.token_bytes(SEED_BYTES).hex().encode() + b"\n")
    return read_seed(path)


def _write_new(path: Path, content: bytes) -> None:
    """Makes a key file, whole and on disk; where another process was faster, its key counts (AL1)."""
    made = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(made, path)
    finally:
        made.unlink(missing_ok=True)
    _sync_directory(path.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_seed(path: Path) -> bytes:
    """The seed in a key file.

    Raises:
        CryptoError: others may read it, or it is not a key.
    """
    with path.open() as file:
        if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise CryptoError(f"`{path}` can be read by others: `chmod 600` it, and consider its key known")
        text = file.read(SEED_BYTES * 2 + 2)
    try:
        seed = bytes.fromhex(text)
    except ValueError:
        seed = b""
    if len(seed) != SEED_BYTES:
        raise CryptoError(f"`{path}` is not a key: {SEED_BYTES * 2} hex digits were expected")
    return seed


def sign_at_rest(directory: str | os.PathLike[str]) -> Checkpoint | None:
    """Verifies a trail that nobody has open, whole, and signs its state; `None` where its key is not here.

    Raises:
        LogLockedError: it is open for writing.
        ChainBrokenError, TruncatedError: it does not hold; nothing was signed.
        CryptoError: the key is not the one whose turn it is, or others may read it.
    """
    trail = Path(directory).absolute()
    place = _key_file(trail)
    seed = None if place is None else _read(place, trail)
    return None if seed is None else Checkpoint.parse(_core.audit_sign_checkpoint(os.fspath(trail), seed))


def rotate(directory: str | os.PathLike[str]) -> tuple[int | None, str]:
    """Gives a trail that nobody has open a new key, from the next record on; both keys sign the record of it.

    Also ends a rotation that was interrupted (KR1). The old key is removed: what it signed verifies as before.

    Returns:
        The number of the record (`None` where an interrupted rotation was ended), and the new key's fingerprint,
        to be kept elsewhere.

    Raises:
        LogLockedError: it is open: a runtime must be stopped first.
        CryptoError: the key is not here, or is not the one whose turn it is.
        ChainBrokenError, TruncatedError: the trail is damaged; nothing was changed.
    """
    trail = Path(directory).absolute()
    place = _key_file(trail)
    if place is None:
        raise CryptoError(f"the key of `{trail}` is not here: only its writer can change it")
    new = next_seed(trail)
    fingerprint = _core.audit_fingerprint(new)
    keys = _core.audit_verifier_keys(os.fspath(trail))
    turn = b64decode(keys[-1].split("+", 2)[2])[1:]
    seq = None  # the log says so already: only the file was left to be moved
    if hashlib.sha256(b"ed25519" + turn).hexdigest()[:32] != fingerprint:
        seq = _core.audit_rotate(os.fspath(trail), _read(place, trail), new, place != key_path(trail))
    finish_rotation(trail)
    return seq, fingerprint


def next_seed(directory: str | os.PathLike[str]) -> bytes:
    """The key that is to sign next, on disk before any log names it (KR1): made, or what an interrupted rotation left.

    Raises:
        CryptoError: the trail's key is not here.
    """
    trail = Path(directory).absolute()
    place = _key_file(trail)
    if place is None:
        raise CryptoError(f"the key of `{trail}` is not here: only its writer can change it")
    waiting = _waiting(place)
    if not waiting.exists():
        _make_next(waiting, application=place == key_path(trail))
    return _read(waiting, trail)


def finish_rotation(directory: str | os.PathLike[str]) -> None:
    """Puts the key that signs now in the place of the one before, whose time is over (KR1)."""
    place = _key_file(Path(directory).absolute())
    if place is not None:
        _waiting(place).rename(place)
        _sync_directory(place.parent)


def _waiting(place: Path) -> Path:
    return place.with_name(place.name + ".next")


def _make_next(path: Path, *, application: bool) -> None:
    seed = secrets.token_bytes(SEED_BYTES)
    if application:
        return _write_new(path, seed.hex().encode() + b"\n")
    from symbi.config.passphrase import key_passphrase

    _core.write_key(path, seed, key_passphrase())
    return _sync_directory(path.parent)


def _key_file(trail: Path) -> Path | None:
    """An application's key beside its trail, or a runtime's among its keys."""
    places = (key_path(trail), trail.parent / "keys" / "signing.key")
    return next((place for place in places if place.exists()), None)


def _read(path: Path, trail: Path) -> bytes:
    """An application's key file is hex, a runtime's PKCS#8."""
    if path.name.startswith(key_path(trail).name):
        return read_seed(path)
    from symbi.config.passphrase import key_passphrase

    return _core.read_key(path, key_passphrase())
