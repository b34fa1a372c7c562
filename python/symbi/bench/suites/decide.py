"""How long a decision takes, from Python, whatever the size of the set.

The work: one request that matches exactly one policy of the set, whose condition is evaluated; the other
policies name other principals. So is a runtime's set: each agent has its rules, and the question is what a
thousand others cost. Peers get the same policies in their own form, prepared as far as their interface
allows, and the same request.
"""

from __future__ import annotations

import importlib
import json
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from symbi.bench import changing, counting
from symbi.bench.frame import BenchContext, Peer, Point, Row, Sample, latency_us, rate, sample_ns

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from symbi.policy import PolicyEngine

NAME, SUMMARY = "decide", "policy decisions, from Python"

_SIZES = (10, 100, 1_000, 10_000)
_PROMISED = 1_000  # the size that figures are promised for
_DECISIONS = 20_000  # a run: enough for a p99 over two hundred of the slowest
_BATCH = 100_000
_CANDIDATES = 30
_CALLERS = 64
_RECORDED = 60_000  # decisions of the trail that is decided again
_PEER_US_BUDGET = 2_000_000  # what a run may take of a peer that scans: about two seconds
_SCAN_US = 3.0  # a guess of a scanning peer's cost a policy; only decides how many decisions a run has
_CHART = "one decision against the number of policies"

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


def rows(context: BenchContext) -> list[Row]:
    """The rows of this suite."""
    latency = [
        Row(
            NAME,
            f"one decision, {size:,} policies",
            "µs",
            "lower",
            measure=partial(_one, size=size),
            target=5.0 if size == _PROMISED else None,
            peers=[
                Peer("cedarpy", partial(_cedarpy, size=size)),
                Peer("oso", partial(_oso, size=size)),
                Peer("casbin", partial(_casbin, size=size)),
            ],
            point=Point(_CHART, size, "policies"),
        )
        for size in _SIZES
    ]
    return [
        *latency,
        Row(NAME, f"p99 of one decision, {_PROMISED:,} policies", "µs", "lower", measure=_p99, target=20.0),
        Row(
            NAME,
            "one decision at 10,000 policies over one at 10",
            "ratio",
            "lower",
            measure=_flat,
            target=2.0,
        ),
        Row(NAME, f"one decision, {_PROMISED:,} policies, no schema", "µs", "lower", measure=_unchecked),
        Row(NAME, f"one decision, {_CANDIDATES} candidates", "µs", "lower", measure=_candidates),
        Row(
            NAME,
            f"one decision, {_CANDIDATES} candidates, asked before",
            "µs",
            "lower",
            measure=_asked_before,
        ),
        Row(
            NAME,
            f"batch of different requests, two threads, {_PROMISED:,} policies",
            "1/s",
            "higher",
            measure=_batch,
            target=400_000.0,
        ),
        *changing.rows(NAME),
        *counting.rows(NAME, context),
        *_replay_rows(),
    ]


def _replay_rows() -> list[Row]:
    return [
        Row(
            NAME,
            "whatif: recorded decisions, verifying",
            "1/s",
            "higher",
            measure=partial(_what_if, checkpoint=False),
            target=60_000.0,
            provider="aws-lc",
        ),
        Row(
            NAME,
            "whatif: recorded decisions, from a checkpoint",
            "1/s",
            "higher",
            measure=partial(_what_if, checkpoint=True),
            target=200_000.0,
        ),
    ]


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
        # Several texts: one has at most a mebibyte.
        for first in range(0, size, 2_000):
            texts = (_policy(number) for number in range(first, min(size, first + 2_000)))
            engine.register_policy("\n".join(texts), f"bench{first}")
        if size:
            engine.evaluate_policy(_PRINCIPAL, _ACTION, _RESOURCE, _CONTEXT).require()
        return engine

    return context.once(f"decide/{schema}/{size}", make)


def _one(context: BenchContext, size: int, schema: str | None = "symbi") -> Sample:
    engine = _engine(context, size, schema)
    decide = partial(engine.evaluate_policy, _PRINCIPAL, _ACTION, _RESOURCE, _CONTEXT)
    return latency_us(sample_ns(decide, context.scale(_DECISIONS)))


def _unchecked(context: BenchContext) -> Sample:
    return _one(context, 1_000, None)


def _p99(context: BenchContext) -> Sample:
    found = _one(context, _PROMISED)
    return Sample(found.p99 or 0.0)


def _flat(context: BenchContext) -> Sample:
    """Alternately, so that both have the same minute."""
    times: dict[int, list[float]] = {_SIZES[0]: [], _SIZES[-1]: []}
    for _ in range(4):
        for size, found in times.items():
            engine = _engine(context, size)
            decide = partial(engine.evaluate_policy, _PRINCIPAL, _ACTION, _RESOURCE, _CONTEXT)
            found.append(latency_us(sample_ns(decide, context.scale(_DECISIONS // 4))).value)
    return Sample(min(times[_SIZES[-1]]) / min(times[_SIZES[0]]))


def _many(context: BenchContext, condition: str) -> Sample:
    """Every one of the candidates is evaluated; one permits."""

    def make() -> PolicyEngine:
        from symbi.policy import PolicyEngine

        others = "".join(
            f'permit (principal == {_PRINCIPAL}, action == Action::"{_ACTION}", resource) '
            f"when {{ {condition} && context.bytes > {10_000 + number} }};\n"
            for number in range(_CANDIDATES - 1)
        )
        engine = PolicyEngine("symbi", _entities())
        engine.register_policy(
            others + _policy(0).replace('context.labels.contains("clean")', condition), "bench"
        )
        engine.evaluate_policy(_PRINCIPAL, _ACTION, _RESOURCE, _CONTEXT).require()
        return engine

    engine = context.once(f"decide/candidates/{condition}", make)
    decide = partial(engine.evaluate_policy, _PRINCIPAL, _ACTION, _RESOURCE, _CONTEXT)
    return latency_us(sample_ns(decide, context.scale(_DECISIONS)))


def _candidates(context: BenchContext) -> Sample:
    return _many(context, 'context.labels.contains("clean")')  # labels are asked each time


def _asked_before(context: BenchContext) -> Sample:
    return _many(context, 'resource.risk == "low"')


def _batch(context: BenchContext) -> Sample:
    """Requests that all differ: the thousand agents of the set in turn, each for its tool, with labels and a size of
    its own; one in five is denied. Converting Python objects and answering with them is within the time; the
    agents' names are texts that the caller keeps."""

    def make() -> tuple[PolicyEngine, list[Any]]:
        from symbi.policy import PolicyEngine

        agent, tool = _entities()
        names = [f"agent{number}" for number in range(_PROMISED)]
        agents = [
            {**agent, "uid": ("Agent", name), "attrs": {**agent["attrs"], "name": name}} for name in names
        ]
        tools = [{**tool, "uid": ("Tool", f"tool{number}")} for number in range(37)]
        engine = PolicyEngine("symbi", [*agents, *tools])
        engine.register_policy("\n".join(_policy(number) for number in range(_PROMISED)), "bench")
        who = [f'Agent::"{name}"' for name in names]
        what = [f'Tool::"tool{number % 37}"' for number in range(_PROMISED)]
        requests, fitting = [], 0
        for number in range(context.scale(_BATCH)):
            at, size = number % _PROMISED, number % 5_120
            fitting += size < 4_096
            circumstances = {"labels": ["clean", f"of{number}"], "bytes": size, "counters": {}}
            requests.append((who[at], _ACTION, what[at], circumstances))
        allowed = sum(decision.allowed for decision in engine.evaluate_many(requests))
        if allowed != fitting:
            raise AssertionError(f"{allowed} of {len(requests)} allowed")
        return engine, requests

    engine, requests = context.once("decide/batch", make)
    return rate(partial(engine.evaluate_many, requests), len(requests))


def _what_if(context: BenchContext, *, checkpoint: bool) -> Sample:
    from symbi.policy.history import what_if

    count = context.scale(_RECORDED)
    data, note = context.once("decide/trail", lambda: _trail(context, count))
    begin = time.perf_counter()
    found = what_if(data, [data / "policy.cedar"], checkpoint=note if checkpoint else None)
    took = time.perf_counter() - begin
    if found.flips or found.undecidable or found.decided < count:
        raise AssertionError(
            f"{found.decided} of {count} decided, {found.flipped} flips: {found.undecidable}"
        )
    return Sample(found.decided / took)


def _trail(context: BenchContext, count: int) -> tuple[Path, str]:
    """A trail of that many decisions: tool calls of agents, each decided by a condition, each with its outcome."""
    import asyncio

    import symbi

    data = context.fresh()
    policy = data / "policy.cedar"
    policy.write_text(
        "permit (principal is Host, action, resource);\n"
        'permit (principal is Agent, action == Action::"tool.call", resource)\n'
        'when { context.bytes < 4096 && !context.labels.contains("secret") };\n'
    )

    @symbi.agent(name="bench-caller", isolation="in_process")
    async def caller() -> None:
        """Never run: it lends its name."""

    async def nothing() -> int:
        return 1

    async def fill() -> None:
        config = symbi.Config.load(environ={}, overrides={"runtime.mode": "development"})
        async with symbi.Runtime.open(config, data=data, policy=policy) as runtime:
            agents = [await runtime.schedule_agent(caller) for _ in range(_CALLERS // 4)]
            calls = [runtime.guard(nothing, agent=agents[at % len(agents)]) for at in range(_CALLERS)]

            async def repeat(call: Callable[[], Any]) -> None:
                for _ in range(-(-count // _CALLERS)):
                    await call()

            await asyncio.gather(*(repeat(call) for call in calls))

    asyncio.run(fill())
    return data, str(symbi.AuditLog.open(data / "trail").checkpoint())


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


def _oso(context: BenchContext, size: int) -> Sample:
    """Rules of Polar, each with its names in its head, asked for the first answer."""

    def make() -> Callable[[], Any]:
        oso = importlib.import_module("oso").Oso()
        # `allow` takes three terms and no context, so the rule has a name of its own; without an `allow` it warns.
        oso.load_str(
            "allow(_, _, _) if false;\n"
            + "\n".join(
                f'permits("agent{number}", "{_ACTION}", "tool{number % 37}", context) if '
                '"clean" in context.labels and context.bytes < 4096;'
                for number in range(size)
            )
        )
        context_given = {"labels": ["clean"], "bytes": 100}

        def decide() -> bool:
            found = oso.query_rule("permits", "agent0", _ACTION, "tool0", context_given)
            return next(iter(found), None) is not None

        if not decide():
            raise AssertionError("oso denies what it must allow: the work is not the same")
        return decide

    decide = context.once(f"decide/oso/{size}", make)
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
