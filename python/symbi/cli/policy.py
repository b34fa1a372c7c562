"""`symbi policy`: test policies, replay the trail under others, propose rules.

Not here: what cases are (`symbi.policy.testing`), deciding recorded operations (`symbi.policy.history`).

Invariants
- CP1 exit 1 when a case fails, or when a decision flips that nobody expected to.
- CP2 a proposal goes to stdout alone, so that it can be written to a file.
"""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from symbi.cli import exits, frame, output, values

if TYPE_CHECKING:
    import argparse

    from symbi.policy.history import Flip
    from symbi.policy.testing import CaseResult

__all__ = ["register"]

_FLIPS_SHOWN = 20  # a person reads no more; --json has them all


def register(subparsers: frame.Subparsers) -> None:
    """Adds `policy` and its verbs."""
    verbs = frame.add_group(
        subparsers,
        "policy",
        summary="test policies, replay the trail under others, propose rules",
        example="symbi policy test policies/",
    )
    test = frame.add_command(
        verbs,
        "test",
        summary="run the cases beside the policies (*.test.toml)",
        description="Directories are searched with everything below them.",
        run=_test,
        example="symbi policy test policies/\nsymbi policy test pages.test.toml --json",
    )
    test.add_argument(
        "paths", nargs="*", type=Path, metavar="PATH", help="files and directories (default: policies)"
    )
    what_if = frame.add_command(
        verbs,
        "whatif",
        summary="what would have fallen differently under other policies",
        description=(
            "Verifies the trail, decides its operations again, lists those that fall differently.\n"
            "Nothing is done again, nothing is written."
        ),
        run=_what_if,
        example=(
            "symbi policy whatif next.cedar secure-default --since 2026-01-01T00:00:00Z\n"
            "symbi policy whatif next.cedar --expect no-pages-at-night --json"
        ),
    )
    what_if.add_argument(
        "policies", nargs="+", metavar="NEW", help="policies: files, directories, names of starter policies"
    )
    what_if.add_argument(
        "--expect",
        action="append",
        default=[],
        metavar="RULE",
        help="flips that this rule brings about are expected; `no_permit`: those that no rule permits any more",
    )
    learn = frame.add_command(
        verbs,
        "learn",
        summary="propose the least policies that cover what was allowed or let through",
        description="Read the proposal before you use it: what was seen may be what should not have happened.",
        run=_learn,
        example="symbi policy learn > learned.cedar && symbi check learned.cedar",
    )
    for parser in (what_if, learn):
        parser.add_argument("--since", metavar="TIME", help=f"at or after: {values.TIME}")
        parser.add_argument("--until", metavar="TIME", help=f"before: {values.TIME}")
        parser.add_argument("--trail", type=Path, metavar="DIR", help="a trail elsewhere")
        parser.add_argument("--key", metavar="FINGERPRINT", help="the fingerprint that was kept elsewhere")
        parser.add_argument(
            "--checkpoint",
            type=Path,
            metavar="FILE",
            help="a checkpoint that was kept elsewhere: what it covers is taken from its root",
        )


def _test(options: argparse.Namespace) -> int:
    from symbi.policy.testing import find_suites, read_suite, run_suite

    suites = [read_suite(path) for path in find_suites(options.paths or [Path("policies")])]
    results = [result for suite in suites for result in run_suite(suite)]
    failed = [result for result in results if result.problem is not None]
    if options.json:
        output.print_json({"cases": [_case(result) for result in results], "failed": len(failed)})
    else:
        for result in failed:
            sys.stdout.write("".join(f"{output.clean(line)}\n" for line in _failure(result)))
        files = f"{len(suites)} file{'s' if len(suites) != 1 else ''}"
        output.note(
            f"{len(results)} cases in {files}: {len(results) - len(failed)} passed, {len(failed)} failed"
        )
    return exits.FINDING if failed else exits.DONE


def _case(result: CaseResult) -> dict[str, Any]:
    return {
        "file": result.suite,
        "line": result.case.line,
        "name": result.case.name,
        "passed": result.problem is None,
        "expected": result.case.expect,
        "decision": result.decision,
        "rules": list(result.rules),
        "problem": result.problem,
        "explanation": None if result.problem is None else asdict(result.explanation),
    }


def _failure(result: CaseResult) -> list[str]:
    told = result.explanation
    lines = [f"{result.suite}:{result.case.line}: {result.case.name}", f"  {result.problem}"]
    if told.rule is not None:
        lines.append(f"  rule `{told.rule}` at {told.source}:{told.line}")
    for failing in told.failing:
        values = ", ".join(f"{name} = {value}" for name, value in failing.values)
        lines.append(f"  clause: {failing.clause}" + (f"   ({values})" if values else ""))
    if told.change_that_would_allow is not None and told.decision == "deny":
        lines.append(f"  {told.change_that_would_allow}")
    return lines


def _span(options: argparse.Namespace) -> dict[str, Any]:
    from symbi.errors import InputError

    config = frame.load_config(options)
    trail = options.trail or config.audit.storage or options.data / "trail"
    if not trail.is_dir():
        raise InputError(f"there is no trail in `{trail}`: name its directory with --data or --trail")
    return {
        "trail": trail,
        "since": values.time(options.since, "--since"),
        "until": values.time(options.until, "--until"),
        "key": options.key,
        "checkpoint": None if options.checkpoint is None else values.read_text(options.checkpoint),
    }


def _what_if(options: argparse.Namespace) -> int:
    from symbi.audit.verification import word_of
    from symbi.policy.history import what_if

    found = what_if(options.data, options.policies, **_span(options))
    expected = set(options.expect)
    surprises = [flip for flip in found.flips if (flip.rule or flip.cause) not in expected]
    if options.json:
        flips = [
            {**asdict(flip), "time": flip.time.isoformat(), "expected": flip not in surprises}
            for flip in found.flips
        ]
        output.print_json({**asdict(found), "flips": flips, "unexpected": len(surprises)})
        return exits.FINDING if surprises or found.flipped > len(found.flips) else exits.DONE
    made = (
        f"{found.decided} decisions of {word_of(found.records, found.level, found.complete_to)}, made again"
    )
    lines = [f"{made}: {found.flipped} fall differently"]
    for reason, count in found.undecidable.items():
        lines.append(f"  undecidable: {reason.replace('_', ' ')}: {count}")
    causes = Counter((flip.was, flip.now, flip.rule or flip.cause) for flip in found.flips)
    for (was, now, cause), count in causes.most_common():
        mark = "expected" if cause in expected else "NOT EXPECTED"
        lines.append(f"  {was} → {now}, {count} times by {_cause(cause)}: {mark}")
    lines += [f"    {_flip(flip)}" for flip in surprises[:_FLIPS_SHOWN]]
    if len(surprises) > _FLIPS_SHOWN:
        lines.append(f"    and {len(surprises) - _FLIPS_SHOWN} more: `--json` lists them")
    sys.stdout.write("\n".join(output.clean(line) for line in lines) + "\n")
    return exits.FINDING if surprises or found.flipped > len(found.flips) else exits.DONE


def _cause(cause: str) -> str:
    return "no rule that permits it" if cause == "no_permit" else f"`{cause}`"


def _flip(flip: Flip) -> str:
    time = flip.time.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f"{flip.seq}  {time}  {flip.principal} {flip.action} {flip.resource}"


def _learn(options: argparse.Namespace) -> int:
    from symbi.audit.verification import word_of
    from symbi.policy.history import learn

    found = learn(options.data, **_span(options))
    if options.json:
        output.print_json(asdict(found))
        return exits.DONE
    sys.stdout.write(found.text)
    word = word_of(found.records, found.level, found.complete_to)
    output.note(f"{found.rules} rules cover {found.operations} operations of {word}")
    for reason, count in found.undecidable.items():
        output.warn(f"{count} operations could not be read ({reason.replace('_', ' ')}): no rule covers them")
    return exits.DONE
