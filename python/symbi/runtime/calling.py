"""`rt.tools`: tools, for the host that calls them on behalf of its agents.

Not here: what an agent itself calls (`symbi.agents`), calling (`symbi.tools`), deciding (the kernel).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from symbi.agents.dispatch import Dispatcher
    from symbi.agents.handle import AgentHandle
    from symbi.tools.caller import ToolCaller

__all__ = ["Tools"]


class Tools:
    """`rt.tools`: call a tool on behalf of an agent whose handle one holds."""

    def __init__(self, caller: ToolCaller, dispatcher: Dispatcher) -> None:
        self._caller = caller
        self._dispatcher = dispatcher
        self.register = caller.register
        self.call_definition = caller.call_definition

    async def call(
        self,
        agent: AgentHandle,
        name: str,
        arguments: dict[str, Any] | None = None,
        *,
        parts: Iterable[Any] = (),
        approval_timeout_s: float | None = None,
    ) -> Any:
        """Call the tool `name`, as `ctx.tools.call`. Raises `PolicyDenied`, `ToolError`."""
        shape: dict[str, Any] = {"name": name, "arguments": arguments or {}, "parts": list(parts)}
        if approval_timeout_s is not None:
            shape["approval_timeout_s"] = approval_timeout_s
        return await self._dispatcher.call(agent.id, "tools.call", shape)
