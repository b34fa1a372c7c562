"""Frameworks of compliance: controls, what would be evidence for each, and the queries that find it. A TOML file each.

    name = "house"
    title = "House rules"
    [[control]]
    id = "H1"
    title = "Nothing leaves unapproved"
    asks = "Every call of an outside tool is approved by a person."
    evidence = [
      { says = "{count} calls were approved", query = { action = "operation.approve" } },
      { says = "{count} calls were refused", query = { decision = "deny" }, required = false },
      { says = "the record of it holds: {verified}", fact = "verified" },
    ]

Not here: finding the evidence (`symbi.audit.report`), and whether it is enough, which nobody can read from a trail.

Invariants
- FW1 a file says what it means or is refused: unknown keys, filters and facts are errors that name their place.
- FW2 every control has an item that it requires: there is none that is fulfilled by nothing.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Any, cast

from symbi.errors import InputError

if TYPE_CHECKING:
    from symbi.audit.query import Filters

__all__ = ["FACTS", "Control", "Framework", "Item", "built_in", "load"]

FACTS = {
    "verified": "the trail verified",
    "authentic": "and it was signed by the key whose fingerprint was given",
    "complete": "and checkpoints that were kept elsewhere vouch for every record of the report's time",
    "covers_days": "it reaches back so many days",
}
_FILTERS = {
    "agent_id",
    "event_type",
    "op",
    "run",
    "decision",
    "action",
    "rule",
    "resource",
    "label",
    "subject",
}
_FRAMEWORK = {"name", "title", "edition", "notice", "control"}
_CONTROL = {"id", "title", "asks", "evidence"}
_ITEM = {"says", "query", "fact", "days", "required", "least"}


@dataclass(frozen=True, slots=True)
class Item:
    """What would be evidence.

    Attributes:
        says: The sentence, with `{count}` and `{verified}`.
        query: What is counted; None for a fact.
        fact: One of `FACTS`.
        days: For `covers_days`.
        required: Whether the control lacks something without it.
        least: So many records make it evidence.
    """

    says: str
    query: Filters | None = None
    fact: str | None = None
    days: int = 0
    required: bool = True
    least: int = 1


@dataclass(frozen=True, slots=True)
class Control:
    """One control, and what would be evidence for it."""

    id: str
    title: str
    asks: str
    evidence: tuple[Item, ...]


@dataclass(frozen=True, slots=True)
class Framework:
    """A framework."""

    name: str
    title: str
    edition: str
    notice: str
    controls: tuple[Control, ...]


def built_in() -> list[str]:
    """The frameworks that come with symbi."""
    found = files("symbi.audit").joinpath("frameworks").iterdir()
    return sorted(one.name.removesuffix(".toml") for one in found if one.name.endswith(".toml"))


def load(wanted: str | Path) -> Framework:
    """A framework by its name, or from a file.

    Raises:
        InputError: there is none, or the file is not one (FW1).
    """
    if isinstance(wanted, str) and wanted in built_in():
        place = f"the framework `{wanted}`"
        text = files("symbi.audit").joinpath("frameworks", f"{wanted}.toml").read_text("utf-8")
    else:
        place = f"`{wanted}`"
        try:
            text = Path(wanted).read_text("utf-8")
        except OSError as error:
            names = ", ".join(built_in())
            raise InputError(f"{place} is neither a file nor one of {names}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise InputError(f"{place}: {error}") from error
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{place} is not TOML: {error}") from error
    return _framework(table, place)


def _framework(table: dict[str, Any], place: str) -> Framework:
    _only(table, _FRAMEWORK, place)
    controls = table.get("control")
    if not isinstance(controls, list) or not controls:
        raise InputError(f"{place} has no `[[control]]`")
    found = tuple(_control(one, f"{place}, control {number + 1}") for number, one in enumerate(controls))
    twice = {one.id for one in found if sum(other.id == one.id for other in found) > 1}
    if twice:
        raise InputError(f"{place}: the control `{min(twice)}` stands there twice")
    return Framework(
        _text(table, "name", place),
        _text(table, "title", place),
        _text(table, "edition", place, ""),
        _text(table, "notice", place, ""),
        found,
    )


def _control(table: Any, place: str) -> Control:
    _only(table, _CONTROL, place)
    name = _text(table, "id", place)
    place = f"{place} (`{name}`)"
    items = table.get("evidence")
    if not isinstance(items, list) or not items:
        raise InputError(f"{place} has no `evidence`")
    evidence = tuple(_item(one, f"{place}, evidence {number + 1}") for number, one in enumerate(items))
    if not any(item.required for item in evidence):
        raise InputError(f"{place} requires nothing: it would be fulfilled by nothing")  # FW2
    return Control(name, _text(table, "title", place), _text(table, "asks", place, ""), evidence)


def _item(table: Any, place: str) -> Item:
    _only(table, _ITEM, place)
    query, fact = table.get("query"), table.get("fact")
    if (query is None) == (fact is None):
        raise InputError(f"{place} has either a `query` or a `fact`")
    if fact is not None and fact not in FACTS:
        raise InputError(f"{place}: there is no fact `{fact}`: {', '.join(FACTS)}")
    if query is not None:
        _only(query, _FILTERS, f"{place}, `query`")
        for name in query:
            _text(query, name, f"{place}, `query`")
    days, least, required = table.get("days", 0), table.get("least", 1), table.get("required", True)
    if type(days) is not int or type(least) is not int or least < 1 or type(required) is not bool:
        raise InputError(
            f"{place}: `days` and `least` are whole numbers, `least` from 1; `required` is a bool"
        )
    if (fact == "covers_days") != (days > 0):
        raise InputError(f"{place}: `covers_days` and a number of `days` go together")
    says = _text(table, "says", place)
    _sentence(says, place)
    return Item(says, cast("Filters | None", query), fact, days, required, least)


def _sentence(says: str, place: str) -> None:
    """FW1: in braces stands a documented name alone. An attribute would print what is ours, a width megabytes."""
    said = f"{place}: `says` takes `{{count}}` and `{{verified}}`"
    try:
        parts = list(Formatter().parse(says))
    except ValueError as error:
        raise InputError(f"{said}: {error}") from error
    for _, name, form, conversion in parts:
        if name is not None and (name not in ("count", "verified") or form or conversion):
            more = (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
            raise InputError(f"{said}, not `{{{name}{more}}}`; a brace of its own is written twice")


def _only(table: Any, allowed: set[str], place: str) -> None:
    if not isinstance(table, dict):
        raise InputError(f"{place} is not a table")
    unknown = table.keys() - allowed
    if unknown:
        raise InputError(f"{place} has no `{min(unknown)}`: {', '.join(sorted(allowed))}")


def _text(table: dict[str, Any], name: str, place: str, default: str | None = None) -> str:
    value = table.get(name, default)
    if not isinstance(value, str) or (default is None and not value):
        raise InputError(f"{place}: `{name}` is a text")
    return value
