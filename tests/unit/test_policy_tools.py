"""`symbi policy test` and `symbi explain` of a request: what is said, where, and how it ends."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import symbi
from symbi.cli.main import main
from symbi.policy import builtin_policy, check_policies
from symbi.policy.sources import STARTERS, read_policies
from symbi.policy.testing import find_suites, read_suite, run_suite

STARTER_TESTS = Path(__file__).parents[1] / "policies"

POLICY = """
@id("small-pages")
@message("pages are short")
permit (principal is Agent, action == Action::"tool.call", resource == Tool::"pager.send")
when { principal.capabilities.contains("page:send") && context.bytes < 100 };
"""
CASE = """
[[case]]
name = "a short page"
principal = 'Agent::"ana"'
action = "tool.call"
resource = 'Tool::"pager.send"'
context = { bytes = 10 }
expect = "allow"
rule = "small-pages"
"""
ANA = '[[entity]]\nuid = \'Agent::"ana"\'\nattrs = { capabilities = ["page:send"] }\n'


def page(directory: Path, tests: str, policy: str = POLICY) -> Path:
    (directory / "page.cedar").write_text(policy, encoding="utf-8")
    path = directory / "page.test.toml"
    path.write_text(tests, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", find_suites([STARTER_TESTS]), ids=lambda path: path.name)
def test_every_case_of_a_starter_policy_is_as_expected(path: Path) -> None:
    for result in run_suite(read_suite(path)):
        assert result.problem is None, f"{result.case.line}: {result.case.name}: {result.problem}"


def test_every_starter_policy_has_cases_for_all_of_its_rules_and_stands_by_its_name() -> None:
    """PS3."""
    from symbi._core import starter_policies

    assert tuple(starter_policies()) == STARTERS
    for name in STARTERS:
        texts = read_policies([name])
        assert texts.sources == ((name, builtin_policy(name)),)
        assert check_policies([("cedar", name, builtin_policy(name))]) == [], "neither errors nor warnings"
        results = run_suite(read_suite(STARTER_TESTS / f"{name}.test.toml"))
        assert {"allow", "deny"} <= {result.decision for result in results}, name
        if name != "secure-default":  # some of its rules are about the host's own steps
            engine = symbi.PolicyEngine("symbi")
            engine.register_policy(builtin_policy(name), name)
            rules = {rule for result in results for rule in result.rules}
            missing = [line for line in builtin_policy(name).splitlines() if line.startswith('@id("')]
            assert not [line for line in missing if line.split('"')[1] not in rules], name


def test_all_starter_policies_stand_beside_one_another() -> None:
    sources = [("cedar", name, builtin_policy(name)) for name in STARTERS]
    assert check_policies(sources) == []


def test_cases_that_hold_end_with_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page(tmp_path, ANA + CASE)
    assert main(["policy", "test", str(tmp_path)]) == 0
    assert "1 cases in 1 file: 1 passed, 0 failed" in capsys.readouterr().err


def test_a_case_that_fails_names_its_line_the_rule_the_clause_and_its_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CP1."""
    path = page(tmp_path, ANA + CASE.replace("10", "4096"))
    assert main(["policy", "test", str(path)]) == 1
    said = capsys.readouterr().out
    assert f"{path}:5: a short page" in said
    assert "expected `allow`, got `deny`" in said
    assert "clause: context.bytes < 100   (context.bytes = 4096)" in said
    assert "it would be allowed if `context.bytes < 100` held" in said


def test_the_rule_that_decides_is_part_of_what_is_expected(tmp_path: Path) -> None:
    path = page(tmp_path, ANA + CASE.replace('"small-pages"', '"large-pages"'))
    (result,) = run_suite(read_suite(path))
    assert result.problem == "expected by `large-pages`, got it by `small-pages`"


def test_json_has_every_case(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page(tmp_path, ANA + CASE + CASE.replace("10", "200").replace("a short", "a long"))
    assert main(["policy", "test", str(tmp_path), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert [case["passed"] for case in told["cases"]] == [True, False]
    assert told["failed"] == 1
    assert told["cases"][1]["explanation"]["single_change"]["after"] == 99


@pytest.mark.parametrize(
    ("tests", "said"),
    [
        (CASE.replace("expect", "expct"), "page.test.toml:2: `expct` is not known: did you mean `expect`?"),
        (CASE.replace("'Agent::\"ana\"'", "'ana'"), "is not an entity"),
        (CASE.replace('"allow"', "1"), "a case needs `expect`"),
        ("", "no `[[case]]`"),
        ("[[case", "page.test.toml:"),
        ("case = 3", "no `[[case]]`"),
        (ANA + ANA + CASE, "stands twice"),
        (ANA.replace("attrs", "atrs") + CASE, "did you mean `attrs`?"),
        ("x = " + "[" * 5_000 + "]" * 5_000, "opens 5000 brackets"),
        ("policies = 'page.cedar'\n" + CASE, "`policies` is a list"),
    ],
)
def test_a_file_of_cases_that_is_not_right_is_refused_with_its_place(
    tests: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """PT1."""
    assert main(["policy", "test", str(page(tmp_path, tests))]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    "wrong",
    [
        CASE.replace("context = { bytes = 10 }", 'context = { bytes = "10" }'),
        CASE.replace("context = { bytes = 10 }", "context = { bites = 10 }"),
        CASE.replace("tool.call", "tool.cal"),
        ANA.replace("capabilities", "capabilites") + CASE,
    ],
)
def test_a_case_that_does_not_fit_the_schema_fails_even_where_it_expects_a_denial(
    wrong: str, tmp_path: Path
) -> None:
    """PT2: it would be denied for a reason that nobody meant."""
    text = wrong.replace('"allow"', '"deny"').replace('rule = "small-pages"', "")
    (result,) = run_suite(read_suite(page(tmp_path, text)))
    assert result.problem is not None
    assert "does not fit the schema" in result.problem


def test_what_a_case_leaves_out_never_allows_more(tmp_path: Path) -> None:
    """PT3."""
    (result,) = run_suite(read_suite(page(tmp_path, CASE)))
    assert result.decision == "deny", "an agent has no capability that nobody gave it"


def test_directories_without_a_test_and_other_files_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["policy", "test", str(tmp_path)]) == 2
    assert "nothing would be tested" in capsys.readouterr().err
    assert main(["policy", "test", str(tmp_path / "x.toml")]) == 2


def test_no_text_makes_the_reader_of_cases_fail_otherwise_than_by_refusing(tmp_path: Path) -> None:
    """What is generated from its own words, 3,000 times."""
    pieces = [
        *CASE.splitlines(),
        *ANA.splitlines(),
        "[[",
        "]]",
        "{",
        "}",
        "'",
        '"',
        "=",
        "\n",
        "\\",
        "é",
        "1e9",
    ]
    pieces += ["case", "[case]", "[[case.x]]", "inf", "context = [1]", "call = {a = 1}", "parents = ['x']"]
    path = page(tmp_path, "")
    dice = random.Random(11)  # noqa: S311 - the same each run
    refused = 0
    for _ in range(3_000):
        path.write_text("\n".join(dice.choices(pieces, k=dice.randrange(12))), encoding="utf-8")
        try:
            run_suite(read_suite(path))
        except symbi.SymbiError:
            refused += 1
    assert refused > 2_000


def test_a_request_is_explained_with_every_failing_clause_and_the_one_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """EX3."""
    page(tmp_path, CASE)
    entities = tmp_path / "entities.json"
    entities.write_text(json.dumps([{"uid": 'Agent::"ana"', "attrs": {"capabilities": ["page:send"]}}]))
    asked = ["--principal", 'Agent::"ana"', "--action", "tool.call", "--resource", 'Tool::"pager.send"']
    policy = ["--policy", str(tmp_path / "page.cedar")]
    assert main(["explain", *asked, "--context", '{"bytes": 4096}', *policy]) == 0
    both = capsys.readouterr().out
    assert "clause: principal.capabilities.contains(" in both
    assert "and: context.bytes < 100" in both
    assert "context.bytes = 4096" in both
    assert "no single change would" in both
    one = ["explain", *asked, "--context", '{"bytes": 4096}', *policy, "--entities", str(entities), "--json"]
    assert main(one) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["decision"] == "deny"
    assert told["explanation"]["single_change"] == {
        "kind": "attribute",
        "what": "context.bytes",
        "before": 4096,
        "after": 99,
    }
    assert main(["explain", *asked, "--context", '{"bytes": 9}', *policy, "--entities", str(entities)]) == 0
    assert capsys.readouterr().out.startswith("allow: ")


def test_explaining_needs_a_decision_or_a_whole_request(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain"]) == 2
    assert "name a decision" in capsys.readouterr().err
    assert main(["explain", "--request", "[]"]) == 2
    assert main(["explain", "--request", "{"]) == 2


def engine_with(text: str, entities: list[dict[str, Any]] | None = None) -> symbi.PolicyEngine:
    engine = symbi.PolicyEngine(None, entities or [])
    engine.register_policy(text)
    return engine


@pytest.mark.parametrize(
    ("condition", "context", "what", "after"),
    [
        ("context.n < 5", {"n": 9}, "context.n", 4),
        ("context.n <= 5", {"n": 9}, "context.n", 5),
        ("context.n > 5", {"n": 1}, "context.n", 6),
        ("context.n >= 5", {"n": 1}, "context.n", 5),
        ("5 < context.n", {"n": 1}, "context.n", 6),
        ("5 > context.n", {"n": 9}, "context.n", 4),
        ('context.s == "x"', {"s": "y"}, "context.s", "x"),
        ("context.flag", {"flag": False}, "context.flag", True),
        ("!context.flag", {"flag": True}, "context.flag", False),
        ('context.l.contains("a")', {"l": ["b"]}, "context.l", ["b", "a"]),
        ('!context.l.contains("a")', {"l": ["a", "b"]}, "context.l", ["b"]),
        ('context.l.containsAll(["a", "b"])', {"l": ["b"]}, "context.l", ["a", "b"]),
        ('["a"].containsAll(context.l)', {"l": ["a", "b"]}, "context.l", ["a"]),
    ],
)
def test_the_one_change_of_an_attribute_is_named_and_was_tried(
    condition: str, context: dict[str, Any], what: str, after: Any
) -> None:
    """X2: here it is tried once more, by hand."""
    engine = engine_with(f"permit (principal, action, resource) when {{ {condition} }};")
    told = engine.explain_policy('U::"u"', "read", 'T::"t"', context)
    assert told.single_change is not None
    assert (told.single_change.what, told.single_change.after) == (what, after)
    name = what.partition(".")[2]
    assert engine.evaluate_policy('U::"u"', "read", 'T::"t"', {**context, name: after}).allowed


def test_a_membership_that_would_allow_is_named() -> None:
    engine = engine_with('permit (principal in G::"readers", action, resource);', [{"uid": 'U::"u"'}])
    told = engine.explain_policy('U::"u"', "read", 'T::"t"')
    assert told.single_change is not None
    assert (told.single_change.kind, told.single_change.what) == ("membership", "principal")
    assert told.single_change.after == [{"type": "G", "id": "readers"}]


def test_a_change_that_another_rule_would_undo_is_not_named() -> None:
    """X2: the clause alone would be enough, but the value that fulfils it runs into a forbid."""
    engine = engine_with(
        "permit (principal, action, resource) when { context.n < 5 };"
        "forbid (principal, action, resource) when { context.n == 4 };"
    )
    told = engine.explain_policy('U::"u"', "read", 'T::"t"', {"n": 9})
    assert told.single_change is None


def test_every_clause_of_every_forbid_that_applies_is_told() -> None:
    engine = engine_with(
        '@id("a") forbid (principal, action, resource) when { context.n > 1 && context.n > 2 };'
        '@id("b") forbid (principal, action, resource) when { context.n > 3 };'
        "permit (principal, action, resource);"
    )
    told = engine.explain_policy('U::"u"', "read", 'T::"t"', {"n": 9})
    assert told.determining == ("a", "b")
    assert [(one.rule, one.clause) for one in told.failing] == [
        ("a", "context.n > 1"),
        ("a", "context.n > 2"),
        ("b", "context.n > 3"),
    ]
    assert told.change_that_would_allow is None
    assert told.single_change is None
