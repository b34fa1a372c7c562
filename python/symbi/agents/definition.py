"""What an agent is: a decorated coroutine, or a configuration.

Why: `@symbi.agent` marks a function and changes nothing about it, so that its own tests can call it. What it needs is
checked when it is declared, where the traceback points at the right line.

Invariants
- G1 a definition that can run in a sandbox can be found there again: a module-level name of a file.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, overload

from symbi.errors import InputError
from symbi.limits import ResourceLimits
from symbi.supervision import Supervision

if TYPE_CHECKING:
    from symbi.agents.context import AgentContext

__all__ = ["AgentConfig", "AgentDefinition", "AgentFunction", "agent", "declared", "definition_of"]

AgentFunction = Callable[..., Coroutine[Any, Any, Any]]
Isolation = Literal["sandbox", "in_process"]
_LABEL = re.compile(r"[a-z][a-z0-9._-]{0,63}")
_TENANT = re.compile(r"[A-Za-z0-9._-]{1,64}")
_BODIES = ("function", "entry", "program")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentConfig:
    """Everything about an agent that is decided before it runs.

    Args:
        name: What policies call it, 1 to 128 printable characters.
        function: The coroutine function that runs a task. Exactly one of `function`, `entry` and `program`.
        entry: A file and the name of an agent's function in it, which this process does not import: the worker does.
        program: A command line instead: a program that speaks JSON lines on stdio, in any language.
        capabilities: What it says it needs, such as `tool:git_log` or `knowledge:write`. Policy decides.
        limits: Its resource limits. What cannot be applied where it runs is refused, never ignored.
        reserve: In the host's process: what one task of it takes of the machine (`memory_mb`, `cpu_cores`,
            `disk_io_mbps`, `network_io_mbps`), so that the scheduler counts it. A promise: nothing holds a coroutine
            to it. A sandboxed agent reserves its limits.
        isolation: `sandbox`, or `in_process` for the host program's own code, inside the trust boundary.
        tier: The sandbox tier. None lets the risk assessment and the configuration choose, upwards only.
        tier_min: Never below this tier.
        inputs: Labels of what it will be given.
        source: Where its code is from: `builtin`, `project`, `third_party` or `unknown`.
        requires_network: It reaches for a network (refused today unless by a brokered tool).
        requires_filesystem: It sees files of the host: those in `mounts`.
        external_apis: Names of outside systems it works with; each raises the risk.
        mounts: Directories or files of the host that it may read, at the same path. Read-only.
        tenant: On whose account its runs are, for shares and quotas; 1 to 64 of `a-z`, `A-Z`, `0-9`, `.`, `_`, `-`.
        supervision: What follows when it fails: retries, restarts. None: nothing, its caller gets the error.
        project: A directory whose modules its file imports. Mounted read-only without `.symbi`, `.git`, `.env*`.

    Raises:
        InputError: a value that cannot be; the text names it and what is accepted.
    """

    name: str
    function: AgentFunction | None = None
    entry: tuple[str, str] | None = None
    program: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    limits: ResourceLimits = field(default_factory=ResourceLimits)
    isolation: Isolation = "sandbox"
    tier: str | None = None
    tier_min: str | None = None
    inputs: frozenset[str] = frozenset()
    source: str = "project"
    requires_network: bool = False
    requires_filesystem: bool = False
    external_apis: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    project: str | None = None
    supervision: Supervision | None = None
    tenant: str = "default"
    reserve: ResourceLimits = field(default_factory=ResourceLimits)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not 1 <= len(self.name) <= 128 or not self.name.isprintable():
            raise InputError("an agent's name is 1 to 128 printable characters")
        if [self.function is not None, self.entry is not None, bool(self.program)].count(True) != 1:
            raise InputError("an agent needs exactly one of a function, an entry and a program")
        if self.entry is not None and not (
            isinstance(self.entry, tuple) and len(self.entry) == 2 and str(self.entry[1]).isidentifier()
        ):
            raise InputError("`entry` is a pair: a file, and the name of a function at its top level")
        if self.isolation not in ("sandbox", "in_process"):
            raise InputError(f"`isolation` is `sandbox` or `in_process`, not `{self.isolation}`")
        if not isinstance(self.limits, ResourceLimits):
            raise InputError("`limits` is written as `symbi.ResourceLimits(memory_mb=…)`")
        self._check_supervision()
        self._check_account()
        for name in ("capabilities", "external_apis", "mounts", "program"):
            texts = getattr(self, name)
            if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
                raise InputError(f"`{name}` is a list of texts")
            object.__setattr__(self, name, tuple(texts))
        object.__setattr__(self, "inputs", frozenset(self.inputs))
        for label in self.inputs:
            if not _LABEL.fullmatch(label):
                raise InputError(
                    f"`{label}` is not a label: 1 to 64 of a-z, 0-9, `.`, `_`, `-`, a letter first"
                )

    def _check_supervision(self) -> None:
        if self.supervision is None:
            return
        if not isinstance(self.supervision, Supervision):
            raise InputError("`supervision` is written as `symbi.Supervision(retries=…)`")
        if self.program and self.supervision.retries:
            raise InputError(
                "the lines of a program have left already: `supervision` has `retries=0`, or none"
            )

    def _check_account(self) -> None:
        if not isinstance(self.tenant, str) or not _TENANT.fullmatch(self.tenant):
            raise InputError("`tenant` is 1 to 64 of a-z, A-Z, 0-9, `.`, `_`, `-`")
        if not isinstance(self.reserve, ResourceLimits):
            raise InputError("`reserve` is written as `symbi.ResourceLimits(cpu_cores=…)`")
        if self.isolation == "in_process":
            self._check_in_process()
        elif self.reserve.asked():
            raise InputError("`reserve` is for isolation=`in_process`: a sandboxed agent reserves its limits")

    def _check_in_process(self) -> None:
        if self.function is None:
            raise InputError(
                "only a function can run in the host's process: a program or an entry needs a sandbox"
            )
        held = {"execution_timeout_s"}
        unheld = [name for name in self.limits.asked() if name not in held]
        if unheld:
            names = ", ".join(f"`{name}`" for name in unheld)
            raise InputError(
                f"{names} cannot be enforced on a coroutine in the host's process: leave isolation=`sandbox`; "
                "to have them counted, not held to: `reserve`"
            )
        countless = self.reserve.asked().keys() & {"connections", "execution_timeout_s"}
        if countless:
            raise InputError(f"`{min(countless)}` cannot be reserved")
        if self.tier or self.tier_min:
            raise InputError("`tier` is for sandboxes, and isolation is `in_process`")


@dataclass(frozen=True, slots=True)
class AgentDefinition:
    """A decorated function and its configuration. Calling it calls the function."""

    function: AgentFunction
    config: AgentConfig

    @property
    def name(self) -> str:
        """What policies call it."""
        return self.config.name

    def __call__(self, *arguments: Any, **named: Any) -> Coroutine[Any, Any, Any]:
        return self.function(*arguments, **named)


@overload
def agent(function: AgentFunction, /) -> AgentDefinition: ...
@overload
def agent(
    *,
    name: str | None = None,
    capabilities: list[str] | tuple[str, ...] = (),
    limits: ResourceLimits | None = None,
    isolation: Isolation = "sandbox",
    tier: str | None = None,
    **more: Any,
) -> Callable[[AgentFunction], AgentDefinition]: ...
def agent(
    function: AgentFunction | None = None,
    /,
    *,
    name: str | None = None,
    capabilities: list[str] | tuple[str, ...] = (),
    limits: ResourceLimits | None = None,
    isolation: Isolation = "sandbox",
    tier: str | None = None,
    **more: Any,
) -> AgentDefinition | Callable[[AgentFunction], AgentDefinition]:
    """Mark a coroutine function as an agent. It runs in a sandbox worker of its tier unless told otherwise.

    Its first parameter, if it is named `ctx` or annotated `AgentContext`, is the context; the others are bound by name
    to the input of a run.

    Args:
        name: What policies call it; the function's name otherwise.
        capabilities: See `AgentConfig`, as all the rest.

    Raises:
        InputError: not a coroutine function, or a value that cannot be.
    """

    def mark(marked: AgentFunction) -> AgentDefinition:
        if not inspect.iscoroutinefunction(marked):
            raise InputError(f"`{getattr(marked, '__name__', marked)}` must be declared with `async def`")
        if unknown := sorted(more.keys() - {one.name for one in fields(AgentConfig)}):
            accepted = ", ".join(f"`{one.name}`" for one in fields(AgentConfig) if one.name not in _BODIES)
            raise InputError(f"`{unknown[0]}` is not an argument of `@symbi.agent`: accepted are {accepted}")
        config = AgentConfig(
            name=name or marked.__name__,
            function=marked,
            capabilities=tuple(capabilities),
            limits=limits or ResourceLimits(),
            isolation=isolation,
            tier=tier,
            **more,
        )
        return AgentDefinition(marked, config)

    return mark if function is None else mark(function)


def definition_of(thing: object) -> AgentConfig:
    """The configuration of what was given to `schedule_agent` or `run`.

    Raises:
        InputError: neither a decorated function nor an `AgentConfig`; the text says which line mends it.
    """
    if isinstance(thing, AgentDefinition):
        return thing.config
    if isinstance(thing, AgentConfig):
        return thing
    if inspect.iscoroutinefunction(thing):
        raise InputError(
            f"`{thing.__name__}` is not an agent yet: write `@symbi.agent` above its `async def`"
        )
    raise InputError(
        f"a {type(thing).__name__} is not an agent: give a function under `@symbi.agent` or an AgentConfig"
    )


def worker_target(config: AgentConfig) -> tuple[Path, str]:
    """The file and the name under which a worker finds the function again (G1).

    Raises:
        InputError: it was defined in a REPL, a notebook, another function or a class; the text says what to do.
    """
    if config.entry is not None:
        entry = Path(config.entry[0])
        if not entry.is_file():
            raise InputError(f"there is no file `{entry}`")
        return entry.resolve(), config.entry[1]
    function = cast("AgentFunction", config.function)
    name = getattr(function, "__qualname__", "")
    mend = 'move it to the top level of a file, or declare it with `@symbi.agent(isolation="in_process")`'
    if "." in name or name == "<lambda>":
        raise InputError(
            f"`{name}` cannot run in a sandbox: a worker cannot find a function inside another; {mend}"
        )
    code = inspect.unwrap(function).__code__
    file = Path(code.co_filename)
    if not file.is_file():
        raise InputError(
            f"`{name}` cannot run in a sandbox: it is not in a file that a worker can import; {mend}"
        )
    return file.resolve(), name


# Looking a function over costs more than starting it; a program has few agents.
_signature = functools.lru_cache(maxsize=256)(inspect.signature)


@functools.lru_cache(maxsize=256)
def takes_context(function: AgentFunction) -> bool:
    """Whether its first parameter is the context."""
    parameters = list(_signature(function).parameters.values())
    return bool(parameters) and (
        parameters[0].name in ("ctx", "context") or "AgentContext" in str(parameters[0].annotation)
    )


@functools.lru_cache(maxsize=256)
def _is_plain(function: AgentFunction) -> bool:
    """Whether calling it binds its arguments and does nothing else, and all of them have names."""
    kinds = [parameter.kind for parameter in _signature(function).parameters.values()]
    return inspect.isfunction(function) and inspect.Parameter.POSITIONAL_ONLY not in kinds


def bind(
    function: AgentFunction, context: AgentContext | None, arguments: dict[str, Any]
) -> Coroutine[Any, Any, Any]:
    """The call of an agent's function with its input bound by parameter name.

    Args:
        function: A coroutine function.
        context: Its first argument, if it takes one (`takes_context`).
        arguments: By name.

    Raises:
        InputError: a parameter is missing, or the input has a name that the function does not take.
    """
    first = (context,) if takes_context(function) else ()
    if _is_plain(function):
        try:
            return function(*first, **arguments)
        except TypeError:  # said below in the words of its parameters
            pass
    signature = _signature(function)
    try:
        bound = signature.bind(*first, **arguments)
    except TypeError as error:
        wanted = ", ".join(list(signature.parameters)[len(first) :]) or "nothing"
        raise InputError(
            f"the input does not fit `{function.__name__}`: {error}; it takes {wanted}"
        ) from None
    return function(*bound.args, **bound.kwargs)


def declared(config: AgentConfig) -> dict[str, Any]:
    """What an agent's own file declares, in JSON: what a worker found, to be held against what the host decided on."""
    return {
        "name": config.name,
        "capabilities": list(config.capabilities),
        "limits": config.limits.asked(),
        "inputs": sorted(config.inputs),
        "requires_network": config.requires_network,
        "requires_filesystem": config.requires_filesystem,
        "external_apis": list(config.external_apis),
    }
