"""`symbi audit verify`: whether a trail, or a proof, holds, and how far the word goes.

Not here: making checkpoints and proofs (`cli/proofs.py`), what holds and what does not (`symbi.audit`).

Invariants
- CW1 an option is judged or refused: a good word never stands beside one that was passed over.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from symbi.cli import exits, frame, output, proofs, values
from symbi.cli.witness_file import checkpoints_in

if TYPE_CHECKING:
    import argparse

    from symbi.audit import AuditLog, Verification
    from symbi.errors import ChainBrokenError

__all__ = ["add_verbs"]

_LEVELS = {
    "consistent": "whole since it was signed; by whom is not known without --key",
    "authentic": "whole, and signed with the key whose fingerprint you gave",
}
_END_NOTE = "nothing here shows whether records were cut off the end: that takes --checkpoint, kept elsewhere"


def add_verbs(verbs: frame.Subparsers) -> None:
    """Adds `verify` to the verbs of `audit`."""
    verify = frame.add_command(
        verbs,
        "verify",
        summary="check every record of a trail, and say how far the word goes",
        run=_verify,
        example="symbi audit verify\nsymbi audit verify backup/trail --key 0f3a…\n"
        "symbi audit verify --checkpoint kept.checkpoint --strict\nsymbi audit verify --proof event-7.tlog-proof",
    )
    verify.add_argument("--key", metavar="FINGERPRINT", help="the fingerprint that was kept elsewhere")
    verify.add_argument(
        "--checkpoint",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a checkpoint that was kept elsewhere; may be given again, and all must hold",
    )
    verify.add_argument(
        "--witness",
        action="append",
        default=[],
        metavar="KEY",
        help="a witness that must have signed the largest of them, or without one the checkpoint beside the trail: "
        "name+hash+base64",
    )
    verify.add_argument(
        "--since-checkpoint",
        action="store_true",
        help="take what the checkpoint covers from its root, five times as fast; single signatures after it",
    )
    verify.add_argument(
        "--records", type=values.records, metavar="A..B", help="only records A up to before B"
    )
    verify.add_argument(
        "--strict",
        action="store_true",
        help="a word that does not reach to the last byte is a finding: needs --key and --checkpoint",
    )
    verify.add_argument(
        "--proof",
        type=Path,
        metavar="FILE",
        help="check a proof instead, with --key or without; reads no trail, and no other option goes with it",
    )
    proofs.add_path(verify)


def _verify(options: argparse.Namespace) -> int:
    from symbi.errors import ChainBrokenError, InputError, TruncatedError

    if options.proof is not None:
        _refuse_beside_a_proof(options)
        return _check_proof(options)
    if options.strict and not (options.key and options.checkpoint):
        raise InputError("--strict needs --key and --checkpoint: without them the word cannot reach the end")
    if options.since_checkpoint and not options.checkpoint:
        raise InputError("--since-checkpoint needs --checkpoint")
    if options.records and (options.checkpoint or options.witness):
        raise InputError(
            "--records goes without --checkpoint and --witness: in a part of a trail neither is judged"
        )
    path: Path = options.path or options.data / "trail"
    log = proofs.open_trail(options)
    given = [one for file in options.checkpoint for one in checkpoints_in(file)]
    try:
        found = log.verify(
            key=options.key,
            checkpoint=given,
            witnesses=options.witness,
            since_checkpoint=options.since_checkpoint,
            records=options.records,
        )
    except ChainBrokenError as error:
        itself = _by_itself(options, log, given, error)
        if itself is not None:
            return _not_witnessed(options, path, itself, _signed_to(log, options.witness, given), error)
        kind = "truncated" if isinstance(error, TruncatedError) else "broken"
        if options.json:
            output.print_json({"path": str(path), "verified": False, "seq": error.seq, "reason": str(error)})
        else:
            output.note(f"{output.paint(kind, 'red', sys.stderr)}: {output.clean(error)}")
            if error.seq:
                output.note(
                    f"  {path}: up to record {error.seq - 1} nothing is wrong; from there nothing is vouched for"
                )
        return exits.FINDING
    missing = found.lacks if options.strict else ""
    if options.json:
        output.print_json(
            _verified(path, found) | ({"verified": False, "reason": missing} if missing else {})
        )
    else:
        sys.stdout.write("\n".join(_lines(path, found)) + "\n")
        if missing:
            output.note(f"{output.paint('not complete', 'red', sys.stderr)}: {missing}")
    return exits.FINDING if missing else exits.DONE


def _by_itself(
    options: argparse.Namespace, log: AuditLog, given: list[str], error: ChainBrokenError
) -> Verification | None:
    """The trail without the witnesses, where it is only they who kept it from holding: no record is wrong then."""
    from symbi.errors import ChainBrokenError, TruncatedError

    if not options.witness or isinstance(error, TruncatedError):
        return None
    try:
        return log.verify(options.key, given, since_checkpoint=options.since_checkpoint)
    except ChainBrokenError:
        return None


def _signed_to(log: AuditLog, witnesses: list[str], given: list[str]) -> dict[str, int]:
    """How many records of the trail each witness has signed, by the checkpoints that were given and the one beside."""
    from symbi.audit import Checkpoint
    from symbi.errors import SymbiError

    known = [Checkpoint.parse(one) for one in given]
    with suppress(SymbiError):
        known.append(log.checkpoint())
    known.sort(key=lambda one: one.size, reverse=True)
    reach = dict.fromkeys(witnesses, 0)
    for witness in witnesses:
        name = witness.partition("+")[0]
        for one in (one for one in known if name in one.signers):  # a name is no signature: it is checked
            with suppress(SymbiError):
                log.verify(checkpoint=one, witnesses=[witness], since_checkpoint=True)
                reach[witness] = one.size
                break
    return reach


def _not_witnessed(
    options: argparse.Namespace,
    path: Path,
    found: Verification,
    reach: dict[str, int],
    error: ChainBrokenError,
) -> int:
    """Says that a witness' signature is missing, which is no word against any record."""
    reason = str(error).removeprefix(f"record {error.seq}: ")
    if options.json:
        told = {"path": str(path), "verified": False, "seq": None, "reason": reason}
        output.print_json(told | {"holds": True, "records": found.records, "signed": reach})
        return exits.FINDING
    output.note(f"{output.paint('not witnessed', 'red', sys.stderr)}: {output.clean(reason)}")
    output.note(f"  {path}: the trail holds by itself: {found}")
    for witness, size in reach.items():
        far = f"its first {size} records" if size else "nothing of it"
        output.note(
            f"  `{output.clean(witness.partition('+')[0])}` has signed {far}, by the checkpoints that are here"
        )
    output.note("  `symbi audit checkpoint --witness URL --witness-key KEY` asks a witness to sign")
    return exits.FINDING


def _verified(path: Path, found: Verification) -> dict[str, Any]:
    return {
        "path": str(path),
        "verified": True,
        "records": found.records,
        "head": found.head,
        "level": found.level,
        "log_id": found.log_id,
        "keys": list(found.keys),
        "last": found.last.isoformat(),
        "tail_bytes": found.tail_bytes,
        "first": found.first,
        "complete_to": found.complete_to,
        "checkpoint": found.checkpoint,
        "pruned": found.pruned,
        "distrusted": [[records.start, records.stop] for records in found.distrusted],
        "witnessed": None if found.witnessed is None else [time.isoformat() for time in found.witnessed],
    }


def _lines(path: Path, found: Verification) -> list[str]:
    from symbi.audit.verification import ranges_of

    which = f"{found.records} records" if not found.first else f"records {found.first} to {found.records - 1}"
    if found.pruned and found.first == found.pruned:
        which += " (those before were pruned: their hashes are kept, their content is gone)"
    if found.level == "complete":
        word = f"its first {found.complete_to} records are those of the checkpoint you gave, none cut off or changed"
        end = f"what came after record {found.complete_to - 1} no checkpoint vouches for"
        if found.complete_to == found.records:
            end = "that is all of them"
    else:
        word, end = _LEVELS[found.level], _END_NOTE
    keys = found.keys[0] + (f" and {len(found.keys) - 1} that followed it" if len(found.keys) > 1 else "")
    lines = [
        f"{output.paint('good', 'green')}: {which} in {path}",
        f"  {found.level}: {word}",
        f"  log {found.log_id}, key {keys}",
        f"  head {found.head}",
        f"  last record at {found.last.isoformat()}; {end}",
    ]
    if found.distrusted:
        word = (
            f"records {ranges_of(found)} are signed with a key that others had: their signature shows nothing"
        )
        lines.append(f"  {output.paint('not to be trusted', 'red')}: {word}")
    if found.witnessed is not None:
        lines.append(f"  witnessed at {found.witnessed[0].isoformat()}")
    if found.tail_bytes:
        lines.append(f"  {found.tail_bytes} bytes after it are being written, or were left by a crash")
    return lines


def _refuse_beside_a_proof(options: argparse.Namespace) -> None:
    """CW1: of a proof only its own signatures and `--key` are judged."""
    from symbi.errors import InputError

    own = "a proof brings its own checkpoint; `symbi audit prove EVENT --against FILE` makes one that leads to yours"
    whole = "it is about a whole trail: verify that, without --proof"
    for name, given, why in (
        ("--checkpoint", options.checkpoint, own),
        ("--witness", options.witness, f"a proof's witnesses are not judged; {whole}"),
        ("--since-checkpoint", options.since_checkpoint, whole),
        ("--records", options.records, "a proof is of one record: verify a part of a trail without --proof"),
        ("--strict", options.strict, whole),
        ("PATH", options.path, "a proof is checked by itself, and no trail is read: leave the directory out"),
    ):
        if given:
            raise InputError(f"{name} goes without --proof: {why}. Beside --proof only --key is judged")


def _check_proof(options: argparse.Namespace) -> int:
    from symbi.audit import Proof
    from symbi.errors import CryptoError

    try:
        proven = Proof(values.read_text(options.proof)).check(options.key)
    except CryptoError as error:
        if options.json:
            output.print_json({"path": str(options.proof), "verified": False, "reason": str(error)})
        else:
            output.note(f"{output.paint('broken', 'red', sys.stderr)}: {output.clean(error)}")
        return exits.FINDING
    event, checkpoint = proven.event, proven.checkpoint
    if options.json:
        output.print_json(
            {
                "path": str(options.proof),
                "verified": True,
                "level": proven.level,
                "key": proven.key,
                "log_id": checkpoint.log_id,
                "size": checkpoint.size,
                "event": event.to_json(),
            }
        )
        return exits.DONE
    where = f"record {event.seq} is one of the {checkpoint.size} of log {checkpoint.log_id}"
    lines = [
        f"{output.paint('good', 'green')}: {where}",
        f"  {proven.level}: its checkpoint is signed with key {proven.key}",
        f"  {output.clean(event.line)}",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    return exits.DONE
