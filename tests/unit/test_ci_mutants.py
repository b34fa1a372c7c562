"""ci/mutants: every planted bug still applies, a few of them are found here, and its own mistakes are reported."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]
# One of the books, one of the order, one of time. All of them: `ci/mutants`.
SHARE = ("return-nothing-on-cancel", "edf-by-arrival", "quantum-ignored")


def load() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("mutants", str(ROOT / "ci" / "mutants"))
    spec = importlib.util.spec_from_loader("mutants", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutants"] = module  # dataclasses look their module up
    loader.exec_module(module)
    return module


mutants = load()


def crate(root: Path, source: str, entries: str) -> Path:
    """A tree with one file of source and these planted bugs."""
    folder = root / "rust" / "symbi-scheduler"
    (folder / "src").mkdir(parents=True)
    (folder / "tests").mkdir()
    (folder / "src" / "a.rs").write_text(source)
    (folder / "tests" / "mutants.toml").write_text(entries)
    return root


def entry(name: str = "one", find: str = "x < y") -> str:
    return f'[[mutant]]\nname = "{name}"\nwhy = "w"\nfile = "a.rs"\nfind = "{find}"\nreplace = "x <= y"\n'


def test_every_planted_bug_still_applies_and_there_are_at_least_twenty() -> None:
    planted = mutants.load(ROOT)
    assert len(planted) >= 20
    for mutant in planted:
        assert mutant.find != mutant.replace
        assert mutant.why
        assert mutant.applied(ROOT) != (ROOT / mutants.SCHEDULER.folder / "src" / mutant.file).read_text()
    assert set(SHARE) <= {mutant.name for mutant in planted}


def test_each_enforcement_point_of_the_monitor_has_a_bug_that_takes_its_check_out() -> None:
    planted = mutants.load(ROOT, mutants.KERNEL)
    for mutant in planted:
        assert mutant.find != mutant.replace
        mutant.applied(ROOT)
    unchecked = {
        mutant.name.removeprefix("unchecked-") for mutant in planted if mutant.name.startswith("unchecked-")
    }
    points = {"agent.create", "agent.run", "message.send", "tool.call", "sandbox.start"}
    assert (
        points | {"data.read", "data.write", "data.search", "policy.change", "label.declassify"} <= unchecked
    )


def test_a_bug_is_put_where_it_belongs(tmp_path: Path) -> None:
    root = crate(tmp_path, "a x < y b", entry())
    assert mutants.load(root)[0].applied(root) == "a x <= y b"


@pytest.mark.parametrize("source", ["", "x > y", "x < y; x < y"])
def test_a_bug_that_no_longer_applies_is_a_failure_that_says_so(tmp_path: Path, source: str) -> None:
    root = crate(tmp_path, source, entry())
    with pytest.raises(ValueError, match=r"one no longer applies: `x < y` stands \d times in src/a.rs"):
        mutants.load(root)[0].applied(root)


def test_two_bugs_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two planted bugs are called one"):
        mutants.load(crate(tmp_path, "x < y", entry() + entry()))


@pytest.mark.skipif(shutil.which("cargo") is None, reason="planted bugs are compiled: cargo is not here")
@pytest.mark.timeout(600)  # three builds of a crate, on a machine that may do other things too
def test_a_few_planted_bugs_are_found() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "ci" / "mutants", *SHARE],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(SHARE)} of {len(SHARE)} found" in done.stdout
