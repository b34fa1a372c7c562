"""`symbi.PolicyEngine`: what it decides, what it refuses, and how it says so."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import symbi
from symbi.policy import Redact, builtin_policy

ANA, BOB, TOOL = 'Agent::"ana"', ("Agent", "bob"), 'Tool::"outbox.send"'
CONTEXT: dict[str, Any] = {"labels": [], "bytes": 1, "counters": {}}
PERMIT = '@id("all") permit (principal, action, resource);'


def agent(name: str, **attrs: object) -> dict[str, Any]:
    facts = {"name": name, "instance": "i", "tier": 1, "isolation": "sandbox", "kind": "python"}
    return {"uid": ("Agent", name), "attrs": {**facts, "capabilities": [], "labels": [], **attrs}}


def test_an_engine_without_policies_denies_everything() -> None:
    decision = symbi.PolicyEngine().evaluate_policy(ANA, "anything", BOB)
    assert isinstance(decision, symbi.Deny)
    assert (decision.allowed, decision.reason, decision.determining) == (False, "no_permit", ())


def test_a_decision_has_no_truth_value() -> None:
    """BP2: `if engine.evaluate_policy(…)` would let a denial pass, for every object is true."""
    engine = symbi.PolicyEngine()
    denied = engine.evaluate_policy(ANA, "x", BOB)
    engine.register_policy(PERMIT)
    for decision in (denied, engine.evaluate_policy(ANA, "x", BOB)):
        with pytest.raises(TypeError, match="allowed"):
            bool(decision)


def test_require_lets_an_allow_pass_and_raises_for_the_rest_with_the_public_message() -> None:
    engine = symbi.PolicyEngine(schema="symbi")
    engine.register_policy(builtin_policy("demo"), "demo")
    courier = ("Agent", "courier")
    clean = engine.evaluate_policy(courier, "tool.call", TOOL, CONTEXT)
    assert isinstance(clean, symbi.Allow)
    clean.require()
    redacted = engine.evaluate_policy(courier, "tool.call", TOOL, {**CONTEXT, "labels": ["personal"]})
    match redacted:
        case symbi.AllowWithConditions((Redact(labels),)):
            assert labels == {"personal"}
        case other:
            pytest.fail(f"{other!r}")
    assert not redacted.allowed, "conditions are unmet"
    with pytest.raises(symbi.PolicyDenied, match="redact"):
        redacted.require()
    secret = engine.evaluate_policy(courier, "tool.call", TOOL, {**CONTEXT, "labels": {"secret"}})
    match secret:
        case symbi.Deny("forbidden"):
            assert (secret.determining, secret.message) == (
                ("no-secret-leaves",),
                "secrets never leave the house",
            )
        case other:
            pytest.fail(f"{other!r}")
    with pytest.raises(symbi.PolicyDenied, match="never leave the house") as refused:
        secret.require()
    assert refused.value.code == "denied"


def test_a_change_takes_effect_with_the_next_decision() -> None:
    """Spec E6."""
    engine = symbi.PolicyEngine()
    pid = engine.register_policy(PERMIT)
    before = engine.digest
    assert engine.evaluate_policy(ANA, "x", BOB).allowed
    forbid = engine.register_policy("forbid (principal, action, resource);")
    assert not engine.evaluate_policy(ANA, "x", BOB).allowed
    engine.unregister(forbid)
    assert engine.evaluate_policy(ANA, "x", BOB).allowed
    assert engine.digest == before
    engine.unregister(pid)
    assert not engine.evaluate_policy(ANA, "x", BOB).allowed
    with pytest.raises(symbi.InputError, match="registered"):
        engine.unregister(pid)


def test_a_policy_that_does_not_compile_changes_nothing_and_names_its_place() -> None:
    """BP1, PE1, spec E2: registering may fail."""
    engine = symbi.PolicyEngine(schema="symbi")
    engine.register_policy(PERMIT)
    digest = engine.digest
    with pytest.raises(symbi.PolicyError) as caught:
        engine.register_policy('forbid (principal, action == Action::"tool.cal", resource);', "mine.cedar")
    assert caught.value.code == "policy.invalid"
    assert str(caught.value).startswith("mine.cedar:1:30: policy.unknown_action: ")
    assert 'did you mean `Action::"tool.call"`' in str(caught.value)
    assert engine.digest == digest
    assert engine.evaluate_policy(ANA, "tool.call", TOOL, CONTEXT).allowed
    with pytest.raises(symbi.InputError, match="already"):
        engine.register_policy(PERMIT, "policy1")


def test_a_forbid_that_cannot_be_evaluated_denies_and_a_permit_is_not_applied() -> None:
    engine = symbi.PolicyEngine()
    engine.register_policy(PERMIT)
    engine.register_policy('@id("erring") permit (principal, action, resource) when { context.gone };')
    allowed = engine.evaluate_policy(ANA, "x", BOB)
    assert (allowed.allowed, allowed.determining) == (True, ("all",))
    assert "erring" in allowed.errors[0]
    engine.register_policy('@id("guard") forbid (principal, action, resource) when { context.gone };')
    denied = engine.evaluate_policy(ANA, "x", BOB)
    assert isinstance(denied, symbi.Deny)
    assert (denied.reason, denied.determining) == ("forbid_failed", ("guard",))


@pytest.mark.parametrize(
    "context",
    [
        {},
        {"labels": [], "bytes": "1", "counters": {}},
        {"labels": "secret", "bytes": 1, "counters": {}},
        {"labels": [1], "bytes": 1, "counters": {}},
        {**CONTEXT, "lables": ["secret"]},
        {**CONTEXT, "counters": {"undeclared": 1}},
        {**CONTEXT, "call": "x"},
    ],
)
def test_a_request_that_does_not_fit_the_schema_is_denied(context: dict[str, Any]) -> None:
    """PE2: a misspelt attribute must not slip past a guarded rule."""
    engine = symbi.PolicyEngine(schema="symbi")
    engine.register_policy(PERMIT)
    decision = engine.evaluate_policy(ANA, "tool.call", TOOL, context)
    assert isinstance(decision, symbi.Deny)
    assert decision.reason == "invalid_request"
    assert decision.errors


def test_actions_and_types_outside_the_schema_are_denied() -> None:
    engine = symbi.PolicyEngine(schema="symbi")
    engine.register_policy(PERMIT)
    for principal, action, resource, reason in [
        (ANA, "tool.fly", TOOL, "unknown_action"),
        (ANA, "tool.call", BOB, "invalid_request"),
        (TOOL, "tool.call", TOOL, "invalid_request"),
        (("Nobody", "x"), "tool.call", TOOL, "invalid_request"),
    ]:
        decision = engine.evaluate_policy(principal, action, resource, CONTEXT)
        assert isinstance(decision, symbi.Deny)
        assert decision.reason == reason


@pytest.mark.parametrize("value", [1.5, None, b"bytes", 2**63, -(2**63) - 1, object(), {1: 2}, [1.0]])
def test_what_cannot_be_a_policy_value_is_an_error_and_never_rounded(value: object) -> None:
    """PE3, BV1."""
    with pytest.raises(symbi.InputError):
        symbi.PolicyEngine().evaluate_policy(ANA, "x", BOB, {"value": value})


@pytest.mark.parametrize(
    "entity", ["", "Agent", 'Agent::"a', "Agent::a", '::"a"', "(", ("a",), ("1a", "b"), 7]
)
def test_what_is_not_an_entity_is_an_error(entity: Any) -> None:
    with pytest.raises(symbi.InputError):
        symbi.PolicyEngine().evaluate_policy(entity, "x", BOB)


def test_values_arrive_as_they_are() -> None:
    engine = symbi.PolicyEngine()
    engine.register_policy(
        "permit (principal, action, resource) when { context.yes && context.least == -9223372036854775808 && "
        'context.text == "é\\"" && context.some.containsAll([1, 2]) && context.deep.a.b == Agent::"ana" && '
        'context.from.isInRange(ip("10.0.0.0/8")) && context.empty == [] };'
    )
    context = {
        "yes": True,
        "least": -(2**63),
        "text": 'é"',
        "some": frozenset({1, 2}),
        "deep": {"a": {"b": {"__entity": {"type": "Agent", "id": "ana"}}}},
        "from": {"__extn": {"fn": "ip", "arg": "10.1.2.3"}},
        "empty": (),
    }
    decision = engine.evaluate_policy(ANA, "x", BOB, context)
    assert decision.allowed, decision.errors


def test_entities_give_attributes_and_ancestors_of_ancestors() -> None:
    """E1."""
    entities = [
        agent("ana", tier=2) | {"parents": []},
        {"uid": 'Tool::"t"', "attrs": {"effects": "read", "risk": "low"}, "parents": [("ToolServer", "s")]},
    ]
    engine = symbi.PolicyEngine("symbi", entities)
    engine.register_policy(
        'permit (principal, action == Action::"tool.call", resource in ToolServer::"s") '
        "when { principal is Agent && principal.tier == 2 };"
    )
    assert engine.evaluate_policy(ANA, "tool.call", ("Tool", "t"), CONTEXT).allowed
    assert not engine.evaluate_policy(ANA, "tool.call", ("Tool", "other"), CONTEXT).allowed
    engine.set_entities([agent("ana", tier=1), *entities[1:]])
    assert not engine.evaluate_policy(ANA, "tool.call", ("Tool", "t"), CONTEXT).allowed

    chain = [
        {"uid": ("G", "1"), "parents": [("G", "2")]},
        {"uid": ("G", "2"), "parents": [("G", "3")]},
    ]
    plain = symbi.PolicyEngine(None, chain)
    plain.register_policy('permit (principal in G::"3", action, resource);')
    assert plain.evaluate_policy(("G", "1"), "x", BOB).allowed


@pytest.mark.parametrize(
    "entities",
    [
        [{"attrs": {}}],
        [{"uid": "x"}],
        [{"uid": ("A", "a"), "atrs": {}}],
        [{"uid": ("A", "a"), "attrs": {"x": 1.5}}],
        [{"uid": ("A", "a"), "attrs": {"x": object()}}],
        [{"uid": ("A", "a"), "parents": [("A", "b")]}, {"uid": ("A", "b"), "parents": [("A", "a")]}],
        [{"uid": ("A", "a"), "attrs": {"x": 1}}, {"uid": ("A", "a"), "attrs": {"x": 2}}],
    ],
)
def test_entities_that_cannot_be_are_refused_and_the_old_ones_stay(entities: list[dict[str, Any]]) -> None:
    engine = symbi.PolicyEngine(None, [{"uid": ("A", "a"), "attrs": {"x": 9}}])
    engine.register_policy("permit (principal, action, resource) when { principal.x == 9 };")
    with pytest.raises(symbi.InputError):
        engine.set_entities(entities)
    assert engine.evaluate_policy(("A", "a"), "x", BOB).allowed


def test_entities_are_checked_against_the_schema() -> None:
    for wrong in [agent("ana", tier="two"), {"uid": ("Agent", "ana")}, {"uid": ("Nobody", "x")}]:
        with pytest.raises(symbi.InputError):
            symbi.PolicyEngine("symbi", [wrong])


def test_a_schema_of_ones_own_is_used_and_a_broken_one_is_refused() -> None:
    schema = """
        namespace Clinic {
          entity Doctor { ward: String };
          entity Chart { ward: String };
          action read appliesTo { principal: Doctor, resource: Chart, context: { urgent?: Bool } };
        }"""
    entities = [
        {"uid": 'Clinic::Doctor::"d"', "attrs": {"ward": "w1"}},
        {"uid": 'Clinic::Chart::"c"', "attrs": {"ward": "w1"}},
    ]
    engine = symbi.PolicyEngine(schema, entities)
    engine.register_policy(
        'permit (principal, action == Clinic::Action::"read", resource) when { principal.ward == resource.ward };'
    )
    read = 'Clinic::Action::"read"'
    assert engine.evaluate_policy('Clinic::Doctor::"d"', read, 'Clinic::Chart::"c"').allowed
    assert not engine.evaluate_policy('Clinic::Doctor::"d"', "read", 'Clinic::Chart::"c"').allowed
    with pytest.raises(symbi.PolicyError, match="schema"):
        symbi.PolicyEngine("entity ;")


def test_counters_are_declared_in_toml_and_typed() -> None:
    toml = '[counters.calls]\naction = "tool.call"\nper = "principal"\nwindow_s = 60\nkind = "count"\n'
    engine = symbi.PolicyEngine("symbi", counters=toml)
    engine.register_policy(
        'permit (principal, action == Action::"tool.call", resource) when { context.counters.calls <= 2 };'
    )
    for count, allowed in [(2, True), (3, False)]:
        context = {**CONTEXT, "counters": {"calls": count}}
        assert engine.evaluate_policy(ANA, "tool.call", TOOL, context).allowed is allowed
    with pytest.raises(symbi.PolicyError, match=r"counters:3:7: counters\.value"):
        symbi.PolicyEngine("symbi", counters=toml.replace('"principal"', '"agent"'))


def test_links_make_rules_of_a_template() -> None:
    engine = symbi.PolicyEngine()
    text = '@id("reads") permit (principal == ?principal, action, resource);'
    with pytest.raises(symbi.PolicyError, match="template"):
        engine.register_policy(text)
    link = {"template": "reads", "id": "ana-reads", "principal": ANA}
    pid = engine.register_policy(text, links=[link])
    assert engine.evaluate_policy(ANA, "x", BOB).determining == ("ana-reads",)
    assert not engine.evaluate_policy(BOB, "x", BOB).allowed
    engine.unregister(pid)
    assert not engine.evaluate_policy(ANA, "x", BOB).allowed


def test_a_batch_decides_like_single_calls_in_order_on_any_number_of_threads() -> None:
    engine = symbi.PolicyEngine()
    engine.register_policy("permit (principal, action, resource) when { context.n < 500 };")
    requests: list[Any] = [(ANA, "x", BOB, {"n": n}) for n in range(1_000)]
    single = [engine.evaluate_policy(*request) for request in requests]
    for threads in (1, 2, 7):
        assert engine.evaluate_many(requests, threads=threads) == single
    assert engine.evaluate_many([]) == []
    assert [decision.allowed for decision in single] == [n < 500 for n in range(1_000)]
    with pytest.raises(symbi.InputError):
        engine.evaluate_many([(ANA, "x", BOB, {"n": 1.5})])


def test_a_batch_of_many_kinds_answers_each_request_as_it_was_asked() -> None:
    """BP5 across groups of a batch, with names as texts and as pairs, errors, and requests that do not fit."""
    engine = symbi.PolicyEngine(
        schema="symbi", entities=[agent(f"a{n}", capabilities=["go"] if n % 2 else []) for n in range(40)]
    )
    engine.register_policy(
        """
        @id("go") permit (principal is Agent, action == Action::"tool.call", resource is Tool)
        when { principal.capabilities.contains("go") && context.bytes < 400 };
        @id("clean") @obligation("redact") @labels("personal")
        permit (principal == Agent::"a4", action == Action::"tool.call", resource is Tool);
        @id("call") forbid (principal, action == Action::"tool.call", resource == Tool::"t3")
        when { context has call && context.bytes + 9223372036854775500 > 0 };
        """
    )
    requests: list[Any] = []
    for n in range(1_700):
        context: dict[str, Any] = {**CONTEXT, "bytes": n % 600, "labels": [str(n % 3)]}
        if n % 11 == 0:
            context["call"] = {"__entity": {"type": "Call", "id": "c"}}
        if n % 13 == 0:
            context["bytes"] = "many"
        who: Any = ("Agent", f"a{n % 40}") if n % 2 else f'Agent::"a{n % 40}"'
        requests.append((who, "tool.call" if n % 17 else "no.such", f'Tool::"t{n % 5}"', context))
    single = [engine.evaluate_policy(*request) for request in requests]
    told = [(type(one), one.determining, one.errors, getattr(one, "reason", None)) for one in single]
    assert len(set(told)) >= 7, "many kinds of answers"
    for threads in (1, 2, 3):
        assert engine.evaluate_many(requests, threads=threads) == single


def test_one_request_of_a_batch_that_cannot_be_expressed_refuses_all_of_it() -> None:
    """BP4: also when the others are being decided already."""
    engine = symbi.PolicyEngine()
    engine.register_policy(PERMIT)
    good: list[Any] = [(ANA, "x", BOB, None)] * 3_000
    for bad in ((ANA, "x", BOB, {"n": 1.5}), ("ana", "x", BOB, None), (ANA, "x", 3, None)):
        with pytest.raises(symbi.InputError):
            engine.evaluate_many([*good, bad, *good])
    with pytest.raises(TypeError):
        engine.evaluate_many([*good, (ANA, 3, BOB, None)])  # type: ignore[list-item]
    assert all(one.allowed for one in engine.evaluate_many(good))


def test_decisions_while_another_thread_swaps_the_set_see_one_whole_set() -> None:
    """BP3: no request sees half a policy set. The two sets disagree with every mixture of them."""
    engine = symbi.PolicyEngine()
    engine.register_policy(PERMIT, "base")
    stop = threading.Event()
    seen: set[tuple[str, ...]] = set()

    def ask() -> None:
        while not stop.is_set():
            for decision in engine.evaluate_many([(ANA, "x", BOB, None)] * 20):
                seen.add(decision.determining)

    thread = threading.Thread(target=ask)
    thread.start()
    pair = '@id("one") permit (principal, action, resource); @id("two") permit (principal, action, resource);'
    try:
        for _ in range(50):
            engine.unregister(engine.register_policy(pair))
    finally:
        stop.set()
        thread.join(timeout=5)
    assert seen <= {("all",), ("all", "one", "two")}


def test_an_explanation_names_rule_clause_value_and_the_change_that_would_allow() -> None:
    engine = symbi.PolicyEngine(schema="symbi")
    engine.register_policy(
        '@id("small")\npermit (principal, action == Action::"tool.call", resource)\nwhen { context.bytes < 10 };',
        "mine.cedar",
    )
    told = engine.explain_policy(ANA, "tool.call", TOOL, {**CONTEXT, "bytes": 12})
    assert (told.decision, told.rule, told.source, told.line) == ("deny", "small", "mine.cedar", 1)
    assert (told.clause, told.values) == ("context.bytes < 10", (("context.bytes", "12"),))
    assert told.change_that_would_allow == "it would be allowed if `context.bytes < 10` held"
    assert engine.explain_policy(ANA, "tool.call", TOOL, CONTEXT).decision == "allow"
    assert "fly" in engine.explain_policy(ANA, "tool.fly", TOOL, CONTEXT).summary


def test_warnings_are_kept_with_the_set() -> None:
    engine = symbi.PolicyEngine(schema="symbi")
    engine.register_policy(
        'permit (principal is Host, action == Action::"tool.call", resource is Topic);', "w"
    )
    assert engine.warnings[0].startswith("w:1:1: policy.impossible")
