"""Policies: an engine of your own, and what it answers.

    engine = symbi.PolicyEngine(schema="symbi")
    pid = engine.register_policy('permit (principal, action == Action::"message.send", resource);')
    decision = engine.evaluate_policy('Agent::"a"', "message.send", 'Agent::"b"', {…})
    decision.require()                      # raises PolicyDenied unless it is a plain Allow

Why: a runtime has its engine inside the monitor, where nobody can skip it. This one is the same core, for
tests of policies and for programs that only decide.
Not here: enforcement, counters' values, records. docs/policy.md says how policies are written.
"""

from __future__ import annotations

from symbi._core import Allow, AllowWithConditions, Condition, Deny, Redact, builtin_policy, check_policies
from symbi.policy.engine import Decision, Entity, Explanation, PolicyEngine, PolicyId, PolicyRequest

__all__ = [
    "Allow",
    "AllowWithConditions",
    "Condition",
    "Decision",
    "Deny",
    "Entity",
    "Explanation",
    "PolicyEngine",
    "PolicyId",
    "PolicyRequest",
    "Redact",
    "builtin_policy",
    "check_policies",
]
