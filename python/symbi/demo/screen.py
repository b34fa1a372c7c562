"""The demo as text for a terminal.

Why plain lines: they are pasted into mails and tickets. Text of files and agents passes `output.clean`.
Not here: what is told (`result`), colour and tables (`symbi.cli.output`).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from symbi.cli.output import clean, paint, table
from symbi.demo.left_out import counted, not_read

if TYPE_CHECKING:
    from collections.abc import Iterator

    from symbi.demo.result import Result, SandboxReport

__all__ = ["limits_text", "text_of"]

_STYLE = {"allow": "green", "redact": "yellow", "deny": "red"}
_TEXT_CHARS = 84
"""A part's text in a line; the page has the whole."""


def text_of(result: Result) -> str:
    """All of it, ready to be written."""
    return "\n".join(_lines(result)) + "\n"


def _lines(result: Result) -> Iterator[str]:
    kernel = result.agents[0].sandbox.kernel
    files = "the bundled clinic" if result.bundled else result.source
    tier = f"sandboxes of tier {result.tier} ({clean(kernel)})"
    yield paint(f"symbi demo: {counted(result.reading.files, 'files')} of {clean(files)}, {tier}", "bold")
    for loud in result.loud:
        yield f"  {paint('note', 'yellow')}: {clean(loud)}"
    yield ""
    yield paint("what each agent did", "bold")
    for agent in result.agents:
        counts = ", ".join(counted(count, name) for name, count in agent.counts.items())
        yield f"  {agent.name:<10} {clean(agent.does)}: {clean(counts)}"
        yield f"  {'':<10} {clean(limits_text(agent.sandbox))}"
    yield ""
    yield paint("decisions on the way", "bold")
    yield from _indented(_grouped(result))
    yield ""
    yield paint("decisions at the exit, part by part", "bold")
    for section in result.sections:
        yield f"  {clean(section.heading)}"
        if not section.parts:
            yield "    (nothing was found)"
        for part in section.parts:
            rule = part.decision.rule if part.decision is not None else "-"
            text = part.text or f"[not sent] {part.title}"
            outcome = paint(f"{part.outcome:<6}", _STYLE.get(part.outcome, "dim"))
            yield f"    {outcome} {clean(rule):<31} {_cut(text)}"
    yield ""
    yield from _refusals(result)
    left_out = not_read(result.reading)
    if left_out:
        yield paint("what was left out", "bold")
        yield from (f"  {clean(line)}" for line in left_out)
        yield ""
    yield f"trail      {clean(result.trail)}"
    yield f"           {result.verified} records verify: {result.level}, key {result.fingerprint}"
    yield f"report     {clean(result.report)}"
    yield f"outbox     {clean(result.outbox)}  (what would have been sent)"
    yield f"policies   {clean(result.policies)}  (yours to change)"
    yield ""
    yield paint("to paste", "bold")
    for why, command in result.paste:
        yield f"  # {clean(why)}"
        yield f"  {clean(command)}"


def _grouped(result: Result) -> str:
    groups: Counter[tuple[str, str, str, str]] = Counter()
    for one in result.decisions:
        if one.action != "tool.call":
            groups[(one.agent, one.action, one.decision, one.rule)] += one.count
    rows = [
        (agent, action, decision, count, rule) for (agent, action, decision, rule), count in groups.items()
    ]
    return table(("who", "action", "decision", "times", "rule"), rows, right=(3,))


def _refusals(result: Result) -> Iterator[str]:
    refused = [one for one in result.decisions if one.decision == "deny"]
    if not refused:
        return
    yield paint("refused", "bold")
    for one in refused:
        times = f" ({one.count} times)" if one.count > 1 else ""
        what = clean(f"{one.agent} {one.action} {one.resource}{times}")
        yield f"  decision {one.id}: {what}: {clean(one.message)}"
    yield ""


def limits_text(sandbox: SandboxReport) -> str:
    """The sandbox in one line: as it was read back, not as it was asked for."""
    limits = sandbox.limits
    parts = [f"{sandbox.tier}: {sandbox.kernel}"]
    if "memory_bytes" in limits:
        parts.append(f"{limits['memory_bytes'] >> 20} MiB")
    cores = limits.get("cpu_millicores", limits.get("cpus", 0) * 1000)
    if cores:
        parts.append(f"{cores / 1000:g} core" + ("s" if cores > 1000 else ""))
    processes = limits.get("pids", limits.get("processes"))
    if processes is not None:
        parts.append(f"{processes} process" + ("es" if processes != 1 else ""))
    parts.append(f"network {sandbox.network}")
    if sandbox.user is not None:
        parts.append(f"user {sandbox.user}, no capabilities")
    return ", ".join(parts)


def _indented(text: str) -> Iterator[str]:
    return (f"  {line}" for line in text.splitlines())


def _cut(text: str) -> str:
    plain = clean(text)
    return plain if len(plain) <= _TEXT_CHARS else plain[: _TEXT_CHARS - 1] + "…"
