"""The policies that were in force, kept by their digest beside the trail.

Why: a record names the set it was decided under by digest alone. Whoever asks in a year why something was refused must
not depend on the files of today.
Not here: deciding; trusting. What is read is compiled again, and it counts only if its digest is the one that was asked
for: a changed file is the same as a missing one.

Invariants
- AR1 a set that is kept is never overwritten, and is whole or not there.
- AR2 a set is answered only for its own digest.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any

from symbi.files import write_whole
from symbi.policy.sources import PolicyTexts

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["keep", "recall"]

_HEX = frozenset("0123456789abcdef")


def _file(data: Path, digest: str) -> Path:
    return data / "policies" / f"{digest}.json"


def keep(data: Path, digest: str, texts: PolicyTexts | None) -> None:
    """Keep this set, if it is not kept yet (AR1). None: the built-in `secure-default`, which needs no keeping.

    A full disk is no reason not to open: then the set is simply not kept.
    """
    file = _file(data, digest)
    if texts is None or file.exists():
        return
    shape = {"sources": texts.sources, "counters": texts.counters}
    with contextlib.suppress(OSError):
        file.parent.mkdir(mode=0o700, exist_ok=True)
        write_whole(file, json.dumps(shape, ensure_ascii=False), mode=0o600)


def recall(data: Path, digest: str) -> PolicyTexts | None:
    """The kept set of this digest, or None (AR2: its digest is computed again)."""
    from symbi import _core
    from symbi.errors import PolicyError

    if len(digest) != 64 or not set(digest) <= _HEX:
        return None
    try:
        shape: dict[str, Any] = json.loads(_file(data, digest).read_text(encoding="utf-8"))
        texts = PolicyTexts(
            *(tuple((str(name), str(text)) for name, text in shape[key]) for key in ("sources", "counters"))
        )
        found, _ = _core.policy_set(list(texts.sources), list(texts.counters))
    except (OSError, ValueError, KeyError, TypeError, PolicyError):
        return None
    return texts if found == digest else None
