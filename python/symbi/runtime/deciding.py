"""What an operator may say of operations that wait, or whose outcome is unknown, over the control socket.

Not here: the socket (`symbi.control`), the tokens (`symbi.operators`), what a word is worth (the kernel), tables
(`symbi.cli`).

Invariants
- DE1 each verb that says something checks the token first (OT1 of operators).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from symbi.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from symbi.runtime import Runtime

__all__ = ["APPROVAL_COMMANDS"]

PREFIX_CHARS_MIN: Final = 8  # of an id, where only its beginning is typed


def _token(runtime: Runtime, request: dict[str, Any]) -> str:
    """The token of the request, checked before anything else is looked at (DE1)."""
    from symbi.operators import check_token

    token = request.get("token")
    given = token if isinstance(token, str) else ""
    check_token(runtime.data, given)
    return given


def _meant(known: list[str], request: dict[str, Any]) -> str:
    """The operation of this id, or of the one id that begins so."""
    given = str(request.get("operation"))
    found = [
        one for one in known if one == given or (len(given) >= PREFIX_CHARS_MIN and one.startswith(given))
    ]
    if len(found) != 1:
        problem = "several operations begin with" if found else "there is no operation"
        raise InputError(f"{problem} `{given}`; `symbi approvals list` shows them")
    return found[0]


def _waiting(runtime: Runtime, request: dict[str, Any]) -> str:
    return _meant([row["operation"] for row in runtime.kernel.approvals()], request)


async def _list(runtime: Runtime, _by: str, _request: dict[str, Any]) -> Any:
    unknown = [{**row, "state": "unknown"} for row in runtime.kernel.unknown_operations()]
    return sorted([*runtime.kernel.approvals(), *unknown], key=lambda row: row["seq"])


async def _show(runtime: Runtime, _by: str, request: dict[str, Any]) -> Any:
    unknown = {row["operation"]: row for row in runtime.kernel.unknown_operations()}
    waiting = [row["operation"] for row in runtime.kernel.approvals()]
    meant = _meant([*waiting, *unknown], request)
    if meant in unknown:
        return {**unknown[meant], "state": "unknown"}
    found = runtime.approvals.get(meant)
    if found is None:
        raise InputError(f"`{meant}` waits no more")
    return {**asdict(found), "operation": found.id, "labels": sorted(found.labels)}


async def _approve(runtime: Runtime, by: str, request: dict[str, Any]) -> Any:
    token, meant, arguments = _token(runtime, request), _waiting(runtime, request), request.get("arguments")
    if arguments is None:
        return {"operation": meant, "seq": await runtime.approvals.approve(meant, token=token, by=by)}
    if not isinstance(arguments, dict):
        raise InputError("arguments are a JSON object")
    seq = await runtime.approvals.modify(meant, arguments, token=token, by=by)
    return {"operation": meant, "seq": seq}


async def _deny(runtime: Runtime, by: str, request: dict[str, Any]) -> Any:
    token, meant = _token(runtime, request), _waiting(runtime, request)
    return {"operation": meant, "seq": await runtime.approvals.deny(meant, token=token, by=by)}


async def _resolve(runtime: Runtime, by: str, request: dict[str, Any]) -> Any:
    token = _token(runtime, request)
    meant = _meant([row["operation"] for row in runtime.kernel.unknown_operations()], request)
    outcome = request.get("resolution")
    if outcome not in ("done", "failed"):
        raise InputError("a resolution is `done` or `failed`")
    seq = await runtime.approvals.resolve(meant, outcome, token=token, by=by)
    return {"operation": meant, "seq": seq}


async def _operators(runtime: Runtime, by: str, request: dict[str, Any]) -> Any:
    from symbi.operators import change_operator, operators

    verb, name = request.get("verb"), str(request.get("name"))
    if verb == "list":
        return {"operators": operators(runtime.data)}
    _token(runtime, request)
    if verb not in ("add", "remove"):
        raise InputError("`verb` is `list`, `add` or `remove`")
    token = await change_operator(runtime, by, name, added=verb == "add")
    return {"operator": name, "token": token}


APPROVAL_COMMANDS: Final[dict[str, Callable[[Runtime, str, dict[str, Any]], Awaitable[Any]]]] = {
    "approvals.list": _list,
    "approvals.show": _show,
    "approvals.approve": _approve,
    "approvals.deny": _deny,
    "approvals.resolve": _resolve,
    "approvals.operators": _operators,
}
