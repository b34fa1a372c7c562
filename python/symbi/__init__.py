"""symbi: a runtime for AI agents that must be fast, contained and provable.

The public names, and nothing else. Each is imported when it is first used, so that `import symbi` stays cheap
(the worker inside a sandbox imports it for the decorators alone, without the native core).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # `as`: so that a strict type checker counts them as ours to give
    from symbi.agents import AgentConfig as AgentConfig
    from symbi.agents import AgentContext as AgentContext
    from symbi.agents import AgentHandle as AgentHandle
    from symbi.agents import Part as Part
    from symbi.agents import Personal as Personal
    from symbi.agents import agent as agent
    from symbi.audit import AuditEvent as AuditEvent
    from symbi.audit import AuditLog as AuditLog
    from symbi.audit import Verification as Verification
    from symbi.bus import DeadLetter as DeadLetter
    from symbi.bus import Message as Message
    from symbi.bus import Subscription as Subscription
    from symbi.config import Config as Config
    from symbi.errors import *  # noqa: F403
    from symbi.limits import ResourceLimits as ResourceLimits
    from symbi.policy import Allow as Allow
    from symbi.policy import AllowWithConditions as AllowWithConditions
    from symbi.policy import Deny as Deny
    from symbi.policy import PolicyEngine as PolicyEngine
    from symbi.runtime import Runtime as Runtime
    from symbi.sandbox import SecurityTier as SecurityTier
    from symbi.sandbox import assess_security_tier as assess_security_tier
    from symbi.scheduler import Scheduler as Scheduler
    from symbi.supervision import DeadTask as DeadTask
    from symbi.supervision import Supervision as Supervision
    from symbi.tasks import Node as Node
    from symbi.tasks import Placement as Placement
    from symbi.tasks import Placements as Placements
    from symbi.tasks import Task as Task
    from symbi.tasks import TaskBatch as TaskBatch
    from symbi.tasks import Tenant as Tenant
    from symbi.tools import guard as guard
    from symbi.tools import tool as tool
    from symbi.vectors import VectorFilter as VectorFilter
    from symbi.vectors import VectorIndex as VectorIndex
    from symbi.vectors import VectorStats as VectorStats

__version__ = "0.1.0"

_HOME = {
    "Allow": "policy",
    "AllowWithConditions": "policy",
    "AgentConfig": "agents",
    "AgentContext": "agents",
    "AgentHandle": "agents",
    "AuditEvent": "audit",
    "AuditLog": "audit",
    "Config": "config",
    "DeadLetter": "bus",
    "DeadTask": "supervision",
    "Deny": "policy",
    "Message": "agents.mail",
    "Node": "tasks",
    "Part": "agents",
    "Personal": "agents",
    "Placement": "tasks",
    "Placements": "tasks",
    "PolicyEngine": "policy",
    "ResourceLimits": "limits",
    "Runtime": "runtime",
    "Scheduler": "scheduler",
    "SecurityTier": "sandbox",
    "Subscription": "agents.mail",
    "Supervision": "supervision",
    "Task": "tasks",
    "TaskBatch": "tasks",
    "Tenant": "tasks",
    "VectorFilter": "vectors",
    "VectorIndex": "vectors",
    "VectorStats": "vectors",
    "Verification": "audit",
    "agent": "agents",
    "assess_security_tier": "sandbox",
    "guard": "tools",
    "tool": "tools",
}


def __getattr__(name: str) -> object:
    home = _HOME.get(name)
    if home is None:
        errors = import_module("symbi.errors")
        if name in errors.__all__:
            home = "errors"
    if home is None:
        raise AttributeError(f"module 'symbi' has no attribute {name!r}")
    value = getattr(import_module(f"symbi.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*_HOME, *import_module("symbi.errors").__all__, "__version__"])
