"""Test cases of policies, in TOML beside them.

    # page.test.toml
    policies = ["page.cedar", "secure-default"]     # without it: every policy of the directory

    [[entity]]                                      # what the cases' names stand for
    uid = 'Agent::"ana"'
    attrs = { capabilities = ["page:send"] }

    [[case]]
    name = "a page goes out"
    principal = 'Agent::"ana"'
    action = "tool.call"
    resource = 'Tool::"pager.send"'
    context = { bytes = 10 }
    expect = "allow"                                # "deny", or an obligation such as "redact"
    rule = "pages-go-out"                           # or rules = […]: exactly those that determine

Why: a policy without a test is a guess, and the person who writes policies need not write programs.
Not here: printing (`symbi.cli`), deciding (the core).

Invariants
- PT1 a file with a word that is not known is refused: a misspelt `expct` must not pass as a test, nor a decision that
  there is none of fail as if the policies were wrong.
- PT2 a case that does not fit the schema fails; it is never passed because it was denied for that.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from symbi import _core
from symbi.errors import InputError
from symbi.policy.explanation import Explanation
from symbi.policy.requests import entity_of, only, request_of
from symbi.policy.sources import STARTERS, PolicyTexts, read_policies

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

__all__ = ["Case", "CaseResult", "Suite", "find_suites", "run_suite"]

FILE_BYTES_MAX = 1 << 20
DEPTH_MAX = 64  # of open brackets: the parser of the standard library recurses
SUFFIX = ".test.toml"

EXPECTED = ("allow", "deny", "redact", "approval", "tier", "read_only", "budget", "record", "notify")
"""What a decision can be: an obligation by its name, the first where there are several."""

_SUITE_KEYS = frozenset({"policies", "entity", "case"})
_CASE_KEYS = frozenset(
    {"name", "principal", "action", "resource", "context", "call", "expect", "rule", "rules"}
)


@dataclass(frozen=True, slots=True)
class Case:
    """One request and what is expected. `rules`: exactly those that determine; None where nobody asked."""

    name: str
    line: int
    request: Mapping[str, Any]
    expect: str
    rules: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What came of a case. `problem` is None where it is as expected."""

    suite: str
    case: Case
    decision: str
    rules: tuple[str, ...]
    problem: str | None
    explanation: Explanation


@dataclass(frozen=True, slots=True)
class Suite:
    """The cases of one file, and the policies that they are about."""

    path: Path
    policies: PolicyTexts
    cases: tuple[Case, ...]


def find_suites(paths: Iterable[Path]) -> list[Path]:
    """The `*.test.toml` files of the paths: files as they are, directories with everything below them.

    Raises:
        InputError: a path is not there, is of another kind, or holds no test.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(path.rglob(f"*{SUFFIX}"))
            if not inside:
                raise InputError(f"`{path}` holds no `*{SUFFIX}`: nothing would be tested")
            found += inside
        elif path.name.endswith(SUFFIX) and path.is_file():
            found.append(path)
        elif not path.exists():
            raise InputError(f"there is no `{path}`: name `*{SUFFIX}` files, or directories that hold them")
        else:
            raise InputError(f"`{path}` is no test of policies: accepted are `*{SUFFIX}` and directories")
    return list(dict.fromkeys(found))


def read_suite(path: Path) -> Suite:
    """One file of cases.

    Raises:
        InputError: it is not TOML, or not of this form (PT1); the text names file and place.
        PolicyError: the policies it names are not there.
    """
    text = _text(path)
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path}: {error}") from None
    only(document, _SUITE_KEYS, f"{path}:1")
    named = document.get("policies")
    if named is not None and not (isinstance(named, list) and all(isinstance(one, str) for one in named)):
        raise InputError(f"{path}:1: `policies` is a list of paths and names")
    here = path.parent
    paths = [here] if named is None else [one if one in STARTERS else here / one for one in named]
    entities = _entities(path, text, document.get("entity", []))
    lines = _lines(text, "case")
    tables = document.get("case", [])
    if not isinstance(tables, list) or not tables:
        raise InputError(f"{path}:1: no `[[case]]`: nothing would be tested")
    cases = [
        _case(table, f"{path}:{line}", line, entities)
        for table, line in zip(tables, [*lines, *[1] * len(tables)], strict=False)
    ]
    return Suite(path, read_policies(paths), tuple(cases))


def run_suite(suite: Suite) -> list[CaseResult]:
    """Decides every case. The set is compiled once.

    Raises:
        PolicyError: the policies do not compile.
    """
    sources, counters = list(suite.policies.sources), list(suite.policies.counters)
    requests = [_json(case.request) for case in suite.cases]
    results = []
    for case, told in zip(suite.cases, _core.explain_many(requests, sources, counters), strict=True):
        invalid, explained = told
        explanation = Explanation.of(explained)
        problem = _problem(case, invalid, explanation)
        results.append(
            CaseResult(
                str(suite.path), case, explanation.decision, explanation.determining, problem, explanation
            )
        )
    return results


def _problem(case: Case, invalid: str | None, got: Explanation) -> str | None:
    if invalid is not None:
        return f"the request does not fit the schema: {invalid}"  # PT2
    if got.decision != case.expect:
        return f"expected `{case.expect}`, got `{got.decision}`: {got.summary}"
    if case.rules is not None and set(case.rules) != set(got.determining):
        wanted = ", ".join(f"`{rule}`" for rule in case.rules) or "no rule"
        found = ", ".join(f"`{rule}`" for rule in got.determining) or "no rule"
        return f"expected by {wanted}, got it by {found}"
    return None


def _json(request: Mapping[str, Any]) -> str:
    import json

    try:
        return json.dumps(request, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"a case holds what is not a policy value: {error}") from None


def _text(path: Path) -> str:
    data = path.read_bytes()
    if len(data) > FILE_BYTES_MAX:
        raise InputError(f"`{path}` has {len(data)} bytes; a file of tests has at most {FILE_BYTES_MAX}")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"`{path}` is not UTF-8 at byte {error.start}") from None
    depth = deepest = 0
    for char in text:
        depth += (char in "[{") - (char in "]}")
        deepest = max(deepest, depth)
    if deepest > DEPTH_MAX:
        raise InputError(f"`{path}` opens {deepest} brackets at one place; at most {DEPTH_MAX} are accepted")
    return text


def _lines(text: str, table: str) -> list[int]:
    """Where the tables of this name begin."""
    head = f"[[{table}]]"
    return [number for number, line in enumerate(text.splitlines(), 1) if line.strip().startswith(head)]


def _entities(path: Path, text: str, tables: Any) -> dict[tuple[str, str], dict[str, Any]]:
    if not isinstance(tables, list):
        raise InputError(f"{path}:1: entities are `[[entity]]` tables")
    found = {}
    for table, line in zip(tables, [*_lines(text, "entity"), *[1] * len(tables)], strict=False):
        place = f"{path}:{line}"
        uid, entity = entity_of(table, place)
        if uid in found:
            raise InputError(f'{place}: `{uid[0]}::"{uid[1]}"` stands twice')
        found[uid] = entity
    return found


def _case(table: Any, place: str, line: int, entities: Mapping[tuple[str, str], dict[str, Any]]) -> Case:
    only(table, _CASE_KEYS, place)
    for name in ("principal", "action", "resource", "expect"):
        if not isinstance(table.get(name), str):
            raise InputError(f"{place}: a case needs `{name}`, a text")
    if table["expect"] not in EXPECTED:
        accepted = ", ".join(f"`{word}`" for word in EXPECTED)
        raise InputError(f"{place}: `{table['expect']}` is no decision: `expect` is one of {accepted}")
    rules = table.get("rules", None if "rule" not in table else [table["rule"]])
    if rules is not None and not (isinstance(rules, list) and all(isinstance(one, str) for one in rules)):
        raise InputError(f"{place}: `rule` is a text, `rules` a list of texts")

    given, call = table.get("context", {}), table.get("call")
    if not isinstance(given, dict) or not isinstance(call, dict | None):
        raise InputError(f"{place}: `context` and `call` are tables")
    request = request_of(
        (table["principal"], table["action"], table["resource"]), given, entities, call=call, place=place
    )
    name = table.get("name", f"{table['principal']} {table['action']} {table['resource']}")
    return Case(str(name), line, request, table["expect"], None if rules is None else tuple(rules))
