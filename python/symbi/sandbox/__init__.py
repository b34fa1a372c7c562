"""Sandboxes: tiers, the risk score that chooses one, and what runs inside.

The public names, each imported when it is first used: naming a tier must not load Docker's client.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from symbi.sandbox.base import (
        Backend,
        Mount,
        Sandbox,
        SandboxExit,
        SandboxFacts,
        SandboxSpec,
        SecurityTier,
        Tmpfs,
        fill_limits,
        spec_digest,
        spec_from_bytes,
        spec_to_bytes,
    )
    from symbi.sandbox.orchestrator import Orchestrator, TierCheck
    from symbi.sandbox.reaper import Owner
    from symbi.sandbox.risk import RiskAssessment, assess_risk, assess_security_tier, choose_tier

__all__ = [
    "Backend",
    "Mount",
    "Orchestrator",
    "Owner",
    "RiskAssessment",
    "Sandbox",
    "SandboxExit",
    "SandboxFacts",
    "SandboxSpec",
    "SecurityTier",
    "TierCheck",
    "Tmpfs",
    "assess_risk",
    "assess_security_tier",
    "choose_tier",
    "fill_limits",
    "spec_digest",
    "spec_from_bytes",
    "spec_to_bytes",
]

_HOME = {
    "Orchestrator": "orchestrator",
    "TierCheck": "orchestrator",
    "Owner": "reaper",
    "RiskAssessment": "risk",
    "assess_risk": "risk",
    "assess_security_tier": "risk",
    "choose_tier": "risk",
}


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'symbi.sandbox' has no attribute {name!r}")
    value = getattr(import_module(f"symbi.sandbox.{_HOME.get(name, 'base')}"), name)
    globals()[name] = value
    return value
