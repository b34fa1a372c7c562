"""Calling a tool: decide, wait for the intent, act on the permit's bytes, record the outcome.

Not here: deciding (the kernel). This is one of the few places that may cause an effect, and it does so only with what a
permit yields.

Invariants
- TC1 the function gets what `permit.take()` gave, decoded; the caller's objects end at the kernel's door.
- TC2 the result is handed over after its outcome is on disk.
- TC3 a call that is cancelled lets go of its permit at once, so that what became of it is recorded as unknown: no
  traceback keeps it.
- TC4 a call whose run is held before its function began is decided anew when the run goes on: the first permit is let
  go of, which is recorded as released.
- TC5 a call that an earlier attempt of the task made is answered with its recorded result; the function is not called.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
from typing import TYPE_CHECKING, Any

from symbi.agents.channel import decode, encode
from symbi.agents.parts import Part, PartSource
from symbi.errors import InputError, PermitError, PolicyDenied, SymbiError, SymbiTimeoutError, ToolError
from symbi.runtime.holding import GATE
from symbi.tools.definition import REGISTERED, ToolDefinition

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from symbi._core import Kernel, Permit
    from symbi.runtime.bridge import Bridge

__all__ = ["ToolCaller", "part_tuple"]

# Looking a function over costs more than the rest of a call; a program has few tools.
_is_async = functools.lru_cache(maxsize=1024)(inspect.iscoroutinefunction)
_ENCODE = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode

TEXT_CHARS_MAX = 4_096
"""Of an error's text in the record, sealed."""

PartTuple = tuple[str, list[str], tuple[int, int, int] | None]


def part_tuple(part: Part) -> PartTuple:
    """A part as it crosses into the kernel."""
    source = part.source
    return (
        part.text,
        sorted(part.labels),
        None if source is None else (source.chunk, source.start, source.end),
    )


class ToolCaller:
    """The tools of one runtime."""

    def __init__(self, kernel: Kernel, bridge: Bridge, heed: Callable[[], None] = lambda: None) -> None:
        """`heed` as `Dispatcher`'s."""
        self._heed = heed
        self._kernel = kernel
        self._bridge = bridge
        self._known: dict[str, ToolDefinition] = {}

    def register(self, definition: ToolDefinition) -> None:
        """Make a tool callable in this runtime; those under `@symbi.tool` are without this."""
        known = self._known.get(definition.name)
        if known is not definition and known != definition:
            self._kernel.register_tool(
                definition.name, definition.effects, definition.risk, definition.idempotent
            )
            self._known[definition.name] = definition

    async def call(
        self,
        agent: str,
        name: str,
        arguments: dict[str, Any],
        parts: Sequence[Part] = (),
        timeout_s: float | None = None,
    ) -> Any:
        """Call the tool `name` for the agent.

        Raises:
            PolicyDenied: refused; a tool that does not exist looks the same.
            ToolError: the tool failed; its own text is in the trail, sealed.
        """
        definition = self._known.get(name) or REGISTERED.get(name)
        if definition is not None:
            self.register(definition)
        return await self._call(agent, name, definition, arguments, parts=parts, timeout_s=timeout_s)

    async def call_definition(self, agent: str, definition: ToolDefinition, arguments: dict[str, Any]) -> Any:
        """Call a function that agents cannot name (`symbi.guard`); as a call of `ctx`, where a run makes it."""
        self.register(definition)
        gate = GATE.get()
        if gate is None:
            return await self._call(agent, definition.name, definition, arguments)
        await gate.enter()
        try:
            return await self._call(agent, definition.name, definition, arguments)
        except PolicyDenied:
            self._heed()
            raise
        finally:
            await gate.leave()

    async def _call(
        self,
        agent: str,
        name: str,
        definition: ToolDefinition | None,
        arguments: dict[str, Any],
        *,
        parts: Sequence[Part] = (),
        timeout_s: float | None = None,
    ) -> Any:
        try:
            given = _ENCODE(arguments).encode()
        except (TypeError, ValueError) as error:
            raise InputError(f"the arguments of `{name}` cannot pass as JSON: {error}") from None
        attributes = []
        if definition is not None:
            attributes = [(one, str(arguments[one])) for one in definition.attributes if one in arguments]
        shapes = [part_tuple(part) for part in parts]
        while True:
            permit = self._kernel.begin_tool_call(
                agent, name, given if arguments else b"", shapes, attributes
            )
            if definition is None:
                raise ToolError(f"there is no tool `{name}` in this process")
            try:
                await self._bridge.durable(permit.intent_seq)
                if (kept := permit.replayed) is not None:
                    return decode(kept)["result"] if kept else None  # TC5; a person said that it was done
                try:
                    decided = json.loads(permit.take().decode())  # TC1
                except PermitError:
                    if not await _was_held():
                        raise
                    continue  # TC4
                result = await self._carry_out(permit, name, definition, decided, timeout_s)
                await self._bridge.durable(permit.settle("done", result=_kept(permit, result)))  # TC2
                return result
            finally:
                del permit  # TC3

    async def _carry_out(
        self,
        permit: Permit,
        name: str,
        definition: ToolDefinition,
        decided: dict[str, Any],
        timeout_s: float | None,
    ) -> Any:
        bound = None if timeout_s is None else asyncio.timeout(timeout_s)
        try:
            if bound is None:
                return await self._act(definition, decided)
            async with bound:
                return await self._act(definition, decided)
        except Exception as error:
            if bound is not None and bound.expired():  # ours, not a timeout that the tool raised
                await self._bridge.durable(permit.settle("failed", "timeout"))
                raise SymbiTimeoutError(f"`{name}` took longer than {timeout_s} s") from None
            text = str(error)[:TEXT_CHARS_MAX]
            await self._bridge.durable(permit.settle("failed", type(error).__name__, text))
            if isinstance(error, SymbiError):
                raise
            raise ToolError(f"`{name}` failed: {type(error).__name__}: {error}") from error
        finally:
            del permit  # TC3

    async def _act(self, definition: ToolDefinition, decided: dict[str, Any]) -> Any:
        named = decided["arguments"]
        if definition.takes_parts:
            named = {**named, "parts": [_part(shape) for shape in decided["parts"]]}
        elif decided["parts"]:
            raise ToolError(f"`{definition.name}` takes no parts")
        if _is_async(definition.function):
            return await definition.function(**named)
        return await asyncio.to_thread(definition.function, **named)


def _kept(permit: Permit, result: Any) -> bytes | None:
    """The result for a retry of the task, where one is kept; None where there is none, or it cannot be kept."""
    if not permit.journaled:
        return None
    try:
        return encode({"result": result})
    except (TypeError, ValueError):
        return None


async def _was_held() -> bool:
    """Whether this is because the run is held; if so, after it was."""
    gate = GATE.get()
    if gate is None or not gate.asked:
        return False
    await gate.passing()
    return True


def _part(shape: dict[str, Any]) -> Part:
    source = shape.get("source")
    place = None if source is None else PartSource(source["chunk"], source["start"], source["end"])
    return Part(shape["text"], frozenset(shape["labels"]), place)
