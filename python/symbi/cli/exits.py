"""How an error ends a command: one line, what mends it, one exit code.

Why a table: the stable `code` of an error decides, never its text, so a script can rely on it. A test holds
the table against every class of `symbi.errors`.
Not here: errors of arguments (argparse, in `frame`).

Invariants
- CE1 every class of `symbi.errors` has an exit code here.
- CE2 a message is one printable line: text of a file, an agent or a peer cannot move the cursor.
- CE3 a traceback is shown only when `SYMBI_TRACEBACK=1` asks for it.
"""

from __future__ import annotations

import errno
import os
import sys
import traceback

from symbi.errors import SymbiError

__all__ = ["DONE", "EXITS", "FAULT", "FINDING", "INTERRUPTED", "USE", "exit_code", "report"]

DONE, FINDING, USE, FAULT, INTERRUPTED = 0, 1, 2, 70, 130

# code -> exit code. A refusal, a broken trail, a part of the machine that is not there: findings. What the
# caller can put right in what he wrote: wrong use. What only we can mend: our own fault.
EXITS: dict[str, int] = {
    "symbi": FAULT,
    "config.invalid": USE,
    "input.invalid": USE,
    "not_built": USE,
    "policy.invalid": FINDING,
    "denied": FINDING,
    "needs_approval": FINDING,
    "over_budget": FINDING,
    "rate_limited": FINDING,
    "unavailable": FINDING,
    "suspended": FINDING,
    "cancelled": FINDING,
    "no_principal": USE,
    "audit": FINDING,
    "audit.chain_broken": FINDING,
    "audit.truncated": FINDING,
    "audit.locked": FINDING,
    "audit.unavailable": FINDING,
    "crypto.invalid": FINDING,
    "data.erased": FINDING,
    "bus": FINDING,
    "bus.mailbox_full": FINDING,
    "bus.unknown_recipient": FINDING,
    "scheduler": USE,
    "scheduler.column": USE,
    "scheduler.refused": FINDING,
    "scheduler.full": FINDING,
    "lifecycle.illegal": FINDING,
    "sandbox": FINDING,
    "sandbox.unavailable": FINDING,
    "sandbox.limit": FINDING,
    "sandbox.mismatch": FINDING,
    "knowledge": FINDING,
    "vectors": FINDING,
    "vectors.dimension": USE,
    "vectors.value": USE,
    "vectors.duplicate": USE,
    "vectors.file": FINDING,
    "vectors.locked": FINDING,
    "tool": FINDING,
    "tool.effect_unknown": FINDING,
    "agent.failed": FINDING,
    "permit.invalid": FAULT,
    "runtime.closed": FINDING,
    "timeout": FINDING,
}

_MEND: dict[str, str] = {
    "config.invalid": "`symbi config show --origin` prints each setting and where it came from",
    "policy.invalid": "`symbi check FILE` names the place",
    "needs_approval": "`symbi approvals list` shows what waits",
    "audit.locked": "another process has this trail open: stop it, or name another `--data`",
    "audit.unavailable": "nothing has an effect until the log can write: see free space and permissions",
    "audit.chain_broken": "keep the trail as it is: it is evidence",
    "audit.truncated": "keep the trail as it is: it is evidence",
    "tool.effect_unknown": "`symbi approvals list` shows the operation; find out, then `symbi approvals resolve`",
    "sandbox.unavailable": "`symbi doctor` says what is missing and how to get it",
    "runtime.closed": "start the program that opens one, or name its directory with `--data`",
}

# What a path can do to us that is not our fault.
_OUTSIDE = {
    errno.ENOENT: USE,
    errno.ENOTDIR: USE,
    errno.EISDIR: USE,
    errno.EEXIST: USE,
    errno.ELOOP: USE,
    errno.ENAMETOOLONG: USE,
    errno.EACCES: FINDING,
    errno.EPERM: FINDING,
    errno.EROFS: FINDING,
    errno.ENOSPC: FINDING,
    errno.EDQUOT: FINDING,
    errno.EFBIG: FINDING,
    errno.EIO: FINDING,
}

# What a full or broken disk does to us wherever we write, with or without a name to it: stdout has none.
_ANYWHERE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def exit_code(error: SymbiError) -> int:
    """The exit code of `error`: by its own code, then by those of its classes, nearest first."""
    for code in (error.code, *(vars(kind).get("code") for kind in type(error).__mro__)):
        if isinstance(code, str) and code in EXITS:
            return EXITS[code]
    return FAULT


def _one_line(text: str) -> str:
    return "".join(char if char.isprintable() else " " for char in text).rstrip()


def _say(code: str, message: str, mends: list[str]) -> None:
    lines = [
        f"symbi: {code}: {_one_line(message).strip()}",
        *(f"  {_one_line(mend)}" for mend in mends if mend),
    ]
    sys.stderr.write("\n".join(lines) + "\n")


def _traceback_wanted(error: BaseException) -> bool:
    wanted = os.environ.get("SYMBI_TRACEBACK", "") not in {"", "0"}
    if wanted:
        traceback.print_exception(error)
    return wanted


def report(error: Exception) -> int:
    """Prints what `error` means to a user, on stderr, and returns the exit code."""
    shown = _traceback_wanted(error)
    notes = [str(note) for note in getattr(error, "__notes__", [])]
    if isinstance(error, SymbiError):
        _say(error.code, str(error), [*notes, _MEND.get(error.code, "")])
        return exit_code(error)
    if isinstance(error, OSError) and error.errno in _OUTSIDE:
        name = errno.errorcode[error.errno].lower()
        if error.filename is not None or error.errno in _ANYWHERE:
            where = "where this was to be written" if error.filename is None else f"`{error.filename!s}`"
            _say(f"io.{name}", f"{os.strerror(error.errno).lower()}: {where}", notes)
            return _OUTSIDE[error.errno]
    mend = (
        ""
        if shown
        else "this is a fault of symbi: run it again with SYMBI_TRACEBACK=1 and report what it prints"
    )
    _say("fault", f"{type(error).__name__}: {error}", [*notes, mend])
    return FAULT
