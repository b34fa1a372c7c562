"""Programs read a trail page by page from the command line, and nothing that is typed is passed over in silence."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import symbi
from symbi.cli import exits
from symbi.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def trail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Twenty-five records in `trail` of the working directory, and `kept`, a checkpoint of them."""
    monkeypatch.chdir(tmp_path)
    with symbi.AuditLog.open("trail", "a") as log:
        log.append_many([("test.event", "a", {"n": n}) for n in range(23)])
    (tmp_path / "kept").write_text(symbi.AuditLog.open("trail").checkpoint().text)
    return "trail"


def page_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert main(["audit", "query", "trail", "--json-page", *arguments]) == exits.DONE
    shown = capsys.readouterr()
    assert shown.err == "", "a program finds all of it on stdout"
    found: dict[str, Any] = json.loads(shown.out)
    assert set(found) == {"events", "next"}
    return found


@pytest.mark.parametrize("order", [(), ("--newest",), ("--scan",)])
@pytest.mark.parametrize("size", [1, 4, 5, 100])
def test_a_program_reads_all_records_page_by_page_without_reading_prose(
    order: tuple[str, ...], size: int, trail: str, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[int] = []
    after: str | None = None
    while True:
        more = () if after is None else ("--after", after)
        page = page_of(capsys, "--limit", str(size), *order, *more)
        assert len(page["events"]) <= size
        seen += [event["seq"] for event in page["events"]]
        after = page["next"]
        if after is None:
            break
    assert seen == (list(range(25))[::-1] if "--newest" in order else list(range(25)))


def test_without_a_limit_a_page_is_everything_and_nothing_follows(
    trail: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = page_of(capsys, "--json")
    assert (len(page["events"]), page["next"]) == (25, None)
    assert page_of(capsys, "--type", "no.such") == {"events": [], "next": None}


def test_json_stays_the_bare_array(trail: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "query", trail, "--limit", "2", "--json"]) == exits.DONE
    shown = capsys.readouterr()
    assert [event["seq"] for event in json.loads(shown.out)] == [0, 1]
    assert "--after" in shown.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("prove", "--since", "kept", "3", "trail"), "--since is about the whole trail: leave `3` out"),
        (("prove", "--message", "m", "3", "trail"), "--message names what is proven: leave `3` out"),
        (("prove", "--since", "kept", "--message", "m", "trail"), "--since goes without --message"),
        (("prove", "--since", "kept", "--against", "kept", "trail"), "--since goes without --against"),
        (
            ("report", "trail", "--framework", "gdpr", "--json", "--format", "csv"),
            "--json goes without --format csv",
        ),
        (("report", "trail", "--framework", "gdpr", "--out", "x.pdf"), "accepted are .html, .json and .csv"),
        (("query", "trail", "--json-page", "--limit", "0"), "--json-page takes --limit from 1 on"),
        (("query", "trail", "--type", ""), "an empty text is no value"),
        (("verify", "empty"), "there is no trail in `empty`"),
        (("query", "empty"), "there is no trail in `empty`"),
        (("tail", "empty"), "there is no trail in `empty`"),
        (("verify", "missing"), "there is no trail in `missing`"),
        (
            ("witness", "kept", "--name", "w.example/1"),
            "`kept` is a file: a witness keeps its state in a directory",
        ),
    ],
)
def test_what_would_be_passed_over_is_refused_by_name(
    arguments: tuple[str, ...], said: str, trail: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["audit", *arguments]) == exits.USE
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.out == ""
    assert not (tmp_path / "x.pdf").exists()


def test_a_report_is_named_as_its_format_or_told_one(trail: str, tmp_path: Path) -> None:
    for name, more, begin in (
        ("a.HTML", (), "<!"),
        ("a.json", (), "{"),
        ("a.csv", (), "framework,"),
        ("a", (), "<!"),
        ("a.txt", ("--format", "csv"), "framework,"),
        ("b.txt", ("--json",), "{"),
        ("c.txt", ("--json", "--format", "json"), "{"),
    ):
        assert main(["audit", "report", trail, "--framework", "gdpr", "--out", name, *more]) == exits.DONE
        assert (tmp_path / name).read_text().lower().startswith(begin), name


def test_a_trail_whose_records_were_removed_stays_a_finding(trail: str, tmp_path: Path) -> None:
    (tmp_path / "trail" / "000000000000.jsonl").unlink()
    assert main(["audit", "verify", trail]) == exits.FINDING
