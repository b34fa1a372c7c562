"""What a person changed of an operation that waited, as the arguments with which it is asked for again.

Not here: what may be changed, and what the change is bound to (the kernel); waiting (`symbi.runtime.approvals`).
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Final

from symbi.agents.parts import part_of

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["CHANGES", "with_payload", "within"]


def _payload(content: bytes) -> dict[str, Any]:
    shown = json.loads(content)
    if "parts" in shown:
        rows = [(one["text"], one.get("labels", []), _source(one.get("source"))) for one in shown["parts"]]
        return {"payload": [part_of(row) for row in rows]}
    if "base64" in shown:
        return {"payload": base64.b64decode(shown["base64"])}
    return {"payload": shown["text"].encode()}


def _source(shown: dict[str, int] | None) -> tuple[int, int, int] | None:
    return None if shown is None else (shown["chunk"], shown["start"], shown["end"])


def _readers(content: bytes) -> dict[str, Any]:
    return {"readers": json.loads(content)["readers"]}


def _nothing(_content: bytes) -> dict[str, Any]:
    return {}


def with_payload(arguments: tuple[Any, ...], content: bytes) -> tuple[Any, ...]:
    """Of `(agent, recipient, payload, …)`: the same with the payload that a person made of it."""
    return (*arguments[:2], _payload(content)["payload"], *arguments[3:])


def within(change: Callable[[bytes], dict[str, Any]]) -> Callable[[tuple[Any, ...], bytes], tuple[Any, ...]]:
    """The same for `(agent, arguments)` of the table."""
    return lambda arguments, content: (arguments[0], {**arguments[1], **change(content)})


CHANGES: Final[dict[str, Callable[[bytes], dict[str, Any]]]] = {
    "bus.send": _payload,
    "bus.publish": _payload,
    "bus.request": _payload,
    "context.store": _readers,
    "context.write": _readers,
    "context.search": _nothing,
    "context.answer": _nothing,
}
"""The operations that wait for persons, and what becomes of their arguments. Tool calls see to it themselves."""
