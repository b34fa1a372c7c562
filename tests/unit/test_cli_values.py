"""What stands behind an option: what is refused is answered by what is accepted."""

from __future__ import annotations

import socket
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import symbi
from symbi.cli import exits, values
from symbi.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def trail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A log of three records, in the working directory."""
    monkeypatch.chdir(tmp_path)
    with symbi.AuditLog.open("trail", "a") as log:
        log.append("order.placed", "shop", {"number": 1})
    return "trail"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("query", "--limit", "x"), "`x` is not a whole number from 0 on"),
        (("query", "--limit", "-1"), "`-1` is not a whole number from 0 on"),
        (("tail", "-n", "²"), "`²` is not a whole number from 0 on"),
        (("verify", "--records", "5..2"), "`5..2` is not A..B, such as 100..200"),
        (("prune", "--older-than", "x"), "`x` is no age: a number and its unit"),
        (("witness", "state", "--name", "w", "--port", "99999"), "`99999` is not a port"),
        (("trace", "1", "--depth", "-2"), "`-2` is not a whole number"),
    ],
)
def test_cv1_an_option_that_cannot_be_is_answered_by_what_is_accepted(
    arguments: tuple[str, ...], said: str, trail: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", *arguments]) == exits.USE
    err = capsys.readouterr().err
    assert said in err
    assert "invalid _" not in err, "the name of a function of ours"


@pytest.mark.parametrize(
    "command",
    [
        ("audit", "query", "trail", "--since"),
        ("audit", "tail", "trail", "--until"),
        ("audit", "report", "trail", "--framework", "gdpr", "--since"),
        ("audit", "prune", "trail", "--before"),
        ("policy", "learn", "--trail", "trail", "--since"),
    ],
)
@pytest.mark.parametrize("wrong", ["yesterday", "2026-01-01", "999999d", ""])
def test_cv2_every_command_says_alike_which_times_it_takes(
    command: tuple[str, ...], wrong: str, trail: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, wrong]) == exits.USE
    err = capsys.readouterr().err
    assert "2026-01-01T00:00:00Z" in err, err
    assert f"{command[-1]} {wrong}" in err


def test_cv2_a_query_takes_how_long_ago_it_was(trail: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "query", trail, "--type", "order.*", "--since", "2h"]) == exits.DONE
    assert "order.placed" in capsys.readouterr().out
    assert main(["audit", "query", trail, "--until", "2h"]) == exits.DONE
    assert capsys.readouterr().out == ""


def test_an_age_that_reaches_before_the_calendar_prunes_nothing(
    trail: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "prune", trail, "--older-than", "999999d", "--json"]) == exits.DONE
    assert '"pruned": null' in capsys.readouterr().out


def test_a_time_is_an_instant_or_how_long_ago() -> None:
    assert values.time(None, "--since") is None
    assert values.time("2026-01-01T01:00:00+01:00", "--since") == datetime(2026, 1, 1, tzinfo=UTC)
    before = datetime.now(UTC)
    told = values.time("90m", "--since")
    assert told is not None
    assert before - timedelta(minutes=90) <= told <= datetime.now(UTC) - timedelta(minutes=90)


@pytest.mark.parametrize(
    "command",
    [
        ("audit", "verify", "trail", "--checkpoint", "FILE"),
        ("audit", "stamp", "FILE", "--request", "out"),
        ("audit", "report", "trail", "--framework", "gdpr", "--checkpoint", "FILE"),
        ("policy", "learn", "--trail", "trail", "--checkpoint", "FILE"),
        ("explain", "--request", "@FILE"),
        ("approvals", "approve", "6f0c2f51", "--arguments", "@FILE"),
    ],
)
def test_a_file_that_is_not_there_or_no_text_is_wrong_use(
    command: tuple[str, ...], trail: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [one.replace("FILE", "given") for one in command]
    for said in ("cannot be read: no such file", "is not UTF-8 at byte 0"):
        assert main(arguments) == exits.USE
        err = capsys.readouterr().err
        assert f"`given` {said}" in err, err
        assert "Errno" not in err
        (tmp_path / "given").write_bytes(b"\xff\xfe")


def test_a_witness_that_cannot_listen_says_where_and_why(
    trail: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert main(["audit", "witness", "state", "--name", "w.example/1", "--port", port]) == exits.FINDING
    assert f"a witness cannot listen on 127.0.0.1:{port}: " in capsys.readouterr().err
