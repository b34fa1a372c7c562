"""Why a decision fell as it did, as Python sees it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

__all__ = ["Change", "Explanation", "FailingClause"]


@dataclass(frozen=True, slots=True)
class FailingClause:
    """A clause that stands against a request.

    Attributes:
        rule: Its rule.
        source: The rule's source.
        line: The rule's line, from 1.
        clause: As written.
        values: What it read: expression and value.
    """

    rule: str
    source: str
    line: int
    clause: str
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Change:
    """The one change of a request that would allow it. It was tried: the same set allows the request so changed.

    Attributes:
        kind: `attribute`, or `membership` in a group.
        what: Such as `context.bytes` or `principal.capabilities`; of a membership `principal` or `resource`.
        before: The value as it is; None where there is none. Of a membership everything that it is in.
        after: The value that would allow.
    """

    kind: str
    what: str
    before: Any
    after: Any

    def __str__(self) -> str:
        """As a sentence tells it."""
        shown = json.dumps(self.after, ensure_ascii=False)
        return f"{'groups of ' if self.kind == 'membership' else ''}{self.what} = {shown}"


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a decision fell as it did.

    Attributes:
        decision: `allow`, `deny` or `redact`.
        summary: One sentence.
        rule: The rule that decided or, when no permit applied, the one that came closest.
        source: Its source.
        line: Its line, from 1.
        clause: The clause that decided, as written.
        values: What the clause read: expression and value.
        change_that_would_allow: The single change that would allow it, where there is one.
        determining: Every rule that determined the decision.
        failing: Every clause that stands against the request, at most 32.
        single_change: The same change as values, where one attribute or membership is enough.
    """

    decision: str
    summary: str
    rule: str | None
    source: str | None
    line: int | None
    clause: str | None
    values: tuple[tuple[str, str], ...]
    change_that_would_allow: str | None
    determining: tuple[str, ...] = ()
    failing: tuple[FailingClause, ...] = ()
    single_change: Change | None = None

    @classmethod
    def of(cls, told: dict[str, Any]) -> Explanation:
        """From what the core tells."""
        failing = tuple(
            FailingClause(rule, source, line, clause, tuple(map(tuple, values)))
            for rule, source, line, clause, values in told["failing"]
        )
        change = None
        if told["single_change"] is not None:
            kind, what, before, after = told["single_change"]
            change = Change(kind, what, json.loads(before), json.loads(after))
        return cls(**{**told, "failing": failing, "single_change": change})
