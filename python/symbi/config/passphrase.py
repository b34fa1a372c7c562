"""The passphrase of the key files.

Why: it comes from the environment, where a service manager puts a secret, and is no setting, for settings are shown.
Not here: reading key files (`_core`), what is encrypted with it (ADR 0163).
"""

from __future__ import annotations

import os
from typing import Final

__all__ = ["PASSPHRASE_VARIABLE", "key_passphrase"]

PASSPHRASE_VARIABLE: Final = "SYMBI_KEY_PASSPHRASE"  # noqa: S105 - the variable's name


def key_passphrase() -> bytes | None:
    """What the key files are, or are to be, encrypted with; `None` where nothing is said or it is empty."""
    return os.environ.get(PASSPHRASE_VARIABLE, "").encode() or None
