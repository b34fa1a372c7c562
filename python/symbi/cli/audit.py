"""`symbi audit`: query and follow a trail, and the place of its other verbs.

They read files and need no running runtime; beside one they see whole records only.
Not here: verifying, checkpoints and proofs (`cli/proofs.py`), what makes a trail good (`symbi.audit`).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from symbi.cli import frame, output, proofs

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from symbi.audit import AuditEvent

__all__ = ["register"]

_POLL_S = 0.2  # how late `tail -f` may be; a read of one directory, so it costs nothing


def register(subparsers: frame.Subparsers) -> None:
    """Adds `audit` and its verbs."""
    verbs = frame.add_group(
        subparsers, "audit", summary="the trail: verify, prove, query, follow", example="symbi audit verify"
    )
    proofs.add_verbs(verbs)
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
    cat = frame.add_command(
        verbs,
        "cat",
        summary="the lines of a trail as they were signed, compressed segments unpacked",
        run=_cat,
        example="symbi audit cat | grep tool.called",
        json=False,
    )
    cat.add_argument(
        "--from", dest="from_seq", type=_count, default=0, metavar="N", help="from this record on"
    )
    export = frame.add_command(
        verbs,
        "export",
        summary="a copy for a stranger, with verifiers that need nothing of ours",
        run=_export,
        example="symbi audit export for-the-auditor.zip",
    )
    export.add_argument("target", type=Path, metavar="TARGET", help="a new directory, or a new .zip")
    for parser in (query, tail, cat, export):
        proofs.add_path(parser)


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise ValueError(text)
    return value


def _query(options: argparse.Namespace) -> int:
    found = proofs.open_trail(options).query(
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
    log = proofs.open_trail(options)
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


def _cat(options: argparse.Namespace) -> int:
    for block in proofs.open_trail(options).lines(options.from_seq):
        sys.stdout.buffer.write(block)
    sys.stdout.flush()
    return 0


def _export(options: argparse.Namespace) -> int:
    from symbi.audit import export

    size = export(proofs.open_trail(options).directory, options.target)
    if options.json:
        output.print_json({"path": str(options.target), "bytes": size})
    else:
        output.note(
            f"{options.target}: {size / 1e6:.1f} MB of records, verify_trail.py and verify.html beside them"
        )
    return 0


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
