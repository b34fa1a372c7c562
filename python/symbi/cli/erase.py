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

from symbi.cli import exits, frame, output
from symbi.cli.asking import ask_or_open

if TYPE_CHECKING:
    import argparse

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
            "the key is destroyed, in the backup directories of the configuration too. It cannot be undone."
        ),
        run=_erase,
        example="symbi audit erase --subject patient-17 --dry-run",
    )
    erase.add_argument(
        "--subject", required=True, metavar="NAME", help="as it was named when values were stored"
    )
    erase.add_argument("--dry-run", action="store_true", help="only say what there is")
    erase.add_argument("--yes", action="store_true", help="do not ask")
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
    if options.path is None:
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
    row = {"places": {}, "agents": [], "backups_unreached": [], "held": False, "seq": None}
    if dry_run:
        log = AuditLog.open(trail)
        held = log.held is not None
        found = log.pseudonyms(options.subject)
        if not found:
            raise InputError("nothing is known of this subject: no value was stored for it, or it was erased")
        return [
            row | {"subject": one, "places": {"records": len(log.query(subject=one))}, "held": held}
            for one in found
        ]
    with AuditLog.open(trail, "a") as log:
        return [
            row
            | {
                "subject": one.subject,
                "seq": one.seq,
                "backups_unreached": [str(path) for path in one.backups_unreached],
            }
            for one in log.erase(options.subject, by=f"operator:{os.getuid()}")
        ]


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
    for path in unreached:
        output.note(f"the key still lies in `{path}`, which is not there now: each opening tries again")
    return code


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
