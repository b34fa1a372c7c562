"""`symbi bench`: measure here and now; the machine first, then the rows, peers beside them.

Why development mode: a bench opens runtimes on scratch directories; it says so, and protects nothing.
Not here: the rows (`symbi.bench.suites`), the statistics (`symbi.bench.frame`).

Invariants
- CB1 a missed target is shown as missed and is no failure; a row that breaks is a finding (exit 1).
- CB2 a peer that was asked for by name and is not there is an error, never silently left out.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from symbi.bench import frame as bench
from symbi.bench.machine import read_machine
from symbi.bench.report import HEADERS, NOT_RELEASE, RIGHT, Report, Unmeasured
from symbi.cli import exits, frame, output
from symbi.errors import InputError, SymbiError
from symbi.files import write_whole

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from symbi.bench.machine import Machine

_EXAMPLE = """\
symbi bench decide audit --quick
symbi bench audit --rows 10,000,000
symbi bench decide --compare cedarpy --json figures.json --html figures.html"""


def register(subparsers: frame.Subparsers) -> None:
    """Adds `symbi bench`."""
    parser = frame.add_command(
        subparsers,
        "bench",
        summary="measure this machine: every promised figure is a row",
        description="A value is the median of at least 5 runs; peers run interleaved, on the same work.",
        example=_EXAMPLE,
        run=_run,
        json=False,
    )
    parser.add_argument("suites", nargs="*", metavar="SUITE", help="suites to run (default: all; see --list)")
    parser.add_argument("--list", action="store_true", help="list the suites and their rows")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work a run, as many runs")
    parser.add_argument("--rows", metavar="TEXT", help="only the rows whose name has this text")
    parser.add_argument("--json", metavar="FILE", help="write the figures as JSON; `-` for stdout")
    parser.add_argument("--html", metavar="FILE", help="write one self-contained page")
    parser.add_argument(
        "--compare",
        metavar="NAME,…",
        help="only these peers; `none` for none (default: all that are installed)",
    )


def _run(options: argparse.Namespace) -> int:
    suites = bench.load_suites(options.suites)
    with bench.BenchContext(quick=options.quick) as context:
        rows = [row for suite in suites for row in suite.rows(context)]
        if options.rows is not None:
            rows = [row for row in rows if options.rows in row.name]
            if not rows:
                raise InputError(f"no row has `{options.rows}` in its name: `symbi bench --list` shows them")
        if options.list:
            return _list(suites, rows)
        chosen = _peers(rows, options.compare)
        for name in (options.json, options.html):
            if name not in {None, "-"}:
                Path(name).touch()  # a path that cannot be written is found before the work, not after it
        # With JSON on stdout, everything for people goes to stderr.
        person = sys.stderr if options.json == "-" else sys.stdout
        machine = read_machine()
        person.write("\n".join(machine.lines()) + "\n")
        if not machine.presentable:
            output.warn(NOT_RELEASE)
        person.flush()
        report = _measure(rows, chosen, context, machine)
    person.write("\n" + output.table(HEADERS, report.cells(), right=RIGHT) + "\n")
    for row in report.unmeasured:
        output.warn(f"not measured: {row.suite}: {row.name}: {row.reason}")
    if not machine.presentable:
        output.warn(NOT_RELEASE)
    _write(report, options.json, options.html)
    return exits.FINDING if any(row.fault for row in report.unmeasured) else exits.DONE


def _list(suites: Sequence[bench.Suite], rows: Sequence[bench.Row]) -> int:
    for suite in suites:
        sys.stdout.write(f"{suite.NAME}: {suite.SUMMARY}\n")
        for row in rows:
            if row.suite != suite.NAME:
                continue
            peers = ", ".join(peer.name for peer in row.peers)
            beside = f"  beside {peers}" if peers else ""
            sys.stdout.write(f"  {row.name} ({row.unit}, {row.better} is better){beside}\n")
    absent = [name for name in bench.PLANNED if name not in bench.suite_names()]
    if absent:
        output.note(f"not in this version: {', '.join(absent)}")
    return exits.DONE


def _peers(rows: Sequence[bench.Row], compare: str | None) -> dict[str, list[bench.Peer]]:
    """The peers to run, by `suite/row`.

    Raises:
        InputError: a name in `--compare` that no row has, or that is not installed (CB2).
    """
    known = {peer.name: peer for row in rows for peer in row.peers}
    wanted = (
        set(known) if compare is None else {name for name in compare.split(",") if name not in {"", "none"}}
    )
    for name in sorted(wanted):
        if name not in known:
            listed = ", ".join(f"`{peer}`" for peer in sorted(known)) or "none"
            raise InputError(f"no row of these suites has a peer `{name}`: there are {listed}")
        if known[name].installed_version() is None:
            if compare is not None:
                raise InputError(f"the peer `{name}` is not installed: `pip install {name}`")
            output.note(f"the peer {name} is not installed, so it is left out: pip install {name}")
    return {
        f"{row.suite}/{row.name}": [
            peer for peer in row.peers if peer.name in wanted and peer.installed_version() is not None
        ]
        for row in rows
    }


def _measure(
    rows: Sequence[bench.Row],
    peers: dict[str, list[bench.Peer]],
    context: bench.BenchContext,
    machine: Machine,
) -> Report:
    """Runs every row. One that breaks does not stop the others."""
    steps = sum((row.runs + 1) * (1 + len(peers[f"{row.suite}/{row.name}"])) for row in rows)
    results, unmeasured = [], []
    with output.Progress("measuring", steps) as progress:
        for row in rows:
            label = f"{row.suite}: {row.name}"
            try:
                beside = peers[f"{row.suite}/{row.name}"]
                step = partial(progress.advance, note=label)
                results.append(bench.run_row(row, context, beside, step))
            except bench.NotMeasured as reason:
                unmeasured.append(Unmeasured(row.suite, row.name, str(reason)))
            except SymbiError as error:
                unmeasured.append(Unmeasured(row.suite, row.name, f"{error.code}: {error}", fault=True))
            except Exception as error:  # noqa: BLE001 - one broken row must not cost the figures of the others
                broke = f"{type(error).__name__}: {error}"
                unmeasured.append(Unmeasured(row.suite, row.name, broke, fault=True))
    return Report(machine, tuple(results), tuple(unmeasured), context.quick)


def _write(report: Report, json_file: str | None, html_file: str | None) -> None:
    if json_file == "-":
        output.print_json(report.as_json())
    elif json_file is not None:
        write_whole(Path(json_file), json.dumps(report.as_json(), indent=2) + "\n")
    if html_file is not None:
        write_whole(Path(html_file), report.as_html())
