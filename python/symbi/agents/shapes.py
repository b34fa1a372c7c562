"""Arguments and answers of an agent's operations, as they cross into the kernel and out of it.

Not here: what the operations do (`dispatch`, `messaging`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from symbi.agents.parts import Part
from symbi.errors import InputError
from symbi.tools.caller import part_tuple

if TYPE_CHECKING:
    from symbi.agents.mail import Message

__all__ = ["WAIT_S_MAX", "message_shape", "payload_of", "seconds", "take"]

WAIT_S_MAX = 3_600.0
"""Longest wait of one call, seconds: a forgotten waiter does not wait for ever."""


def message_shape(message: Message) -> dict[str, Any]:
    """A received message as the channel carries it."""
    return {**message._asdict(), "labels": sorted(message.labels)}


def payload_of(value: object) -> bytes | list[tuple[str, list[str], tuple[int, int, int] | None]]:
    """A payload as it crosses into the kernel.

    Raises:
        InputError: neither bytes nor a list of parts.
    """
    if type(value) is bytes:
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, list | tuple) and all(isinstance(one, Part) for one in value):
        return [part_tuple(one) for one in value]
    mend = ": write `text.encode()`" if isinstance(value, str) else ""
    raise InputError(f"a payload is bytes or a list of symbi.Part, not a {type(value).__name__}{mend}")


def take(arguments: dict[str, Any], name: str, kind: type | tuple[type, ...], default: Any = ...) -> Any:
    """One argument, of this kind; absent, or None where that is the default, the default.

    Raises:
        InputError: it is missing, or of another kind.
    """
    value = arguments.get(name, default)
    wrong = not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool)
    if value is ... or (value is not default and wrong):
        raise InputError(f"`{name}` is missing or of a wrong kind")
    return value


def seconds(timeout_s: float) -> float:
    """A wait as it is done: not negative, at most `WAIT_S_MAX`."""
    if not timeout_s >= 0:  # a NaN too
        raise InputError(f"`timeout_s` is not negative, and is {timeout_s}")
    return min(timeout_s, WAIT_S_MAX)
