"""Agents: what one is, what it is given, where it runs.

Not here: scheduling and running them (`symbi.runtime`). Importing this loads no native code, so that the worker
inside a sandbox can.
"""

from __future__ import annotations

from symbi.agents.context import AgentContext
from symbi.agents.definition import AgentConfig, AgentDefinition, agent
from symbi.agents.handle import AgentHandle
from symbi.agents.parts import Part, PartSource, Personal

__all__ = [
    "AgentConfig",
    "AgentContext",
    "AgentDefinition",
    "AgentHandle",
    "Part",
    "PartSource",
    "Personal",
    "agent",
]
