"""Persons in a trail: from the name that a system has for one to the pseudonym that stands in records.

Not here: erasing (`rt.persons`), the keys (the kernel).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from symbi import _core
from symbi.config.passphrase import key_passphrase

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["pseudonym_of"]


def pseudonym_of(data: Path, subject: str) -> str | None:
    """The pseudonym of a person, by the keys of a data directory; None where nothing is known. Writes nothing.

    Cost: opens each person's key, about 20 µs each.

    Raises:
        CryptoError: the keys are not there, or it cannot be a name.
    """
    return _core.pseudonym_in(data, subject, key_passphrase())
