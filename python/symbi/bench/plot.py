"""Curves as inline SVG: both axes logarithmic, readable without colour, complete in itself.

Why our own: a chart of a few curves is a page of code, and the report may load nothing.
Not here: which rows are drawn together (`report`), colours (the report's style sheet: classes `s0` to `s7`).

Invariants
- BC1 each curve differs by mark and by dash as well as by colour, and is named at its end.
- BC2 each point says its value in words, for those who cannot see the line.
"""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["STYLE", "Curve", "bars", "chart"]

_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 100, 200, 18, 52
_LABEL_GAP = 17  # between the names of two curves that end close together
_STEPS = (1, 2, 5)
_BAR, _BAR_GAP = 22, 10  # height of a bar, and between two
_LABELS_MAX = 9  # more ticks than this on an axis: only the powers of ten are named
_DASHES = ("", "7 4", "2 4", "9 3 2 3", "12 5", "1 3", "4 2 1 2 1 2", "14 3 4 3")
_STYLES = len(_DASHES)

# Okabe and Ito's colours, which colour-blind people can tell apart; lighter ones on a dark page.
STYLE = """
.chart { max-width: 100%; height: auto; overflow: visible }
.chart text { font: 13px system-ui, sans-serif; fill: currentColor }
.chart .grid { stroke: currentColor; stroke-opacity: .16 }
.chart .axis { stroke: currentColor; stroke-opacity: .55 }
.chart .line { fill: none; stroke-width: 2.2 }
.chart .ours { stroke-width: 3.4 }
.chart .mark { stroke-width: 1.6 }
.chart .bar { fill: var(--c) }
.s0 { --c: #0060a8 } .s1 { --c: #b34700 } .s2 { --c: #00785a }
.s3 { --c: #8f3f75 } .s4 { --c: #7a6a00 } .s5 { --c: #555 }
.s6 { --c: #2a2aa5 } .s7 { --c: #a3123a }
@media (prefers-color-scheme: dark) {
.s0 { --c: #6db9f2 } .s1 { --c: #ff9a52 } .s2 { --c: #3fd0a4 }
.s3 { --c: #e59fcb } .s4 { --c: #eadb52 } .s5 { --c: #bbb }
.s6 { --c: #a9a9ff } .s7 { --c: #ff8fa8 }
}
.chart .line { stroke: var(--c) } .chart .mark { stroke: var(--c); fill: var(--c) } .chart .name { fill: var(--c) }
.chart .name { font-weight: 600 }
"""


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of one program, from left to right; all above 0."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class _Axis:
    """A logarithmic axis from `low` to `high`, drawn from pixel `begin` to pixel `end`."""

    low: float
    high: float
    begin: float
    end: float

    @classmethod
    def over(cls, values: Sequence[float], begin: float, end: float) -> _Axis:
        low, high = _round(min(values), up=False), _round(max(values), up=True)
        if low == high:
            low, high = low / 2, high * 2
        return cls(low, high, begin, end)

    def at(self, value: float) -> float:
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.begin + share * (self.end - self.begin)

    def ticks(self) -> list[float]:
        powers = range(math.floor(math.log10(self.low)) - 1, math.ceil(math.log10(self.high)) + 1)
        all_ticks = [step * 10.0**power for power in powers for step in _STEPS]
        return [tick for tick in all_ticks if self.low * 0.999 <= tick <= self.high * 1.001]

    def named(self) -> list[float]:
        ticks = self.ticks()
        return ticks if len(ticks) <= _LABELS_MAX else [tick for tick in ticks if _is_power(tick)]


def chart(
    title: str,
    x_label: str,
    y_label: str,
    curves: Sequence[Curve],
    show: Callable[[float], str],
    *,
    complement: bool = False,
) -> str:
    """The curves as one `<svg>`; the first is ours and is drawn strongest.

    Args:
        title: Says what is drawn, for a screen reader.
        x_label: With its unit; so is `y_label`.
        y_label: Stands on the left.
        curves: At least one with at least one point.
        show: A value in words.
        complement: `x` is what is missing to 1: the axis says 1 - x, and less is missing the further right.
    """
    points = [point for curve in curves for point in curve.points]
    ends = (_WIDTH - _RIGHT, _LEFT) if complement else (_LEFT, _WIDTH - _RIGHT)
    across = _Axis.over([x for x, _ in points], *ends)
    said = (lambda x: f"{1 - x:g}") if complement else _tick
    upwards = _Axis.over([y for _, y in points], _HEIGHT - _BOTTOM, _TOP)
    where = said if complement else show
    told = "; ".join(
        f"{curve.name}: {show(curve.points[-1][1])} at {where(curve.points[-1][0])}" for curve in curves
    )
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img">',
        f"<title>{html.escape(title)}</title><desc>{html.escape(told)}</desc>",
        *_frame(across, upwards, x_label, y_label, said),
    ]
    for place, curve in enumerate(curves):
        parts += _curve(place, curve, across, upwards, show, where)
    parts += _names(curves, across, upwards)
    return "".join((*parts, "</svg>"))


def bars(title: str, values: Sequence[tuple[str, float]], show: Callable[[float], str]) -> str:
    """Lengths from zero, one below the other; the first is ours. Names and values stand beside them (BC1, BC2).

    Args:
        title: Says what is drawn, with its unit.
        values: Names and values, 0 or more.
        show: A value in words.
    """
    longest = max((value for _, value in values), default=0) or 1
    height = len(values) * (_BAR + _BAR_GAP)
    told = "; ".join(f"{name}: {show(value)}" for name, value in values)
    parts = [
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" role="img">',
        f"<title>{html.escape(title)}</title><desc>{html.escape(told)}</desc>",
    ]
    begin = _LEFT + 40
    for place, (name, value) in enumerate(values):
        top = place * (_BAR + _BAR_GAP)
        length = max(1.0, value / longest * (_WIDTH - begin - 100))
        middle = top + _BAR / 2 + 5
        rectangle = f'<rect class="bar" x="{begin}" y="{top}" width="{length:.1f}" height="{_BAR}" rx="2"/>'
        parts.append(f'<g class="s{0 if place == 0 else 5}">{rectangle}</g>')
        parts.append(_text(begin - 8, middle, name, "end"))
        parts.append(_text(begin + length + 8, middle, show(value), "start"))
    return "".join((*parts, "</svg>"))


def _frame(
    across: _Axis, upwards: _Axis, x_label: str, y_label: str, said: Callable[[float], str]
) -> list[str]:
    left, right = sorted((across.begin, across.end))
    top, bottom = upwards.end, upwards.begin
    parts = [
        *(_line("grid", across.at(tick), top, across.at(tick), bottom) for tick in across.ticks()),
        *(_line("grid", left, upwards.at(tick), right, upwards.at(tick)) for tick in upwards.ticks()),
        *(_text(across.at(tick), bottom + 20, said(tick), "middle") for tick in across.named()),
        *(_text(left - 8, upwards.at(tick) + 4, _tick(tick), "end") for tick in upwards.named()),
    ]
    parts += [_line("axis", left, bottom, right, bottom), _line("axis", left, top, left, bottom)]
    parts.append(_text((left + right) / 2, _HEIGHT - 10, x_label, "middle"))
    middle = (top + bottom) / 2
    turned = f' transform="rotate(-90 16 {middle:.1f})"'
    return [*parts, _text(16, middle, y_label, "middle", turned)]


def _curve(  # noqa: PLR0917 - one curve, and all that says where it stands
    place: int,
    curve: Curve,
    across: _Axis,
    upwards: _Axis,
    show: Callable[[float], str],
    where: Callable[[float], str],
) -> list[str]:
    places = [(across.at(x), upwards.at(y)) for x, y in curve.points]
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    dash = f' stroke-dasharray="{_DASHES[place % _STYLES]}"' if place % _STYLES else ""
    kind = "line ours" if place == 0 else "line"
    marks = [
        f'<g class="mark"><title>{html.escape(f"{curve.name}, {where(x)}: {show(y)}")}</title>{_mark(place, *at)}</g>'
        for (x, y), at in zip(curve.points, places, strict=True)
    ]
    return [f'<g class="s{place % _STYLES}"><path class="{kind}" d="{path}"{dash}/>', *marks, "</g>"]


def _mark(place: int, x: float, y: float) -> str:
    """A shape of its own for each curve (BC1)."""
    size = 4.5
    corners = (
        (),
        ((-size, -size), (size, -size), (size, size), (-size, size)),
        ((0, -size - 1), (size + 1, size), (-size - 1, size)),
        ((0, -size - 1.5), (size + 1.5, 0), (0, size + 1.5), (-size - 1.5, 0)),
        ((0, size + 1), (size + 1, -size), (-size - 1, -size)),
        ((-size, -2), (size, -2), (size, 2), (-size, 2)),
        ((-2, -size - 1), (2, -size - 1), (2, size + 1), (-2, size + 1)),
        ((-size, -size), (size, -size), (-size, size), (size, size)),
    )[place % _STYLES]
    if not corners:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{size}"/>'
    return f'<polygon points="{" ".join(f"{x + dx:.1f},{y + dy:.1f}" for dx, dy in corners)}"/>'


def _names(curves: Sequence[Curve], across: _Axis, upwards: _Axis) -> list[str]:
    """Each name at the end of its curve, pushed down where two would overlap (BC1)."""
    ends = sorted((upwards.at(curve.points[-1][1]), place) for place, curve in enumerate(curves))
    parts, lowest = [], -math.inf
    for y, place in ends:
        lowest = max(y, lowest + _LABEL_GAP)
        x = across.at(curves[place].points[-1][0]) + 12
        name = html.escape(curves[place].name)
        parts.append(f'<text class="name s{place % _STYLES}" x="{x:.1f}" y="{lowest + 4:.1f}">{name}</text>')
    return parts


def _round(value: float, *, up: bool) -> float:
    """The nearest of 1, 2, 5 times a power of ten, at or beyond `value`."""
    power = 10.0 ** math.floor(math.log10(value))
    steps = [step * power for step in (*_STEPS, 10)]
    if up:
        return next(step for step in steps if step >= value * 0.999)
    return next(step for step in reversed(steps) if step <= value * 1.001)


def _is_power(tick: float) -> bool:
    return math.isclose(math.log10(tick), round(math.log10(tick)), abs_tol=1e-9)


def _tick(tick: float) -> str:
    return f"{tick:,.0f}" if tick >= 1 else f"{tick:g}"


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, words: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more}>{html.escape(words)}</text>'
