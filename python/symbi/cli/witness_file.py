"""A witness file: the checkpoints of one trail, each shown to have grown out of the one before.

Why: such a file is the only evidence that a trail was cut back, so a full disk must not cost what stands in it.
Not here: what a checkpoint says (`symbi.audit`), the process that co-signs (`symbi audit witness`).

Invariants
- WF1 an append that fails leaves the file as it was; two at once lose nothing.
- WF2 a file whose end was torn off is named, with what mends it; it is never taken for less than it held.
"""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from symbi.cli import values
from symbi.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from symbi.audit import AuditLog, Checkpoint

__all__ = ["add_checkpoint", "checkpoints_in"]

_BEGIN = re.compile(rb"(?m)^(?=symbi-audit/[0-9a-f]{32}$)")


def checkpoints_in(file: Path) -> list[str]:
    """The checkpoints in a file: one, or the many of a witness file.

    Raises:
        InputError: it cannot be read, is none, or was torn (WF2).
    """
    from symbi.errors import InputError

    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"`{file}` cannot be read: {(error.strerror or str(error)).lower()}") from error
    return _read(file, content)


def _read(file: Path, content: bytes) -> list[str]:
    from symbi.errors import InputError

    found, wrong = _whole(content)
    if wrong is None:
        return found
    whole = _whole_bytes(content)
    if whole is None:
        values.read_text(file)  # says it where it is no text
        raise InputError(f"`{file}`: {wrong}")
    mend = f"keep a copy of it, cut it there (`truncate -s {whole} FILE`), and append again"
    if not whole:
        mend = "nothing whole is in it: put it aside, and append anew"
    raise InputError(
        f"`{file}` ends in a checkpoint that was not written whole, from byte {whole} on: {mend}"
    )


def _whole(content: bytes) -> tuple[list[str], str | None]:
    """The checkpoints, or why these bytes are none."""
    from symbi.audit import Checkpoint
    from symbi.errors import InputError

    try:
        found = [one.decode() for one in _BEGIN.split(content) if one] or [""]
        for one in found:
            Checkpoint.parse(one)
    except UnicodeDecodeError:
        return [], "not UTF-8"
    except InputError as error:
        return [], str(error)
    return found, None


def _whole_bytes(content: bytes) -> int | None:
    """Where the torn end of a witness file begins; `None` where this is something else."""
    begins = [found.start() for found in _BEGIN.finditer(content)]
    last = content[begins[-1] :] if begins else content
    if b"\n\n" in last and last.endswith(b"\n") and not last.endswith(b"\n\n"):
        return None  # all lines of one are there: what is wrong with it is something else
    line = content.rfind(b"\n") + 1
    # Torn in a line of signatures, or of the origin; or before the note had any signature.
    for end in (line, begins[-1] if begins else 0):
        if 0 < end < len(content) and _whole(content[:end])[1] is None:
            return end
    first = content[:44]
    return 0 if first and len(begins) < 2 and _begins_one(first) else None


def _begins_one(first: bytes) -> bool:
    return first.startswith(b"symbi-audit/") or b"symbi-audit/".startswith(first)


def add_checkpoint(file: Path, checkpoint: Checkpoint, log: AuditLog) -> None:
    """Adds a checkpoint of this trail, once the trail is shown to have grown out of the last one in the file.

    Raises:
        InputError: the file is none, or was torn (WF2).
        AuditError: the trail has not grown out of it.
        OSError: it cannot be written; it is as it was (WF1).
    """
    from symbi.audit import Checkpoint, check_consistency
    from symbi.errors import AuditError

    with _alone(file) as place:
        content = place.read_bytes()
        if content:
            old = Checkpoint.parse(_read(file, content)[-1])
            new, hashes = log.prove_consistency(old)
            check_consistency(old, new, hashes)
            if new.size < checkpoint.size:
                raise AuditError("the trail's own checkpoint is older than the one that was just made")
            if checkpoint.size <= old.size:
                return  # it stands there, or somebody added a later one since it was made
        write_whole(file, content + checkpoint.text.encode())


@contextmanager
def _alone(file: Path) -> Iterator[Path]:
    """The file, made where it is not, while no other append has it; an empty one does not stay."""
    place = file.resolve()
    descriptor = _locked(place)
    try:
        yield place
    finally:
        with suppress(FileNotFoundError):
            if place.stat().st_size == 0:
                place.unlink()
        os.close(descriptor)


def _locked(place: Path) -> int:
    while True:
        descriptor = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Whoever had it has put another file in its place: that one is to be locked.
            if place.exists() and os.path.samestat(os.fstat(descriptor), place.stat()):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
