"""The demo as one HTML file: nothing is loaded, nothing runs, and every text in it is escaped.

Why strict: names and texts come from files that nobody has vouched for, and the page is opened in a browser that
is logged in elsewhere. The content security policy allows one style sheet, by its digest, and nothing else.
Not here: what is told (`result`).

Invariants
- DH1 no text of a file, a path or an agent stands in the page unescaped.
- DH2 the page names no outside resource and holds no script; its policy would refuse both.
"""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING

from symbi.demo.left_out import counted, not_read
from symbi.demo.screen import limits_text
from symbi.sheet import escaped as _e
from symbi.sheet import sheet

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from symbi.demo.result import AgentReport, PartReport, Result, Section

__all__ = ["page_of"]

_MARK = re.compile(r"\[redacted:([a-z0-9_,.-]+)\]")
_WORD = {"allow": "sent", "redact": "sent, redacted", "deny": "refused"}


def page_of(result: Result) -> str:
    """The whole page."""
    style = files("symbi.demo").joinpath("page.css").read_text("utf-8")
    return sheet(f"symbi demo {result.number}", style, "\n".join(_body(result)))


def _body(result: Result) -> Iterator[str]:
    kernel = result.agents[0].sandbox.kernel
    source = "the bundled clinic" if result.bundled else result.source
    now = datetime.now(tz=UTC).strftime("%Y-%m-%d %H:%M UTC")
    yield '<header><div class="wrap">'
    yield f'<p class="brand">symbi <span>demo report {result.number}</span></p>'
    yield f"<h1>{_e(_headline(result))}</h1>"
    yield (
        f'<p class="sub">{counted(result.reading.files, "files")} of <b>{_e(source)}</b>, read and answered by four '
        f"agents in <b>{_e(result.tier)}</b> sandboxes ({_e(kernel)}). {_e(now)}.</p>"
    )
    yield '</div></header>\n<main class="wrap">'
    yield from (f'<p class="loud">{_e(text)}</p>' for text in result.loud)
    yield from _tiles(result)
    yield from _flow(result)
    yield '<section><h2>At the exit</h2><p class="lead">Every part of the report is a call of its own, decided '
    yield "by policy. What is shown would have been sent; a secret is known by place and digest only. Detectors know "
    yield "shapes and labelled fields, not meaning: a name in the middle of a sentence passes them.</p>"
    for number, section in enumerate(result.sections):
        yield from _section(section, folded=number == 0)  # the questions themselves are not the news
    yield "</section>"
    yield from _agents(result.agents)
    yield from _on_the_way(result)
    left_out = not_read(result.reading)
    if left_out:
        yield '<section><h2>What was left out</h2><ul class="plain">'
        yield from (f"<li>{_e(line)}</li>" for line in left_out)
        yield "</ul></section>"
    yield from _check(result)
    yield "</main>"
    yield (
        f'<footer class="wrap">Trail <code>{_e(result.log_id)}</code>, '
        f"key <code>{_e(result.fingerprint)}</code>. "
        "This page loads nothing and runs nothing; its text was escaped.</footer>"
    )


def _counts(result: Result) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for one in result.exits:
        counts[one.decision] += one.count
    return {word: counts[word] for word in ("allow", "redact", "deny")}


def _headline(result: Result) -> str:
    counts = _counts(result)
    if not any(counts.values()):
        return "Nothing was there to send"
    words = (("allow", "sent"), ("redact", "sent redacted"), ("deny", "refused"))
    told = [f"{counts[name]} {word}" for name, word in words if counts[name]]
    rest = ", ".join(told[:-1]) + (" and " if len(told) > 1 else "") + told[-1]
    return f"Of {sum(counts.values())} parts, {rest}"


def _tiles(result: Result) -> Iterator[str]:
    counts = _counts(result)
    tiles = (
        ("allow", counts["allow"], "parts sent as they are"),
        ("redact", counts["redact"], "parts sent without what is personal"),
        ("deny", counts["deny"], "parts refused"),
        ("proof", result.verified, f"records of the trail verify: {result.level}"),
    )
    yield '<div class="tiles">'
    for kind, number, text in tiles:
        yield f'<div class="tile {kind}"><b>{number}</b><span>{_e(text)}</span></div>'
    yield "</div>"


def _flow(result: Result) -> Iterator[str]:
    yield '<section><h2>The way of the data</h2><ol class="flow">'
    yield f"<li><b>files</b><span>{result.reading.files} read</span></li>"
    for agent in result.agents:
        counts = ", ".join(counted(count, name) for name, count in agent.counts.items())
        yield f'<li class="agent"><b>{_e(agent.name)}</b><span>{_e(agent.does)}</span>'
        yield f"<i>{_e(counts)}</i></li>"
    yield '<li class="gate"><b>policy</b><span>decides each part, records it first</span></li>'
    yield "<li><b>outbox</b><span>what would be sent</span></li></ol></section>"


def _section(section: Section, *, folded: bool) -> Iterator[str]:
    if folded:
        words = ", ".join(sorted({_WORD.get(part.outcome, part.outcome) for part in section.parts}))
        yield f'<details class="card"><summary>{_e(section.heading)}: {len(section.parts)} {_e(words)}</summary>'
    else:
        yield f'<div class="card"><h3>{_e(section.heading)}</h3>'
    if not section.parts:
        yield '<p class="none">Nothing in the files answers this.</p>'
    for part in section.parts:
        yield _part(part)
    yield "</details>" if folded else "</div>"


def _part(part: PartReport) -> str:
    if part.text:
        text = _MARK.sub(lambda found: f"<mark>{found[1].replace('_', ' ')}</mark>", _e(part.text))
    else:
        text = f'<span class="kept">{_e(part.title)}</span>'
    source = f'<span class="source">{_e(part.title)}</span>' if part.text and part.title else ""
    decision = part.decision
    foot = ""
    if decision is not None:
        message = f" “{_e(decision.message)}”" if decision.message else ""
        rule = f"rule <code>{_e(decision.rule)}</code>{message} · decision <code>{_e(decision.id)}</code>"
        foot = f'<p class="rule">{rule}</p>'
    word = _e(_WORD.get(part.outcome, part.outcome))
    return (
        f'<div class="part {_e(part.outcome)}"><span class="chip">{word}</span>'
        f'<div><p class="text">{text}{source}</p>{foot}</div></div>'
    )


def _agents(agents: Iterable[AgentReport]) -> Iterator[str]:
    yield '<section><h2>Where they ran</h2><p class="lead">Read back from the machine and from inside, not as '
    yield 'asked for.</p><div class="scroll"><table><thead><tr><th>agent</th><th>sandbox</th><th>start</th>'
    yield "<th>sees of this machine</th></tr></thead><tbody>"
    for agent in agents:
        sandbox = agent.sandbox
        mounts = "".join(f"<li>{_e(_mount(mount))}</li>" for mount in sandbox.mounts)
        seen = (
            f"<details><summary>{counted(len(sandbox.mounts), 'mounts')}</summary><ul>{mounts}</ul></details>"
        )
        weak = "".join(f'<div class="weak">not held: {_e(one)}</div>' for one in sandbox.unenforced)
        yield (
            f"<tr><td><b>{_e(agent.name)}</b></td><td>{_e(limits_text(sandbox))}{weak}</td>"
            f"<td>{sandbox.start_ms:.0f} ms</td><td>{seen}</td></tr>"
        )
    yield "</tbody></table></div></section>"


def _mount(text: str) -> str:
    """`source:target:ro` as the path inside and whether it can be written."""
    outer, _, mode = text.rpartition(":")
    half = len(outer) // 2
    same = outer[:half] == outer[half + 1 :]
    return f"{outer[:half] if same else outer} ({'read-only' if mode == 'ro' else 'writable'})"


def _on_the_way(result: Result) -> Iterator[str]:
    groups: Counter[tuple[str, str, str, str]] = Counter()
    for one in result.decisions:
        if one.action != "tool.call":
            groups[(one.agent, one.action, one.decision, one.rule)] += one.count
    yield '<section><h2>Decisions on the way</h2><div class="scroll"><table><thead><tr><th>who</th>'
    yield '<th>action</th><th>decision</th><th class="number">times</th><th>rule</th></tr></thead><tbody>'
    for (agent, action, decision, rule), count in groups.items():
        yield (
            f"<tr><td>{_e(agent)}</td><td><code>{_e(action)}</code></td>"
            f'<td class="{_e(decision)}">{_e(decision)}</td>'
            f'<td class="number">{count}</td><td><code>{_e(rule)}</code></td></tr>'
        )
    yield "</tbody></table></div></section>"


def _check(result: Result) -> Iterator[str]:
    yield "<section><h2>Check it yourself</h2>"
    for why, command in result.paste:
        yield f"<h3>{_e(why)}</h3><pre>{_e(command)}</pre>"
    rows = (("trail", result.trail), ("outbox", result.outbox), ("policies", result.policies))
    yield '<dl class="places">'
    yield from (f"<dt>{name}</dt><dd><code>{_e(path)}</code></dd>" for name, path in rows)
    yield "</dl></section>"
