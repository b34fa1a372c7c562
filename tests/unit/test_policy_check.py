"""`symbi check`: every finding at its place, one exit code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from symbi.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

COUNTERS = '[counters.calls]\naction = "tool.call"\nper = "principal"\nwindow_s = 60\nkind = "count"\n'
POLICY = (
    'permit (principal, action == Action::"tool.call", resource)\nwhen { context.counters.calls <= 9 };\n'
)


def write(directory: Path, **files: str) -> list[str]:
    paths = []
    for name, text in files.items():
        path = directory / name.replace("__", ".")
        path.write_text(text, encoding="utf-8")
        paths.append(str(path))
    return paths


def test_files_that_belong_together_are_checked_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, counters = write(tmp_path, a__cedar=POLICY, a__counters__toml=COUNTERS)
    assert main(["check", policy, counters]) == 0
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "2 files: 0 errors, 0 warnings" in captured.err
    assert main(["check", policy]) == 1
    assert f"{policy}:2:8: policy.unknown_attribute: " in capsys.readouterr().out


def test_a_starter_policy_is_checked_together_with_ones_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (own,) = write(tmp_path, a__cedar='@id("hipaa/contained")\npermit (principal, action, resource);\n')
    assert main(["check", "hipaa-phi"]) == 0
    assert "1 file: 0 errors" in capsys.readouterr().err
    assert main(["check", own, "hipaa-phi"]) == 1, "two rules of one name"
    assert "`hipaa/contained`" in capsys.readouterr().out


def test_a_directory_is_checked_as_a_runtime_takes_it_with_the_tests_beside_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    case = """
    policies = ["a.cedar", "a.counters.toml"]
    [[case]]
    principal = 'Agent::"a"'
    action = "tool.call"
    resource = 'Tool::"t"'
    expect = "%s"
    """
    write(tmp_path, a__cedar=POLICY, a__counters__toml=COUNTERS)
    (cases,) = write(tmp_path, a__test__toml=case % "approval")
    assert main(["check", str(tmp_path)]) == 0
    assert "3 files: 0 errors, 0 warnings" in capsys.readouterr().err
    write(tmp_path, a__test__toml=case % "alow")
    assert main(["check", str(tmp_path)]) == 1
    said = capsys.readouterr().out
    assert f"{cases}:3:1: policy.test: `alow` is no decision: `expect` is one of `allow`, `deny`" in said
    assert main(["policy", "test", str(tmp_path)]) == 2
    assert "`alow` is no decision" in capsys.readouterr().err


def test_a_path_that_is_not_there_or_holds_nothing_is_called_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, said in [(tmp_path / "nowhere", "there is no `"), (tmp_path, "holds no policies")]:
        assert main(["check", str(path)]) == 2
        assert said in capsys.readouterr().err


def test_each_finding_is_a_line_with_its_help_below(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    policy, counters = write(
        tmp_path,
        a__cedar='permit (principal, action == Action::"tool.cal", resource);\n',
        a__counters__toml=COUNTERS.replace("window_s", "windows"),
    )
    assert main(["check", policy, counters]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert f"{counters}:4:1: counters.unknown_key: unknown key `windows`" in lines
    assert any(line.startswith(f"{policy}:1:30: policy.unknown_action: ") for line in lines)
    assert '  help: did you mean `Action::"tool.call"`?' in lines


def test_json_has_the_same_findings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = 'permit (principal is Host, action == Action::"tool.call", resource is Topic);\n'
    (policy,) = write(tmp_path, a__cedar=text)
    assert main(["check", "--json", policy]) == 0, "CK2: a warning is no error"
    printed = json.loads(capsys.readouterr().out)
    assert printed["files"] == 1
    finding = printed["findings"][0]
    assert (finding["file"], finding["line"], finding["column"]) == (policy, 1, 1)
    assert (finding["severity"], finding["code"]) == ("warning", "policy.impossible")


def test_a_file_that_cannot_be_checked_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """CK1: silence must mean clean."""
    agent, other = write(tmp_path, a__symbi="agent a {}", a__txt="permit")
    for path, said in [(agent, "does not exist in this version"), (other, "of no kind")]:
        assert main(["check", path]) == 2
        assert said in capsys.readouterr().err
    assert main(["check", str(tmp_path / "absent.cedar")]) == 2
    binary = tmp_path / "b.cedar"
    binary.write_bytes(b"\xff\xfe")
    assert main(["check", str(binary)]) == 1
    assert "not UTF-8 at byte `0`" in capsys.readouterr().out


def test_a_finding_cannot_repaint_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (policy,) = write(tmp_path, a__cedar='@id("\x1b[2J") permit (principal, action, resource);\x1b[31m')
    assert main(["check", policy]) == 1
    assert "\x1b" not in capsys.readouterr().out


def test_configuration_is_checked_by_its_own_rules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, wrong = write(tmp_path, good__toml="", wrong__toml="[nonsense]\nx = 1\n")
    assert main(["check", good]) == 0
    assert main(["check", good, wrong]) == 1
    said = capsys.readouterr()
    assert f"{wrong}:1:1: config.invalid: unknown key" in said.out
    assert "2 files: 1 error, 0 warnings" in said.err


def test_every_problem_of_a_configuration_is_a_finding_at_its_own_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (wrong,) = write(tmp_path, wrong__toml='[runtime]\nmodus = 1\nmode = "prod"\n[audit]\nstorage = 7\n')
    assert main(["check", wrong, "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [(one["line"], one["message"].split("`")[1]) for one in found] == [
        (2, "runtime.modus"),
        (3, "runtime.mode"),
        (5, "audit.storage"),
    ]
    assert not any(wrong in one["message"] for one in found), "its place is said once"
    broken, gone = tmp_path / "broken.toml", tmp_path / "nowhere.test.toml"
    broken.write_text("x = 1\n[runtime\n")
    assert main(["check", str(broken)]) == 1
    assert f"{broken}:2:1: config.invalid: is not TOML" in capsys.readouterr().out
    assert main(["policy", "test", str(gone)]) == 2
    assert f"there is no `{gone}`" in capsys.readouterr().err
