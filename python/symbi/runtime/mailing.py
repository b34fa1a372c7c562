"""What an operator may ask of keys and dead letters of a running runtime, over the control socket.

Why: a person types a name or the beginning of an id, and several may be meant: each verb acts on all of them and
answers one row for each, with what became of it or why not.
Not here: the socket and who may use it (`symbi.control`), what the verbs do (`rt.keys`, `rt.bus`), tables
(`symbi.cli`).

Invariants
- MA1 one that cannot be acted on does not keep the others from it: its row says why.
- MA2 what a letter says crosses the socket only when it was asked for, and policy permitted it.
"""

from __future__ import annotations

import base64
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from symbi.errors import InputError, SymbiError
from symbi.runtime.operating import PREFIX_CHARS_MIN, error_shape

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from symbi.bus import DeadLetter
    from symbi.runtime import Runtime
    from symbi.runtime.keys import AgentKey

__all__ = ["KEY_COMMANDS", "LETTER_COMMANDS"]


def _key_row(key: AgentKey) -> dict[str, Any]:
    return {**asdict(key), "certificate": base64.b64encode(key.certificate).decode()}


def _named(runtime: Runtime, request: dict[str, Any]) -> list[tuple[str, str]]:
    """Id and name of the agents of this name or id; an id may be cut after its first group."""
    given = str(request.get("agent"))
    rows = [(row["id"], row["name"]) for row in runtime.kernel.list_agents() if row["state"] != "terminated"]
    found = [row for row in rows if given in row]
    if not found and len(given) >= PREFIX_CHARS_MIN:
        found = [row for row in rows if row[0].startswith(given)]
    if not found:
        raise InputError(f"there is no agent `{given}`; `symbi agents list` shows them")
    return found


async def _keys_list(runtime: Runtime, _by: str, _request: dict[str, Any]) -> Any:
    return {"runtime": runtime.keys.runtime, "agents": [_key_row(key) for key in runtime.keys.list()]}


async def _keys_show(runtime: Runtime, _by: str, request: dict[str, Any]) -> Any:
    known = {key.agent: key for key in runtime.keys.list()}
    found = _named(runtime, request)
    return [
        _key_row(known[agent]) if agent in known else {"agent": agent, "name": name, "key": None}
        for agent, name in found
    ]


async def _keys_change(runtime: Runtime, by: str, request: dict[str, Any]) -> Any:
    verb = runtime.keys.rotate if request["command"] == "keys.rotate" else runtime.keys.revoke
    rows = []
    for agent, name in _named(runtime, request):
        try:
            rows.append(_key_row(await verb(agent, by=by)))
        except SymbiError as error:
            rows.append({"agent": agent, "name": name, "error": error_shape(error)})  # MA1
    return rows


async def _keys_rotate_runtime(runtime: Runtime, by: str, _request: dict[str, Any]) -> Any:
    return asdict(await runtime.keys.rotate_runtime(by=by))


def _letter_row(letter: DeadLetter) -> dict[str, Any]:
    return {**asdict(letter), "labels": sorted(letter.labels)}


def _meant(runtime: Runtime, request: dict[str, Any]) -> list[DeadLetter]:
    given = str(request.get("letter"))
    cut = len(given) >= PREFIX_CHARS_MIN
    letters = runtime.bus.dead_letters()
    found = [letter for letter in letters if letter.id == given or (cut and letter.id.startswith(given))]
    if not found and not cut:
        raise InputError(f"`{given}` is no id of a message, nor its first {PREFIX_CHARS_MIN} characters")
    if not found:
        raise InputError(f"there is no dead letter `{given}`; `symbi letters list` shows them")
    return found


async def _letters_list(runtime: Runtime, _by: str, _request: dict[str, Any]) -> Any:
    rows, let_go = runtime.kernel.dead_letters()
    return {"letters": rows, "let_go": let_go}


async def _letters_show(runtime: Runtime, by: str, request: dict[str, Any]) -> Any:
    rows = []
    for letter in _meant(runtime, request):
        row = _letter_row(letter)
        if request.get("payload") is True:
            try:
                row["payload"] = _shown(await runtime.bus.read_dead_letter(letter, by=by))  # MA2
            except SymbiError as error:
                row["error"] = error_shape(error)
        rows.append(row)
    return rows


def _shown(payload: Any) -> dict[str, Any]:
    """Text where it is text, base64 where it is not."""
    if not isinstance(payload, bytes):
        return {"parts": [{"text": part.text, "labels": sorted(part.labels)} for part in payload]}
    try:
        return {"text": payload.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(payload).decode()}


async def _letters_settle(runtime: Runtime, by: str, request: dict[str, Any]) -> Any:
    verb = runtime.bus.revive if request["command"] == "letters.retry" else runtime.bus.discard
    rows = []
    for letter in _meant(runtime, request):
        row = _letter_row(letter)
        try:
            await verb(letter, by=by)
        except SymbiError as error:
            row["error"] = error_shape(error)  # MA1
        rows.append(row)
    return rows


_Commands = dict[str, "Callable[[Runtime, str, dict[str, Any]], Awaitable[Any]]"]
KEY_COMMANDS: Final[_Commands] = {
    "keys.list": _keys_list,
    "keys.show": _keys_show,
    "keys.rotate": _keys_change,
    "keys.revoke": _keys_change,
    "keys.rotate_runtime": _keys_rotate_runtime,
}
LETTER_COMMANDS: Final[_Commands] = {
    "letters.list": _letters_list,
    "letters.show": _letters_show,
    "letters.retry": _letters_settle,
    "letters.discard": _letters_settle,
}
