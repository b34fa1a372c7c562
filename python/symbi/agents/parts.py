"""Text with labels, piece by piece; and a person's data, marked as such.

Why: what an agent writes inherits the labels of all it has read. Only a part that stands literally in a chunk of the
knowledge base, which the kernel checks, keeps that chunk's labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Part", "PartSource", "Personal", "part_of", "with_subject"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PartSource:
    """Where a part was taken from: bytes `start` to `end` (exclusive) of a chunk's text, in UTF-8."""

    chunk: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of text.

    Args:
        text: The text.
        labels: What it carries, such as `personal`; `subject:NAME` says whose data it is. Declaring adds; the kernel
            never takes a label away for it.
        source: Set where the text stands literally in a chunk. A claim until the kernel has checked it.
    """

    text: str
    labels: frozenset[str] = frozenset()
    source: PartSource | None = None


@dataclass(frozen=True, slots=True)
class Personal(Generic[T]):
    """A value that belongs to a person.

    Args:
        value: The value.
        subject: Whose it is, in the caller's terms.
    """

    value: T
    subject: str


def part_of(shape: tuple[str, list[str], tuple[int, int, int] | None]) -> Part:
    """A part as it comes out of the kernel."""
    text, labels, source = shape
    return Part(text, frozenset(labels), None if source is None else PartSource(*source))


def with_subject(labels: Iterable[str], subject: str | Iterable[str] | None) -> list[str]:
    """Labels, and those of the persons whose data it is."""
    if subject is None:
        return sorted(labels)
    subjects = [subject] if isinstance(subject, str) else subject
    return [*sorted(labels), *(f"subject:{one}" for one in subjects)]
