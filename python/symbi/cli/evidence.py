"""`symbi audit reindex`, `trace` and `report`: what a trail says, found, traced back, and held against controls.

Not here: what a report is made of (`symbi.audit.report`), what leads to what (`symbi.audit.trace`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from symbi.cli import exits, frame, output, proofs, values
from symbi.cli.witness_file import checkpoints_in
from symbi.files import write_whole

if TYPE_CHECKING:
    import argparse

    from symbi.audit import AuditLog
    from symbi.audit.trace import Source

__all__ = ["add_verbs", "catch_up"]


_ENDINGS = {"": "html", ".html": "html", ".htm": "html", ".json": "json", ".csv": "csv"}


def add_verbs(verbs: frame.Subparsers) -> None:
    """Adds the verbs of this module to `symbi audit`."""
    reindex = frame.add_command(
        verbs,
        "reindex",
        summary="make the index of queries again from the log",
        run=_reindex,
        example="symbi audit reindex\nsymbi audit reindex --check",
        description="Queries keep the index up to date themselves. This makes it from the beginning.\n"
        "With --check it only holds it against the log, and exits 1 where it says something else.",
    )
    reindex.add_argument("--check", action="store_true", help="hold it against the log, and change nothing")
    proofs.add_path(reindex)
    trace = frame.add_command(
        verbs,
        "trace",
        summary="what led to an event: documents read, results of tools, messages, the task",
        run=_trace,
        example="symbi audit trace 157\nsymbi audit trace 4159ebc1-fd31-4947-97db-4a47c080fbbb --json",
        description="EVENT is a record's number, its event id, an operation's id, or the id of a refusal.\n"
        "`symbi audit prove NUMBER` proves any line of the tree.",
    )
    trace.add_argument("event", metavar="EVENT", help="the record to begin with")
    trace.add_argument(
        "--proofs",
        action="store_true",
        help="with --json: each record's proof, and each message's place in it",
    )
    trace.add_argument(
        "--depth", type=values.count, default=4, metavar="N", help="how many steps back (default: 4)"
    )
    proofs.add_path(trace)
    report = frame.add_command(
        verbs,
        "report",
        summary="the trail held against a framework of controls, each sentence with its events and their proofs",
        run=_report,
        example="symbi audit report --framework hipaa --out hipaa.html\n"
        "symbi audit report --framework house.toml --since 2025-01-01T00:00:00Z --format csv\n"
        "symbi audit report --frameworks",
        description="Frameworks: hipaa, gdpr, sox, ai-act, or a TOML file of your own (docs/reports.md).\n"
        "A control without evidence is a gap. Exits 1 where the trail does not verify, or with --strict on a gap.",
    )
    report.add_argument("--framework", metavar="NAME|FILE", help="the controls")
    report.add_argument("--frameworks", action="store_true", help="list those that come with symbi")
    report.add_argument("--since", metavar="TIME", help=f"at or after: {values.TIME}")
    report.add_argument("--until", metavar="TIME", help=f"before: {values.TIME}")
    report.add_argument(
        "--format",
        choices=("html", "json", "csv"),
        help="by default what --out ends in, without an ending html",
    )
    report.add_argument("--out", type=Path, metavar="FILE", help="write here (default: stdout)")
    report.add_argument("--key", metavar="FINGERPRINT", help="the fingerprint that was kept elsewhere")
    report.add_argument(
        "--checkpoint",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="a checkpoint that was kept elsewhere; may be given again",
    )
    report.add_argument("--strict", action="store_true", help="a gap is a finding: exit 1")
    proofs.add_path(report)


def catch_up(log: AuditLog) -> None:
    """Brings the index up to date where it is far behind, and shows that when it takes long."""
    with output.Progress("making the index of queries, segments:") as bar:
        log.catch_up(lambda done, left: bar.advance(done, f"{left} left"))


def _reindex(options: argparse.Namespace) -> int:
    log = proofs.open_trail(options)
    if options.check:
        return _check_index(options, log)
    with output.Progress("making the index of queries, segments:") as bar:
        state = log.reindex(lambda done, left: bar.advance(done, f"{left} left"), afresh=True)
    if options.json:
        output.print_json({"records": state.records, "segments": state.segments, "busy": state.busy})
    elif state.busy:
        output.note("somebody else is making it")
    else:
        output.note(f"{state.records} records of {state.segments} segments are in the index")
    return exits.DONE


def _check_index(options: argparse.Namespace, log: AuditLog) -> int:
    found = log.check_index()
    if options.json:
        output.print_json(
            {
                "records": found.records,
                "wrong": list(found.wrong),
                "missing": found.missing,
                "busy": found.busy,
            }
        )
    elif found.busy:
        output.note("somebody is making it: nothing was looked at")
    elif not found.records and not found.wrong:
        output.note(f"there is no index of these {found.missing} records: queries read them through")
    else:
        behind = f"; {found.missing} are not in it yet, and are read through" if found.missing else ""
        output.note(f"the index says what the log says of {found.records} records{behind}")
        for first in found.wrong:
            output.note(
                f"its part from record {first} on says something else: `symbi audit reindex` makes it again"
            )
    return exits.FINDING if found.wrong else exits.DONE


def _trace(options: argparse.Namespace) -> int:
    from symbi.audit.trace import trace
    from symbi.errors import InputError

    if options.depth < 1:
        raise InputError("--depth is at least 1")
    if options.proofs and not options.json:
        raise InputError("--proofs takes --json: a proof is a text of 2 KB for each line")
    log = proofs.open_trail(options)
    catch_up(log)
    tree = trace(log, options.event, depth=options.depth)
    if options.json:
        output.print_json(tree.to_json(log if options.proofs else None))
        return exits.DONE
    sys.stdout.write("\n".join(_branches(tree)) + "\n")
    output.note(
        "what a run had read before a call is what can have led to it; `sent to it` alone does not show that it was "
        f"read. {len(tree.events())} records; signatures were not checked: `symbi audit verify` does"
    )
    return exits.DONE


def _messages(node: Source) -> str:
    """Which messages a record names, for `symbi audit prove --message`."""
    named = node.messages
    more = f" and {len(named) - 1} more" if len(named) > 1 else ""
    return f"message {named[0]}{more}" if named else ""


def _branches(node: Source, lead: str = "", hang: str = "") -> list[str]:
    event = node.event
    details = event.details
    what = [
        str(details.get(name)) for name in ("action", "resource", "outcome", "content") if details.get(name)
    ]
    parts = [
        output.paint(node.relation, "cyan"),
        f"#{event.seq}",
        event.timestamp.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        event.event_type,
        event.decision or "",
        *[text if len(text) <= 60 else text[:12] + "…" for text in what],
        "[" + ", ".join(event.labels) + "]" if event.labels else "",
        event.event_id,
        _messages(node),
        "(above)" if node.seen else "",
    ]
    # The words come from the trail, so they are cleaned; the lines and colours are ours.
    lines = [lead + parts[0] + "  " + output.clean("  ".join(part for part in parts[1:] if part))]
    for number, source in enumerate(node.sources):
        last = number == len(node.sources) - 1 and not node.left_out
        lines += _branches(source, hang + ("└─ " if last else "├─ "), hang + ("   " if last else "│  "))
    if node.left_out:
        lines.append(f"{hang}└─ {node.left_out} more behind it: --depth goes further back")
    return lines


def _report(options: argparse.Namespace) -> int:
    from symbi.audit.framework import built_in, load
    from symbi.audit.report import report
    from symbi.errors import InputError

    if options.frameworks:
        known = [load(name) for name in built_in()]
        if options.json:
            output.print_json(
                [{"name": one.name, "title": one.title, "controls": len(one.controls)} for one in known]
            )
        else:
            rows = [(one.name, one.title, one.edition) for one in known]
            sys.stdout.write(output.table(("name", "title", "edition"), rows) + "\n")
        return exits.DONE
    if options.framework is None:
        raise InputError("name a framework: --framework hipaa; --frameworks lists them")
    form = _form(options)
    framework = load(options.framework)
    log = proofs.open_trail(options)
    _sign(options)
    found = report(
        log,
        framework,
        since=values.time(options.since, "--since"),
        until=values.time(options.until, "--until"),
        key=options.key,
        checkpoints=[one for file in options.checkpoint for one in checkpoints_in(file)],
    )
    if form == "json":
        text = json.dumps(found.to_json(), ensure_ascii=False, indent=2, default=str) + "\n"
    else:
        text = found.to_csv() if form == "csv" else found.to_html()
    if options.out is None:
        sys.stdout.write(text)
    else:
        write_whole(options.out, text)
    if not found.verified:
        output.note(f"{output.paint('broken', 'red', sys.stderr)}: {output.clean(found.broken)}")
        output.note("  the report says so first, and judges no control")
        return exits.FINDING
    gaps = found.gaps()
    for one in gaps:
        word = "gap" if one.status == "gap" else "in part"
        output.note(f"{output.paint(word, 'yellow', sys.stderr)}: {one.control.id} {one.control.title}")
    output.note(f"{len(found.controls) - len(gaps)} of {len(found.controls)} controls have evidence")
    unproven = len(found.events) - len(found.proofs)
    if unproven:
        output.warn(f"{unproven} events are behind the last checkpoint and have no proof in the report")
    return exits.FINDING if options.strict and gaps else exits.DONE


def _form(options: argparse.Namespace) -> str:
    """The report's format: what was named, or what the file's name ends in; one without an ending is HTML.

    Raises:
        InputError: two formats, or an ending of another one.
    """
    from symbi.errors import InputError

    if options.json and options.format not in (None, "json"):
        raise InputError(f"--json goes without --format {options.format}: leave one of them out")
    if options.format is not None or options.json:
        return str(options.format or "json")
    ending = "" if options.out is None else options.out.suffix.lower()
    if ending not in _ENDINGS:
        raise InputError(
            f"`{options.out}`: accepted are .html, .json and .csv; with another ending say which by --format"
        )
    return _ENDINGS[ending]


def _sign(options: argparse.Namespace) -> None:
    """A checkpoint over all of it, so that each event can be proven. What is broken is told by the report."""
    from symbi.errors import SymbiError

    try:
        proofs.signed_now(options)
    except SymbiError:
        return
