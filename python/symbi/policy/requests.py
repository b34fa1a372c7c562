"""Requests as people write them: names, and what matters; the rest is filled in.

Why: the schema asks eight attributes of an agent, and a case of a test is about one of them.
Not here: requests of a running runtime, where nothing is filled in (the kernel).

Invariants
- PT3 what is left out is filled with what an entity of that kind has at least, never with what allows more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from symbi.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["entity_of", "only", "request_of"]

# PT3. A sandbox that says nothing is open, a tool that says nothing is dangerous: rules must name what they rely on.
_LEAST: dict[str, dict[str, Any]] = {
    "Agent": {
        "instance": "test",
        "tier": 0,
        "isolation": "sandbox",
        "kind": "python",
        "capabilities": [],
        "labels": [],
    },
    "Tool": {"effects": "external", "risk": "high"},
    "Document": {"labels": [], "owner": "", "readers": []},
    "Sandbox": {"tier": 0, "network": True, "writable": True},
}
_CONTEXT: dict[str, Any] = {"labels": [], "bytes": 0, "counters": {}}
_ENTITY_KEYS = frozenset({"uid", "attrs", "parents", "tags"})


def request_of(
    named: tuple[str, str, str],
    context: Mapping[str, Any],
    entities: Mapping[tuple[str, str], dict[str, Any]],
    *,
    call: Mapping[str, Any] | None = None,
    place: str,
) -> dict[str, Any]:
    """A whole request, in the form of a record.

    Args:
        named: Principal, action and resource: `Agent::"ana"`, `tool.call`, `Tool::"pager.send"`.
        context: What the context holds besides `labels`, `bytes` and `counters`, or instead of those.
        entities: What is known of entities, by type and id, as `entity_of` makes them.
        call: Declared attributes of a tool call.
        place: Where this was written, for errors.

    Raises:
        InputError: a name that is none.
    """
    principal, action, resource = named

    def found(text: str) -> dict[str, Any]:
        uid = _uid(text, place)
        return entities[uid] if uid in entities else _filled(*uid, {}, place)

    request: dict[str, Any] = {
        "principal": found(principal),
        "action": action,
        "resource": found(resource),
        "context": {**_CONTEXT, **context},
    }
    if call is not None:
        request["context"]["call"] = {"__entity": {"type": "Call", "id": "call"}}
        tags = {name: str(value) for name, value in call.items()}
        request["entities"] = [{"type": "Call", "id": "call", "tags": tags}]
    return request


def entity_of(table: Any, place: str) -> tuple[tuple[str, str], dict[str, Any]]:
    """Type and id, and the whole entity: what `table` (`uid`, `attrs`, `parents`, `tags`) says, filled (PT3).

    Raises:
        InputError: it is not of this form.
    """
    only(table, _ENTITY_KEYS, place)
    for name, kind in (("attrs", dict), ("tags", dict), ("parents", list)):
        if not isinstance(table.get(name, kind()), kind):
            raise InputError(f"{place}: `{name}` is a {'list' if kind is list else 'table'}")
    uid = _uid(table.get("uid"), place)
    return uid, _filled(*uid, table, place)


def only(table: Any, known: frozenset[str], place: str) -> None:
    """Refuses names that are not known.

    Raises:
        InputError: with the nearest that is.
    """
    if not isinstance(table, dict):
        raise InputError(f"{place}: a table is expected")
    for name in table:
        if name not in known:
            from difflib import get_close_matches

            near = get_close_matches(name, known, n=1)
            mend = f": did you mean `{near[0]}`?" if near else f": known are {', '.join(sorted(known))}"
            raise InputError(f"{place}: `{name}` is not known{mend}")  # PT1


def _uid(given: Any, place: str) -> tuple[str, str]:
    if isinstance(given, str):
        kind, quoted, rest = given.partition('::"')
        if quoted and rest.endswith('"') and len(rest) > 1 and "\\" not in rest:
            return kind, rest[:-1]
    raise InputError(f'{place}: `{str(given)[:80]}` is not an entity: accepted is such as `Agent::"ana"`')


def _filled(kind: str, name: str, given: Mapping[str, Any], place: str) -> dict[str, Any]:
    attrs = dict(_LEAST.get(kind, {}))
    if kind == "Agent":
        attrs["name"] = name
    elif kind == "Network":
        host, _, port = name.rpartition(":")
        attrs |= {"host": host} if host else {}
        attrs |= {"port": int(port)} if port.isascii() and port.isdecimal() and len(port) < 6 else {}
    attrs |= given.get("attrs", {})
    parents = [_uid(one, place) for one in given.get("parents", [])]
    if not parents and kind == "Tool":
        parents = [("ToolServer", name.partition(".")[0] if "." in name else "local")]
    elif not parents and kind == "Document":
        parents = [("Collection", "knowledge")]
    entity: dict[str, Any] = {"type": kind, "id": name, "attrs": attrs}
    if parents:
        entity["ancestors"] = [{"type": above, "id": identity} for above, identity in parents]
    if "tags" in given:
        entity["tags"] = given["tags"]
    return entity
