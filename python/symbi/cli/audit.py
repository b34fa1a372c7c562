"""`symbi audit`: verify, query and follow a trail.

All three read files and need no running runtime; beside one they see whole records only.
Not here: what makes a trail good (`symbi.audit`), proofs, checkpoints, reports.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from symbi.cli import frame, output

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from symbi.audit import AuditEvent, AuditLog

__all__ = ["register"]

_POLL_S = 0.2  # how late `tail -f` may be; a read of one directory, so it costs nothing
_LEVELS = {
    "consistent": "whole since it was signed; by whom is not known without --key",
    "authentic": "whole, and signed with the key whose fingerprint you gave",
}
_END_NOTE = "nothing here shows whether records were cut off the end: that takes a checkpoint kept elsewhere"


def register(subparsers: frame.Subparsers) -> None:
    """Adds `audit` and its verbs."""
    verbs = frame.add_group(
        subparsers, "audit", summary="the trail: verify, query, follow", example="symbi audit verify"
    )
    verify = frame.add_command(
        verbs,
        "verify",
        summary="check every record of a trail, and say how far the word goes",
        run=_verify,
        example="symbi audit verify\nsymbi audit verify backup/trail --key 0f3a…",
    )
    verify.add_argument("--key", metavar="FINGERPRINT", help="the fingerprint that was kept elsewhere")
    verify.add_argument("--checkpoint", type=Path, metavar="FILE", help="not in this version")
    query = frame.add_command(
        verbs,
        "query",
        summary="the records for which all that is given holds",
        run=_query,
        example="symbi audit query --type 'tool.*' --since 2025-01-01T00:00:00Z --limit 20",
    )
    query.add_argument("--agent", metavar="ID", help="whose doing")
    query.add_argument("--type", metavar="TYPE", help="the type, or its beginning with a trailing *")
    query.add_argument("--since", metavar="TIME", help="at or after, ISO 8601 with time zone")
    query.add_argument("--until", metavar="TIME", help="before, ISO 8601 with time zone")
    query.add_argument("--op", metavar="ID", help="the operation")
    query.add_argument("--run", dest="run_id", metavar="ID", help="the run")
    query.add_argument("--decision", metavar="WORD", help="what was decided, such as deny")
    query.add_argument("--subject", metavar="PSEUDONYM", help="a person concerned")
    query.add_argument("--limit", type=_count, metavar="N", help="at most so many, the first ones")
    tail = frame.add_command(
        verbs, "tail", summary="the last records, and what comes", run=_tail, example="symbi audit tail -f"
    )
    tail.add_argument("-n", "--lines", type=_count, default=10, metavar="N", help="how many (default: 10)")
    tail.add_argument("-f", "--follow", action="store_true", help="go on with what is written")
    for parser in (verify, query, tail):
        help_text = "a trail's directory (default: trail in the data directory)"
        parser.add_argument("path", nargs="?", type=Path, metavar="PATH", help=help_text)


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def _open(options: argparse.Namespace) -> AuditLog:
    from symbi.audit import AuditLog
    from symbi.errors import InputError

    path: Path = options.path or options.data / "trail"
    if not path.is_dir():
        raise InputError(f"there is no trail in `{path}`: name its directory, or --data")
    return AuditLog.open(path)


def _verify(options: argparse.Namespace) -> int:
    from symbi.errors import ChainBrokenError, NotBuiltError, TruncatedError

    if options.checkpoint is not None:
        raise NotBuiltError("checkpoints are not in this version: `--checkpoint` has nothing to compare with")
    path: Path = options.path or options.data / "trail"
    try:
        log = _open(options)
        found = log.verify(key=options.key)
    except ChainBrokenError as error:
        kind = "truncated" if isinstance(error, TruncatedError) else "broken"
        if options.json:
            output.print_json({"path": str(path), "verified": False, "seq": error.seq, "reason": str(error)})
        else:
            output.note(f"{output.paint(kind, 'red', sys.stderr)}: {output.clean(error)}")
            output.note(
                f"  {path}: up to record {error.seq} nothing is wrong; from there nothing is vouched for"
            )
        return 1
    if options.json:
        value: dict[str, Any] = {
            "path": str(path),
            "verified": True,
            "records": found.records,
            "head": found.head,
            "level": found.level,
            "log_id": found.log_id,
            "keys": list(found.keys),
            "last": found.last.isoformat(),
            "tail_bytes": found.tail_bytes,
        }
        output.print_json(value)
        return 0
    lines = [
        f"{output.paint('good', 'green')}: {found.records} records in {path}",
        f"  {found.level}: {_LEVELS[found.level]}",
        f"  log {found.log_id}, key {found.keys[0]}" + _more_keys(len(found.keys)),
        f"  head {found.head}",
        f"  last record at {found.last.isoformat()}; {_END_NOTE}",
    ]
    if found.tail_bytes:
        lines.append(f"  {found.tail_bytes} bytes after it are being written, or were left by a crash")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _more_keys(count: int) -> str:
    return f" and {count - 1} that followed it" if count > 1 else ""


def _query(options: argparse.Namespace) -> int:
    found = _open(options).query(
        agent_id=options.agent,
        event_type=options.type,
        since=options.since,
        until=options.until,
        op=options.op,
        run=options.run_id,
        decision=options.decision,
        subject=options.subject,
        limit=options.limit,
    )
    if options.json:
        output.print_json([event.to_json() for event in found])
    else:
        _print(found)
        output.note(f"{len(found)} records; their chain was not checked: `symbi audit verify` does")
    return 0


def _tail(options: argparse.Namespace) -> int:
    log = _open(options)
    last = log.last(max(options.lines, 1))  # with `-n 0` too: following begins after the last
    show = _print_lines if options.json else _print
    show(last[len(last) - options.lines :] if options.lines < len(last) else last)
    if not options.follow:
        return 0
    sys.stdout.flush()
    tail = log.tail(last[-1].seq + 1 if last else 0)
    while True:  # until interrupted
        show(tail)
        sys.stdout.flush()
        time.sleep(_POLL_S)


def _print_lines(events: Iterable[AuditEvent]) -> None:
    """One JSON document a line, so that a follower can read them as they come."""
    for event in events:
        sys.stdout.write(json.dumps(event.to_json(), ensure_ascii=False, separators=(",", ":")) + "\n")


def _print(events: Iterable[AuditEvent]) -> None:
    for event in events:
        details = json.dumps(event.details, ensure_ascii=False, separators=(",", ":"))
        parts = [
            str(event.seq),
            event.timestamp.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            event.event_type,
            event.decision or "",
            event.agent_id or "",
            details,
        ]
        sys.stdout.write(output.clean("  ".join(part for part in parts if part)) + "\n")
