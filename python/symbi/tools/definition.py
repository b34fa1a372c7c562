"""A Python function as a tool.

Why: `@symbi.tool` marks a function and changes nothing about it. Agents call it by name; the monitor decides; the
function gets the arguments that were decided on, never the caller's object.

Invariants
- TD1 one name, one function: a second function of the same name is refused, unless it replaces the same one (reload).
- TD3 an attribute of kind `path` or `address` is decided on, and called with, in its one spelling.
- TD2 an agent does not run a tool by a plain call, in a sandbox or in this process: nobody would have decided.
  Within a tool another one is a function: what the agent asked for was decided on.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal, overload

from symbi.errors import InputError

__all__ = ["AGENT_AT_WORK", "REGISTERED", "ToolDefinition", "tool"]

ToolFunction = Callable[..., Any]
_AMOUNT_END = 1 << 53  # whole numbers below it are exact wherever a record is read
Kind = Literal["path", "address"]
WORKER_MODULE = "_symbi_agent"
"""The name under which a worker imports an agent's file; it stands in no other process."""
AGENT_AT_WORK: ContextVar[bool] = ContextVar("symbi_agent_at_work", default=False)
"""Whether the code of an agent in this process runs in this context, and not a tool that it called."""


@dataclass(frozen=True, slots=True)
class ToolDefinition:
    """A tool. Calling it calls the function, unguarded: for its own tests, and for other tools (TD2).

    Attributes:
        name: What agents and policies call it.
        function: Sync or async; takes the arguments by name.
        effects: `read`, `write` or `external`.
        risk: `low`, `medium` or `high`.
        attributes: Names of arguments whose values policy may see, as text.
        kinds: Of attributes that have one spelling: name, and `path` or `address` (TD3).
        takes_parts: It has a parameter `parts`: text that keeps its labels.
        idempotent: Calling it twice does what calling it once does.
        costs: What a call is expected to cost, by measure: a whole number, or the parameter that says it.
        labels: What its results carry, besides what the detectors find in them.
    """

    name: str
    function: ToolFunction
    effects: Literal["read", "write", "external"]
    risk: Literal["low", "medium", "high"]
    attributes: tuple[str, ...]
    takes_parts: bool
    idempotent: bool = False
    costs: tuple[tuple[str, str | int], ...] = ()
    labels: frozenset[str] = frozenset()

    def amounts(self, arguments: Mapping[str, Any]) -> list[tuple[str, int]]:
        """What a call with these arguments is expected to cost, by measure.

        Raises:
            InputError: an argument that is to be a cost is no whole number from 0 on.
        """
        found = []
        for measure, cost in self.costs:
            amount = arguments.get(cost, 0) if isinstance(cost, str) else cost
            if not isinstance(amount, int) or isinstance(amount, bool) or not 0 <= amount < _AMOUNT_END:
                raise InputError(f"`{cost}` of `{self.name}` is its {measure}: a whole number from 0 on")
            found.append((measure, amount))
        return found

    kinds: tuple[tuple[str, Kind], ...] = ()

    def canonical(self, arguments: dict[str, Any]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        """The arguments to decide on and to call with, and what policy sees of them (TD3).

        Raises:
            InputError: an argument has no canonical spelling.
        """
        seen = {name: str(arguments[name]) for name in self.attributes if name in arguments}
        changed = {}
        for name, kind in self.kinds:
            if name not in seen:
                continue
            from symbi.policy.canonical import canonical_address, canonical_path

            if not isinstance(arguments[name], str):
                raise InputError(f"`{name}` of `{self.name}` is a text: its kind is `{kind}`")
            try:
                if kind == "path":
                    changed[name] = seen[name] = canonical_path(arguments[name])
                else:
                    address = canonical_address(arguments[name])
                    changed[name], seen[name] = address.text, address.address
                    seen[f"{name}.reach"] = address.reach
            except InputError as error:
                raise InputError(f"`{name}` of `{self.name}`: {error}") from None
        return ({**arguments, **changed} if changed else arguments), list(seen.items())

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if WORKER_MODULE in sys.modules or AGENT_AT_WORK.get():  # TD2
            raise InputError(f'`{self.name}` is a tool: write `await ctx.tools.call("{self.name}", {{…}})`')
        return self.function(*arguments, **named)


REGISTERED: dict[str, ToolDefinition] = {}
"""Every tool of this process, by name."""


@overload
def tool(function: ToolFunction, /) -> ToolDefinition: ...
@overload
def tool(
    *,
    name: str | None = None,
    effects: Literal["read", "write", "external"] = "external",
    risk: Literal["low", "medium", "high"] = "medium",
    attributes: tuple[str, ...] | list[str] | Mapping[str, Kind | None] = (),
    idempotent: bool = False,
    costs: Mapping[str, str | int] | None = None,
    labels: Iterable[str] = (),
) -> Callable[[ToolFunction], ToolDefinition]: ...
def tool(
    function: ToolFunction | None = None,
    /,
    *,
    name: str | None = None,
    effects: Literal["read", "write", "external"] = "external",
    risk: Literal["low", "medium", "high"] = "medium",
    attributes: tuple[str, ...] | list[str] | Mapping[str, Kind | None] = (),
    idempotent: bool = False,
    costs: Mapping[str, str | int] | None = None,
    labels: Iterable[str] = (),
) -> ToolDefinition | Callable[[ToolFunction], ToolDefinition]:
    """Make a function callable by agents, under its own name unless `name` says otherwise.

    Args:
        name: Such as `outbox.send`; what stands before the dot is the server that policies may name.
        effects: The worst it does. The default is the most careful one.
        risk: How bad a wrong call is.
        attributes: Names of arguments that policy may see; as a mapping with the kind of each: `path` and `address` are
            brought into one spelling first, and refused where they have none (`symbi.policy.canonical_path`); of an
            address policy sees `host:port`, and how far it reaches as `NAME.reach`.
        idempotent: Calling it twice does what calling it once does. A retry may then repeat a call of which nobody
            knows whether it happened; of any other tool, the task is dead instead.
        costs: What a call is expected to cost, for budgets: `{"tokens": "max_tokens", "cost": 5}`. A number, or the
            name of the parameter that says it; whole numbers, money in its smallest unit. The function says what it
            came to with `symbi.tools.spent`.
        labels: What its results carry, besides what the detectors find in them: whoever is handed one has read it.

    Raises:
        InputError: the name is taken, an attribute or a cost is not a parameter.
    """

    def mark(marked: ToolFunction) -> ToolDefinition:
        parameters = inspect.signature(marked).parameters
        for attribute in attributes:
            if attribute not in parameters:
                raise InputError(f"`{attribute}` is not a parameter of `{marked.__name__}`")
        for measure, cost in (costs or {}).items():
            if isinstance(cost, str) and cost not in parameters:
                raise InputError(f"`{cost}`, its {measure}, is not a parameter of `{marked.__name__}`")
        kinds = dict(attributes) if isinstance(attributes, Mapping) else {}
        if wrong := [kind for kind in kinds.values() if kind not in {None, "path", "address"}]:
            raise InputError(f"`{wrong[0]}` is no kind of an attribute: accepted are `path`, `address`, None")
        made = ToolDefinition(
            name or marked.__name__,
            marked,
            effects,
            risk,
            tuple(attributes),
            "parts" in parameters,
            idempotent,
            tuple((costs or {}).items()),
            frozenset(labels),
            tuple((attribute, kind) for attribute, kind in kinds.items() if kind is not None),
        )
        known = REGISTERED.get(made.name)
        if known is not None and _place(known.function) != _place(marked):
            raise InputError(f"there is a tool `{made.name}` already, in {_place(known.function)}")  # TD1
        REGISTERED[made.name] = made
        return made

    return mark if function is None else mark(function)


def _place(function: ToolFunction) -> str:
    return f"{function.__module__}.{function.__qualname__}"
