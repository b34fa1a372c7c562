"""The lines between the runtime and an agent's process: JSON with bytes and parts in it.

Why: one small codec for both ends of the pipe. What comes from a sandbox is not trusted: everything is checked here,
and a line that is not one of ours ends the agent, not the runtime.
Not here: what the lines mean (`worker`, `session`).

Invariants
- C1 `decode(encode(x)) == x` for every value a call may carry.
- C2 `decode` raises `ValueError` on anything else, and never builds an object of another kind.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import is_dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, NoReturn, Protocol

from symbi.agents.parts import Part, PartSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from symbi.agents.mail import Message

__all__ = ["CALLS_MAX", "CHANNEL_VERSION", "Channel", "decode", "encode", "plain"]

CHANNEL_VERSION: Final = 2
"""Both ends say it first; they come from one package, so that a difference is a mixed installation."""

CALLS_MAX: Final = 256
"""Calls of one worker under way. It waits itself before it asks for more; of one that does not, nothing more is read,
which is the back-pressure."""

DEPTH_MAX: Final = 64
"""Nesting of a line. A deeper one is hostile or a mistake."""


class Channel(Protocol):
    """How a context reaches the monitor: directly in the host's process, over the pipe from a sandbox."""

    async def call(self, operation: str, arguments: dict[str, Any]) -> Any:
        """Ask for one operation, and wait for what it yields."""
        ...

    def put_back(self, messages: Sequence[Message]) -> None:
        """These came out of the agent's own mailbox and nobody has looked at them: who reads it next has them first."""
        ...

    async def checkpoint(self) -> None:
        """Stand still here, where the run is held and nobody froze it from outside."""
        ...


def _default(value: object) -> Any:
    if isinstance(value, bytes | bytearray | memoryview):
        return {"$bytes": base64.b64encode(bytes(value)).decode("ascii")}
    if isinstance(value, Part):
        shape: dict[str, Any] = {"text": value.text, "labels": sorted(value.labels)}
        if value.source is not None:
            shape["source"] = [value.source.chunk, value.source.start, value.source.end]
        return {"$part": shape}
    if isinstance(value, set | frozenset):
        return sorted(value)
    mend = " (`dataclasses.asdict` makes one of it)" if is_dataclass(value) else ""
    raise TypeError(f"a `{type(value).__name__}` cannot be sent: use JSON types, bytes or symbi.Part{mend}")


_ENCODER: Final = json.JSONEncoder(
    default=_default, ensure_ascii=False, separators=(",", ":"), allow_nan=False
)


def encode(message: object) -> bytes:
    """One line, without its newline.

    Raises:
        TypeError: a value of a kind that cannot be sent; the text names it.
        ValueError: a float that is not finite, or a circle.
    """
    line = _ENCODER.encode(message).encode("utf-8", "strict")
    if b'"$' in line:
        _check_plain(message)
    return line


def _check_plain(value: object) -> None:
    """C1: a dict that the other end would take for bytes or a part is not sent."""
    if isinstance(value, dict):
        if len(value) == 1 and next(iter(value)) in ("$bytes", "$part"):
            raise ValueError(
                "a dict whose only key is `$bytes` or `$part` cannot be sent: these names are taken"
            )
        for one in value.values():
            _check_plain(one)
    elif isinstance(value, list | tuple):
        for one in value:
            _check_plain(one)


def _hook(shape: dict[str, Any]) -> Any:
    if len(shape) != 1:
        return shape
    if "$bytes" in shape:
        try:
            return base64.b64decode(shape["$bytes"], validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise ValueError("`$bytes` is not base64") from error
    if "$part" in shape:
        return _part(shape["$part"])
    return shape


def _part(shape: object) -> Part:
    if not isinstance(shape, dict) or not {"text"} <= shape.keys() <= {"text", "labels", "source"}:
        raise ValueError("`$part` needs `text`, and may have `labels` and `source`")
    text, labels, source = shape["text"], shape.get("labels", []), shape.get("source")
    if (
        not isinstance(text, str)
        or not isinstance(labels, list)
        or not all(type(one) is str for one in labels)
    ):
        raise ValueError("`$part` needs a text and a list of labels")
    if source is not None and not (
        isinstance(source, list) and len(source) == 3 and all(type(one) is int and one >= 0 for one in source)
    ):
        raise ValueError("`source` of a part is [chunk, start, end]")
    return Part(text, frozenset(labels), None if source is None else PartSource(*source))


def _unique(pairs: list[tuple[str, Any]]) -> Any:
    shape = dict(pairs)
    if len(shape) != len(pairs):
        raise ValueError("a key stands twice")
    return _hook(shape)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"`{name}` is not a number of JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not isfinite(number):
        raise ValueError(f"the number `{digits[:32]}` is too large")
    return number


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse, parse_float=_finite)
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")


def decode(line: bytes) -> dict[str, Any]:
    """What a line says.

    Raises:
        ValueError: not a line of ours (C2).
    """
    if line.count(b"[") + line.count(b"{") > 1 and _depth(line) > DEPTH_MAX:
        raise ValueError(f"nested deeper than {DEPTH_MAX}")
    try:
        message = _DECODER.decode(line.decode("utf-8"))
        if _SURROGATE.search(line):
            json.dumps(json.loads(line), ensure_ascii=False).encode(
                "utf-8"
            )  # a lone one is a ValueError here
    except (UnicodeDecodeError, RecursionError) as error:
        raise ValueError("not JSON in UTF-8") from error
    if not isinstance(message, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 - one error for whatever is not a line of ours
    return message


def _depth(line: bytes) -> int:
    deepest = depth = 0
    quoted = escaped = False
    for byte in line:
        if quoted:
            escaped, quoted = byte == 0x5C and not escaped, escaped or byte != 0x22
            continue
        if byte == 0x22:
            quoted = True
        elif byte in (0x5B, 0x7B):
            depth += 1
            deepest = max(deepest, depth)
        elif byte in (0x5D, 0x7D):
            depth -= 1
    return deepest


def plain(value: object) -> Any:
    """A value as a caller on this side of the pipe would have got it from the other: through the codec and back."""
    return decode(encode({"value": value}))["value"]
