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
    from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["GROUP", "columns", "groups", "row", "time_us"]

GROUP = 10_000  # events handed to the core at once: memory stays flat however many there are
_A_TIME = "2026-01-31T09:00:00Z"


def _json_text(values: Mapping[str, Any] | str, name: str) -> str:
    """As JSON text. What JSON, or the record, cannot hold is refused by the core or here."""
    if isinstance(values, str):
        return values
    try:
        return json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"`{name}` is not JSON: {error}") from error


Row = tuple[str, str | None, str, list[str], str | None]


def row(event: Sequence[Any], seal: Callable[[str, str], tuple[str, str]]) -> Row:
    """An event as type, agent, details as JSON text, subjects, and personal values, sealed, as JSON text.

    Args:
        event: `(event_type, agent_id, details)`, `(…, subject)` or `(…, subject, personal)`.
        seal: Seals a text for a person; answers the pseudonym, too.

    Raises:
        InputError: it is none.
    """
    if not 3 <= len(event) <= 5:
        raise InputError(
            "an event is `(event_type, agent_id, details)`, `(…, subject)` or `(…, subject, personal)`"
        )
    event_type, agent_id, details, subject, personal = (*event, None, None)[:5]
    if not isinstance(event_type, str):
        raise InputError("`event_type` is not a str")
    if subject is not None and not isinstance(subject, str):
        raise InputError("`subject` is not a str")
    agent = None if agent_id is None else str(agent_id)
    values = None if personal is None else _personal_text(personal, subject)
    found = (event_type, agent, _json_text(details, "details"), [] if subject is None else [subject])
    try:
        for text in (event_type, agent or "", found[2], subject or "", values or ""):
            text.encode()
    except UnicodeEncodeError as error:
        raise InputError("a lone surrogate cannot be recorded") from error
    if values is None or subject is None:
        return *found, None
    pseudonym, sealed = seal(subject, values)
    return event_type, agent, found[2], [pseudonym], json.dumps({pseudonym: sealed}, separators=(",", ":"))


def _personal_text(personal: object, subject: str | None) -> str:
    if not isinstance(personal, Mapping) or not personal:
        raise InputError("`personal` is a mapping of names to values")
    if subject is None:
        raise InputError("`personal` needs a `subject`: the person whose values they are")
    return _json_text(personal, "personal")


def time_us(value: datetime | str | None, name: str) -> int | None:
    """An instant, microseconds since the Unix epoch; before that 0.

    Raises:
        InputError: it has no time zone, is no time, or in UTC not in the years 1 to 9999.
    """
    if value is None:
        return None
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise InputError(f"`{name}`: `{value}` is no time such as {_A_TIME}") from error
    if value.tzinfo is None:
        raise InputError(f"`{name}` has no time zone: write it as {_A_TIME}, or with `+02:00`")
    try:
        elapsed = value.astimezone(UTC) - time_of(0)
    except OverflowError as error:
        raise InputError(f"`{name}`: `{value}` is, in UTC, not in the years 1 to 9999") from error
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
    unknown = given.keys() - {"event_type", "agent_id", "details", "subject", "personal"}
    if unknown or "details" not in given or "event_type" not in given:
        raise InputError(
            "columns are `event_type`, `details`, and, if wanted, `agent_id`, `subject` and `personal`"
        )
    details = list(given["details"])

    def column(name: str) -> Iterable[Any]:
        value = given.get(name)
        if value is None or isinstance(value, str | Mapping) or not hasattr(value, "__iter__"):
            return (value for _ in details)
        return value  # type: ignore[no-any-return]

    wanted = ("event_type", "agent_id", "details", "subject", "personal")[: 5 if "personal" in given else 4]
    try:
        yield from zip(*(details if name == "details" else column(name) for name in wanted), strict=True)
    except ValueError as error:
        raise InputError("columns differ in length") from error
