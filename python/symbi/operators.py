"""Operators' tokens: what proves that a person, not just a process of their user, decides.

Why: approving and resolving are a person's acts. Whoever may connect to the control socket may run commands; whoever
knows a token may decide, under a name that stands in the trail.
Not here: the socket (`symbi.control`), what a token is asked for (`symbi.runtime.deciding`).

Invariants
- OT1 what resolves or approves needs an operator's token besides the user id.
- OT2 a token is made or taken away after that was decided and recorded; only its digest is kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
import secrets
from typing import TYPE_CHECKING, Final

from symbi.errors import InputError, PolicyDenied

if TYPE_CHECKING:
    from pathlib import Path

    from symbi.runtime import Runtime

__all__ = ["FIRST_OPERATOR", "TOKEN_VARIABLE", "change_operator", "check_token", "make_token", "operators"]

TOKEN_VARIABLE: Final = "SYMBI_OPERATOR_TOKEN"  # noqa: S105 - the variable's name
FIRST_OPERATOR: Final = "operator"
"""The name of the token that is made with the data directory."""
_TOKEN_FILE: Final = "operator.token.sha256"  # noqa: S105 - only its digest is kept
_OPERATORS: Final = "operators"
_SUFFIX: Final = ".sha256"


def make_token(data: Path) -> str | None:
    """The operator's token, made and answered once; only its digest stays. None where there is one already."""
    file = data / "keys" / _TOKEN_FILE
    return None if file.exists() else _write_token(file)


def _write_token(file: Path) -> str:
    token = secrets.token_urlsafe(24)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w") as out:
        out.write(hashlib.sha256(token.encode()).hexdigest() + "\n")
        out.flush()
        os.fsync(out.fileno())
    return token


def check_token(data: Path, token: str) -> str:
    """Whose token this is: `operator` for the first one, or the name it was made for. Compares in constant time.

    Raises:
        PolicyDenied: it is no operator's token (OT1).
    """
    directory = data / "keys"
    file = directory / _TOKEN_FILE
    if not file.exists():
        raise PolicyDenied("this runtime has no operator token yet: open it once", code="denied")
    given = hashlib.sha256(token.encode()).hexdigest()
    found = ""
    for name, one in [(FIRST_OPERATOR, file), *_named(directory)]:
        if hmac.compare_digest(one.read_text().strip(), given):
            found = name
    if not token:
        raise PolicyDenied(
            f"this needs an operator's token, shown once when it was made: set {TOKEN_VARIABLE}",
            code="denied",
        )
    if not found:
        raise PolicyDenied(
            "this is not an operator's token of this data directory; `symbi approvals operators list` names them",
            code="denied",
        )
    return found


def _named(keys: Path) -> list[tuple[str, Path]]:
    """Further operators, by name."""
    return [
        (file.name.removesuffix(_SUFFIX), file) for file in sorted((keys / _OPERATORS).glob(f"*{_SUFFIX}"))
    ]


def operators(data: Path) -> list[str]:
    """The names of all operators that have a token."""
    return [FIRST_OPERATOR, *(name for name, _ in _named(data / "keys"))]


async def change_operator(runtime: Runtime, by: str, name: str, *, added: bool) -> str:
    """Make a person's own token, or take it away: decided and recorded (OT2). Answers the token, once.

    Raises:
        PolicyDenied: this operator may not. InputError: not a name; there is one already; there is none.
    """
    file = runtime.data / "keys" / _OPERATORS / f"{name}{_SUFFIX}"
    if name == FIRST_OPERATOR or "/" in name or (file.exists() is added):
        state = "has a token already" if added else "has no token that could be taken away"
        raise InputError(f"the operator `{name}` {state}")
    await asyncio.to_thread(runtime.kernel.change_operator, by, name, added)
    if not added:
        file.unlink()
        return ""
    file.parent.mkdir(mode=0o700, exist_ok=True)
    return await asyncio.to_thread(_write_token, file)
