"""What a person types that cannot be meant ends with 2 and says what is accepted; none of it is a fault of symbi's."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
import symbi
from symbi.audit.rows import time_us
from symbi.cli import exits
from symbi.cli.main import main
from symbi.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

HUGE = "9" * 23  # more than 64 bits
KEY = "0" * 32
BYTE = "\udcff"  # as the interpreter hands over an argument's byte that is no UTF-8
HOUSE = """
name = "house"
title = "House rules"
[[control]]
id = "H1"
title = "Refusals are on record"
evidence = [{{ says = "{says}", query = {{ event_type = "operation.denied" }} }}]
"""


@pytest.fixture
def trail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A log of three records, in the working directory."""
    monkeypatch.chdir(tmp_path)
    with symbi.AuditLog.open("trail", "a") as log:
        log.append("order.placed", "shop", {"number": 1})
    return "trail"


def records(trail: str) -> int:
    return symbi.AuditLog.open(trail).verify().records


@pytest.mark.parametrize(
    "command",
    [
        ("audit", "query", "trail", "--since"),
        ("audit", "tail", "trail", "--until"),
        ("audit", "report", "trail", "--framework", "gdpr", "--since"),
        ("audit", "prune", "trail", "--before"),
        ("audit", "compromised", KEY, "trail", "--from"),
        ("policy", "learn", "--trail", "trail", "--since"),
    ],
)
@pytest.mark.parametrize(
    "wrong", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+05:00"]
)
def test_cv1_a_time_outside_the_years_1_to_9999_is_answered_by_what_is_accepted(
    command: tuple[str, ...], wrong: str, trail: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, wrong]) == exits.USE
    err = capsys.readouterr().err
    assert wrong in err
    assert "years 1 to 9999" in err


def test_a_time_outside_the_years_1_to_9999_is_an_input_error_in_python_too(trail: str) -> None:
    with pytest.raises(InputError, match="years 1 to 9999"):
        symbi.AuditLog.open(trail).query(since="0001-01-01T00:00:00+23:59")
    assert time_us("0001-01-01T00:00:00Z", "since") == 0


@pytest.mark.parametrize("number", [HUGE, str(2**64), str(2**63), "٣"])
@pytest.mark.parametrize(
    "command",
    [
        ("audit", "prove", "N", "trail"),
        ("audit", "trace", "N", "trail"),
        ("audit", "compromised", KEY, "trail", "--from", "N"),
        ("audit", "cat", "trail", "--from", "N"),
        ("explain", "N", "--trail", "trail"),
    ],
)
def test_cv1_a_number_that_no_record_can_have_is_wrong_use_and_changes_nothing(
    command: tuple[str, ...], number: str, trail: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = records(trail)
    assert main([number if one == "N" else one for one in command]) == exits.USE
    err = capsys.readouterr().err
    assert number in err
    assert "fault" not in err
    assert records(trail) == before


def test_aq2_a_cursor_with_a_number_that_no_record_can_have_is_refused(
    trail: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _, _, mark = str(symbi.AuditLog.open(trail).page(limit=1).next).partition(".")
    for number in (HUGE, "٣"):
        assert main(["audit", "query", trail, "--limit", "1", "--after", f"{number}.{mark}"]) == exits.USE
        assert "is no cursor: take it from the page before" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (("audit", "query", "trail", "--type", BYTE), "--type"),
        (("audit", "query", "trail", "--agent", BYTE), "--agent"),
        (("audit", "query", "trail", "--resource", BYTE), "--resource"),
        (("audit", "query", "trail", "--subject", BYTE), "--subject"),
        (("audit", "tail", "trail", "--label", f"a{BYTE}"), "--label"),
        (("audit", "hold", "trail", "--reason", f"a{BYTE}b"), "--reason"),
        (("audit", "compromised", KEY, "trail", "--from", "1", "--reason", BYTE), "--reason"),
        (("audit", "export", f"e{BYTE}x", "trail"), "e?x"),
        (("audit", "verify", f"e{BYTE}x"), "e?x"),
        (("audit", "trace", BYTE, "trail"), "not UTF-8"),
    ],
)
def test_cv1_bytes_that_are_no_utf_8_are_wrong_use_and_nothing_is_recorded(
    command: tuple[str, ...], option: str, trail: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "verify" in command:
        shutil.copytree(tmp_path / trail, tmp_path / f"e{BYTE}x")
    before = records(trail)
    assert main(list(command)) == exits.USE
    shown = capsys.readouterr()
    assert "UTF-8" in shown.err
    assert option in shown.err
    assert (shown.out, records(trail)) == ("", before)


@pytest.mark.parametrize(
    "says",
    [
        "{count.x}",
        "{count[0]}",
        "{count.__class__}",
        "{count.__class__.__mro__}",
        "{count:>9999999}",
        "{count!r}",
        "{verified:{count}}",
        "{}",
        "{0}",
        "{other}",
        "{count",
        "}",
    ],
)
def test_fw1_a_sentence_takes_the_documented_names_and_nothing_else_in_braces(
    says: str, trail: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "house.toml").write_text(HOUSE.format(says=says))
    assert main(["audit", "report", trail, "--framework", "house.toml", "--format", "csv"]) == exits.USE
    err = capsys.readouterr().err
    assert "`says` takes `{count}` and `{verified}`" in err
    assert "evidence 1" in err


def test_fw1_a_sentence_may_have_braces_of_its_own(trail: str, tmp_path: Path) -> None:
    (tmp_path / "house.toml").write_text(HOUSE.format(says="{count} of {{all}}: {verified}"))
    assert main(["audit", "report", trail, "--framework", "house.toml", "--format", "csv"]) == exits.DONE
