"""A witness' memory and word, and a trail's side of asking one; the transport is `symbi/http/witness.py`.

Not here: what is signed and what is refused (`symbi-audit`, `witness.rs`).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from symbi import _core
from symbi.audit.keys import seed_of

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Witness", "keep_cosignature", "witness_request"]


class Witness:
    """Remembers the largest state of each log that it has signed, and signs only what grew out of it.

    Attributes:
        key: Its key, `name+hash+base64`: what `symbi audit verify --witness` takes.
    """

    def __init__(self, state: str | os.PathLike[str], name: str, logs: Sequence[str]) -> None:
        """Opens its state, and makes its key beside it (`<state>.key`).

        Raises:
            LogLockedError: another process holds the state.
            ChainBrokenError: its state is damaged: it cannot know what it signed.
            InputError: a name or a log's key that is none.
        """
        self._core = _core.AuditWitness(os.fspath(state), name, seed_of(state), list(logs))
        self.key = self._core.verifier_key()

    def add_checkpoint(self, request: str, time_s: int) -> tuple[int, str]:
        """Answers one request of C2SP `tlog-witness`: a status as HTTP has it, and the body."""
        return self._core.add_checkpoint(request, time_s)


def witness_request(trail: str | os.PathLike[str], old: int) -> str:
    """What asks a witness, which signed the first `old` records last, to sign the checkpoint beside a trail.

    Raises:
        TruncatedError: the trail has fewer.
    """
    return _core.audit_witness_request(os.fspath(trail), old)


def keep_cosignature(trail: str | os.PathLike[str], lines: str, witness: str) -> int:
    """Checks a witness' answer and keeps it beside the trail; the time it signed, seconds since the Unix epoch.

    Raises:
        CryptoError: it is not this witness' signature over that checkpoint.
    """
    return _core.audit_keep_cosignature(os.fspath(trail), lines, witness)
