"""How long a decision takes, from Python, whatever the size of the set.

The work: one request that matches exactly one policy of the set, whose condition is evaluated; the other
policies name other principals. So is a runtime's set: each agent has its rules, and the question is what a
thousand others cost. Peers get the same policies in their own form, prepared as far as their interface
allows, and the same request.
"""

from __future__ import annotations

import importlib
import json
from functools import partial
from typing import TYPE_CHECKING, Any

from symbi.bench import changing
from symbi.bench.frame import BenchContext, Peer, Row, Sample, latency_us, rate, sample_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from symbi.policy import PolicyEngine

NAME, SUMMARY = "decide", "policy decisions, from Python"

_SIZES = (1, 10, 100, 1_000)
_DECISIONS = 20_000  # a run: enough for a p99 over two hundred of the slowest
_BATCH = 100_000
_PEER_US_BUDGET = 2_000_000  # what a run may take of a peer that scans: about two seconds
_SCAN_US = 3.0  # a guess of a scanning peer's cost a policy; only decides how many decisions a run has

_PRINCIPAL, _ACTION, _RESOURCE = 'Agent::"agent0"', "tool.call", 'Tool::"tool0"'
_CONTEXT: dict[str, Any] = {"labels": ["clean"], "bytes": 100, "counters": {}}

_CASBIN_MODEL = """
[request_definition]
r = sub, act, obj, label, bytes
[policy_definition]
p = sub, act, obj
[policy_effect]
e = some(where (p.eft == allow))
[matchers]
m = r.sub == p.sub && r.act == p.act && r.obj == p.obj && r.label == "clean" && r.bytes < 4096
"""


def rows(context: BenchContext) -> list[Row]:  # noqa: ARG001
    """The rows of this suite."""
    latency = [
        Row(
            NAME,
            f"one decision, {size:,} policies",
            "µs",
            "lower",
            measure=partial(_one, size=size),
            target=15.0 if size == 10 else None,
            peers=[
                Peer("cedarpy", partial(_cedarpy, size=size)),
                Peer("casbin", partial(_casbin, size=size)),
            ],
        )
        for size in _SIZES
    ]
    batch = Row(NAME, "batch, two threads, 1,000 policies", "1/s", "higher", measure=_batch)
    checked = Row(NAME, "one decision, 1,000 policies, no schema", "µs", "lower", measure=_unchecked)
    return [*latency, checked, batch, *changing.rows(NAME)]


def _policy(number: int) -> str:
    return (
        f'@id("rule{number}") permit (principal == Agent::"agent{number}", action == Action::"tool.call", '
        f'resource == Tool::"tool{number % 37}") '
        'when { context.labels.contains("clean") && context.bytes < 4096 };'
    )


def _entities() -> list[dict[str, Any]]:
    agent = {"name": "agent0", "instance": "i", "tier": 1, "isolation": "sandbox", "kind": "python"}
    return [
        {"uid": ("Agent", "agent0"), "attrs": {**agent, "capabilities": [], "labels": []}},
        {"uid": ("Tool", "tool0"), "attrs": {"effects": "external", "risk": "low"}},
    ]


def _engine(context: BenchContext, size: int, schema: str | None = "symbi") -> PolicyEngine:
    def make() -> PolicyEngine:
        from symbi.policy import PolicyEngine

        engine = PolicyEngine(schema, _entities())
        engine.register_policy("\n".join(_policy(number) for number in range(size)), "bench")
        engine.evaluate_policy(_PRINCIPAL, _ACTION, _RESOURCE, _CONTEXT).require()
        return engine

    return context.once(f"decide/{schema}/{size}", make)


def _one(context: BenchContext, size: int, schema: str | None = "symbi") -> Sample:
    engine = _engine(context, size, schema)
    decide = partial(engine.evaluate_policy, _PRINCIPAL, _ACTION, _RESOURCE, _CONTEXT)
    return latency_us(sample_ns(decide, context.scale(_DECISIONS)))


def _unchecked(context: BenchContext) -> Sample:
    return _one(context, 1_000, None)


def _batch(context: BenchContext) -> Sample:
    engine = _engine(context, 1_000)
    requests = [(_PRINCIPAL, _ACTION, _RESOURCE, _CONTEXT)] * context.scale(_BATCH)
    return rate(partial(engine.evaluate_many, requests), len(requests))


def _peer_decisions(context: BenchContext, size: int) -> int:
    return context.scale(min(_DECISIONS, int(_PEER_US_BUDGET / (100 + _SCAN_US * size))), floor=20)


def _cedarpy(context: BenchContext, size: int) -> Sample:
    """Policies and entities parsed once, as its documentation advises."""

    def make() -> Callable[[], Any]:
        cedarpy = importlib.import_module("cedarpy")
        policies = cedarpy.PolicySet.from_str("\n".join(_policy(number) for number in range(size)))
        entities = [
            {"uid": {"type": kind, "id": identity}, "attrs": entity["attrs"], "parents": []}
            for entity in _entities()
            for kind, identity in [entity["uid"]]
        ]
        request = {
            "principal": _PRINCIPAL,
            "action": f'Action::"{_ACTION}"',
            "resource": _RESOURCE,
            "context": _CONTEXT,
        }
        parsed = cedarpy.Entities.from_json_str(json.dumps(entities))
        decide = partial(cedarpy.is_authorized, request, policies, parsed)
        if not decide().allowed:
            raise AssertionError("cedarpy denies what it must allow: the work is not the same")
        return decide

    decide = context.once(f"decide/cedarpy/{size}", make)
    return latency_us(sample_ns(decide, _peer_decisions(context, size)))


def _casbin(context: BenchContext, size: int) -> Sample:
    """Its FastEnforcer, which looks policies up by principal and action before it evaluates."""

    def make() -> Callable[[], Any]:
        casbin = importlib.import_module("casbin")
        order = [0, 1]
        model = importlib.import_module("casbin.model").FastModel(order)
        model.load_model_from_text(_CASBIN_MODEL)
        enforcer = casbin.FastEnforcer(model, cache_key_order=order)
        enforcer.add_policies([[f"agent{number}", _ACTION, f"tool{number % 37}"] for number in range(size)])
        decide = partial(enforcer.enforce, "agent0", _ACTION, "tool0", "clean", 100)
        if not decide():
            raise AssertionError("casbin denies what it must allow: the work is not the same")
        return decide

    decide = context.once(f"decide/casbin/{size}", make)
    return latency_us(sample_ns(decide, _peer_decisions(context, size)))
