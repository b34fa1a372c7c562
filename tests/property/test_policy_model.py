"""The engine against a plain Python model of what policies mean: the semantics written twice.

The model is the specification: deny by default, a forbid that applies or errs denies, an erring permit is not
applied, obligations of all permits that apply add up. It knows nothing of an index.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import symbi
from hypothesis import given, settings
from hypothesis import strategies as st
from symbi.policy import AllowWithConditions

PARENTS = {"u0": {"g0", "g1"}, "u1": {"g1"}, "u2": set[str](), "g0": {"g1"}, "g1": set[str]()}
KINDS = {"u0": "User", "u1": "User", "u2": "Robot", "g0": "Group", "g1": "Group"}
ACTIONS = ("read", "write")
LABELS = ("a", "b")

Truth = bool | Literal["error"]


def uid(name: str) -> str:
    return f'{KINDS[name]}::"{name}"'


@dataclass(frozen=True)
class Head:
    """`==`, `in`, `is` of an entity, or nothing."""

    operator: Literal["", "==", "in", "is"]
    name: str

    def text(self, variable: str) -> str:
        match self.operator:
            case "":
                return variable
            case "is":
                return f"{variable} is {KINDS[self.name]}"
            case operator:
                return f"{variable} {operator} {uid(self.name)}"

    def matches(self, name: str) -> bool:
        match self.operator:
            case "":
                return True
            case "==":
                return name == self.name
            case "is":
                return KINDS[name] == KINDS[self.name]
            case _:
                return name == self.name or self.name in PARENTS[name]


@dataclass(frozen=True)
class Clause:
    """A comparison, its negation, or something that errs when the attribute is absent."""

    attribute: Literal["n", "m"]
    bound: int
    negated: bool

    def text(self) -> str:
        text = f"context.{self.attribute} < {self.bound}"
        return f"!({text})" if self.negated else text

    def value(self, context: dict[str, int]) -> Truth:
        if self.attribute not in context:
            return "error"
        return (context[self.attribute] < self.bound) != self.negated


@dataclass(frozen=True)
class Rule:
    effect: Literal["permit", "forbid"]
    principal: Head
    resource: Head
    action: str | None
    clauses: tuple[Clause, ...]
    labels: tuple[str, ...]

    def text(self, number: int) -> str:
        action = f'action == Action::"{self.action}"' if self.action else "action"
        body = " && ".join(clause.text() for clause in self.clauses)
        redact = f'@obligation("redact") @labels("{",".join(self.labels)}") ' if self.labels else ""
        when = f" when {{ {body} }}" if body else ""
        heads = f"{self.principal.text('principal')}, {action}, {self.resource.text('resource')}"
        return f'@id("r{number}") {redact}{self.effect} ({heads}){when};'

    def holds(self, principal: str, action: str, resource: str, context: dict[str, int]) -> Truth:
        heads = self.principal.matches(principal) and self.resource.matches(resource)
        if not heads or self.action not in {None, action}:
            return False
        for clause in self.clauses:
            value = clause.value(context)
            if value is not True:  # the first that is false, or errs, ends it
                return value
        return True


def model(rules: list[Rule], *request: Any) -> tuple[str, set[str], set[str]]:
    """Answer, names of the determining rules, labels to redact."""
    truth = {f"r{number}": (rule, rule.holds(*request)) for number, rule in enumerate(rules)}
    forbids = {
        name for name, (rule, holds) in truth.items() if rule.effect == "forbid" and holds is not False
    }
    if forbids:
        return "deny", forbids, set()
    permits = {name for name, (rule, holds) in truth.items() if rule.effect == "permit" and holds is True}
    labels = {label for name in permits for label in truth[name][0].labels}
    return ("deny" if not permits else "redact" if labels else "allow"), permits, labels


heads = st.builds(Head, st.sampled_from(("", "==", "in", "is")), st.sampled_from(sorted(KINDS)))
clauses = st.builds(Clause, st.sampled_from(("n", "m")), st.integers(0, 3), st.booleans())


@st.composite
def a_rule(draw: st.DrawFn) -> Rule:
    effect = draw(st.sampled_from(("permit", "permit", "forbid")))
    labels = draw(st.lists(st.sampled_from(LABELS), unique=True, max_size=2)) if effect == "permit" else []
    return Rule(
        effect,  # type: ignore[arg-type]
        draw(heads),
        draw(heads),
        draw(st.sampled_from((None, *ACTIONS))),
        tuple(draw(st.lists(clauses, max_size=2))),
        tuple(labels),
    )


requests = st.tuples(
    st.sampled_from(sorted(KINDS)),
    st.sampled_from(ACTIONS),
    st.sampled_from(sorted(KINDS)),
    st.dictionaries(st.sampled_from(("n", "m")), st.integers(0, 3)),
)


def engine_of(rules: list[Rule]) -> symbi.PolicyEngine:
    entities = [{"uid": uid(name), "parents": [uid(parent) for parent in PARENTS[name]]} for name in PARENTS]
    engine = symbi.PolicyEngine(None, entities)
    engine.register_policy("\n".join(rule.text(number) for number, rule in enumerate(rules)))
    return engine


@settings(max_examples=300, deadline=None)
@given(st.lists(a_rule(), max_size=8), st.lists(requests, min_size=1, max_size=12))
def test_the_engine_decides_as_the_model_does(
    rules: list[Rule], asked: list[tuple[str, str, str, dict[str, int]]]
) -> None:
    engine = engine_of(rules)
    batch = engine.evaluate_many([(uid(p), a, uid(r), context) for p, a, r, context in asked])
    for request, decision in zip(asked, batch, strict=True):
        answer, determining, labels = model(rules, *request)
        assert set(decision.determining) == determining, request
        assert decision.allowed == (answer == "allow"), request
        assert isinstance(decision, AllowWithConditions) == (answer == "redact"), request
        if isinstance(decision, AllowWithConditions):
            (redact,) = decision.conditions
            assert redact.labels == labels


@settings(max_examples=100, deadline=None)
@given(st.lists(a_rule(), max_size=6), a_rule(), st.lists(requests, min_size=1, max_size=8))
def test_one_more_forbid_never_allows_more(
    rules: list[Rule], extra: Rule, asked: list[tuple[str, str, str, dict[str, int]]]
) -> None:
    forbid = Rule("forbid", extra.principal, extra.resource, extra.action, extra.clauses, ())
    before, after = engine_of(rules), engine_of([*rules, forbid])
    for principal, action, resource, context in asked:
        request = (uid(principal), action, uid(resource), context)
        if isinstance(before.evaluate_policy(*request), symbi.Deny):
            assert isinstance(after.evaluate_policy(*request), symbi.Deny)


@settings(max_examples=100, deadline=None)
@given(st.lists(a_rule(), max_size=6), st.randoms(use_true_random=False), requests)
def test_the_order_in_which_policies_were_registered_does_not_show(
    rules: list[Rule], random: Any, asked: tuple[str, str, str, dict[str, int]]
) -> None:
    numbered = [(rule.text(number), f"n{number}") for number, rule in enumerate(rules)]
    shuffled = random.sample(numbered, len(numbered))
    one, other = symbi.PolicyEngine(), symbi.PolicyEngine()
    for engine, texts in ((one, numbered), (other, shuffled)):
        for text, name in texts:
            engine.register_policy(text, name)
    principal, action, resource, context = asked
    request = (uid(principal), action, uid(resource), context)
    assert one.digest == other.digest
    assert one.evaluate_policy(*request) == other.evaluate_policy(*request)
