"""Threat: somebody makes the engine unable to decide, or decide about something else than what was asked.

Whatever is thrown at it, the answer is a denial or an error, never an allow, and the process lives.
"""

from __future__ import annotations

from typing import Any

import pytest
import symbi
from hypothesis import given, settings
from hypothesis import strategies as st

GUARD = """
@id("work") permit (principal, action, resource);
@id("guard") forbid (principal, action, resource) when { context.labels.contains("secret") };
"""
ANA, TOOL = 'Agent::"ana"', 'Tool::"t"'
CONTEXT: dict[str, Any] = {"labels": ["secret"], "bytes": 1, "counters": {}}


@pytest.mark.parametrize("schema", [None, "symbi"])
@pytest.mark.parametrize(
    "context",
    [
        None,
        {},
        {"labels": None},
        {"labels": "secret"},
        {"labels": {"secret": True}},
        {"label": ["secret"]},
        CONTEXT,
    ],
)
def test_hiding_the_label_from_a_guard_does_not_open_the_door(
    schema: str | None, context: dict[str, Any] | None
) -> None:
    """Cedar alone would skip the guard that errs, and allow."""
    engine = symbi.PolicyEngine(schema)
    engine.register_policy(GUARD)
    try:
        decision = engine.evaluate_policy(ANA, "tool.call", TOOL, context)
    except symbi.InputError:
        return
    assert isinstance(decision, symbi.Deny)


def test_a_set_that_locks_everybody_out_leaves_the_operators_their_controls() -> None:
    engine = symbi.PolicyEngine("symbi")
    engine.register_policy("forbid (principal, action, resource);")
    context = {"labels": [], "bytes": 0, "counters": {}}
    operator, agent = ("Operator", "1000"), ("Agent", "a")
    for action, resource in [
        ("policy.change", ("PolicySet", "main")),
        ("agent.stop", agent),
        ("agent.suspend", agent),
    ]:
        assert engine.evaluate_policy(operator, action, resource, context).allowed
        assert not engine.evaluate_policy(agent, action, resource, context).allowed
    assert not engine.evaluate_policy(operator, "tool.call", TOOL, context).allowed


@pytest.mark.parametrize(
    "text",
    [
        "permit (principal, action, resource) when { " + "(" * 5_000 + "true" + ")" * 5_000 + " };",
        "permit (principal, action, resource) when { " + "true && " * 50_000 + "true };",
        "permit (principal, action, resource) when { " + "[" * 5_000 + "]" * 5_000 + " == [] };",
        "permit (principal, action, resource) when { context" + ".a" * 50_000 + " };",
        '@message("' + "x" * 301 + '") permit (principal, action, resource);',
        '@message("\\u{1b}[2J") permit (principal, action, resource);',
        '@message("\\u{202e}drowssap") permit (principal, action, resource);',
        "//" + "x" * (1 << 20),
    ],
)
def test_hostile_policy_text_is_refused_and_the_process_lives(text: str) -> None:
    engine = symbi.PolicyEngine("symbi")
    with pytest.raises(symbi.PolicyError):
        engine.register_policy(text)


def test_a_context_that_nests_without_end_is_refused() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(symbi.InputError, match="deep"):
        symbi.PolicyEngine().evaluate_policy(ANA, "x", TOOL, {"deep": deep})
    circle: list[Any] = []
    circle.append(circle)
    with pytest.raises(symbi.InputError, match="deep"):
        symbi.PolicyEngine().evaluate_policy(ANA, "x", TOOL, {"deep": circle})


@pytest.mark.parametrize(
    "quote", ['a"', 'a" || true || "', "a\\", 'a\\"', "a\n", "a\x00", "é", "e\u0301", "A", "a "]
)
def test_an_id_is_compared_whole_whatever_it_holds(quote: str) -> None:
    """An id that looks like policy text, or nearly like another id, is neither."""
    engine = symbi.PolicyEngine()
    engine.register_policy('permit (principal == Agent::"a", action, resource);')
    assert engine.evaluate_policy(("Agent", "a"), "x", TOOL).allowed
    assert not engine.evaluate_policy(("Agent", quote), "x", TOOL).allowed


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_no_text_is_more_than_a_refused_policy(text: str) -> None:
    """The parser takes anything and answers; an accepted text without a permit allows nothing."""
    engine = symbi.PolicyEngine("symbi")
    try:
        engine.register_policy(text)
    except symbi.PolicyError:
        pass
    else:
        assert "permit" in text or not engine.evaluate_policy(ANA, "tool.call", TOOL, CONTEXT).allowed


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                *(
                    "permit",
                    "forbid",
                    "(",
                    ")",
                    "principal",
                    "action",
                    "resource",
                    ",",
                    ";",
                    "==",
                    "in",
                    "is",
                ),
                *(
                    "when",
                    "unless",
                    "{",
                    "}",
                    "Agent",
                    "::",
                    '"a"',
                    "Action",
                    '"tool.call"',
                    "context",
                    ".",
                    "bytes",
                ),
                *(
                    "&&",
                    "||",
                    "!",
                    "-",
                    "1",
                    "has",
                    "like",
                    "@id",
                    "@message",
                    "?principal",
                    "if",
                    "then",
                    "else",
                ),
            ]
        ),
        max_size=40,
    )
)
def test_no_sequence_of_words_ends_the_process(words: list[str]) -> None:
    engine = symbi.PolicyEngine("symbi")
    try:
        engine.register_policy(" ".join(words))
    except symbi.PolicyError as error:
        refused = str(error)
    else:
        refused = "policy1:"
    assert refused.startswith("policy1:")
