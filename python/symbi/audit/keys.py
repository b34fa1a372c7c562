"""The keys of trails on disk: an application's own, and a runtime's for a trail that nobody has open.

Not here: who may sign what (`symbi-kernel`, `AuditLog`).

Invariants
- AL1 a key file is 0600, made whole or not at all, and never overwritten.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from symbi import _core
from symbi.audit.proof import Checkpoint
from symbi.errors import CryptoError

__all__ = ["key_path", "read_seed", "seed_of", "sign_at_rest"]

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
    made = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secrets.token_bytes(SEED_BYTES).hex() + "\n")
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):  # another process was faster: its key counts
            os.link(made, path)
    finally:
        made.unlink(missing_ok=True)
    parent = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
    return read_seed(path)


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
    seed = _present_seed(trail)
    return None if seed is None else Checkpoint.parse(_core.audit_sign_checkpoint(os.fspath(trail), seed))


def _present_seed(trail: Path) -> bytes | None:
    """An application's key beside its trail, or a runtime's among its keys."""
    if key_path(trail).exists():
        return read_seed(key_path(trail))
    from symbi.config.passphrase import key_passphrase

    path = trail.parent / "keys" / "signing.key"
    return _core.read_key(path, key_passphrase()) if path.exists() else None
