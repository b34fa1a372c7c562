"""Where settings come from: a file, the environment, the command line. Each value keeps its place.

Why: "which of the four said so?" is the first question about any wrong setting, so the answer travels with
the value, into errors and into `symbi config show --origin`.
Not here: which settings there are (`settings`).

Invariants
- CC1 later wins: default, file, environment, command line.
- CC2 an unknown key or variable, a wrong type, an impossible value is an error that names place, key and
  accepted values; nothing is skipped.
- CC3 in one place a newer form wins over an older one, with a warning; across places CC1 holds.
- CC4 a setting whose part does not exist is refused when anybody sets it; only a variable that other programs
  use too is a warning instead.
- CC5 a file is read only when it was named, only when it is a regular file, and at most `FILE_BYTES_MAX` of
  it.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from symbi.config.lines import line_of, scan
from symbi.config.settings import CONFIG_PATH_VARIABLE, OTHER_VARIABLES, SETTINGS, Setting
from symbi.config.values import RefusedError
from symbi.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["FILE_BYTES_MAX", "Origin", "Resolved", "resolve"]

FILE_BYTES_MAX = 1 << 20  # a configuration is a page of text; more is a wrong path or an attack
_SHOWN_CHARACTERS_MAX = 64  # of a refused value, in a message

# What Kubernetes sets for every service of a namespace: one called `symbi-runtime` gives these, and
# `SYMBI_RUNTIME_PORT=tcp://…`, which only its value tells from a mistake of the operator.
_SERVICE_VARIABLE = re.compile(r".*_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)$")
_PREFIXES = ("SYMBI_", "SYMBIONT_")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from.

    Attributes:
        kind: Which of the four.
        place: `FILE:LINE`, the variable's name, or empty.
    """

    kind: Literal["default", "file", "environment", "command line"]
    place: str = ""

    def __str__(self) -> str:
        return self.place or self.kind


@dataclass(frozen=True, slots=True)
class Resolved:
    """Every setting that has a part: value and origin by key; and what must be said aloud."""

    values: dict[str, object]
    origins: dict[str, Origin]
    warnings: tuple[str, ...]
    file: Path | None


@dataclass(slots=True)
class _Reading:
    """One pass over all places: collects every problem, so that one run shows them all."""

    settings: Mapping[str, Setting]
    values: dict[str, object] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def place(self, found: Sequence[tuple[str, object, Origin]], base: Path) -> None:
        """Takes what one place says (CC3), over what earlier places said (CC1)."""
        newer: dict[str, Origin] = {}
        accepted: list[tuple[Setting, object, Origin]] = []
        for key, value, origin in found:
            setting = self.settings[key]
            parsed = self._accept(setting, value, origin, base)
            if parsed is not None:
                accepted.append((setting, parsed, origin))
                newer[key] = origin
        for setting, parsed, origin in accepted:
            if setting.older_form is None:
                self.keep(setting.key, parsed, origin)
                continue
            for key, value in setting.older_form(parsed).items():
                if key in newer:
                    over = f"`{key}` ({newer[key]}) wins over its older form `{setting.key}` ({origin})"
                    self.warnings.append(f"{over}: remove the older one")
                else:
                    self.keep(key, value, origin)

    def keep(self, key: str, value: object, origin: Origin) -> None:
        """Lets `value` stand, over what stood before (CC1)."""
        self.values[key], self.origins[key] = value, origin

    def _accept(self, setting: Setting, value: object, origin: Origin, base: Path) -> object | None:
        """The parsed value; `None` where it was refused or has no part (CC2, CC4)."""
        name = f"`{setting.key}`"
        if setting.common and not setting.built:
            self.warnings.append(
                f"`{origin}` is set and has no effect: its part does not exist in this version"
            )
            return None
        try:
            parsed = setting.kind.parse(value, base)
        except RefusedError as refused:
            why = str(refused) or ("is not" if setting.secret else f"is {_shown(value)}")
            self.problems.append(f"{origin}: {name} must be {setting.kind.accepted}; it {why}")
            return None
        if setting.built:
            return parsed
        gone = "this part does not exist in this version; remove the key"
        self.problems.append(f"{origin}: {name} cannot be set: {gone}")
        return None


def _shown(value: object) -> str:
    text = (
        f'"{value}"'
        if isinstance(value, str)
        else str(value).lower()
        if isinstance(value, bool)
        else str(value)
    )
    cut = text if len(text) <= _SHOWN_CHARACTERS_MAX else text[:_SHOWN_CHARACTERS_MAX] + "…"
    return "`" + "".join(char if char.isprintable() else "?" for char in cut) + "`"


def _nearest(name: str, known: Sequence[str]) -> str:
    from difflib import get_close_matches

    near = [key for key in known if key.endswith(f".{name}")] or get_close_matches(
        name, known, n=1, cutoff=0.6
    )
    return f"did you mean `{near[0]}`? " if near else ""


def _flatten(
    table: Mapping[str, object], tables: frozenset[str], prefix: str = ""
) -> list[tuple[str, object]]:
    """Dotted keys of a parsed file. Only a known table is opened: anything else is somebody's value."""
    found: list[tuple[str, object]] = []
    for name, value in table.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and key in tables:
            found += _flatten(value, tables, f"{key}.")
        else:
            found.append((key, value))
    return found


def _tables(settings: Mapping[str, Setting]) -> frozenset[str]:
    parts = [key.split(".")[:-1] for key in settings]
    return frozenset(".".join(part[:depth]) for part in parts for depth in range(1, len(part) + 1))


def _read_file(path: Path) -> str:
    """The file's text (CC5)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a FIFO must not hold us up
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {os.strerror(error.errno or 0).lower()}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ConfigError(f"{path}: is not a regular file: a configuration is a TOML file")
        with os.fdopen(descriptor, "rb", closefd=False) as stream:
            data = stream.read(FILE_BYTES_MAX + 1)
    finally:
        os.close(descriptor)
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError(f"{path}: is larger than {FILE_BYTES_MAX} bytes: a configuration is a page of text")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}:{line}: is not UTF-8 text") from None


def _parse_file(path: Path, text: str) -> dict[str, object]:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        where = re.search(r"line (\d+)", str(error))
        place = f"{path}:{where[1]}" if where else str(path)
        raise ConfigError(f"{place}: is not TOML: {str(error).lower()}") from None
    except RecursionError:
        raise ConfigError(f"{path}: is not TOML that anybody wrote: nested too deep") from None


def _from_file(path: Path, reading: _Reading) -> list[tuple[str, object, Origin]]:
    text = _read_file(path)
    table, lines = _parse_file(path, text), scan(text)
    known = {key: setting for key, setting in reading.settings.items() if setting.in_file}
    tables = _tables(known)
    found = []
    for key, value in _flatten(table, tables):
        line = line_of(lines, key)
        origin = Origin("file", f"{path}:{line}" if line else str(path))
        if key in known:
            found.append((key, value, origin))
        elif key in tables:
            reading.problems.append(
                f"{origin}: `{key}` must be a table: write `[{key}]`; it is {_shown(value)}"
            )
        else:
            reading.problems.append(
                f"{origin}: unknown key {_shown_key(key)}: {_accepted_in(key, known, tables)}"
            )
    return found


def _shown_key(key: str) -> str:
    return "`" + "".join(char if char.isprintable() else "?" for char in key[:_SHOWN_CHARACTERS_MAX]) + "`"


def _accepted_in(key: str, known: Mapping[str, Setting], tables: frozenset[str]) -> str:
    """The nearest key, and what the table that it stands in accepts."""
    near = _nearest(key, list(known))
    table = key.rpartition(".")[0]
    if table in tables:
        names = ", ".join(
            f"`{name.rpartition('.')[2]}`" for name in known if name.rpartition(".")[0] == table
        )
        return f"{near}accepted in [{table}] are {names}"
    top = sorted(name for name in tables if "." not in name)
    near = near or _nearest(key, top)
    return f"{near}accepted tables are " + ", ".join(f"`[{name}]`" for name in top)


def _of_a_service(name: str, value: str) -> bool:
    return bool(_SERVICE_VARIABLE.match(name)) or (name.endswith("_PORT") and "://" in value)


def _from_environment(environ: Mapping[str, str], reading: _Reading) -> list[tuple[str, object, Origin]]:
    known = {variable: key for key, setting in reading.settings.items() for variable in setting.variables}
    names = [*known, *OTHER_VARIABLES]
    for name in sorted(environ):
        if name.startswith(_PREFIXES) and name not in names and not _of_a_service(name, environ[name]):
            near = _nearest(name, names)
            listed = ", ".join(f"`{each}`" for each in sorted(names) if each.startswith(_PREFIXES))
            reading.problems.append(
                f"environment: unknown variable {_shown_key(name)}: {near}accepted are {listed}"
            )
    # An empty variable is how shells and compose files say "not set".
    return [
        (key, environ[name], Origin("environment", name)) for name, key in known.items() if environ.get(name)
    ]


def _from_overrides(overrides: Mapping[str, object], reading: _Reading) -> list[tuple[str, object, Origin]]:
    found = []
    for key, value in overrides.items():
        if key in reading.settings:
            found.append((key, value, Origin("command line")))
        else:
            near = _nearest(key, list(reading.settings))
            reading.problems.append(f"command line: unknown key {_shown_key(key)}: {near}".rstrip(": "))
    return found


def resolve(
    path: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[str, object],
    settings: Sequence[Setting] = SETTINGS,
) -> Resolved:
    """Reads every place, in order (CC1).

    Args:
        path: The file; `None` takes the one that `SYMBI_CONFIG_PATH` names, if it does.
        environ: Variables.
        overrides: What the command line, or the embedding program, says, by key.
        settings: The table.

    Raises:
        ConfigError: the first problem; the others are its notes.
    """
    reading = _Reading({setting.key: setting for setting in settings})
    for setting in settings:
        if setting.built:
            reading.keep(setting.key, setting.default_value(), Origin("default"))
    if path is None and environ.get(CONFIG_PATH_VARIABLE):
        path = Path(environ[CONFIG_PATH_VARIABLE])
    if path is not None:
        reading.place(_from_file(path, reading), path.absolute().parent)
    reading.place(_from_environment(environ, reading), Path.cwd())
    reading.place(_from_overrides(overrides, reading), Path.cwd())
    if reading.problems:
        first, *others = reading.problems
        error = ConfigError(first)
        for other in others:
            error.add_note(f"and: {other}")
        raise error
    return Resolved(reading.values, reading.origins, tuple(reading.warnings), path)
