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
from symbi.policy.canonical import CanonicalAddress, canonical_address, canonical_path
from symbi.policy.engine import Decision, Entity, PolicyEngine, PolicyId, PolicyRequest
from symbi.policy.explanation import Change, Explanation, FailingClause

__all__ = [
    "Allow",
    "AllowWithConditions",
    "CanonicalAddress",
    "Change",
    "Condition",
    "Decision",
    "Deny",
    "Entity",
    "Explanation",
    "FailingClause",
    "PolicyEngine",
    "PolicyId",
    "PolicyRequest",
    "Redact",
    "builtin_policy",
    "canonical_address",
    "canonical_path",
    "check_policies",
]
