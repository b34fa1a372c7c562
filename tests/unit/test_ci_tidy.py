"""Each rule of ci/tidy.py is seen to fail on a bad tree, and to leave a good one alone."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[2]


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tidy", ROOT / "ci" / "tidy.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["tidy"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


tidy = load()

# What a rule says must not stand here in one piece, or this file would be a finding itself.
UNDONE = "TO" + "DO"
MOCK = "mo" + "ck"
WORK = "/wo" + "rk/here"

GOOD = {
    "rust/symbi-audit/Cargo.toml": '[dependencies]\nsymbi-types = "1"\nsymbi-crypto = "1"\n[dev-dependencies]\nsymbi-testkit = "1"\n',
    "rust/symbi-audit/src/lib.rs": "//! The log.\n//!\n//! Invariants\n//! - A1 it grows.\n\nmod a;\n",
    "rust/symbi-audit/src/a.rs": "#![allow(x)]\n//! A part.\nfn f() {}\n#[cfg(test)]\nmod tests {\n fn a1_it_grows() {}\n}\n",
    "rust/symbi-py/Cargo.toml": '[dependencies]\npyo3 = "1"\nsymbi-kernel = "1"\n[target."cfg(any())".dependencies]\nsymbi-guest = "1"\n',
    "rust/symbi-guest/src/main.rs": "//! The guest.\nuse std::process::Command;\n",
    "python/symbi/sandbox/docker.py": '"""One room of the door."""\nimport docker, subprocess\n',
    "python/symbi/cli/show.py": '"""Shows.\n\n- CS1 it shows.\n"""\nfrom urllib.parse import urlsplit\nfrom symbi.build import core_build\n',
    "tests/test_show.py": f'"""CS1; a {MOCK} is fine here."""\n',
    "docs/adr/0001-one.md": "# one\n",
    "docs/adr/0002-two.md": "# two\n",
}


def grow(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def findings(folder: Path, files: dict[str, str]) -> list[str]:
    return [str(finding) for finding in tidy.check(tidy.Tree(grow(folder, files)))]


def test_a_good_tree_has_no_findings(tmp_path: Path) -> None:
    assert findings(tmp_path, GOOD) == []


BAD = {
    "header of Rust": ("rust/symbi-types/src/x.rs", "// x\nfn f() {}\n", "x.rs:1: header"),
    "header of Python": ("python/symbi/x.py", "x = 1\n", "x.py:1: header"),
    "long file": ("python/symbi/x.py", '"""X."""\n' + "\n" * 500, "x.py:501: notice: size: 501 lines"),
    "unfinished": ("docs/x.md", f"fine\n{UNDONE} later\n", f"docs/x.md:2: words: `{UNDONE}`"),
    "machine path": ("ci/run", f"cd {WORK}\n", "ci/run:1: words"),
    "pretended": ("python/symbi/x.py", f'"""X."""\nclass {MOCK.title()}Log: ...\n', "x.py:2: words"),
    "invariant of Rust": (
        "rust/symbi-audit/src/b.rs",
        "//! B.\n//! - A9 a wish.\n",
        "b.rs:2: invariants: A9 is named by no test",
    ),
    "invariant cited by another crate only": (
        "rust/symbi-store/src/lib.rs",
        "//! S.\n//! - A1 not the log's.\n",
        "symbi-store/src/lib.rs:2: invariants: A1",
    ),
    "invariant cited outside tests only": (
        "rust/symbi-audit/src/c.rs",
        '//! C.\n//! - A8 a wish.\nconst X: &str = "A8";\n',
        "c.rs:2: invariants: A8",
    ),
    "invariant of Python": ("python/symbi/x.py", '"""X.\n\n- ZZ1 a wish.\n"""\n', "x.py:3: invariants: ZZ1"),
    "number taken": ("docs/adr/0002-again.md", "# again\n", "number 0002 is taken by docs/adr/0002-again.md"),
    "number missing": ("docs/adr/three.md", "# three\n", "docs/adr/three.md:1: adr: is called"),
    "import": ("python/symbi/x.py", '"""X."""\nimport subprocess\n', "x.py:2: door: `subprocess`"),
    "import from": (
        "python/symbi/x.py",
        '"""X."""\nfrom urllib import request\n',
        "x.py:2: door: `urllib.request`",
    ),
    "import of a part": (
        "python/symbi/x.py",
        '"""X."""\nimport http.client\n',
        "x.py:2: door: `http.client`",
    ),
    "import in a function": (
        "python/symbi/x.py",
        '"""X."""\ndef f():\n    import socket\n',
        "x.py:3: door: `socket`",
    ),
    "import by name": (
        "python/symbi/x.py",
        '"""X."""\nimport importlib\nimportlib.import_module("docker.client")\n',
        "x.py:3: door: `docker.client`",
    ),
    "start by os": (
        "python/symbi/x.py",
        '"""X."""\nimport os\nos.posix_spawn("/bin/sh", [], {})\n',
        "x.py:3: door: `os.posix_spawn`",
    ),
    "start by asyncio": (
        "python/symbi/x.py",
        '"""X."""\nimport asyncio\nasyncio.create_subprocess_exec("sh")\n',
        "x.py:3: door: `asyncio.create_subprocess_exec`",
    ),
    "connection": (
        "python/symbi/x.py",
        '"""X."""\nimport asyncio\nasyncio.open_connection("h", 1)\n',
        "x.py:3: door",
    ),
    "adapter": ("python/symbi/cli/x.py", '"""X."""\nfrom symbi import _core\n', "x.py:2: adapters"),
    "adapter, long form": (
        "python/symbi/bench/suites/x.py",
        '"""X."""\nimport symbi._core as core\n',
        "x.py:2: adapters",
    ),
    "process in Rust": (
        "rust/symbi-kernel/src/x.rs",
        "//! X.\nuse std::process::{self, Command};\n",
        "x.rs:2: door_rust",
    ),
    "socket in Rust": ("rust/symbi-bus/src/x.rs", "//! X.\nuse std::net::TcpStream;\n", "x.rs:2: door_rust"),
    "upward": (
        "rust/symbi-crypto/Cargo.toml",
        '[dependencies]\nsymbi-audit = "1"\n',
        "symbi-crypto/Cargo.toml:2: arrows",
    ),
    "sideways": (
        "rust/symbi-policy/Cargo.toml",
        '[dependencies]\nsymbi-crypto = "1"\n',
        "symbi-policy/Cargo.toml:2: arrows",
    ),
    "second door": (
        "rust/symbi-py/Cargo.toml",
        '[dependencies]\nsymbi-bus = "1"\n',
        "symbi-py/Cargo.toml:2: arrows: `symbi-py` sees `symbi-bus` only through the kernel",
    ),
    "testkit shipped": (
        "rust/symbi-bus/Cargo.toml",
        '[dependencies]\nsymbi-testkit = "1"\n',
        "arrows: symbi-testkit is",
    ),
    "target dependency": (
        "rust/symbi-bus/Cargo.toml",
        "[target.'cfg(unix)'.dependencies]\nsymbi-kernel = \"1\"\n",
        "symbi-bus/Cargo.toml:2: arrows",
    ),
    "guest sees keys": (
        "rust/symbi-guest/Cargo.toml",
        '[dependencies]\nsymbi-crypto = "1"\n',
        "arrows: `symbi-guest` sees only",
    ),
    "crate without layer": ("rust/symbi-new/Cargo.toml", "[dependencies]\n", "`symbi-new` has no layer"),
    "pyo3 elsewhere": (
        "rust/symbi-kernel/Cargo.toml",
        '[dependencies]\npyo3 = "1"\n',
        "arrows: only symbi-py names pyo3",
    ),
    "pyo3 in source": (
        "rust/symbi-kernel/src/x.rs",
        "//! X.\n\nuse pyo3::prelude::*;\n",
        "x.rs:3: arrows: only symbi-py",
    ),
}


@pytest.mark.parametrize("bad", BAD)
def test_each_rule_finds_what_it_is_for_and_nothing_else(tmp_path: Path, bad: str) -> None:
    path, text, said = BAD[bad]
    found = findings(tmp_path, {**GOOD, path: text})
    assert len(found) == 1, found
    assert said in found[0]


def test_every_rule_is_seen_to_fail() -> None:
    shown = " ".join(said for _, _, said in BAD.values())
    for rule in tidy.RULES:
        assert rule.__name__ == "commits" or f"{rule.__name__}" in shown, rule.__name__


def test_an_exception_from_the_door_holds_for_its_file_alone(tmp_path: Path) -> None:
    text = '"""X."""\nimport socket\n'
    for path in tidy.DOOR_EXCEPTIONS:
        assert not [line for line in findings(tmp_path, {path: text}) if ": door: " in line]
    assert all(reason for reason in tidy.DOOR_EXCEPTIONS.values())


def test_a_line_is_excused_for_the_rule_that_it_names_with_a_reason(tmp_path: Path) -> None:
    line = f"x = 1  # {UNDONE} tidy: allow(words)"
    assert findings(tmp_path, {"python/symbi/x.py": f'"""X."""\n{line} it is data here\n'}) == []
    assert len(findings(tmp_path, {"python/symbi/x.py": f'"""X."""\n{line}\n'})) == 1
    assert (
        len(findings(tmp_path, {"python/symbi/x.py": f'"""X."""\n{line.replace("words", "door")} why\n'}))
        == 1
    )


def test_what_is_built_or_fetched_is_not_ours(tmp_path: Path) -> None:
    for folder in ("target", ".venv", "python/symbi/__pycache__", "symbi.egg-info"):
        assert findings(tmp_path, {f"{folder}/x.py": f"{UNDONE}\n"}) == []


def test_commits_are_read_too(tmp_path: Path) -> None:
    git = ["git", "-C", str(grow(tmp_path, GOOD)), "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", f"fine\n\n{UNDONE} the rest"]):
        subprocess.run([*git, *command], check=True, capture_output=True, timeout=30)
    (found,) = findings(tmp_path, {})
    assert found.startswith("commit ")
    assert f":3: commits: `{UNDONE}`" in found


def test_the_command_prints_findings_and_ends_with_1(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "ci" / "tidy.py"), "--root", str(tmp_path)]
    assert subprocess.run(command, check=False, capture_output=True, timeout=30).returncode == 0
    grow(tmp_path, {"x.py": "x = 1\n"})
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    assert ran.returncode == 1
    assert ran.stdout.splitlines()[0].startswith("x.py:1: header: ")
