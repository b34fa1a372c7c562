"""What a file says of an agent, read without running it.

Why: `symbi run` is given a file that nobody has vetted. Importing it would run it in the host's process, before any
decision and outside any sandbox. So its decorator is parsed, and only literal values are taken from it; the file is
imported by the worker, inside, which then says what it found, and a difference ends the agent.
Not here: running anything, and what the host alone may say of an agent (its tier, its mounts, how far it is trusted).

Invariants
- EN1 no line of the file is executed: it is parsed, and a value that is not a literal is refused.
- EN2 a file cannot lower its own guard: `tier` counts as a minimum, and what belongs to the host is refused.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, TypeVar

from symbi.agents.definition import AgentConfig
from symbi.errors import InputError, NotBuiltError
from symbi.limits import ResourceLimits
from symbi.supervision import Supervision

__all__ = ["Entry", "asks_in_process", "find", "read", "tools_of"]

_Made = TypeVar("_Made", ResourceLimits, Supervision)

FILE_BYTES_MAX: Final = 1 << 20
"""Bytes of an agent's file; what is larger was not written by a person, and parsing it would cost the host."""

_CLAIMS: Final = frozenset(
    {
        "name",
        "capabilities",
        "limits",
        "supervision",
        "isolation",
        "tier",
        "tier_min",
        "inputs",
        "requires_network",
        "requires_filesystem",
        "external_apis",
    }
)
"""What a file may say of its own agent. The rest is the host's word (EN2)."""

_TIERS: Final = ("degraded", "docker", "gvisor")


@dataclass(frozen=True, slots=True)
class Entry:
    """A function of a file, by name. `project`: where its imports come from, if it was named as a module."""

    file: Path
    name: str
    project: Path | None = None


def find(agent: str, directory: Path | None = None) -> Entry:
    """The file behind `file.py:function` or `module:function`. Nothing is imported, no parent package either.

    Raises:
        InputError: not of these forms, or there is no such file.
        NotBuiltError: a `.symbi` file.
    """
    here = Path.cwd() if directory is None else directory
    place, colon, name = agent.rpartition(":")
    if (place if colon else agent).endswith(".symbi"):
        raise NotBuiltError(
            f"`{agent}`: agents in `.symbi` files are not in this version; write `file.py:function`"
        )
    if not place or not name.isidentifier():
        raise InputError(f"`{agent}` names no agent: accepted are `file.py:function` and `module:function`")
    if place.endswith(".py") or "/" in place:
        file = here / place
        if not file.is_file():
            raise InputError(f"there is no file `{place}`")
        return Entry(file.resolve(), name)
    parts = place.split(".")
    if not all(part.isidentifier() for part in parts):
        raise InputError(f"`{place}` is neither a file that ends in `.py` nor a module")
    for root in (here, *(Path(entry) for entry in sys.path if entry)):
        for file in (root.joinpath(*parts).with_suffix(".py"), root.joinpath(*parts, "__init__.py")):
            if file.is_file():
                return Entry(file.resolve(), name, root.resolve() if root == here else None)
    raise InputError(f"there is no module `{place}` in `{here}` or on the path of this interpreter")


def read(entry: Entry) -> AgentConfig:
    """The configuration that the decorator of this function declares (EN1, EN2).

    Raises:
        InputError: the file does not parse, has no such function, the function is no agent, or its decorator says
            what cannot be read or is not the file's to say; the text names the line.
    """
    function, decorator = _decorated(entry)
    declared = {} if not isinstance(decorator, ast.Call) else _arguments(entry, decorator)
    tier, tier_min = declared.pop("tier", None), declared.pop("tier_min", None)
    for one in (tier, tier_min):
        if one is not None and one not in _TIERS:
            raise InputError(f"`{entry.file.name}`: `{one}` is not a tier: accepted are {', '.join(_TIERS)}")
    asked = [one for one in (tier, tier_min) if one is not None]
    declared.setdefault("name", function.name)
    isolation = declared.pop("isolation", "sandbox")
    if isolation not in ("sandbox", "in_process"):
        raise InputError(f"`isolation` is `sandbox` or `in_process`, not `{isolation}`")
    try:
        config = AgentConfig(
            entry=(str(entry.file), entry.name),
            project=None if entry.project is None else str(entry.project),
            tier_min=max(asked, key=_TIERS.index) if asked else None,
            **declared,
        )
    except TypeError as error:
        raise InputError(f"`{entry.file.name}` line {function.lineno}: {error}") from None
    return config


def asks_in_process(entry: Entry) -> bool:
    """Whether the decorator says `isolation="in_process"`, which is the host's to grant."""
    _, decorator = _decorated(entry)
    return isinstance(decorator, ast.Call) and _arguments(entry, decorator).get("isolation") == "in_process"


def tools_of(entry: Entry) -> list[str]:
    """The functions of this file under `@symbi.tool`, by their Python names. They run in the host, not in the agent."""
    return [
        statement.name
        for statement in _tree(entry.file).body
        if isinstance(statement, ast.AsyncFunctionDef | ast.FunctionDef)
        and any(_last(decorator) == "tool" for decorator in statement.decorator_list)
    ]


def _tree(file: Path) -> ast.Module:
    text = _text(file)
    try:
        return ast.parse(text, str(file))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise InputError(
            f"`{file.name}` is not Python{f', line {line}' if line else ''}: {error.args[0]}"
        ) from None
    except (RecursionError, MemoryError):
        raise InputError(f"`{file.name}` nests too deep to be read") from None


def _last(decorator: ast.expr) -> str | None:
    """The last part of a decorator's name: `tool` of `@symbi.tool(…)`."""
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)


def _decorated(entry: Entry) -> tuple[ast.AsyncFunctionDef, ast.expr]:
    for statement in _tree(entry.file).body:
        if not isinstance(statement, ast.AsyncFunctionDef | ast.FunctionDef) or statement.name != entry.name:
            continue
        where = f"`{entry.file.name}` line {statement.lineno}"
        if isinstance(statement, ast.FunctionDef):
            raise InputError(f"{where}: `{entry.name}` must be declared with `async def`")
        for decorator in statement.decorator_list:
            if _last(decorator) == "agent":
                return statement, decorator
        raise InputError(
            f"{where}: `{entry.name}` is not an agent yet: write `@symbi.agent` above its `async def`"
        )
    raise InputError(f"`{entry.file.name}` has no function `{entry.name}` at its top level")


def _text(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            data = opened.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise InputError(f"`{file}` cannot be read: {error.strerror}") from None
    if len(data) > FILE_BYTES_MAX:
        raise InputError(f"`{file}` has more than {FILE_BYTES_MAX} bytes; an agent's file has at most that")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"`{file}` is not UTF-8 at byte {error.start}") from None


def _arguments(entry: Entry, decorator: ast.Call) -> dict[str, Any]:
    declared: dict[str, Any] = {}
    for keyword in decorator.keywords:
        name = keyword.arg
        where = f"`{entry.file.name}` line {keyword.value.lineno}"
        if name is None or decorator.args:
            raise InputError(f"{where}: what an agent declares is written out, name by name")
        if name not in _CLAIMS:
            known = [one.name for one in fields(AgentConfig)]
            if name not in known:
                near = get_close_matches(name, sorted(_CLAIMS), n=1)
                mean = (
                    f"did you mean `{near[0]}`?"
                    if near
                    else "it takes " + ", ".join(f"`{one}`" for one in sorted(_CLAIMS))
                )
                raise InputError(f"{where}: `{name}` is not an argument of `@symbi.agent`: {mean}")
            raise InputError(
                f"{where}: `{name}` is not the file's to say; `symbi run --help` lists what the caller may"
            )
        if name == "limits":
            declared[name] = _made(where, name, ResourceLimits, "memory_mb=…", keyword.value)
        elif name == "supervision":
            declared[name] = _made(where, name, Supervision, "retries=…", keyword.value)
        else:
            declared[name] = _literal(where, name, keyword.value)
    for name in ("capabilities", "external_apis"):
        if isinstance(declared.get(name), list):
            declared[name] = tuple(declared[name])
    return declared


def _literal(where: str, name: str, value: ast.expr) -> Any:
    if (
        isinstance(value, ast.Call)
        and getattr(value.func, "id", "") in ("frozenset", "set")
        and len(value.args) == 1
    ):
        value = value.args[0]
    try:
        return ast.literal_eval(value)
    except (ValueError, TypeError, RecursionError, MemoryError):
        # EN1: whatever would have to be computed stays unread.
        raise InputError(
            f"{where}: `{name}` is not written as a literal, so it cannot be read without running the file"
        ) from None


def _made(where: str, name: str, kind: type[_Made], example: str, value: ast.expr) -> _Made:
    called = value.func if isinstance(value, ast.Call) else None
    last = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", None)
    if not isinstance(value, ast.Call) or last != kind.__name__ or value.args:
        raise InputError(f"{where}: `{name}` is written as `symbi.{kind.__name__}({example})`")
    asked = {
        keyword.arg: _literal(where, f"{name}.{keyword.arg}", keyword.value) for keyword in value.keywords
    }
    try:
        return kind(**asked)  # type: ignore[arg-type]  # a wrong name is the TypeError below
    except TypeError as error:
        raise InputError(f"{where}: {error}") from None
