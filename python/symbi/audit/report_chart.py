"""Counts over time as inline SVG: bars, a scale, times. Nothing is loaded, and the numbers stand in it as text.

Why bars by ourselves: ADR-0117. Here both axes are linear, because counts in equal parts of time are compared by
length.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from html import escape

__all__ = ["chart"]

_WIDTH, _HEIGHT = 920, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 8, 14, 30
_LABELS = 6
_STEPS = (1, 2, 5)


def _ceiling(top: int) -> tuple[int, int]:
    """A round number at or above `top`, and the step of its scale."""
    power = 1
    while True:
        for step in _STEPS:
            if step * power * 4 >= top:
                marks = -(-max(top, 1) // (step * power))
                return marks * step * power, step * power
        power *= 10


def _time(time: datetime, span: timedelta) -> str:
    if span < timedelta(seconds=20):
        return time.strftime("%H:%M:%S.%f")[:-5]
    if span < timedelta(minutes=2):
        return time.strftime("%H:%M:%S")
    if span < timedelta(days=2):
        return time.strftime("%d %b %H:%M")
    return time.strftime("%d %b %Y")


def chart(name: str, counts: tuple[int, ...], since: datetime, until: datetime, kind: str) -> str:
    """One chart. `kind` is its class: it says the colour."""
    top, step = _ceiling(max(counts, default=0))
    wide, high = _WIDTH - _LEFT - _RIGHT, _HEIGHT - _TOP - _BOTTOM
    base = _TOP + high
    said = f"{name}: {sum(counts):,} from {since:%Y-%m-%d %H:%M:%S} to {until:%Y-%m-%d %H:%M:%S} UTC"
    out = [
        f'<svg class="chart {kind}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(said)}">',
        f"<title>{escape(said)}</title>",
    ]
    for mark in range(0, top + 1, step):
        y = base - mark / top * high
        out.append(f'<line class="grid" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}"/>')
        out.append(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{mark:,}</text>')
    each = wide / max(len(counts), 1)
    span = until - since
    for place, count in enumerate(counts):
        if not count:
            continue
        tall = max(count / top * high, 1.5)  # one of thousands is still seen
        at = since + span * place / len(counts)
        out.append(
            f'<rect x="{_LEFT + place * each + each * 0.1:.1f}" y="{base - tall:.1f}" width="{each * 0.8:.1f}" '
            f'height="{tall:.1f}"><title>{count:,} from {at:%Y-%m-%d %H:%M:%S} UTC</title></rect>'
        )
    out.append(f'<line class="axis" x1="{_LEFT}" y1="{base}" x2="{_WIDTH - _RIGHT}" y2="{base}"/>')
    for number in range(_LABELS):
        x = _LEFT + wide * number / (_LABELS - 1)
        anchor = "start" if number == 0 else "end" if number == _LABELS - 1 else "middle"
        words = _time(since + span * number / (_LABELS - 1), span)
        out.append(f'<text x="{x:.1f}" y="{base + 19}" text-anchor="{anchor}">{words}</text>')
    out.append("</svg>")
    return "".join(out)
