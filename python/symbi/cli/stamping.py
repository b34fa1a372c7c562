"""`symbi audit stamp`: a time stamp of an authority (RFC 3161) over a checkpoint.

Not here: what an answer says (`symbi.audit.stamp`), whose word it is (`symbi.audit.authority`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from symbi.cli import exits, frame, output, values
from symbi.files import write_whole

if TYPE_CHECKING:
    import argparse

__all__ = ["add_verbs"]


def add_verbs(verbs: frame.Subparsers) -> None:
    """Adds `stamp` to `symbi audit`."""
    stamp = frame.add_command(
        verbs,
        "stamp",
        summary="a time stamp of an authority (RFC 3161) over a checkpoint: make the request, check the answer",
        run=_stamp,
        example="symbi audit stamp kept.checkpoint --request kept.tsq\n"
        "symbi audit stamp kept.checkpoint --answer kept.tsr --authority tsa.pem",
        description="Send the request to any authority as application/timestamp-query. With --authority its signature\n"
        "is checked too, which needs the package cryptography; without, what it stamps and when.",
    )
    stamp.add_argument(
        "file", type=Path, metavar="FILE", help="the checkpoint, as `symbi audit checkpoint` gave it"
    )
    stamp.add_argument("--request", type=Path, metavar="OUT", help="write the request here")
    stamp.add_argument("--answer", type=Path, metavar="IN", help="read this answer")
    stamp.add_argument(
        "--authority",
        type=Path,
        metavar="PEM",
        help="certificates that are trusted, the authority's or above it",
    )


def _stamp(options: argparse.Namespace) -> int:
    from symbi.audit import Checkpoint
    from symbi.audit.stamp import request
    from symbi.errors import CryptoError, InputError

    if (options.request is None) == (options.answer is None):
        raise InputError("either --request OUT or --answer IN")
    if options.authority is not None and options.answer is None:
        raise InputError("--authority goes with --answer")
    text = values.read_text(options.file)
    checkpoint = Checkpoint.parse(text)
    if options.request is not None:
        write_whole(options.request, request(text.encode()))
        output.note(f"{options.request}: send it to an authority as application/timestamp-query")
        return exits.DONE
    try:
        time, signer = _checked(options, text.encode())
    except CryptoError as error:
        output.note(f"{output.paint('broken', 'red', sys.stderr)}: {output.clean(error)}")
        return exits.FINDING
    if options.json:
        shown = {"time": time, "size": checkpoint.size, "log_id": checkpoint.log_id, "authority": signer}
        output.print_json(shown)
        return exits.DONE
    sys.stdout.write(f"{checkpoint.size} records of log {checkpoint.log_id} at {time}\n")
    output.note(
        f"signed by {output.clean(signer)}"
        if signer
        else "whose word that is, --authority CERTIFICATE checks; without it anybody may have written it"
    )
    return exits.DONE


def _checked(options: argparse.Namespace, data: bytes) -> tuple[str, str | None]:
    """The time, and, where certificates were given, who signed it."""
    from symbi.audit.authority import check_answer
    from symbi.audit.stamp import read_answer
    from symbi.errors import InputError

    try:
        answer = options.answer.read_bytes()
        trusted = None if options.authority is None else options.authority.read_bytes()
    except OSError as error:
        raise InputError(f"`{error.filename}`: {error.strerror}") from error
    if trusted is None:
        return read_answer(answer, data).isoformat(), None
    time, signer = check_answer(answer, data, trusted)
    return time.isoformat(), signer
