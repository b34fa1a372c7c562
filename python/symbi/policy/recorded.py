"""Recorded decisions, told to a person: the set that was in force, its rules with their places, why a request fell.

Why apart from `engine`: that one is for deciding by name; here everything comes from a record, with the attributes that
the entities had then.
Not here: finding a record, printing.

Invariants
- RD1 a set is said to be the one that was in force only when its digest is the record's.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from symbi import _core
from symbi.policy.archive import recall
from symbi.policy.explanation import Explanation
from symbi.policy.sources import PolicyTexts, read_policies

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = ["RecordedSet", "RuleAt", "open_request"]


@dataclass(frozen=True, slots=True)
class RuleAt:
    """A rule and where it stands. `effect`: `permit` or `forbid`; None where the set has no such rule."""

    id: str
    source: str | None
    line: int | None
    effect: str | None


@dataclass(frozen=True, slots=True)
class RecordedSet:
    """A policy set to explain by.

    Attributes:
        texts: What it is made of; None for the built-in `secure-default`.
        origin: Where it was found, in words.
        digest: Its own.
        same: It is the set that the record was decided under (RD1).
    """

    texts: PolicyTexts | None
    origin: str
    digest: str
    same: bool

    @classmethod
    def of(cls, texts: PolicyTexts | None, origin: str, digest: str) -> RecordedSet:
        """These texts, for a record that names `digest`. Raises `PolicyError` where they do not compile."""
        found, _ = _core.policy_set(*_native(texts))
        return cls(texts, origin, found, found == digest)

    @classmethod
    def in_force(cls, data: Path, digest: str, paths: Iterable[Path | str] | None) -> RecordedSet:
        """The set of this digest: as it was kept, a built-in one, or what `paths` hold today, which may differ."""
        kept = recall(data, digest)
        if kept is not None:
            return cls.of(kept, "those that were in force, as kept beside the trail", digest)
        builtin = cls.of(None, "the built-in `secure-default`", digest)
        if builtin.same:
            return builtin
        demo = tuple((f"builtin:{name}", _core.builtin_policy(name)) for name in ("secure-default", "demo"))
        of_demo = cls.of(PolicyTexts(demo, ()), "the built-in set of the demo", digest)
        if of_demo.same or paths is None:
            return of_demo if of_demo.same else builtin
        return cls.named(paths, digest)

    @classmethod
    def named(cls, paths: Iterable[Path | str], digest: str) -> RecordedSet:
        """What these paths hold today."""
        given = list(paths)
        return cls.of(read_policies(given), ", ".join(str(path) for path in given), digest)

    def places(self, rules: Iterable[str]) -> list[RuleAt]:
        """Where these rules stand in this set."""
        _, known = _core.policy_set(*_native(self.texts))
        places = {rule: RuleAt(rule, source, line, effect) for rule, source, line, effect, _ in known}
        return [places.get(rule, RuleAt(rule, None, None, None)) for rule in rules]

    def explain(self, request: dict[str, Any]) -> Explanation:
        """Decide a recorded request again under this set, and say why it falls as it does."""
        sources, counters = _native(self.texts)
        return Explanation.of(_core.explain_recorded(json.dumps(request), sources, counters))

    def explain_given(self, request: dict[str, Any]) -> tuple[str | None, Explanation]:
        """What of a request that somebody wrote does not fit the schema, and why it falls as it does."""
        sources, counters = _native(self.texts)
        ((misfit, told),) = _core.explain_many([json.dumps(request)], sources, counters)
        return misfit, Explanation.of(told)


def open_request(data: Path, sealed: str) -> dict[str, Any]:
    """A sealed request, by the keys of its data directory. Writes nothing and takes no lock.

    Raises:
        CryptoError: the keys are not there, or did not seal it.
    """
    from symbi.config.passphrase import key_passphrase

    opened: dict[str, Any] = json.loads(_core.open_sealed(data, sealed, key_passphrase()))
    return opened


def _native(texts: PolicyTexts | None) -> tuple[list[tuple[str, str]] | None, list[tuple[str, str]]]:
    return (None, []) if texts is None else (list(texts.sources), list(texts.counters))
