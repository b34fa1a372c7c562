"""A report as one HTML file: nothing is loaded, nothing runs, every text in it is escaped; readable and printable.

Why strict: resources and names come from agents and documents that nobody has vouched for.
Not here: what is told (`symbi.audit.report`).

Invariants
- RH1 no text of a trail stands in the page unescaped.
- RH2 the page names no outside resource and holds no script; its policy would refuse both.
- RH3 of a trail that does not hold the first thing that is said is that it does not.
"""

from __future__ import annotations

import base64
import json
import re
from importlib.resources import files
from typing import TYPE_CHECKING

from symbi.audit.report_chart import chart
from symbi.audit.verification import reach_of
from symbi.sheet import escaped as _e
from symbi.sheet import sheet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from symbi.audit.event import AuditEvent
    from symbi.audit.report import Finding, Judged, Report

__all__ = ["page_of"]

_WORDS = {"evidence": "evidence", "partial": "in part", "gap": "gap", "unverified": "not verified"}
_ID = re.compile(r"[^A-Za-z0-9]+")


def page_of(report: Report) -> str:
    """The whole page."""
    style = files("symbi.audit").joinpath("report.css").read_text("utf-8")
    return sheet(f"{report.framework.title}: report on {report.log_id[:8]}", style, "\n".join(_body(report)))


def _body(report: Report) -> Iterator[str]:
    if not report.verified:  # RH3
        yield (
            '<p class="banner broken" role="alert"><strong>This trail does not verify.</strong> '
            f"{_e(report.broken[:1].upper() + report.broken[1:])}. Nothing in it is evidence of anything; "
            "no control below was judged.</p>"
        )
    yield '<header><div class="wrap">'
    yield '<p class="brand">symbi <span>compliance report</span></p>'
    yield f"<h1>{_e(report.framework.title)}</h1>"
    yield f'<p class="sub">{_e(report.framework.edition)}</p>'
    yield f'<p class="sub">{_when(report.since)} to {_when(report.until)}</p>'
    yield '</div></header><main class="wrap">'
    yield from _summary(report)
    if report.series:
        yield '<section><h2>Activity over time</h2><p class="lead">Records of the period, and those that refused.</p>'
        kinds = {"records": "activity", "refused": "denials"}
        for series in report.series:
            total = f"{sum(series.counts):,}"
            yield f"<figure><figcaption>{_e(series.name)} <b>{total}</b></figcaption>"
            yield chart(series.name, series.counts, report.since, report.until, kinds[series.name])
            yield "</figure>"
        yield "</section>"
    yield "<section><h2>Controls</h2>"
    if report.framework.notice:
        yield f'<p class="lead">{_e(report.framework.notice)}</p>'
    yield from _table(report)
    for one in report.controls:
        yield from _control(report, one)
    yield "</section>"
    if report.verified:
        yield from _events(report)
    yield from _how(report)
    made = f"Made {_when(report.made)} over {_e(report.trail)}"
    yield f'</main><footer class="wrap">{made}.</footer>'


def _when(time: object) -> str:
    return _e(f"{time:%Y-%m-%d %H:%M:%S} UTC")


def _summary(report: Report) -> Iterator[str]:
    count = {name: sum(one.status == name for one in report.controls) for name in _WORDS}
    found = report.verification
    if found is None:
        tiles = [
            ("gap", "not verified", "the trail"),
            ("gap", f"{count['unverified']}", "controls not judged"),
        ]
    else:
        tiles = [
            (
                "proof",
                f"{found.records:,}",
                f"records verified: {reach_of(found.records, found.level, found.complete_to)}",
            ),
            ("evidence", f"{count['evidence']}", "controls with evidence"),
            ("partial", f"{count['partial']}", "with a part of it"),
            ("gap", f"{count['gap']}", "gaps"),
        ]
    yield '<div class="tiles">'
    for kind, number, words in tiles:
        yield f'<div class="tile {kind}"><b>{_e(number)}</b><span>{_e(words)}</span></div>'
    yield "</div>"
    if found is None:
        return
    said = {
        "consistent": "Every record agrees with the others. Who signed them was not checked: "
        "no fingerprint was given.",
        "authentic": "Every record agrees with the others and is signed with the key that was expected.",
        "complete": f"The first {found.complete_to:,} records are those of a checkpoint that was kept elsewhere: "
        "none was cut off, changed or signed anew.",
    }[found.level]
    if found.level == "complete" and found.lacks:
        said += f" Not more than that: {found.lacks}."
    yield f'<p class="lead verdict">{_e(said)} Log <code>{_e(report.log_id)}</code>, key '
    yield f"<code>{_e(report.fingerprint)}</code>, head <code>{_e(found.head)}</code>.</p>"


def _anchor(control: str) -> str:
    return "c-" + _ID.sub("-", control).strip("-")


def _table(report: Report) -> Iterator[str]:
    yield '<div class="scroll"><table><thead><tr><th>control</th><th></th><th>status</th></tr></thead><tbody>'
    for one in report.controls:
        yield (
            f'<tr><td><a href="#{_anchor(one.control.id)}">{_e(one.control.id)}</a></td>'
            f'<td>{_e(one.control.title)}</td><td class="{one.status}">{_WORDS[one.status]}</td></tr>'
        )
    yield "</tbody></table></div>"


def _control(report: Report, one: Judged) -> Iterator[str]:
    control = one.control
    yield f'<article class="card {one.status}" id="{_anchor(control.id)}">'
    yield f'<h3><span class="id">{_e(control.id)}</span> {_e(control.title)}'
    yield f'<span class="chip {one.status}">{_WORDS[one.status]}</span></h3>'
    if control.asks:
        yield f'<p class="asks">{_e(control.asks)}</p>'
    if one.status == "unverified":
        yield '<p class="asks">Not judged: the trail does not verify.</p></article>'
        return
    yield "<ul>"
    for finding in one.findings:
        kind = _kind(finding)
        sought = '<b class="lack">not found:</b> ' if kind == "missing" else ""
        yield f'<li class="{kind}">{sought}{_e(finding.says)}{_links(report, finding)}</li>'
    yield "</ul></article>"


def _kind(finding: Finding) -> str:
    return "found" if finding.found else "missing" if finding.required else "none"


def _links(report: Report, finding: Finding) -> str:
    if not finding.found:
        return ""
    known = [seq for seq in finding.events if seq in report.events]
    if not known:
        return ""
    links = [f'<a href="#e-{seq}">#{seq}</a>' for seq in known]
    more = (finding.count or len(known)) > len(known)
    half = (len(links) + 1) // 2
    said = [*links[:half], "…", *links[half:]] if more else links
    return f' <span class="links">{" ".join(said)}</span>'


def _events(report: Report) -> Iterator[str]:
    yield '<section class="events"><h2>The events that are named, with their proofs</h2>'
    yield (
        '<p class="lead">Each is a line of the trail as it was signed. A proof leads from it to the checkpoint, and is '
        "checked without the trail: save it and run <code>symbi audit verify --proof FILE</code>.</p>"
    )
    for seq, event in sorted(report.events.items()):
        yield from _event(report, seq, event)
    yield "</section>"


def _event(report: Report, seq: int, event: AuditEvent) -> Iterator[str]:
    proof = report.proofs.get(seq)
    fields = [
        ("time", f"{event.timestamp:%Y-%m-%d %H:%M:%S.%f} UTC"),
        ("event id", event.event_id),
        ("agent", event.agent_id),
        ("action", event.details.get("action")),
        ("resource", event.details.get("resource")),
        ("decision", event.decision),
        ("rules", ", ".join(map(str, event.details.get("rules") or ()))),
        ("labels", ", ".join(event.labels)),
    ]
    yield f'<article class="event" id="e-{seq}"><h3>#{seq} <span>{_e(event.event_type)}</span></h3><dl>'
    for name, value in fields:
        if value:
            yield f"<dt>{name}</dt><dd>{_e(value)}</dd>"
    yield "</dl>"
    line = event.line or json.dumps(event.to_json(), ensure_ascii=False)
    yield f"<details><summary>the line, as it was signed</summary><pre>{_e(line)}</pre></details>"
    if proof is None:
        yield '<p class="lack">No checkpoint covers it yet: <code>symbi audit checkpoint</code> makes one.</p>'
    else:
        data = base64.b64encode(proof.encode()).decode()
        yield (
            f"<details><summary>proof of inclusion, {len(proof.encode()):,} bytes</summary>"
            f"<pre>{_e(proof)}</pre></details>"
            f'<p class="save"><a download="event-{seq}.tlog-proof" '
            f'href="data:application/octet-stream;base64,{data}">save the proof</a></p>'
        )
    yield "</article>"


def _how(report: Report) -> Iterator[str]:
    yield "<section><h2>How this was made</h2>"
    yield (
        '<p class="lead">Every record of the trail was read once, verified, and held against the queries of the '
        "framework. A control has evidence only where everything that it requires was found; a sentence counts "
        "records of the period, and names the first and the last of them. Sentences that are not required inform "
        "and decide nothing. Whether evidence is sufficient is for a person to judge.</p>"
    )
    if report.checkpoint:
        yield "<details><summary>the checkpoint that the proofs lead to</summary>"
        yield f"<pre>{_e(report.checkpoint)}</pre></details>"
    yield "</section>"
