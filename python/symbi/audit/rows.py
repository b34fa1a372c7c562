"""What an application hands to its log, as rows that the core takes: one by one, or in columns.

Not here: what a record may hold (`symbi-audit` refuses what it cannot).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from symbi.audit.event import time_of
from symbi.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["GROUP", "columns", "groups", "row", "time_us"]

GROUP = 10_000  # events handed to the core at once: memory stays flat however many there are


def _details_text(details: Mapping[str, Any] | str) -> str:
    """`details` as JSON text. What JSON, or the record, cannot hold is refused by the core or here."""
    if isinstance(details, str):
        return details
    try:
        return json.dumps(details, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"`details` is not JSON: {error}") from error


def row(event: Sequence[Any]) -> tuple[str, str | None, str, list[str]]:
    """An event, `(event_type, agent_id, details)` or `(…, subject)`, as type, agent, details as JSON text, subjects.

    Raises:
        InputError: it is none.
    """
    if not 3 <= len(event) <= 4:
        raise InputError("an event is `(event_type, agent_id, details)` or `(…, subject)`")
    event_type, agent_id, details, *subject = event
    if not isinstance(event_type, str):
        raise InputError("`event_type` is not a str")
    texts = [name for name in subject if name is not None]
    found = (event_type, None if agent_id is None else str(agent_id), _details_text(details), texts)
    try:
        for text in (found[0], found[1] or "", found[2], *found[3]):
            text.encode()
    except UnicodeEncodeError as error:
        raise InputError("a lone surrogate cannot be recorded") from error
    except AttributeError as error:
        raise InputError("`subject` is not a str") from error
    return found


def time_us(value: datetime | str | None, name: str) -> int | None:
    """An instant, microseconds since the Unix epoch; before that 0.

    Raises:
        InputError: it has no time zone, or is no time.
    """
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise InputError(f"`{name}`: {error}") from error
    if value.tzinfo is None:
        raise InputError(f"`{name}` has no time zone: write `…Z` or `…+02:00`")
    elapsed = value.astimezone(UTC) - time_of(0)
    return max(0, (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000 + elapsed.microseconds)


def groups(events: Iterable[Sequence[Any]]) -> Iterator[list[Sequence[Any]]]:
    """The events in lists of at most `GROUP`, as they are."""
    rest = iter(events)
    while group := list(islice(rest, GROUP)):
        yield group


def columns(given: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Events out of columns, as `AuditLog.append_many` takes them.

    Raises:
        InputError: a column is missing, unknown, or of another length.
    """
    unknown = given.keys() - {"event_type", "agent_id", "details", "subject"}
    if unknown or "details" not in given or "event_type" not in given:
        raise InputError("columns are `event_type`, `details`, and, if wanted, `agent_id` and `subject`")
    details = list(given["details"])

    def column(name: str) -> Iterable[Any]:
        value = given.get(name)
        if value is None or isinstance(value, str) or not hasattr(value, "__iter__"):
            return (value for _ in details)
        return value  # type: ignore[no-any-return]

    try:
        yield from zip(column("event_type"), column("agent_id"), details, column("subject"), strict=True)
    except ValueError as error:
        raise InputError("columns differ in length") from error
