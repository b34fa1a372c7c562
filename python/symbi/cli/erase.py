"""`symbi audit erase`, and `symbi audit hold --subject`: forget a person, or see to it that nobody does.

Beside a running runtime they ask that one; without one they open the data directory, under its configured policies. A
log that an application keeps for itself is named by its directory, and opened by its own key.
Not here: what an erasure does (the kernel), who may (policies).

Invariants
- CX1 nothing is erased without `--yes` or a person who has typed it.
"""

from __future__ import annotations

import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from symbi.cli import exits, frame, output, values
from symbi.cli.asking import ask_or_open

if TYPE_CHECKING:
    import argparse

    from symbi.audit import AuditLog

__all__ = ["add_verbs", "hold_person", "persons_held", "pseudonym", "shown"]

_PSEUDONYM = re.compile(r"[0-9a-f]{32}")
_SEALED = re.compile(r"subject:([0-9a-f]{32}(?:,[0-9a-f]{32})*):")


def add_verbs(verbs: frame.Subparsers) -> None:
    """Adds `erase` to the verbs of `audit`."""
    erase = frame.add_command(
        verbs,
        "erase",
        summary="forget a person: destroy its key, and what can be read by it",
        description=(
            "The records stay, and so do chain, signatures and proofs: what they hold of the person is sealed, and\n"
            "the key is destroyed, in its backups too: for a runtime those of its configuration, for a log of your\n"
            "own those that --backup names, and no others. It cannot be undone. The same command with --backup\n"
            "destroys what lies there of persons who are erased already."
        ),
        run=_erase,
        example="symbi audit erase --subject patient-17 --dry-run\n"
        "symbi audit erase orders --subject customer-17 --backup /mnt/keys",
    )
    erase.add_argument(
        "--subject",
        type=values.word,
        required=True,
        metavar="NAME",
        help="as it was named when values were stored",
    )
    erase.add_argument("--dry-run", action="store_true", help="only say what there is")
    erase.add_argument("--yes", action="store_true", help="do not ask")
    erase.add_argument(
        "--backup",
        type=Path,
        action="append",
        default=[],
        metavar="DIRECTORY",
        help="with PATH: a directory that holds copies of persons' keys (subject_key_backups=); may be given again",
    )
    erase.add_argument(
        "path",
        nargs="?",
        type=Path,
        metavar="PATH",
        help="the directory of an application's log (default: the runtime's data)",
    )


def _erase(options: argparse.Namespace) -> int:
    tried = _carry_out(options, dry_run=True)
    if options.dry_run:
        return _tell(options, tried, "would be erased")
    if not options.yes and not _agrees(options, tried):
        output.note("nothing was erased")
        return exits.FINDING
    return _tell(options, _carry_out(options, dry_run=False), "is erased")


def _carry_out(options: argparse.Namespace, *, dry_run: bool) -> list[dict[str, Any]]:
    """What an erasure does, or would do: one row for each pseudonym of the person."""
    from symbi.errors import InputError

    if options.path is None:
        if options.backup:
            raise InputError(
                "--backup goes with the directory of a log of your own; "
                "the backups of a runtime are those of `audit.subject_key_backups`"
            )
        request = {"command": "audit.erase", "subject": options.subject}
        rows: list[dict[str, Any]] = ask_or_open(options, request | ({"dry_run": True} if dry_run else {}))
        return rows
    return _of_application(options, dry_run=dry_run)


def _of_application(options: argparse.Namespace, *, dry_run: bool) -> list[dict[str, Any]]:
    from symbi.audit import AuditLog, key_path
    from symbi.errors import InputError

    trail: Path = options.path
    if not key_path(trail).exists():
        raise InputError(
            f"`{trail}` is no log of an application, or its key is not here; "
            "persons of a runtime are erased with --data, and no PATH"
        )
    if dry_run:
        return _tried(options, AuditLog.open(trail))
    before = AuditLog.open(trail).last(1)[-1].seq
    lay = {path.name: _lying(options, path.name) for backup in options.backup for path in _files(backup)}
    with AuditLog.open(trail, "a", subject_key_backups=options.backup) as log:
        # The opening itself destroys the keys of persons erased before that lie in these backups (AP1).
        done = {
            pseudonym: _row(pseudonym, event.seq)
            | {
                "erased_before": True,
                "backups_unreached": _missing(options) if event.details["backups_unreached"] else [],
            }
            for event in log.query(event_type="subject.erased")
            if event.seq > before
            for pseudonym in event.subjects
        }
        if log.pseudonyms(options.subject) or not done:
            for one in log.erase(options.subject, by=f"operator:{os.getuid()}"):
                unreached = [str(path) for path in one.backups_unreached]
                done[one.subject] = _row(one.subject, one.seq) | {"backups_unreached": unreached}
    for pseudonym, row in done.items():
        row["backups_reached"] = [
            path for path in lay.get(pseudonym, []) if path not in row["backups_unreached"]
        ]
    return list(done.values())


def _tried(options: argparse.Namespace, log: AuditLog) -> list[dict[str, Any]]:
    """What an erasure in a log of one's own would do."""
    from symbi.errors import InputError

    rows = [
        _row(one) | {"places": {"records": len(log.query(subject=one))}, "held": log.held is not None}
        for one in log.pseudonyms(options.subject)
    ]
    if options.backup:
        gone = {one for event in log.query(event_type="subject.eras*") for one in event.subjects}
        rows += [_row(one) | {"erased_before": True} for one in sorted(gone) if _lying(options, one)]
    if not rows:
        message = "nothing is known of this subject: no value was stored for it, or it was erased"
        if not options.backup:
            message += "; a copy of its key in a backup goes by the same command with `--backup DIRECTORY`"
        elif missing := _missing(options):
            message += f"; `{missing[0]}` is no directory that is there now"
        else:
            message += "; in the directories of --backup lies no key of a person that this log erased"
        raise InputError(message)
    for row in rows:
        row["backups_reached"] = _lying(options, row["subject"])
        row["backups_unreached"] = _missing(options)
    return rows


def _row(pseudonym: str, seq: int | None = None) -> dict[str, Any]:
    return {
        "subject": pseudonym,
        "places": {},
        "agents": [],
        "backups_unreached": [],
        "backups_reached": [],
        "erased_before": False,
        "held": False,
        "seq": seq,
    }


def _missing(options: argparse.Namespace) -> list[str]:
    return [str(path) for path in options.backup if not path.is_dir()]


def _files(directory: Path) -> list[Path]:
    return sorted(directory.iterdir()) if directory.is_dir() else []


def _lying(options: argparse.Namespace, pseudonym: str) -> list[str]:
    """Those of the named backups in which this person's key lies."""
    return [str(backup) for backup in options.backup if (backup / pseudonym).exists()]


def _agrees(options: argparse.Namespace, tried: list[dict[str, Any]]) -> bool:
    """CX1."""
    from symbi.errors import InputError

    if not sys.stdin.isatty():
        raise InputError("`symbi audit erase` asks before it acts: say `--yes` where nobody can answer")
    for one in tried:
        output.note(_sentence(one, "would be erased"))
    sys.stderr.write("type the subject's name to erase it for good: ")
    sys.stderr.flush()
    typed: str = sys.stdin.readline(1024)
    subject: str = options.subject
    return typed.strip() == subject


def _sentence(row: dict[str, Any], word: str) -> str:
    counts = ", ".join(f"{count} {name}" for name, count in sorted(row["places"].items()) if count)
    return f"{row['subject']} {word}: its key" + (f", {counts}" if counts else "")


def _tell(options: argparse.Namespace, rows: list[dict[str, Any]], word: str) -> int:
    unreached = [path for row in rows for path in row["backups_unreached"]]
    held = any(row["held"] for row in rows)
    code = exits.FINDING if unreached or held else exits.DONE
    if options.json:
        output.print_json(rows)
        return code
    for row in rows:
        sys.stdout.write(output.clean(_sentence(row, word)) + "\n")
        for identity, name in row["agents"]:
            output.note(
                f"agent `{name}` ({identity}) has read it and may do nothing with it any more: "
                f"`symbi agents stop {identity}`"
            )
    if held:
        show = "--persons" if options.path is None else options.path
        output.note(f"a legal hold refuses it: `symbi audit hold {show}`")
    _tell_backups(options, rows, unreached)
    return code


def _tell_backups(options: argparse.Namespace, rows: list[dict[str, Any]], unreached: list[str]) -> None:
    again = "each opening tries again" if options.path is None else "run this again when it is there"
    for path in dict.fromkeys(unreached):
        output.note(f"the key still lies in `{path}`, which is not there now: {again}")
    if options.path is None:
        return
    if any(row["erased_before"] for row in rows):
        output.note(
            "erased before, whoever that was: the log keeps no name; its key lay in a backup again or was left"
        )
    if not options.backup:
        output.note(
            "no backup directory was named: a copy of the key that lies in one (subject_key_backups=) is still there; "
            "the same command with `--backup DIRECTORY` reaches it"
        )
    reached = {path for row in rows for path in row["backups_reached"]} | set(unreached)
    for backup in options.backup:
        if str(backup) not in reached:
            output.note(f"no key of this person lay in `{backup}`: is that the directory?")


def hold_person(options: argparse.Namespace) -> int:
    """Place a legal hold on the person of `--subject`, or end it with `--release`."""
    request = {
        "command": "persons.hold",
        "verb": "remove" if options.release else "add",
        "subject": options.subject,
        "reason": options.reason or "",
    }
    answer = ask_or_open(options, request)
    if options.json:
        output.print_json(answer)
    else:
        word = "not held any more" if options.release else "held"
        sys.stdout.write(output.clean(f"`{options.subject}` is {word}: record {answer['seq']}") + "\n")
    return exits.DONE


def persons_held(options: argparse.Namespace) -> int:
    """Show the persons under a legal hold."""
    answer = ask_or_open(options, {"command": "persons.hold", "verb": "list"})
    if options.json:
        output.print_json(answer)
        return exits.DONE
    headers = ("subject", "name", "since", "by", "reason", "record")
    cells = [
        [row["subject"], row["name"] or "", _time(row["at_us"]), row["by"], row["reason"], row["seq"]]
        for row in answer
    ]
    sys.stdout.write(output.table(headers, cells) + "\n")
    return exits.DONE


def _time(at_us: int) -> str:
    return datetime.fromtimestamp(at_us / 1_000_000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


# For who reads the trail


def pseudonym(options: argparse.Namespace) -> str | None:
    """What stands in records for the subject that was named; a pseudonym stays what it is."""
    from symbi.audit import key_path

    named: str | None = options.subject
    if options.path is not None and key_path(options.path).exists():
        return named  # an application's log knows its own
    if named is None or _PSEUDONYM.fullmatch(named) or not (options.data / "keys" / "subjects").is_dir():
        return named
    from symbi.audit.persons import pseudonym_of

    return pseudonym_of(options.data, named) or named


def shown(value: object, data: Path) -> object:
    """Details as people read them: what was sealed for persons is a word, not its bytes."""
    if isinstance(value, dict):
        return {name: shown(one, data) for name, one in value.items()}
    if isinstance(value, list):
        return [shown(one, data) for one in value]
    if isinstance(value, str) and (sealed := _SEALED.match(value)):
        keys = data / "keys" / "subjects"
        return "sealed" if all((keys / one).exists() for one in sealed[1].split(",")) else "erased"
    return value
