"""`symbi doctor` says what works, what does not, and the line that mends it; it changes only what it was told to."""

from __future__ import annotations

import json
import os
import stat
import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import symbi
from symbi.audit import AuditLog
from symbi.build import CoreBuild
from symbi.cli import doctor, exits, main, mend
from symbi.errors import PolicyError, SandboxUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator


def check(name: str, status: str, *, fixable: bool = False) -> doctor.Check:
    return doctor.Check(name, status, "as it is", "" if status == "ok" else "mend it so", fixable)  # type: ignore[arg-type]


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Only these checks: the others need a machine."""
    monkeypatch.setattr(doctor, "_CHECKS", [row for row in doctor._CHECKS if row[0] in names])


def examined(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, dict[str, object]]]:
    code = main.main(["doctor", "--json", *arguments])
    shown = json.loads(capsys.readouterr().out)
    assert shown["healthy"] == (code == exits.DONE)
    return code, {entry["name"]: entry for entry in shown["checks"]}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SYMBI")]:
        monkeypatch.delenv(name)


def test_what_fails_is_a_finding_and_what_warns_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    state = ["warn"]
    monkeypatch.setattr(doctor, "_CHECKS", [("one", lambda _: iter([check("one", state[0])]), None)])
    assert main.main(["doctor"]) == exits.DONE
    assert capsys.readouterr().out.splitlines() == ["warn  one  as it is", "           → mend it so"]
    state[0] = "fail"
    assert main.main(["doctor"]) == exits.FINDING


def test_a_check_that_breaks_fails_and_the_others_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """CH1."""

    def broken(_: object) -> Iterator[doctor.Check]:
        raise ZeroDivisionError("odd")

    monkeypatch.setattr(
        doctor, "_CHECKS", [("one", broken, None), ("two", lambda _: iter([check("two", "ok")]), None)]
    )
    code, checks = examined(capsys)
    assert code == exits.FINDING
    assert checks["one"]["detail"] == "ZeroDivisionError: odd"
    assert checks["two"]["status"] == "ok"


def test_nothing_is_mended_without_being_asked_and_what_was_is_looked_at_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """CH2, CX1."""
    state = {"one": "fail", "two": "ok", "three": "fail"}
    fixed: list[str] = []

    def row(name: str, *, fixable: bool) -> tuple[object, ...]:
        def fix(_: object) -> str:
            fixed.append(name)
            state[name] = "ok"
            return "turned it off and on"

        return name, lambda _: iter([check(name, state[name], fixable=fixable)]), fix

    monkeypatch.setattr(
        doctor, "_CHECKS", [row("one", fixable=True), row("two", fixable=True), row("three", fixable=False)]
    )
    examined(capsys)
    assert fixed == []
    code, checks = examined(capsys, "--fix")
    assert fixed == ["one"]
    assert (checks["one"]["status"], checks["one"]["fixed"]) == ("ok", "turned it off and on")
    assert checks["two"]["fixed"] == ""
    assert code == exits.FINDING, "the third is still ill"


def test_a_mending_that_fails_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fix(_: object) -> str:
        raise SandboxUnavailableError("needs root")

    monkeypatch.setattr(
        doctor, "_CHECKS", [("one", lambda _: iter([check("one", "fail", fixable=True)]), fix)]
    )
    code, checks = examined(capsys, "--fix")
    assert (code, checks["one"]["fixed"]) == (exits.FINDING, "not mended: needs root")


def test_a_data_directory_is_made_private_and_ignored_by_git(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    only(monkeypatch, "data directory")
    data = tmp_path / "deep" / ".symbi"
    code, checks = examined(capsys, "--data", str(data))
    assert (code, checks["data directory"]["status"]) == (exits.DONE, "warn")
    assert not data.exists(), "CH2"
    code, checks = examined(capsys, "--data", str(data), "--fix")
    assert (code, checks["data directory"]["status"]) == (exits.DONE, "ok")
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert (data / ".gitignore").read_text() == "*\n"


def test_a_data_directory_that_others_may_read_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    only(monkeypatch, "data directory")
    tmp_path.chmod(0o755)
    code, checks = examined(capsys, "--data", str(tmp_path))
    assert code == exits.FINDING
    assert checks["data directory"]["mend"] == f"chmod 700 {tmp_path}"
    code, checks = examined(capsys, "--data", str(tmp_path), "--fix")
    assert (code, checks["data directory"]["fixed"]) == (
        exits.DONE,
        "took the rights of others away, let git ignore it",
    )
    assert mend.make_private(tmp_path) == "nothing to do"
    file = tmp_path / "file"
    file.touch()
    code, checks = examined(capsys, "--data", str(file), "--fix")
    assert (code, checks["data directory"]["detail"]) == (exits.FINDING, f"{file} is no directory")


def test_a_missing_core_is_said_with_the_way_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    only(monkeypatch, "native core", "python")
    monkeypatch.setattr(doctor, "core_build", lambda: CoreBuild("", "", "No module named 'symbi._core'"))
    code, checks = examined(capsys)
    assert code == exits.FINDING
    assert "pip install" in str(checks["native core"]["mend"])
    assert checks["python"]["status"] == "ok"


def test_every_problem_of_the_configuration_is_in_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    only(monkeypatch, "configuration")
    file = tmp_path / "symbi.toml"
    file.write_text("[runtime]\nmodus = 1\nscheduler_threads = 0\n")
    code, checks = examined(capsys, "--config", str(file))
    assert code == exits.FINDING
    assert ":2: unknown key" in str(checks["configuration"]["detail"])
    assert ":3: `runtime.scheduler_threads`" in str(checks["configuration"]["detail"])


class Engine:
    """Compiles what holds the word `permit`."""

    def __init__(self, schema: str, counters: str | None) -> None:
        assert (schema, counters) == ("symbi", None)

    def register_policy(self, text: str, *, name: str) -> str:
        if "permit" not in text:
            raise PolicyError(f"{name}:1: no policy")
        return name


def test_policies_are_compiled_and_a_folder_without_any_is_a_finding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    only(monkeypatch, "configuration", "policy")
    package = types.ModuleType("symbi.policy")
    package.__path__ = [str(Path(symbi.__file__).parent / "policy")]
    package.PolicyEngine = Engine  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "symbi.policy", package)
    file, folder = tmp_path / "symbi.toml", tmp_path / "policies"
    folder.mkdir()
    file.write_text('[policy]\npaths = ["policies"]\n')
    arguments = ("--config", str(file))
    code, checks = examined(capsys, *arguments)
    assert (code, checks["policy"]["status"]) == (exits.FINDING, "fail")
    (folder / "a.cedar").write_text("permit (principal, action, resource);")
    code, checks = examined(capsys, *arguments)
    assert (code, checks["policy"]["detail"]) == (exits.DONE, "1 files compile")
    (folder / "b.cedar").write_text("broken")
    code, checks = examined(capsys, *arguments)
    assert code == exits.FINDING
    assert "b.cedar:1: no policy" in str(checks["policy"]["detail"])


def test_a_trail_is_verified_where_the_configuration_puts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    only(monkeypatch, "configuration", "trail")
    _, checks = examined(capsys, "--data", str(tmp_path))
    assert checks["trail"]["detail"] == f"{tmp_path / 'trail'}: none yet"
    elsewhere = tmp_path / "elsewhere"
    with AuditLog.open(elsewhere, mode="a") as log:
        log.append("visit.opened", "triage", {"room": 7})
    monkeypatch.setenv("SYMBI_AUDIT_STORAGE", str(elsewhere))
    code, checks = examined(capsys)
    assert (code, checks["trail"]["detail"]) == (exits.DONE, f"{elsewhere}: 3 records, consistent")
    segment = elsewhere / "000000000000.jsonl"
    segment.write_bytes(segment.read_bytes().replace(b'"room":7', b'"room":8'))
    code, checks = examined(capsys)
    assert code == exits.FINDING
    assert "audit.chain_broken: record 2" in str(checks["trail"]["detail"])


def test_only_root_installs_gvisor(monkeypatch: pytest.MonkeyPatch) -> None:
    """CX1."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(symbi.SandboxUnavailableError, match="needs root"):
        mend.install_gvisor()


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("echo no package >&2; exit 3", 3)])
def test_the_script_that_installs_gvisor_is_run_and_its_end_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], script: str, code: int
) -> None:
    file = tmp_path / "setup.sh"
    file.write_text(f"echo said\n{script}\n")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("symbi.sandbox.orchestrator.setup_script", lambda: file)
    if code:
        with pytest.raises(symbi.SandboxUnavailableError, match=f"ended with {code}"):
            mend.install_gvisor()
    else:
        assert mend.install_gvisor().startswith("installed")
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "said" in shown.err
