"""What the trail says about one run of the demo: every decision with its rule, and whether the trail holds.

Why from the trail and not from memory: the report shows what anybody can check with the trail alone.
Not here: the record's form (`symbi.audit`).

Invariants
- DT1 a decision that is printed stands in the trail; its id is what `symbi explain` takes.
- DT2 identical refusals that became one record keep their count.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from symbi.audit import AuditLog
from symbi.demo.result import Decision, PartReport, Section

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from symbi.audit import AuditEvent, Verification

__all__ = ["read_decisions", "sections_of", "verify"]

_DECIDED = {"operation", "operation.intent", "operation.denied"}


def verify(trail: Path, fingerprint: str) -> Verification:
    """Check every record against the key that was told at the trail's opening.

    Raises:
        ChainBrokenError: it does not hold.
    """
    with AuditLog.open(trail) as log:
        return log.verify(key=fingerprint)


def read_decisions(trail: Path, first: int, names: Mapping[str, str]) -> list[Decision]:
    """The decisions from record `first` on (DT1).

    Args:
        trail: The trail's directory.
        first: The first record of this run.
        names: Agents' names by their ids.
    """
    found: dict[str, Decision] = {}
    with AuditLog.open(trail) as log:
        for event in log.tail(first):
            if event.event_type not in _DECIDED or event.decision is None:
                continue
            decision = _decision(event, names)
            known = found.get(decision.id)
            if known is not None:  # DT2
                decision = replace(known, count=known.count + decision.count)
            found[decision.id] = decision
    return list(found.values())


def _decision(event: AuditEvent, names: Mapping[str, str]) -> Decision:
    details = event.details
    rules = details.get("rules") or []
    principal = str(details.get("principal", ""))
    return Decision(
        id=str(details.get("decision_id") or event.op or ""),
        seq=event.seq,
        agent=names.get(event.agent_id or "", principal) if principal != "host" else "host",
        action=str(details.get("action", "")),
        resource=_plain(str(details.get("resource", "")), names),
        decision=str(event.decision),
        rule=", ".join(str(rule) for rule in rules) or "-",
        labels=event.labels,
        message=str(details.get("message", "")),
        count=int(details.get("count", 1)),
    )


def _plain(resource: str, names: Mapping[str, str]) -> str:
    """`Tool::"outbox.send"` as `Tool outbox.send`, an agent's id as its name."""
    kind, _, rest = resource.partition('::"')
    name = rest.removesuffix('"')
    return f"{kind} {names.get(name, name)}".strip()


def sections_of(  # noqa: PLR0917 - the columns of one story
    questions: Sequence[str],
    answers: Sequence[Sequence[Mapping[str, object]]],
    outcomes: Sequence[Mapping[str, str]],
    sent: Sequence[str],
    decisions: Sequence[Decision],
    places: Sequence[str] = (),
) -> list[Section]:
    """The report as it met the exit, part by part, each with its decision.

    The courier's outcomes come in the order of its calls: what was sent matches the intents one by one, what was
    refused names its decision.
    """
    granted = iter([one for one in decisions if one.action == "tool.call" and one.decision != "deny"])
    refused = {one.id: one for one in decisions if one.decision == "deny"}
    texts, rest = iter(sent), iter(outcomes)

    def take(titles: Sequence[str]) -> tuple[PartReport, ...]:
        parts = []
        for title, outcome in zip(titles, rest, strict=False):
            if outcome["outcome"] == "sent":
                decision = next(granted, None)
                word = decision.decision if decision is not None else "allow"
                parts.append(PartReport(word, next(texts, ""), decision, title))
            else:
                parts.append(PartReport("deny", "", refused.get(outcome.get("decision", "")), title))
        return tuple(parts)

    sections = [Section("Questions", take([""] * len(questions)))]
    for question, cited in zip(questions, answers, strict=False):
        titles = [str(one["title"]) for one in cited]
        if titles:
            sections.append(Section(question, take(titles)))
        else:
            sections.append(Section(question, ()))
    secrets = take([*places, *([""] * len(outcomes))])
    if secrets:
        sections.append(Section("Where secrets lie", secrets))
    return sections
