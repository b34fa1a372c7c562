"""`symbi.guard`: any existing function, behind the monitor.

Invariants
- TG1 a guarded function does not run without a permit; without a principal it is denied.
- TG2 it runs with the arguments that were decided on: they pass through the kernel as bytes.
"""

from __future__ import annotations

import functools
import inspect
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from symbi.errors import InputError, PolicyDenied
from symbi.tools.definition import ToolDefinition

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from symbi.runtime import Runtime

__all__ = ["PRINCIPAL", "guard", "guarded"]

PRINCIPAL: ContextVar[tuple[Runtime, str] | None] = ContextVar("symbi_principal", default=None)
"""Runtime and agent id of the agent that runs in this context; set by the runtime around an in-process task."""


def guard(function: Callable[..., Any]) -> Callable[..., Awaitable[Any]]:
    """Put `function` behind the monitor. The result is called as the function is, and awaited.

    It acts for the agent that runs in the current context; `Runtime.guard(function, agent=…)` names one.

    Raises (when called):
        PolicyDenied: with code `no_principal` where no agent runs, otherwise as policy says.
        InputError: an argument that cannot pass as JSON.
    """
    return guarded(function, PRINCIPAL.get)


def guarded(
    function: Callable[..., Any], principal: Callable[[], tuple[Runtime, str] | None]
) -> Callable[..., Awaitable[Any]]:
    """`guard`, with the principal asked for at each call."""
    target = function.function if isinstance(function, ToolDefinition) else function
    signature = inspect.signature(target)
    definition = (
        function
        if isinstance(function, ToolDefinition)
        else ToolDefinition(target.__qualname__, target, "external", "medium", (), False)
    )

    @functools.wraps(target)
    async def call(*arguments: Any, **named: Any) -> Any:
        who = principal()
        if who is None:
            raise PolicyDenied(f"`{target.__name__}` is guarded, and no agent runs here", code="no_principal")
        try:
            bound = signature.bind(*arguments, **named)
        except TypeError as error:
            raise InputError(f"`{target.__name__}`: {error}") from None
        runtime, agent = who
        return await runtime.tools.call_definition(agent, definition, dict(bound.arguments))

    return call
