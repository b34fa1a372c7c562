"""Many messages at once: sequences over what the kernel keeps, of which only that becomes an object that is looked at.

Not here: one message (`mail`), taking and sending them (`messaging`).

Invariants
- MY1 a sequence says what a list of the same messages, or ids, would say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeVar, cast, overload

from symbi.agents.mail import Message
from symbi.agents.parts import Part, part_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from symbi._core import Mail, SentIds

__all__ = ["Ids", "Kept", "Messages"]

T = TypeVar("T")


def _parts(shapes: list[Any]) -> list[Part]:
    return [part_of(shape) for shape in shapes]


class _Lazy(Sequence[T]):
    """A sequence whose items are made when they are asked for. Equal to a list of equal items."""

    __slots__ = ("_held",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, held: Any) -> None:
        self._held = held

    def _make(self, at: int) -> T:
        raise NotImplementedError

    def __len__(self) -> int:
        return len(self._held) if self._held is not None else 0

    @overload
    def __getitem__(self, at: int) -> T: ...
    @overload
    def __getitem__(self, at: slice) -> list[T]: ...
    def __getitem__(self, at: int | slice) -> T | list[T]:
        if isinstance(at, slice):
            return [self._make(one) for one in range(len(self))[at]]
        return self._make(range(len(self))[at])

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, list | tuple | _Lazy):
            return NotImplemented
        return len(self) == len(other) and all(
            mine == theirs for mine, theirs in zip(self, other, strict=True)
        )

    def __add__(self, other: Sequence[T]) -> list[T]:
        return [*self, *other]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({list(self)!r})"


class Messages(_Lazy[Message]):
    """Messages that were taken out of a mailbox together, in their order, each verified and opened.

    A sequence of `Message`. Cost: about 0.1 µs a payload by `payloads`, 1 µs for each message that is looked at.
    """

    __slots__ = ()
    _held: Mail | None

    def _make(self, at: int) -> Message:
        held = cast("Mail", self._held)  # an index of an empty range has failed before
        return Message.of(held.row(at))

    def __iter__(self) -> Iterator[Message]:
        return map(Message.of, self._held.rows()) if self._held is not None else iter(())

    @property
    def payloads(self) -> list[bytes | list[Part]]:
        """What each says, in one step: nothing else of the messages is made."""
        return self._held.payloads(_parts) if self._held is not None else []


class Kept(Messages):
    """Messages that were taken once before, in a list."""

    __slots__ = ()
    _held: list[Message]  # type: ignore[assignment]

    def _make(self, at: int) -> Message:
        return self._held[at]

    def __iter__(self) -> Iterator[Message]:
        return iter(self._held)

    @property
    def payloads(self) -> list[bytes | list[Part]]:
        return [message.payload for message in self._held]


class Ids(_Lazy[str]):
    """The ids of messages that were sent together, in their order. A sequence of texts."""

    __slots__ = ()
    _held: SentIds

    def _make(self, at: int) -> str:
        return cast("str", self._held.text(at))  # those without room are sent one by one, and have a list
