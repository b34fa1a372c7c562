"""docs/policy.md: every block compiles and runs, and its tables name what there is."""

from __future__ import annotations

import re
from pathlib import Path

from symbi.policy import builtin_policy, check_policies

PAGE = Path(__file__).parents[2] / "docs" / "policy.md"


def blocks(language: str) -> list[str]:
    found = re.findall(
        rf"^```{language}\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    assert found, language
    return found


def test_every_policy_and_counter_of_the_page_compiles_as_one_set() -> None:
    sources = [("cedar", f"block{number}", text) for number, text in enumerate(blocks("cedar"))]
    sources += [("counters", "counters", text) for text in blocks("toml")]
    assert check_policies(sources) == []


def test_the_python_of_the_page_runs() -> None:
    for block in blocks("python"):
        exec(compile(block, str(PAGE), "exec"), {})  # noqa: S102 - our own page


def test_every_action_and_entity_of_the_schema_is_on_the_page_and_no_other() -> None:
    page, schema = PAGE.read_text(encoding="utf-8"), builtin_policy("schema")
    actions = set(re.findall(r'^action "([a-z.]+)"', schema, re.MULTILINE))
    table = page.split("## Actions")[1].split("The principal is")[0]
    named = {
        name
        for row in table.splitlines()
        if row.startswith("| `")
        for name in re.findall(r"`([a-z.]+)`", row)
    }
    assert named == actions
    entities = set(re.findall(r"^entity (\w+)", schema, re.MULTILINE))
    table = page.split("## Entities")[1].split("An attribute marked")[0]
    rows = [row.split("|")[1] for row in table.splitlines() if row.startswith("| `")]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == entities
