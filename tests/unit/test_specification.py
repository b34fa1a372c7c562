"""docs/SPECIFICATION.md names every promise once, and nothing that is not there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "SPECIFICATION.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| ([A-Z]\d+) \| (.*?) \| (.*) \|$", PAGE, re.MULTILINE)
FIRST_AND_LAST = {
    "P": (0, 5),
    "A": (1, 5),
    "S": (1, 10),
    "L": (0, 5),
    "R": (1, 3),
    "X": (1, 4),
    "B": (1, 8),
    "C": (1, 5),
    "M": (1, 6),
    "E": (1, 6),
    "T": (1, 10),
    "F": (1, 21),
    "G": (1, 3),
    "O": (1, 7),
    "D": (1, 6),
    "N": (1, 20),
}


def test_every_promise_stands_here_exactly_once() -> None:
    wanted = [f"{letter}{n}" for letter, (low, high) in FIRST_AND_LAST.items() for n in range(low, high + 1)]
    assert sorted(row[0] for row in ROWS) == sorted(wanted)


def test_every_row_has_one_state_and_what_is_done_names_what_shows_it() -> None:
    for identity, _, state in ROWS:
        word = re.match(r"\*\*(done|part|pending)\*\*", state)
        assert word, f"{identity}: `{state}` begins with no state"
        if word[1] != "pending":
            assert "`" in state or "docs/" in state, (
                f"{identity} is {word[1]} and names nothing that shows it"
            )


def test_what_is_named_exists() -> None:
    for identity, _, state in ROWS:
        for name in re.findall(r"`([\w./-]+\.(?:py|rs)|ci/\w+)`", state):
            root = ROOT if name.startswith("ci/") else ROOT / ("tests" if name.endswith(".py") else "rust")
            assert (root / name).exists(), f"{identity} names `{name}`"
        if "bench" in state and "no bench row" not in state and "bench row is" not in state:
            for suite in re.findall(r"bench (?:suites )?((?:`\w+`(?:, )?)+)", state):
                for name in re.findall(r"`(\w+)`", suite):
                    assert (ROOT / "python/symbi/bench/suites" / f"{name}.py").exists(), (
                        f"{identity}: `{name}`"
                    )


def test_the_threat_model_names_each_threat_once_what_meets_it_and_only_tests_that_exist() -> None:
    page = (ROOT / "docs" / "threat-model.md").read_text(encoding="utf-8")
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if re.match(r"\| T\d+ \|", line)]
    assert [row[0] for row in rows] == [f"T{number}" for number in range(1, len(rows) + 1)]
    for number, *cells in rows:
        assert len(cells) == 3, f"{number} has not a threat, what meets it, and its tests"
        tests = cells[2]
        named = re.findall(r"`((?:tests|rust)/[\w./-]+)`", tests)
        assert named or "pending" in tests, f"{number} names neither a test nor `pending`"
        for name in named:
            assert (ROOT / name).is_file(), f"{number} names `{name}`"
