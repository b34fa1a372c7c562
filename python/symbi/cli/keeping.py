"""`symbi audit rotate`, `compromised`, `hold` and `prune`: what operators do to a trail itself.

A running runtime is asked; without one a runtime's data directory is opened for it, and an application's log by
its own key. Not here: reading and checking a trail (`cli/audit.py`, `cli/proofs.py`), what refuses it (`symbi.audit`,
the kernel).
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from symbi.cli import erase, exits, frame, output, proofs, values
from symbi.cli.asking import ask_or_open

if TYPE_CHECKING:
    import argparse
    from datetime import timedelta

__all__ = ["add_verbs"]


def add_verbs(verbs: frame.Subparsers) -> None:
    """Adds the verbs of this module to `symbi audit`."""
    rotate = frame.add_command(
        verbs,
        "rotate",
        summary="a new key signs from the next record on; the old and the new sign the record of it",
        run=_rotate,
        example="symbi audit rotate",
        description="Run again, it ends what was interrupted.",
    )
    compromised = frame.add_command(
        verbs,
        "compromised",
        summary="record that others had a key: `verify` then names what it signed since",
        run=_compromised,
        example="symbi audit compromised 0f3a… --from 2026-11-03T08:00:00Z --reason 'stolen laptop'",
        description="It is the key that signs now that says so: `symbi audit rotate` comes first.",
    )
    compromised.add_argument(
        "key", type=values.text, metavar="FINGERPRINT", help="of the key that others had"
    )
    compromised.add_argument(
        "--from",
        dest="begin",
        required=True,
        metavar="RECORD|TIME",
        help="the first record that is not to be trusted: its number, or a time, ISO 8601 with time zone",
    )
    compromised.add_argument(
        "--reason", type=values.text, default="", metavar="TEXT", help="how it came to be known"
    )
    hold = frame.add_command(
        verbs,
        "hold",
        summary="a legal hold: nothing is pruned, or one person not erased, while it is in force",
        run=_hold,
        example="symbi audit hold --reason 'case 7'\nsymbi audit hold --subject patient-17 --reason 'case 8'\n"
        "symbi audit hold --release --reason 'case 7 is closed'",
        description="Without options it shows whether the trail is held.",
    )
    whose = hold.add_mutually_exclusive_group()
    whose.add_argument(
        "--subject", type=values.text, metavar="NAME", help="hold this person, who cannot be erased meanwhile"
    )
    whose.add_argument("--persons", action="store_true", help="show which persons are held")
    hold.add_argument(
        "--reason",
        type=values.text,
        metavar="TEXT",
        help="put one in force, for this reason; of a release, why",
    )
    hold.add_argument("--release", action="store_true", help="release the one that is in force")
    prune = frame.add_command(
        verbs,
        "prune",
        summary="remove the oldest segments; what is left verifies, and says what is gone",
        run=_prune,
        example="symbi audit prune --older-than 400d",
        description="Whole closed segments go, under a checkpoint that is made first; a hold refuses it. Of a\n"
        "runtime's trail nothing goes that it would read again, nor what is younger than 31 days, the longest\n"
        "window of a counter.",
    )
    age = prune.add_mutually_exclusive_group(required=True)
    age.add_argument("--older-than", type=values.age, metavar="AGE", help="such as 400d, 36h or 90m")
    age.add_argument("--before", metavar="TIME", help=values.TIME)
    for parser in (rotate, compromised, hold, prune):
        proofs.add_path(parser)


def _trail(options: argparse.Namespace) -> Path:
    return Path(options.path or options.data / "trail")


def _ask(options: argparse.Namespace, request: dict[str, Any]) -> Any:
    """The runtime whose trail it is; `None` where it is an application's."""
    from symbi.audit import key_path
    from symbi.errors import InputError

    trail = _trail(options)
    if key_path(trail).exists():
        return None
    if options.path is not None:
        raise InputError("a runtime's trail is changed through its data directory: --data, and no PATH")
    if not (options.data / "keys").is_dir():
        raise InputError(f"the key of `{trail}` is not here: only its writer can change it")
    return ask_or_open(options, request)


def _by() -> str:
    return f"operator:{os.getuid()}"


def _rotate(options: argparse.Namespace) -> int:
    from symbi.audit import rotate

    proofs.open_trail(options)
    told = _running(options)
    seq, fingerprint = rotate(_trail(options)) if told is None else (told["seq"], told["key"])
    if options.json:
        output.print_json({"seq": seq, "key": fingerprint})
    else:
        sys.stdout.write(f"{fingerprint}\n")
        where = "an interrupted rotation was ended" if seq is None else f"record {seq} says so"
        output.note(f"{where}; keep the fingerprint elsewhere, and tell witnesses the new key")
    return exits.DONE


def _running(options: argparse.Namespace) -> Any:
    """A rotation by the runtime that has the trail open; `None` where none has."""
    from symbi.control import ask
    from symbi.errors import RuntimeClosedError

    if options.path is not None:
        return None
    try:
        return ask(options.data, {"command": "audit.rotate"})
    except RuntimeClosedError:
        return None


def _compromised(options: argparse.Namespace) -> int:
    from symbi.audit import AuditLog

    trail = proofs.open_trail(options)
    begin = _first(trail, options.begin)
    request = {"command": "audit.compromised", "key": options.key, "from": begin, "reason": options.reason}
    seq = _ask(options, request)
    if seq is None:
        with AuditLog.open(_trail(options), "a") as log:
            seq = log.mark_compromised(options.key, begin, reason=options.reason, by=_by())
    if options.json:
        output.print_json({"seq": seq, "key": options.key, "from": begin})
    else:
        output.note(f"record {seq}: what {options.key} signed from record {begin} on is not to be trusted")
    return exits.DONE


def _first(log: Any, text: str) -> int:
    """A record's number, or that of the first one at or after a time."""
    from symbi.errors import InputError

    number = values.record(text)
    if number is not None:
        return number
    found = log.query(since=values.time(text, "--from"), limit=1)
    if not found:
        raise InputError(f"no record is as young as {text}")
    return int(found[0].seq)


def _hold(options: argparse.Namespace) -> int:
    from symbi.audit import AuditLog
    from symbi.errors import InputError

    if options.path is not None and (options.persons or options.subject is not None):
        raise InputError(
            "persons are held in a runtime's data (--data); a log is held as a whole: leave --subject out"
        )
    if options.persons:
        return erase.persons_held(options)
    if options.subject is not None:
        return erase.hold_person(options)
    trail = proofs.open_trail(options)
    if options.reason is None and not options.release:
        return _held(options, trail)
    if not options.reason:
        raise InputError("say why: --reason TEXT; whoever reads the trail later will ask")
    on = not options.release
    seq = _ask(options, {"command": "audit.hold", "on": on, "reason": options.reason})
    if seq is None:
        with AuditLog.open(_trail(options), "a") as log:
            change = log.hold if on else log.release
            seq = change(options.reason, by=_by())
    if options.json:
        output.print_json({"seq": seq, "held": on})
    else:
        output.note(f"record {seq}: {'nothing is pruned from here on' if on else 'the hold is released'}")
    return exits.DONE


def _held(options: argparse.Namespace, trail: Any) -> int:
    held = trail.held
    if options.json:
        shown = held and {
            "seq": held.seq,
            "since": held.since.isoformat(),
            "reason": held.reason,
            "by": held.by,
        }
        output.print_json({"held": held is not None, "hold": shown})
    elif held is None:
        output.note("no hold is in force")
    else:
        said = f"held since record {held.seq}, {held.since.isoformat()}, by {held.by}: {held.reason}"
        sys.stdout.write(output.clean(said) + "\n")
    return exits.DONE


def _before(options: argparse.Namespace) -> datetime:
    """The instant that was given as one, or as an age; no earlier than the calendar's first year."""
    if options.older_than is None:
        given = values.time(options.before, "--before")
        assert given is not None, "argparse requires one of the two"  # noqa: S101
        return given
    now, older_than = datetime.now(UTC), cast("timedelta", options.older_than)
    return now - min(older_than, now - datetime.min.replace(tzinfo=UTC))


def _prune(options: argparse.Namespace) -> int:
    from symbi.audit import AuditLog
    from symbi.audit.rows import time_us

    proofs.open_trail(options)
    before = _before(options)
    found = _ask(options, {"command": "audit.prune", "before_us": time_us(before, "--before")})
    if found is None:
        with AuditLog.open(_trail(options), "a") as log:
            done = log.prune(before, by=_by())
        pruned = (
            None
            if done is None
            else {"first": done.first, "end": done.end, "bytes": done.size, "seq": done.seq}
        )
    else:
        pruned = found["pruned"]
    if options.json:
        output.print_json({"pruned": pruned})
    elif pruned is None:
        output.note("nothing went: no closed segment is old enough, or its runtime would read it again")
    else:
        went = f"records {pruned['first']} to {pruned['end'] - 1}, {pruned['bytes'] / 1e6:.1f} MB"
        output.note(f"{went}, are gone; record {pruned['seq']} says so")
    return exits.DONE
