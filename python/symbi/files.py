"""Files that are there whole or not at all: what is written goes beside them first.

Why one place: a disk that is full in the middle of a report must not cost the report of last year that lay there.
Not here: keys (`symbi.audit.keys`, AL1), the trail and what the native core keeps.

Invariants
- FI1 a reader finds the earlier content or the new one, never a part; where writing fails, the earlier one stays and
  nothing lies beside it.
- FI2 an error of the disk names the file that was meant.
"""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write_whole"]

_MODE: Final = 0o666
"""Of a new file, less what the umask takes, as `open` makes one."""


def write_whole(path: Path, content: str | bytes, *, mode: int = _MODE, new: bool = False) -> None:
    """Writes a file whole, on disk (FI1). One that was there keeps its mode and, where we may, its owner.

    What is no regular file (`/dev/stdout`, a pipe) is written as it is: there is nothing to keep.

    Args:
        path: The file; a symbolic link stays one, and what it leads to is written.
        content: Text goes out as UTF-8.
        mode: Of a file that was not there.
        new: Refuse where there is one already.

    Raises:
        OSError: it cannot be written; its `filename` is `path` (FI2).
    """
    data = content.encode() if isinstance(content, str) else content
    before = None
    try:
        place = path.resolve()
        before = place.stat() if place.exists() else None
        if before is not None and not stat.S_ISREG(before.st_mode) and not new:
            path.write_bytes(data)
        else:
            _write_beside(place, data, before, mode, new=new)
    except OSError as error:
        failed = OSError(error.errno, error.strerror, os.fspath(path))
        if before is not None and before.st_size:
            failed.add_note("it is as it was before")
        raise failed from error


def _write_beside(place: Path, data: bytes, before: os.stat_result | None, mode: int, *, new: bool) -> None:
    made = place.with_name(f".symbi-{secrets.token_hex(8)}")
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as out:
            if before is not None:
                with suppress(PermissionError):  # only root gives files away; the content matters more
                    os.fchown(out.fileno(), before.st_uid, before.st_gid)
                os.fchmod(out.fileno(), stat.S_IMODE(before.st_mode))
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        if new:
            os.link(made, place)  # unlike a rename, refuses where there is one
        else:
            made.replace(place)
    finally:
        made.unlink(missing_ok=True)
    _sync_directory(place.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
