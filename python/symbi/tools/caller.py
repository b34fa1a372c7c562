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
- TC6 a call that needs a person waits for one, and is decided again; with other arguments where a person changed them.
- TC7 what a tool returned is handed over after its labels became the agent's.
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
from symbi.tools.concerning import concerning
from symbi.tools.definition import AGENT_AT_WORK, REGISTERED, ToolDefinition
from symbi.tools.spending import spending

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from symbi._core import Kernel, Permit
    from symbi.runtime.approvals import Approvals
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

    def __init__(
        self,
        kernel: Kernel,
        bridge: Bridge,
        heed: Callable[[], None] = lambda: None,
        approvals: Approvals | None = None,
    ) -> None:
        """`heed` as `Dispatcher`'s. Without `approvals` nothing waits for a person."""
        self._heed = heed
        self._approvals = approvals
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
        *,
        timeout_s: float | None = None,
        approval_timeout_s: float | None = None,
    ) -> Any:
        """Call the tool `name` for the agent.

        A call that needs a person waits until it is decided or its time is over, or `approval_timeout_s` seconds;
        with 0 it is refused at once with `needs_approval`.

        Raises:
            PolicyDenied: refused; a tool that does not exist looks the same.
            ToolError: the tool failed; its own text is in the trail, sealed.
        """
        definition = self._known.get(name) or REGISTERED.get(name)
        if definition is not None:
            self.register(definition)
        return await self._call(
            agent,
            name,
            definition,
            arguments,
            parts=parts,
            timeout_s=timeout_s,
            approval_timeout_s=approval_timeout_s,
        )

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
        approval_timeout_s: float | None = None,
    ) -> Any:
        shapes = [part_tuple(part) for part in parts]
        while True:
            try:
                permit = self._kernel.begin_tool_call(
                    agent, name, *_given(name, definition, arguments, shapes)
                )
            except PolicyDenied as denied:
                if self._approvals is None:
                    raise
                await self._bridge.durable(denied.seq)
                changed = await self._approvals.wait(denied, approval_timeout_s)  # TC6
                if changed is not None:
                    arguments = json.loads(changed)["arguments"]
                continue
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
                with spending() as told, concerning() as whose:
                    result = await self._carry_out(
                        permit, name, definition, decided, timeout_s, told=told, whose=whose
                    )
                shown = _shown(result)
                seq = permit.settle(
                    "done",
                    result=shown if permit.journaled and shown.startswith(_WHOLE) else None,
                    used=list(told.items()),
                    returned=shown,
                    labels=sorted(definition.labels | _labels(result) | whose),
                )  # TC7
                await self._bridge.durable(seq)  # TC2
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
        *,
        told: dict[str, int],
        whose: set[str],
    ) -> Any:
        bound = None if timeout_s is None else asyncio.timeout(timeout_s)
        try:
            if bound is None:
                return await self._act(definition, decided)
            async with bound:
                return await self._act(definition, decided)
        except Exception as error:
            if bound is not None and bound.expired():  # ours, not a timeout that the tool raised
                await self._bridge.durable(permit.settle("failed", "timeout", used=list(told.items())))
                raise SymbiTimeoutError(f"`{name}` took longer than {timeout_s} s") from None
            text = str(error)[:TEXT_CHARS_MAX]
            used = list(told.items())
            seq = permit.settle(
                "failed",
                type(error).__name__,
                text,
                used=used,
                returned=str(error).encode("utf-8", "replace"),
                labels=sorted(whose),
            )
            await self._bridge.durable(seq)
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
        agents = AGENT_AT_WORK.set(False)  # TD2
        try:
            if _is_async(definition.function):
                return await definition.function(**named)
            return await asyncio.to_thread(definition.function, **named)
        finally:
            AGENT_AT_WORK.reset(agents)


def _given(
    name: str, definition: ToolDefinition | None, arguments: dict[str, Any], shapes: list[PartTuple]
) -> tuple[bytes, list[PartTuple], list[tuple[str, str]], int, list[tuple[str, int]]]:
    """The call as the kernel takes it."""
    attributes: list[tuple[str, str]] = []
    if definition is not None:
        arguments, attributes = definition.canonical(arguments)
    try:
        given = _ENCODE(arguments).encode() if arguments else b""
    except (TypeError, ValueError) as error:
        raise InputError(f"the arguments of `{name}` cannot pass as JSON: {error}") from None
    if definition is None:
        return given, shapes, [], 0, []
    return given, shapes, attributes, 0, definition.amounts(arguments)


_WHOLE = b'{"result":'


def _shown(result: Any) -> bytes:
    """What the detectors look at; beginning with `_WHOLE` where it can be kept for a retry too."""
    if result is None:
        return b'{"result":null}'
    try:
        return encode({"result": result})
    except (TypeError, ValueError):
        return f" {result}".encode("utf-8", "replace")


def _labels(result: Any) -> frozenset[str]:
    """Labels that parts bring with them."""
    if isinstance(result, Part):
        return result.labels
    if isinstance(result, list | tuple):
        return frozenset().union(*(_labels(one) for one in result))
    if isinstance(result, dict):
        return frozenset().union(*(_labels(one) for one in result.values()))
    return frozenset()


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
