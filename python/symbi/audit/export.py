"""What a stranger takes home: the records, and two verifiers that need nothing of ours.

An export is a directory, or one `.zip`: the segments plain, `head`, the last checkpoint, `verify_trail.py`
(the standard library and one Ed25519) and `verify.html` (any browser, offline). Both were written from
docs/formats/audit-log.md.
Not here: whether the trail holds. It is exported as it is, and verified by whoever gets it.

Invariants
- XP1 an export goes to a place that is not there yet: nothing is overwritten, and a half-made one is removed.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Final

from symbi import _core
from symbi.errors import InputError

__all__ = ["export"]

_VERIFIERS: Final = ("verify_trail.py", "verify.html")
_README: Final = """The trail of {log_id}

Its records are the lines of the files NNNNNNNNNNNN.jsonl. Nothing here has to be believed:

  - open verify.html in a browser and choose this folder. It works offline and sends nothing anywhere; or
  - run: python verify_trail.py . --key FINGERPRINT [--checkpoint FILE]
    It needs PyNaCl or cryptography, and is one page to read.

Without the fingerprint, either says only that the records agree with one another. With it, that the trail's own key
signed them. Without a checkpoint that was kept elsewhere, nothing shows that records were cut off the end.
A fingerprint from this folder proves nothing: ask whoever was told it when the trail began.
"""


def export(directory: str | os.PathLike[str], target: str | os.PathLike[str]) -> int:
    """Copies a trail for a stranger.

    Args:
        directory: The trail.
        target: A directory that does not exist, or the name of a `.zip` that does not.

    Returns:
        Bytes of records.

    Raises:
        InputError: something is there already (XP1), its parent is not, or it would lie within the trail.
        AuditError: it cannot be read or written.
    """
    place = Path(target)
    if place.exists():
        raise InputError(f"`{place}` is there already: an export overwrites nothing")
    if not place.absolute().parent.is_dir():
        raise InputError(f"there is no directory `{place.absolute().parent}`")
    if place.absolute().parent.resolve().is_relative_to(Path(directory).resolve()):
        raise InputError(
            f"`{place}` lies within the trail itself, which holds nothing but its own: export elsewhere"
        )
    log_id, _, _ = _core.audit_summary(os.fspath(directory))
    made = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.absolute().parent))
    try:
        folder = made / place.stem
        size = _core.audit_export(os.fspath(directory), os.fspath(folder))
        for name in _VERIFIERS:
            (folder / name).write_bytes(files("symbi.audit").joinpath(name).read_bytes())
        (folder / "README.txt").write_text(_README.format(log_id=log_id), encoding="utf-8")
        if place.suffix.lower() == ".zip":
            archive = made / place.name
            with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as out:
                for path in sorted(folder.iterdir()):
                    out.write(path, f"{folder.name}/{path.name}")
            archive.rename(place)
        else:
            folder.rename(place)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return size
