"""Kinds of values: what a setting accepts, said once, used to parse, to refuse and to document.

Why: the words of an error, of `config show` and of the documentation come from the same place as the check,
so none of them can promise another range.
Not here: which settings there are (`settings`), where values come from (`sources`).

Invariants
- CV1 a value is accepted only whole and in its range; nothing is rounded, cut or guessed.
- CV2 text (an environment variable) and typed values (a file) of the same meaning give the same value.
- CV3 a refusal of a secret never repeats it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = [
    "Boolean",
    "Choice",
    "Duration",
    "Kind",
    "Number",
    "Paths",
    "PathText",
    "RefusedError",
    "Secret",
    "Size",
    "Text",
    "Url",
]

_TRUE = ("true", "1", "yes", "on", "enabled")
_FALSE = ("false", "0", "no", "off", "disabled")

_SIZE_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_SIZE_UNITS |= {"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}
_TIME_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}

_TEXT_CHARACTERS_MAX = 4096  # PATH_MAX of Linux; a longer setting is a mistake or an attack
_AMOUNT_DIGITS_MAX = 15  # stays exact in every reader of JSON


class RefusedError(ValueError):
    """A value that its kind does not accept. Its text, if any, goes on after `it`: `names x, which …`."""


class Kind(Protocol):
    """What a setting accepts."""

    @property
    def accepted(self) -> str:
        """The accepted values, as a phrase: `a whole number from 1 to 256`."""
        ...

    def parse(self, value: object, base: Path) -> object:
        """The typed value. `base` is the folder that relative paths stand on.

        Raises:
            RefusedError: not one of the accepted values.
        """
        ...


def _whole(value: object) -> int:
    if isinstance(value, bool):
        raise RefusedError
    if isinstance(value, int):
        return value
    if isinstance(value, str) and re.fullmatch(rf"[0-9]{{1,{_AMOUNT_DIGITS_MAX}}}", value.strip()):
        return int(value.strip())  # `strip` knows more blanks than `int`
    raise RefusedError


def _within(value: int, low: int, high: int) -> int:
    if low <= value <= high:
        return value
    raise RefusedError


@dataclass(frozen=True, slots=True)
class Number:
    """A whole number in a range, both ends included."""

    low: int
    high: int
    unit: str = ""

    @property
    def accepted(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        return f"a whole number from {self.low} to {self.high}{unit}"

    def parse(self, value: object, base: Path) -> int:  # noqa: ARG002
        return _within(_whole(value), self.low, self.high)


@dataclass(frozen=True, slots=True)
class _Amount:
    """Reads `12`, `"12"` and `"12 unit"`; integers only, so that sums stay exact."""

    units: tuple[tuple[str, int], ...]
    plain: int  # what a number without unit counts, in the smallest unit

    def read(self, value: object) -> int:
        if isinstance(value, str):
            match = re.fullmatch(rf"([0-9]{{1,{_AMOUNT_DIGITS_MAX}}})\s*([A-Za-z]*)", value.strip())
            if match is None:
                raise RefusedError
            digits, unit = match.groups()
            factor = dict(self.units).get(unit.lower()) if unit else self.plain
            if factor is None:
                raise RefusedError
            return int(digits) * factor
        return _whole(value) * self.plain


@dataclass(frozen=True, slots=True)
class Size:
    """Bytes: a whole number, or a text with a unit. `GB` is 10^9, `GiB` is 2^30, as the standard has it."""

    low: int
    high: int

    @property
    def accepted(self) -> str:
        return f'bytes from {self.low} to {self.high}, plain or with a unit such as "64KiB", "1GB"'

    def parse(self, value: object, base: Path) -> int:  # noqa: ARG002
        return _within(_Amount(tuple(_SIZE_UNITS.items()), 1).read(value), self.low, self.high)


@dataclass(frozen=True, slots=True)
class Duration:
    """A time in the key's own unit: a whole number, or a text with a unit that gives a whole number of it."""

    low: int
    high: int
    unit: str

    @property
    def accepted(self) -> str:
        return f'{self.unit} from {self.low} to {self.high}, plain or with a unit such as "30s", "365d"'

    def parse(self, value: object, base: Path) -> int:  # noqa: ARG002
        unit_ms = _TIME_UNITS_MS[self.unit]
        count, rest = divmod(_Amount(tuple(_TIME_UNITS_MS.items()), unit_ms).read(value), unit_ms)
        if rest:
            raise RefusedError
        return _within(count, self.low, self.high)


@dataclass(frozen=True, slots=True)
class Boolean:
    """Yes or no."""

    @property
    def accepted(self) -> str:
        return "true or false (in a variable also 1, 0, yes, no, on, off, enabled, disabled)"

    def parse(self, value: object, base: Path) -> bool:  # noqa: ARG002
        if isinstance(value, bool):
            return value
        word = value.strip().lower() if isinstance(value, str) else ""
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
        raise RefusedError


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words, in any case. `aliases` are other spellings of a word."""

    words: tuple[str, ...]
    aliases: tuple[tuple[str, str], ...] = ()

    @property
    def accepted(self) -> str:
        return "one of " + ", ".join(f'"{word}"' for word in self.words)

    def parse(self, value: object, base: Path) -> str:  # noqa: ARG002
        if not isinstance(value, str):
            raise RefusedError
        word = value.strip().lower()
        word = dict(self.aliases).get(word, word)
        if word not in self.words:
            raise RefusedError
        return word


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > _TEXT_CHARACTERS_MAX:
        raise RefusedError
    if not value.isprintable():
        raise RefusedError
    return value


@dataclass(frozen=True, slots=True)
class Text:
    """A printable text."""

    what: str = "a text"

    @property
    def accepted(self) -> str:
        return f"{self.what}, printable, at most {_TEXT_CHARACTERS_MAX} characters"

    def parse(self, value: object, base: Path) -> str:  # noqa: ARG002
        return _text(value)


@dataclass(frozen=True, slots=True)
class Secret:
    """A text that is never shown again (CV3)."""

    @property
    def accepted(self) -> str:
        return "a secret text"

    def parse(self, value: object, base: Path) -> str:  # noqa: ARG002
        return _text(value)


def _place(base: Path, value: object) -> Path:
    """A path, on `base` where it is relative, with `~` and `~user` read as the shell does."""
    try:
        return (base / Path(_text(value)).expanduser()).absolute()
    except RuntimeError:  # there is no such user
        raise RefusedError from None


@dataclass(frozen=True, slots=True)
class PathText:
    """One path. Relative ones stand on the folder of the file that names them, or on the working
    directory.
    """

    @property
    def accepted(self) -> str:
        return "a path"

    def parse(self, value: object, base: Path) -> Path:
        return _place(base, value)


@dataclass(frozen=True, slots=True)
class Paths:
    """Files and directories that exist: a list, or a text with `:` between them."""

    @property
    def accepted(self) -> str:
        return 'a list of files and directories that exist, such as ["policies", "extra.cedar"]'

    def parse(self, value: object, base: Path) -> tuple[Path, ...]:
        items = value.split(":") if isinstance(value, str) else value
        if not isinstance(items, list | tuple):
            raise RefusedError
        texts = [str(item) if isinstance(item, Path) else item for item in items]
        paths = tuple(_place(base, text) for text in texts)
        for path in paths:
            if not path.exists():
                raise RefusedError(f"names `{path}`, which does not exist")
        return paths


@dataclass(frozen=True, slots=True)
class Url:
    """An `http` or `https` address of a host, without user or password."""

    @property
    def accepted(self) -> str:
        return 'an http or https address such as "http://localhost:6333", without user or password'

    def parse(self, value: object, base: Path) -> str:  # noqa: ARG002
        from urllib.parse import urlsplit

        text = _text(value)
        try:
            parts = urlsplit(text)
            port = parts.port
        except ValueError:
            raise RefusedError from None
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in parts.netloc or port == 0:
            raise RefusedError
        return text
