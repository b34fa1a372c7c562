"""docs/policy.md, docs/approvals.md and docs/budgets.md: every block compiles and runs, and the tables name what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from symbi.policy import builtin_policy, check_policies

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "policy.md"
PAGES = [PAGE, DOCS / "approvals.md", DOCS / "budgets.md"]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_policy_and_counter_of_a_page_compiles_as_one_set(page: Path) -> None:
    sources = [("cedar", f"block{number}", text) for number, text in enumerate(blocks(page, "cedar"))]
    assert sources
    sources += [("counters", f"counters{number}", text) for number, text in enumerate(blocks(page, "toml"))]
    assert check_policies(sources) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page: Path) -> None:
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), {})  # noqa: S102 - our own page


def test_every_obligation_has_its_row() -> None:
    table = PAGES[1].read_text(encoding="utf-8").split("## How an operation waits")[0]
    rows = {
        row.split("`")[1]
        for row in table.splitlines()
        if row.startswith("| `") and "@obligation" not in row[:16]
    }
    assert rows == {"redact", "approval", "tier", "read_only", "budget", "record", "notify"}


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
