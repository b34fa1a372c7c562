"""A handle on a scheduled agent. Small: there may be a hundred thousand."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from symbi.agents.definition import AgentConfig

__all__ = ["AgentHandle"]


class AgentHandle:
    """An agent of an open runtime. Holding it is the right to act for it: pass it on with care.

    Attributes:
        id: The agent's id, a UUID.
        config: What it was made from.
    """

    __slots__ = ("config", "id")

    def __init__(self, agent_id: str, config: AgentConfig) -> None:
        self.id = agent_id
        self.config = config

    @property
    def name(self) -> str:
        """What policies call it."""
        return self.config.name

    def __repr__(self) -> str:
        return f"<AgentHandle {self.config.name} {self.id}>"
