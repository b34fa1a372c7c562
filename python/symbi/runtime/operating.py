"""What an operator may ask of the agents of a running runtime.

Why: a person types a name, and there may be several agents of it: each verb acts on all that are meant and answers one
row for each, with what became of it or why not.
Not here: the socket and who may use it (`symbi.control`), what the verbs do (`Runtime`), tables (`symbi.cli`).

Invariants
- OP1 one agent that cannot be acted on does not keep the others from it: its row says why.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from symbi.errors import InputError, SymbiError
from symbi.runtime.showing import describe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from symbi.runtime import Runtime

__all__ = ["AGENT_COMMANDS", "error_shape"]

PREFIX_CHARS_MIN: Final = 8  # of an id, where only its beginning is typed: the first group of a UUID


def error_shape(error: SymbiError) -> dict[str, Any]:
    """An error as it crosses the socket."""
    return {
        "class": type(error).__name__,
        "code": error.code,
        "message": str(error),
        "decision_id": getattr(error, "decision_id", ""),
    }


def _meant(runtime: Runtime, request: dict[str, Any]) -> list[dict[str, Any]]:
    """The agents of this name or id; an id may be cut after its first group."""
    name = str(request.get("agent"))
    rows = runtime.kernel.list_agents()
    found = [row for row in rows if name in (row["id"], row["name"])]
    if not found and len(name) >= PREFIX_CHARS_MIN:
        found = [row for row in rows if row["id"].startswith(name)]
    if not found:
        raise InputError(f"there is no agent `{name}`; `symbi agents list` shows them")
    return found


async def _each(
    runtime: Runtime, request: dict[str, Any], act: Callable[[str], Awaitable[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """One row for each agent that is meant (OP1)."""
    answers = []
    for row in _meant(runtime, request):
        answer = {"id": row["id"], "name": row["name"]}
        try:
            answer |= await act(row["id"])
        except SymbiError as error:
            answer["error"] = error_shape(error)
        answers.append(answer)
    return answers


async def _list(runtime: Runtime, _by: str, _request: dict[str, Any]) -> Any:
    return runtime.kernel.list_agents()


async def _show(runtime: Runtime, _by: str, request: dict[str, Any]) -> Any:
    return [describe(runtime, row["id"], row) for row in _meant(runtime, request)]


async def _why(runtime: Runtime, _by: str, request: dict[str, Any]) -> Any:
    name = str(request.get("agent"))
    if name in runtime.runs.active:  # of one run, by its id
        active = runtime.runs.active[name]
        return [{"id": active.agent.id, "name": active.agent.name, "run": name, **runtime.why(name)}]

    async def one(agent: str) -> dict[str, Any]:
        return runtime.why(agent)

    return await _each(runtime, request, one)


async def _suspend(runtime: Runtime, by: str, request: dict[str, Any]) -> Any:
    async def one(agent: str) -> dict[str, Any]:
        return {"standing": await runtime.suspend_agent(agent, by=by)}

    return await _each(runtime, request, one)


async def _resume(runtime: Runtime, by: str, request: dict[str, Any]) -> Any:
    async def one(agent: str) -> dict[str, Any]:
        await runtime.resume_agent(agent, by=by)
        return {"state": runtime.kernel.agent_state(agent)}

    return await _each(runtime, request, one)


async def _stop(runtime: Runtime, by: str, request: dict[str, Any]) -> Any:
    force, grace_s = request.get("force") is True, request.get("grace_s")
    if isinstance(grace_s, bool) or not isinstance(grace_s, int | float | None):
        raise InputError("`grace_s` is a number of seconds")

    async def one(agent: str) -> dict[str, Any]:
        return {"terminated": await runtime.stop_agent(agent, force=force, grace_s=grace_s, by=by)}

    return await _each(runtime, request, one)


async def _stop_all(runtime: Runtime, by: str, _request: dict[str, Any]) -> Any:
    return {"stopped": await runtime.stop_all(by=by)}


AGENT_COMMANDS: Final[dict[str, Callable[[Runtime, str, dict[str, Any]], Awaitable[Any]]]] = {
    "agents.list": _list,
    "agents.show": _show,
    "agents.why": _why,
    "agents.suspend": _suspend,
    "agents.resume": _resume,
    "agents.stop": _stop,
    "stop.all": _stop_all,
}
