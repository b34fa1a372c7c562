"""`symbi audit`: query and follow a trail, and the place of its other verbs.

They read files and need no running runtime; beside one they see whole records only.
Not here: verifying (`cli/verifying.py`), checkpoints and proofs (`cli/proofs.py`), reports and provenance
(`cli/evidence.py`), what makes a trail good (`symbi.audit`).
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from symbi.cli import erase, evidence, frame, keeping, output, proofs, stamping, values, verifying

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from symbi.audit import AuditEvent, Gap
    from symbi.audit.query import Filters

__all__ = ["register"]


def register(subparsers: frame.Subparsers) -> None:
    """Adds `audit` and its verbs."""
    verbs = frame.add_group(
        subparsers,
        "audit",
        summary="the trail: verify, prove, query, follow, report, forget",
        example="symbi audit verify",
    )
    verifying.add_verbs(verbs)
    proofs.add_verbs(verbs)
    evidence.add_verbs(verbs)
    erase.add_verbs(verbs)
    keeping.add_verbs(verbs)
    stamping.add_verbs(verbs)
    query = frame.add_command(
        verbs,
        "query",
        summary="the records for which all that is given holds",
        run=_query,
        example="symbi audit query --type 'tool.*' --since 2025-01-01T00:00:00Z --limit 20\n"
        "symbi audit query --limit 1000 --json-page",
    )
    _add_filters(query)
    query.add_argument(
        "--limit", type=values.count, metavar="N", help="at most so many, the first ones of the order"
    )
    query.add_argument(
        "--json-page",
        action="store_true",
        help='print {"events": […], "next": CURSOR or null} as JSON: what programs page with',
    )
    query.add_argument("--newest", action="store_true", help="the newest first")
    query.add_argument(
        "--after", metavar="CURSOR", help="go on where a page with --limit ended: what it told, or its `next`"
    )
    query.add_argument("--scan", action="store_true", help="read everything instead of asking the index")
    tail = frame.add_command(
        verbs, "tail", summary="the last records, and what comes", run=_tail, example="symbi audit tail -f"
    )
    tail.add_argument(
        "-n", "--lines", type=values.count, default=10, metavar="N", help="how many (default: 10)"
    )
    tail.add_argument("-f", "--follow", action="store_true", help="go on with what is written")
    tail.add_argument(
        "--behind-max",
        type=values.count,
        metavar="N",
        help="further behind than N records, skip some and say which",
    )
    _add_filters(tail)
    cat = frame.add_command(
        verbs,
        "cat",
        summary="the lines of a trail as they were signed, compressed segments unpacked",
        run=_cat,
        example="symbi audit cat | grep operation.denied",
        json=False,
    )
    cat.add_argument(
        "--from", dest="from_seq", type=values.count, default=0, metavar="N", help="from this record on"
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


def _add_filters(parser: frame.Parser) -> None:
    parser.add_argument("--agent", type=values.word, metavar="ID", help="whose doing")
    parser.add_argument(
        "--type", type=values.word, metavar="TYPE", help="the type, or its beginning with a trailing *"
    )
    parser.add_argument("--since", metavar="TIME", help=f"at or after: {values.TIME}")
    parser.add_argument("--until", metavar="TIME", help=f"before: {values.TIME}")
    parser.add_argument("--op", type=values.word, metavar="ID", help="the operation")
    parser.add_argument("--run", type=values.word, dest="run_id", metavar="ID", help="the run")
    parser.add_argument("--decision", type=values.word, metavar="WORD", help="what was decided, such as deny")
    parser.add_argument(
        "--action", type=values.word, metavar="NAME", help="what was to be done, such as tool.call"
    )
    parser.add_argument("--rule", type=values.word, metavar="ID", help="a rule that decided")
    parser.add_argument(
        "--resource", type=values.word, metavar="ENTITY", help='on what, such as `Tool::"outbox.send"`'
    )
    parser.add_argument("--label", type=values.word, metavar="LABEL", help="a label of the data concerned")
    parser.add_argument(
        "--subject",
        type=values.word,
        metavar="NAME",
        help="a person concerned, as it was named or by pseudonym",
    )


def _filters(options: argparse.Namespace) -> Filters:
    return {
        "agent_id": options.agent,
        "event_type": options.type,
        "since": values.time(options.since, "--since"),
        "until": values.time(options.until, "--until"),
        "op": options.op,
        "run": options.run_id,
        "decision": options.decision,
        "action": options.action,
        "rule": options.rule,
        "resource": options.resource,
        "label": options.label,
        "subject": erase.pseudonym(options),
    }


def _query(options: argparse.Namespace) -> int:
    from symbi.errors import InputError

    if options.json_page and options.limit == 0:  # it would say that nothing follows
        raise InputError("--json-page takes --limit from 1 on, or none: a page of nothing leads to no other")
    log = proofs.open_trail(options)
    if not options.scan:
        evidence.catch_up(log)
    filters = _filters(options) | {"limit": options.limit, "newest_first": options.newest}
    page = log.page(**filters, after=options.after, index=not options.scan)
    if options.json_page:
        output.print_json({"events": [event.to_json() for event in page.events], "next": page.next})
    elif options.json:
        output.print_json([event.to_json() for event in page.events])
    else:
        _print(page.events, options.data)
        output.note(
            f"{len(page.events)} records; their signatures were not checked: `symbi audit verify` does"
        )
    if page.next is not None and not options.json_page:
        output.note(f"there are more: the same with --after {page.next}")
    if page.passed_over:
        output.warn("a part of the index is damaged or stale and was read through: `symbi audit reindex`")
    return 0


def _tail(options: argparse.Namespace) -> int:
    from symbi.audit import Gap

    log = proofs.open_trail(options)
    newest = log.last(1)  # before the rest: what is written while this looks is followed, not lost
    filters = _filters(options)
    show = _print_lines if options.json else partial(_print, data=options.data)
    if any(value is not None for value in filters.values()):
        newest_ones: Filters = {**filters, "newest_first": True, "limit": options.lines}
        last = log.query(**newest_ones)[::-1]
    else:
        last = log.last(options.lines) if options.lines else []
    if not options.follow:
        show(last)
        return 0
    stream = log.stream(
        **filters,
        from_seq=max(last[-1].seq if last else -1, newest[-1].seq if newest else -1) + 1,
        behind_max=options.behind_max,
    )
    show(last)
    for event in stream.follow():  # until interrupted
        if event is None:
            sys.stdout.flush()
        elif isinstance(event, Gap):
            _missed(event, json_lines=options.json)
        else:
            show([event])
    return 0


def _missed(gap: Gap, *, json_lines: bool) -> None:
    if json_lines:
        sys.stdout.write(json.dumps({"missed": {"first": gap.first, "end": gap.end}}) + "\n")
    output.warn(
        f"records {gap.first} to {gap.end - 1} were not shown, this terminal was too slow: "
        f"`symbi audit cat --from {gap.first}` has them"
    )


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


def _print(events: Iterable[AuditEvent], data: Path) -> None:
    for event in events:
        details = json.dumps(erase.shown(event.details, data), ensure_ascii=False, separators=(",", ":"))
        parts = [
            str(event.seq),
            event.timestamp.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            event.event_type,
            event.decision or "",
            event.agent_id or "",
            details,
        ]
        sys.stdout.write(output.clean("  ".join(part for part in parts if part)) + "\n")
