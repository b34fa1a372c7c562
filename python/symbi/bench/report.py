"""How measured rows are shown: a table, the JSON of `symbi bench --json`, one HTML page.

Why three from one place: the same words and the same judgement everywhere. A target is judged only on a
release build (BM1); elsewhere the figure stands there, unjudged, under a loud line.
Not here: measuring (`frame`).

Invariants
- BR1 the machine comes first.
- BR2 the HTML page loads nothing: no script, no font, no image from anywhere.
- BR3 a chart draws figures of the table and no others.
"""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from symbi.bench import plot

if TYPE_CHECKING:
    from collections.abc import Sequence

    from symbi.bench.frame import PeerResult, Result
    from symbi.bench.machine import Machine

__all__ = ["HEADERS", "RIGHT", "Report", "Unmeasured", "figure"]

HEADERS = (
    "suite",
    "row",
    "value",
    "unit",
    "target",
    "met",
    "p50",
    "p99",
    "p99.9",
    "peers (ours over theirs)",
)
RIGHT = (2, 4, 6, 7, 8)  # columns of numbers

NOT_RELEASE = "these are no figures: the native core is not a release build; `make bench` builds one"


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """A row that has no figure, and why (BF3). `fault`: it broke, rather than lacked something."""

    suite: str
    name: str
    reason: str
    fault: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """One run of `symbi bench`."""

    machine: Machine
    results: tuple[Result, ...]
    unmeasured: tuple[Unmeasured, ...]
    quick: bool

    def met(self, result: Result) -> bool | None:
        """Whether the target was met; `None` without target, and on a build that is not for figures."""
        return result.met if self.machine.presentable else None

    def as_json(self) -> dict[str, object]:
        """As `symbi bench --json` writes it."""
        return {
            "machine": self.machine.as_json(),
            "quick": self.quick,
            "rows": [self._row(result) for result in self.results],
            "unmeasured": [
                {"suite": row.suite, "name": row.name, "reason": row.reason} for row in self.unmeasured
            ],
        }

    def _row(self, result: Result) -> dict[str, object]:
        row = result.row
        return {
            "suite": row.suite,
            "name": row.name,
            "unit": row.unit,
            "value": result.value,
            "better": row.better,
            "target": row.target,
            "met": self.met(result),
            "p50": result.p50,
            "p99": result.p99,
            "p999": result.p999,
            "runs": len(result.values),
            "values": list(result.values),
            "durability": row.durability,
            "provider": row.provider,
            "peers": [
                {
                    "name": peer.name,
                    "version": peer.version,
                    "value": peer.value,
                    "ratio": _finite(peer.ratio),
                }
                for peer in result.peers
            ],
        }

    def charts(self) -> dict[str, list[Result]]:
        """The rows that are drawn, by chart, in their order (BR3)."""
        found: dict[str, list[Result]] = {}
        for result in self.results:
            if (
                result.row.point is not None and result.value > 0
            ):  # a logarithmic axis has no place for nothing
                found.setdefault(result.row.point.chart, []).append(result)
        return found

    def cells(self) -> list[tuple[str, ...]]:
        """The table's rows, one cell a header."""
        return [self._cells(result) for result in self.results]

    def _cells(self, result: Result) -> tuple[str, ...]:
        row, met = result.row, self.met(result)
        sign = "≥" if row.better == "higher" else "≤"
        return (
            row.suite,
            row.name,
            figure(result.value),
            row.unit,
            "" if row.target is None else f"{sign} {figure(row.target)}",
            "" if met is None else "yes" if met else "MISSED",
            *(_percentile(row.unit, value) for value in (result.p50, result.p99, result.p999)),
            ", ".join(_peer(peer) for peer in result.peers),
        )

    def as_html(self) -> str:
        """One page, complete in itself (BR2)."""
        body = "".join(_html_row(cells) for cells in self.cells())
        missing = "".join(
            f"<li>{html.escape(row.suite)}: {html.escape(row.name)}: {html.escape(row.reason)}</li>"
            for row in self.unmeasured
        )
        return _PAGE.format(
            style=plot.STYLE,
            charts="".join(_chart(title, results) for title, results in self.charts().items())
            + "".join(_bars(result) for result in self.results if result.row.bars),
            machine=html.escape("\n".join(self.machine.lines())),
            loud="" if self.machine.presentable else f'<p class="loud">{html.escape(NOT_RELEASE)}</p>',
            head="".join(f"<th>{html.escape(header)}</th>" for header in HEADERS),
            body=body,
            missing=f"<h2>not measured</h2><ul>{missing}</ul>" if missing else "",
        )


def figure(value: float) -> str:
    """Three digits that count, thousands apart: `177,000`, `4.31`, `0.0620`."""
    if value == 0 or not math.isfinite(value):
        return str(value)
    size = abs(value)
    if size >= 100:
        return f"{value:,.0f}"
    decimals = 1 if size >= 10 else 2 if size >= 1 else 4
    return f"{value:.{decimals}f}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _percentile(unit: str, value: float | None) -> str:
    """In the row's unit; of a rate the time of one, which says its own."""
    if value is None:
        return ""
    return f"{figure(value)} µs" if unit.endswith("/s") else figure(value)


def _peer(peer: PeerResult) -> str:
    return f"{peer.name} {peer.version}: {figure(peer.value)} ({figure(peer.ratio)} times)"


def _html_row(cells: tuple[str, ...]) -> str:
    kind = ' class="missed"' if cells[5] == "MISSED" else ""
    columns = "".join(
        f"<td{' class=number' if place in RIGHT else ''}>{html.escape(cell)}</td>"
        for place, cell in enumerate(cells)
    )
    return f"<tr{kind}>{columns}</tr>"


def _chart(title: str, results: Sequence[Result]) -> str:
    """One chart of the rows of that title: our curve, then one for each peer."""
    ours: list[tuple[float, float]] = []
    theirs: dict[str, list[tuple[float, float]]] = {}
    label, unit, complement = "", "", False
    for result in results:
        if point := result.row.point:
            label, complement = point.x_label, point.complement
            unit = f"{result.row.unit}, {result.row.better} is better"
            ours.append((point.x, result.value))
            for peer in result.peers:
                if peer.value > 0:
                    theirs.setdefault(peer.name, []).append((point.x, peer.value))
    curves = [
        plot.Curve(name, tuple(sorted(points, reverse=complement)))
        for name, points in {"symbi": ours, **theirs}.items()
    ]
    drawn = plot.chart(title, label, unit, curves, figure, complement=complement)
    return f"<figure><figcaption>{html.escape(title)}</figcaption>{drawn}</figure>"


def _bars(result: Result) -> str:
    """A row beside its peers, as lengths (BR3)."""
    row = result.row
    title = f"{row.bars}, {row.unit}, {row.better} is better: {row.name}"
    values = [("symbi", result.value), *((peer.name, peer.value) for peer in result.peers)]
    drawn = plot.bars(title, values, figure)
    return f"<figure><figcaption>{html.escape(title)}</figcaption>{drawn}</figure>"


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>symbi bench</title>
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark }}
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem }}
pre {{ overflow-x: auto }}
table {{ border-collapse: collapse; width: 100% }}
th, td {{ padding: .3rem .6rem; text-align: left; border-bottom: 1px solid #8884; vertical-align: top }}
.number {{ text-align: right; font-variant-numeric: tabular-nums }}
.missed td {{ background: #c0392b22 }}
figure {{ margin: 2rem 0 }}
figcaption {{ font-weight: 600; margin-bottom: .4rem }}
.loud {{ padding: .6rem 1rem; border-left: 4px solid #c0392b; font-weight: 600 }}
{style}</style></head><body>
<h1>symbi bench</h1>
<pre>{machine}</pre>
{loud}
{charts}
<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>
{missing}
</body></html>
"""
