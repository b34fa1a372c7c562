"""`symbi audit checkpoint`, `witness` and `prove`: what others can check.

Not here: checking it (`cli/verifying.py`), reading a trail (`cli/audit.py`), what holds and what does not
(`symbi.audit`).
"""

from __future__ import annotations

import os
import re
import sys
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from symbi.cli import exits, frame, output, values
from symbi.cli.witness_file import add_checkpoint

if TYPE_CHECKING:
    import argparse

    from symbi.audit import AuditLog

__all__ = ["add_path", "add_verbs", "open_trail", "signed_now"]


# A trail's own names: segments and what belongs to them, the last state, the last checkpoint, what was pruned.
_PART = re.compile(r"[0-9]{12}\..+|head|checkpoint|pruned|tiles-.*")


def add_verbs(verbs: frame.Subparsers) -> None:
    """Adds the verbs of this module to `symbi audit`."""
    checkpoint = frame.add_command(
        verbs,
        "checkpoint",
        summary="the signed state of the trail, to be kept elsewhere",
        run=_checkpoint,
        example="symbi audit checkpoint > /media/stick/today.checkpoint",
        description="A running runtime signs its state now; otherwise the trail is verified and signed, or the\n"
        "checkpoint beside it printed where that covers everything.",
    )
    checkpoint.add_argument(
        "--witness", metavar="URL", help="have this witness sign it too; needs --witness-key"
    )
    checkpoint.add_argument("--witness-key", metavar="KEY", help="the witness' key: name+hash+base64")
    checkpoint.add_argument(
        "--append",
        type=Path,
        metavar="FILE",
        help="add it to this witness file, once the trail is shown to have grown out of its last one",
    )
    checkpoint.add_argument(
        "--verifier-key", action="store_true", help="print instead the key that a witness is told of this log"
    )
    add_path(checkpoint)
    witness = frame.add_command(
        verbs,
        "witness",
        summary="a process of its own that co-signs checkpoints, and never goes back",
        run=_witness,
        example="symbi audit witness /var/lib/witness --name w.example/1 --log symbi-audit/9d30…+1f3a…+AU…",
        description="Run it under another user or on another machine. Its key lies beside its state, in <STATE>.key.",
        json=False,
    )
    witness.add_argument("state", type=Path, metavar="STATE", help="the directory of what it has signed")
    witness.add_argument("--name", required=True, help="the name under which it signs, such as w.example/1")
    witness.add_argument(
        "--log",
        action="append",
        default=[],
        metavar="KEY",
        help="a log that it signs for, as `checkpoint --verifier-key` prints it; may be given again",
    )
    witness.add_argument("--host", default="127.0.0.1", help="where it listens (default: 127.0.0.1)")
    witness.add_argument("--port", type=values.port, default=8085, help="and on which port (default: 8085)")
    prove = frame.add_command(
        verbs,
        "prove",
        summary="the proof that one record, or one message, is in the trail",
        run=_prove,
        example="symbi audit prove 41 > event-41.tlog-proof\nsymbi audit prove --since kept.checkpoint\n"
        "symbi audit prove --message 6f1f9a52-8a3c-4c1e-9d0e-3b7f2c5d8e10",
    )
    prove.add_argument("event", nargs="?", metavar="EVENT", help="a record's number or its event id")
    add_path(prove)
    prove.add_argument("--message", metavar="ID", help="prove instead where this message stands")
    prove.add_argument("--against", type=Path, metavar="FILE", help="the checkpoint that the proof leads to")
    prove.add_argument(
        "--since",
        type=Path,
        metavar="FILE",
        help="prove instead that the trail only grew since this checkpoint",
    )


def add_path(parser: frame.Parser) -> None:
    """The trail's directory, as every verb takes it."""
    help_text = "a trail's directory (default: trail in the data directory)"
    parser.add_argument("path", nargs="?", type=Path, metavar="PATH", help=help_text)


def open_trail(options: argparse.Namespace) -> AuditLog:
    """The trail that was meant, for reading.

    Raises:
        InputError: there is none.
    """
    from symbi.audit import AuditLog
    from symbi.errors import InputError

    path: Path = options.path or options.data / "trail"
    # What has lost its records alone still has a part of a trail, and is a finding of whoever reads it.
    if not path.is_dir() or not any(_PART.fullmatch(name) for name in os.listdir(path)):  # noqa: PTH208
        raise InputError(f"there is no trail in `{path}`: name its directory, or --data")
    return AuditLog.open(path)


def _checkpoint(options: argparse.Namespace) -> int:
    from symbi.audit import Checkpoint
    from symbi.errors import InputError

    if options.verifier_key:
        sys.stdout.write(open_trail(options).verifier_keys()[-1] + "\n")
        return exits.DONE
    if bool(options.witness) != bool(options.witness_key):
        raise InputError("--witness and --witness-key go together: an answer that nobody vouches for is none")
    text = signed_now(options)
    if options.witness:
        from symbi.http.witness import ask_witness

        signed, _ = ask_witness(open_trail(options).directory, options.witness, options.witness_key)
        text = signed.text
    checkpoint = Checkpoint.parse(text)
    if options.append is not None:
        add_checkpoint(options.append, checkpoint, open_trail(options))
    if options.json:
        output.print_json(
            {
                "log_id": checkpoint.log_id,
                "size": checkpoint.size,
                "root": checkpoint.root,
                "signers": list(checkpoint.signers),
                "text": text,
            }
        )
    else:
        sys.stdout.write(text)
        output.note(f"{checkpoint.size} records; keep it where whoever writes the trail cannot reach it")
    return exits.DONE


def _witness(options: argparse.Namespace) -> int:
    from symbi.errors import InputError
    from symbi.http.witness import WitnessServer

    if options.state.exists() and not options.state.is_dir():
        raise InputError(f"`{options.state}` is a file: a witness keeps its state in a directory of its own")
    server = WitnessServer(options.state, options.name, options.log, host=options.host, port=options.port)
    sys.stdout.write(f"{server.key}\n")
    sys.stdout.flush()
    output.note(f"listening on http://{options.host}:{server.port}; the line above is its key")
    if not options.log:
        output.note("no --log: it signs for no log, also for none that it signed before")
    server.serve()  # until interrupted
    return exits.DONE


def signed_now(options: argparse.Namespace) -> str:
    """By the running runtime, by the key beside the trail, or as it was left."""
    from symbi.audit import sign_at_rest
    from symbi.control import ask
    from symbi.errors import LogLockedError, RuntimeClosedError

    if options.path is None:
        with suppress(RuntimeClosedError):
            return str(ask(options.data, {"command": "audit.checkpoint"}))
    log = open_trail(options)
    try:
        signed = sign_at_rest(log.directory)
    except LogLockedError:
        output.note("the trail is open elsewhere: this is the last checkpoint that its writer made")
        return log.checkpoint().text
    if signed is None:
        output.note("the trail's key is not here: this is the checkpoint that its writer left")
        return log.checkpoint().text
    return signed.text


def _prove(options: argparse.Namespace) -> int:
    from symbi.errors import InputError

    _refuse_passed_over(options)
    if options.since is not None:
        return _prove_growth(options)
    if options.message is not None:
        return _prove_message(options)
    if options.event is None:
        raise InputError("name a record: its number, or its event id")
    if options.path is None and Path(options.event).is_dir():
        raise InputError(f"`{options.event}` is a directory: name the record, then the trail")
    log = open_trail(options)
    event = _find(log, options.event)
    against = None if options.against is None else values.read_text(options.against)
    proof = log.prove(event, against=against)
    if options.json:
        proven = proof.check()
        output.print_json(
            {"seq": proven.event.seq, "size": proven.checkpoint.size, "key": proven.key, "proof": proof.text}
        )
    else:
        sys.stdout.write(proof.text)
        output.note("check it anywhere: `symbi audit verify --proof FILE --key FINGERPRINT`")
    return exits.DONE


def _refuse_passed_over(options: argparse.Namespace) -> None:
    """With --since and --message one positional is the trail; whatever else was named would not be proven."""
    from symbi.errors import InputError

    if options.since is not None:
        for option, given in (("--message", options.message), ("--against", options.against)):
            if given is not None:
                raise InputError(f"--since goes without {option}: it proves that the trail only grew")
    if options.event is None or options.path is None:
        return
    if options.since is not None:
        raise InputError(f"--since is about the whole trail: leave `{options.event}` out")
    if options.message is not None:
        raise InputError(f"--message names what is proven: leave `{options.event}` out")


def _prove_message(options: argparse.Namespace) -> int:
    from symbi.audit.message_proof import prove_message
    from symbi.errors import InputError

    # With --message the first positional is the trail's directory.
    options.path = options.path or (None if options.event is None else Path(options.event))
    log = open_trail(options)
    found = prove_message(log, options.message)
    proof = None
    with suppress(InputError):  # no checkpoint covers it yet: `symbi audit checkpoint`
        proof = log.prove(
            found.seq, against=None if options.against is None else values.read_text(options.against)
        ).text
    output.print_json(found.to_json() | {"proof": proof})
    output.note(f"message {found.index + 1} of the {found.count} that record {found.seq} names")
    if proof is None:
        output.note("no checkpoint covers that record yet: `symbi audit checkpoint` makes one")
    return exits.DONE


def _find(log: AuditLog, event: str) -> Any:
    from symbi.errors import InputError

    number = values.record(event)
    if number is not None:
        return number
    try:
        event_id = str(uuid.UUID(event))
    except ValueError:
        raise InputError(f"`{output.clean(event)}` is neither a record's number nor an event id") from None
    found = log.query(event_id=event_id, limit=1)
    if not found:
        raise InputError(f"the trail has no event `{event_id}`")
    return found[0]


def _prove_growth(options: argparse.Namespace) -> int:
    from base64 import b64encode

    # With --since the first positional is the trail's directory.
    options.path = options.path or (None if options.event is None else Path(options.event))
    new, hashes = open_trail(options).prove_consistency(values.read_text(options.since))
    lines = [b64encode(one).decode() for one in hashes]
    if options.json:
        output.print_json({"size": new.size, "hashes": lines, "checkpoint": new.text})
    else:
        sys.stdout.write("\n".join([*lines, "", new.text]))
        output.note(f"the trail of {new.size} records begins with that of the checkpoint you gave")
    return exits.DONE
