"""What stands behind an option: numbers, times, ages, ranges, each with the words for what is accepted.

Why one place: argparse shows a person the name of the function that refused (`invalid _count value`), and a time that
one command takes and another refuses is a trap.
Not here: what an option means (each command).

Invariants
- CV1 what is refused is answered by what is accepted, and ends with 2.
- CV2 every command that takes a time takes it in the same forms.
"""

from __future__ import annotations

import argparse
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from symbi.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["TIME", "age", "count", "port", "read_text", "record", "records", "text", "time", "word"]

TIME: Final = "ISO 8601 with time zone, or how long ago: 30m, 2h, 7d"
_ACCEPTED: Final = "accepted are ISO 8601, such as 2026-01-01T00:00:00Z, and how long ago: 30m, 2h, 7d"
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}
_PORT_MAX: Final = 65_535
_RECORD_DIGITS: Final = 18  # what 64 bits hold whatever the digits are


def count(text: str) -> int:
    """A number of things: 0 or more."""
    if not (text.isascii() and text.isdigit()) or len(text) > _RECORD_DIGITS:
        raise argparse.ArgumentTypeError(f"`{text}` is not a whole number from 0 on")
    return int(text)


def record(text: str) -> int | None:
    """A record's number, where `text` is one; `None` where it is something else, such as an id.

    Raises:
        InputError: digits that no record's number can have (CV1).
    """
    if not text.isdecimal():
        return None
    if not text.isascii() or len(text) > _RECORD_DIGITS:
        raise InputError(
            f"`{text}` is no record's number: accepted are the digits 0 to 9, at most {_RECORD_DIGITS} of them"
        )
    return int(text)


def text(given: str) -> str:
    """Words that are compared or recorded; the interpreter hands over bytes that are no UTF-8 as lone surrogates."""
    try:
        given.encode()
    except UnicodeEncodeError:
        raise argparse.ArgumentTypeError(f"`{given}` is not UTF-8: type it as text") from None
    return given


def word(given: str) -> str:
    """A value that a record could have: no record has an empty one, so that asking for it would find nothing."""
    if not given:
        raise argparse.ArgumentTypeError("an empty text is no value: leave the option out for any")
    return text(given)


def port(text: str) -> int:
    """Where a process listens; 0 lets the machine choose."""
    if not (text.isascii() and text.isdigit()) or len(text) > len(str(_PORT_MAX)) or int(text) > _PORT_MAX:
        raise argparse.ArgumentTypeError(f"`{text}` is not a port: a whole number from 0 to {_PORT_MAX}")
    return int(text)


def records(text: str) -> range:
    """`A..B`: records A up to before B."""
    match = re.fullmatch(r"([0-9]{1,18})\.\.([0-9]{1,18})", text)
    if match is None or int(match[2]) <= int(match[1]):
        raise argparse.ArgumentTypeError(f"`{text}` is not A..B, such as 100..200, where A is less than B")
    return range(int(match[1]), int(match[2]))


def age(text: str) -> timedelta:
    """How long ago: `400d`, `36h`, `90m`."""
    match = re.fullmatch(r"([0-9]{1,6})([dhm])", text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"`{text}` is no age: a number and its unit, such as 400d, 36h or 90m"
        )
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def time(text: str | None, option: str) -> datetime | None:
    """An instant, from ISO 8601 or from how long ago it was (CV2).

    Raises:
        InputError: neither, or without a time zone (CV1).
    """
    if text is None:
        return None
    try:
        found = datetime.now(UTC) - age(text) if text[-1:] in _UNITS else datetime.fromisoformat(text)
    except (ValueError, OverflowError, argparse.ArgumentTypeError):
        raise InputError(f"`{option} {text}` is no time: {_ACCEPTED}") from None
    if found.tzinfo is None:
        raise InputError(f"`{option} {text}` has no time zone: write 2026-01-01T00:00:00Z")
    try:
        return found.astimezone(UTC)
    except OverflowError:
        raise InputError(f"`{option} {text}` is, in UTC, not in the years 1 to 9999: {_ACCEPTED}") from None


def read_text(path: Path) -> str:
    """The text of a file that somebody named.

    Raises:
        InputError: it cannot be read, or is no text (CV1).
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"`{path}` cannot be read: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"`{path}` is not UTF-8 at byte {error.start}") from error
